//! What a test program and the `vivarium` that it starts say to each other, over the standard input and output of the latter.
//! Both take the types from here; nobody else needs them.
//!
//! The test program says [`ToProgram::Hello`] and hears [`ToTest::Welcome`]. Then it asks, from several threads at once, and
//! each question gets its answer when that is ready. The program ends when its standard input does.
//!
//! # Layout
//! - [`ToProgram`], [`ToTest`], [`Question`], [`Reply`]: the messages; [`Call`]: what a node is run with
//! - [`frame`]: how messages become bytes; `tail`: the bytes that their JSON points at
//! - [`Datum`]: a value, with the tensors and the objects in it

mod datum;
pub mod frame;
pub(crate) mod tail;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use vivarium_protocol::{definition::PackDefinition, permission::Permission};

pub use self::{
    datum::{Datum, Object},
    tail::Blob,
};
use crate::{DType, FailureKind, Finding, LogLine, Progress, Request, Saved, Tensor, TestkitError};

/// The version of everything here. Whoever changes a message counts on.
pub const PROTOCOL: u32 = 1;

/// What either side says first, and what no version may change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The version of Vivarium, for people.
    pub release: String,
}

/// From the test program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToProgram {
    /// First.
    Hello(Greeting),
    /// To be answered.
    Ask {
        /// Chosen by who asks.
        id: u64,
        /// What.
        question: Question,
    },
    /// Nobody holds this object any more.
    Release {
        /// Its number.
        object: u64,
    },
}

/// To the test program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToTest {
    /// The answer to [`ToProgram::Hello`].
    Welcome(Greeting),
    /// The answer to a question.
    Answer {
        /// Of the question.
        id: u64,
        /// Or why there is none, in words.
        reply: Result<Reply, String>,
    },
}

/// What the program can do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Make a component ready: [`Reply::Loaded`].
    Load {
        /// The file.
        component: Blob,
    },
    /// Run a node: [`Reply::Ran`].
    Run(Box<Call>),
    /// Ask a node what is wrong with its constant inputs: [`Reply::Findings`].
    Validate(Box<Call>),
    /// Ask a node for its fingerprint: [`Reply::Fingerprint`] or [`Reply::NeverTheSame`].
    Fingerprint(Box<Call>),
    /// Call a method of an object: [`Reply::Value`].
    Method {
        /// Its number.
        object: u64,
        /// Of the method.
        method: String,
        /// What it is given.
        arguments: Datum,
    },
    /// Change the type of a tensor's elements: [`Reply::Tensor`].
    Cast {
        /// Whose.
        tensor: Tensor,
        /// To which type.
        dtype: DType,
    },
    /// Read the first picture of an image file: [`Reply::Tensor`] [1, height, width, 3].
    Decode {
        /// In any format that servers read.
        file: Blob,
    },
}

/// What comes of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A pack is ready.
    Loaded {
        /// Its number.
        pack: u64,
        /// What it says about itself.
        #[serde(with = "tail::json")]
        definition: PackDefinition,
    },
    /// A node succeeded.
    Ran(Box<Ran>),
    /// A node failed, or was stopped.
    Failed(Box<Failed>),
    /// What a node's own check found.
    Findings(Vec<Finding>),
    /// A node's fingerprint.
    Fingerprint(#[serde(with = "tail::json")] Json),
    /// The fingerprint of a node that always runs again.
    NeverTheSame,
    /// What a method answered.
    Value(Datum),
    /// Numbers.
    Tensor(Tensor),
}

/// A call of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Call {
    /// The number of its pack.
    pub pack: u64,
    /// Its class.
    pub class: String,
    /// Its id in the prompt.
    pub node_id: String,
    /// All of them, defaults and lazy ones included.
    pub inputs: IndexMap<String, Datum>,
    /// Limits that differ from a server's, by name.
    pub limits: BTreeMap<String, u64>,
    /// What the node may use.
    pub powers: Powers,
}

/// What the host lends to a node in a test, all of it made up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Powers {
    /// Permissions.
    pub grants: Vec<Permission>,
    /// The input folder.
    pub images: BTreeMap<String, ImageFile>,
    /// Model folders: folder, then file, then the tensors in it.
    pub models: BTreeMap<String, BTreeMap<String, Vec<(String, Tensor)>>>,
    /// By name.
    pub secrets: BTreeMap<String, String>,
    /// Answers to HTTP requests, by address.
    pub http: BTreeMap<String, HttpAnswer>,
    /// Scratch files.
    pub scratch: BTreeMap<String, Blob>,
    /// Folders that the operator gave a name, then files by path.
    pub folders: BTreeMap<String, BTreeMap<String, Blob>>,
    /// Interrupt the node when its progress reaches this.
    pub interrupt_at: Option<f64>,
    /// Interrupt it before it begins.
    pub interrupted: bool,
}

/// A file of the input folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFile {
    /// As it is.
    Bytes(Blob),
    /// The first picture of an IMAGE, to be written as PNG.
    Picture(Tensor),
}

/// What a server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// 200 and so on.
    pub status: u16,
    /// Its content.
    pub body: Blob,
}

/// How a node succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ran {
    /// What it answered.
    pub outcome: Outcome,
    /// The lazy inputs that it asked for, in order.
    pub asked_for: Vec<String>,
    /// What it did on the way.
    pub notebook: Notebook,
}

/// What a node answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// One value per output slot.
    Outputs {
        /// In the order of the definition.
        slots: Vec<Datum>,
        /// What clients show beside the node.
        #[serde(with = "tail::json")]
        ui: Map<String, Json>,
    },
    /// New nodes, as `graph`, `slots` and perhaps `ui`.
    Expansion(Datum),
    /// All outputs are blocked, perhaps with a message.
    Blocked(Option<String>),
}

/// Why a node did not succeed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What the user reads.
    pub message: String,
    /// The pack's functions that were running, innermost first, if it crashed.
    pub frames: Vec<String>,
    /// What it did before.
    pub notebook: Notebook,
}

/// What a node did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Notebook {
    /// Its reports of progress.
    pub progress: Vec<Progress>,
    /// What it logged.
    pub log: Vec<LogLine>,
    /// The images that it saved.
    pub saved: Vec<Saved>,
    /// The HTTP requests that it sent.
    pub requests: Vec<Request>,
    /// Its scratch files, those that were there before included.
    #[serde(with = "tail::files")]
    pub scratch: BTreeMap<String, Vec<u8>>,
}

impl Greeting {
    /// Of this build.
    #[must_use]
    pub fn own() -> Self {
        Self { protocol: PROTOCOL, release: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Checks that who said this, `other`, speaks as the one who asks, `one`.
    ///
    /// # Errors
    /// Says which versions met, and what to do.
    pub fn meets(&self, one: &str, other: &str) -> Result<(), TestkitError> {
        if self.protocol == PROTOCOL {
            return Ok(());
        }
        let named = |who: &str, release: &str| format!("{who} (Vivarium {release})");
        Err(TestkitError::Versions {
            one: named(one, &Self::own().release),
            ones: PROTOCOL,
            other: named(other, &self.release),
            others: self.protocol,
        })
    }
}

impl Reply {
    /// The program may forget the objects in it when the test has.
    pub(crate) fn keep_objects(&mut self) {
        match self {
            Self::Value(value) => value.keep(),
            Self::Ran(ran) => match &mut ran.outcome {
                Outcome::Outputs { slots, .. } => slots.iter_mut().for_each(Datum::keep),
                Outcome::Expansion(value) => value.keep(),
                Outcome::Blocked(_) => {}
            },
            _ => {}
        }
    }
}
