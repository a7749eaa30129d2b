//! Compiling in a process of its own. How much memory and time a compiler takes is in the hands of whoever wrote the
//! component, and wasmtime promises nothing about it: so a process does it that may not take more than it is allowed, and
//! that can be killed.
//!
//! The process is this same executable, started with a hidden command that calls [`serve_one`]: component in on standard
//! input, native code out on standard output, a sentence on standard error when there is none.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{
    engine::{compile_here, compiling_engine},
    error::SandboxError,
    limits::Limits,
};

/// How often the parent looks whether the time is up.
const TICK: Duration = Duration::from_millis(10);
/// A sentence has no more bytes than this.
const MESSAGE_BYTES: u64 = 8 << 10;
/// Standard input and output, and a few of the compiler's.
const DESCRIPTORS: u64 = 64;
/// What the process says when the component is to blame.
const REFUSED: i32 = 1;

/// How the compiling process is started. The limits are added as arguments: memory in bytes, then time in seconds.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// This executable.
    pub program: PathBuf,
    /// The words that make it call [`serve_one`].
    pub arguments: Vec<OsString>,
}

impl Compiler {
    /// Compiles a component.
    ///
    /// # Errors
    /// [`SandboxError::InvalidComponent`], or [`SandboxError::Compilation`] when it takes more than `limits` allow.
    pub(crate) fn compile(&self, bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, SandboxError> {
        let failed = |error: io::Error| SandboxError::Compiler { message: error.to_string() };
        let started = Instant::now();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(limits.compile_memory.to_string())
            .arg(limits.compile_time.as_secs().max(1).to_string())
            .env_clear()
            // The allocator of our binary takes a GiB of address space at its start, which would count as used.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (code, message, ended) = thread::scope(|scope| {
            scope.spawn(move || {
                // A process that ended early has said why on standard error.
                stdin.map(|mut stdin| stdin.write_all(bytes))
            });
            let code = scope.spawn(move || read(stdout, limits.compiled_bytes.saturating_add(1)));
            let message = scope.spawn(move || read(stderr, MESSAGE_BYTES));
            let ended = wait(&mut child, started, limits.compile_time);
            (code.join(), message.join(), ended)
        });
        let (code, message) = (code.unwrap_or_default(), message.unwrap_or_default());
        let status = match ended.map_err(failed)? {
            Some(status) => status,
            None => return Err(too_slow(limits)),
        };
        if code.len() as u64 > limits.compiled_bytes {
            let message = format!(
                "it becomes more than {} bytes of native code (compiled_bytes, limits.toml)",
                limits.compiled_bytes
            );
            return Err(SandboxError::Compilation { message });
        }
        if status.success() {
            return Ok(code);
        }
        Err(explain(status, &String::from_utf8_lossy(&message), limits))
    }
}

fn read(pipe: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before an error still says something, and the exit status says the rest. The pipe closes with the end
        // of this function: a process that writes more than it may is stopped by that.
        pipe.take(most).read_to_end(&mut bytes).ok();
    }
    bytes
}

/// Waits for the end; kills and answers nothing when the time is up.
fn wait(child: &mut Child, started: Instant, time: Duration) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= time {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(TICK);
    }
}

fn too_slow(limits: &Limits) -> SandboxError {
    let message = format!(
        "it took longer than the limit of {} s (compile_time); --compile-time raises it",
        limits.compile_time.as_secs()
    );
    SandboxError::Compilation { message }
}

/// The exit code of a Rust program that panicked.
const PANIC: i32 = 101;
/// What the C library says of EAGAIN: there is no memory for the stack of a thread.
const NO_RESOURCE: &str = "Resource temporarily unavailable";
/// Linux's numbers.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

fn explain(status: ExitStatus, message: &str, limits: &Limits) -> SandboxError {
    let line = |text: &str| crate::host::clean(&text.split_whitespace().collect::<Vec<_>>().join(" "), 1000);
    match (status.code(), status.signal()) {
        (Some(REFUSED), _) => SandboxError::InvalidComponent { message: line(message) },
        // Rust aborts when there is no memory left; a thread that can't be started panics for the same reason.
        (None, Some(SIGABRT)) | (Some(PANIC), _) if status.signal().is_some() || message.contains(NO_RESOURCE) => {
            let message = format!(
                "it took more than the limit of {} bytes of memory (compile_memory); --compile-memory raises it",
                limits.compile_memory
            );
            SandboxError::Compilation { message }
        }
        (None, Some(SIGXCPU | SIGKILL)) => too_slow(limits),
        (None, Some(SIGSEGV)) => {
            SandboxError::Compilation { message: "it is nested so deeply that the compiler ran out of stack".into() }
        }
        _ => SandboxError::Compiler { message: format!("{status}: {}", line(message)) },
    }
}

/// What the compiling process does: confines itself, reads a component, writes its native code. Answers the exit code.
#[must_use]
pub fn serve_one(memory: u64, seconds: u64) -> i32 {
    match compile_one(memory, seconds) {
        Ok(()) => 0,
        Err(SandboxError::InvalidComponent { message }) => {
            eprintln!("{message}");
            REFUSED
        }
        Err(error) => {
            eprintln!("{error}");
            REFUSED + 1
        }
    }
}

fn compile_one(memory: u64, seconds: u64) -> Result<(), SandboxError> {
    let failed = |error: io::Error| SandboxError::Compiler { message: error.to_string() };
    confine(memory, seconds).map_err(failed)?;
    // Where the kernel has no walls, compiling is as confined as it can be there; `vivarium doctor` says so.
    vivarium_walls::Walls { readable: Vec::new(), descriptors: DESCRIPTORS }.enter().ok();
    let engine = compiling_engine()?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component).map_err(failed)?;
    let code = compile_here(&engine, &component)?;
    io::stdout().lock().write_all(&code).map_err(failed)
}

/// Takes away resources that a compiler does not need. Processor time is for all cores together, so it is a multiple of the time that
/// the parent waits.
fn confine(memory: u64, seconds: u64) -> io::Result<()> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let limits = [
        (Resource::Data, memory),
        (Resource::Cpu, seconds.saturating_mul(cores)),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, DESCRIPTORS),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}
