//! When a GPU that failed is tried again.
//!
//! It is tried in the background, with pauses that grow with the number of failures in the last hour, whether it failed in use
//! or while it was tried. After too many of them it is left alone: something is wrong that a person has to look at, and most
//! errors that a driver does not get over by itself it gets over only in a new process.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use vivarium_tensor::{Gpu, GpuUnavailable, RetiredGpu};

use super::{Devices, Slot, State};

/// How patient one is with a GPU.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Before the first try; doubled for each further failure.
    first_pause: Duration,
    /// The pauses grow up to this.
    longest_pause: Duration,
    /// How far back failures count.
    window: Duration,
    /// So many failures in the window are the end.
    most_failures: usize,
}

impl Default for Patience {
    /// A GPU that never comes back is given up after 18 minutes.
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
            window: Duration::from_secs(3600),
            most_failures: 12,
        }
    }
}

/// How often it is looked whether anything of the failed GPU is left.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a GPU's failures come to.
#[derive(Debug, Default)]
pub(super) struct Failures {
    patience: Patience,
    /// Those in the window, oldest first.
    recent: VecDeque<Instant>,
    /// Those that prompts noticed, since the start.
    in_use: u64,
}

impl Failures {
    /// Counts one that prompts noticed.
    pub(super) fn noticed(&mut self) {
        self.in_use += 1;
    }

    /// How often it failed while prompts used it.
    pub(super) fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Notes one. Answers the pause before the next try, or `None` when that was one too many.
    fn note(&mut self, now: Instant) -> Option<Duration> {
        let Patience { first_pause, longest_pause, window, most_failures } = self.patience;
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.duration_since(*first) > window) {
            self.recent.pop_front();
        }
        let doublings = u32::try_from(self.recent.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let pause = first_pause.saturating_mul(2u32.saturating_pow(doublings)).min(longest_pause);
        (self.recent.len() < most_failures).then_some(pause)
    }
}

/// Wakes those who wait when all of them shall stop.
#[derive(Default)]
pub(super) struct Stopping {
    stopped: Mutex<bool>,
    told: Condvar,
}

impl Stopping {
    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.told.notify_all();
    }

    /// Waits, and answers whether to stop.
    fn wait(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut stopped = self.stopped.lock();
        while !*stopped && !self.told.wait_until(&mut stopped, deadline).timed_out() {}
        *stopped
    }
}

/// How trying ended.
#[derive(Debug, PartialEq, Eq)]
enum Tried<G> {
    Works(G),
    TooOften,
    Stopped,
}

/// Tries a GPU that has just failed until it works again, on a thread of its own.
pub(super) fn begin(devices: Devices, place: usize, retired: RetiredGpu) {
    let name = format!("recovery-{}", retired.info().ordinal);
    let recover = move || {
        let Some(slot) = devices.0.gpus.get(place) else { return };
        let told = |error: &GpuUnavailable| slot.still_fails(error);
        match try_until_it_works(&slot.failures, &devices.0.stopping, || retired.reopen(), told) {
            Tried::Works(gpu) => slot.works_again(gpu),
            Tried::TooOften => slot.give_up(),
            Tried::Stopped => {}
        }
    };
    if let Err(error) = std::thread::Builder::new().name(name).spawn(recover) {
        tracing::error!(%error, "a GPU that failed stays unused: there is no thread to try it again");
    }
}

/// `told` hears of every try that failed. While something of the GPU is in use, that is no failure; it is looked again soon.
fn try_until_it_works<G>(
    failures: &Mutex<Failures>,
    stopping: &Stopping,
    reopen: impl Fn() -> Result<G, GpuUnavailable>,
    told: impl Fn(&GpuUnavailable),
) -> Tried<G> {
    loop {
        let Some(pause) = failures.lock().note(Instant::now()) else { return Tried::TooOften };
        if stopping.wait(pause) {
            return Tried::Stopped;
        }
        let error = loop {
            match reopen() {
                Ok(gpu) => return Tried::Works(gpu),
                Err(GpuUnavailable::InUse) if stopping.wait(LOOK_AGAIN.min(pause)) => return Tried::Stopped,
                Err(GpuUnavailable::InUse) => {}
                Err(error) => break error,
            }
        };
        told(&error);
    }
}

impl Slot {
    fn still_fails(&self, error: &GpuUnavailable) {
        tracing::warn!(device = %self.info, %error, "a GPU that failed still does not work");
        if let State::Failed { reason, .. } = &mut *self.state.lock() {
            *reason = error.to_string();
        }
    }

    fn works_again(&self, gpu: Gpu) {
        tracing::info!(device = %self.info, "a GPU that failed passed its test and is used again");
        *self.state.lock() = State::Working(gpu);
    }

    pub(super) fn give_up(&self) {
        if let State::Failed { given_up, .. } = &mut *self.state.lock() {
            *given_up = true;
        }
        let note = self.note().unwrap_or_default();
        tracing::error!(device = %self.info, "{note}");
    }

    /// What computes products, or why it does not work.
    pub(super) fn note(&self) -> Option<String> {
        match &*self.state.lock() {
            State::Working(gpu) => Some(gpu.info().products.to_string()),
            State::Failed { reason, given_up: false, .. } => {
                Some(format!("the GPU failed ({reason}); it is tried again in the background"))
            }
            State::Failed { reason, .. } => Some(format!(
                "the GPU failed too often within an hour, the last time with: {reason}; \
                 it is not used again until the server is restarted"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn pauses_grow_with_the_failures_of_the_last_hour_until_there_are_too_many() {
        let mut failures = Failures::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        while let Some(pause) = failures.note(now) {
            pauses.push(pause.as_secs());
            now += pause;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let rare = Duration::from_secs(3000);
        let mut failures = Failures::default();
        for hour in 0..100u32 {
            assert_eq!(failures.note(now + rare * hour).unwrap().as_secs(), if hour == 0 { 1 } else { 2 });
        }
    }

    fn impatient() -> Mutex<Failures> {
        let millisecond = Duration::from_millis(1);
        let patience = Patience { first_pause: millisecond, longest_pause: millisecond, ..Patience::default() };
        Mutex::new(Failures { patience, ..Failures::default() })
    }

    #[test]
    fn what_never_works_is_given_up_and_what_is_in_use_is_waited_for() {
        let (tries, told) = (Cell::new(0), Cell::new(0));
        // Answers how many there were before.
        let count = |count: &Cell<u32>| count.replace(count.get() + 1);
        let heard = |told: &Cell<u32>| {
            count(told);
        };
        let never = || {
            count(&tries);
            Err::<(), _>(GpuUnavailable::NoDriver)
        };
        let ended = try_until_it_works(&impatient(), &Stopping::default(), never, |_| heard(&told));
        assert_eq!((ended, tries.get(), told.get()), (Tried::TooOften, 11, 11));

        let (tries, told) = (Cell::new(0), Cell::new(0));
        let at_last = || match count(&tries) {
            0..50 => Err(GpuUnavailable::InUse),
            50 => Err(GpuUnavailable::TestFailed("2 · 2 came out as 5".to_owned())),
            _ => Ok(7),
        };
        let ended = try_until_it_works(&impatient(), &Stopping::default(), at_last, |_| heard(&told));
        assert_eq!((ended, tries.get(), told.get()), (Tried::Works(7), 52, 1));
    }

    #[test]
    fn a_server_that_stops_waits_for_no_gpu() {
        let stopping = Stopping::default();
        stopping.stop();
        let ended = try_until_it_works(&Mutex::default(), &stopping, || Ok(()), |_| {});
        assert_eq!(ended, Tried::Stopped);
    }
}
