//! What all prompts of a process share.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use vivarium_blobs::{BlobError, ModelFolders, NamedFolders, ScratchFolders, TenantFiles};
use vivarium_outbound::HttpClient;
use vivarium_packs::{Catalog, Grants, Snapshot};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::Queue;
use vivarium_sandbox::{CallContext, HostServices, LimitTable};
use vivarium_tensor::{Budget, Gpu, GpuJob};

use crate::{
    config::{CacheMode, WorkerConfig},
    definitions::TenantDefinitions,
    events::EventSink,
    memory::MachineMemory,
    progress::ProgressTracker,
    result_cache::ResultCache,
    services::NodeServices,
};

/// Finds the folders of a tenant.
pub type FilesOf = Arc<dyn Fn(&TenantId) -> Result<Arc<TenantFiles>, BlobError> + Send + Sync>;

/// What packs reach only with permissions for it.
#[derive(Clone)]
pub struct Outside {
    /// The network.
    pub http: Arc<dyn HttpClient>,
    /// What packs keep between prompts.
    pub scratch: ScratchFolders,
    /// More folders of the operator's.
    pub folders: NamedFolders,
}

/// What a worker is put together from.
#[derive(Clone)]
pub struct Parts {
    /// The installed packs.
    pub catalog: Arc<Catalog>,
    /// What they were granted.
    pub grants: Arc<Grants>,
    /// Where prompts wait.
    pub queue: Arc<dyn Queue>,
    /// The folders of tenants; the server is given the same ones.
    pub files: FilesOf,
    /// Where models lie.
    pub models: Arc<ModelFolders>,
    /// What is beyond files and models.
    pub outside: Outside,
    /// Takes events for clients.
    pub events: Arc<dyn EventSink>,
    /// Limits on guests; those of the server are the same that the sandbox was made with.
    pub limits: Arc<LimitTable>,
}

/// What running prompts share.
pub(crate) struct Shared {
    pub(crate) config: WorkerConfig,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) limits: Arc<LimitTable>,
    pub(crate) tensors: Arc<Budget>,
    /// Of each GPU, by place.
    pub(crate) gpu_memory: Vec<Arc<Budget>>,
    /// Where choices of file names come from. Absent in a process that does not check prompts.
    names: Option<(FilesOf, Arc<ModelFolders>)>,
    tenants: Mutex<HashMap<TenantId, TenantState>>,
}

/// Makes the services of tenants.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) files: FilesOf,
    pub(crate) models: Arc<ModelFolders>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) outside: Outside,
    pub(crate) limits: Arc<LimitTable>,
    pub(crate) save_metadata: bool,
}

impl Reach {
    /// The services of a tenant's prompt; without a tracker for calls outside of a run.
    pub(crate) fn services(
        &self,
        tenant: &TenantId,
        progress: Option<Arc<ProgressTracker>>,
    ) -> Result<Arc<NodeServices>, BlobError> {
        Ok(Arc::new(NodeServices {
            tenant: tenant.clone(),
            files: (self.files)(tenant)?,
            models: self.models.clone(),
            grants: self.grants.clone(),
            outside: self.outside.clone(),
            limits: self.limits.clone(),
            save_metadata: self.save_metadata,
            progress,
        }))
    }
}

/// What a tenant holds.
#[derive(Clone)]
pub(crate) struct TenantState {
    /// Pays for tensors and results.
    pub(crate) budget: Arc<Budget>,
    /// The same on each GPU, by place.
    pub(crate) gpu_memory: Vec<Arc<Budget>>,
    pub(crate) cache: Arc<Mutex<ResultCache>>,
    /// How long the last call of each class took.
    pub(crate) pace: Arc<Mutex<HashMap<String, Duration>>>,
}

/// What a prompt has of a GPU.
pub(crate) struct PromptGpu {
    /// Which one.
    pub(crate) place: usize,
    pub(crate) job: GpuJob,
}

impl Shared {
    pub(crate) fn new(
        config: WorkerConfig,
        catalog: Arc<Catalog>,
        limits: Arc<LimitTable>,
        names: Option<(FilesOf, Arc<ModelFolders>)>,
    ) -> Self {
        let tensors = Budget::named(
            "tensor memory of the server (total_tensor_bytes, --tensor-memory)",
            limits.server().total_tensor_bytes,
        );
        let gpu_memory = config.devices.memory_bytes().map(|(place, bytes)| {
            let limit = limits.server().total_gpu_bytes.min(bytes);
            let device = config.devices.name(Some(place));
            Budget::named(format!("memory of {device} (total_gpu_bytes, --gpu-memory)"), limit)
        });
        let gpu_memory = gpu_memory.collect();
        Self { config, catalog, limits, tensors, gpu_memory, names, tenants: Mutex::default() }
    }

    pub(crate) fn tenant(&self, tenant: &TenantId) -> TenantState {
        let mut tenants = self.tenants.lock();
        if let Some(state) = tenants.get(tenant) {
            return state.clone();
        }
        let limits = self.limits.of(tenant, None);
        let name = format!("tensor memory of tenant {tenant} (tenant_tensor_bytes, --tenant-tensor-memory)");
        let state = TenantState {
            budget: self.tensors.named_child(name, limits.tenant_tensor_bytes),
            gpu_memory: self
                .gpu_memory
                .iter()
                .enumerate()
                .map(|(place, memory)| {
                    let device = self.config.devices.name(Some(place));
                    let name = format!("memory of {device} of tenant {tenant} (tenant_gpu_bytes, --tenant-gpu-memory)");
                    memory.named_child(name, limits.tenant_gpu_bytes)
                })
                .collect(),
            cache: Arc::new(Mutex::new(ResultCache::new(limits.cache_bytes))),
            pace: Arc::default(),
        };
        tenants.insert(tenant.clone(), state.clone());
        state
    }

    pub(crate) fn cache(&self, tenant: &TenantId) -> Arc<Mutex<ResultCache>> {
        self.tenant(tenant).cache
    }

    pub(crate) fn budget(&self, tenant: &TenantId) -> Arc<Budget> {
        self.tenant(tenant).budget
    }

    /// Bytes that a tenant has on a GPU.
    pub(crate) fn gpu_bytes(&self, tenant: &TenantId, place: usize) -> u64 {
        self.tenant(tenant).gpu_memory.get(place).map_or(0, |memory| memory.used())
    }

    /// What a prompt of a tenant has of a GPU: of that at `place`, or of another if that one fails just now. None where no GPU
    /// works.
    pub(crate) fn gpu_job(&self, tenant: &TenantState, place: usize) -> Option<PromptGpu> {
        for (place, gpu) in self.config.devices.working(place) {
            let memory = tenant.gpu_memory.get(place)?.clone();
            match gpu.job(memory) {
                Ok(job) => {
                    self.config.devices.begun(place);
                    return Some(PromptGpu { place, job });
                }
                Err(error) => self.gpu_failed(place, &gpu, &error.to_string()),
            }
        }
        None
    }

    /// Gives a GPU up, with all kept results: some of them may be in its memory only.
    pub(crate) fn gpu_failed(&self, place: usize, gpu: &Gpu, reason: &str) {
        self.config.devices.fail(place, gpu, reason, |failures| {
            let caches: Vec<_> = self.tenants.lock().values().map(|state| state.cache.clone()).collect();
            caches.iter().for_each(|cache| cache.lock().clear_lost(failures));
        });
    }

    /// Whether a GPU has failed since there were so many failures. Looks at all of them: one that nobody computes on may have
    /// failed with results in its memory.
    pub(crate) fn gpus_failed_since(&self, failures: u64) -> bool {
        self.config.devices.check(|place, gpu, reason| self.gpu_failed(place, gpu, reason));
        self.config.devices.failures() != failures
    }

    /// Bytes that the machine lacks of the headroom that the cache shall leave; 0 in other modes.
    pub(crate) fn lacking_memory(&self) -> u64 {
        let CacheMode::Ram { headroom } = self.config.cache else { return 0 };
        MachineMemory::read().map_or(0, |memory| headroom.saturating_sub(memory.available))
    }

    /// Drops kept results that nobody uses, of the tenant that keeps most first. Answers how many bytes that freed.
    pub(crate) fn shrink_caches(&self, bytes: u64) -> u64 {
        let mut caches: Vec<_> = self.tenants.lock().values().map(|state| state.cache.clone()).collect();
        caches.sort_by_cached_key(|cache| std::cmp::Reverse(cache.lock().bytes()));
        caches.iter().fold(0, |freed, cache| freed + cache.lock().shrink(bytes.saturating_sub(freed)))
    }

    pub(crate) fn definitions(&self, tenant: &TenantId, snapshot: Arc<Snapshot>) -> TenantDefinitions {
        let Some((files, models)) = &self.names else {
            return TenantDefinitions { snapshot, files: None, models: None };
        };
        let files = files(tenant)
            .inspect_err(|error| tracing::error!(%tenant, %error, "the tenant's folders cannot be opened"))
            .ok();
        TenantDefinitions { snapshot, files, models: Some(models.clone()) }
    }

    pub(crate) fn call_context(
        &self,
        tenant: &TenantId,
        prompt_id: &str,
        node_id: &str,
        interrupt: &Arc<AtomicBool>,
        services: Arc<dyn HostServices>,
    ) -> CallContext {
        CallContext {
            tenant: tenant.clone(),
            prompt_id: Arc::from(prompt_id),
            node_id: Arc::from(node_id),
            limits: self.limits.of(tenant, None),
            budget: self.budget(tenant),
            gpu: None,
            interrupt: interrupt.clone(),
            deadline: None,
            services,
            depth: 0,
        }
    }
}

/// Milliseconds since 1970, as ComfyUI's timestamps are.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
