//! What NVIDIA's assembler makes of kernels: registers, spilled bytes and shared memory on each architecture.
//!
//! ptxas runs on every core, and what it said of a PTX is kept in `target/cuda/assembled`: assembling all takes more than a
//! minute of processor time, and a change touches few kernels.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cuda::{ARCHITECTURES, NVCC};

/// ptxas, and where it finds and leaves things.
pub(crate) struct Assembler {
    /// The program.
    pub(crate) ptxas: PathBuf,
    /// The folder of `NAME.sm_NN.ptx`.
    pub(crate) written: PathBuf,
    /// The folder of what it said before.
    pub(crate) remembered: PathBuf,
}

/// What a kernel needs on one architecture.
#[derive(Debug, Clone, Copy)]
struct Needs {
    registers: u64,
    spilled: u64,
    shared: u64,
}

impl Assembler {
    /// A line of the table for each kernel.
    ///
    /// # Errors
    /// When ptxas refuses one.
    pub(crate) fn rows(&self, kernels: &[&str]) -> Result<Vec<String>> {
        fs::create_dir_all(&self.remembered)?;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((*kernel, self.row(kernel)?));
            }
            Ok(done)
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let mut rows = thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let done = running
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            done.collect::<Result<Vec<_>>>().map(|done| done.concat())
        })?;
        rows.sort_by_key(|(kernel, _)| kernels.iter().position(|other| other == kernel));
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    fn row(&self, kernel: &str) -> Result<String> {
        let needs = ARCHITECTURES.iter().map(|number| self.needs(kernel, *number)).collect::<Result<Vec<Needs>>>()?;
        let cell = |needs: &Needs| match needs.spilled {
            0 => needs.registers.to_string(),
            spilled => format!("{} ({spilled} B spilled)", needs.registers),
        };
        let cells: Vec<String> = needs.iter().map(cell).collect();
        let shared = needs.iter().map(|needs| needs.shared).max().unwrap_or(0);
        let name = kernel.replacen('.', " ", 1).replace('_', " ");
        Ok(format!("| {name} | {} | {shared} |\n", cells.join(" | ")))
    }

    fn needs(&self, kernel: &str, architecture: u32) -> Result<Needs> {
        let said = self.said(kernel, architecture)?;
        let registers = number_before(&said, " registers").context("ptxas names no registers")?;
        let spilled = number_before(&said, " bytes spill stores").unwrap_or(0);
        let shared = number_before(&said, " bytes smem").unwrap_or(0);
        Ok(Needs { registers, spilled, shared })
    }

    /// What ptxas says of a kernel, or said of the same PTX before.
    fn said(&self, kernel: &str, architecture: u32) -> Result<String> {
        let ptx = self.written.join(format!("{kernel}.sm_{architecture}.ptx"));
        let text = fs::read(&ptx).with_context(|| format!("reading {}", ptx.display()))?;
        let mut digest = Sha256::new();
        digest.update(format!("{NVCC} sm_{architecture}\n"));
        digest.update(text);
        let remembered = self.remembered.join(hex::encode(digest.finalize()));
        if let Ok(said) = fs::read_to_string(&remembered) {
            return Ok(said);
        }
        let arch = format!("-arch=sm_{architecture}");
        let mut command = Command::new(&self.ptxas);
        let assembled = command.args(["-v", &arch, "-o", "/dev/null"]).arg(&ptx).output().context("starting ptxas")?;
        let said = String::from_utf8_lossy(&assembled.stderr).into_owned();
        if !assembled.status.success() {
            bail!("ptxas refuses {} for sm_{architecture}:\n{said}", ptx.display());
        }
        // Whole or not at all: a run may be stopped at any moment.
        let unfinished = remembered.with_extension(std::process::id().to_string());
        fs::write(&unfinished, &said).and_then(|()| fs::rename(&unfinished, &remembered))?;
        Ok(said)
    }
}

fn number_before(text: &str, words: &str) -> Option<u64> {
    let before = &text[..text.find(words)?];
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
