//! Secrets of prompts (keys of clients for services that cost money) are in the file while the prompt waits or runs, and not
//! longer. SQLite is told to overwrite what it deletes; its log, which still has it, is cut off when nothing waits or runs
//! any more, and at start. On a server that is never idle the log is overwritten as it is used again.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Map, Value};
use vivarium_protocol::history::SECRET_KEYS;

use super::{SqliteQueue, State};

/// How SQLite is told to overwrite what it deletes.
pub(super) const OVERWRITE: &str = "PRAGMA secure_delete = ON;";

/// The log can't be cut off while somebody reads from it. Who reads longer is not waited for: the next end tries again.
const READERS: Duration = Duration::from_millis(200);

pub(super) fn holds_secret(extra_data: &Map<String, Value>) -> bool {
    SECRET_KEYS.iter().any(|key| extra_data.contains_key(*key))
}

impl SqliteQueue {
    /// To be called when prompts have left the queue. What goes wrong here is no reason to take that back.
    pub(super) fn forget_secrets(&self, state: &mut State) {
        if !state.stale_secrets || !state.counts.all_is_done() {
            return;
        }
        let Some(_nobody_reads) = self.reader.try_lock_for(READERS) else { return };
        match cut_log(&state.connection) {
            Ok(is_cut) => state.stale_secrets = !is_cut,
            Err(error) => tracing::warn!(%error, "the queue's log may still hold secrets of prompts that have ended"),
        }
    }
}

/// Moves what is in the log into the file and cuts the log off. False when somebody was reading.
pub(super) fn cut_log(connection: &Connection) -> rusqlite::Result<bool> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(busy == 0)
}
