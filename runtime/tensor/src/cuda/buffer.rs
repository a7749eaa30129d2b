//! Device memory, and copies to it and back.

use super::driver;
use super::gpu::{GpuJob, Shared, add, failed};
use super::staging::copy_from_gpu;
use crate::storage::{Allocation, Buffer, Storage, Stored, with_buffer, with_dtype};
use crate::{Budget, BudgetExceeded, Charge, DType, OpContext, Tensor, TensorError};
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream, CudaView, DriverError, sys};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Bytes on a GPU that hold a charge. Like all of a tensor, they are never changed once they are shared.
pub(crate) struct DeviceBuffer {
    pub(super) slice: CudaSlice<u8>,
    gpu: Arc<Shared>,
    stream: Arc<CudaStream>,
    /// The last read of every other stream. `cudarc` remembers one reader only, and its memory would be given back while
    /// another still reads.
    readers: Mutex<Vec<(Arc<CudaStream>, CudaEvent)>>,
    charge: Charge,
}

impl Drop for DeviceBuffer {
    /// The memory goes back to the pool, in the order of its own stream, after everybody's last read.
    fn drop(&mut self) {
        self.gpu.context.record_err(self.gpu.bind());
        for (_, event) in self.readers.get_mut().drain(..) {
            self.gpu.context.record_err(self.stream.wait(&event));
        }
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeviceBuffer({} bytes)", self.bytes())
    }
}

impl GpuJob {
    /// Memory that has been paid for and that the caller writes completely. Its content is what was there before.
    #[allow(unsafe_code)]
    pub(super) fn allocate(&self, op: &'static str, bytes: usize) -> Result<DeviceBuffer, TensorError> {
        let charge = self.charge(bytes as u64).map_err(|source| TensorError::Budget { op, source })?;
        // SAFETY: bytes have no invalid values. That they are written before anybody reads them is the caller's part,
        // which the simulated driver checks for every kernel.
        let slice = unsafe { self.stream.alloc::<u8>(bytes) };
        let slice = match slice {
            // Others use the same GPU, or its memory is in pieces.
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                self.gpu.0.spill(u64::MAX, None);
                self.stream.synchronize().map_err(|error| failed(op, error))?;
                driver::give_unused_memory_back(&self.gpu.0.context).map_err(|error| failed(op, error))?;
                // SAFETY: as above.
                unsafe { self.stream.alloc::<u8>(bytes) }
            }
            slice => slice,
        };
        let slice = slice.map_err(|error| match error {
            DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
                TensorError::OutOfMemory { op, bytes: bytes as u64 }
            }
            error => failed(op, error),
        })?;
        Ok(DeviceBuffer {
            slice,
            gpu: Arc::clone(&self.gpu.0),
            stream: Arc::clone(&self.stream),
            readers: Mutex::default(),
            charge,
        })
    }

    /// As [`GpuJob::allocate`], cleared.
    pub(super) fn zeros(&self, op: &'static str, bytes: usize) -> Result<DeviceBuffer, TensorError> {
        let mut buffer = self.allocate(op, bytes)?;
        self.stream.memset_zeros(&mut buffer.slice).map_err(|error| failed(op, error))?;
        Ok(buffer)
    }

    /// Pays for memory. What the account has no room for, copies that may leave make room for: its own, or everybody's where
    /// the refusal is not its own.
    fn charge(&self, bytes: u64) -> Result<Charge, BudgetExceeded> {
        self.memory.charge(bytes).or_else(|_| {
            let own = self.memory.used().saturating_add(bytes) > self.memory.limit();
            self.gpu.0.spill(bytes, own.then_some(&self.memory));
            self.memory.charge(bytes)
        })
    }

    /// The tensor's storage on this GPU, copied there if need be.
    pub(super) fn resident(
        &self,
        op: &'static str,
        tensor: &Tensor,
        cx: &OpContext,
    ) -> Result<Arc<DeviceBuffer>, TensorError> {
        let own = |buffer: &&Arc<DeviceBuffer>| buffer.belongs_to(&self.gpu.0, None);
        let there = tensor.storage.on_gpus().lock().iter().find(own).cloned();
        if let Some(buffer) = there {
            return Ok(buffer);
        }
        // On another GPU or in this machine's memory: from there.
        let buffer = Arc::new(self.upload(op, tensor.buffer(op, cx)?, cx)?);
        let mut places = tensor.storage.on_gpus().lock();
        // Another job may have done the same meanwhile.
        if let Some(first) = places.iter().find(own) {
            return Ok(Arc::clone(first));
        }
        places.push(Arc::clone(&buffer));
        drop(places);
        self.gpu.0.may_leave(&tensor.storage);
        Ok(buffer)
    }

    /// A table that one launch reads.
    pub(super) fn table<T: TableNumber>(&self, op: &'static str, values: &[T]) -> Result<DeviceBuffer, TensorError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.le_bytes()).collect();
        let mut buffer = self.allocate(op, bytes.len())?;
        self.stream.memcpy_htod(&bytes, &mut buffer.slice).map_err(|error| failed(op, error))?;
        Ok(buffer)
    }

    fn upload(&self, op: &'static str, source: &Buffer, cx: &OpContext) -> Result<DeviceBuffer, TensorError> {
        let bytes: usize = with_buffer!(source, values => size_of_val(values.as_slice()));
        cx.copies.count(op, bytes as u64)?;
        let mut buffer = self.allocate(op, bytes)?;
        add(&self.gpu.0.count.uploads, 1);
        add(&self.gpu.0.count.uploaded_bytes, bytes as u64);
        with_buffer!(source, values => {
            self.copy_to_gpu(op, as_bytes(values), &mut buffer.slice)?;
        });
        Ok(buffer)
    }
}

/// What tables are made of.
pub(super) trait TableNumber: Copy {
    fn le_bytes(self) -> [u8; 4];
}

impl TableNumber for u32 {
    fn le_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl TableNumber for f32 {
    fn le_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

/// The memory of elements.
#[allow(unsafe_code)]
fn as_bytes<T: Stored>(values: &[T]) -> &[u8] {
    // SAFETY: the element types (numbers and booleans) have no padding, and bytes no alignment and no invalid values.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

impl DeviceBuffer {
    /// Notes that work queued on a stream reads this.
    pub(super) fn read_by(&self, stream: &Arc<CudaStream>) -> Result<(), DriverError> {
        if Arc::ptr_eq(stream, &self.stream) {
            return Ok(());
        }
        let mut readers = self.readers.lock();
        match readers.iter().find(|(reader, _)| Arc::ptr_eq(reader, stream)) {
            Some((_, event)) => event.record(stream)?,
            None => readers.push((Arc::clone(stream), stream.record_event(None)?)),
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// Whether it is in the memory of this GPU and, if an account is named, paid for by that.
    pub(super) fn belongs_to(&self, gpu: &Shared, account: Option<&Arc<Budget>>) -> bool {
        std::ptr::eq(&*self.gpu, gpu) && account.is_none_or(|account| Arc::ptr_eq(self.charge.budget(), account))
    }

    /// Notes that the elements are elsewhere too.
    pub(crate) fn may_leave(&self, storage: &Arc<Storage>) {
        self.gpu.may_leave(storage);
    }

    /// Notes that it left to make room.
    pub(crate) fn count_spilled(&self) {
        add(&self.gpu.count.spilled, 1);
    }

    /// Some bytes. Waits for them.
    pub(crate) fn read(&self, op: &'static str, start: usize, length: usize) -> Result<Vec<u8>, TensorError> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let Some(part) = self.slice.try_slice(start..start + length) else {
            return Err(TensorError::Device { op, message: format!("a read of {length} bytes at {start}") });
        };
        let mut out = vec![0u8; length];
        self.copy(op, &part, &mut out)?;
        Ok(out)
    }

    /// All elements and the charge for their copy. Waits for them.
    pub(crate) fn download(
        &self,
        op: &'static str,
        dtype: DType,
        cx: &OpContext,
    ) -> Result<(Buffer, Charge), TensorError> {
        cx.copies.count(op, self.bytes())?;
        with_dtype!(dtype, T => {
            let elements = self.bytes() as usize / size_of::<T>();
            let mut target = Allocation::<T>::zeroed(op, elements, cx)?;
            add(&self.gpu.count.downloads, 1);
            add(&self.gpu.count.downloaded_bytes, self.bytes());
            self.copy_into(op, &mut target.values)?;
            let (values, charge) = target.into_parts();
            Ok((T::wrap(values), charge))
        })
    }

    /// As bytes, since not every byte is a boolean.
    fn copy_into<T: Stored>(&self, op: &'static str, target: &mut [T]) -> Result<(), TensorError> {
        if self.bytes() == 0 {
            return Ok(());
        }
        if T::DTYPE == DType::Boolean {
            let mut bytes = vec![0u8; target.len()];
            self.copy(op, &self.slice.as_view(), &mut bytes)?;
            T::read_le(&bytes, target);
            return Ok(());
        }
        self.copy(op, &self.slice.as_view(), as_bytes_mut(target))
    }

    fn copy(&self, op: &'static str, from: &CudaView<'_, u8>, to: &mut [u8]) -> Result<(), TensorError> {
        self.gpu.bind().map_err(|error| failed(op, error))?;
        copy_from_gpu((&self.gpu.staging, &self.stream), from, to).map_err(|error| failed(op, error))
    }
}

/// The memory of numbers, to be overwritten. Not for booleans.
#[allow(unsafe_code)]
fn as_bytes_mut<T: Stored>(values: &mut [T]) -> &mut [u8] {
    debug_assert!(T::DTYPE != DType::Boolean);
    // SAFETY: the number types have no padding and no invalid values, so any bytes may be written to them.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), size_of_val(values)) }
}
