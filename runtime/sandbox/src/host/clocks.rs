//! WASI's clocks, coarse unless `clock/fine` is granted: a fine clock is what timing attacks need. Waiting ends early when the prompt is interrupted or
//! the call's time is up, since a guest inside a host call is out of reach of epochs.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{
    async_trait,
    p2::{
        DynPollable, Pollable,
        bindings::clocks::{
            monotonic_clock,
            wall_clock::{self, Datetime},
        },
        subscribe,
    },
};

use super::HostState;

const RESOLUTION: Duration = Duration::from_millis(1);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wall_clock::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

fn coarse(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl HostState {
    fn as_precise_as_allowed(&mut self, time: Duration) -> Duration {
        if self.has_fine_clock() { time } else { coarse(time) }
    }

    fn clock_resolution(&mut self) -> Duration {
        if self.has_fine_clock() { Duration::from_nanos(1) } else { RESOLUTION }
    }
}

impl wall_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let now = self.as_precise_as_allowed(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Ok(Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: self.clock_resolution().subsec_nanos() })
    }
}

impl monotonic_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(nanoseconds(self.as_precise_as_allowed(START.elapsed())))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(nanoseconds(self.clock_resolution()))
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = monotonic_clock::Host::now(self)?;
        self.subscribe_duration(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = Instant::now();
        let until = now.checked_add(Duration::from_nanos(when)).unwrap_or(self.deadline).min(self.deadline);
        let wait = self.table.push(Wait { until, interrupt: self.interrupt_flag() })?;
        subscribe(&mut self.table, wait)
    }
}

struct Wait {
    until: Instant,
    interrupt: Arc<AtomicBool>,
}

#[async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.interrupt.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(20))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_see_whole_milliseconds_only() {
        assert_eq!(coarse(Duration::from_nanos(1_999_999)), Duration::from_millis(1));
        assert_eq!(coarse(Duration::from_nanos(999_999)), Duration::ZERO);
        assert!(RESOLUTION >= Duration::from_millis(1));
    }
}
