//! Settings of a worker.

use vivarium_graph::GraphLimits;

/// How a worker runs prompts.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Prompts that run side by side. One keeps ComfyUI's order: a prompt starts when the one before it has ended.
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
}

impl WorkerConfig {
    /// How many calls of one prompt may run beside it, so that all prompts together leave half of the instances to others.
    pub(crate) fn calls_beside(&self, instances: u64) -> usize {
        let share = usize::try_from(instances).unwrap_or(usize::MAX) / 2 / self.workers.max(1);
        self.waiting_nodes.min(share).max(1)
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
        }
    }
}

/// Which results are kept for later prompts, as ComfyUI's options of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Those of the last prompt.
    Classic,
    /// At most this many, whole prompts dropped oldest first.
    Lru(usize),
    /// None.
    None,
}

/// Previews that nodes report while they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreviewSettings {
    /// Whether any are sent.
    pub enabled: bool,
    /// Longest side, pixels.
    pub max_size: u32,
}

impl Default for PreviewSettings {
    fn default() -> Self {
        Self { enabled: true, max_size: 512 }
    }
}
