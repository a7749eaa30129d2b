//! How much a tenant has stored, and how much it may.
//!
//! What is saved is added up; the folders are measured when the sum is old or would be too much, since files may have been
//! deleted, replaced or put there by hand.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{BlobError, TenantDirs, files::TenantFiles};

/// How long a measurement is believed while there is room.
const BELIEVED: Duration = Duration::from_secs(60);
/// How long it is believed when there is none: measuring many files takes time, and a tenant may ask all the time.
const BELIEVED_WHEN_FULL: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Room(Mutex<Measured>);

#[derive(Default)]
struct Measured {
    limit: Option<u64>,
    used: u64,
    at: Option<Instant>,
}

impl Measured {
    fn is_older_than(&self, age: Duration) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= age)
    }

    fn measure(&mut self, dirs: &TenantDirs) -> Result<(), BlobError> {
        self.used = dirs.stored_bytes()?;
        self.at = Some(Instant::now());
        Ok(())
    }
}

impl TenantFiles {
    /// Bounds the bytes of all files; `None` is no bound. Files that are there stay, even if they are more.
    pub fn limit_storage(&self, limit: Option<u64>) {
        self.room.0.lock().limit = limit;
    }

    /// Makes sure that there is room for some bytes more, and counts them. Saving files does this itself; only what is
    /// written as user data needs it.
    ///
    /// # Errors
    /// [`BlobError::Quota`] when there is no room; what the machine says when the folders cannot be measured.
    pub fn reserve(&self, bytes: u64) -> Result<(), BlobError> {
        let mut room = self.room.0.lock();
        let Some(limit) = room.limit else { return Ok(()) };
        let too_much = |room: &Measured| room.used.saturating_add(bytes) > limit;
        let believed = if too_much(&room) { BELIEVED_WHEN_FULL } else { BELIEVED };
        if room.is_older_than(believed) {
            room.measure(self.dirs())?;
        }
        if too_much(&room) {
            return Err(BlobError::Quota { tenant: self.tenant().to_string(), limit, used: room.used });
        }
        room.used = room.used.saturating_add(bytes);
        Ok(())
    }

    /// Bytes of all files, at most some seconds old.
    ///
    /// # Errors
    /// What the machine says when a folder cannot be read.
    pub fn stored_bytes(&self) -> Result<u64, BlobError> {
        let mut room = self.room.0.lock();
        if room.is_older_than(BELIEVED_WHEN_FULL) {
            room.measure(self.dirs())?;
        }
        Ok(room.used)
    }
}

impl TenantDirs {
    /// Bytes of all files in the folders. Links are not followed; folders that do not exist hold nothing.
    ///
    /// # Errors
    /// What the machine says when a folder cannot be read.
    pub fn stored_bytes(&self) -> Result<u64, BlobError> {
        let mut total = 0_u64;
        // Where ComfyUI has them, a tenant's own user data is one of the users' folders.
        let own = (!self.user.starts_with(&self.users)).then_some(&self.user);
        for folder in [&self.input, &self.output, &self.temp, &self.users].into_iter().chain(own) {
            let bytes = bytes_below(folder).map_err(|source| BlobError::machine("measure", folder, source))?;
            total = total.saturating_add(bytes);
        }
        Ok(total)
    }
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut total = 0_u64;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            // It may have been removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) if metadata.is_file() => total = total.saturating_add(metadata.len()),
                _ => {}
            }
        }
    }
    Ok(total)
}
