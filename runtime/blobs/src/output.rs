//! How a saved image gets its name: `<prefix>_<counter>_.png`.
//!
//! The counter is one more than the highest in the folder, as in ComfyUI. Looking through a folder of ten thousand images
//! for every save would be slow, so the highest counters are remembered per folder, for as long as nobody else changes the
//! folder. They are only a first guess: the name is claimed by creating a link, which fails if the name is taken, so no save
//! ever replaces another one's file, whoever made it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use cap_std::fs::Dir;
use jiff::civil::DateTime;
use parking_lot::Mutex;

use crate::files::{Folder, SavedFile, TenantFiles};
use crate::path::RESERVED_PREFIX;
use crate::root::{Root, inode};
use crate::store::Blob;
use crate::{BlobError, RelativePath, place};

/// How many taken names are skipped before giving up.
const MAX_SKIPPED: u64 = 100_000;
/// How many folders are remembered.
const MAX_FOLDERS: usize = 1024;
/// The part of a prefix that stands for the number of the image in its batch.
const BATCH_NUMBER: &str = "%batch_num%";

/// A filename prefix with everything filled in but the number in the batch. One per call of a saving node, so that all
/// images of a batch carry the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputName {
    subfolder: RelativePath,
    basename: String,
}

impl OutputName {
    /// Fills in `%width% %height% %year% %month% %day% %hour% %minute% %second%` (local time) and checks the result.
    ///
    /// # Errors
    /// [`BlobError::Name`] when the prefix leads out of the folder.
    pub fn new(prefix: &str, width: u64, height: u64) -> Result<Self, BlobError> {
        Self::at(prefix, width, height, jiff::ZonedDateTime::now().datetime())
    }

    fn at(prefix: &str, width: u64, height: u64, now: DateTime) -> Result<Self, BlobError> {
        let filled = fill_in(prefix, width, height, now);
        let (subfolder, basename) = RelativePath::parse(&filled)?.split_owned();
        Ok(Self { subfolder, basename })
    }

    /// The folder below, parts joined by `/`, or empty.
    #[must_use]
    pub fn subfolder(&self) -> &str {
        self.subfolder.as_str()
    }

    /// The beginning of the names.
    #[must_use]
    pub fn basename(&self) -> &str {
        &self.basename
    }

    fn basename_of(&self, batch_number: u64) -> String {
        self.basename.replace(BATCH_NUMBER, &batch_number.to_string())
    }
}

impl RelativePath {
    fn split_owned(&self) -> (Self, String) {
        let (folder, name) = self.split();
        (folder, name.to_owned())
    }
}

fn fill_in(prefix: &str, width: u64, height: u64, now: DateTime) -> String {
    if !prefix.contains('%') {
        return prefix.to_owned();
    }
    let two_digits = |value: i8| format!("{value:02}");
    prefix
        .replace("%width%", &width.to_string())
        .replace("%height%", &height.to_string())
        .replace("%year%", &now.year().to_string())
        .replace("%month%", &two_digits(now.month()))
        .replace("%day%", &two_digits(now.day()))
        .replace("%hour%", &two_digits(now.hour()))
        .replace("%minute%", &two_digits(now.minute()))
        .replace("%second%", &two_digits(now.second()))
}

impl TenantFiles {
    /// Saves a blob under the next free name. `extension` is without its dot; `batch_number` counts from 0.
    ///
    /// # Errors
    /// [`BlobError::Name`], [`BlobError::Outside`], [`BlobError::NoFreeName`], or what the machine says.
    pub fn save_output(
        &self,
        folder: Folder,
        name: &OutputName,
        batch_number: u64,
        extension: &str,
        blob: &Blob,
    ) -> Result<SavedFile, BlobError> {
        self.reserve(blob.len())?;
        let link = |directory: &Dir, filename: &str| place::link_new(&self.store, blob, directory, filename);
        let (saved, directory) = self.save_as_next(folder, name, batch_number, extension, &link)?;
        let path = name.subfolder.join(&RelativePath::parse_file(&saved.name)?)?;
        self.remember_saved(folder, path, &directory, &saved.name, blob);
        Ok(saved)
    }

    /// Saves bytes in the temp folder under the next free name, as a file of its own: the store would keep them after the
    /// folder was emptied, and cost more steps. They are written when the system likes.
    ///
    /// # Errors
    /// As [`TenantFiles::save_output`].
    pub fn save_temporary(
        &self,
        name: &OutputName,
        batch_number: u64,
        extension: &str,
        bytes: &[u8],
    ) -> Result<SavedFile, BlobError> {
        self.reserve(bytes.len() as u64)?;
        let write = |directory: &Dir, filename: &str| place::write_new(directory, filename, bytes);
        Ok(self.save_as_next(Folder::Temp, name, batch_number, extension, &write)?.0)
    }

    /// Creates a file under the next free name. `create` fails with [`io::ErrorKind::AlreadyExists`] if it is taken.
    fn save_as_next(
        &self,
        folder: Folder,
        name: &OutputName,
        batch_number: u64,
        extension: &str,
        create: &dyn Fn(&Dir, &str) -> io::Result<()>,
    ) -> Result<(SavedFile, Dir), BlobError> {
        let root = self.root(folder)?;
        let directory = root.directory(&name.subfolder, true)?;
        let basename = name.basename_of(batch_number);
        let counters = self.counters.of(folder, &name.subfolder);
        let mut counters = counters.lock();
        let fail = |source| root.failed("list", &name.subfolder, source);
        let mut number = counters.highest(&directory, &basename).map_err(fail)? + 1;
        for attempt in 0..MAX_SKIPPED {
            let filename = format!("{basename}_{number:05}_.{extension}");
            let path = name.subfolder.join(&RelativePath::parse_file(&filename)?)?;
            match create(&directory, &filename) {
                Ok(()) => {
                    counters.took(&directory, basename, number);
                    let subfolder = name.subfolder.to_string();
                    return Ok((SavedFile { name: filename, subfolder, folder }, directory));
                }
                // Somebody put a file there in the same tick of the folder's clock.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let highest = if attempt == 0 { counters.rescan(&directory, &basename).map_err(fail)? } else { 0 };
                    number = number.max(highest) + 1;
                }
                Err(source) => return Err(root.failed("write", &path, source)),
            }
        }
        Err(BlobError::NoFreeName { name: self.shown(&root, name, number), tried: MAX_SKIPPED })
    }

    /// The names that the next `count` saves get if nobody saves in between. Nothing is created or kept.
    ///
    /// # Errors
    /// As [`TenantFiles::save_output`].
    pub fn output_names(
        &self,
        folder: Folder,
        name: &OutputName,
        extension: &str,
        count: u64,
    ) -> Result<Vec<SavedFile>, BlobError> {
        let root = self.root(folder)?;
        let directory = root.directory(&name.subfolder, true)?;
        let counters = self.counters.of(folder, &name.subfolder);
        let mut counters = counters.lock();
        let mut names = Vec::new();
        let mut given: HashMap<String, u64> = HashMap::new();
        for batch_number in 0..count {
            let basename = name.basename_of(batch_number);
            let highest = counters
                .highest(&directory, &basename)
                .map_err(|source| root.failed("list", &name.subfolder, source))?;
            let offset = given.entry(basename.clone()).or_insert(0);
            *offset += 1;
            let filename = format!("{basename}_{:05}_.{extension}", highest + *offset);
            RelativePath::parse_file(&filename)?;
            names.push(SavedFile { name: filename, subfolder: name.subfolder.to_string(), folder });
        }
        Ok(names)
    }

    fn shown(&self, root: &Root, name: &OutputName, number: u64) -> String {
        format!("{}/{}_{number:05}_", root.named(&name.subfolder), name.basename)
    }
}

type SharedCounters = Arc<Mutex<FolderCounters>>;

/// The highest counters of all folders that were saved to.
#[derive(Default)]
pub(crate) struct Counters {
    folders: Mutex<HashMap<(Folder, RelativePath), SharedCounters>>,
}

impl Counters {
    fn of(&self, folder: Folder, below: &RelativePath) -> SharedCounters {
        let mut folders = self.folders.lock();
        if folders.len() >= MAX_FOLDERS {
            folders.clear();
        }
        Arc::clone(folders.entry((folder, below.clone())).or_default())
    }
}

#[derive(Default)]
struct FolderCounters {
    /// The folder as it was when `highest` was right.
    seen: Option<(u64, SystemTime)>,
    highest: HashMap<String, u64>,
}

impl FolderCounters {
    fn highest(&mut self, directory: &Dir, basename: &str) -> io::Result<u64> {
        if self.seen.is_none() || self.seen != stamp(directory) {
            return self.rescan(directory, basename);
        }
        Ok(self.highest.get(basename).copied().unwrap_or(0))
    }

    fn rescan(&mut self, directory: &Dir, basename: &str) -> io::Result<u64> {
        // Taken before looking, so that what is added while looking makes the next call look again.
        let seen = stamp(directory);
        self.highest.clear();
        self.seen = None;
        for entry in directory.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(RESERVED_PREFIX) {
                place::sweep(directory, &entry);
                continue;
            }
            for (basename, number) in counters_in(&name) {
                match self.highest.get_mut(basename) {
                    Some(highest) => *highest = number.max(*highest),
                    None => {
                        self.highest.insert(basename.to_owned(), number);
                    }
                }
            }
        }
        self.seen = seen;
        Ok(self.highest.get(basename).copied().unwrap_or(0))
    }

    fn took(&mut self, directory: &Dir, basename: String, number: u64) {
        self.highest.insert(basename, number);
        self.seen = stamp(directory);
    }
}

fn stamp(directory: &Dir) -> Option<(u64, SystemTime)> {
    let metadata = directory.dir_metadata().ok()?;
    Some((inode(&metadata), metadata.modified().ok()?.into_std()))
}

/// Every way to read a file name as `<basename>_<number>` followed by `_` or the end. `a_5_00001_.png` counts for `a` (5) and
/// for `a_5` (1). Numbers too large to count on are no numbers.
fn counters_in(name: &str) -> impl Iterator<Item = (&str, u64)> {
    name.match_indices('_').filter_map(|(position, _)| {
        let digits = name[position + 1..].split('_').next()?;
        let number: u64 = digits.parse().ok().filter(|number| *number < u64::MAX / 2)?;
        Some((&name[..position], number))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_are_read_as_comfyui_reads_them() {
        let found = |name| counters_in(name).collect::<Vec<_>>();
        assert_eq!(found("ComfyUI_00012_.png"), [("ComfyUI", 12)]);
        assert_eq!(found("a_5_00001_.png"), [("a", 5), ("a_5", 1)]);
        assert_eq!(found("ComfyUI_3.png"), []);
        assert_eq!(found("x_99999999999999999999_.png"), []);
        assert_eq!(found("_00002_.png"), [("", 2)]);
    }

    #[test]
    fn variables_are_filled_in_with_two_digits() {
        let now = jiff::civil::date(2026, 3, 4).at(5, 6, 7, 0);
        let name =
            OutputName::at("%year%-%month%-%day%/%hour%%minute%%second%_%width%x%height%_%batch_num%", 64, 32, now);
        let name = name.unwrap();
        assert_eq!(name.subfolder(), "2026-03-04");
        assert_eq!(name.basename_of(3), "050607_64x32_3");
        assert!(matches!(OutputName::new("../x", 1, 1), Err(BlobError::Name { .. })));
        assert!(matches!(OutputName::new("/x", 1, 1), Err(BlobError::Name { .. })));
        assert_eq!(OutputName::new("sub/", 1, 1).unwrap().basename(), "sub");
    }
}
