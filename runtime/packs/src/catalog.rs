//! The packs of the packs folders.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use indexmap::IndexMap;
use vivarium_protocol::definition::NodeDefinition;
use vivarium_sandbox::{PackComponent, SandboxEngine};

use crate::PackError;

/// The installed packs. Whoever runs a prompt takes a [`Snapshot`] and keeps it to the end.
#[derive(Debug)]
pub struct Catalog {
    engine: Arc<SandboxEngine>,
    folders: Vec<PathBuf>,
    snapshot: ArcSwap<Snapshot>,
    generation: AtomicU64,
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

/// One file in a packs folder, usable or not.
#[derive(Debug)]
pub struct InstalledPack {
    /// Where it is.
    pub path: PathBuf,
    /// The component, or why there is none.
    pub component: Result<Arc<PackComponent>, PackError>,
}

impl InstalledPack {
    /// The file's name without its folder.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Catalog {
    /// Loads every `.wasm` file of the folders, in the order of the folders and then of the names. A folder that does not
    /// exist is an empty one; a file that cannot be used is reported in the snapshot.
    ///
    /// # Errors
    /// A folder that exists but cannot be listed.
    pub fn load(engine: Arc<SandboxEngine>, folders: Vec<PathBuf>) -> Result<Self, PackError> {
        let catalog = Self { engine, folders, snapshot: ArcSwap::default(), generation: AtomicU64::new(0) };
        catalog.reload()?;
        Ok(catalog)
    }

    /// Reads the folders again. Prompts that run keep the snapshot they have.
    ///
    /// # Errors
    /// A folder that exists but cannot be listed; the old snapshot then stays.
    pub fn reload(&self) -> Result<Arc<Snapshot>, PackError> {
        let mut snapshot = Snapshot::default();
        for folder in &self.folders {
            for path in components_in(folder)? {
                let component = self.load_file(&path).and_then(|component| snapshot.admit(component));
                if let Err(error) = &component {
                    tracing::error!(file = %path.display(), %error, "a pack is not loaded");
                }
                snapshot.packs.push(InstalledPack { path, component });
            }
        }
        snapshot.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(snapshot.clone());
        Ok(snapshot)
    }

    fn load_file(&self, path: &Path) -> Result<Arc<PackComponent>, PackError> {
        let failed = |source| PackError::File { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(failed)?.len();
        let limit = self.engine.limits().component_bytes;
        if length > limit {
            return Err(vivarium_sandbox::SandboxError::ComponentTooLarge { bytes: length, limit }.into());
        }
        Ok(self.engine.load(&fs::read(path).map_err(failed)?)?)
    }

    /// The packs as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
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

    /// Every class with its definition and its pack.
    pub fn classes(&self) -> impl Iterator<Item = (&NodeDefinition, &Arc<PackComponent>)> {
        self.classes.values().map(|entry| (entry.definition.as_ref(), &entry.component))
    }

    fn admit(&mut self, component: Arc<PackComponent>) -> Result<Arc<PackComponent>, PackError> {
        let same_name =
            |pack: &&InstalledPack| pack.component.as_ref().is_ok_and(|installed| installed.name() == component.name());
        if let Some(first) = self.packs.iter().find(same_name) {
            return Err(PackError::DuplicatePack { name: component.name().to_owned(), first: first.file_name() });
        }
        let nodes = &component.definition().nodes;
        if let Some((class, owner)) = nodes.iter().find_map(|node| Some((node, self.classes.get(&node.class_type)?))) {
            return Err(PackError::ShadowedClass {
                class: class.class_type.clone(),
                owner: owner.component.name().to_owned(),
            });
        }
        for node in nodes {
            let entry = ClassEntry { component: component.clone(), definition: Arc::new(node.clone()) };
            self.classes.insert(node.class_type.clone(), entry);
        }
        Ok(component)
    }
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
