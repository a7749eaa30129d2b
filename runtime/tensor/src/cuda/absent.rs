//! In place of the CUDA back end in builds without the feature `cuda`: the same names, and no value of any of them.

use crate::device::Task;
use crate::storage::{Buffer, Storage};
use crate::{Budget, Charge, Counters, DType, GpuInfo, GpuUnavailable, OpContext, Tensor, TensorError};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// A GPU. There is none in this build.
#[derive(Debug, Clone)]
pub struct Gpu(Infallible);

/// A GPU, for one job. There is none in this build.
#[derive(Debug, Clone)]
pub struct GpuJob(Infallible);

impl Gpu {
    /// Opens none.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: usize, _: Option<&Path>) -> Result<Gpu, GpuUnavailable> {
        Err(GpuUnavailable::NotBuilt)
    }

    /// How many there are.
    ///
    /// # Errors
    /// Always.
    pub fn count() -> Result<usize, GpuUnavailable> {
        Err(GpuUnavailable::NotBuilt)
    }

    /// Why there is no GPU.
    ///
    /// # Errors
    /// Always.
    pub fn probe() -> Result<Vec<String>, GpuUnavailable> {
        Err(GpuUnavailable::NotBuilt)
    }

    /// Whether it works.
    ///
    /// # Errors
    /// How it failed.
    pub fn check(&self) -> Result<(), GpuUnavailable> {
        match self.0 {}
    }

    /// Whether both are the same.
    #[must_use]
    pub fn is_same(&self, _: &Gpu) -> bool {
        match self.0 {}
    }

    /// Gives it up.
    #[must_use]
    pub fn retire(self) -> RetiredGpu {
        match self.0 {}
    }

    /// What is known about it.
    pub fn info(&self) -> &GpuInfo {
        match self.0 {}
    }

    /// What it has been asked to do.
    pub fn counters(&self) -> Counters {
        match self.0 {}
    }

    /// A stream for one job.
    ///
    /// # Errors
    /// The driver's.
    pub fn job(&self, _: Arc<Budget>) -> Result<GpuJob, GpuUnavailable> {
        match self.0 {}
    }
}

/// A GPU that failed. There is none in this build.
#[derive(Debug)]
pub struct RetiredGpu(Infallible);

impl RetiredGpu {
    /// What is known about it.
    #[must_use]
    pub fn info(&self) -> &GpuInfo {
        match self.0 {}
    }

    /// Opens it anew.
    ///
    /// # Errors
    /// What is in the way.
    pub fn reopen(&self) -> Result<Gpu, GpuUnavailable> {
        match self.0 {}
    }
}

impl GpuJob {
    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        match self.0 {}
    }

    /// How many seconds its kernels ran.
    ///
    /// # Errors
    /// The driver's.
    pub fn seconds(&self) -> Result<f64, TensorError> {
        match self.0 {}
    }

    pub(crate) fn run(&self, _: &'static str, _: Task<'_>, _: &OpContext) -> Result<Option<Tensor>, TensorError> {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(crate) struct DeviceBuffer(Infallible);

impl DeviceBuffer {
    pub(crate) fn bytes(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) fn may_leave(&self, _: &Arc<Storage>) {
        match self.0 {}
    }

    pub(crate) fn count_spilled(&self) {
        match self.0 {}
    }

    pub(crate) fn read(&self, _: &'static str, _: usize, _: usize) -> Result<Vec<u8>, TensorError> {
        match self.0 {}
    }

    pub(crate) fn download(&self, _: &'static str, _: DType, _: &OpContext) -> Result<(Buffer, Charge), TensorError> {
        match self.0 {}
    }
}
