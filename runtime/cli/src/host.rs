//! The parts of a host, put together over the folders of this machine. `serve` adds a server to them, `run` a display.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use vivarium_blobs::{BlobStore, TenantDirs, TenantFiles};
use vivarium_packs::{Catalog, Grants, secrets::SecretFile, store::PackStore};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::{Queue, SqliteQueue};
use vivarium_sandbox::{EngineConfig, LimitTable, Limits, SandboxEngine, compile::Compiler};
use vivarium_worker::{EventSink, FilesOf, Outside, Parts};

use crate::{
    failure::{Exit, OrFail, Outcome},
    options::Folders,
    worker,
};

/// What a host is put together from.
pub(crate) struct HostPlan {
    /// Where things are.
    pub(crate) folders: Folders,
    /// Where the queue and the contents of files are kept.
    pub(crate) queue: PathBuf,
    pub(crate) blobs: PathBuf,
    /// What nodes keep to.
    pub(crate) limits: Limits,
    /// What packs may do.
    pub(crate) grants: Grants,
    /// What they reach by that.
    pub(crate) outside: Outside,
}

impl HostPlan {
    /// Opens everything and loads the packs. A pack that can't be used stays in the catalog with its error.
    ///
    /// # Errors
    /// Names the part of this machine that is in the way.
    pub(crate) fn build(self, events: Arc<dyn EventSink>) -> Outcome<Parts> {
        let (engine, catalog) = load_packs(&self.folders, self.limits)?;
        let queue = SqliteQueue::open(&self.queue).or_fail(Exit::Machine, || "could not open the queue")?;
        let store = BlobStore::open(&self.blobs).or_fail(Exit::Machine, || "could not open the file store")?;
        let files = files_of(self.folders.base.clone(), self.folders.tenant.clone(), store);
        // Opened now, so that a folder that can't be used is heard of at start and not with the first prompt.
        files(&TenantId::default_tenant()).or_fail(Exit::Machine, || "could not open the folders")?;
        let limits = LimitTable::following(engine.limits().clone(), self.folders.limits());
        let limits = limits.or_fail(Exit::Usage, || "could not read the limits")?;
        let grants = self.grants.with_store(PackStore::at(self.folders.installed()));
        let grants = grants.with_secrets(SecretFile::at(self.folders.secrets()));
        Ok(Parts {
            catalog: Arc::new(catalog),
            grants: Arc::new(grants),
            queue: Arc::new(queue) as Arc<dyn Queue>,
            files,
            models: Arc::new(self.folders.model_folders()?),
            outside: self.outside,
            events,
            limits: Arc::new(limits),
        })
    }
}

/// The sandbox, with its cache of compiled packs in the base folder, and the packs.
///
/// # Errors
/// When WebAssembly can't run here, or a folder can't be read.
pub(crate) fn load_packs(folders: &Folders, limits: Limits) -> Outcome<(Arc<SandboxEngine>, Catalog)> {
    let engine = sandbox(limits, Some(folders.compiled()))?;
    let store = PackStore::at(folders.installed());
    let packs = Catalog::load_all(engine.clone(), folders.packs.clone(), Some(store));
    Ok((engine, packs.or_fail(Exit::Machine, || "could not load the packs")?))
}

/// The sandbox. Strangers' components are compiled by a process of their own.
///
/// # Errors
/// When WebAssembly can't run here, or the folder of compiled packs can't be used.
pub(crate) fn sandbox(limits: Limits, aot_folder: Option<PathBuf>) -> Outcome<Arc<SandboxEngine>> {
    let program = std::env::current_exe().or_fail(Exit::Machine, || "could not find this program's own file")?;
    let compiler = Some(Compiler { program, arguments: worker::compile() });
    let engine = SandboxEngine::new(EngineConfig { limits, aot_folder, compiler, code: None });
    engine.or_fail(Exit::Machine, || "could not start the sandbox")
}

/// Opens the folders of a tenant once. Only the default tenant's can be moved by flags.
fn files_of(base: PathBuf, default: TenantDirs, store: Arc<BlobStore>) -> FilesOf {
    let opened: Mutex<HashMap<TenantId, Arc<TenantFiles>>> = Mutex::default();
    Arc::new(move |tenant| {
        // A panic while it was held leaves at most an entry less.
        let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = opened.get(tenant) {
            return Ok(files.clone());
        }
        let dirs = match *tenant == TenantId::default_tenant() {
            true => default.clone(),
            false => TenantDirs::below(&base, tenant),
        };
        let files = Arc::new(TenantFiles::open(tenant.clone(), store.clone(), dirs)?);
        opened.insert(tenant.clone(), files.clone());
        Ok(files)
    })
}
