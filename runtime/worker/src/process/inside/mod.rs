//! The worker process: what `vivarium worker serve` does. Its socket is its standard input.
//!
//! # Layout
//! - this file: the walls, then one thread that reads, and threads for what takes time
//! - [`link`]: asking the server
//! - [`services`]: the services of a tenant, by asking
//! - [`report`]: the log

mod link;
mod report;
mod services;

use std::{
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use vivarium_graph::ValidateHook;
use vivarium_packs::Catalog;
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::Lease;
use vivarium_sandbox::{EngineConfig, LimitTable, Limits, PackComponent, SandboxEngine};
use vivarium_walls::Walls;

use self::{link::Link, services::AskedServices};
use super::{
    frame::{Frame, Reader, Writer, halves},
    message::{End, Findings, Hello, Pack, Question, Say, ToChild, ToServer, Told, Unasked},
};
use crate::{
    definitions::GuestValidators,
    ending::Ended,
    events::{EventSink, Message, Target},
    progress::ProgressTracker,
    shared::Shared,
    worker::STACK_BYTES,
};

/// What a process may read although it is nobody's: how much memory is left, on the machine and in its container.
const READABLE: [&str; 3] = ["/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup"];
/// Weights that are open, and one for every pack that was called: what its memory begins with.
const DESCRIPTORS: u64 = 4096;

/// What such a process puts up around itself.
#[must_use]
pub fn walls() -> Walls {
    Walls { readable: READABLE.map(PathBuf::from).into(), descriptors: DESCRIPTORS }
}

/// Serves the process at the other end of standard input until that closes it. Answers an exit code.
#[must_use]
pub fn serve() -> i32 {
    match begin() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("worker process: {error}");
            3
        }
    }
}

fn begin() -> io::Result<()> {
    use std::os::fd::AsFd;
    ignore_signals()?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let mut reader = Reader::new(socket.try_clone()?, true);
    let link = Arc::new(Link::new(Writer::new(socket)));
    let hello = match reader.next()? {
        Some(Frame { message: ToChild::Hello(hello), .. }) => *hello,
        _ => return Err(io::Error::other("it is started by `vivarium serve --worker-processes`, not by people")),
    };
    // The walls would not let the system be asked for it.
    let _ = vivarium_tensor::instructions();
    // Before there is a second thread, and before a word of anybody is read.
    if hello.walls
        && let Err(error) = walls().enter()
    {
        return link.send(&ToServer::Ready(Err(error.to_string())));
    }
    report::to(&link);
    vivarium_allocator::keep_freed_memory()?;
    let process = match Process::new(hello, link.clone()) {
        Ok(process) => Arc::new(process),
        Err(message) => return link.send(&ToServer::Ready(Err(message))),
    };
    link.send(&ToServer::Ready(Ok(())))?;
    while let Some(frame) = reader.next()? {
        process.take(frame)?;
    }
    // Prompts that still run have nobody any more who wants them.
    std::process::exit(0)
}

/// When a whole service is told to stop, the server lets prompts end or gives them back, and then ends its processes: until then
/// they stay. This also makes the sockets that the runtime of guests' waits takes for granted; behind the walls it could not.
fn ignore_signals() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // It starts no thread, and the handlers outlive it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        signal(kind).map(drop)?;
    }
    Ok(())
}

struct Process {
    link: Arc<Link>,
    engine: Arc<SandboxEngine>,
    shared: Arc<Shared>,
    /// By digest.
    packs: Mutex<HashMap<String, Arc<PackComponent>>>,
    interrupts: Mutex<HashMap<u64, Arc<AtomicBool>>>,
}

impl Process {
    fn new(hello: Hello, link: Arc<Link>) -> Result<Self, String> {
        let limits = Limits::from_values(&hello.limits);
        let code: Arc<dyn vivarium_sandbox::CodeSource> = link.clone();
        let config = EngineConfig { limits, code: Some(code), ..EngineConfig::default() };
        let engine = SandboxEngine::new(config).map_err(|error| error.to_string())?;
        let catalog = Arc::new(Catalog::told(engine.clone()));
        let limits = Arc::new(LimitTable::of_server(engine.limits().clone()));
        let shared = Arc::new(Shared::new(hello.config, catalog, limits, None));
        Ok(Self { link, engine, shared, packs: Mutex::default(), interrupts: Mutex::default() })
    }

    fn take(self: &Arc<Self>, frame: Frame<ToChild>) -> io::Result<()> {
        let Frame { message, tail, file } = frame;
        match message {
            ToChild::Hello(_) => return Err(io::Error::other("it was greeted twice")),
            ToChild::Packs { generation, packs } => self.take_packs(generation, packs)?,
            ToChild::Limits(said) => self.shared.limits.tell(said),
            ToChild::Run { job, prompt } => {
                let lease = prompt.lease(&tail)?;
                let interrupt = Arc::new(AtomicBool::new(false));
                self.interrupts.lock().insert(job, interrupt.clone());
                let process = self.clone();
                let thread = std::thread::Builder::new().name("prompt".to_owned()).stack_size(STACK_BYTES);
                thread.spawn(move || process.run(job, &lease, &interrupt))?;
            }
            ToChild::Interrupt { job } => {
                if let Some(interrupt) = self.interrupts.lock().get(&job) {
                    interrupt.store(true, Ordering::Relaxed);
                }
            }
            ToChild::Free { tenant } => self.shared.cache(&tenant).lock().clear(),
            ToChild::Ask { id, question } => {
                let process = self.clone();
                let thread = std::thread::Builder::new().name("question".to_owned()).stack_size(STACK_BYTES);
                thread.spawn(move || {
                    let told = process.answer(question, &tail);
                    process.link.send(&ToServer::Told { id, told }).ok();
                })?;
            }
            ToChild::Answer { id, answer } => self.link.answered(id, answer, tail, file),
        }
        Ok(())
    }

    /// Those that were there before stay as they are, their code with them.
    fn take_packs(&self, generation: u64, packs: Vec<Pack>) -> io::Result<()> {
        let mut known = self.packs.lock();
        let mut components = Vec::new();
        for Pack { digest, description } in packs {
            let component = match known.get(&digest) {
                Some(component) => component.clone(),
                None => self.engine.described(digest, &description).map_err(io::Error::other)?,
            };
            components.push(component);
        }
        *known = components.iter().map(|one| (one.digest().to_owned(), one.clone())).collect();
        self.shared.catalog.tell(generation, components).map_err(io::Error::other)
    }

    fn run(&self, job: u64, lease: &Lease, interrupt: &Arc<AtomicBool>) {
        let progress = Arc::new(ProgressTracker::new(
            lease.tenant.clone(),
            lease.item.prompt_id.clone(),
            lease.client_id.clone(),
            Arc::new(ToJob { link: self.link.clone(), job }),
            self.shared.config.preview.as_wished(&lease.item.extra_data),
        ));
        let services = Arc::new(self.services(&lease.tenant, Some(progress.clone())));
        // As in the server, a defect of ours costs one prompt.
        let run = || self.shared.run(lease, 0, interrupt.clone(), progress, services);
        let ended = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Ended::failed(lease, "the worker process failed while it ran this prompt; see the server's log")
        });
        self.interrupts.lock().remove(&job);
        let sent = End::of(&ended).and_then(|(end, tail)| {
            self.link.send_with(&ToServer::Ended { job, end }, &tail.each_ref().map(Vec::as_slice))
        });
        if let Err(error) = sent {
            tracing::error!(%error, "the end of a prompt cannot be told");
        }
    }

    fn services(&self, tenant: &TenantId, progress: Option<Arc<ProgressTracker>>) -> AskedServices {
        AskedServices {
            link: self.link.clone(),
            tenant: tenant.clone(),
            limits: self.shared.limits.clone(),
            save_metadata: self.shared.config.save_metadata,
            progress,
        }
    }

    fn answer(&self, question: Question, tail: &[u8]) -> Told {
        match question {
            Question::Used { tenant } => Told::Used(self.shared.used(&tenant)),
            Question::Validate { tenant, node_id, class, constants_length } => {
                Told::Found(self.validate(&tenant, &node_id, &class, tail, constants_length))
            }
        }
    }

    fn validate(
        &self,
        tenant: &TenantId,
        node_id: &str,
        class: &str,
        tail: &[u8],
        constants_length: u64,
    ) -> Result<Findings, Unasked> {
        let broken =
            |error: io::Error| Unasked { exception_type: "InternalError".to_owned(), message: error.to_string() };
        let (constants, types) = halves(tail, constants_length).map_err(broken)?;
        let map =
            |text: &[u8]| serde_json::from_slice::<Map<String, Value>>(text).map_err(|error| broken(error.into()));
        let (constants, types) = (map(constants)?, map(types)?);
        let snapshot = self.shared.catalog.snapshot();
        let services = Arc::new(self.services(tenant, None));
        let call = self.shared.call_context(tenant, "", "", &Arc::default(), services);
        let found = GuestValidators { snapshot: &snapshot, call }.validate(node_id, class, &constants, &types);
        found.map_err(|error| Unasked { exception_type: error.exception_type, message: error.message })
    }
}

/// Tells the server what clients of a job shall hear.
struct ToJob {
    link: Arc<Link>,
    job: u64,
}

impl EventSink for ToJob {
    fn send(&self, _tenant: &TenantId, target: Target, message: Message) {
        let to_client = matches!(target, Target::Client(_));
        let say = |message: Say, tail: &[u8]| {
            self.link.send_with(&ToServer::Say { job: self.job, to_client, message }, &[tail])
        };
        let sent = match message {
            Message::Event(event) => {
                serde_json::to_vec(&event).map_err(io::Error::from).and_then(|event| say(Say::Event, &event))
            }
            Message::Preview { image, image_type, metadata } => say(Say::Preview { image_type, metadata }, &image),
            Message::Text { node_id, text } => say(Say::Text { node_id, text }, &[]),
        };
        // The server is gone, and this process will be with the next thing that it reads.
        sent.ok();
    }
}
