//! What a tensor operation answers when it refuses.

use crate::{BudgetExceeded, DType, Shape};

/// The sort of refusal, for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument is out of range, of the wrong shape or of the wrong type.
    InvalidArgument,
    /// A limit is reached; the message names it and its value.
    LimitExceeded,
    /// The context was cancelled.
    Interrupted,
    /// The device failed. Nothing on it can be trusted any more, but the caller did nothing wrong.
    DeviceFailed,
}

/// Why an operation was refused. Every message starts with the operation's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// One argument is wrong.
    #[error("{op}: {argument} {message}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// The argument, as the node interface names it.
        argument: &'static str,
        /// What is wrong with it, written to follow the argument's name.
        message: String,
    },
    /// Two shapes do not go together.
    #[error("{op}: {argument} has shape {right}, which does not fit self of shape {left}: {rule}")]
    Shapes {
        /// The operation.
        op: &'static str,
        /// The second tensor's name.
        argument: &'static str,
        /// Shape of the first tensor.
        left: Box<Shape>,
        /// Shape of the second tensor.
        right: Box<Shape>,
        /// What would fit.
        rule: &'static str,
    },
    /// The element type does not suit the operation.
    #[error("{op}: {argument} is {found}, but {expected} is needed; cast it first")]
    Type {
        /// The operation.
        op: &'static str,
        /// The tensor's name.
        argument: &'static str,
        /// Its type.
        found: DType,
        /// What would do.
        expected: &'static str,
    },
    /// A fixed limit of the operation.
    #[error("{op}: {what} is {asked}, the limit is {limit}")]
    Limit {
        /// The operation.
        op: &'static str,
        /// What is limited.
        what: &'static str,
        /// What was asked for.
        asked: String,
        /// The most that is allowed.
        limit: u64,
    },
    /// The result does not fit the budget.
    #[error("{op}: {source}")]
    Budget {
        /// The operation.
        op: &'static str,
        /// Which budget, its limit, what is used and what was asked.
        source: BudgetExceeded,
    },
    /// The machine has no memory left, whatever the budget says.
    #[error("{op}: the machine cannot provide {bytes} bytes; lower the memory limits or the size")]
    OutOfMemory {
        /// The operation.
        op: &'static str,
        /// Size of the refused allocation.
        bytes: u64,
    },
    /// The GPU or its driver failed.
    #[error("{op}: the GPU failed: {message}")]
    Device {
        /// The operation during which it came to light; an earlier one may be the cause.
        op: &'static str,
        /// The driver's words.
        message: String,
    },
    /// The context was cancelled while the operation ran.
    #[error("{op}: interrupted")]
    Cancelled {
        /// The operation.
        op: &'static str,
    },
}

impl TensorError {
    /// The sort of refusal.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TensorError::Argument { .. } | TensorError::Shapes { .. } | TensorError::Type { .. } => {
                ErrorKind::InvalidArgument
            }
            TensorError::Limit { .. } | TensorError::Budget { .. } | TensorError::OutOfMemory { .. } => {
                ErrorKind::LimitExceeded
            }
            TensorError::Cancelled { .. } => ErrorKind::Interrupted,
            TensorError::Device { .. } => ErrorKind::DeviceFailed,
        }
    }

    pub(crate) fn argument(op: &'static str, argument: &'static str, message: impl Into<String>) -> Self {
        TensorError::Argument { op, argument, message: message.into() }
    }
}
