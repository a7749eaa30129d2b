//! Why something in the sandbox failed.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// wasmtime refused the configuration of this machine.
    #[error("cannot set up the WebAssembly engine: {message}")]
    Engine {
        /// wasmtime's words.
        message: String,
    },
    /// The file is larger than the limit.
    #[error("the component has {bytes} bytes, more than the limit of {limit} (component_bytes, limits.toml)")]
    ComponentTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not a component, or not a valid one.
    #[error("not a valid WebAssembly component: {message}")]
    InvalidComponent {
        /// wasmtime's words.
        message: String,
    },
    /// Compiling it took more than it may.
    #[error("compiling the component was stopped: {message}")]
    Compilation {
        /// Which limit, its value, and how to raise it.
        message: String,
    },
    /// The process that compiles could not do its work. Not the component's fault.
    #[error("the process that compiles components failed: {message}")]
    Compiler {
        /// What happened.
        message: String,
    },
    /// It imports something that this host does not offer, or lacks an export.
    #[error("the component does not fit the world vivarium:node/pack@1.0.0: {message}")]
    WrongWorld {
        /// What is missing.
        message: String,
    },
    /// `describe` answered something else than a pack definition.
    #[error("the component's description is not valid: {message}")]
    InvalidDescription {
        /// Where and why.
        message: String,
    },
    /// `limits.toml` says what cannot be.
    #[error("{} cannot be used: {message}", path.display())]
    LimitFile {
        /// The file.
        path: PathBuf,
        /// Where, what, and what would be right.
        message: String,
    },
    /// The guest failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The cache of compiled components could not be used.
    #[error("cannot use the folder of compiled components at {}: {source}", path.display())]
    AotFolder {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Why a call into a guest failed. It can cross to another process.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct CallError {
    /// What kind of failure it was.
    pub kind: CallErrorKind,
    /// For people: names the limit, its value and what to do where a limit was hit.
    pub message: String,
    /// The guest's own frames, innermost first, where it trapped.
    pub frames: Vec<String>,
}

/// Kinds of failure of a call into a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallErrorKind {
    /// The node itself said so.
    Failed,
    /// An argument was refused, by the node or by a host call.
    InvalidArgument,
    /// A name does not exist.
    NotFound,
    /// The pack was not granted what it used.
    PermissionDenied,
    /// The host does not offer it.
    Unsupported,
    /// It ran out of wall time.
    Timeout,
    /// It ran out of guest memory.
    OutOfGuestMemory,
    /// It ran out of tensor memory.
    OutOfTensorMemory,
    /// It ran out of stack.
    StackOverflow,
    /// It hit another limit.
    LimitExceeded,
    /// Somebody interrupted the prompt.
    Interrupted,
    /// It trapped: a panic, an invalid access, a forged handle.
    Trap,
    /// The host's own fault.
    Internal,
}

impl CallErrorKind {
    /// What ComfyUI's clients see as `exception_type`.
    #[must_use]
    pub fn exception_type(self) -> &'static str {
        match self {
            Self::Failed => "NodeError",
            Self::InvalidArgument => "ValueError",
            Self::NotFound => "FileNotFoundError",
            Self::PermissionDenied => "PermissionError",
            Self::Unsupported => "NotImplementedError",
            Self::Timeout => "TimeoutError",
            Self::OutOfGuestMemory | Self::OutOfTensorMemory => "MemoryError",
            Self::StackOverflow => "RecursionError",
            Self::LimitExceeded => "LimitExceededError",
            Self::Interrupted => "InterruptProcessingException",
            Self::Trap => "WasmTrap",
            Self::Internal => "InternalError",
        }
    }
}

impl CallError {
    /// An error without frames.
    #[must_use]
    pub fn new(kind: CallErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), frames: Vec::new() }
    }

    /// The prompt was interrupted.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(CallErrorKind::Interrupted, "the prompt was interrupted")
    }

    /// The call ran out of wall time.
    #[must_use]
    pub fn timeout(what: &str, limit: Duration, name: &str, flag: &str) -> Self {
        Self::new(
            CallErrorKind::Timeout,
            format!("{what} ran longer than the limit of {} ms ({name}){flag}", limit.as_millis()),
        )
    }

    /// The prompt ran out of wall time.
    #[must_use]
    pub fn prompt_timeout(limit: Duration) -> Self {
        Self::timeout("the prompt", limit, "prompt_time", "; --prompt-timeout raises it")
    }
}
