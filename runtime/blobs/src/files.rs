//! The input, output and temp folders of one tenant.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::fs::Dir;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use vivarium_protocol::tenant::TenantId;

use crate::output::Counters;
use crate::path::RESERVED_PREFIX;
use crate::room::Room;
use crate::root::{Root, inode, is_visible};
use crate::store::{Blob, BlobStore, Digest};
use crate::{BlobError, RelativePath, UserData, Users, place};

/// How many digests are remembered per tenant.
const MAX_REMEMBERED_DIGESTS: usize = 16_384;
/// A time stamp this fresh may stand for two different states, since clocks of file systems tick coarsely.
const STAMP_SETTLES_AFTER: Duration = Duration::from_secs(2);
/// What image nodes can open; upper case counts too.
const IMAGE_EXTENSIONS: [&str; 17] = [
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "gif", "bmp", "dib", "webp", "tif", "tiff", "ppm", "pgm", "pbm",
    "pnm", "pam",
];

/// A folder that clients may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Folder {
    /// What users bring.
    Input,
    /// What nodes save.
    Output,
    /// Previews; emptied at start and at exit.
    Temp,
}

impl Folder {
    /// All folders.
    pub const ALL: [Self; 3] = [Self::Input, Self::Output, Self::Temp];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Temp => "temp",
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Not `input`, `output` or `temp`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a folder; use \"input\", \"output\" or \"temp\"")]
pub struct UnknownFolder(String);

impl FromStr for Folder {
    type Err = UnknownFolder;

    fn from_str(text: &str) -> Result<Self, UnknownFolder> {
        Self::ALL.into_iter().find(|folder| folder.as_str() == text).ok_or_else(|| UnknownFolder(text.to_owned()))
    }
}

/// A file as widgets name it: a path, and perhaps the folder behind it, as in `cat.png [output]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotatedName {
    /// The path below the folder, not yet checked.
    pub name: String,
    /// The folder, if the name says so.
    pub folder: Option<Folder>,
}

impl AnnotatedName {
    /// Splits the folder off. Never fails: whatever is no folder belongs to the name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        for folder in Folder::ALL {
            if let Some(rest) = text.strip_suffix(']').and_then(|rest| rest.strip_suffix(folder.as_str()))
                && let Some(name) = rest.strip_suffix('[')
            {
                return Self { name: name.strip_suffix(' ').unwrap_or(name).to_owned(), folder: Some(folder) };
            }
        }
        Self { name: text.to_owned(), folder: None }
    }
}

/// A saved file as answers and `ui` outputs name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// The file's name, without its subfolder.
    pub name: String,
    /// The folder below, parts joined by `/`, or empty.
    pub subfolder: String,
    /// The folder.
    pub folder: Folder,
}

/// An ordinary file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The handle, at the beginning of the file.
    pub file: File,
    /// Bytes when it was opened.
    pub len: u64,
    /// When it was last written.
    pub modified: SystemTime,
    pub(crate) inode: u64,
}

/// Where a tenant's folders are on this machine.
#[derive(Clone, Debug)]
pub struct TenantDirs {
    /// What users bring.
    pub input: PathBuf,
    /// What nodes save.
    pub output: PathBuf,
    /// Previews.
    pub temp: PathBuf,
    /// Settings, workflows and other files of the user interface.
    pub user: PathBuf,
    /// The same for every user of a server with several users in one tenant, and who they are.
    pub users: PathBuf,
}

impl TenantDirs {
    /// ComfyUI's folders below a base directory; tenants other than the default one have them below `tenants/<name>`.
    #[must_use]
    pub fn below(base: &Path, tenant: &TenantId) -> Self {
        let (base, user, users) = if *tenant == TenantId::default_tenant() {
            (base.to_path_buf(), "user/default", "user")
        } else {
            (base.join("tenants").join(tenant.as_str()), "user", "users")
        };
        Self {
            input: base.join("input"),
            output: base.join("output"),
            temp: base.join("temp"),
            user: base.join(user),
            users: base.join(users),
        }
    }
}

type DigestStamp = (u64, u64, SystemTime);
type Listing = (SystemTime, Arc<[String]>);

/// The folders of one tenant. Cheap to share; all calls may run at once.
pub struct TenantFiles {
    tenant: TenantId,
    dirs: TenantDirs,
    pub(crate) store: Arc<BlobStore>,
    pub(crate) counters: Counters,
    digests: Mutex<HashMap<(Folder, RelativePath), (DigestStamp, Digest)>>,
    listings: Mutex<HashMap<Folder, Listing>>,
    user_data: Arc<UserData>,
    users: Users,
    pub(crate) room: Room,
}

impl fmt::Debug for TenantFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TenantFiles")
            .field("tenant", &self.tenant)
            .field("dirs", &self.dirs)
            .finish_non_exhaustive()
    }
}

impl TenantFiles {
    /// Opens the folders of a tenant, creating them where needed.
    ///
    /// # Errors
    /// The path and the cause when one of them cannot be created or opened.
    pub fn open(tenant: TenantId, store: Arc<BlobStore>, dirs: TenantDirs) -> Result<Self, BlobError> {
        let user_data = Arc::new(UserData::open(dirs.user.clone())?);
        let users = Users::new(dirs.users.clone(), Arc::clone(&user_data));
        let files = Self {
            tenant,
            dirs,
            store,
            counters: Counters::default(),
            digests: Mutex::default(),
            listings: Mutex::default(),
            user_data,
            users,
            room: Room::default(),
        };
        for folder in Folder::ALL {
            let root = files.root(folder)?;
            root.dir.entries().map_err(|source| root.failed("list", &RelativePath::default(), source))?;
        }
        Ok(files)
    }

    /// Whose files these are.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(crate) fn dirs(&self) -> &TenantDirs {
        &self.dirs
    }

    /// The store beneath.
    #[must_use]
    pub fn store(&self) -> &Arc<BlobStore> {
        &self.store
    }

    /// What the user interface keeps for a tenant that has one user.
    #[must_use]
    pub fn user_data(&self) -> &Arc<UserData> {
        &self.user_data
    }

    /// The users of a tenant that has several.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Where a folder is on this machine: for messages to people, never for opening files.
    #[must_use]
    pub fn folder_path(&self, folder: Folder) -> &Path {
        match folder {
            Folder::Input => &self.dirs.input,
            Folder::Output => &self.dirs.output,
            Folder::Temp => &self.dirs.temp,
        }
    }

    pub(crate) fn root(&self, folder: Folder) -> Result<Root, BlobError> {
        Root::open(self.folder_path(folder), folder.as_str())
    }

    /// Opens a file. `filename` may hold folders too; both parts are checked.
    ///
    /// # Errors
    /// [`BlobError::Name`], [`BlobError::Outside`], [`BlobError::NotFound`], [`BlobError::IsDirectory`], [`BlobError::NotAFile`],
    /// or what the machine says.
    pub fn open_file(&self, folder: Folder, subfolder: &str, filename: &str) -> Result<OpenFile, BlobError> {
        self.root(folder)?.open_file(&file_path(subfolder, filename)?)
    }

    /// Opens a file as a widget names it; without a folder in the name, in `default`.
    ///
    /// # Errors
    /// As [`TenantFiles::open_file`].
    pub fn open_named(&self, name: &AnnotatedName, default: Folder) -> Result<OpenFile, BlobError> {
        self.open_file(name.folder.unwrap_or(default), "", &name.name)
    }

    /// Whether an ordinary file of that name can be opened. Illegal names do not exist.
    #[must_use]
    pub fn exists(&self, name: &AnnotatedName, default: Folder) -> bool {
        self.open_named(name, default).is_ok()
    }

    /// The SHA-256 of a file, remembered as long as the file stays the same.
    ///
    /// # Errors
    /// As [`TenantFiles::open_file`].
    pub fn digest(&self, folder: Folder, subfolder: &str, filename: &str) -> Result<Digest, BlobError> {
        let path = file_path(subfolder, filename)?;
        self.digest_of(&self.root(folder)?, folder, path)
    }

    /// The SHA-256 of a file as a widget names it.
    ///
    /// # Errors
    /// As [`TenantFiles::open_file`].
    pub fn digest_named(&self, name: &AnnotatedName, default: Folder) -> Result<Digest, BlobError> {
        self.digest(name.folder.unwrap_or(default), "", &name.name)
    }

    pub(crate) fn digest_of(&self, root: &Root, folder: Folder, path: RelativePath) -> Result<Digest, BlobError> {
        let metadata = root.metadata(&path)?;
        if let Ok(modified) = metadata.modified() {
            let stamp = (inode(&metadata), metadata.len(), modified.into_std());
            // A map lookup needs an owned key pair only when something new is remembered.
            let key = (folder, path);
            match self.digests.lock().get(&key) {
                Some((known, digest)) if *known == stamp => return Ok(*digest),
                _ => {}
            }
            return self.hash(root, key);
        }
        self.hash(root, (folder, path))
    }

    fn hash(&self, root: &Root, key: (Folder, RelativePath)) -> Result<Digest, BlobError> {
        let opened = root.open_file(&key.1)?;
        let digest = Digest::of_reader(&opened.file).map_err(|source| root.failed("read", &key.1, source))?;
        if is_settled(opened.modified) {
            self.remember(key, (opened.inode, opened.len, opened.modified), digest);
        }
        Ok(digest)
    }

    /// Keeps the digest of a name that was just given to a blob, sparing the next reader the hashing.
    pub(crate) fn remember_saved(&self, folder: Folder, path: RelativePath, dir: &Dir, name: &str, blob: &Blob) {
        let Ok(metadata) = dir.symlink_metadata(name) else {
            return;
        };
        let Ok(modified) = metadata.modified() else {
            return;
        };
        self.remember((folder, path), (inode(&metadata), metadata.len(), modified.into_std()), blob.digest());
    }

    fn remember(&self, key: (Folder, RelativePath), stamp: DigestStamp, digest: Digest) {
        let mut digests = self.digests.lock();
        if digests.len() >= MAX_REMEMBERED_DIGESTS {
            digests.clear();
        }
        digests.insert(key, (stamp, digest));
    }

    /// The files in the top level of a folder, sorted by name. Remembered until the folder changes.
    ///
    /// # Errors
    /// The path and the cause when the folder cannot be read.
    pub fn list(&self, folder: Folder) -> Result<Arc<[String]>, BlobError> {
        let root = self.root(folder)?;
        let here = RelativePath::default();
        let changed = root.dir.dir_metadata().and_then(|metadata| metadata.modified());
        let changed = changed.map_err(|source| root.failed("look at", &here, source))?.into_std();
        if let Some((then, names)) = self.listings.lock().get(&folder)
            && *then == changed
        {
            return Ok(Arc::clone(names));
        }
        let mut names: Vec<String> = visible_files(&root)?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let names: Arc<[String]> = names.into();
        if is_settled(changed) {
            self.listings.lock().insert(folder, (changed, Arc::clone(&names)));
        }
        Ok(names)
    }

    /// The images in the top level of a folder, told by their extension, sorted by name.
    ///
    /// # Errors
    /// As [`TenantFiles::list`].
    pub fn list_images(&self, folder: Folder) -> Result<Vec<String>, BlobError> {
        Ok(self.list(folder)?.iter().filter(|name| has_image_extension(name)).cloned().collect())
    }

    /// The files in the top level of a folder, the newest first.
    ///
    /// # Errors
    /// As [`TenantFiles::list`].
    pub fn list_newest_first(&self, folder: Folder) -> Result<Vec<String>, BlobError> {
        let root = self.root(folder)?;
        let mut files: Vec<(SystemTime, String)> = Vec::new();
        for (name, entry) in visible_files(&root)? {
            // It may have been removed meanwhile.
            if let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) {
                files.push((modified.into_std(), name));
            }
        }
        files.sort_unstable_by(|left, right| right.cmp(left));
        Ok(files.into_iter().map(|(_, name)| name).collect())
    }

    /// Empties the temp folder. What is a link there is removed, not followed.
    ///
    /// # Errors
    /// The path and the cause of the first entry that cannot be removed; the others are removed nevertheless.
    pub fn clear_temp(&self) -> Result<(), BlobError> {
        let root = self.root(Folder::Temp)?;
        let here = RelativePath::default();
        let entries = root.dir.entries().map_err(|source| root.failed("list", &here, source))?;
        let mut first_error = None;
        for entry in entries {
            let removed = entry.and_then(|entry| {
                let name = entry.file_name();
                if entry.file_type()?.is_dir() { root.dir.remove_dir_all(name) } else { root.dir.remove_file(name) }
            });
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    first_error.get_or_insert(error);
                }
                _ => {}
            }
        }
        match first_error {
            Some(source) => Err(BlobError::machine("empty", self.folder_path(Folder::Temp), source)),
            None => Ok(()),
        }
    }
}

/// Checks and joins the two halves in which clients name a file.
pub(crate) fn file_path(subfolder: &str, filename: &str) -> Result<RelativePath, BlobError> {
    RelativePath::parse(subfolder)?.join(&RelativePath::parse_file(filename)?)
}

fn visible_files(root: &Root) -> Result<Vec<(String, cap_std::fs::DirEntry)>, BlobError> {
    let fail = |source| root.failed("list", &RelativePath::default(), source);
    let mut files = Vec::new();
    for entry in root.dir.entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with(RESERVED_PREFIX) {
            place::sweep(&root.dir, &entry);
            continue;
        }
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let is_file =
            kind.is_file() || (kind.is_symlink() && root.dir.metadata(&name).is_ok_and(|metadata| metadata.is_file()));
        if is_file && is_visible(&name) {
            files.push((name, entry));
        }
    }
    Ok(files)
}

fn has_image_extension(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| IMAGE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// Whether anything that is done to the file from now on will show in its time stamp.
fn is_settled(modified: SystemTime) -> bool {
    SystemTime::now().duration_since(modified).is_ok_and(|age| age > STAMP_SETTLES_AFTER)
}
