//! How long kernels run, by the GPU's own clock: an event before and one after each. Nothing waits for them; those that have
//! passed are read when many have gathered, the rest when the job's work is waited for anyway.

use super::driver;
use cudarc::driver::{CudaEvent, CudaStream, DriverError, sys};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pairs that gather before those that have passed are read.
const GATHERED: usize = 128;

/// What the kernels of one job took.
#[derive(Default)]
pub(super) struct Meter {
    pending: Mutex<VecDeque<(CudaEvent, CudaEvent)>>,
    nanoseconds: AtomicU64,
}

impl Meter {
    /// A moment in the order of a stream.
    pub(super) fn mark(stream: &Arc<CudaStream>) -> Result<CudaEvent, DriverError> {
        stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT))
    }

    /// Notes what lies between two moments.
    pub(super) fn note(&self, begun: CudaEvent, ended: CudaEvent) -> Result<(), DriverError> {
        let gathered = {
            let mut pending = self.pending.lock();
            pending.push_back((begun, ended));
            pending.len() >= GATHERED
        };
        if gathered { self.settle(false) } else { Ok(()) }
    }

    /// Reads the pairs that have passed, in order; with `all`, waits for every one.
    pub(super) fn settle(&self, all: bool) -> Result<(), DriverError> {
        let mut pending = self.pending.lock();
        while pending.front().is_some_and(|(_, ended)| all || ended.is_complete()) {
            let Some((begun, ended)) = pending.pop_front() else { break };
            let milliseconds = f64::from(driver::milliseconds(&begun, &ended)?.max(0.0));
            self.nanoseconds.fetch_add((milliseconds * 1e6) as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What was read so far.
    pub(super) fn seconds(&self) -> f64 {
        self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9
    }
}
