//! `vivarium run`: a workflow without a server, on a worker inside this process.
//!
//! Everything that would outlive the run (queue, previews, uploads) lies in a scratch folder that goes when it ends; only
//! the results stay. So it may run beside a server that uses the same base folder.
//!
//! # Layout
//! - [`inputs`]: bringing the files that the workflow names
//! - [`scratch`]: the folder that goes

mod inputs;
mod scratch;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::Value;
use uuid::Uuid;
use vivarium_blobs::{Folder, TenantDirs};
use vivarium_protocol::{event::Event, history::HistoryEntry, tenant::TenantId};
use vivarium_queue::NewPrompt;
use vivarium_worker::{Engine, EventSink, Message, Parts, PreviewSettings, Target, Worker, WorkerConfig};

use self::scratch::Scratch;
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    host::HostPlan,
    logging::{self, Verbosity},
    options::{DeviceOptions, Folders, GrantOptions, LimitOptions, OutsideOptions, SourceOptions},
    progress::Progress,
    report::{Ended, HistoryStatus, Report, SavedFile},
    results::{listed, settle},
    signals::Stop,
    workflow::{InputFile, Setting, Workflow, check_declared},
};

/// Run a workflow here, without a server.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium run postcard.json
  vivarium run postcard.json --input photo.jpg=~/Pictures/cat.jpg --set 4.width=768 -o results
  vivarium run postcard.json --json | jq -r '.files[].path'

Files that the workflow names are taken from --input, else from beside the workflow, else from the input folder.
Progress goes to stderr; the paths of the saved files go to stdout, one a line.")]
pub(crate) struct Run {
    /// The workflow in the API format; - reads standard input
    workflow: PathBuf,

    /// Change an input; the node is its id, or a title or class that only one node has
    #[arg(long, value_name = "NODE.INPUT=VALUE")]
    set: Vec<Setting>,

    /// A file that the workflow loads; NAME is what the workflow calls it
    #[arg(long, value_name = "[NAME=]FILE")]
    input: Vec<InputFile>,

    /// Where to save the results
    #[arg(short, long = "output-directory", value_name = "DIR", default_value = ".")]
    output: PathBuf,

    /// Keep previews (files of type `temp`) as well
    #[arg(long)]
    previews: bool,

    /// Don't put the workflow into saved images
    #[arg(long)]
    disable_metadata: bool,

    /// Print one JSON object instead of paths
    #[arg(long)]
    json: bool,

    /// No progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    folders: SourceOptions,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    grants: GrantOptions,

    #[command(flatten)]
    outside: OutsideOptions,
}

/// Who gets the events of the run; there is nobody else.
const CLIENT: &str = "run";
/// How often a signal is looked for.
const TICK: Duration = Duration::from_millis(100);
/// Events on their way from the worker to the display. When it is full the worker waits: the display is quick.
const EVENTS: usize = 1024;

impl Run {
    pub(crate) fn run(self) -> Outcome<()> {
        let stop = Stop::on_signals()?;
        logging::start(Verbosity::Warning, None);
        let started = Instant::now();
        let mut workflow = Workflow::read(&self.workflow)?;
        let scratch = Scratch::create()?;
        let (sender, events) = mpsc::sync_channel(EVENTS);
        let parts = self.plan(&scratch)?.build(Arc::new(ToChannel(sender)))?;
        let devices = self.device.open(&self.folders.resolve()?.kernels())?;
        let worker_config = WorkerConfig { devices, ..self.worker_config() };
        let worker = Worker::start(worker_config, parts.clone())
            .or_fail(Exit::Machine, || "could not start the worker's thread")?;
        self.change_inputs(worker.as_ref(), &mut workflow)?;
        inputs::bring(&parts, &workflow, &self.input, &self.places())?;

        let mut progress = Progress::new(&workflow, self.quiet);
        let ended = execute(&workflow, worker.as_ref(), &parts, &events, &mut progress, &stop);
        progress.end();
        // Ends its thread; nothing runs any more.
        worker.stop(Duration::ZERO);
        let (prompt_id, ended, outputs) = ended?;
        let files = self.keep(&parts, &outputs)?;
        Report { prompt_id, ended, files, seconds: started.elapsed().as_secs_f64() }.print(self.json)
    }

    fn plan(&self, scratch: &Scratch) -> Outcome<HostPlan> {
        let folders = self.folders.resolve()?;
        let tenant = TenantDirs {
            input: scratch.folder("input"),
            temp: scratch.folder("temp"),
            user: scratch.folder("user"),
            users: scratch.folder("users"),
            output: self.output.clone(),
        };
        Ok(HostPlan {
            queue: scratch.folder("queue.sqlite"),
            blobs: scratch.folder("blobs"),
            limits: self.limits.resolve_in(&folders)?,
            grants: self.grants.resolve(),
            outside: self.outside.resolve(&folders)?,
            folders: Folders { tenant, ..folders },
        })
    }

    fn worker_config(&self) -> WorkerConfig {
        // Nobody looks at previews of running nodes here.
        let preview = PreviewSettings { enabled: false, ..PreviewSettings::default() };
        let graph_limits = self.limits.graph();
        WorkerConfig { save_metadata: !self.disable_metadata, preview, graph_limits, ..WorkerConfig::default() }
    }

    /// Where files that the workflow names are looked for.
    fn places(&self) -> Vec<PathBuf> {
        let beside = self.workflow.parent().map(PathBuf::from);
        let input_folder = self.folders.resolve().ok().map(|folders| folders.tenant.input);
        beside.into_iter().chain(input_folder).collect()
    }

    fn change_inputs(&self, engine: &dyn Engine, workflow: &mut Workflow) -> Outcome<()> {
        for setting in &self.set {
            let applied = setting.apply(workflow)?;
            if !applied.existed {
                let mut info = engine.object_info(&TenantId::default_tenant(), Some(&applied.class));
                check_declared(&applied.class, &applied.input, &info.remove(&applied.class).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Outputs were saved in place; previews are moved out of the scratch folder if somebody wants them.
    fn keep(&self, parts: &Parts, outputs: &serde_json::Map<String, Value>) -> Outcome<Vec<SavedFile>> {
        let files =
            (parts.files)(&TenantId::default_tenant()).or_fail(Exit::Machine, || "could not open the folders")?;
        let mut saved = Vec::new();
        for (node, file) in listed(outputs, self.previews) {
            let folder = if file.r#type == "temp" { Folder::Temp } else { Folder::Output };
            let mut path = files.folder_path(folder).join(&file.subfolder).join(&file.filename);
            if folder == Folder::Temp {
                path = settle(&path, &self.output, &file.filename)?;
            }
            make_writable(&path)?;
            saved.push(SavedFile {
                node,
                path,
                filename: file.filename,
                subfolder: file.subfolder,
                r#type: file.r#type,
            });
        }
        Ok(saved)
    }
}

/// Queues the only prompt there is and follows it to its end.
fn execute(
    workflow: &Workflow,
    worker: &Worker,
    parts: &Parts,
    events: &Receiver<Event>,
    progress: &mut Progress,
    stop: &Stop,
) -> Outcome<(Option<String>, Ended, serde_json::Map<String, Value>)> {
    let tenant = TenantId::default_tenant();
    let nodes = Value::Object(workflow.nodes.clone());
    let validated = match worker.validate(&tenant, nodes, None) {
        Ok(validated) => validated,
        Err(invalid) => return Ok((None, Ended::Refused(invalid), serde_json::Map::new())),
    };
    for line in crate::report::node_error_lines(&validated.node_errors) {
        progress.note(&format!("left out: {line}"));
    }
    let prompt_id = Uuid::new_v4().to_string();
    let prompt = NewPrompt {
        tenant: tenant.clone(),
        prompt_id: prompt_id.clone(),
        number: None,
        front: false,
        prompt: validated.json,
        extra_data: workflow.extra_data.clone(),
        outputs: validated.outputs,
        client_id: Some(CLIENT.to_owned()),
    };
    parts.queue.enqueue(prompt).or_fail(Exit::Machine, || "could not queue the workflow")?;
    let entry = follow(worker, parts, &prompt_id, events, progress, stop)?;
    let status = entry.status.map(|status| HistoryStatus { status_str: status.status_str, messages: status.messages });
    let ended = status.as_ref().map_or(Ended::Success, Ended::from_history);
    Ok((Some(prompt_id), ended, entry.outputs))
}

fn follow(
    worker: &Worker,
    parts: &Parts,
    prompt_id: &str,
    events: &Receiver<Event>,
    progress: &mut Progress,
    stop: &Stop,
) -> Outcome<HistoryEntry> {
    let tenant = TenantId::default_tenant();
    loop {
        if stop.is_asked() {
            worker.interrupt(&tenant, None);
        }
        match events.recv_timeout(TICK) {
            Ok(event) => progress.event(&event),
            Err(RecvTimeoutError::Timeout) => {
                let entry = parts.queue.history_entry(&tenant, prompt_id);
                if let Some(entry) = entry.or_fail(Exit::Machine, || "could not read the queue")? {
                    return Ok(entry);
                }
            }
            Err(RecvTimeoutError::Disconnected) => fail!(Exit::Work, "the worker ended before the workflow did"),
        }
    }
}

/// The file store keeps contents read-only, since names share them; here the user is the only one who has this one.
fn make_writable(path: &Path) -> Outcome<()> {
    let change = || {
        let mut permissions = fs::metadata(path)?.permissions();
        permissions.set_mode(permissions.mode() | 0o200);
        fs::set_permissions(path, permissions)
    };
    change().or_fail(Exit::Machine, || format!("could not change {}", path.display()))
}

/// Hands the events of the run to the display.
struct ToChannel(SyncSender<Event>);

impl EventSink for ToChannel {
    fn send(&self, _tenant: &TenantId, _target: Target, message: Message) {
        if let Message::Event(event) = message {
            // Nobody listens once the run has ended.
            self.0.send(event).ok();
        }
    }
}
