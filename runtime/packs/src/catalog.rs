//! All packs: those of the folders, and those that are installed.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use parking_lot::Mutex;
use vivarium_protocol::definition::NodeDefinition;
use vivarium_sandbox::{PackComponent, SandboxEngine};

use crate::{
    PackError, examine,
    file::PackFile,
    manifest::{Manifest, Request},
    signature::PublicKey,
    store::{Installed, PackStore},
};

/// The packs. Whoever runs a prompt takes a [`Snapshot`] and keeps it to the end.
#[derive(Debug)]
pub struct Catalog {
    engine: Arc<SandboxEngine>,
    folders: Vec<PathBuf>,
    store: Option<PackStore>,
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
    reloading: Mutex<()>,
}

/// One state of the catalog.
#[derive(Debug, Default)]
pub struct Snapshot {
    generation: u64,
    packs: Vec<InstalledPack>,
    classes: IndexMap<String, ClassEntry>,
}

#[derive(Debug)]
struct ClassEntry {
    component: Arc<PackComponent>,
    /// Shared, since every run of a node holds it.
    definition: Arc<NodeDefinition>,
}

/// One pack, usable or not.
#[derive(Debug)]
pub struct InstalledPack {
    /// Where it is.
    pub path: PathBuf,
    /// The component, or why there is none.
    pub component: Result<Arc<PackComponent>, PackError>,
    /// What it says about itself; a bare component in a folder has none.
    pub manifest: Option<Arc<Manifest>>,
    /// Who signed it.
    pub signer: Option<PublicKey>,
    /// It was installed, and was not merely put into a folder.
    pub installed: bool,
    stamp: Option<Stamp>,
}

/// Tells whether a file is still the one that was read.
type Stamp = (SystemTime, u64, u64);

/// A pack file that was read and understood.
#[derive(Clone, Debug)]
struct ReadPack {
    component: Arc<PackComponent>,
    manifest: Option<Arc<Manifest>>,
    signer: Option<PublicKey>,
}

impl InstalledPack {
    /// The file's name without its folder.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A file in the pack, read from disk.
    ///
    /// # Errors
    /// The pack's file is gone or was changed meanwhile.
    pub fn asset(&self, path: &str) -> Result<Option<Vec<u8>>, PackError> {
        let Ok(component) = &self.component else { return Ok(None) };
        let bytes = fs::read(&self.path).map_err(|source| PackError::File { path: self.path.clone(), source })?;
        let file = PackFile::parse(bytes, u64::MAX)?;
        if file.digest() != component.digest() {
            return Err(PackError::Tampered);
        }
        Ok(file.asset(path).map(<[u8]>::to_vec))
    }

    /// What it asks for: by its manifest, or else by its own description.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        if let Some(manifest) = &self.manifest {
            return manifest.permissions.clone();
        }
        let own = self.component.iter().flat_map(|component| &component.definition().permissions);
        // What is no permission cannot be granted.
        own.filter_map(|request| {
            Some(Request { permission: request.permission.parse().ok()?, reason: request.reason.clone() })
        })
        .collect()
    }

    fn as_read(&self) -> Option<ReadPack> {
        let component = self.component.as_ref().ok()?.clone();
        Some(ReadPack { component, manifest: self.manifest.clone(), signer: self.signer })
    }
}

impl Catalog {
    /// Loads every `.wasm` file of the folders, in the order of the folders and then of the names. A folder that does not
    /// exist is an empty one; a file that cannot be used is reported in the snapshot.
    ///
    /// # Errors
    /// A folder that exists but cannot be listed.
    pub fn load(engine: Arc<SandboxEngine>, folders: Vec<PathBuf>) -> Result<Self, PackError> {
        Self::load_all(engine, folders, None)
    }

    /// As [`Catalog::load`], and then what is installed in a store.
    ///
    /// # Errors
    /// A folder that exists but cannot be listed, or a store that cannot be read.
    pub fn load_all(
        engine: Arc<SandboxEngine>,
        folders: Vec<PathBuf>,
        store: Option<PackStore>,
    ) -> Result<Self, PackError> {
        let catalog = Self {
            engine,
            folders,
            store,
            snapshot: ArcSwap::default(),
            generation: AtomicU64::new(0),
            reloading: Mutex::default(),
        };
        catalog.reload()?;
        Ok(catalog)
    }

    /// A catalog without places, of what another process has read and checked.
    #[must_use]
    pub fn told(engine: Arc<SandboxEngine>) -> Self {
        Self {
            engine,
            folders: Vec::new(),
            store: None,
            snapshot: ArcSwap::default(),
            generation: AtomicU64::new(0),
            reloading: Mutex::default(),
        }
    }

    /// Takes over the packs of the other process, as its snapshot of this generation has them.
    ///
    /// # Errors
    /// Two of them don't go together, which the other process would not have let pass.
    pub fn tell(&self, generation: u64, components: Vec<Arc<PackComponent>>) -> Result<(), PackError> {
        let _one_at_a_time = self.reloading.lock();
        let mut snapshot = Snapshot { generation, ..Snapshot::default() };
        for component in components {
            snapshot.admit(&component)?;
            let path = PathBuf::from(component.name());
            let (manifest, signer, stamp) = (None, None, None);
            snapshot.packs.push(InstalledPack {
                path,
                component: Ok(component),
                manifest,
                signer,
                installed: false,
                stamp,
            });
        }
        self.snapshot.store(Arc::new(snapshot));
        Ok(())
    }

    /// Looks again, and takes over what has not changed. Prompts that run keep the snapshot they have.
    ///
    /// # Errors
    /// A folder or store that cannot be read; the old snapshot then stays.
    pub fn reload(&self) -> Result<Arc<Snapshot>, PackError> {
        let _one_at_a_time = self.reloading.lock();
        let before = self.snapshot();
        let known: HashMap<&Path, &InstalledPack> =
            before.packs.iter().map(|pack| (pack.path.as_path(), pack)).collect();
        let mut snapshot = Snapshot::default();
        for folder in &self.folders {
            for path in components_in(folder)? {
                let before = known.get(path.as_path()).copied();
                self.add(&mut snapshot, path, before, None);
            }
        }
        if let Some(store) = &self.store {
            for installed in store.read()?.installed.into_values() {
                let path = store.file(&installed.digest);
                let before = known.get(path.as_path()).copied();
                self.add(&mut snapshot, path, before, Some(&installed));
            }
        }
        if before.generation > 0 && snapshot.is_same(&before) {
            return Ok(before.clone());
        }
        snapshot.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(snapshot.clone());
        Ok(snapshot)
    }

    fn add(
        &self,
        snapshot: &mut Snapshot,
        path: PathBuf,
        before: Option<&InstalledPack>,
        installed: Option<&Installed>,
    ) {
        // Taken before the file is read: what changes meanwhile is read again the next time.
        let stamp = stamp(&path);
        let unchanged = before.filter(|pack| stamp.is_some() && pack.stamp == stamp).and_then(InstalledPack::as_read);
        let mut stamp = stamp;
        let read = unchanged.map_or_else(|| self.read(&path, installed), Ok).or_else(|error| {
            // Half written, or broken: what worked goes on, and with the old stamp, so that it is tried again.
            let kept = before.and_then(|pack| pack.as_read().map(|read| (read, pack.stamp)));
            let Some((read, old_stamp)) = kept else { return Err(error) };
            tracing::error!(file = %path.display(), %error, "a changed pack is not loaded; the one before stays");
            stamp = old_stamp;
            Ok(read)
        });
        let admitted = read.and_then(|read| snapshot.admit(&read.component).map(|()| read));
        if let Err(error) = &admitted {
            tracing::error!(file = %path.display(), %error, "a pack is not loaded");
        }
        let (component, manifest, signer) = match admitted {
            Ok(read) => (Ok(read.component), read.manifest, read.signer),
            Err(error) => (Err(error), None, None),
        };
        let installed = installed.is_some();
        snapshot.packs.push(InstalledPack { path, component, manifest, signer, installed, stamp });
    }

    fn read(&self, path: &Path, installed: Option<&Installed>) -> Result<ReadPack, PackError> {
        let file = self.read_file(path)?;
        if installed.is_some_and(|record| record.digest != file.digest() || record.signer != file.signer().copied()) {
            return Err(PackError::Tampered);
        }
        let component = self.engine.load_later(file.bytes(), path)?;
        if let Some(manifest) = file.manifest() {
            examine::agree(manifest, &component)?;
        }
        let manifest = file.manifest().cloned().map(Arc::new);
        Ok(ReadPack { component, manifest, signer: file.signer().copied() })
    }

    fn read_file(&self, path: &Path) -> Result<PackFile, PackError> {
        let failed = |source| PackError::File { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(failed)?.len();
        let limit = self.engine.limits().component_bytes;
        if length > limit {
            return Err(vivarium_sandbox::SandboxError::ComponentTooLarge { bytes: length, limit }.into());
        }
        let bytes = fs::read(path).map_err(failed)?;
        vivarium_sandbox::check_header(&bytes)?;
        PackFile::parse(bytes, limit)
    }

    /// The packs as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The folders that it looks into, and the store.
    #[must_use]
    pub fn places(&self) -> (&[PathBuf], Option<&PackStore>) {
        (&self.folders, self.store.as_ref())
    }
}

impl Snapshot {
    /// Changes with every reload.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every pack file, usable or not.
    #[must_use]
    pub fn packs(&self) -> &[InstalledPack] {
        &self.packs
    }

    /// The definition of a class.
    #[must_use]
    pub fn definition(&self, class: &str) -> Option<&NodeDefinition> {
        self.shared_definition(class).map(Arc::as_ref)
    }

    /// The definition of a class, to be kept beyond the snapshot.
    #[must_use]
    pub fn shared_definition(&self, class: &str) -> Option<&Arc<NodeDefinition>> {
        Some(&self.classes.get(class)?.definition)
    }

    /// The component that provides a class.
    #[must_use]
    pub fn component(&self, class: &str) -> Option<&Arc<PackComponent>> {
        Some(&self.classes.get(class)?.component)
    }

    /// The pack of a name, if it is usable.
    #[must_use]
    pub fn pack(&self, name: &str) -> Option<&Arc<PackComponent>> {
        self.usable().map(|(_, component)| component).find(|component| component.name() == name)
    }

    /// Every class with its definition and its pack.
    pub fn classes(&self) -> impl Iterator<Item = (&NodeDefinition, &Arc<PackComponent>)> {
        self.classes.values().map(|entry| (entry.definition.as_ref(), &entry.component))
    }

    /// Every usable pack.
    pub fn usable(&self) -> impl Iterator<Item = (&InstalledPack, &Arc<PackComponent>)> {
        self.packs.iter().filter_map(|pack| Some((pack, pack.component.as_ref().ok()?)))
    }

    /// The pack and the file with a class's help text.
    #[must_use]
    pub fn help(&self, class: &str) -> Option<(&InstalledPack, &str)> {
        self.manifests().find_map(|(pack, manifest)| Some((pack, manifest.help.get(class)?.as_str())))
    }

    /// The class that takes the place of one that no pack has.
    #[must_use]
    pub fn stand_in(&self, class: &str) -> Option<&str> {
        let mut replacements = self.manifests().flat_map(|(_, manifest)| &manifest.replacements);
        replacements.find(|one| one.old_node_id == class).map(|one| one.new_node_id.as_str())
    }

    /// Every usable pack that has a manifest.
    pub fn manifests(&self) -> impl Iterator<Item = (&InstalledPack, &Manifest)> {
        self.usable().filter_map(|(pack, _)| Some((pack, pack.manifest.as_deref()?)))
    }

    /// Whether a pack can stand beside those that are here. An installed pack of the same name does not count: it would be
    /// replaced.
    ///
    /// # Errors
    /// [`PackError::DuplicatePack`], [`PackError::ShadowedClass`].
    pub fn check_room(&self, component: &PackComponent) -> Result<(), PackError> {
        let same_name =
            |(pack, other): &(&InstalledPack, &Arc<PackComponent>)| !pack.installed && other.name() == component.name();
        if let Some((first, _)) = self.usable().find(same_name) {
            return Err(PackError::DuplicatePack { name: component.name().to_owned(), first: first.file_name() });
        }
        self.check_classes(component)
    }

    fn check_classes(&self, component: &PackComponent) -> Result<(), PackError> {
        let nodes = component.definition().nodes.iter();
        let mut taken = nodes.filter_map(|node| Some((node, self.classes.get(&node.class_type)?)));
        match taken.find(|(_, owner)| owner.component.name() != component.name()) {
            None => Ok(()),
            Some((class, owner)) => Err(PackError::ShadowedClass {
                class: class.class_type.clone(),
                owner: owner.component.name().to_owned(),
            }),
        }
    }

    /// Whether nothing came, went or changed.
    fn is_same(&self, other: &Self) -> bool {
        let same = |(one, other): (&InstalledPack, &InstalledPack)| {
            let same_component = match (&one.component, &other.component) {
                (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
                (Err(one), Err(other)) => one.to_string() == other.to_string(),
                _ => false,
            };
            same_component && one.path == other.path && one.stamp == other.stamp
        };
        self.packs.len() == other.packs.len() && self.packs.iter().zip(&other.packs).all(same)
    }

    fn admit(&mut self, component: &Arc<PackComponent>) -> Result<(), PackError> {
        if let Some((first, _)) = self.usable().find(|(_, other)| other.name() == component.name()) {
            return Err(PackError::DuplicatePack { name: component.name().to_owned(), first: first.file_name() });
        }
        self.check_classes(component)?;
        for node in &component.definition().nodes {
            let entry = ClassEntry { component: component.clone(), definition: Arc::new(node.clone()) };
            self.classes.insert(node.class_type.clone(), entry);
        }
        Ok(())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn components_in(folder: &Path) -> Result<Vec<PathBuf>, PackError> {
    let failed = |source| PackError::Folder { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
