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
use vivarium_packs::{Grants, InstalledPack, lock::Lock};
use vivarium_protocol::{
    error::{Invalid, PromptError},
    event::Event,
    history::{HistoryEntry, QueueItem},
    object_info::object_info,
    tenant::TenantId,
};
use vivarium_queue::{Lease, Queue};
use vivarium_tensor::Budget;

use crate::{
    config::WorkerConfig,
    devices::DeviceReport,
    ending::{Ended, Lost},
    engine::{Engine, RunningNode},
    events::{EventSink, Message, Target},
    offers::{CurrentOffers, PackOffers},
    place::{Here, Place},
    process::{ProcessError, ProcessSettings, Processes},
    progress::ProgressTracker,
    report::{LimitReport, MemoryReport, PackReport, PackStatus, PermissionReport},
    shared::{Parts, Reach, Shared},
};

/// Guests run on their host thread's stack, and objects call each other some levels deep.
pub(crate) const STACK_BYTES: usize = 64 << 20;
/// How long a thread waits for work before it looks whether it shall stop.
const PATIENCE: Duration = Duration::from_millis(250);

/// Takes the prompts of a queue and has them run, in this process or in processes of their own.
pub struct Worker {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
struct Inner {
    shared: Arc<Shared>,
    queue: Arc<dyn Queue>,
    events: Arc<dyn EventSink>,
    grants: Arc<Grants>,
    offers: CurrentOffers,
    place: Arc<dyn Place>,
    running: Running,
    stop: AtomicBool,
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
    /// Starts the threads. Prompts run in this process.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(config: WorkerConfig, parts: Parts) -> std::io::Result<Arc<Self>> {
        let (shared, reach) = parts.share(config);
        let place = Arc::new(Here { shared: shared.clone(), reach });
        Self::start_at(place, shared, parts)
    }

    /// The same, but prompts run in processes of their own. This one calls no guest any more.
    ///
    /// # Errors
    /// When the kernel lacks the walls around them, or the system refuses a thread.
    pub fn start_processes(
        config: WorkerConfig,
        parts: Parts,
        settings: ProcessSettings,
    ) -> Result<Arc<Self>, ProcessError> {
        let (shared, reach) = parts.share(config);
        let place = Processes::open(settings, shared.clone(), reach)?;
        Self::start_at(place, shared, parts).map_err(|source| ProcessError::Thread { source })
    }

    fn start_at(place: Arc<dyn Place>, shared: Arc<Shared>, parts: Parts) -> std::io::Result<Arc<Self>> {
        let Parts { queue, events, grants, .. } = parts;
        let (offers, running, stop) = (CurrentOffers::default(), Running::default(), AtomicBool::new(false));
        let inner = Arc::new(Inner { shared, queue, events, grants, offers, place, running, stop });
        let worker = Self { inner, threads: Mutex::default() };
        let config = &worker.inner.shared.config;
        for index in 0..config.prompts_at_once() {
            let inner = worker.inner.clone();
            let gpu = index % config.devices.gpus().max(1);
            let name = format!("worker-{index}");
            let thread = std::thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES);
            worker.threads.lock().push(thread.spawn(move || inner.work(&name, gpu))?);
        }
        Ok(Arc::new(worker))
    }

    /// Takes no more prompts, waits up to `patience` for the running ones, then gives those that still run back to the
    /// queue, from which the next start takes them.
    pub fn stop(&self, patience: Duration) {
        let inner = &self.inner;
        inner.stop.store(true, Ordering::Relaxed);
        inner.shared.config.devices.stop();
        let deadline = std::time::Instant::now() + patience;
        while !inner.running.prompts.lock().is_empty() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        inner.interrupt_all(|prompt| prompt.requeue = true, |_| true);
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
        inner.place.close();
    }
}

impl Parts {
    fn share(&self, config: WorkerConfig) -> (Arc<Shared>, Reach) {
        let reach = Reach {
            files: self.files.clone(),
            models: self.models.clone(),
            grants: self.grants.clone(),
            outside: self.outside.clone(),
            limits: self.limits.clone(),
            save_metadata: config.save_metadata,
        };
        let names = Some((self.files.clone(), self.models.clone()));
        (Arc::new(Shared::new(config, self.catalog.clone(), self.limits.clone(), names)), reach)
    }
}

impl Inner {
    /// Takes prompts while the GPU at a place works, if there are any; each runs on whichever suits it.
    fn work(&self, name: &str, gpu: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            if !self.shared.config.devices.may_take(gpu) {
                std::thread::sleep(PATIENCE);
                continue;
            }
            match self.queue.lease_wait(name, PATIENCE) {
                Ok(Some(lease)) => {
                    let held = |place: usize| self.shared.gpu_bytes(&lease.tenant, place);
                    let taken = self.shared.config.devices.take(gpu, held);
                    self.run_lease(lease, taken.place);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "the queue does not answer; trying again");
                    std::thread::sleep(PATIENCE);
                }
            }
        }
    }

    /// Tells the prompts that are meant to stop; answers whether there were any.
    fn interrupt_all(&self, change: impl Fn(&mut RunningPrompt), meant: impl Fn(&(TenantId, String)) -> bool) -> bool {
        let mut told = Vec::new();
        for (key, prompt) in self.running.prompts.lock().iter_mut().filter(|(key, _)| meant(key)) {
            change(prompt);
            prompt.interrupt.store(true, Ordering::Relaxed);
            told.push(key.clone());
        }
        // Outside of the lock: another process is told over a socket.
        told.iter().for_each(|(tenant, prompt_id)| self.place.interrupt(tenant, prompt_id));
        !told.is_empty()
    }

    fn send_status(&self, tenant: &TenantId) {
        let event = Event::status(self.queue.remaining(tenant));
        self.events.send(tenant, Target::Tenant, Message::Event(event));
    }

    fn run_lease(&self, mut lease: Lease, gpu: usize) {
        self.send_status(&lease.tenant);
        let interrupt = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(ProgressTracker::new(
            lease.tenant.clone(),
            lease.item.prompt_id.clone(),
            lease.client_id.clone(),
            self.events.clone(),
            self.shared.config.preview.as_wished(&lease.item.extra_data),
        ));
        let key = (lease.tenant.clone(), lease.item.prompt_id.clone());
        let entry = RunningPrompt {
            client_id: lease.client_id.clone(),
            interrupt: interrupt.clone(),
            progress: progress.clone(),
            requeue: false,
        };
        {
            let mut prompts = self.running.prompts.lock();
            let entry = prompts.entry(key.clone()).insert_entry(entry).into_mut();
            // It was taken just when the worker was told to stop, and came too late to be told so.
            if self.stop.load(Ordering::Relaxed) {
                entry.requeue = true;
                entry.interrupt.store(true, Ordering::Relaxed);
            }
        }
        // A defect of ours must cost one prompt, not the server.
        let ended = catch_unwind(AssertUnwindSafe(|| self.place.run(&lease, gpu, &interrupt, &progress)));
        let requeue = self.running.prompts.lock().remove(&key).is_some_and(|prompt| prompt.requeue);
        let ended =
            ended.unwrap_or_else(|_| Ended::failed(&lease, "the server failed while it ran this prompt; see its log"));
        let kept = if ended.lost == Some(Lost::WithItsGpu) {
            self.queue.requeue_lost(&lease)
        } else if ended.lost.is_some() || (requeue && !ended.status.completed) {
            self.queue.requeue(&lease)
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
                seconds => self.queue.spend_gpu(&lease.tenant, seconds),
            };
            spent.and_then(|()| self.queue.finish(&lease, entry, ended.seconds))
        };
        if let Err(error) = kept {
            tracing::error!(prompt = lease.item.prompt_id, %error, "the end of a prompt cannot be recorded");
        }
        self.send_status(&lease.tenant);
        progress.to_client(Event::executing_nothing(&lease.item.prompt_id));
    }
}

impl Engine for Worker {
    fn stop(&self, patience: Duration) {
        Worker::stop(self, patience);
    }

    fn validate(&self, tenant: &TenantId, mut prompt: Value, targets: Option<&[String]>) -> Result<Validated, Invalid> {
        let snapshot = self.inner.shared.catalog.snapshot();
        let offers = self.inner.offers.of(&snapshot);
        replace_classes(&mut prompt, &offers.replacements, |class| snapshot.definition(class).is_some());
        let definitions = self.inner.shared.definitions(tenant, snapshot.clone());
        let hook = self.inner.place.validators(tenant, &snapshot).map_err(|message| {
            let what = "The files of this tenant cannot be opened";
            Invalid::from(PromptError::new("storage_unavailable", what, message))
        })?;
        validate(prompt, targets, &definitions, hook.as_ref(), &self.inner.shared.config.graph_limits)
    }

    fn interrupt(&self, tenant: &TenantId, prompt_id: Option<&str>) -> bool {
        self.inner.interrupt_all(|_| {}, |(owner, id)| owner == tenant && prompt_id.is_none_or(|wanted| wanted == id))
    }

    fn free(&self, tenant: &TenantId, _unload_models: bool, free_memory: bool) {
        if free_memory {
            self.inner.place.free(tenant);
        }
    }

    fn running_node(&self, tenant: &TenantId) -> Option<RunningNode> {
        let prompts = self.inner.running.prompts.lock();
        let ((_, prompt_id), prompt) = prompts.iter().find(|((owner, _), _)| owner == tenant)?;
        Some(RunningNode {
            client_id: prompt.client_id.clone(),
            prompt_id: prompt_id.clone(),
            display_node: prompt.progress.current_display()?,
        })
    }

    fn object_info(&self, tenant: &TenantId, class: Option<&str>) -> Map<String, Value> {
        let snapshot = self.inner.shared.catalog.snapshot();
        let definitions = self.inner.shared.definitions(tenant, snapshot.clone());
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
        Lock::check_prompt(extra_data, &self.inner.shared.catalog.snapshot()).map_err(|message| {
            Invalid::from(PromptError::new(
                "packs_locked",
                "The workflow is locked to packs that are not there",
                message,
            ))
        })
    }

    fn catalog_generation(&self) -> u64 {
        self.inner.shared.catalog.snapshot().generation()
    }

    fn offers(&self, _: &TenantId) -> Arc<PackOffers> {
        self.inner.offers.of(&self.inner.shared.catalog.snapshot())
    }

    fn packs(&self, tenant: &TenantId) -> Vec<PackReport> {
        let snapshot = self.inner.shared.catalog.snapshot();
        snapshot.packs().iter().map(|pack| self.report_pack(tenant, pack)).collect()
    }

    fn limits(&self, tenant: &TenantId) -> Vec<LimitReport> {
        let now = self.inner.place.used(tenant);
        let used = |name: &str| match name {
            "tenant_tensor_bytes" => Some(now.tensors),
            "total_tensor_bytes" => Some(now.all),
            "tenant_gpu_bytes" => most_used(&self.inner.shared.tenant(tenant).gpu_memory),
            "total_gpu_bytes" => most_used(&self.inner.shared.gpu_memory),
            "cache_bytes" => Some(now.cache),
            _ => None,
        };
        let limits = self.inner.shared.limits.of(tenant, None);
        let entries = limits.entries().into_iter().chain(self.inner.shared.config.graph_limits.entries());
        entries
            .map(|entry| LimitReport {
                name: entry.name.to_owned(),
                value: entry.value,
                unit: entry.unit.to_owned(),
                description: entry.description.to_owned(),
                packs: self.inner.shared.limits.packs(tenant, entry.name),
                used: used(entry.name),
            })
            .collect()
    }

    fn memory(&self) -> MemoryReport {
        let limit = self.inner.shared.tensors.limit();
        MemoryReport { tensor_bytes_used: self.inner.place.tensor_bytes(), tensor_bytes_limit: limit }
    }

    fn devices(&self) -> Vec<DeviceReport> {
        let shared = &self.inner.shared;
        shared.config.devices.report(&shared.gpu_memory)
    }
}

/// On the fullest GPU: limits are for each of them.
fn most_used(gpu_memory: &[Arc<Budget>]) -> Option<u64> {
    gpu_memory.iter().map(|memory| memory.used()).max()
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
            granted: self.inner.grants.allows(tenant, &definition.name, &request.permission),
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
