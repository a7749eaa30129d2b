//! Threads that take prompts from the queue and run them, and the answers to the server's questions.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use vivarium_graph::{Validated, replace_classes, validate};
use vivarium_packs::{InstalledPack, lock::Lock};
use vivarium_protocol::{
    error::{Invalid, PromptError},
    event::Event,
    history::{HistoryEntry, QueueItem},
    object_info::object_info,
    prompt::read_prompt,
    tenant::TenantId,
};
use vivarium_queue::Lease;

use crate::{
    config::WorkerConfig,
    definitions::GuestValidators,
    device::DeviceReport,
    engine::{Engine, RunningNode},
    events::{Message, Target},
    offers::PackOffers,
    progress::ProgressTracker,
    report::{LimitReport, MemoryReport, PackReport, PackStatus, PermissionReport},
    run::{Ended, PromptRun},
    shared::{Parts, Shared},
};

/// Guests run on their host thread's stack, and objects call each other some levels deep.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// How long a thread waits for work before it looks whether it shall stop.
const PATIENCE: Duration = Duration::from_millis(250);

/// Runs the prompts of a queue inside this process.
pub struct Worker {
    shared: Arc<Shared>,
    running: Arc<Running>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The prompts that run now.
#[derive(Default)]
struct Running {
    prompts: Mutex<HashMap<(TenantId, String), RunningPrompt>>,
}

struct RunningPrompt {
    client_id: Option<String>,
    interrupt: Arc<AtomicBool>,
    progress: Arc<ProgressTracker>,
    /// Give it back to the queue instead of ending it: the server shuts down.
    requeue: bool,
}

impl Worker {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(config: WorkerConfig, parts: Parts) -> std::io::Result<Arc<Self>> {
        let worker = Self {
            shared: Arc::new(Shared::new(config, parts)),
            running: Arc::default(),
            stop: Arc::default(),
            threads: Mutex::default(),
        };
        for index in 0..worker.shared.config.workers.max(1) {
            let (shared, running, stop) = (worker.shared.clone(), worker.running.clone(), worker.stop.clone());
            let name = format!("worker-{index}");
            let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES);
            worker.threads.lock().push(thread.spawn(move || work(&name, &shared, &running, &stop))?);
        }
        Ok(Arc::new(worker))
    }

    /// Takes no more prompts, waits up to `patience` for the running ones, then gives those that still run back to the
    /// queue, from which the next start takes them.
    pub fn stop(&self, patience: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let deadline = std::time::Instant::now() + patience;
        while !self.running.prompts.lock().is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        for prompt in self.running.prompts.lock().values_mut() {
            prompt.requeue = true;
            prompt.interrupt.store(true, Ordering::Relaxed);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn work(name: &str, shared: &Shared, running: &Running, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match shared.queue.lease_wait(name, PATIENCE) {
            Ok(Some(lease)) => run_lease(shared, running, stop, lease),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the queue does not answer; trying again");
                std::thread::sleep(PATIENCE);
            }
        }
    }
}

fn send_status(shared: &Shared, tenant: &TenantId) {
    let event = Event::status(shared.queue.remaining(tenant));
    shared.events.send(tenant, Target::Tenant, Message::Event(event));
}

fn run_lease(shared: &Shared, running: &Running, stop: &AtomicBool, mut lease: Lease) {
    send_status(shared, &lease.tenant);
    let interrupt = Arc::new(AtomicBool::new(false));
    let progress = Arc::new(ProgressTracker::new(
        lease.tenant.clone(),
        lease.item.prompt_id.clone(),
        lease.client_id.clone(),
        shared.events.clone(),
        shared.config.preview.as_wished(&lease.item.extra_data),
    ));
    let key = (lease.tenant.clone(), lease.item.prompt_id.clone());
    let entry = RunningPrompt {
        client_id: lease.client_id.clone(),
        interrupt: interrupt.clone(),
        progress: progress.clone(),
        requeue: false,
    };
    {
        let mut prompts = running.prompts.lock();
        let entry = prompts.entry(key.clone()).insert_entry(entry).into_mut();
        // It was taken just when the worker was told to stop, and came too late to be told so.
        if stop.load(Ordering::Relaxed) {
            entry.requeue = true;
            entry.interrupt.store(true, Ordering::Relaxed);
        }
    }
    // A defect of ours must cost one prompt, not the server.
    let ended = catch_unwind(AssertUnwindSafe(|| run_prompt(shared, &lease, interrupt, progress.clone())));
    let requeue = running.prompts.lock().remove(&key).is_some_and(|prompt| prompt.requeue);
    let ended =
        ended.unwrap_or_else(|_| Ended::failed(&lease, "the server failed while it ran this prompt; see its log"));
    // Nothing of it is lost for a GPU that failed: it runs again, on the CPU.
    let kept = if ended.lost_to_gpu || (requeue && !ended.status.completed) {
        shared.queue.requeue(&lease)
    } else {
        // Moved, since it may be large.
        let prompt = std::mem::take(&mut lease.item.prompt);
        let entry = HistoryEntry {
            prompt: QueueItem { prompt, ..lease.item.clone() },
            outputs: ended.outputs,
            status: Some(ended.status),
            meta: ended.meta,
        };
        let spent = match ended.gpu_seconds {
            0.0 => Ok(()),
            seconds => shared.queue.spend_gpu(&lease.tenant, seconds),
        };
        spent.and_then(|()| shared.queue.finish(&lease, entry, ended.seconds))
    };
    if let Err(error) = kept {
        tracing::error!(prompt = lease.item.prompt_id, %error, "the end of a prompt cannot be recorded");
    }
    send_status(shared, &lease.tenant);
    progress.to_client(Event::executing_nothing(&lease.item.prompt_id));
}

fn run_prompt(shared: &Shared, lease: &Lease, interrupt: Arc<AtomicBool>, progress: Arc<ProgressTracker>) -> Ended {
    let prompt = match read_prompt(&lease.item.prompt) {
        Ok(prompt) => prompt,
        Err(error) => {
            return Ended::failed(lease, &format!("the stored prompt cannot be read: {error}"));
        }
    };
    match shared.services(&lease.tenant, Some(progress.clone())) {
        Ok(services) => PromptRun::new(shared, lease, interrupt, progress, services, prompt).run(),
        Err(error) => Ended::failed(lease, &error.to_string()),
    }
}

impl Engine for Worker {
    fn stop(&self, patience: Duration) {
        Worker::stop(self, patience);
    }

    fn validate(&self, tenant: &TenantId, mut prompt: Value, targets: Option<&[String]>) -> Result<Validated, Invalid> {
        let snapshot = self.shared.catalog.snapshot();
        let offers = self.shared.offers.of(&snapshot);
        replace_classes(&mut prompt, &offers.replacements, |class| snapshot.definition(class).is_some());
        let definitions = self.shared.definitions(tenant, snapshot.clone());
        let services = self.shared.services(tenant, None).map_err(|error| {
            Invalid::from(PromptError::new(
                "storage_unavailable",
                "The files of this tenant cannot be opened",
                error.to_string(),
            ))
        })?;
        let call = self.shared.call_context(tenant, "", "", &Arc::default(), services);
        let hook = GuestValidators { snapshot: &snapshot, call };
        validate(prompt, targets, &definitions, &hook, &self.shared.config.graph_limits)
    }

    fn interrupt(&self, tenant: &TenantId, prompt_id: Option<&str>) -> bool {
        let prompts = self.running.prompts.lock();
        let mut told = false;
        for ((owner, id), prompt) in prompts.iter() {
            if owner == tenant && prompt_id.is_none_or(|wanted| wanted == id) {
                prompt.interrupt.store(true, Ordering::Relaxed);
                told = true;
            }
        }
        told
    }

    fn free(&self, tenant: &TenantId, _unload_models: bool, free_memory: bool) {
        if free_memory {
            self.shared.cache(tenant).lock().clear();
        }
    }

    fn running_node(&self, tenant: &TenantId) -> Option<RunningNode> {
        let prompts = self.running.prompts.lock();
        let ((_, prompt_id), prompt) = prompts.iter().find(|((owner, _), _)| owner == tenant)?;
        Some(RunningNode {
            client_id: prompt.client_id.clone(),
            prompt_id: prompt_id.clone(),
            display_node: prompt.progress.current_display()?,
        })
    }

    fn object_info(&self, tenant: &TenantId, class: Option<&str>) -> Map<String, Value> {
        let snapshot = self.shared.catalog.snapshot();
        let definitions = self.shared.definitions(tenant, snapshot.clone());
        snapshot
            .classes()
            .filter(|(node, _)| class.is_none_or(|wanted| wanted == node.class_type))
            .map(|(node, component)| {
                let module = format!("custom_nodes.{}", component.name());
                (node.class_type.clone(), object_info(node, &module, &|from| definitions.names(from)))
            })
            .collect()
    }

    fn check_lock(&self, extra_data: &Map<String, Value>) -> Result<(), Invalid> {
        Lock::check_prompt(extra_data, &self.shared.catalog.snapshot()).map_err(|message| {
            Invalid::from(PromptError::new(
                "packs_locked",
                "The workflow is locked to packs that are not there",
                message,
            ))
        })
    }

    fn catalog_generation(&self) -> u64 {
        self.shared.catalog.snapshot().generation()
    }

    fn offers(&self, _: &TenantId) -> Arc<PackOffers> {
        self.shared.offers.of(&self.shared.catalog.snapshot())
    }

    fn packs(&self, tenant: &TenantId) -> Vec<PackReport> {
        let snapshot = self.shared.catalog.snapshot();
        snapshot.packs().iter().map(|pack| self.report_pack(tenant, pack)).collect()
    }

    fn limits(&self, tenant: &TenantId) -> Vec<LimitReport> {
        let used = |name: &str| match name {
            "tenant_tensor_bytes" => Some(self.shared.budget(tenant).used()),
            "total_tensor_bytes" => Some(self.shared.tensors.used()),
            "tenant_gpu_bytes" => self.shared.tenant(tenant).gpu_memory.map(|memory| memory.used()),
            "total_gpu_bytes" => self.shared.gpu_memory.as_ref().map(|memory| memory.used()),
            "cache_bytes" => Some(self.shared.cache(tenant).lock().bytes()),
            _ => None,
        };
        let limits = self.shared.limits.of(tenant, None);
        let entries = limits.entries().into_iter().chain(self.shared.config.graph_limits.entries());
        entries
            .map(|entry| LimitReport {
                name: entry.name.to_owned(),
                value: entry.value,
                unit: entry.unit.to_owned(),
                description: entry.description.to_owned(),
                packs: self.shared.limits.packs(tenant, entry.name),
                used: used(entry.name),
            })
            .collect()
    }

    fn memory(&self) -> MemoryReport {
        MemoryReport { tensor_bytes_used: self.shared.tensors.used(), tensor_bytes_limit: self.shared.tensors.limit() }
    }

    fn device(&self) -> DeviceReport {
        self.shared.config.device.report(self.shared.gpu_memory.as_deref())
    }
}

impl Worker {
    fn report_pack(&self, tenant: &TenantId, pack: &InstalledPack) -> PackReport {
        let component = match &pack.component {
            Ok(component) => component,
            Err(error) => {
                return PackReport {
                    name: pack.file_name(),
                    version: String::new(),
                    publisher: String::new(),
                    description: String::new(),
                    license: String::new(),
                    digest: String::new(),
                    file: pack.file_name(),
                    nodes: Vec::new(),
                    permissions: Vec::new(),
                    imports: Vec::new(),
                    status: PackStatus::Failed,
                    error: Some(error.to_string()),
                };
            }
        };
        let definition = component.definition();
        let permissions = pack.requests().into_iter().map(|request| PermissionReport {
            granted: self.shared.grants.allows(tenant, &definition.name, &request.permission),
            permission: request.permission.to_string(),
            reason: request.reason,
        });
        PackReport {
            name: definition.name.clone(),
            version: definition.version.clone(),
            publisher: definition.publisher.clone(),
            description: definition.description.clone(),
            license: definition.license.clone(),
            digest: component.digest().to_owned(),
            file: pack.file_name(),
            nodes: definition.nodes.iter().map(|node| node.class_type.clone()).collect(),
            permissions: permissions.collect(),
            imports: component.imports().to_vec(),
            status: PackStatus::Ready,
            error: None,
        }
    }
}
