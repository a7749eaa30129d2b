//! Where tensors are computed: on the CPU, or on GPUs for as long as they work.
//!
//! Each GPU has as many workers, and a prompt stays where it began: on the GPU that has least to do, of several such on the one that
//! has most of what is its tenant's. A GPU that failed once answers every later call with the
//! same error, and what is in its memory is lost: it is given up, what ran on it runs again elsewhere, and in the background it
//! is tried until it works again ([`recovery`]). Only while no GPU works at all, the CPU computes.
//!
//! # Layout
//! - this file: the GPUs of a server and what became of each
//! - [`choice`]: what the operator asked for; [`report`]: what is said of them
//! - [`recovery`]: when a GPU that failed is tried again

mod choice;
mod recovery;
mod report;

use std::{
    cmp::Reverse,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use vivarium_tensor::{Budget, Counters, Gpu, GpuInfo, GpuUnavailable};

use recovery::{Failures, Stopping};

pub use choice::DeviceChoice;
pub use report::{DeviceReport, DeviceState, DeviceWork};

/// What part of a GPU's memory is given away; the rest is for the driver and for kernels.
const USABLE: (u64, u64) = (9, 10);

/// The devices that prompts run on. Clones are the same ones; the default is the CPU.
#[derive(Clone, Default)]
pub struct Devices(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// A GPU is known by its place in this list.
    gpus: Vec<Slot>,
    /// Why there is no GPU, where one was looked for.
    absent: Option<String>,
    /// How many times a GPU failed while it was in use.
    failed: Mutex<u64>,
    stopping: Stopping,
    /// Prompts that run now, by place.
    running: Mutex<Vec<usize>>,
}

/// A prompt's place among the devices.
pub(crate) struct Taken {
    devices: Devices,
    pub(crate) place: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(running) = self.devices.0.running.lock().get_mut(self.place) {
            *running = running.saturating_sub(1);
        }
    }
}

/// A GPU, whether it works or not.
struct Slot {
    info: GpuInfo,
    state: Mutex<State>,
    failures: Mutex<Failures>,
    prompts: AtomicU64,
    kernel_ms: AtomicU64,
}

enum State {
    Working(Gpu),
    Failed { counters: Counters, reason: String, given_up: bool },
}

impl Devices {
    /// Opens what was asked for, of all GPUs there are at most `most`. Compiled kernels are kept in the folder `kernels`, which
    /// nobody else may write to.
    ///
    /// # Errors
    /// Why a GPU that was asked for cannot be used.
    pub fn open(choice: &DeviceChoice, most: usize, kernels: &Path) -> Result<Self, GpuUnavailable> {
        let open = |ordinal: usize| Gpu::open(ordinal, Some(kernels));
        let gpus = match choice {
            DeviceChoice::Cpu => return Ok(Self::default()),
            DeviceChoice::Cuda(ordinals) => ordinals.iter().copied().map(open).collect::<Result<_, _>>()?,
            DeviceChoice::All => match Gpu::count()? {
                0 => return Err(GpuUnavailable::NoDevice { found: 0, asked: 0 }),
                found => (0..found.min(most)).map(open).collect::<Result<_, _>>()?,
            },
            DeviceChoice::Auto => match all_that_open(most, open) {
                Ok(gpus) => gpus,
                Err(absent) => {
                    return Ok(Self(Arc::new(Inner { absent: Some(absent.to_string()), ..Inner::default() })));
                }
            },
        };
        let gpus = gpus.into_iter().map(Slot::new).collect();
        Ok(Self(Arc::new(Inner { gpus, ..Inner::default() })))
    }

    /// How many GPUs were opened.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.0.gpus.len()
    }

    /// Whether the worker of a GPU may take a prompt: it waits while its own does not work but another does.
    pub(crate) fn may_take(&self, place: usize) -> bool {
        self.gpu(place).is_some() || !self.0.gpus.iter().any(Slot::works)
    }

    /// The GPU at a place, if it works.
    pub(crate) fn gpu(&self, place: usize) -> Option<Gpu> {
        self.0.gpus.get(place)?.gpu()
    }

    /// The places of GPUs that work, this one first.
    pub(crate) fn working(&self, first: usize) -> impl Iterator<Item = (usize, Gpu)> {
        let others = (0..self.gpus()).filter(move |place| *place != first);
        std::iter::once(first).chain(others).filter_map(|place| Some((place, self.gpu(place)?)))
    }

    /// As operators name a GPU, such as `cuda:1`; `cpu` where there is none at this place.
    pub(crate) fn name(&self, place: Option<usize>) -> String {
        let slot = place.and_then(|place| self.0.gpus.get(place));
        slot.map_or_else(|| "cpu".to_owned(), |slot| format!("cuda:{}", slot.info.ordinal))
    }

    /// How many times a GPU failed so far while it was in use.
    pub(crate) fn failures(&self) -> u64 {
        *self.0.failed.lock()
    }

    /// Gives a GPU up, unless somebody did already, and begins to try it again. `forget` is called before anybody can hear of
    /// it, with the number of failures that this one makes: what may be in the GPU's memory shall be forgotten.
    pub(crate) fn fail(&self, place: usize, gpu: &Gpu, reason: &str, forget: impl FnOnce(u64)) {
        let Some(slot) = self.0.gpus.get(place) else { return };
        let mut count = self.0.failed.lock();
        let mut state = slot.state.lock();
        let State::Working(working) = &*state else { return };
        if !working.is_same(gpu) {
            return;
        }
        forget(*count + 1);
        *count += 1;
        slot.failures.lock().noticed();
        let (counters, retired) = (working.counters(), working.clone().retire());
        *state = State::Failed { counters, reason: reason.to_owned(), given_up: false };
        drop(state);
        drop(count);
        tracing::error!(device = %slot.info, reason, "a GPU failed; what ran on it runs again elsewhere");
        recovery::begin(self.clone(), place, retired);
    }

    /// Asks every GPU that is thought to work whether it does.
    pub(crate) fn check(&self, failed: impl Fn(usize, &Gpu, &str)) {
        for (place, gpu) in self.working(0) {
            if let Err(error) = gpu.check() {
                failed(place, &gpu, &error.to_string());
            }
        }
    }

    /// Where a prompt runs whose worker is that of the GPU `own`: on the GPU that has the fewest prompts, of several such the one
    /// where the prompt's tenant has most (`held` bytes at a place), which is results and weights that need not be copied. It
    /// counts there until the answer is dropped.
    ///
    /// Only workers of GPUs that work take prompts, and each takes one: so there is always a GPU with room.
    pub(crate) fn take(&self, own: usize, held: impl Fn(usize) -> u64) -> Taken {
        let mut running = self.0.running.lock();
        let count = |running: &[usize], place: usize| running.get(place).copied().unwrap_or_default();
        let places = self.working(own).map(|(place, _)| place);
        let place = places.min_by_key(|place| (count(&running, *place), Reverse(held(*place)))).unwrap_or(own);
        if running.len() <= place {
            running.resize(place + 1, 0);
        }
        running[place] += 1;
        Taken { devices: self.clone(), place }
    }

    /// Notes a prompt that begins on a GPU.
    pub(crate) fn begun(&self, place: usize) {
        if let Some(slot) = self.0.gpus.get(place) {
            slot.prompts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how long kernels of a prompt ran.
    pub(crate) fn ran(&self, place: usize, seconds: f64) {
        if let Some(slot) = self.0.gpus.get(place) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded and not negative")]
            slot.kernel_ms.fetch_add((seconds.max(0.0) * 1e3).round() as u64, Ordering::Relaxed);
        }
    }

    /// Bytes of each GPU that tensors may take, by place.
    pub(crate) fn memory_bytes(&self) -> impl Iterator<Item = (usize, u64)> {
        self.0.gpus.iter().map(|slot| slot.info.memory_bytes / USABLE.1 * USABLE.0).enumerate()
    }

    /// As people and clients see them, what computes now first. `memory` is what each GPU's tensors are charged to.
    pub(crate) fn report(&self, memory: &[Arc<Budget>]) -> Vec<DeviceReport> {
        let gpus = self.0.gpus.iter().zip(memory).map(|(slot, memory)| slot.report(memory));
        let cpu = (!self.0.gpus.iter().any(Slot::works)).then(|| self.report_cpu());
        cpu.into_iter().chain(gpus).collect()
    }

    fn report_cpu(&self) -> DeviceReport {
        let note = if self.0.gpus.is_empty() {
            self.0.absent.clone()
        } else {
            Some("no GPU works; the CPU computes meanwhile".to_owned())
        };
        DeviceReport { kind: "cpu".to_owned(), name: "cpu".to_owned(), note, ..Default::default() }
    }

    /// Tries no GPU again.
    pub(crate) fn stop(&self) {
        self.0.stopping.stop();
    }
}

/// Of all GPUs those that can be used, or why none can.
fn all_that_open(most: usize, open: impl Fn(usize) -> Result<Gpu, GpuUnavailable>) -> Result<Vec<Gpu>, GpuUnavailable> {
    let mut refused = GpuUnavailable::NoDevice { found: 0, asked: 0 };
    let mut gpus = Vec::new();
    for ordinal in 0..Gpu::count()? {
        if gpus.len() == most {
            break;
        }
        match open(ordinal) {
            Ok(gpu) => gpus.push(gpu),
            Err(error) => {
                tracing::warn!(%error, "the GPU cuda:{ordinal} cannot be used");
                refused = error;
            }
        }
    }
    if gpus.is_empty() { Err(refused) } else { Ok(gpus) }
}

impl Slot {
    fn new(gpu: Gpu) -> Self {
        Self {
            info: gpu.info().clone(),
            state: Mutex::new(State::Working(gpu)),
            failures: Mutex::default(),
            prompts: AtomicU64::new(0),
            kernel_ms: AtomicU64::new(0),
        }
    }

    fn gpu(&self) -> Option<Gpu> {
        match &*self.state.lock() {
            State::Working(gpu) => Some(gpu.clone()),
            State::Failed { .. } => None,
        }
    }

    fn works(&self) -> bool {
        matches!(*self.state.lock(), State::Working(_))
    }

    fn report(&self, memory: &Budget) -> DeviceReport {
        let (counters, state) = match &*self.state.lock() {
            State::Working(gpu) => (gpu.counters(), DeviceState::Working),
            State::Failed { counters, given_up: false, .. } => (*counters, DeviceState::Failed),
            State::Failed { counters, .. } => (*counters, DeviceState::GivenUp),
        };
        let Counters { launches, uploads, downloads, spilled, .. } = counters;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (prompts, kernel_ms) = (get(&self.prompts), get(&self.kernel_ms));
        let failures = self.failures.lock().in_use();
        DeviceReport {
            kind: "cuda".to_owned(),
            index: Some(self.info.ordinal),
            name: self.info.name.clone(),
            memory_bytes: self.info.memory_bytes,
            memory_limit: memory.limit(),
            memory_used: memory.used(),
            state,
            work: Some(DeviceWork { prompts, kernel_ms, launches, uploads, downloads, spilled, failures }),
            note: self.note(),
        }
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Devices {
    /// In words, for the log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.gpus.as_slice(), &self.0.absent) {
            ([], Some(absent)) => write!(formatter, "CPU: {absent}"),
            ([], None) => write!(formatter, "CPU"),
            (gpus, _) => {
                let names: Vec<String> = gpus.iter().map(|slot| slot.info.to_string()).collect();
                write!(formatter, "{}", names.join("; "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_that_is_no_gpu_says_why() {
        let devices = Devices(Arc::new(Inner { absent: Some("no driver".to_owned()), ..Inner::default() }));
        let [cpu] = devices.report(&[]).try_into().unwrap();
        assert_eq!((cpu.kind.as_str(), cpu.note.as_deref()), ("cpu", Some("no driver")));
        assert!(devices.may_take(0) && devices.gpu(0).is_none());
        assert_eq!(devices.name(Some(0)), "cpu");
    }

    fn failed(ordinal: usize) -> Slot {
        let info = GpuInfo {
            ordinal,
            name: "H200".to_owned(),
            capability: (9, 0),
            memory_bytes: 1000,
            driver_version: 12080,
            compiler_version: (12, 9),
            products: vivarium_tensor::ProductsBy::OwnKernels { reason: "a test".to_owned() },
        };
        let state = State::Failed { counters: Counters::default(), reason: "it burns".to_owned(), given_up: false };
        Slot {
            info,
            state: Mutex::new(state),
            failures: Mutex::default(),
            prompts: AtomicU64::new(0),
            kernel_ms: AtomicU64::new(0),
        }
    }

    #[test]
    fn gpus_that_failed_and_are_given_up_say_so_behind_the_cpu_that_computes_meanwhile() {
        let devices = Devices(Arc::new(Inner { gpus: vec![failed(0), failed(3)], ..Inner::default() }));
        assert!(devices.may_take(0) && devices.may_take(1), "the CPU is left");
        devices.0.gpus[1].give_up();
        let memory = [Budget::root(900), Budget::root(900)];
        let [cpu, first, second] = devices.report(&memory).try_into().unwrap();
        assert_eq!((cpu.kind.as_str(), cpu.note.as_deref()), ("cpu", Some("no GPU works; the CPU computes meanwhile")));
        let note = |report: &DeviceReport| report.note.clone().unwrap();
        assert_eq!((first.index, first.state), (Some(0), DeviceState::Failed));
        assert_eq!(note(&first), "the GPU failed (it burns); it is tried again in the background");
        assert_eq!((second.index, second.state, second.memory_limit), (Some(3), DeviceState::GivenUp, 900));
        assert!(note(&second).contains("it burns") && note(&second).ends_with("until the server is restarted"));
    }
}
