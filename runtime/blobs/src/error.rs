//! Everything that can go wrong with files.

use std::io;
use std::path::{Path, PathBuf};

use crate::path::PathProblem;
use crate::users::UserProblem;

/// What went wrong, with the file it happened to.
///
/// Errors about a name show the folder and the name as the client gave it; errors about the machine (full disk, missing
/// rights) show the path on the machine, since the operator has to act there.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The name is refused before anything is opened.
    #[error("the name {name:?} cannot be used: {problem}")]
    Name {
        /// The name as given, cut to 200 characters.
        name: String,
        /// Why it is refused.
        problem: PathProblem,
    },
    /// A symbolic link on the way leads out of the folder.
    #[error(
        "{name} is or lies behind a link that leads out of its folder; put the file itself there, or start the server with that folder"
    )]
    Outside {
        /// Folder and name.
        name: String,
    },
    /// There is no such file.
    #[error("{name} does not exist")]
    NotFound {
        /// Folder and name.
        name: String,
    },
    /// The name is taken and was not to be replaced.
    #[error("{name} already exists")]
    Exists {
        /// Folder and name.
        name: String,
    },
    /// A file was expected, a directory is there.
    #[error("{name} is a directory, not a file")]
    IsDirectory {
        /// Folder and name.
        name: String,
    },
    /// A directory was expected, a file is there.
    #[error("{name} is not a directory")]
    NotADirectory {
        /// Folder and name.
        name: String,
    },
    /// A named pipe, socket or device: reading it could wait for ever.
    #[error("{name} is not an ordinary file")]
    NotAFile {
        /// Folder and name.
        name: String,
    },
    /// The tenant has no room left.
    #[error("the storage of {tenant} is full: {used} of {limit} bytes are used; delete files that are not needed")]
    Quota {
        /// Whose.
        tenant: String,
        /// Bytes it may have.
        limit: u64,
        /// Bytes it has.
        used: u64,
    },
    /// More bytes than the upload may have.
    #[error("the upload is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Not a name of a scratch file.
    #[error(
        "{name:?} is not a name of a scratch file: up to 100 letters, digits, '-', '_' and '.', and no dot at the beginning"
    )]
    ScratchName {
        /// The name as given, cut.
        name: String,
    },
    /// A scratch folder is full.
    #[error(
        "the scratch space of this pack holds {limit} {what} at most ({name}, limits.toml); remove files that are not needed"
    )]
    ScratchFull {
        /// Bytes or files.
        what: &'static str,
        /// How many.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
    /// The operator gave no folder this name, or it is not there.
    #[error("there is no input folder {name:?}; `--input-folder {name}=DIR` makes one")]
    NoFolder {
        /// The name as given, cut.
        name: String,
    },
    /// More files in a folder than are listed.
    #[error("{name} holds more than {limit} files (listed_files, limits.toml)")]
    TooManyFiles {
        /// Folder and name.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// So many files of this name exist that no free one was found.
    #[error("no free name like {name} was found after {tried} attempts; delete or move some of these files")]
    NoFreeName {
        /// Folder and name of the last attempt.
        name: String,
        /// How many names were tried.
        tried: u64,
    },
    /// A user cannot be made.
    #[error("{problem} ({name:?})")]
    User {
        /// The name as given, cut.
        name: String,
        /// Why.
        problem: UserProblem,
    },
    /// Nobody of the tenant has this id.
    #[error("there is no user {id:?}; `GET /users` lists the ids that the header `comfy-user` may have")]
    UnknownUser {
        /// The id as given, cut.
        id: String,
    },
    /// The settings file was edited into something that is not a JSON object.
    #[error("{} is not a JSON object ({source}); correct it or move it away", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The disk or the quota of the file system is used up.
    #[error("could not {doing} {}: the disk is full; free some space there", path.display())]
    DiskFull {
        /// The step that failed, as a verb.
        doing: &'static str,
        /// The path on this machine.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server's user may not do this.
    #[error("could not {doing} {}: {source}; give the user of the server the right to it", path.display())]
    Denied {
        /// The step that failed, as a verb.
        doing: &'static str,
        /// The path on this machine.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Anything else the system refuses.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// The step that failed, as a verb.
        doing: &'static str,
        /// The path on this machine.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BlobError {
    /// Sorts a failure on a path of this machine that no client chose.
    pub(crate) fn machine(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { doing, path, source },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied { doing, path, source },
            _ => Self::Io { doing, path, source },
        }
    }

    /// Sorts a failure on a name inside a folder: what the name is to blame for is told by the name.
    pub(crate) fn named(doing: &'static str, name: String, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { name },
            io::ErrorKind::AlreadyExists => Self::Exists { name },
            io::ErrorKind::IsADirectory => Self::IsDirectory { name },
            io::ErrorKind::NotADirectory => Self::NotADirectory { name },
            // cap-std marks an attempt to leave the folder by this kind without an error number of the system.
            io::ErrorKind::PermissionDenied if source.raw_os_error().is_none() => Self::Outside { name },
            _ if is_link_loop(&source) => Self::Outside { name },
            _ => Self::machine(doing, path, source),
        }
    }

    /// Whether the client's name or request is to blame, rather than the machine.
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        !matches!(self, Self::DiskFull { .. } | Self::Denied { .. } | Self::Io { .. } | Self::Settings { .. })
    }
}

/// Links that lead to each other in a circle.
fn is_link_loop(error: &io::Error) -> bool {
    // The standard library has a name for it that is not stable yet.
    cfg!(unix) && error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_missing_rights_are_told_with_the_path() {
        let path = Path::new("/base/output");
        let full = BlobError::machine("write", path, io::ErrorKind::StorageFull.into()).to_string();
        assert_eq!(full, "could not write /base/output: the disk is full; free some space there");
        let denied = BlobError::machine("open the directory", path, io::Error::from_raw_os_error(13)).to_string();
        assert!(denied.contains("/base/output") && denied.contains("Permission denied"), "{denied}");
    }
}
