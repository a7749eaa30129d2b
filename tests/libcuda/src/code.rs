//! Code as a driver takes it: PTX that is not newer than the driver, or machine code for the device. Only PTX can be executed here.

use crate::device::{INVALID_PTX, architecture, version_number};
use std::sync::Arc;
use vivarium_ptx::Module;

const NO_BINARY_FOR_GPU: u32 = 209;
const UNSUPPORTED_PTX_VERSION: u32 = 222;

/// What a module holds.
#[derive(Clone)]
pub enum Code {
    Ptx(Arc<Module>),
    /// Which nobody here can execute.
    Machine,
}

/// An image as code, or the error and why.
pub fn loaded(image: &[u8]) -> Result<Code, (u32, String)> {
    if image.starts_with(b"\x7fELF") {
        return machine_code(image).map(|()| Code::Machine);
    }
    let text = String::from_utf8_lossy(image);
    let module = Module::parse(&text).map_err(|error| (INVALID_PTX, error.to_string()))?;
    let version = module.version.replace('.', "").parse().unwrap_or(u32::MAX);
    if version > newest_ptx(version_number()) {
        let message = format!("PTX {} is newer than driver {}", module.version, version_number());
        return Err((UNSUPPORTED_PTX_VERSION, message));
    }
    let target = module.target.trim_start_matches("sm_").parse().unwrap_or(u32::MAX);
    if target > architecture() {
        return Err((NO_BINARY_FOR_GPU, format!("PTX for {} on sm_{}", module.target, architecture())));
    }
    Ok(Code::Ptx(Arc::new(module)))
}

/// Whether a device runs machine code, an ELF file, whose flags name the architecture.
fn machine_code(image: &[u8]) -> Result<(), (u32, String)> {
    let number = |at: usize, bytes: usize| {
        let part = image.get(at..at + bytes)?;
        Some(part.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    // In the lowest byte up to CUDA 12, in the next one since.
    let flags = number(0x30, 4).unwrap_or_default();
    let own = u64::from(architecture());
    let runs = |of: u64| of / 10 == own / 10 && of <= own;
    match runs(flags & 0xff) || runs(flags >> 8 & 0xff) {
        true => Ok(()),
        false => Err((NO_BINARY_FOR_GPU, format!("machine code with flags {flags:#x} on sm_{own}"))),
    }
}

/// The newest version of PTX that the driver of a version knows, times ten.
fn newest_ptx(version: u32) -> u32 {
    let (major, minor) = (version / 1000, version % 1000 / 10);
    let behind = u32::from(major == 12 && minor >= 6);
    if major >= 13 { 90 + minor } else { 10 * (major - 4) + minor - behind }
}
