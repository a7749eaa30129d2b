//! Where prompts run: in this process, or in processes of their own ([`crate::process`]).

use std::sync::{Arc, atomic::AtomicBool};

use vivarium_graph::ValidateHook;
use vivarium_packs::Snapshot;
use vivarium_protocol::{prompt::read_prompt, tenant::TenantId};
use vivarium_queue::Lease;
use vivarium_sandbox::HostServices;

use crate::{
    definitions::GuestValidators,
    ending::Ended,
    progress::ProgressTracker,
    run::PromptRun,
    shared::{Reach, Shared},
};

/// What takes prompts that were leased, and runs what is a guest's.
pub(crate) trait Place: Send + Sync {
    /// Asks the validators of packs, on behalf of a tenant.
    ///
    /// # Errors
    /// Why none can be asked, in words.
    fn validators<'a>(
        &'a self,
        tenant: &'a TenantId,
        snapshot: &'a Snapshot,
    ) -> Result<Box<dyn ValidateHook + 'a>, String>;

    /// Runs a prompt to its end, whatever that is, on the GPU at a place, if there are any here.
    fn run(&self, lease: &Lease, gpu: usize, interrupt: &Arc<AtomicBool>, progress: &Arc<ProgressTracker>) -> Ended;

    /// The flag that came with a prompt was set.
    fn interrupt(&self, _tenant: &TenantId, _prompt_id: &str) {}

    /// Drops a tenant's kept results.
    fn free(&self, tenant: &TenantId);

    /// What a tenant holds.
    fn used(&self, tenant: &TenantId) -> Used;

    /// Bytes of everybody's tensors.
    fn tensor_bytes(&self) -> u64;

    /// Nothing runs any more, and nothing will.
    fn close(&self) {}
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Used {
    /// Tensors of the tenant.
    pub(crate) tensors: u64,
    /// Its kept results.
    pub(crate) cache: u64,
    /// Everybody's tensors.
    pub(crate) all: u64,
}

/// This process.
pub(crate) struct Here {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reach: Reach,
}

impl Place for Here {
    fn validators<'a>(
        &'a self,
        tenant: &'a TenantId,
        snapshot: &'a Snapshot,
    ) -> Result<Box<dyn ValidateHook + 'a>, String> {
        let services = self.reach.services(tenant, None).map_err(|error| error.to_string())?;
        let call = self.shared.call_context(tenant, "", "", &Arc::default(), services);
        Ok(Box::new(GuestValidators { snapshot, call }))
    }

    fn run(&self, lease: &Lease, gpu: usize, interrupt: &Arc<AtomicBool>, progress: &Arc<ProgressTracker>) -> Ended {
        match self.reach.services(&lease.tenant, Some(progress.clone())) {
            Ok(services) => self.shared.run(lease, gpu, interrupt.clone(), progress.clone(), services),
            Err(error) => Ended::failed(lease, &error.to_string()),
        }
    }

    fn free(&self, tenant: &TenantId) {
        self.shared.cache(tenant).lock().clear();
    }

    fn used(&self, tenant: &TenantId) -> Used {
        self.shared.used(tenant)
    }

    fn tensor_bytes(&self) -> u64 {
        self.shared.tensors.used()
    }
}

impl Shared {
    /// Runs a prompt on this thread, with the services of its tenant.
    pub(crate) fn run(
        &self,
        lease: &Lease,
        gpu: usize,
        interrupt: Arc<AtomicBool>,
        progress: Arc<ProgressTracker>,
        services: Arc<dyn HostServices>,
    ) -> Ended {
        match read_prompt(&lease.item.prompt) {
            Ok(prompt) => PromptRun::new(self, lease, interrupt, progress, services, prompt, gpu).run(),
            Err(error) => Ended::failed(lease, &format!("the stored prompt cannot be read: {error}")),
        }
    }

    pub(crate) fn used(&self, tenant: &TenantId) -> Used {
        let tensors = self.budget(tenant).used();
        let cache = self.cache(tenant).lock().bytes();
        Used { tensors, cache, all: self.tensors.used() }
    }
}
