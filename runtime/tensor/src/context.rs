//! What an operation runs under.

use crate::{Budget, TensorError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The account an operation's results are charged to, and the flag that stops it.
#[derive(Debug, Clone)]
pub struct OpContext {
    /// Pays for results and workspace.
    pub budget: Arc<Budget>,
    /// Once true, operations stop at their next chunk with [`TensorError::Cancelled`].
    pub cancelled: Arc<AtomicBool>,
}

impl OpContext {
    /// A context that nobody has cancelled yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        OpContext { budget, cancelled: Arc::default() }
    }

    /// True once somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self, op: &'static str) -> Result<(), TensorError> {
        if self.is_cancelled() { Err(TensorError::Cancelled { op }) } else { Ok(()) }
    }
}
