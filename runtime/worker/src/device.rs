//! Where tensors are computed: on the CPU, or on a GPU for as long as it works.
//!
//! A GPU that failed once answers every later call with the same error, and what is in its memory is lost. So it is given up
//! for the rest of the process: what ran on it runs again on the CPU, and the server says so.

use std::{
    fmt,
    path::Path,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};
use vivarium_tensor::{Budget, Counters, Gpu, GpuUnavailable};

/// What part of a GPU's memory is given away; the rest is for the driver and for kernels.
const USABLE: (u64, u64) = (9, 10);

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// This GPU, as the driver counts, or nothing.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let ordinal = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                ordinal.map(Self::Cuda).ok_or_else(|| "is none of auto, cpu, cuda, and cuda:N".to_owned())
            }
        }
    }
}

/// A device that prompts run on. Clones are the same one; the default is the CPU.
#[derive(Clone, Default)]
pub struct Device(Arc<Inner>);

#[derive(Default)]
struct Inner {
    gpu: Option<Gpu>,
    /// Why there is no GPU, where one was looked for.
    absent: Option<String>,
    failure: OnceLock<String>,
}

impl Device {
    /// Opens what was asked for. Compiled kernels are kept in the folder `kernels`, which nobody else may write to.
    ///
    /// # Errors
    /// Why there is no such GPU, unless the CPU will do.
    pub fn open(choice: DeviceChoice, kernels: &Path) -> Result<Self, GpuUnavailable> {
        let (gpu, absent) = match choice {
            DeviceChoice::Cpu => (None, None),
            DeviceChoice::Cuda(ordinal) => (Some(Gpu::open(ordinal, Some(kernels))?), None),
            DeviceChoice::Auto => match Gpu::open(0, Some(kernels)) {
                Ok(gpu) => (Some(gpu), None),
                Err(absent) => (None, Some(absent.to_string())),
            },
        };
        Ok(Self(Arc::new(Inner { gpu, absent, failure: OnceLock::new() })))
    }

    /// Whether a GPU was opened.
    #[must_use]
    pub fn has_gpu(&self) -> bool {
        self.0.gpu.is_some()
    }

    /// The GPU, if there is one and it works.
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        self.0.gpu.as_ref().filter(|_| self.0.failure.get().is_none())
    }

    /// Gives the GPU up. False when somebody did already.
    pub(crate) fn give_up(&self, reason: &str) -> bool {
        self.0.failure.set(reason.to_owned()).is_ok()
    }

    /// Bytes of a GPU that tensors may take, if there is one.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.0.gpu.as_ref().map(|gpu| gpu.info().memory_bytes / USABLE.1 * USABLE.0)
    }

    /// As people and clients see it.
    pub(crate) fn report(&self, memory: Option<&Budget>) -> DeviceReport {
        match (self.gpu(), memory) {
            (Some(gpu), Some(memory)) => {
                let Counters { launches, uploads, downloads, spilled, .. } = gpu.counters();
                DeviceReport {
                    kind: "cuda".to_owned(),
                    index: Some(gpu.info().ordinal),
                    name: gpu.info().name.clone(),
                    memory_bytes: gpu.info().memory_bytes,
                    memory_limit: memory.limit(),
                    memory_used: memory.used(),
                    work: Some(DeviceWork { launches, uploads, downloads, spilled }),
                    note: Some(gpu.info().products.to_string()),
                }
            }
            _ => {
                DeviceReport { kind: "cpu".to_owned(), name: "cpu".to_owned(), note: self.note(), ..Default::default() }
            }
        }
    }

    /// Why it is the CPU, where that needs saying.
    fn note(&self) -> Option<String> {
        match self.0.failure.get() {
            Some(failure) => {
                Some(format!("the GPU failed ({failure}); the CPU computes until the server is restarted"))
            }
            None => self.0.absent.clone(),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Device {
    /// In words, for the log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.gpu(), self.note()) {
            (Some(gpu), _) => write!(formatter, "{}", gpu.info()),
            (None, Some(note)) => write!(formatter, "CPU: {note}"),
            (None, None) => write!(formatter, "CPU"),
        }
    }
}

/// A device in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// `cpu` or `cuda`.
    pub kind: String,
    /// Number of the GPU.
    pub index: Option<usize>,
    /// The driver's name for it.
    pub name: String,
    /// Bytes that it has.
    pub memory_bytes: u64,
    /// Bytes that tensors may take.
    pub memory_limit: u64,
    /// Bytes that they take.
    pub memory_used: u64,
    /// What it has done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<DeviceWork>,
    /// What computes products on a GPU; else why it is no GPU, where one was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a GPU has done since the server started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWork {
    /// Kernels started.
    pub launches: u64,
    /// Tensors copied to it.
    pub uploads: u64,
    /// Tensors copied back.
    pub downloads: u64,
    /// Tensors that left its memory to make room.
    pub spilled: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn choices_are_read() {
        let read = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Cpu));
        assert_eq!(read("cuda"), Ok(DeviceChoice::Cuda(0)));
        assert_eq!(read("cuda:3"), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_device_that_is_no_gpu_says_why() {
        let device = Device(Arc::new(Inner { absent: Some("no driver".to_owned()), ..Inner::default() }));
        assert_eq!(device.report(None).note.unwrap(), "no driver");
        assert!(device.give_up("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert!(!device.give_up("another"));
        let note = device.report(None).note.unwrap();
        assert!(note.contains("CUDA_ERROR_ILLEGAL_ADDRESS") && note.contains("restarted"), "{note}");
    }
}
