//! What the server asks of a worker.

use std::sync::Arc;

use serde_json::{Map, Value};
use vivarium_graph::{Invalid, Validated};
use vivarium_protocol::tenant::TenantId;

use crate::{
    devices::DeviceReport,
    offers::PackOffers,
    report::{LimitReport, MemoryReport, PackReport},
};

/// The part of a worker that the server sees. [`crate::Worker`] is the implementation for one process.
pub trait Engine: Send + Sync {
    /// Checks a prompt as ComfyUI does, with the nodes' own validators. Blocking: runs guests.
    ///
    /// # Errors
    /// [`Invalid`] when nothing of the prompt can run.
    fn validate(&self, tenant: &TenantId, prompt: Value, targets: Option<&[String]>) -> Result<Validated, Invalid>;

    /// Whether the packs are there that a prompt was locked to, if it was.
    ///
    /// # Errors
    /// [`Invalid`] names those that are not.
    fn check_lock(&self, extra_data: &Map<String, Value>) -> Result<(), Invalid>;

    /// Stops the running prompt of the tenant, or the given one if it runs. True when something was told to stop.
    fn interrupt(&self, tenant: &TenantId, prompt_id: Option<&str>) -> bool;

    /// Takes no more prompts, waits up to `patience` for the running ones, then gives those that still run back to the
    /// queue, from which the next start takes them. Blocking; a second call has nothing left to do.
    fn stop(&self, patience: std::time::Duration);

    /// ComfyUI's `/free`: drops cached results, once the running prompt is done.
    fn free(&self, tenant: &TenantId, unload_models: bool, free_memory: bool);

    /// What the tenant's prompt is at, for a socket that connects meanwhile.
    fn running_node(&self, tenant: &TenantId) -> Option<RunningNode>;

    /// ComfyUI's `object_info`, for one class or for all.
    fn object_info(&self, tenant: &TenantId, class: Option<&str>) -> Map<String, Value>;

    /// Changes whenever the set of packs changes.
    fn catalog_generation(&self) -> u64;

    /// Every pack in the packs folder.
    fn packs(&self, tenant: &TenantId) -> Vec<PackReport>;

    /// What packs give front ends beside nodes.
    fn offers(&self, tenant: &TenantId) -> Arc<PackOffers>;

    /// Every limit in force.
    fn limits(&self, tenant: &TenantId) -> Vec<LimitReport>;

    /// Tensor memory now.
    fn memory(&self) -> MemoryReport;

    /// What tensors are computed on: what computes now first, then GPUs that failed.
    fn devices(&self) -> Vec<DeviceReport>;
}

/// Where a running prompt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningNode {
    /// Who queued the prompt.
    pub client_id: Option<String>,
    /// The prompt.
    pub prompt_id: String,
    /// The node as clients see it.
    pub display_node: String,
}
