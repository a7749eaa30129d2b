//! `vivarium serve`: the server, with a worker inside, or with workers in processes of their own.

mod options;
mod processes;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{net::TcpListener, runtime::Runtime};
use vivarium_blobs::Collected;
use vivarium_packs::watch::{Changed, Watch};
use vivarium_protocol::{event::Event, tenant::TenantId};
use vivarium_queue::Queue;
use vivarium_server::{AppState, Hub, LogRing, ServerConfig, ServerError, ServerLimits, auth::Registry};
use vivarium_worker::{FilesOf, Parts, Worker};

pub(crate) use self::options::Serve;
use crate::{
    failure::{Exit, OrFail, Outcome},
    host::HostPlan,
    logging,
    signals::Stop,
};

impl Serve {
    pub(crate) fn run(self) -> Outcome<()> {
        let stop = Stop::on_signals()?;
        let folders = self.folders.resolve()?;
        let processes = self.processes.settings()?;
        let config = ServerConfig { tenants_file: Some(folders.tenants()), ..self.server_config()? };
        let logs = LogRing::new(config.limits.log_lines);
        logging::start(self.verbose, Some(&logs));
        folders.create()?;
        raise_open_files();
        vivarium_allocator::keep_freed_memory().or_fail(Exit::Machine, || "could not start a thread")?;

        let runtime = Runtime::new().or_fail(Exit::Machine, || "could not start the server's threads")?;
        // Before the packs are loaded: a port that is taken should be heard of at once.
        let listeners = runtime.block_on(vivarium_server::bind(&config)).map_err(as_failure)?;
        let hub = Arc::new(Hub::new(&config.limits));
        let plan = HostPlan {
            queue: folders.queue(),
            blobs: folders.blobs(),
            limits: self.limits.resolve_in(&folders)?,
            grants: self.grants.resolve(),
            outside: self.outside.resolve(&folders)?,
            folders,
        };
        let devices = match processes {
            None => self.devices.open(&plan.folders.kernels())?,
            Some(_) => self.devices.without_gpu()?,
        };
        tracing::info!(%devices, "tensors are computed here");
        let base = plan.folders.base.clone();
        let folders_tenants = plan.folders.tenants();
        let parts = plan.build(hub.clone())?;
        let tenants = Registry::at(folders_tenants);
        empty_temp(&parts.files, &tenants);
        take_back_prompts(parts.queue.as_ref())?;
        collect_unused_contents(&parts.files)?;
        let worker_config = self.worker_config(devices)?;
        let worker = match processes {
            None => Worker::start(worker_config, parts.clone())
                .or_fail(Exit::Machine, || "could not start the worker's threads")?,
            Some(processes) => Worker::start_processes(worker_config, parts.clone(), processes)
                .or_fail(Exit::Machine, || "could not start the worker")?,
        };

        let server_parts = vivarium_server::Parts {
            engine: worker.clone(),
            queue: parts.queue.clone(),
            files: parts.files.clone(),
            models: parts.models.clone(),
            hub: hub.clone(),
            logs,
        };
        let _watch = self.watch_packs(&parts, hub.clone())?;
        let state = AppState::new(config, server_parts).map_err(as_failure)?;
        announce(&listeners, &parts, &base);
        let served = runtime.block_on(vivarium_server::serve(listeners, state, stop.asked()));
        // Already stopped, unless the server broke.
        worker.stop(Duration::ZERO);
        empty_temp(&parts.files, &tenants);
        served.map_err(as_failure)
    }
}

/// Every connection needs a file handle, and many systems give a process 1024 of them until it asks for more.
fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        if limit.current < limit.maximum || limit.maximum.is_none() {
            let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::debug!(%error, "the limit of open files stays as it is");
            }
        }
    }
}

/// How often contents that no file has any more are removed, and how long they must have been there: younger ones may be
/// about to get a name, from another process too.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);

/// Removes contents of deleted and replaced files, now and from time to time, on a thread that ends with the process.
fn collect_unused_contents(files: &FilesOf) -> Outcome<()> {
    let files = files(&TenantId::default_tenant()).or_fail(Exit::Machine, || "could not open the folders")?;
    let collect = move || {
        loop {
            match files.store().collect(COLLECT_EVERY) {
                Ok(Collected { blobs: 0, .. }) => tracing::debug!("no contents of deleted files to remove"),
                Ok(Collected { blobs, bytes }) => tracing::info!(blobs, bytes, "removed contents of deleted files"),
                Err(error) => tracing::warn!(%error, "contents of deleted files could not be looked for"),
            }
            std::thread::sleep(COLLECT_EVERY);
        }
    };
    let thread = std::thread::Builder::new().name("collector".to_owned()).spawn(collect);
    thread.map(drop).or_fail(Exit::Machine, || "could not start a thread")
}

/// Prompts that a killed server was running wait again.
fn take_back_prompts(queue: &dyn Queue) -> Outcome<()> {
    let recovered = queue.recover().or_fail(Exit::Machine, || "could not read the queue")?;
    if recovered > 0 {
        tracing::warn!(
            prompts = recovered,
            "the last server was stopped while it ran prompts; they are taken up again"
        );
    }
    Ok(())
}

/// Previews don't outlive the server that made them.
fn empty_temp(files: &FilesOf, tenants: &Registry) {
    let mut names: BTreeSet<TenantId> = [TenantId::default_tenant()].into();
    match tenants.read() {
        Ok(tenants) => names.extend(tenants.tenants.into_keys()),
        Err(error) => tracing::warn!(%error, "only the default tenant's temp folder is emptied"),
    }
    for tenant in names {
        if let Err(error) = files(&tenant).and_then(|files| files.clear_temp()) {
            tracing::warn!(%tenant, %error, "the temp folder could not be emptied");
        }
    }
}

fn announce(listeners: &[TcpListener], parts: &Parts, base: &std::path::Path) {
    let snapshot = parts.catalog.snapshot();
    let packs = snapshot.packs().iter().filter(|pack| pack.component.is_ok()).count();
    tracing::info!(packs, nodes = snapshot.classes().count(), base = %base.display(), "ready");
    for address in listeners.iter().filter_map(|listener| listener.local_addr().ok()) {
        eprintln!("Vivarium {} serves http://{address}", env!("CARGO_PKG_VERSION"));
    }
}

fn as_failure(error: ServerError) -> crate::failure::Failure {
    let exit = match &error {
        ServerError::Unauthenticated { .. } | ServerError::Setting { .. } => Exit::Usage,
        _ => Exit::Machine,
    };
    crate::failure::Failure::new(exit, error.to_string())
}

impl Serve {
    /// Exchanges packs when they change, and tells clients.
    fn watch_packs(&self, parts: &Parts, hub: Arc<Hub>) -> Outcome<Watch> {
        let told = move |changed: &Changed| {
            hub.send_to_everybody(&Event::PacksChanged { packs: changed.packs.clone() });
        };
        Watch::start(parts.catalog.clone(), self.watch, told).or_fail(Exit::Machine, || "could not watch the packs")
    }

    fn server_config(&self) -> Outcome<ServerConfig> {
        let defaults = ServerConfig::default();
        Ok(ServerConfig {
            listen: self.listen.clone(),
            port: self.port,
            allow_unauthenticated_remote: self.allow_unauthenticated_remote,
            tenants_file: None,
            allowed_hosts: self.allowed_host.clone(),
            multi_user: self.multi_user,
            cors_origin: self.enable_cors_header.clone(),
            max_upload_size: self.max_upload_bytes()?.unwrap_or(defaults.max_upload_size),
            max_upload_size_given: self.max_upload_size.is_some(),
            compress_responses: self.enable_compress_response_body,
            front_end_root: self.front_end_root.clone(),
            example_workflow: self.example_workflow.clone(),
            argv: std::env::args().collect(),
            limits: ServerLimits {
                connections: self.max_connections,
                connections_per_address: self.max_connections_per_address,
                ..defaults.limits
            },
        })
    }
}
