//! Settings of a worker.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vivarium_graph::GraphLimits;

use crate::{devices::Devices, memory::MachineMemory};

/// How a worker runs prompts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Prompts that run side by side on each device. One keeps ComfyUI's order, as long as there is one device: a prompt starts
    /// when the one before it has ended.
    pub workers: usize,
    /// Which results are kept for later prompts.
    pub cache: CacheMode,
    /// Previews that nodes report.
    pub preview: PreviewSettings,
    /// Whether saved images carry the prompt and the workflow.
    pub save_metadata: bool,
    /// Sizes of prompts.
    pub graph_limits: GraphLimits,
    /// Nodes of one prompt that may wait side by side, those that say they mostly wait. Fewer when many prompts run at
    /// once: instances of guests are shared by all.
    pub waiting_nodes: usize,
    /// Calls of nodes of one prompt that may compute side by side; with 1 a node begins when the one before it has ended.
    pub parallel_nodes: usize,
    /// What tensors are computed on. Processes of their own have the CPU: a device is nothing that they may open.
    #[serde(skip)]
    pub devices: Devices,
}

/// More than this many calls side by side want more memory than they save time.
const MOST_PARALLEL: usize = 8;

impl WorkerConfig {
    /// Prompts that run side by side on all devices.
    pub(crate) fn prompts_at_once(&self) -> usize {
        self.workers.max(1) * self.devices.gpus().max(1)
    }

    /// How many calls of one prompt may run beside it, so that all prompts together leave half of the instances to others.
    pub(crate) fn calls_beside(&self, instances: u64) -> usize {
        let share = usize::try_from(instances).unwrap_or(usize::MAX) / 2 / self.prompts_at_once();
        self.waiting_nodes.min(share).max(1)
    }

    /// How many calls of one prompt may compute at once: they share the other half.
    pub(crate) fn calls_at_once(&self, instances: u64) -> usize {
        let share = usize::try_from(instances).unwrap_or(usize::MAX) / 4 / self.prompts_at_once();
        self.parallel_nodes.min(share).max(1)
    }

    /// [`WorkerConfig::parallel_nodes`] for this machine: its cores, shared by the prompts that run side by side.
    #[must_use]
    pub fn parallel_nodes_of_this_machine(prompts: usize) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores / prompts.max(1)).clamp(1, MOST_PARALLEL)
    }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            cache: CacheMode::Classic,
            preview: PreviewSettings::default(),
            save_metadata: true,
            graph_limits: GraphLimits::default(),
            waiting_nodes: 16,
            parallel_nodes: Self::parallel_nodes_of_this_machine(1),
            devices: Devices::default(),
        }
    }
}

/// Which results are kept for later prompts, as ComfyUI's options of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheMode {
    /// Those of the last prompt.
    Classic,
    /// At most this many, whole prompts dropped oldest first.
    Lru(usize),
    /// All of them, until less than so many bytes of the machine's memory are left; then those go first that are cheapest
    /// to compute again for their size.
    Ram {
        /// Bytes that shall stay available.
        headroom: u64,
    },
    /// None.
    None,
}

impl CacheMode {
    /// [`CacheMode::Ram`] with a tenth of the machine's memory as headroom, 1 to 16 GiB.
    #[must_use]
    pub fn ram_of_this_machine() -> Self {
        const GIB: u64 = 1 << 30;
        let total = MachineMemory::read().map_or(0, |memory| memory.total);
        Self::Ram { headroom: (total / 10).clamp(GIB, 16 * GIB) }
    }
}

/// Previews that nodes report while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewSettings {
    /// Whether any are sent.
    pub enabled: bool,
    /// Longest side, pixels.
    pub max_size: u32,
}

impl PreviewSettings {
    /// What a client may wish for its prompt, in `extra_data`: `preview_method` is ComfyUI's, of which `none` means no
    /// previews and the others are the same here; `preview_size` is ours, the longest side in pixels. Neither makes more of
    /// previews than the operator wants.
    #[must_use]
    pub(crate) fn as_wished(self, extra_data: &Map<String, Value>) -> Self {
        let wants_none = extra_data.get("preview_method").and_then(Value::as_str) == Some("none");
        let size = extra_data.get("preview_size").and_then(Value::as_u64).and_then(|size| u32::try_from(size).ok());
        Self {
            enabled: self.enabled && !wants_none,
            max_size: size.map_or(self.max_size, |size| size.clamp(1, self.max_size.max(1))),
        }
    }
}

impl Default for PreviewSettings {
    fn default() -> Self {
        Self { enabled: true, max_size: 512 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_may_wish_for_less() {
        let settings = PreviewSettings::default();
        let wished = |extra: Value| settings.as_wished(extra.as_object().unwrap_or(&Map::new()));
        assert_eq!(wished(json!({})), settings);
        assert_eq!(wished(json!({"preview_method": "auto", "preview_size": 4096})), settings);
        assert!(!wished(json!({"preview_method": "none"})).enabled);
        assert_eq!(wished(json!({"preview_size": 64})).max_size, 64);
        assert_eq!(wished(json!({"preview_size": 0})).max_size, 1);
        for odd in [json!(-1), json!("64"), json!(1.5), json!(u64::MAX)] {
            assert_eq!(wished(json!({"preview_size": odd})), settings);
        }
        let off = PreviewSettings { enabled: false, ..settings };
        assert!(!off.as_wished(&Map::new()).enabled);
    }
}
