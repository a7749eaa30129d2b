//! An upload on its way, which may turn out to be a file that is there already.
//!
//! Clients upload the same picture under the same name again and again. As long as what comes is what the named file holds,
//! it is only compared: nothing is written, hashed or synced. From the first difference on it is an upload like any other.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use crate::files::{Folder, OpenFile, TenantFiles};
use crate::root::Root;
use crate::store::{BlobStore, Staged};
use crate::{BlobError, RelativePath};

/// Bytes of an upload. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    store: Arc<BlobStore>,
    limit: Option<u64>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// So far those of a file.
    Like(Like),
    Own(Staged),
}

/// A file whose first bytes came once more.
#[derive(Debug)]
struct Like {
    file: OpenFile,
    matched: u64,
    buffer: Vec<u8>,
}

impl From<Staged> for Upload {
    fn from(staged: Staged) -> Self {
        let (store, limit) = (Arc::clone(staged.store()), staged.limit());
        Self { store, limit, bytes: Bytes::Own(staged) }
    }
}

impl TenantFiles {
    /// Begins an upload that is probably to have this name. With `limit`, more bytes than that are refused as they come.
    ///
    /// # Errors
    /// When nothing can be written. A name that can't be used is refused when the upload is saved.
    pub fn stage_upload(
        &self,
        folder: Folder,
        subfolder: &str,
        filename: &str,
        limit: Option<u64>,
    ) -> Result<Upload, BlobError> {
        let path = RelativePath::parse(subfolder).and_then(|below| below.join(&RelativePath::parse_file(filename)?));
        let existing = path.and_then(|path| self.root(folder)?.open_file(&path));
        match existing {
            Ok(file) => {
                let like = Like { file, matched: 0, buffer: Vec::new() };
                Ok(Upload { store: Arc::clone(self.store()), limit, bytes: Bytes::Like(like) })
            }
            Err(_) => self.store().stage(limit).map(Upload::from),
        }
    }
}

impl Upload {
    /// Appends bytes.
    ///
    /// # Errors
    /// As [`Staged::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        if let Bytes::Like(like) = &mut self.bytes {
            if let Some(limit) = self.limit
                && like.matched + bytes.len() as u64 > limit
            {
                return Err(BlobError::TooLarge { limit });
            }
            // What can't be read is as good as different.
            if like.goes_on_with(bytes).unwrap_or(false) {
                return Ok(());
            }
            self.bytes = Bytes::Own(copy_beginning(&self.store, self.limit, like)?);
        }
        match &mut self.bytes {
            Bytes::Own(staged) => staged.write(bytes),
            Bytes::Like(_) => Ok(()),
        }
    }

    /// How many bytes were written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::Like(like) => like.matched,
            Bytes::Own(staged) => staged.len(),
        }
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that the bytes are in a file of their own.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn into_staged(self) -> Result<Staged, BlobError> {
        match self.bytes {
            Bytes::Own(staged) => Ok(staged),
            Bytes::Like(mut like) => copy_beginning(&self.store, self.limit, &mut like),
        }
    }

    /// Whether these are the bytes of a name, all of them, and the file is still the one that they were compared with.
    pub(crate) fn is_what_is_at(&self, root: &Root, path: &RelativePath) -> bool {
        let Bytes::Like(like) = &self.bytes else { return false };
        let is_same =
            |now: OpenFile| (now.inode, now.len, now.modified) == (like.file.inode, like.file.len, like.file.modified);
        like.matched == like.file.len && root.open_file(path).is_ok_and(is_same)
    }
}

impl Like {
    fn goes_on_with(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.matched + bytes.len() as u64 > self.file.len {
            return Ok(false);
        }
        self.buffer.resize(bytes.len(), 0);
        self.file.file.read_exact(&mut self.buffer)?;
        let goes_on = self.buffer == bytes;
        if goes_on {
            self.matched += bytes.len() as u64;
        }
        Ok(goes_on)
    }
}

/// The bytes that came so far, taken from the file which they are like. That file may be changed meanwhile by somebody's hand,
/// but nobody could tell that from an upload that came a little later.
fn copy_beginning(store: &Arc<BlobStore>, limit: Option<u64>, like: &mut Like) -> Result<Staged, BlobError> {
    let mut staged = store.stage(limit)?;
    let failed = |source| BlobError::machine("read", store.root(), source);
    let file: &mut File = &mut like.file.file;
    file.rewind().map_err(failed)?;
    let mut rest = like.matched;
    like.buffer.resize(128 * 1024, 0);
    while rest > 0 {
        let wanted = like.buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        file.read_exact(&mut like.buffer[..wanted]).map_err(failed)?;
        staged.write(&like.buffer[..wanted])?;
        rest -= wanted as u64;
    }
    Ok(staged)
}
