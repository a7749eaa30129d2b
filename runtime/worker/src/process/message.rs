//! What a server and its worker process tell each other. Texts that came from people or guests and nest are not in here but in
//! the bytes of the frame.

use std::{collections::BTreeMap, io, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vivarium_outbound::Bounds;
use vivarium_protocol::{
    frame::{ImageType, PreviewMetadata},
    history::{QueueItem, Status},
    tenant::TenantId,
};
use vivarium_queue::Lease;
use vivarium_sandbox::{CallError, LimitFile};

use super::frame::halves;
use crate::{config::WorkerConfig, ending::Ended, place::Used};

/// From the server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// The first of all.
    Hello(Box<Hello>),
    /// The packs that are there, which take the place of those before.
    Packs { generation: u64, packs: Vec<Pack> },
    /// What `limits.toml` says now.
    Limits(LimitFile),
    /// Runs a prompt.
    Run { job: u64, prompt: Prompt },
    /// Stops one.
    Interrupt { job: u64 },
    /// Drops the kept results of a tenant.
    Free { tenant: TenantId },
    /// Wants an answer.
    Ask { id: u64, question: Question },
    /// To [`ToServer::Request`].
    Answer { id: u64, answer: Result<Answer, CallError> },
}

/// What a process needs to know before it does anything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Of the server, by name.
    pub(crate) limits: BTreeMap<String, u64>,
    pub(crate) config: WorkerConfig,
    /// Whether it shall put up its walls.
    pub(crate) walls: bool,
}

/// A pack that the server has loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub(crate) digest: String,
    pub(crate) description: String,
}

/// A prompt on its way; its nodes and its `extra_data` are the bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prompt {
    tenant: TenantId,
    prompt_id: String,
    number: f64,
    outputs: Vec<String>,
    client_id: Option<String>,
    nodes_length: u64,
}

impl Prompt {
    /// With the bytes.
    pub(crate) fn of(lease: &Lease) -> io::Result<(Self, [Vec<u8>; 2])> {
        let item = &lease.item;
        let tail = [serde_json::to_vec(&item.prompt)?, serde_json::to_vec(&item.extra_data)?];
        let prompt = Self {
            tenant: lease.tenant.clone(),
            prompt_id: item.prompt_id.clone(),
            number: item.number,
            outputs: item.outputs.clone(),
            client_id: lease.client_id.clone(),
            nodes_length: tail[0].len() as u64,
        };
        Ok((prompt, tail))
    }

    pub(crate) fn lease(self, tail: &[u8]) -> io::Result<Lease> {
        let (nodes, extra_data) = halves(tail, self.nodes_length)?;
        let item = QueueItem {
            number: self.number,
            prompt_id: self.prompt_id,
            prompt: serde_json::from_slice(nodes)?,
            extra_data: serde_json::from_slice(extra_data)?,
            outputs: self.outputs,
        };
        Ok(Lease::carried(self.tenant, item, self.client_id))
    }
}

/// What only the process with the guests knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// What a class's own validator finds; constants and types of the inputs are the bytes.
    Validate { tenant: TenantId, node_id: String, class: String, constants_length: u64 },
    /// What a tenant holds.
    Used { tenant: TenantId },
}

/// What a validator finds: the input that it concerns, if one, and words for people.
pub(crate) type Findings = Vec<(Option<String>, String)>;

/// Why a validator could not be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unasked {
    pub(crate) exception_type: String,
    pub(crate) message: String,
}

/// The answer to a [`Question`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Found(Result<Findings, Unasked>),
    Used(Used),
}

/// From the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    /// The answer to [`ToChild::Hello`]: its walls stand, or why it can't work.
    Ready(Result<(), String>),
    /// For clients; events and pictures are the bytes.
    Say { job: u64, to_client: bool, message: Say },
    /// A prompt has ended; outputs, meta and status are the bytes.
    Ended { job: u64, end: End },
    /// Wants something that the process may not do itself.
    Request { id: u64, tenant: TenantId, request: Request },
    /// The answer is not waited for any more.
    Cancel { id: u64 },
    /// To [`ToChild::Ask`].
    Told { id: u64, told: Told },
    /// For the server's log.
    Log { level: Level, message: String },
}

/// One message for clients.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Say {
    Event,
    Preview { image_type: ImageType, metadata: PreviewMetadata },
    Text { node_id: String, text: String },
}

/// Of a log line, or of a line of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// How a prompt ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    outputs_length: u64,
    meta_length: u64,
}

impl End {
    /// With the bytes.
    pub(crate) fn of(ended: &Ended) -> io::Result<(Self, [Vec<u8>; 3])> {
        let tail =
            [serde_json::to_vec(&ended.outputs)?, serde_json::to_vec(&ended.meta)?, serde_json::to_vec(&ended.status)?];
        Ok((Self { outputs_length: tail[0].len() as u64, meta_length: tail[1].len() as u64 }, tail))
    }

    /// `seconds` is what the server measured: that of the process counts against its tenant.
    pub(crate) fn ended(&self, tail: &[u8], seconds: Duration) -> io::Result<Ended> {
        let (outputs, rest) = halves(tail, self.outputs_length)?;
        let (meta, status) = halves(rest, self.meta_length)?;
        let outputs: Map<String, Value> = serde_json::from_slice(outputs)?;
        let status: Status = serde_json::from_slice(status)?;
        Ok(Ended::new(outputs, status, serde_json::from_slice(meta)?, seconds.as_secs_f64()))
    }
}

/// What a process asks for: what [`vivarium_sandbox::HostServices`] offers to a tenant, and code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    ImageExists {
        name: String,
    },
    ImageFingerprint {
        name: String,
    },
    ImageBytes {
        name: String,
    },
    /// The file is the bytes.
    Save {
        temporary: bool,
        prefix: String,
        width: u32,
        height: u32,
        number: u64,
    },
    Log {
        pack: String,
        node_id: String,
        level: Level,
        message: String,
    },
    /// As a text: guests name folders and secrets, and what they name may be no permission.
    Allows {
        pack: String,
        permission: String,
    },
    ModelFiles {
        folder: String,
    },
    OpenModel {
        folder: String,
        name: String,
    },
    Secret {
        name: String,
    },
    /// The body is the bytes.
    Http {
        pack: String,
        method: String,
        url: String,
        headers: Vec<(String, String)>,
        bounds: HttpBounds,
    },
    ScratchFiles {
        pack: String,
    },
    ReadScratch {
        pack: String,
        name: String,
        limit: u64,
    },
    /// The content is the bytes.
    WriteScratch {
        pack: String,
        name: String,
    },
    RemoveScratch {
        pack: String,
        name: String,
    },
    ListFolder {
        folder: String,
        path: String,
        limit: u64,
    },
    OpenInFolder {
        folder: String,
        path: String,
    },
    /// Native code of a pack.
    Code {
        digest: String,
    },
}

/// [`Bounds`] on the way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct HttpBounds {
    pub(crate) response_bytes: u64,
    pub(crate) redirects: u64,
    pub(crate) time: Duration,
    pub(crate) at_once: u64,
}

impl From<&Bounds> for HttpBounds {
    fn from(bounds: &Bounds) -> Self {
        let Bounds { response_bytes, redirects, time, at_once } = *bounds;
        Self { response_bytes, redirects, time, at_once }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    YesNo(bool),
    Text(Option<String>),
    Names(Vec<String>),
    /// What was asked for is the bytes.
    Bytes,
    /// What was asked for is the open file.
    File,
    /// Name and subfolder of a saved file.
    Saved(String, String),
    /// Status, address and headers; the body is the bytes.
    Http(u16, String, Vec<(String, String)>),
    /// Name, whether it is a folder, and size.
    Entries(Vec<(String, bool, u64)>),
}
