//! Everything that can go wrong with the queue.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use vivarium_protocol::tenant::TenantId;

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The tenant has as many waiting prompts as it may.
    #[error("the queue of {tenant} is full: {limit} prompts are waiting; wait for some to end, or delete some")]
    Full {
        /// Whose queue.
        tenant: TenantId,
        /// The limit.
        limit: usize,
    },
    /// The tenant used up its seconds of this hour.
    #[error(
        "{tenant} used {used:.0} s of {what} in the last hour, and its limit is {limit:.0} s; wait {retry_after_seconds} s"
    )]
    Spent {
        /// Whose.
        tenant: TenantId,
        /// Seconds of what: `workers` or `GPUs`.
        what: &'static str,
        /// The limit in seconds per hour.
        limit: f64,
        /// Seconds used.
        used: f64,
        /// Seconds until it may go on.
        retry_after_seconds: u32,
    },
    /// A place in the queue must be an ordinary number.
    #[error("the prompt's number is {number}, which is no place in a queue; give a finite number or none")]
    Number {
        /// What was given.
        number: f64,
    },
    /// The prompt is not held under this lease any more: it has ended, was given back, or was recovered.
    #[error("the prompt {prompt_id} is no longer leased to this worker; its result is dropped")]
    LeaseLost {
        /// The prompt.
        prompt_id: String,
    },
    /// Another process has this queue open.
    #[error(
        "another server{} already uses {}; stop it, or give this one a base directory of its own",
        holder.as_ref().map(|process| format!(" (process {process})")).unwrap_or_default(),
        path.display()
    )]
    InUse {
        /// The queue's file.
        path: PathBuf,
        /// The process, if it says so.
        holder: Option<String>,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found}, this version knows formats up to {supported}; use a newer version", path.display())]
    NewerFormat {
        /// The queue's file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known format.
        supported: i64,
    },
    /// The file is no queue, or is damaged.
    #[error("{} is not a readable queue ({reason}); move it away to begin with an empty one", path.display())]
    Damaged {
        /// The queue's file.
        path: PathBuf,
        /// What the database says.
        reason: String,
    },
    /// The disk is full.
    #[error("could not write {}: the disk is full; free some space there", path.display())]
    DiskFull {
        /// The queue's file.
        path: PathBuf,
    },
    /// The file or its directory cannot be opened or created.
    #[error("could not open {}: {source}", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A prompt or a result could not be written as JSON.
    #[error("the prompt {prompt_id} cannot be written as JSON: {source}")]
    Json {
        /// The prompt.
        prompt_id: String,
        /// What the JSON writer says.
        source: serde_json::Error,
    },
    /// Anything else the database refuses.
    #[error("the queue in {} failed: {source}", path.display())]
    Database {
        /// The queue's file.
        path: PathBuf,
        /// What the database says.
        source: rusqlite::Error,
    },
}

impl QueueError {
    pub(crate) fn database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, reason: source.to_string() }
            }
            _ => Self::Database { path, source },
        }
    }
}
