//! Libraries that PyTorch and numpy bring along, in a process of its own: oneDNN, MKL, OpenBLAS, pocketfft. Inputs and
//! results go through files; `peer.py` is the other end.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use vivarium_tensor::DType;

use crate::THREADS;
use crate::case::{Case, Kind};
use crate::side::{Side, Timed};

/// The process.
pub(crate) struct Python {
    pipe: Rc<RefCell<Pipe>>,
    versions: String,
    folder: TempDir,
}

impl Python {
    /// Starts a Python that has PyTorch and numpy.
    pub(crate) fn start(program: &str) -> Result<Python> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peer.py");
        let mut command = Command::new(program);
        command.arg(script).arg(THREADS.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| program.to_owned())?;
        let (Some(ask), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("the process has no pipes");
        };
        let mut pipe = Pipe { process, ask, answers: BufReader::new(answers) };
        let versions = pipe.line()?;
        Ok(Python { pipe: Rc::new(RefCell::new(pipe)), versions, folder: tempfile::tempdir()? })
    }

    /// Of all libraries, in a line.
    pub(crate) fn versions(&self) -> &str {
        &self.versions
    }

    /// Those that have the case.
    pub(crate) fn sides(&mut self, case: &Case) -> Result<Vec<Side<'static>>> {
        let names = libraries(case);
        if names.is_empty() {
            return Ok(Vec::new());
        }
        for (index, (_, numbers)) in case.inputs.iter().enumerate() {
            fs::write(self.folder.path().join(format!("{index}.f32")), bytemuck::cast_slice::<f32, u8>(numbers))?;
        }
        let shapes: Vec<&Vec<usize>> = case.inputs.iter().map(|(shape, _)| shape).collect();
        let folder = self.folder.path().display();
        self.pipe.borrow_mut().ask(&format!("case\t{}\t{shapes:?}\t{folder}", case.name))?;
        let result = self.folder.path().join("result.f32");
        Ok(names
            .iter()
            .map(|name| Side::new(name, Library { name, pipe: Rc::clone(&self.pipe), result: result.clone() }))
            .collect())
    }
}

/// By the names that `peer.py` knows. PyTorch multiplies float32 with MKL and half precision with oneDNN, and convolves with
/// oneDNN; where a weight was reordered beforehand, oneDNN does all, and is spared what ours does in every call.
fn libraries(case: &Case) -> &'static [&'static str] {
    match (case.kind, case.dtype) {
        (Kind::Matmul { .. } | Kind::Linear { .. }, DType::Float32) => &["MKL", "oneDNN, weight reordered", "OpenBLAS"],
        (Kind::Linear { .. } | Kind::Conv { .. }, _) => &["oneDNN", "oneDNN, weight reordered"],
        (Kind::Fft { .. }, _) => &["MKL", "pocketfft, one thread"],
        _ => &[],
    }
}

struct Library {
    name: &'static str,
    pipe: Rc<RefCell<Pipe>>,
    result: std::path::PathBuf,
}

impl Timed for Library {
    fn least_of(&mut self, runs: usize) -> Result<f64> {
        let answer = self.pipe.borrow_mut().ask(&format!("time\t{}\t{runs}", self.name))?;
        answer.parse().with_context(|| answer)
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        self.pipe.borrow_mut().ask(&format!("result\t{}", self.name))?;
        let bytes = fs::read(&self.result)?;
        ensure!(bytes.len() % 4 == 0, "the result has {} bytes", bytes.len());
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

struct Pipe {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Pipe {
    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.ask, "{question}").and_then(|()| self.ask.flush()).context("the peer has ended")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the peer has ended");
        match line.trim().split_once("failed: ") {
            Some(("", why)) => bail!("{why}"),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
