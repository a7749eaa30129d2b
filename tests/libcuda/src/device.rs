//! A device: memory, modules, streams, and the mistakes it has seen.
//!
//! Handles and addresses say which device they belong to, so that one that is used on another is known as such.

use crate::code::{self, Code};
use crate::order::{Knowledge, Order, Step, Stream};
use crate::pinned::Pinned;
use crate::pool::Pool;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use vivarium_ptx::memory::{GLOBAL, Place};
use vivarium_ptx::{FaultKind, Launch, Memory};

/// The driver's error numbers.
pub const SUCCESS: u32 = 0;
pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const INVALID_DEVICE: u32 = 101;
pub const INVALID_CONTEXT: u32 = 201;
pub const INVALID_PTX: u32 = 218;
pub const INVALID_HANDLE: u32 = 400;
pub const NOT_FOUND: u32 = 500;
pub const NOT_READY: u32 = 600;
pub const ILLEGAL_ADDRESS: u32 = 700;
pub const MISALIGNED_ADDRESS: u32 = 716;
pub const CONTEXT_IS_DESTROYED: u32 = 709;
pub const LAUNCH_FAILED: u32 = 719;
pub const NOT_SUPPORTED: u32 = 801;

/// The version that the driver says it has, unless `SIMULATED_CUDA_VERSION` says otherwise.
const VERSION: u32 = 12_090;

/// Bytes of a device, unless `SIMULATED_CUDA_MEMORY` says otherwise.
const MEMORY: u64 = 4 << 30;

/// Each device has so many handles and addresses, one after the other.
const SHARE: u32 = 40;
/// The first handle of a device, behind those that stand for default streams.
const FIRST_HANDLE: u64 = 0x1000;

/// Instructions of one launch: some minutes, far more than any test takes.
const MAX_INSTRUCTIONS: u64 = 1 << 30;

pub type Answer<T> = Result<T, u32>;

/// A kernel of a loaded module.
pub struct Function {
    pub module: Code,
    pub name: String,
}

/// Who used a buffer last.
#[derive(Debug, Default)]
struct Uses {
    written: Option<Step>,
    read: HashMap<Stream, u64>,
}

/// What was done before it, and when it was recorded: work is done when it is queued, so that is when it passed.
#[derive(Default)]
pub(crate) struct Event {
    pub(crate) knowledge: Knowledge,
    pub(crate) passed: Option<Instant>,
    /// Whether it takes the time.
    pub(crate) timed: bool,
}

#[derive(Default)]
pub(crate) struct Registry {
    modules: HashMap<u64, Code>,
    functions: HashMap<u64, Arc<Function>>,
    pub(crate) events: HashMap<u64, Event>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) order: Order,
    uses: HashMap<u64, Uses>,
    pub(crate) pinned: Pinned,
    pub(crate) pool: Pool,
    /// How often the host waited.
    pub(crate) waits: u64,
    faults: Vec<String>,
}

pub struct Device {
    index: usize,
    pub memory: Mutex<Memory>,
    pub(crate) registry: Mutex<Registry>,
    primary: Mutex<Primary>,
    /// The error that all calls answer once a kernel went wrong.
    poison: AtomicU32,
    next: AtomicU64,
    launches: AtomicU32,
    instructions: AtomicU64,
}

/// The primary context.
#[derive(Debug, Default)]
struct Primary {
    /// How many hold it. The last that lets go of it resets it.
    retained: u32,
    /// How often it was reset. What belongs to an earlier one is no more.
    resets: u32,
    /// How threads wait.
    flags: u32,
}

/// One, or as many as `SIMULATED_CUDA_DEVICES` says.
pub static DEVICES: LazyLock<Vec<Device>> =
    LazyLock::new(|| (0..setting("SIMULATED_CUDA_DEVICES", 1)).map(Device::new).collect());

/// The device that a handle belongs to.
pub fn device_of(handle: u64) -> Answer<&'static Device> {
    DEVICES.get((handle >> SHARE) as usize).ok_or(INVALID_HANDLE)
}

/// The device that has live memory at an address.
fn holder_of(address: u64) -> Option<&'static Device> {
    let device = DEVICES.get((address.checked_sub(GLOBAL)? >> SHARE) as usize)?;
    matches!(device.memory.lock().find(address), Place::Live(..)).then_some(device)
}

/// A setting from the environment.
pub fn setting<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Whether a launch of a device breaks it down. `SIMULATED_CUDA_FAILURES` names such launches as `DEVICE:LAUNCH`, and those from
/// one on as `DEVICE:LAUNCH+`, counted from 1 and also past a reset, with commas between them.
fn fails(device: usize, launch: u32) -> bool {
    setting("SIMULATED_CUDA_FAILURES", String::new()).split(',').any(|failure| {
        let Some((of, number)) = failure.split_once(':') else { return false };
        let (number, later) = number.strip_suffix('+').map_or((number, false), |number| (number, true));
        let number = number.parse().unwrap_or(u32::MAX);
        of.parse() == Ok(device) && (launch == number || later && launch > number)
    })
}

/// The version that the driver says it has.
pub fn version_number() -> u32 {
    setting("SIMULATED_CUDA_VERSION", VERSION)
}

/// The number that environment variables say the device's architecture has, such as 89.
pub fn architecture() -> u32 {
    setting("SIMULATED_CUDA_ARCH", 89)
}

impl Device {
    fn new(index: usize) -> Self {
        let share = (index as u64) << SHARE;
        Device {
            index,
            memory: Mutex::new(Memory::beginning_at(GLOBAL + share)),
            registry: Mutex::default(),
            primary: Mutex::default(),
            poison: AtomicU32::new(SUCCESS),
            next: AtomicU64::new(share + FIRST_HANDLE),
            launches: AtomicU32::new(0),
            instructions: AtomicU64::new(0),
        }
    }

    /// Holds the primary context.
    pub fn retain(&self) {
        self.primary.lock().retained += 1;
    }

    /// How often the primary context was reset.
    pub fn resets(&self) -> u32 {
        self.primary.lock().resets
    }

    pub fn release(&self) -> Answer<()> {
        let last = {
            let mut primary = self.primary.lock();
            primary.retained = primary.retained.checked_sub(1).ok_or(INVALID_CONTEXT)?;
            primary.retained == 0
        };
        if last {
            self.reset();
        }
        Ok(())
    }

    /// Everything of the primary context goes, its error too. Nobody may use any of it afterwards.
    pub fn reset(&self) {
        self.primary.lock().resets += 1;
        let faults = std::mem::take(&mut self.registry.lock().faults);
        *self.registry.lock() = Registry { faults, ..Registry::default() };
        self.memory.lock().free_all();
        self.poison.store(SUCCESS, Ordering::SeqCst);
    }

    /// Notes that a thread goes on with a context that was reset meanwhile.
    pub fn outlived(&self) {
        self.note(format!("Context: a thread did not take the new one of device {} after a reset", self.index));
    }

    /// That a handle is this device's.
    pub fn owns(&self, handle: u64) -> Answer<()> {
        if handle >> SHARE == self.index as u64 || handle < FIRST_HANDLE {
            return Ok(());
        }
        self.note(format!("Device: handle {handle:#x} of device {} is used on device {}", handle >> SHARE, self.index));
        Err(INVALID_HANDLE)
    }

    /// That an address is not another device's.
    fn reaches(&self, address: u64) -> Answer<()> {
        match holder_of(address).filter(|holder| holder.index != self.index) {
            Some(holder) => {
                let (other, own) = (holder.index, self.index);
                self.mistake(
                    ILLEGAL_ADDRESS,
                    format!("Device: memory of device {other} at {address:#x} is used on a stream of device {own}"),
                );
                Err(ILLEGAL_ADDRESS)
            }
            None => Ok(()),
        }
    }

    /// The error of an earlier kernel, which sticks.
    pub fn check(&self) -> Answer<()> {
        match self.poison.load(Ordering::SeqCst) {
            SUCCESS => Ok(()),
            error => Err(error),
        }
    }

    pub fn total(&self) -> u64 {
        setting("SIMULATED_CUDA_MEMORY", MEMORY)
    }

    pub fn handle(&self) -> u64 {
        self.next.fetch_add(16, Ordering::SeqCst)
    }

    /// Keeps it, without breaking down.
    fn note(&self, text: String) {
        eprintln!("simulated CUDA: {text}");
        self.registry.lock().faults.push(text);
    }

    pub fn mistake(&self, error: u32, text: String) {
        self.note(text);
        let _ = self.poison.compare_exchange(SUCCESS, error, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// As after a kernel's mistake.
    pub fn break_down(&self) {
        self.mistake(ILLEGAL_ADDRESS, "broken on request".to_owned());
    }

    /// Everything found so far, and a clean slate, which no driver offers.
    pub fn take_faults(&self) -> Vec<String> {
        self.poison.store(SUCCESS, Ordering::SeqCst);
        std::mem::take(&mut self.registry.lock().faults)
    }

    pub fn instructions(&self) -> u64 {
        self.instructions.load(Ordering::SeqCst)
    }

    pub fn allocate(&self, bytes: usize, stream: Stream) -> Answer<u64> {
        self.check()?;
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        let mut memory = self.memory.lock();
        let mut registry = self.registry.lock();
        let taken = registry.pool.take(bytes as u64);
        if !taken && memory.used() + registry.pool.unused() + bytes as u64 > self.total() {
            return Err(OUT_OF_MEMORY);
        }
        let base = memory.allocate(bytes, stream);
        registry.uses.insert(base, Uses::default());
        Ok(base)
    }

    pub fn free(&self, base: u64, stream: Stream) -> Answer<()> {
        self.check()?;
        self.reaches(base)?;
        let unordered = {
            let mut registry = self.registry.lock();
            registry.order.step(stream);
            let Some(uses) = registry.uses.remove(&base) else { return Err(INVALID_VALUE) };
            let steps = uses.read.into_iter().chain(uses.written);
            steps.into_iter().find(|step| !registry.order.knows(stream, *step))
        };
        if let Some((other, _)) = unordered {
            self.mistake(
                ILLEGAL_ADDRESS,
                format!("Order: buffer {base:#x} freed on stream {stream} while stream {other} may still use it"),
            );
        }
        let bytes = self.memory.lock().free(base).ok_or(INVALID_VALUE)?;
        self.registry.lock().pool.give_back(bytes);
        Ok(())
    }

    /// How much the pool keeps of what nobody uses.
    pub fn keep_unused(&self, bytes: u64) {
        self.registry.lock().pool.keep(bytes);
    }

    pub fn trim(&self, bytes: u64) -> Answer<()> {
        self.check()?;
        self.registry.lock().pool.trim(bytes);
        Ok(())
    }

    /// How threads wait.
    pub fn set_flags(&self, flags: u32) {
        self.primary.lock().flags = flags;
    }

    pub fn flags(&self) -> u32 {
        self.primary.lock().flags
    }

    /// Bytes that are in use, and those that the pool keeps besides.
    pub fn held(&self) -> (u64, u64) {
        (self.memory.lock().used(), self.registry.lock().pool.unused())
    }

    /// Notes a use, which has to come after the last write (and a write after all reads).
    fn used(&self, base: u64, stream: Stream, writes: bool) {
        let problem = {
            let mut registry = self.registry.lock();
            let step = registry.order.step(stream);
            let Some(uses) = registry.uses.get(&base) else { return };
            let mut before: Vec<Step> = uses.written.into_iter().collect();
            if writes {
                before.extend(uses.read.iter().map(|(stream, count)| (*stream, *count)));
            }
            let problem = before.into_iter().find(|before| !registry.order.knows(stream, *before));
            if let Some(uses) = registry.uses.get_mut(&base) {
                if writes {
                    uses.written = Some(step);
                } else {
                    uses.read.insert(step.0, step.1);
                }
            }
            problem
        };
        if let Some((other, _)) = problem {
            self.mistake(
                ILLEGAL_ADDRESS,
                format!("Order: stream {stream} uses buffer {base:#x} without waiting for stream {other}"),
            );
        }
    }

    /// Runs `with` on `length` bytes at an address.
    pub fn bytes<T>(
        &self,
        address: u64,
        length: usize,
        stream: Stream,
        writes: bool,
        with: impl FnOnce(&mut vivarium_ptx::Allocation, usize) -> Result<T, String>,
    ) -> Answer<T> {
        self.check()?;
        self.reaches(address)?;
        let Place::Live(allocation, at) = self.memory.lock().find(address) else {
            self.mistake(ILLEGAL_ADDRESS, format!("copy: no buffer at {address:#x}"));
            return Err(ILLEGAL_ADDRESS);
        };
        let result = {
            let mut allocation = allocation.lock();
            if at + length > allocation.data.len() {
                Err(format!("OutOfBounds: copy of {length} bytes at {at} of a buffer of {}", allocation.data.len()))
            } else {
                with(&mut allocation, at)
            }
        };
        self.used(address - at as u64, stream, writes);
        result.map_err(|text| {
            self.mistake(ILLEGAL_ADDRESS, text);
            ILLEGAL_ADDRESS
        })
    }

    /// Loads PTX, or machine code.
    pub fn load(&self, image: &[u8]) -> Answer<u64> {
        self.check()?;
        let module = code::loaded(image).map_err(|(error, text)| {
            eprintln!("simulated CUDA: {text}");
            // Whoever is told that may know what to do.
            if error == INVALID_PTX {
                self.registry.lock().faults.push(text);
            }
            error
        })?;
        let handle = self.handle();
        self.registry.lock().modules.insert(handle, module);
        Ok(handle)
    }

    pub fn unload(&self, module: u64) -> Answer<()> {
        self.registry.lock().modules.remove(&module).map(drop).ok_or(INVALID_HANDLE)
    }

    pub fn function(&self, module: u64, name: &str) -> Answer<u64> {
        self.check()?;
        let mut registry = self.registry.lock();
        let module = registry.modules.get(&module).ok_or(INVALID_HANDLE)?.clone();
        if let Code::Ptx(module) = &module {
            module.kernel(name).ok_or(NOT_FOUND)?;
        }
        let handle = self.handle();
        registry.functions.insert(handle, Arc::new(Function { module, name: name.to_owned() }));
        Ok(handle)
    }

    pub fn find_function(&self, handle: u64) -> Answer<Arc<Function>> {
        self.registry.lock().functions.get(&handle).cloned().ok_or(INVALID_HANDLE)
    }

    pub fn launch(
        &self,
        function: &Function,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        stream: Stream,
        params: &[u8],
    ) -> Answer<()> {
        self.check()?;
        let Code::Ptx(module) = &function.module else { return Err(NOT_SUPPORTED) };
        let kernel = module.kernel(&function.name).ok_or(INVALID_HANDLE)?;
        let mut handed = Vec::new();
        for bytes in params.as_chunks::<8>().0 {
            self.reaches(u64::from_le_bytes(*bytes))?;
            let found = self.memory.lock().find(u64::from_le_bytes(*bytes));
            if let Place::Live(allocation, _) = found {
                let base = allocation.lock().base;
                self.used(base, stream, false);
                handed.push((base, allocation));
            }
        }
        let number = self.launches.fetch_add(1, Ordering::SeqCst) + 1;
        if fails(self.index, number) {
            self.break_down();
            return Ok(());
        }
        let launch = Launch {
            module,
            kernel,
            grid,
            block,
            shared,
            params,
            owner: stream,
            number,
            max_instructions: MAX_INSTRUCTIONS,
        };
        match launch.run(&self.memory) {
            Ok(statistics) => {
                self.instructions.fetch_add(statistics.instructions, Ordering::SeqCst);
                // Only now it is known what it wrote.
                for (base, _) in handed.iter().filter(|(_, allocation)| allocation.lock().last_writer == number) {
                    self.used(*base, stream, true);
                }
            }
            Err(fault) if fault.kind == FaultKind::Configuration => {
                self.registry.lock().faults.push(fault.to_string());
                return Err(INVALID_VALUE);
            }
            Err(fault) => {
                let error = match fault.kind {
                    FaultKind::Misaligned => MISALIGNED_ADDRESS,
                    FaultKind::OutOfBounds | FaultKind::UseAfterFree | FaultKind::ForeignBuffer => ILLEGAL_ADDRESS,
                    _ => LAUNCH_FAILED,
                };
                self.mistake(error, fault.to_string());
            }
        }
        Ok(())
    }
}
