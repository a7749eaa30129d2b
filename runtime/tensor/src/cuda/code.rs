//! Kernels' code for one GPU: what NVRTC makes of their sources, and the cache of it on disk.
//!
//! It is PTX, which the driver assembles for the GPU at hand. A driver refuses PTX of a compiler newer than itself, though, also where
//! it could run all that stands in it; such a compiler makes machine code instead, which drivers of the same major version take.

use super::driver::Compiler;
use crate::{GpuUnavailable, TensorError};
use cudarc::driver::{CudaContext, CudaModule, DriverError};
use cudarc::nvrtc::result::{self, NvrtcError};
use cudarc::nvrtc::{Ptx, sys};
use sha2::{Digest, Sha256};
use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Virtual architectures that kernels are compiled for; a GPU takes the newest that it can run. For those in between (8.6, 8.9, 9.0) our
/// kernels come out the same as for the one before, but for how far some loops are unrolled.
const ARCHITECTURES: [u32; 4] = [75, 80, 100, 120];

/// What code is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A virtual architecture, such as 80.
    Ptx(u32),
    /// A real one, such as 89.
    Machine(u32),
}

impl Target {
    /// What a driver takes for a GPU of a compute capability, such as 89.
    ///
    /// # Errors
    /// Where the GPU is too old, or the compiler goes together with neither driver nor GPU.
    pub(super) fn of(capability: u32, driver_version: i32, compiler: &Compiler) -> Result<Target, GpuUnavailable> {
        let driver = (driver_version / 1000, driver_version % 1000 / 10);
        if capability < ARCHITECTURES[0] {
            return Err(GpuUnavailable::GpuTooOld { capability });
        }
        let target = match compiler.version {
            version if version <= driver => Target::ptx(capability, compiler),
            (major, _) if major == driver.0 => Target::machine(capability, compiler),
            _ => None,
        };
        target.ok_or(GpuUnavailable::CompilerUnsuited { compiler: compiler.version, driver, capability })
    }

    /// The newest virtual architecture that a GPU of a compute capability and the compiler know.
    pub(super) fn ptx(capability: u32, compiler: &Compiler) -> Option<Target> {
        let runs = |of: &u32| *of <= capability && compiler.architectures.contains(of);
        ARCHITECTURES.into_iter().filter(runs).max().map(Target::Ptx)
    }

    /// The newest real one: code for it runs on the later ones of the same generation.
    fn machine(capability: u32, compiler: &Compiler) -> Option<Target> {
        let runs = |of: &u32| *of <= capability && *of / 10 == capability / 10;
        compiler.architectures.iter().copied().filter(runs).max().map(Target::Machine)
    }

    /// As the compiler is told.
    fn option(self) -> String {
        match self {
            Target::Ptx(number) => format!("--gpu-architecture=compute_{number}"),
            Target::Machine(number) => format!("--gpu-architecture=sm_{number}"),
        }
    }
}

/// Where code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Compiler,
    Cache,
}

/// Code for one target.
pub(super) struct CodeStore {
    target: Target,
    /// What it depends on besides the source.
    environment: String,
    cache: Option<PathBuf>,
}

impl CodeStore {
    pub(super) fn new(target: Target, compiler_version: (i32, i32), cache: Option<&Path>) -> CodeStore {
        let environment = match target {
            Target::Ptx(number) => format!("compute_{number} {compiler_version:?}"),
            Target::Machine(number) => format!("sm_{number} {compiler_version:?}"),
        };
        CodeStore { target, environment, cache: cache.map(Path::to_owned) }
    }

    /// Where it is kept.
    pub(super) fn folder(&self) -> Option<&PathBuf> {
        self.cache.as_ref()
    }

    /// The code of a source.
    pub(super) fn get(&self, op: &'static str, text: &str) -> Result<(Vec<u8>, Origin), TensorError> {
        match self.read_cache(text) {
            Some(code) => Ok((code, Origin::Cache)),
            None => self.compile_anew(op, text).map(|code| (code, Origin::Compiler)),
        }
    }

    /// The same from the compiler, whatever the cache holds.
    pub(super) fn compile_anew(&self, op: &'static str, text: &str) -> Result<Vec<u8>, TensorError> {
        let code = compile(self.target, text)
            .map_err(|problem| TensorError::Device { op, message: format!("a kernel does not compile: {problem}") })?;
        self.write_cache(text, &code);
        Ok(code)
    }

    /// Hands code to the driver.
    pub(super) fn load(&self, code: Vec<u8>, context: &Arc<CudaContext>) -> Result<Arc<CudaModule>, DriverError> {
        context.load_module(match self.target {
            Target::Ptx(_) => Ptx::from_src(String::from_utf8_lossy(&code).replace('\0', "")),
            Target::Machine(_) => Ptx::from_binary(code),
        })
    }

    fn path(&self, text: &str) -> Option<PathBuf> {
        let mut digest = Sha256::new();
        digest.update(self.environment.as_bytes());
        digest.update([0]);
        digest.update(text.as_bytes());
        let ending = match self.target {
            Target::Ptx(_) => "ptx",
            Target::Machine(_) => "cubin",
        };
        Some(self.cache.as_ref()?.join(format!("{}.{ending}", hex::encode(digest.finalize()))))
    }

    /// What is there as a whole: the driver is told where code begins, and not how long it is.
    fn read_cache(&self, text: &str) -> Option<Vec<u8>> {
        let code = std::fs::read(self.path(text)?).ok()?;
        let whole = match self.target {
            Target::Ptx(_) => code.trim_ascii_end().ends_with(b"}"),
            Target::Machine(_) => is_whole_elf(&code),
        };
        whole.then_some(code)
    }

    /// A cache that cannot be written is a slower start, no error.
    fn write_cache(&self, text: &str, code: &[u8]) {
        /// Jobs, also on different GPUs, may need the same kernel at the same time.
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let Some(path) = self.path(text) else { return };
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let written = path.parent().map(std::fs::create_dir_all).transpose().is_ok()
            && std::fs::write(&unfinished, code).is_ok()
            && std::fs::rename(&unfinished, &path).is_ok();
        if !written {
            let _ = std::fs::remove_file(&unfinished);
        }
    }
}

/// Whether an ELF file reaches as far as its header says that its tables do.
fn is_whole_elf(file: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        let digits = file.get(at..at + bytes)?;
        Some(digits.iter().rev().fold(0u128, |number, digit| number << 8 | u128::from(*digit)))
    };
    // Where the table begins, the bytes of an entry, and how many there are.
    let end = |[start, size, count]: [usize; 3]| Some(number(start, 8)? + number(size, 2)? * number(count, 2)?);
    let ends = [end([0x20, 0x36, 0x38]), end([0x28, 0x3a, 0x3c])];
    file.starts_with(b"\x7fELF") && ends.iter().all(|end| end.is_some_and(|end| end <= file.len() as u128))
}

/// A program of the compiler's, destroyed with this.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: made by the compiler and destroyed only here. A refusal leaves some memory behind.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Has the compiler make code of a source, or say what is wrong.
#[allow(unsafe_code)]
fn compile(target: Target, text: &str) -> Result<Vec<u8>, String> {
    let refused = |error: NvrtcError| format!("{:?}", error.0);
    let source = CString::new(text).map_err(|error| error.to_string())?;
    let program = Program(result::create_program(&source, None).map_err(refused)?);
    let options = ["--fmad=false".to_owned(), target.option()];
    // SAFETY: the program is alive until the end of this function, and so is its source.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
        return Err(format!("{:?}: {}", error.0, text_of(&log)));
    }
    match target {
        // SAFETY: as above.
        Target::Ptx(_) => unsafe { result::get_ptx(program.0) }.map(|ptx| text_of(&ptx).into_bytes()).map_err(refused),
        Target::Machine(_) => machine_code(&program).map_err(refused),
    }
}

/// What was compiled for a real architecture.
#[allow(unsafe_code)]
fn machine_code(program: &Program) -> Result<Vec<u8>, NvrtcError> {
    let mut size = 0;
    // SAFETY: the program is alive, and the function writes one number through a pointer to one.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size).result()? };
    let mut code = vec![0u8; size];
    // SAFETY: as above; there is room for as many bytes as it says it writes.
    unsafe { sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()).result()? };
    Ok(code)
}

/// Characters up to the zero that ends them.
fn text_of(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|character| character.cast_unsigned()).chain([0]).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(version: (i32, i32), architectures: &[u32]) -> Compiler {
        Compiler { version, architectures: architectures.to_vec() }
    }

    const NEW: [u32; 11] = [75, 80, 86, 87, 89, 90, 100, 101, 103, 120, 121];

    #[test]
    fn a_gpu_gets_the_newest_code_that_it_and_the_compiler_know() {
        let newest = compiler((12, 9), &NEW);
        let given = [75, 79, 80, 89, 90, 100, 103, 121].map(|capability| Target::of(capability, 12_090, &newest));
        assert_eq!(given, [75, 75, 80, 80, 80, 100, 100, 120].map(|number| Ok(Target::Ptx(number))));
        let older = compiler((12, 4), &NEW[..6]);
        assert_eq!(Target::of(120, 12_080, &older), Ok(Target::Ptx(80)));
        assert_eq!(Target::of(61, 12_080, &older), Err(GpuUnavailable::GpuTooOld { capability: 61 }));
    }

    #[test]
    fn a_driver_older_than_the_compiler_gets_machine_code_of_its_own_major_version_or_a_reason() {
        let newest = compiler((12, 9), &NEW);
        let older = |capability| Target::of(capability, 12_040, &newest);
        assert_eq!([75, 89, 90].map(older), [75, 89, 90].map(|number| Ok(Target::Machine(number))));
        assert_eq!(older(88), Ok(Target::Machine(87)), "of the same generation");
        assert_eq!(older(61), Err(GpuUnavailable::GpuTooOld { capability: 61 }));
        let next = compiler((13, 0), &NEW);
        for refused in [Target::of(89, 12_090, &next), Target::of(89, 11_080, &newest), older(110)] {
            assert!(matches!(refused, Err(GpuUnavailable::CompilerUnsuited { .. })), "{refused:?}");
        }
    }

    #[test]
    fn an_elf_file_that_is_cut_off_is_not_whole() {
        let mut file = vec![0u8; 300];
        file[..4].copy_from_slice(b"\x7fELF");
        file[0x20] = 200; // Two segments of 50 bytes end where the file does.
        (file[0x36], file[0x38]) = (50, 2);
        assert!(is_whole_elf(&file));
        assert!(!is_whole_elf(&file[..299]) && !is_whole_elf(&file[..40]) && !is_whole_elf(b""));
        file[0] = 0;
        assert!(!is_whole_elf(&file));
    }
}
