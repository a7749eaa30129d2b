//! How an upload gets its name.
//!
//! As in ComfyUI: a taken name is reused if it holds the same bytes, else `stem (1).ext`, `stem (2).ext`, … of the original
//! stem are tried; with `overwrite` the name gets the new bytes. Names are claimed by creating a link, so two uploads at once
//! never get the same one.

use std::io;

use crate::files::{Folder, SavedFile, TenantFiles};
use crate::root::Root;
use crate::store::{Blob, Durability};
use crate::{BlobError, RelativePath, Upload, place};

/// How many files may share an upload's stem.
const MAX_NAMES: u64 = 10_000;

impl TenantFiles {
    /// Gives an upload a name. A missing subfolder is created; folders inside `filename` are not.
    ///
    /// The answer repeats `subfolder` as it was given and names the file as it is called now.
    ///
    /// # Errors
    /// [`BlobError::Name`], [`BlobError::Outside`], [`BlobError::NotFound`] (a folder in `filename`),
    /// [`BlobError::IsDirectory`], [`BlobError::NoFreeName`], or what the machine says. Nothing is left behind then.
    pub fn save_upload(
        &self,
        folder: Folder,
        subfolder: &str,
        filename: &str,
        upload: impl Into<Upload>,
        overwrite: bool,
    ) -> Result<SavedFile, BlobError> {
        let below = RelativePath::parse(subfolder)?;
        let name = RelativePath::parse_file(filename)?;
        let path = below.join(&name)?;
        let upload = upload.into();
        // Overwritten or not: the name has these bytes.
        if upload.is_what_is_at(&self.root(folder)?, &path) {
            return Ok(SavedFile { name: name.to_string(), subfolder: subfolder.to_owned(), folder });
        }
        self.reserve(upload.len())?;
        let staged = upload.into_staged()?;
        let durability = if folder == Folder::Temp { Durability::Fast } else { Durability::Synced };
        let blob = staged.commit(durability)?;
        self.name_upload(folder, subfolder, &name, &blob, overwrite)
    }

    /// As [`TenantFiles::save_upload`], for bytes that are in the store already.
    ///
    /// # Errors
    /// As [`TenantFiles::save_upload`].
    pub fn save_blob(
        &self,
        folder: Folder,
        subfolder: &str,
        filename: &str,
        blob: &Blob,
        overwrite: bool,
    ) -> Result<SavedFile, BlobError> {
        let name = RelativePath::parse_file(filename)?;
        self.reserve(blob.len())?;
        self.name_upload(folder, subfolder, &name, blob, overwrite)
    }

    fn name_upload(
        &self,
        folder: Folder,
        subfolder: &str,
        name: &RelativePath,
        blob: &Blob,
        overwrite: bool,
    ) -> Result<SavedFile, BlobError> {
        let root = self.root(folder)?;
        let below = RelativePath::parse(subfolder)?;
        root.directory(&below, true)?;
        let taken = if overwrite {
            self.replace(&root, folder, &below.join(name)?, blob)?;
            name.clone()
        } else {
            self.find_name(&root, folder, &below, name, blob)?
        };
        Ok(SavedFile { name: taken.to_string(), subfolder: subfolder.to_owned(), folder })
    }

    fn replace(&self, root: &Root, folder: Folder, path: &RelativePath, blob: &Blob) -> Result<(), BlobError> {
        let spot = root.spot(path, false)?;
        place::link_over(&self.store, blob, &spot.dir, spot.name)
            .map_err(|source| root.failed("write", path, source))?;
        self.remember_saved(folder, path.clone(), &spot.dir, spot.name, blob);
        Ok(())
    }

    fn find_name(
        &self,
        root: &Root,
        folder: Folder,
        below: &RelativePath,
        name: &RelativePath,
        blob: &Blob,
    ) -> Result<RelativePath, BlobError> {
        let mut candidate = name.clone();
        for attempt in 1..=MAX_NAMES {
            let path = below.join(&candidate)?;
            let spot = root.spot(&path, false)?;
            match place::link_new(&self.store, blob, &spot.dir, spot.name) {
                Ok(()) => {
                    self.remember_saved(folder, path.clone(), &spot.dir, spot.name, blob);
                    return Ok(candidate);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(root.failed("write", &path, source)),
            }
            if self.holds(root, folder, &path, blob) {
                return Ok(candidate);
            }
            candidate = numbered(name, attempt)?;
        }
        Err(BlobError::NoFreeName { name: root.named(&candidate), tried: MAX_NAMES })
    }

    /// Whether a taken name has the same bytes. What cannot be read (a directory, a link to elsewhere) has not.
    fn holds(&self, root: &Root, folder: Folder, path: &RelativePath, blob: &Blob) -> bool {
        root.metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.len())
            && self.digest_of(root, folder, path.clone()).is_ok_and(|digest| digest == blob.digest())
    }
}

/// `a/cat (2).png` for `a/cat.png` and 2.
fn numbered(name: &RelativePath, number: u64) -> Result<RelativePath, BlobError> {
    let (folder, last) = name.split();
    let (stem, extension) = split_extension(last);
    folder.join(&RelativePath::parse_file(&format!("{stem} ({number}){extension}"))?)
}

/// The extension with its dot; dots at the beginning of a name begin no extension.
fn split_extension(name: &str) -> (&str, &str) {
    let leading_dots = name.len() - name.trim_start_matches('.').len();
    match name[leading_dots..].rfind('.') {
        Some(dot) => name.split_at(leading_dots + dot),
        None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_split_where_python_splits_them() {
        let cases = [
            ("cat.png", ("cat", ".png")),
            ("cat.tar.gz", ("cat.tar", ".gz")),
            (".png", (".png", "")),
            ("..a.b", ("..a", ".b")),
            ("cat", ("cat", "")),
            ("cat.", ("cat", ".")),
        ];
        for (name, parts) in cases {
            assert_eq!(split_extension(name), parts, "{name}");
        }
    }
}
