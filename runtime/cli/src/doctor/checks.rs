//! The single checks.

use std::{
    fs,
    net::{TcpListener, ToSocketAddrs},
    path::Path,
};

use vivarium_queue::{QueueError, SqliteQueue};
use vivarium_sandbox::Limits;

use super::{Check, State, bytes};
use crate::{host, options::Folders};

/// Below this, a busy server runs out of sockets and files.
const ENOUGH_OPEN_FILES: u64 = 4096;

impl Check {
    fn new(name: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { name, state, message: message.into() }
    }

    fn of<E: std::fmt::Display>(name: &'static str, result: Result<String, E>) -> Self {
        match result {
            Ok(message) => Self::new(name, State::Ok, message),
            Err(error) => Self::new(name, State::Failed, error.to_string()),
        }
    }
}

/// Every folder can be made and written.
pub(super) fn folders(folders: &Folders) -> Vec<Check> {
    let tenant = &folders.tenant;
    let writable = [
        ("base", &folders.base),
        ("input", &tenant.input),
        ("output", &tenant.output),
        ("temp", &tenant.temp),
        ("user", &tenant.user),
    ];
    let mut checks: Vec<Check> = writable.map(|(name, folder)| Check::of(name, try_writing(folder))).into();
    if let Err(failure) = folders.create() {
        checks.push(Check::new("base", State::Failed, failure.to_string()));
    }
    checks
}

fn try_writing(folder: &Path) -> Result<String, String> {
    let probe = folder.join(format!(".vivarium-doctor-{}", std::process::id()));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&probe, b"probe"))
        .and_then(|()| fs::remove_file(&probe))
        .map_err(|error| format!("{} can't be written: {error}", folder.display()))?;
    Ok(format!("{} is writable", folder.display()))
}

/// WebAssembly runs here, compiled packs can be kept, and every pack loads.
pub(super) fn sandbox_and_packs(folders: &Folders, limits: &Limits) -> Vec<Check> {
    let (_engine, catalog) = match host::load_packs(folders, limits.clone()) {
        Ok(loaded) => loaded,
        Err(failure) => return vec![Check::new("sandbox", State::Failed, failure.to_string())],
    };
    let settings = format!(
        "wasmtime, Cranelift, pooled instances (at most {}), interrupts, no WASI files, sockets or environment",
        limits.instances
    );
    let mut checks = vec![Check::new("sandbox", State::Ok, settings), compiled(&folders.compiled())];
    let snapshot = catalog.snapshot();
    for pack in snapshot.packs() {
        checks.push(match &pack.component {
            Ok(component) => {
                let definition = component.definition();
                let message = format!("{} {}: {} nodes", definition.name, definition.version, definition.nodes.len());
                Check::new("pack", State::Ok, message)
            }
            Err(error) => Check::new("pack", State::Failed, format!("{}: {error}", pack.path.display())),
        });
    }
    if snapshot.packs().is_empty() {
        let places: Vec<String> = folders.packs.iter().map(|folder| folder.display().to_string()).collect();
        let message = format!("none in {}: a server would start, but offer no nodes", places.join(", "));
        checks.push(Check::new("pack", State::Warning, message));
    }
    checks
}

fn compiled(folder: &Path) -> Check {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes: Vec<u64> = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "aot"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .collect();
    let message = format!("{} packs ({}) in {}", sizes.len(), bytes(sizes.iter().sum()), folder.display());
    Check::new("compiled", State::Ok, message)
}

/// The queue's database can be opened.
pub(super) fn queue(folders: &Folders) -> Check {
    let path = folders.queue();
    match SqliteQueue::open(&path) {
        // Not wrong by itself: somebody may ask how the running server is doing.
        Err(error @ QueueError::InUse { .. }) => Check::new("queue", State::Warning, error.to_string()),
        opened => Check::of("queue", opened.map(|_| format!("{} can be opened", path.display()))),
    }
}

/// The port is free.
pub(super) fn port(address: &str, port: u16) -> Check {
    let bound = (address, port)
        .to_socket_addrs()
        .and_then(|addresses| TcpListener::bind(addresses.collect::<Vec<_>>().as_slice()));
    match bound {
        Ok(_) => Check::new("port", State::Ok, format!("{address} port {port} is free")),
        Err(error) => {
            let advice = "another server may be running; choose another with --port";
            Check::new("port", State::Failed, format!("{address} port {port} can't be used: {error}; {advice}"))
        }
    }
}

/// The machine has what the limits allow.
pub(super) fn memory(limits: &Limits) -> Check {
    let Some(available) = proc_value("/proc/meminfo", "MemAvailable:") else {
        return Check::new("memory", State::Info, "how much is available can't be read on this system");
    };
    let available = available.saturating_mul(1024);
    let allowed = limits.total_tensor_bytes;
    let message = format!("{} available, {} allowed for tensors", bytes(available), bytes(allowed));
    if allowed > available {
        let message = format!("{message}: the system may kill the server; lower --tensor-memory");
        return Check::new("memory", State::Warning, message);
    }
    Check::new("memory", State::Ok, message)
}

/// The process may open enough files and sockets.
pub(super) fn open_files() -> Check {
    match proc_value("/proc/self/limits", "Max open files") {
        Some(limit) if limit < ENOUGH_OPEN_FILES => {
            let message = format!("at most {limit}; for many clients raise it (ulimit -n {ENOUGH_OPEN_FILES})");
            Check::new("open files", State::Warning, message)
        }
        Some(limit) => Check::new("open files", State::Ok, format!("at most {limit}")),
        None => Check::new("open files", State::Info, "the limit can't be read on this system"),
    }
}

/// The number after a label in a file of `/proc`.
fn proc_value(file: &str, label: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether workers can be confined (`vivarium serve --worker-processes`).
pub(super) fn walls() -> Check {
    let kernel = vivarium_walls::Kernel::probe();
    match (kernel.landlock, kernel.seccomp) {
        (Ok(version), Ok(())) => {
            let message = format!("landlock (version {version}) and seccomp: worker processes can be confined");
            Check::new("walls", State::Ok, message)
        }
        (landlock, seccomp) => {
            let lacking = landlock.err().into_iter().chain(seccomp.err()).map(|error| error.to_string());
            let lacking = lacking.collect::<Vec<_>>().join("; ");
            Check::new("walls", State::Info, format!("no worker processes (--worker-processes): {lacking}"))
        }
    }
}

/// What of this processor tensors are computed with.
pub(super) fn processor() -> Check {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Check::new("processor", State::Info, format!("{threads} threads; {}", vivarium_tensor::instructions()))
}

/// What computes tensors unless `--device` says otherwise: every GPU that was found, or the CPU and why.
pub(super) fn cuda() -> Vec<Check> {
    let check = |found: String| Check::new("cuda", State::Info, found);
    match vivarium_tensor::Gpu::probe() {
        Ok(gpus) => gpus.into_iter().map(check).collect(),
        Err(reason) => vec![check(format!("{reason}; tensors are computed on the CPU"))],
    }
}
