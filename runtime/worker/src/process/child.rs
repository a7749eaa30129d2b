//! The server's end of one worker process. One thread reads what it sends; it ends with the process.

use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt, unix::process::ExitStatusExt},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use vivarium_packs::Snapshot;
use vivarium_protocol::{event::Event, tenant::TenantId};
use vivarium_queue::Lease;
use vivarium_sandbox::LimitFile;

use super::{
    ProcessError, ProcessSettings,
    broker::{Broker, one_line},
    frame::{Frame, Reader, Writer},
    message::{End, Hello, Level, Pack, Prompt, Question, Say, ToChild, ToServer, Told},
};
use crate::{
    ending::Ended,
    events::Message,
    progress::ProgressTracker,
    shared::{Reach, Shared},
};

/// How long a process may take to put up its walls and say so.
const START: Duration = Duration::from_secs(60);
/// How long one that closed its socket may take to end.
const ENDING: Duration = Duration::from_secs(1);
/// Requests of one process that are answered at the same time; it waits with more.
const REQUESTS: usize = 256;

/// One process.
pub(crate) struct Child {
    pub(crate) group: String,
    settings: Arc<ProcessSettings>,
    process: Mutex<std::process::Child>,
    writer: Writer,
    jobs: Mutex<HashMap<u64, Job>>,
    asked: Mutex<HashMap<u64, Sender<Told>>>,
    /// Requests that are being answered, and whether the answer is still wanted.
    requests: Mutex<HashMap<u64, Arc<AtomicBool>>>,
    answered: Condvar,
    given: Mutex<Given>,
    /// How it ended.
    death: OnceLock<String>,
    /// The server ended it.
    dismissed: AtomicBool,
    numbers: AtomicU64,
}

/// A prompt that it runs.
struct Job {
    tenant: TenantId,
    prompt_id: String,
    progress: Arc<ProgressTracker>,
    started: Instant,
    heard: Arc<AtomicBool>,
    ended: Sender<io::Result<Ended>>,
}

/// A prompt that was given to the process.
pub(crate) struct Begun {
    pub(crate) job: u64,
    /// Its end; none comes when the process dies.
    pub(crate) end: Receiver<io::Result<Ended>>,
    /// Whether the process said anything about it.
    pub(crate) heard: Arc<AtomicBool>,
}

/// What it knows.
#[derive(Default)]
struct Given {
    generation: Option<u64>,
    limits: Option<LimitFile>,
}

impl Child {
    /// Starts one, and waits until its walls stand.
    pub(crate) fn start(
        group: String,
        settings: &Arc<ProcessSettings>,
        shared: &Arc<Shared>,
        reach: Reach,
    ) -> Result<Arc<Self>, ProcessError> {
        let failed = |source| ProcessError::Start { group: group.clone(), source };
        let begun = Instant::now();
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let process = Command::new(&settings.program)
            .args(&settings.arguments)
            // For whoever looks at a list of processes.
            .arg(&group)
            // Secrets may stand there.
            .env_clear()
            // Ctrl-C in a terminal is for the server, which lets running prompts end.
            .process_group(0)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        ours.set_read_timeout(Some(START)).map_err(failed)?;
        let reading = ours.try_clone().map_err(failed)?;
        let timeouts = ours.try_clone().map_err(failed)?;
        let child = Arc::new(Self {
            group: group.clone(),
            settings: settings.clone(),
            process: Mutex::new(process),
            writer: Writer::new(ours.into()),
            jobs: Mutex::default(),
            asked: Mutex::default(),
            requests: Mutex::default(),
            answered: Condvar::new(),
            given: Mutex::default(),
            death: OnceLock::new(),
            dismissed: AtomicBool::new(false),
            numbers: AtomicU64::new(1),
        });
        let mut reader = Reader::new(reading.into(), false);
        if let Err(message) = child.greet(&mut reader, shared) {
            child.dismiss();
            return Err(ProcessError::Unable { group, message });
        }
        timeouts.set_read_timeout(None).map_err(failed)?;
        let broker = Broker { reach, catalog: shared.catalog.clone() };
        let listening = child.clone();
        std::thread::Builder::new()
            .name("worker-process".to_owned())
            .spawn(move || listening.listen(reader, &Arc::new(broker)))
            .map_err(|source| ProcessError::Thread { source })?;
        tracing::info!(group, pid = child.id(), milliseconds = begun.elapsed().as_millis(), "started a worker process");
        Ok(child)
    }

    fn greet(&self, reader: &mut Reader, shared: &Shared) -> Result<(), String> {
        let limits = shared.limits.server().to_values();
        let hello = Hello { limits, config: shared.config.clone(), walls: !self.settings.unsandboxed };
        let ended = |error: io::Error| format!("{error}; {}", self.how_it_ended());
        self.writer.send(&ToChild::Hello(Box::new(hello))).map_err(ended)?;
        loop {
            match reader.next::<ToServer>().map_err(ended)? {
                None => return Err(self.how_it_ended()),
                Some(Frame { message: ToServer::Ready(ready), .. }) => return ready,
                Some(Frame { message: ToServer::Log { level, message }, .. }) => log(&self.group, level, &message),
                Some(_) => return Err("it does not say what the first thing to say is".to_owned()),
            }
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.lock().id()
    }

    /// How it ended, if it did.
    pub(crate) fn death(&self) -> Option<&String> {
        self.death.get()
    }

    /// Ends it at once: it has nothing that would have to be kept.
    pub(crate) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
        self.kill();
    }

    /// As something that went wrong.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock();
        // It may have ended by itself.
        process.kill().ok();
        process.wait().ok();
    }

    /// Tells it of packs and limits that are new since it was told last.
    pub(crate) fn refresh(&self, snapshot: &Snapshot, limits: LimitFile) -> io::Result<()> {
        let mut given = self.given.lock();
        if given.generation != Some(snapshot.generation()) {
            let pack = |component: &vivarium_sandbox::PackComponent| Pack {
                digest: component.digest().to_owned(),
                description: component.description(),
            };
            let packs = snapshot.usable().map(|(_, component)| pack(component)).collect();
            self.writer.send(&ToChild::Packs { generation: snapshot.generation(), packs })?;
            given.generation = Some(snapshot.generation());
        }
        if given.limits.as_ref() != Some(&limits) {
            self.writer.send(&ToChild::Limits(limits.clone()))?;
            given.limits = Some(limits);
        }
        Ok(())
    }

    /// Has a prompt run. Its end is to be waited for; no end comes when the process dies.
    pub(crate) fn run(&self, lease: &Lease, progress: &Arc<ProgressTracker>) -> io::Result<Begun> {
        let (prompt, tail) = Prompt::of(lease)?;
        let heard = Arc::new(AtomicBool::new(false));
        let job = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (ended, end) = channel();
        let entry = Job {
            tenant: lease.tenant.clone(),
            prompt_id: lease.item.prompt_id.clone(),
            progress: progress.clone(),
            started: Instant::now(),
            heard: heard.clone(),
            ended,
        };
        self.jobs.lock().insert(job, entry);
        let sent = self.writer.send_with(&ToChild::Run { job, prompt }, &tail.each_ref().map(Vec::as_slice), None);
        if sent.is_err() || self.death.get().is_some() {
            self.jobs.lock().remove(&job);
        }
        Ok(Begun { job, end, heard })
    }

    /// Tells it to stop a prompt.
    pub(crate) fn interrupt(&self, job: u64) {
        // A process that is gone has stopped.
        self.writer.send(&ToChild::Interrupt { job }).ok();
    }

    /// The same, for the one who knows the prompt only.
    pub(crate) fn interrupt_prompt(&self, tenant: &TenantId, prompt_id: &str) {
        let jobs = self.jobs.lock();
        let job = jobs.iter().find(|(_, job)| job.tenant == *tenant && job.prompt_id == prompt_id).map(|(job, _)| *job);
        drop(jobs);
        if let Some(job) = job {
            self.interrupt(job);
        }
    }

    /// Drops the kept results of a tenant.
    pub(crate) fn free(&self, tenant: &TenantId) {
        self.writer.send(&ToChild::Free { tenant: tenant.clone() }).ok();
    }

    /// Asks it. `None` when it dies or takes longer than `patience`.
    pub(crate) fn ask(&self, question: Question, tail: &[&[u8]], patience: Duration) -> Option<Told> {
        let id = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (told, answer) = channel();
        self.asked.lock().insert(id, told);
        let sent = self.writer.send_with(&ToChild::Ask { id, question }, tail, None);
        let answer = match sent {
            Ok(()) if self.death.get().is_none() => answer.recv_timeout(patience).ok(),
            _ => None,
        };
        self.asked.lock().remove(&id);
        answer
    }

    fn listen(self: &Arc<Self>, mut reader: Reader, broker: &Arc<Broker>) {
        let reason = loop {
            match reader.next() {
                Ok(Some(frame)) => self.take(frame, broker),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        // What hung up is about to end, and then says how. What speaks nonsense is not trusted to.
        let patience = Instant::now() + if reason.is_none() { ENDING } else { Duration::ZERO };
        while self.is_alive() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        let mut how = self.how_it_ended();
        if let Some(reason) = reason {
            how = format!("{how} ({reason})");
        }
        if self.dismissed.load(Ordering::Relaxed) {
            tracing::info!(group = self.group, "ended a worker process");
        } else {
            tracing::error!(group = self.group, "a worker process died: it {how}");
        }
        self.death.get_or_init(|| how);
        // Whoever waits for an end or an answer hears that none comes.
        self.jobs.lock().clear();
        self.asked.lock().clear();
        self.requests.lock().values().for_each(|wanted| wanted.store(false, Ordering::Relaxed));
    }

    fn is_alive(&self) -> bool {
        matches!(self.process.lock().try_wait(), Ok(None))
    }

    fn how_it_ended(&self) -> String {
        let mut process = self.process.lock();
        match process.try_wait() {
            Ok(Some(status)) => in_words(status),
            _ => "does not answer".to_owned(),
        }
    }

    fn take(self: &Arc<Self>, frame: Frame<ToServer>, broker: &Arc<Broker>) {
        let Frame { message, tail, .. } = frame;
        match message {
            ToServer::Ready(_) => {}
            ToServer::Say { job, to_client, message } => self.say(job, to_client, message, &tail),
            ToServer::Ended { job, end } => self.end(job, &end, &tail),
            ToServer::Request { id, tenant, request } => {
                let wanted = Arc::new(AtomicBool::new(true));
                let mut requests = self.requests.lock();
                while requests.len() >= REQUESTS {
                    self.answered.wait(&mut requests);
                }
                requests.insert(id, wanted.clone());
                drop(requests);
                let (child, broker) = (self.clone(), broker.clone());
                let answer = move || {
                    let is_member = child.settings.group_of(&tenant) == child.group;
                    let answer = broker.answer(&tenant, is_member, request, tail, &wanted);
                    child.requests.lock().remove(&id);
                    child.answered.notify_all();
                    let (answer, tail, file) = match answer {
                        Ok(answer) => (Ok(answer.answer), answer.tail, answer.file),
                        Err(error) => (Err(error), Vec::new(), None),
                    };
                    // Nobody is there to hear of a failure but the process that is gone.
                    child.writer.send_with(&ToChild::Answer { id, answer }, &[&tail], file.as_ref()).ok();
                };
                if let Err(error) = std::thread::Builder::new().name("broker".to_owned()).spawn(answer) {
                    tracing::error!(%error, "a request of a worker process is not answered: it is ended");
                    self.kill();
                }
            }
            ToServer::Cancel { id } => {
                if let Some(wanted) = self.requests.lock().get(&id) {
                    wanted.store(false, Ordering::Relaxed);
                }
            }
            ToServer::Told { id, told } => {
                if let Some(asker) = self.asked.lock().remove(&id) {
                    // It may have lost patience.
                    asker.send(told).ok();
                }
            }
            ToServer::Log { level, message } => log(&self.group, level, &message),
        }
    }

    /// To the client of the job and to nobody else, whatever the process says.
    fn say(&self, job: u64, to_client: bool, message: Say, tail: &[u8]) {
        let job = self.jobs.lock().get(&job).map(|job| {
            job.heard.store(true, Ordering::Relaxed);
            (job.progress.clone(), job.prompt_id.clone())
        });
        let Some((progress, prompt_id)) = job else { return };
        let message = match message {
            Say::Event => match serde_json::from_slice::<Event>(tail) {
                Ok(event) if event.prompt_id() == Some(&*prompt_id) => Message::Event(event),
                read => {
                    let error = read.map_or_else(|error| error.to_string(), |_| "it is of another prompt".to_owned());
                    tracing::warn!(group = self.group, error, "an event of a worker process is left out");
                    return;
                }
            },
            Say::Preview { image_type, metadata } => Message::Preview { image: tail.into(), image_type, metadata },
            Say::Text { node_id, text } => Message::Text { node_id, text },
        };
        progress.relay(to_client, message);
    }

    fn end(&self, job: u64, end: &End, tail: &[u8]) {
        if let Some(job) = self.jobs.lock().remove(&job) {
            job.heard.store(true, Ordering::Relaxed);
            // The thread of the prompt waits as long as it lives.
            job.ended.send(end.ended(tail, job.started.elapsed())).ok();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.dismiss();
    }
}

fn log(group: &str, level: Level, message: &str) {
    let message = one_line(message);
    match level {
        Level::Trace => tracing::trace!(group, "{message}"),
        Level::Debug => tracing::debug!(group, "{message}"),
        Level::Info => tracing::info!(group, "{message}"),
        Level::Warn => tracing::warn!(group, "{message}"),
        Level::Error => tracing::error!(group, "{message}"),
    }
}

/// Continues "the process …".
fn in_words(status: ExitStatus) -> String {
    const SIGKILL: i32 = 9;
    const SIGSEGV: i32 = 11;
    match (status.code(), status.signal()) {
        (_, Some(SIGKILL)) => "was killed (SIGKILL): by somebody, or by the system for want of memory".to_owned(),
        (_, Some(SIGSEGV)) => "crashed (SIGSEGV)".to_owned(),
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (Some(code), None) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}
