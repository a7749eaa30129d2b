//! A folder for one run.

use std::{env, fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use uuid::Uuid;

use crate::failure::{Exit, OrFail, Outcome};

/// Removed with everything in it when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Creates it, for this user only.
    ///
    /// # Errors
    /// When the system's temporary folder can't be written.
    pub(super) fn create() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("vivarium-run-{}", Uuid::new_v4().simple()));
        let created = fs::DirBuilder::new().mode(0o700).create(&path);
        created.or_fail(Exit::Machine, || format!("could not create the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// A path inside.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is left to whoever empties the system's temporary folder.
        fs::remove_dir_all(&self.0).ok();
    }
}
