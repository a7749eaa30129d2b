//! What a tenant may use.

use serde::{Deserialize, Serialize};

/// Quotas of a tenant; they hold for all its tokens and connections together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Bytes of all its files: uploads, outputs, previews and user data.
    pub storage_bytes: u64,
    /// Prompts that wait.
    pub queue_length: u64,
    /// Prompts that run at the same time.
    pub concurrent_jobs: u64,
    /// Seconds of workers in any hour; what runs is counted when it ends.
    pub cpu_seconds_per_hour: u64,
    /// Seconds of GPUs in any hour, counted likewise.
    pub gpu_seconds_per_hour: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            storage_bytes: 20 * 1024 * 1024 * 1024,
            queue_length: 1000,
            concurrent_jobs: 4,
            // Two workers, busy all the time.
            cpu_seconds_per_hour: 7200,
            // One GPU, busy all the time.
            gpu_seconds_per_hour: 3600,
        }
    }
}

impl From<Quotas> for vivarium_queue::TenantQuota {
    fn from(quotas: Quotas) -> Self {
        Self {
            max_pending: usize::try_from(quotas.queue_length).unwrap_or(usize::MAX),
            max_leased: usize::try_from(quotas.concurrent_jobs).unwrap_or(usize::MAX),
            seconds_per_hour: quotas.cpu_seconds_per_hour as f64,
            gpu_seconds_per_hour: quotas.gpu_seconds_per_hour as f64,
        }
    }
}
