//! In place of the CUDA back end in builds without the feature `cuda`: the same names, and no value of any of them.

use crate::device::Task;
use crate::storage::Buffer;
use crate::{Charge, DType, OpContext, Tensor, TensorError};
use std::convert::Infallible;

/// A GPU. There is none in this build.
#[derive(Debug, Clone)]
pub struct Gpu(Infallible);

/// A GPU, for one job. There is none in this build.
#[derive(Debug, Clone)]
pub struct GpuJob(Infallible);

impl Gpu {
    /// Why there is no GPU.
    ///
    /// # Errors
    /// Always.
    pub fn probe() -> Result<String, String> {
        Err("the CUDA back end is not built into this binary".to_owned())
    }
}

impl GpuJob {
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

    pub(crate) fn read(&self, _: &'static str, _: usize, _: usize) -> Result<Vec<u8>, TensorError> {
        match self.0 {}
    }

    pub(crate) fn download(&self, _: &'static str, _: DType, _: &OpContext) -> Result<(Buffer, Charge), TensorError> {
        match self.0 {}
    }
}
