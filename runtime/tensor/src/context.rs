//! What an operation runs under.

use crate::cuda::GpuJob;
use crate::{Budget, TensorError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// The most multiplications and additions that one call may ask for: some minutes of a fast machine. Beyond it stands no
/// model's layer, only a mistake or an attack.
pub const MAX_OPERATIONS: u64 = 1 << 48;

/// The account an operation's results are charged to, and the flag that stops it.
#[derive(Debug, Clone)]
pub struct OpContext {
    /// Pays for results and workspace.
    pub budget: Arc<Budget>,
    /// Once true, operations stop at their next chunk with [`TensorError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
    /// Where operations run that have a kernel for it; without one, and for all others, that is the CPU.
    pub gpu: Option<GpuJob>,
    /// From then on operations stop as if they were cancelled.
    pub deadline: Option<Instant>,
    /// What may be copied to GPUs and back.
    pub copies: Copies,
    /// Elementwise results, and those of normalisations, of so many elements or more are computed only when somebody needs them.
    pub put_off_from: usize,
}

/// Results of 256 kB of float32: less would stay in a cache anyway, and planning would take longer than it saves.
const PUT_OFF_FROM: usize = 64 * 1024;

/// Bytes that all operations together may copy between this machine's memory and GPUs. Clones count together.
#[derive(Debug, Clone)]
pub struct Copies {
    limit: u64,
    copied: Arc<AtomicU64>,
}

impl Default for Copies {
    /// As many as there are.
    fn default() -> Self {
        Copies::up_to(u64::MAX)
    }
}

impl Copies {
    /// So many bytes, and none so far.
    pub fn up_to(limit: u64) -> Self {
        Copies { limit, copied: Arc::default() }
    }

    /// Counts bytes that are about to be copied.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub(crate) fn count(&self, op: &'static str, bytes: u64) -> Result<(), TensorError> {
        let before = self.copied.fetch_add(bytes, Ordering::Relaxed);
        let copied = before.saturating_add(bytes);
        if copied <= self.limit {
            return Ok(());
        }
        let what = "the number of bytes copied to the GPU and back (gpu_transfer_bytes, limits.toml)";
        Err(TensorError::Limit { op, what, asked: copied.to_string(), limit: self.limit })
    }
}

impl OpContext {
    /// A context that nobody has cancelled yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        OpContext {
            budget,
            cancelled: Arc::default(),
            deadline: None,
            gpu: None,
            copies: Copies::default(),
            put_off_from: PUT_OFF_FROM,
        }
    }

    /// The same context with a GPU.
    pub fn on_gpu(self, gpu: GpuJob) -> Self {
        OpContext { gpu: Some(gpu), ..self }
    }

    /// The same context for work that has to be done on the CPU.
    pub(crate) fn without_gpu(&self) -> Self {
        OpContext { gpu: None, ..self.clone() }
    }

    /// Whether a result of so many elements is large enough to be put off. On a GPU nothing waits anyway.
    pub(crate) fn puts_off(&self, elements: usize) -> bool {
        self.gpu.is_none() && elements >= self.put_off_from.max(1)
    }

    /// True once somebody asked to stop, or time is up.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Refuses work that is too much for one call, before it starts. The factors are multiplied.
    pub(crate) fn check_cost(&self, op: &'static str, factors: &[usize]) -> Result<(), TensorError> {
        let cost = factors.iter().try_fold(2u64, |cost, factor| cost.checked_mul(*factor as u64));
        if cost.is_some_and(|cost| cost <= MAX_OPERATIONS) || factors.contains(&0) {
            return self.check(op);
        }
        let what = "the number of arithmetic operations of one call";
        let asked = cost.map_or_else(|| "more than 2^64".to_owned(), |cost| cost.to_string());
        Err(TensorError::Limit { op, what, asked, limit: MAX_OPERATIONS })
    }

    pub(crate) fn check(&self, op: &'static str) -> Result<(), TensorError> {
        if self.is_cancelled() { Err(TensorError::Cancelled { op }) } else { Ok(()) }
    }
}
