//! What nodes may use and do.

use std::time::Duration;

use clap::Args;
use vivarium_graph::GraphLimits;
use vivarium_packs::{Grant, Grants};
use vivarium_sandbox::{LimitFile, Limits};

use super::{Folders, size};
use crate::failure::{Exit, OrFail, Outcome, fail};

/// Limits on nodes that operators change; `vivarium doctor` lists all of them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Tensors of everybody together, for example 16G [default: 8G]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    tensor_memory: Option<u64>,

    /// Tensors of one tenant, cached results included [default: 3/4 of --tensor-memory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    tenant_tensor_memory: Option<u64>,

    /// Tensors that one node may hold at once [default: 1/2 of --tensor-memory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    node_tensor_memory: Option<u64>,

    /// Tensors of everybody in the memory of each GPU; the rest stays for others [default: nine tenths of what it has]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    gpu_memory: Option<u64>,

    /// Tensors of one tenant in the memory of each GPU [default: --gpu-memory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    tenant_gpu_memory: Option<u64>,

    /// Own memory of one node while it runs [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    guest_memory: Option<u64>,

    /// Results of nodes that one tenant keeps for later prompts [default: 2/3 of --tenant-tensor-memory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    cache_memory: Option<u64>,

    /// How long one node may run [default: 600]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    node_timeout: Option<f64>,

    /// Memory of the process that compiles a new pack [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    compile_memory: Option<u64>,

    /// How long compiling a new pack may take [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    compile_time: Option<u64>,

    /// How long all nodes of one prompt may run [default: 86400]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    prompt_timeout: Option<f64>,

    /// Nodes of one prompt [default: 100000]
    #[arg(long, value_name = "N", value_parser = count)]
    prompt_nodes: Option<usize>,

    /// Nodes that expansions may add to one prompt [default: 100000]
    #[arg(long, value_name = "N", value_parser = count)]
    expanded_nodes: Option<usize>,

    /// Expansions in expansions; a loop made of them takes one per round [default: 10000]
    #[arg(long, value_name = "N", value_parser = count)]
    expansion_depth: Option<usize>,
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("is not a whole number above 0".to_owned()),
    }
}

fn seconds(flag: &str, seconds: f64) -> Outcome<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => fail!(Exit::Usage, "{flag} {seconds} is not a time in seconds"),
    }
}

impl LimitOptions {
    /// The limits that `limits.toml` gives the server, with what was given.
    ///
    /// # Errors
    /// When the file can't be used, or a part is larger than the whole it belongs to.
    pub(crate) fn resolve_in(&self, folders: &Folders) -> Outcome<Limits> {
        let file = LimitFile::read(&folders.limits()).or_fail(Exit::Usage, || "could not read the limits")?;
        self.over(file.server())
    }

    /// The default limits with what was given.
    ///
    /// # Errors
    /// When a part is larger than the whole it belongs to.
    pub(crate) fn resolve(&self) -> Outcome<Limits> {
        self.over(Limits::default())
    }

    fn over(&self, mut limits: Limits) -> Outcome<Limits> {
        if let Some(total) = self.tensor_memory {
            limits.total_tensor_bytes = total;
            limits.tenant_tensor_bytes = total / 4 * 3;
            limits.call_tensor_bytes = total / 2;
        }
        if let Some(tenant) = self.tenant_tensor_memory {
            limits.tenant_tensor_bytes = tenant;
            limits.call_tensor_bytes = limits.call_tensor_bytes.min(tenant);
        }
        limits.call_tensor_bytes = self.node_tensor_memory.unwrap_or(limits.call_tensor_bytes);
        limits.total_gpu_bytes = self.gpu_memory.unwrap_or(limits.total_gpu_bytes);
        limits.tenant_gpu_bytes = self.tenant_gpu_memory.unwrap_or(limits.tenant_gpu_bytes);
        limits.guest_memory = self.guest_memory.unwrap_or(limits.guest_memory);
        if self.tensor_memory.or(self.tenant_tensor_memory).is_some() {
            limits.cache_bytes = limits.tenant_tensor_bytes / 3 * 2;
        }
        limits.cache_bytes = self.cache_memory.unwrap_or(limits.cache_bytes);
        if let Some(given) = self.node_timeout {
            limits.execute_time = seconds("--node-timeout", given)?;
        }
        if let Some(given) = self.prompt_timeout {
            limits.prompt_time = seconds("--prompt-timeout", given)?;
        }
        limits.compile_memory = self.compile_memory.unwrap_or(limits.compile_memory);
        limits.compile_time = self.compile_time.map_or(limits.compile_time, Duration::from_secs);
        if limits.tenant_tensor_bytes > limits.total_tensor_bytes {
            fail!(
                Exit::Usage,
                "--tenant-tensor-memory is more than --tensor-memory: one tenant can't have more than all"
            );
        }
        if limits.call_tensor_bytes > limits.tenant_tensor_bytes {
            fail!(Exit::Usage, "--node-tensor-memory is more than what its tenant may hold (--tenant-tensor-memory)");
        }
        Ok(limits)
    }

    /// The limits on prompts.
    pub(crate) fn graph(&self) -> GraphLimits {
        let defaults = GraphLimits::default();
        GraphLimits {
            max_nodes: self.prompt_nodes.unwrap_or(defaults.max_nodes),
            max_ephemeral_nodes: self.expanded_nodes.unwrap_or(defaults.max_ephemeral_nodes),
            max_expansion_depth: self.expansion_depth.unwrap_or(defaults.max_expansion_depth),
            ..defaults
        }
    }
}

/// Permissions that packs have.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Permissions")]
pub(crate) struct GrantOptions {
    /// Let a pack do what it asks for, for every tenant and as long as this runs, for example my-pack:models/vae;
    /// `vivarium pack list` shows what packs ask for, `vivarium pack grant` gives it for good
    #[arg(long, value_name = "PACK:PERMISSION")]
    grant: Vec<Grant>,
}

impl GrantOptions {
    /// For every tenant.
    pub(crate) fn resolve(&self) -> Grants {
        Grants::for_every_tenant(self.grant.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn none() -> LimitOptions {
        LimitOptions::default()
    }

    #[test]
    fn without_flags_the_defaults_hold() {
        assert_eq!(none().resolve().unwrap(), Limits::default());
        assert_eq!(none().graph(), GraphLimits::default());
    }

    #[test]
    fn one_figure_for_all_tensors_shares_them_out() {
        let limits = LimitOptions { tensor_memory: Some(4 << 30), ..none() }.resolve().unwrap();
        assert_eq!(limits.tenant_tensor_bytes, 3 << 30);
        assert_eq!(limits.call_tensor_bytes, 2 << 30);
        assert_eq!(limits.cache_bytes, 2 << 30);
    }

    #[test]
    fn a_part_larger_than_the_whole_is_refused() {
        for options in [
            LimitOptions { tensor_memory: Some(1), tenant_tensor_memory: Some(2), ..none() },
            LimitOptions { tenant_tensor_memory: Some(1), node_tensor_memory: Some(2), ..none() },
            LimitOptions { node_timeout: Some(-1.0), ..none() },
            LimitOptions { node_timeout: Some(f64::NAN), ..none() },
            LimitOptions { prompt_timeout: Some(0.0), ..none() },
        ] {
            assert_eq!(options.resolve().unwrap_err().exit, Exit::Usage, "{options:?}");
        }
    }
}
