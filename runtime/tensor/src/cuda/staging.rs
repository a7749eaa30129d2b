//! Copies to a GPU and back through page-locked memory.
//!
//! The GPU fetches from page-locked memory by itself, so an upload returns as soon as the bytes lie there, and a download
//! arrives while the one before is being copied on. Page-locked memory is taken from the whole machine, so there are a few
//! blocks for each GPU, for all jobs together, made when first needed. A block is used again when the event after its last copy
//! has passed; when none is free because other threads hold them all, bytes go the driver's own way.

use super::gpu::{GpuJob, bind, failed};
use crate::TensorError;
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaEvent, CudaSlice, CudaStream, CudaView, CudaViewMut, DriverError, result};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a block.
const BLOCK: usize = 4 << 20;

/// Blocks for one GPU: 64 MiB.
const MAX_BLOCKS: usize = 16;

/// Fewer bytes are copied faster than staged: the driver has a way for those.
const WORTH_STAGING: usize = 256 << 10;

/// The blocks of one GPU.
pub(super) struct Staging {
    context: Arc<CudaContext>,
    pool: Mutex<Pool>,
    pub(super) staged_bytes: AtomicU64,
}

#[derive(Default)]
struct Pool {
    made: usize,
    /// Those that nobody holds, that with the oldest copy in front.
    idle: VecDeque<Block>,
}

/// Page-locked memory of `BLOCK` bytes. Whoever drops one has seen to it that no copy is under way.
struct Block {
    context: Arc<CudaContext>,
    memory: NonNull<u8>,
    /// When it is free again.
    last_copy: Option<CudaEvent>,
}

// SAFETY: the memory belongs to the block alone, and the driver lets any thread use and free it.
#[allow(unsafe_code)]
unsafe impl Send for Block {}

impl Block {
    /// A new one. Reads as well as writes: not write-combined.
    #[allow(unsafe_code)]
    fn new(context: &Arc<CudaContext>) -> Result<Block, DriverError> {
        bind(context)?;
        // SAFETY: bytes have no invalid values; they are cleared below, before anybody can see them.
        let memory = unsafe { result::malloc_host(BLOCK, 0)? };
        let Some(memory) = NonNull::new(memory.cast::<u8>()) else {
            return Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        };
        // SAFETY: the driver answered memory of so many bytes, which nobody else has.
        unsafe { memory.as_ptr().write_bytes(0, BLOCK) };
        Ok(Block { context: Arc::clone(context), memory, last_copy: None })
    }

    /// Its bytes, when the last copy has passed.
    #[allow(unsafe_code)]
    fn bytes(&mut self) -> Result<&mut [u8], DriverError> {
        if let Some(event) = &self.last_copy {
            event.synchronize()?;
        }
        self.last_copy = None;
        // SAFETY: `BLOCK` bytes that were written when they were made and that belong to this block; the device is done with
        // them, and `&mut self` keeps everybody else away.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), BLOCK) })
    }

    /// Notes that a copy was queued on a stream. Where that fails, nobody knows when the memory is free again, and it is left
    /// to the process.
    fn copied_on(mut self, stream: &Arc<CudaStream>) -> Result<Block, DriverError> {
        // Who waits for it sleeps: there may be seconds of kernels before the copy.
        match stream.record_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC)) {
            Ok(event) => {
                self.last_copy = Some(event);
                Ok(self)
            }
            Err(error) => {
                std::mem::forget(self);
                Err(error)
            }
        }
    }
}

impl Drop for Block {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let passed = self.last_copy.as_ref().map_or(Ok(()), CudaEvent::synchronize);
        let freed = passed.and_then(|()| bind(&self.context)).and_then(|()| {
            // SAFETY: made by `malloc_host`, freed only here, and no copy is under way.
            unsafe { result::free_host(self.memory.as_ptr().cast()) }
        });
        self.context.record_err(freed);
    }
}

impl Staging {
    pub(super) fn new(context: &Arc<CudaContext>) -> Staging {
        Staging { context: Arc::clone(context), pool: Mutex::default(), staged_bytes: AtomicU64::new(0) }
    }

    /// Bytes of page-locked memory that it has taken.
    pub(super) fn pinned_bytes(&self) -> u64 {
        (self.pool.lock().made * BLOCK) as u64
    }

    /// A block: one that is free, else a new one, else the one that will be free first. `None` when others hold them all, or
    /// the machine gives no more.
    fn take(&self) -> Option<Block> {
        let mut pool = self.pool.lock();
        let free = |block: &Block| block.last_copy.as_ref().is_none_or(CudaEvent::is_complete);
        if pool.idle.front().is_some_and(free) || pool.made == MAX_BLOCKS {
            return pool.idle.pop_front();
        }
        match Block::new(&self.context) {
            Ok(block) => {
                pool.made += 1;
                Some(block)
            }
            Err(_) => pool.idle.pop_front(),
        }
    }

    fn give_back(&self, block: Block, bytes: usize) {
        self.staged_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.pool.lock().idle.push_back(block);
    }
}

impl GpuJob {
    /// Queues a copy of bytes to memory of the same size. They may be changed or freed when this returns.
    pub(super) fn copy_to_gpu(&self, op: &'static str, from: &[u8], to: &mut CudaSlice<u8>) -> Result<(), TensorError> {
        let staging = &self.gpu.0.staging;
        let mut start = 0;
        while start < from.len() {
            let rest = from.len() - start;
            let block = if from.len() < WORTH_STAGING { None } else { staging.take() };
            let length = if block.is_some() { rest.min(BLOCK) } else { rest };
            let (part, mut target) = (&from[start..start + length], to.slice_mut(start..start + length));
            match block {
                Some(block) => self.stage(block, part, &mut target),
                None => self.stream.memcpy_htod(part, &mut target),
            }
            .map_err(|error| failed(op, error))?;
            start += length;
        }
        Ok(())
    }

    /// Copies a part into a block and queues its copy from there.
    fn stage(&self, mut block: Block, part: &[u8], target: &mut CudaViewMut<'_, u8>) -> Result<(), DriverError> {
        let staging = &self.gpu.0.staging;
        let queued = block.bytes().and_then(|staged| {
            let staged = &mut staged[..part.len()];
            staged.copy_from_slice(part);
            self.stream.memcpy_htod(staged, target)
        });
        // Also after an error: the copy may be on its way.
        staging.give_back(block.copied_on(&self.stream)?, part.len());
        queued
    }
}

/// Copies bytes of a GPU into memory of the same size, and waits for them.
pub(super) fn copy_from_gpu(
    (staging, stream): (&Staging, &Arc<CudaStream>),
    from: &CudaView<'_, u8>,
    to: &mut [u8],
) -> Result<(), DriverError> {
    if to.len() < WORTH_STAGING {
        stream.memcpy_dtoh(from, to)?;
        return stream.synchronize();
    }
    // While one part is copied on, the next arrives.
    let mut under_way: Option<(Block, &mut [u8])> = None;
    let mut start = 0;
    for part in to.chunks_mut(BLOCK) {
        let source = from.slice(start..start + part.len());
        start += part.len();
        let Some(mut block) = staging.take() else {
            stream.memcpy_dtoh(&source, part)?;
            stream.synchronize()?;
            continue;
        };
        let queued = block.bytes().and_then(|staged| stream.memcpy_dtoh(&source, &mut staged[..part.len()]));
        let block = block.copied_on(stream)?;
        if let Some((block, part)) = under_way.replace((block, part)) {
            arrive(staging, block, part)?;
        }
        queued?;
    }
    under_way.map_or(Ok(()), |(block, part)| arrive(staging, block, part))
}

/// Waits for a part and copies it on.
fn arrive(staging: &Staging, mut block: Block, part: &mut [u8]) -> Result<(), DriverError> {
    let arrived = block.bytes().map(|staged| part.copy_from_slice(&staged[..part.len()]));
    staging.give_back(block, part.len());
    arrived
}
