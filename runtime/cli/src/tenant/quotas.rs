//! Flags of quotas, and quotas for people.

use clap::Args;
use vivarium_server::auth::Quotas;

use crate::options::size;

#[derive(Args, Clone, Debug)]
pub(crate) struct QuotaOptions {
    /// Bytes of all files, for example 50G [default of a new tenant: 20G]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    storage: Option<u64>,

    /// Prompts that may wait [default of a new tenant: 1000]
    #[arg(long, value_name = "N")]
    queue_length: Option<u64>,

    /// Prompts that may run at the same time, if the server has that many workers [default of a new tenant: 4]
    #[arg(long, value_name = "N")]
    concurrent_jobs: Option<u64>,

    /// Seconds of workers in any hour [default of a new tenant: 7200]
    #[arg(long, value_name = "N")]
    cpu_seconds: Option<u64>,

    /// Seconds of GPUs in any hour [default of a new tenant: 3600]
    #[arg(long, value_name = "N")]
    gpu_seconds: Option<u64>,
}

impl QuotaOptions {
    /// What is said, over what was.
    pub(crate) fn over(&self, before: Quotas) -> Quotas {
        Quotas {
            storage_bytes: self.storage.unwrap_or(before.storage_bytes),
            queue_length: self.queue_length.unwrap_or(before.queue_length),
            concurrent_jobs: self.concurrent_jobs.unwrap_or(before.concurrent_jobs),
            cpu_seconds_per_hour: self.cpu_seconds.unwrap_or(before.cpu_seconds_per_hour),
            gpu_seconds_per_hour: self.gpu_seconds.unwrap_or(before.gpu_seconds_per_hour),
        }
    }
}

/// Quotas in one line.
pub(crate) fn shown(quotas: &Quotas) -> String {
    format!(
        "storage {}, queue length {}, concurrent jobs {}, {} s of workers and {} s of GPUs per hour",
        bytes(quotas.storage_bytes),
        quotas.queue_length,
        quotas.concurrent_jobs,
        quotas.cpu_seconds_per_hour,
        quotas.gpu_seconds_per_hour
    )
}

/// A size with a unit, as the flags take it.
pub(crate) fn bytes(size: u64) -> String {
    let units = [("G", 30), ("M", 20), ("K", 10)];
    match units.into_iter().find(|(_, shift)| size >> shift > 0) {
        Some((unit, shift)) => format!("{:.1}{unit}", size as f64 / (1_u64 << shift) as f64),
        None => size.to_string(),
    }
}
