//! Model folders: where checkpoints, VAEs, LoRAs … lie. They are the operator's, read-only here, and shared by all tenants.
//!
//! Everything is looked at anew when it is asked for: models that come or go, and changes of `extra_model_paths.yaml`, need no
//! restart.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use cap_std::{ambient_authority, fs::Dir};
use indexmap::IndexMap;
use parking_lot::{Mutex, RwLock};

use crate::{
    BlobError, RelativePath,
    model_paths::{ExtraPath, ExtraPathsError, read_extra_model_paths},
};

/// ComfyUI's folder types in its order, each with the folders below `models/` that hold it and the files that count.
/// An empty list of extensions means every file.
const FOLDER_TYPES: [(&str, &[&str], &[&str]); 19] = [
    ("checkpoints", &["checkpoints"], WEIGHTS),
    ("configs", &["configs"], &["yaml"]),
    ("loras", &["loras"], WEIGHTS),
    ("vae", &["vae"], WEIGHTS),
    ("text_encoders", &["text_encoders", "clip"], WEIGHTS),
    ("diffusion_models", &["unet", "diffusion_models"], WEIGHTS),
    ("clip_vision", &["clip_vision"], WEIGHTS),
    ("style_models", &["style_models"], WEIGHTS),
    ("embeddings", &["embeddings"], WEIGHTS),
    ("diffusers", &["diffusers"], &["folder"]),
    ("vae_approx", &["vae_approx"], WEIGHTS),
    ("controlnet", &["controlnet", "t2i_adapter"], WEIGHTS),
    ("gligen", &["gligen"], WEIGHTS),
    ("upscale_models", &["upscale_models"], WEIGHTS),
    ("hypernetworks", &["hypernetworks"], WEIGHTS),
    ("photomaker", &["photomaker"], WEIGHTS),
    ("classifiers", &["classifiers"], &[]),
    ("model_patches", &["model_patches"], WEIGHTS),
    ("audio_encoders", &["audio_encoders"], WEIGHTS),
];

const WEIGHTS: &[&str] = &["ckpt", "pt", "pt2", "bin", "pth", "safetensors", "pkl", "sft", "gguf"];

/// How deep a model folder is searched.
const MAX_DEPTH: usize = 16;
/// How many folders are watched for changes.
const MAX_FOLDERS: usize = 10_000;
/// How many files of one folder are listed.
const MAX_FILES: usize = 100_000;

/// The model folders of a server.
#[derive(Clone, Debug)]
pub struct ModelFolders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    base: PathBuf,
    /// Files with extra paths, in the order in which they are read. The first is the base folder's own, which need not exist.
    files: Vec<PathBuf>,
    current: RwLock<Arc<Current>>,
    watched: Mutex<Watched>,
}

/// The folders as the files said when they were last read.
#[derive(Debug)]
struct Current {
    stamps: Vec<Stamp>,
    folders: Folders,
}

type Folders = IndexMap<String, FolderType>;
/// When a file was changed, and its length; nothing of one that is not there.
type Stamp = Option<(SystemTime, u64)>;

/// The folders of the last look and when each was changed; a folder changes when a file in it comes, goes or is renamed.
#[derive(Debug, Default)]
struct Watched {
    generation: u64,
    /// What the files with extra paths were then.
    stamps: Vec<Stamp>,
    changed: Vec<(PathBuf, Option<SystemTime>)>,
}

#[derive(Clone, Debug, Default)]
struct FolderType {
    paths: Vec<PathBuf>,
    extensions: Vec<String>,
}

/// One file of a model folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// Relative to its folder, parts joined by `/`.
    pub name: String,
    /// Which of the folders of its type it is in.
    pub path_index: usize,
    /// Bytes.
    pub size: u64,
    /// When it was last written, seconds since 1970.
    pub modified: f64,
    /// When it was made, seconds since 1970; as `modified` where the file system does not know.
    pub created: f64,
}

impl ModelFolders {
    /// ComfyUI's folders below `<base>/models`, and those that `<base>/extra_model_paths.yaml` adds, if there is one and it
    /// can be read. They need not exist.
    #[must_use]
    pub fn below(base: &Path) -> Self {
        Self::with_files(base, &[]).unwrap_or_else(|error| {
            tracing::error!(%error, "there are no extra model paths");
            let current = Current { stamps: Vec::new(), folders: standard(base) };
            Self::of(base.to_path_buf(), Vec::new(), current)
        })
    }

    /// The same, and those that other files in the form of `extra_model_paths.yaml` add.
    ///
    /// # Errors
    /// A file that is not there (but for the base folder's own) or cannot be understood. When that happens to one later, the
    /// folders stay as they were and the log says so.
    pub fn with_files(base: &Path, extra: &[PathBuf]) -> Result<Self, ExtraPathsError> {
        let own = base.join("extra_model_paths.yaml");
        let files: Vec<PathBuf> = std::iter::once(own).chain(extra.iter().cloned()).collect();
        let current = Current { stamps: stamps(&files), folders: read(base, &files)? };
        Ok(Self::of(base.to_path_buf(), files, current))
    }

    fn of(base: PathBuf, files: Vec<PathBuf>, current: Current) -> Self {
        let current = RwLock::new(Arc::new(current));
        Self(Arc::new(Shared { base, files, current, watched: Mutex::default() }))
    }

    /// The folders now. Costs a system call per file with extra paths.
    fn current(&self) -> Arc<Current> {
        let known = self.0.current.read().clone();
        let stamps = stamps(&self.0.files);
        if stamps == known.stamps {
            return known;
        }
        let folders = read(&self.0.base, &self.0.files).unwrap_or_else(|error| {
            tracing::error!(%error, "the model folders stay as they were");
            known.folders.clone()
        });
        let current = Arc::new(Current { stamps, folders });
        *self.0.current.write() = Arc::clone(&current);
        current
    }

    /// A number that changes when the names in any model folder may have changed. Costs a system call per folder.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let current = self.current();
        let mut watched = self.0.watched.lock();
        let changed = watched.stamps != current.stamps
            || watched.changed.is_empty()
            || watched.changed.iter().any(|(path, changed)| modified(path) != *changed);
        if changed {
            let mut found = Vec::new();
            for root in current.folders.values().flat_map(|folder| &folder.paths) {
                find_folders(root, MAX_DEPTH, &mut found);
            }
            watched.changed = found;
            watched.stamps.clone_from(&current.stamps);
            watched.generation += 1;
        }
        watched.generation
    }

    /// Names of the folder types.
    #[must_use]
    pub fn types(&self) -> Vec<String> {
        self.current().folders.keys().cloned().collect()
    }

    /// Where files of a type are looked for, or nothing for an unknown type.
    #[must_use]
    pub fn paths(&self, folder: &str) -> Option<Vec<PathBuf>> {
        self.current().folders.get(folder).map(|folder| folder.paths.clone())
    }

    /// Which files of a type count, without the dot; none means every file. Nothing for an unknown type.
    #[must_use]
    pub fn extensions(&self, folder: &str) -> Option<Vec<String>> {
        self.current().folders.get(folder).map(|folder| folder.extensions.clone())
    }

    /// Sorted names over all folders of a type, or nothing for an unknown type.
    #[must_use]
    pub fn names(&self, folder: &str) -> Option<Vec<String>> {
        let names: BTreeSet<String> = self.files(folder)?.into_iter().map(|file| file.name).collect();
        Some(names.into_iter().collect())
    }

    /// Every file of a type, or nothing for an unknown type. Unreadable folders count as empty.
    #[must_use]
    pub fn files(&self, folder: &str) -> Option<Vec<ModelFile>> {
        let current = self.current();
        let folder = current.folders.get(folder)?;
        let mut files = Vec::new();
        for (path_index, path) in folder.paths.iter().enumerate() {
            collect(path, "", path_index, &folder.extensions, MAX_DEPTH, &mut files);
        }
        Some(files)
    }

    /// Opens a model file of the first folder that has it.
    ///
    /// # Errors
    /// An illegal name, an unknown folder, or a file that does not exist.
    pub fn open(&self, folder: &str, name: &str) -> Result<File, BlobError> {
        let path = RelativePath::parse_file(name)?;
        let missing = || BlobError::NotFound { name: format!("models/{folder}/{name}") };
        let current = self.current();
        let folder_type = current.folders.get(folder).ok_or_else(missing)?;
        for root in &folder_type.paths {
            let opened = Dir::open_ambient_dir(root, ambient_authority()).and_then(|dir| dir.open(path.as_str()));
            match opened {
                Ok(file) => {
                    let file = file.into_std();
                    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                        return Ok(file);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(folder, name, %error, "a model file cannot be opened"),
            }
        }
        Err(missing())
    }
}

/// ComfyUI's folders below `<base>/models`.
fn standard(base: &Path) -> Folders {
    let models = base.join("models");
    let entry = |(name, paths, extensions): (&str, &[&str], &[&str])| {
        let paths = paths.iter().map(|path| models.join(path)).collect();
        let extensions = extensions.iter().map(ToString::to_string).collect();
        (name.to_owned(), FolderType { paths, extensions })
    };
    FOLDER_TYPES.into_iter().map(entry).collect()
}

fn read(base: &Path, files: &[PathBuf]) -> Result<Folders, ExtraPathsError> {
    let mut folders = standard(base);
    for (index, file) in files.iter().enumerate() {
        match read_extra_model_paths(file) {
            Ok(extra) => add(&mut folders, extra),
            Err(ExtraPathsError::Read { source, .. }) if index == 0 && source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folders)
}

/// A new type takes every file.
fn add(folders: &mut Folders, extra: impl IntoIterator<Item = ExtraPath>) {
    for ExtraPath { folder, path, first } in extra {
        let folder = folders.entry(folder).or_default();
        let known = folder.paths.iter().position(|known| *known == path);
        match (known, first) {
            (None, false) => folder.paths.push(path),
            (None, true) => folder.paths.insert(0, path),
            (Some(at), true) => folder.paths[..=at].rotate_right(1),
            (Some(_), false) => {}
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| fs::metadata(file).and_then(|file| Ok((file.modified()?, file.len()))).ok();
    files.iter().map(stamp).collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// A folder, there or not, and all folders in it.
fn find_folders(folder: &Path, depth_left: usize, found: &mut Vec<(PathBuf, Option<SystemTime>)>) {
    // The time is taken before the look, so that a change during it is noticed the next time.
    found.push((folder.to_path_buf(), modified(folder)));
    let Ok(entries) = fs::read_dir(folder) else { return };
    if depth_left == 0 || found.len() >= MAX_FOLDERS {
        return;
    }
    for entry in entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")) {
        if fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
            find_folders(&entry.path(), depth_left - 1, found);
        }
    }
}

fn collect(
    directory: &Path,
    prefix: &str,
    path_index: usize,
    extensions: &[String],
    depth_left: usize,
    files: &mut Vec<ModelFile>,
) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        // Follows links: operators keep models on other disks.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        let relative = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        if metadata.is_dir() {
            if depth_left > 0 {
                collect(&entry.path(), &relative, path_index, extensions, depth_left - 1, files);
            }
        } else if files.len() < MAX_FILES && has_extension(name, extensions) {
            let seconds = |time: io::Result<std::time::SystemTime>| {
                time.ok()?.duration_since(std::time::UNIX_EPOCH).ok().map(|time| time.as_secs_f64())
            };
            let modified = seconds(metadata.modified()).unwrap_or_default();
            let created = seconds(metadata.created()).unwrap_or(modified);
            files.push(ModelFile { name: relative, path_index, size: metadata.len(), modified, created });
        }
    }
}

fn has_extension(name: &str, extensions: &[String]) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extensions.is_empty() || extensions.iter().any(|wanted| wanted.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn models_are_found_in_every_folder_of_their_type_and_nowhere_else() {
        let base = tempfile::tempdir().unwrap();
        let models = base.path().join("models");
        fs::create_dir_all(models.join("clip/sd")).unwrap();
        fs::create_dir_all(models.join("text_encoders")).unwrap();
        fs::write(models.join("clip/sd/a.safetensors"), b"a").unwrap();
        fs::write(models.join("text_encoders/B.SafeTensors"), b"bb").unwrap();
        fs::write(models.join("text_encoders/notes.txt"), b"").unwrap();
        fs::write(base.path().join("secret.safetensors"), b"secret").unwrap();
        let folders = ModelFolders::below(base.path());
        assert_eq!(folders.names("text_encoders").unwrap(), ["B.SafeTensors", "sd/a.safetensors"]);
        assert!(folders.names("clip").is_none());
        assert!(folders.open("text_encoders", "sd/a.safetensors").is_ok());
        for name in ["../../secret.safetensors", "/etc/passwd", "sd", "none.safetensors"] {
            assert!(folders.open("text_encoders", name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_model_that_comes_or_goes_changes_the_generation() {
        let base = tempfile::tempdir().unwrap();
        let folders = ModelFolders::below(base.path());
        let empty = folders.generation();
        assert_eq!(folders.generation(), empty);
        fs::create_dir_all(base.path().join("models/vae/sub")).unwrap();
        let created = folders.generation();
        assert_ne!(created, empty);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let model = base.path().join("models/vae/sub/a.pt");
        fs::write(&model, "").unwrap();
        let added = folders.generation();
        assert_ne!(added, created);
        assert_eq!(folders.clone().generation(), added);
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::remove_file(&model).unwrap();
        assert_ne!(folders.generation(), added);
    }

    #[test]
    fn extra_folders_come_last_or_first() {
        let extra =
            |folder: &str, path: &str, first| ExtraPath { folder: folder.to_owned(), path: PathBuf::from(path), first };
        let mut folders = standard(Path::new("/b"));
        add(
            &mut folders,
            [
                extra("vae", "/x", false),
                extra("vae", "/y", true),
                extra("vae", "/x", false),
                extra("vae", "/b/models/vae", true),
                extra("mine", "/m", false),
            ],
        );
        assert_eq!(folders["vae"].paths, ["/b/models/vae", "/y", "/x"].map(PathBuf::from));
        assert_eq!(folders["mine"].paths, [PathBuf::from("/m")]);
        assert_eq!(folders["mine"].extensions, [""; 0]);
    }

    #[test]
    fn a_changed_file_of_extra_paths_counts_at_once_and_a_broken_one_changes_nothing() {
        let base = tempfile::tempdir().unwrap();
        let (file, more) = (base.path().join("extra_model_paths.yaml"), base.path().join("more.yaml"));
        assert!(
            ModelFolders::with_files(base.path(), std::slice::from_ref(&more)).is_err(),
            "a file that was named must exist"
        );
        fs::write(&more, "b:\n  mine: elsewhere\n").unwrap();
        let folders = ModelFolders::with_files(base.path(), std::slice::from_ref(&more)).unwrap();
        let before = folders.generation();
        assert!(folders.types().contains(&"mine".to_owned()) && folders.names("extra").is_none());
        fs::create_dir(base.path().join("shared")).unwrap();
        fs::write(base.path().join("shared/a.safetensors"), "").unwrap();
        fs::write(&file, "a:\n  extra: shared\n").unwrap();
        assert_eq!(folders.names("extra").unwrap(), ["a.safetensors"]);
        assert!(folders.open("extra", "a.safetensors").is_ok());
        assert_ne!(folders.generation(), before);
        fs::write(&file, "a: [broken").unwrap();
        assert_eq!(folders.names("extra").unwrap(), ["a.safetensors"]);
        fs::remove_file(&file).unwrap();
        assert!(folders.names("extra").is_none() && folders.names("mine").is_some());
    }
}
