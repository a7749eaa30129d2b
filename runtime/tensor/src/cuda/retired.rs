//! A GPU that failed, on its way back.
//!
//! Its context answers every call with the same error, and has to go before a new one can work. It may go only when nobody
//! holds anything of it any more: addresses and handles of the old context may be given out again in the new one, to others.
//! Everything here that belongs to a context holds it, so that is easy to see.

use super::gpu::{Count, Gpu, Shared};
use crate::{BinaryOp, Budget, GpuInfo, GpuUnavailable, OpContext, Operand, Tensor, TensorError};
use cudarc::driver::{CudaContext, DriverError, result, sys};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// A GPU that failed. [`RetiredGpu::reopen`] opens it anew when nothing of it is left.
pub struct RetiredGpu {
    shared: Weak<Shared>,
    context: Weak<CudaContext>,
    info: GpuInfo,
    cache: Option<PathBuf>,
    count: Arc<Count>,
}

impl Gpu {
    /// Gives it up. Jobs and tensors of it stay what they are, and answer its error.
    #[must_use]
    pub fn retire(self) -> RetiredGpu {
        RetiredGpu {
            shared: Arc::downgrade(&self.0),
            context: Arc::downgrade(&self.0.context),
            info: self.0.info.clone(),
            cache: self.0.kernels.folder().cloned(),
            count: Arc::clone(&self.0.count),
        }
    }

    /// Whether it computes as it should: elements go there, two kernels run, results come back.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) fn test(&self) -> Result<(), GpuUnavailable> {
        let budget = Budget::named("the test of a GPU", 1 << 20);
        let cx = OpContext::new(Arc::clone(&budget)).on_gpu(self.job(budget)?);
        let computed = squares(&cx).map_err(|error| GpuUnavailable::TestFailed(error.to_string()))?;
        match computed.iter().zip(0i64..).find(|(got, place)| **got != place * place + 1) {
            None => Ok(()),
            Some((got, place)) => Err(GpuUnavailable::TestFailed(format!("{place} · {place} + 1 came out as {got}"))),
        }
    }
}

/// More than one block of numbers, and one more than the square of each.
fn squares(cx: &OpContext) -> Result<Vec<i64>, TensorError> {
    let numbers = Tensor::from_vec(&[1000], (0i64..1000).collect(), cx)?;
    let squared = numbers.binary(BinaryOp::Mul, Operand::Tensor(&numbers), cx)?;
    squared.binary(BinaryOp::Add, Operand::Scalar(1.0), cx)?.to_vec(cx)
}

impl RetiredGpu {
    /// What is known about it.
    #[must_use]
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Opens the GPU anew, with a fresh context. Copies on it of what is in this machine's memory too are
    /// dropped.
    ///
    /// # Errors
    /// [`GpuUnavailable::InUse`] while jobs or tensors of it are left; else what is in the way.
    pub fn reopen(&self) -> Result<Gpu, GpuUnavailable> {
        if let Some(shared) = self.shared.upgrade() {
            shared.spill(u64::MAX, None);
        }
        if self.context.strong_count() > 0 {
            return Err(GpuUnavailable::InUse);
        }
        reset(self.info.ordinal)?;
        Gpu::open_counting(self.info.ordinal, self.cache.as_deref(), Arc::clone(&self.count))
    }
}

impl fmt::Debug for RetiredGpu {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RetiredGpu({} {})", self.info.ordinal, self.info.name)
    }
}

/// Destroys the primary context, also when libraries of the driver's still hold it.
#[allow(unsafe_code)]
fn reset(ordinal: usize) -> Result<(), DriverError> {
    let device = result::device::get(ordinal as i32)?;
    // SAFETY: the device is the driver's. That nothing of its context is left in this process was found out before.
    unsafe { sys::cuDevicePrimaryCtxReset_v2(device).result() }
}
