//! What the test areas share: a worker made of the real parts over a temporary base directory, and the packs that
//! `cargo xtask nodes` built.
//!
//! # Layout
//! - this file: [`Laboratory`], a worker that is asked directly
//! - [`server`]: the same parts behind the real server, on a real port, with clients

#![forbid(unsafe_code)]

pub mod server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tempfile::TempDir;
use vivarium_blobs::{BlobStore, Folder, ModelFolders, NamedFolders, ScratchFolders, TenantDirs, TenantFiles};
use vivarium_outbound::{HttpClient, Outbound};
use vivarium_packs::{Catalog, Grants};
use vivarium_protocol::{event::Event, history::HistoryEntry, tenant::TenantId};
use vivarium_queue::{NewPrompt, Queue, SqliteQueue};
use vivarium_sandbox::{EngineConfig, LimitTable, Limits, SandboxEngine};
use vivarium_worker::{
    Engine, EventSink, FilesOf, Message, Outside, Parts, Target, Worker, WorkerConfig,
    process::{Grouping, ProcessSettings},
};

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// The folder of this crate.
#[must_use]
pub fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Folders with the stock packs and with the packs that only tests use.
///
/// # Errors
/// When they were not built.
pub fn pack_folders() -> Result<Vec<PathBuf>> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let folders = vec![target_folder().join(profile).join("packs"), target_folder().join("test-packs")];
    for folder in &folders {
        if !folder.is_dir() {
            bail!("{} does not exist; run `cargo xtask nodes` first", folder.display());
        }
    }
    Ok(folders)
}

/// Everything that was sent to clients, in order.
#[derive(Default)]
pub struct Recorder {
    sent: Mutex<Vec<(TenantId, Target, Message)>>,
}

impl EventSink for Recorder {
    fn send(&self, tenant: &TenantId, target: Target, message: Message) {
        self.sent.lock().push((tenant.clone(), target, message));
    }
}

impl Recorder {
    /// The events so far; previews and texts are left out.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        let sent = self.sent.lock();
        sent.iter()
            .filter_map(|(_, _, message)| match message {
                Message::Event(event) => Some(event.clone()),
                _ => None,
            })
            .collect()
    }

    /// How many previews were sent.
    #[must_use]
    pub fn previews(&self) -> usize {
        self.sent.lock().iter().filter(|(_, _, message)| matches!(message, Message::Preview { .. })).count()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.sent.lock().clear();
    }
}

/// Settings of a bench.
#[derive(Default)]
pub struct Settings {
    /// Limits on guests.
    pub limits: Limits,
    /// How the worker runs prompts.
    pub worker: WorkerConfig,
    /// What packs were granted.
    pub grants: Grants,
    /// Sends their requests; without one, that of servers.
    pub http: Option<Arc<dyn HttpClient>>,
    /// More folders that nodes may be allowed to read.
    pub folders: NamedFolders,
    /// Folders of packs instead of those that were built.
    pub packs: Option<Vec<PathBuf>>,
    /// Prompts run in processes of their own.
    pub processes: Option<ProcessSettings>,
}

/// One process per tenant, started from a binary of these tests.
///
/// # Errors
/// When the tests' own file can't be found.
pub fn process_settings() -> Result<ProcessSettings> {
    // `target/PROFILE/deps/TEST` beside `target/PROFILE/vivarium-test-worker`.
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("a folder above the test")?;
    Ok(ProcessSettings {
        program: profile.join("vivarium-test-worker"),
        arguments: Vec::new(),
        grouping: Grouping::PerTenant,
        groups: BTreeMap::new(),
        most: 8,
        idle: Duration::from_secs(600),
        unsandboxed: false,
    })
}

/// With this set, tests that say nothing about processes run their prompts in some: the same must come of it.
const IN_PROCESSES: &str = "VIVARIUM_TEST_WORKER_PROCESSES";

fn start_worker(config: WorkerConfig, parts: Parts, processes: Option<ProcessSettings>) -> Result<Arc<Worker>> {
    let wanted = std::env::var_os(IN_PROCESSES).is_some_and(|value| value == "1");
    match processes {
        None if wanted => Ok(Worker::start_processes(config, parts, process_settings()?)?),
        None => Ok(Worker::start(config, parts)?),
        Some(processes) => Ok(Worker::start_processes(config, parts, processes)?),
    }
}

/// A worker with its queue, files and packs, and no server.
pub struct Laboratory {
    /// Takes prompts and runs them.
    pub worker: Arc<Worker>,
    /// Where prompts wait.
    pub queue: Arc<dyn Queue>,
    /// What clients were told.
    pub recorder: Arc<Recorder>,
    /// Installed packs.
    pub catalog: Arc<Catalog>,
    files: FilesOf,
    base: TempDir,
}

/// The parts of a worker, over a base directory.
fn assemble(base: &Path, settings: Settings, events: Arc<dyn EventSink>) -> Result<Parts> {
    let Settings { limits, grants, http, folders, packs, .. } = settings;
    // One cache of compiled components for all tests: compiling takes most of their time.
    let aot_folder = Some(target_folder().join("test-aot"));
    let sandbox = SandboxEngine::new(EngineConfig { limits, aot_folder, ..EngineConfig::default() })?;
    let packs = packs.map_or_else(pack_folders, Ok)?;
    let catalog = Arc::new(Catalog::load(sandbox.clone(), packs)?);
    for pack in catalog.snapshot().packs() {
        if let Err(error) = &pack.component {
            bail!("{}: {error}", pack.path.display());
        }
    }
    let queue: Arc<dyn Queue> = Arc::new(SqliteQueue::open(base.join("queue.sqlite"))?);
    let store = BlobStore::open(&base.join("blobs"))?;
    let opened: Mutex<std::collections::HashMap<TenantId, Arc<TenantFiles>>> = Mutex::default();
    let root = base.to_owned();
    let files: FilesOf = Arc::new(move |tenant| {
        let mut opened = opened.lock();
        if let Some(files) = opened.get(tenant) {
            return Ok(files.clone());
        }
        let dirs = TenantDirs::below(&root, tenant);
        let files = Arc::new(TenantFiles::open(tenant.clone(), store.clone(), dirs)?);
        opened.insert(tenant.clone(), files.clone());
        Ok(files)
    });
    Ok(Parts {
        catalog,
        grants: Arc::new(grants),
        queue,
        files,
        models: Arc::new(ModelFolders::below(base)),
        outside: Outside {
            http: http.unwrap_or_else(|| Arc::new(Outbound::default())),
            scratch: ScratchFolders::at(base.join("scratch")),
            folders,
        },
        events,
        limits: Arc::new(LimitTable::following(sandbox.limits().clone(), base.join("limits.toml"))?),
    })
}

impl Laboratory {
    /// Starts a worker over a fresh base directory.
    ///
    /// # Errors
    /// When the packs were not built, or a part cannot start.
    pub fn start(settings: Settings) -> Result<Self> {
        let base = tempfile::tempdir()?;
        let recorder = Arc::new(Recorder::default());
        let (worker, processes) = (settings.worker.clone(), settings.processes.clone());
        let parts = assemble(base.path(), settings, recorder.clone())?;
        let (queue, catalog, files) = (parts.queue.clone(), parts.catalog.clone(), parts.files.clone());
        let worker = start_worker(worker, parts, processes)?;
        Ok(Self { worker, queue, recorder, catalog, files, base })
    }

    /// The base directory.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    /// Puts a file into the tenant's input folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add_input(&self, tenant: &TenantId, name: &str, bytes: &[u8]) -> Result<()> {
        let files = (self.files)(tenant)?;
        fs::write(files.folder_path(Folder::Input).join(name), bytes)?;
        Ok(())
    }

    /// The bytes of a file that a node saved, from its entry in `ui.images`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn saved(&self, tenant: &TenantId, image: &Value) -> Result<Vec<u8>> {
        let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        let folder: Folder = text("type").parse()?;
        let files = (self.files)(tenant)?;
        let path = files.folder_path(folder).join(text("subfolder")).join(text("filename"));
        fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Validates and queues a prompt.
    ///
    /// # Errors
    /// The refusal, as a client would get it.
    pub fn submit(&self, tenant: &TenantId, prompt: &Value, client_id: Option<&str>) -> Result<String> {
        let validated = self
            .worker
            .validate(tenant, prompt.clone(), None)
            .map_err(|invalid| anyhow!("refused: {}", serde_json::to_string(&invalid).unwrap_or_default()))?;
        let prompt_id = uuid::Uuid::new_v4().to_string();
        self.queue.enqueue(NewPrompt {
            tenant: tenant.clone(),
            prompt_id: prompt_id.clone(),
            number: None,
            front: false,
            prompt: validated.json,
            extra_data: Map::new(),
            outputs: validated.outputs,
            client_id: client_id.map(str::to_owned),
        })?;
        Ok(prompt_id)
    }

    /// Waits for a prompt to end.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub fn wait(&self, tenant: &TenantId, prompt_id: &str) -> Result<HistoryEntry> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(entry) = self.queue.history_entry(tenant, prompt_id)? {
                return Ok(entry);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("prompt {prompt_id} did not end within a minute")
    }

    /// Runs a prompt of the default tenant to its end.
    ///
    /// # Errors
    /// As [`Laboratory::submit`] and [`Laboratory::wait`].
    pub fn run(&self, prompt: &Value) -> Result<HistoryEntry> {
        let tenant = TenantId::default_tenant();
        let prompt_id = self.submit(&tenant, prompt, Some("client"))?;
        self.wait(&tenant, &prompt_id)
    }
}

impl Drop for Laboratory {
    fn drop(&mut self) {
        self.worker.stop(Duration::ZERO);
    }
}

/// What went wrong in a run, if something did: type and message of its error.
#[must_use]
pub fn failure(entry: &HistoryEntry) -> Option<(String, String)> {
    let status = entry.status.as_ref()?;
    let (_, data) = status.messages.iter().find(|(name, _)| name == "execution_error")?;
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    Some((text("exception_type"), text("exception_message")))
}

/// The folders inside a folder, sorted.
///
/// # Errors
/// When it cannot be listed.
pub fn cases(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            cases.push(path);
        }
    }
    cases.sort();
    if cases.is_empty() {
        bail!("{} holds no cases", folder.display());
    }
    Ok(cases)
}

/// Reads a JSON file.
///
/// # Errors
/// When it does not exist or is not JSON.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}
