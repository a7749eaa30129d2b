//! What can be wrong with a launch.

use std::fmt;

/// The sort of mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Beyond the memory that was asked for.
    OutOfBounds,
    /// At an address that is no multiple of the access's size.
    Misaligned,
    /// A read of bytes that nobody wrote.
    Uninitialised,
    /// Memory that was given back.
    UseAfterFree,
    /// Live memory that was not handed to this launch.
    ForeignBuffer,
    /// A write to memory that belongs to another stream's tenant, or to constants.
    ForeignWrite,
    /// Two threads use one place, one of them to write, and nothing orders them. A copy past the registers is like a thread.
    Race,
    /// A barrier, shuffle or vote that not all of its threads reach.
    Divergence,
    /// More instructions than any test needs: a loop that does not end.
    Endless,
    /// The kernel executed a trap.
    Trap,
    /// Grid, block or shared memory beyond what a device has.
    Configuration,
}

/// A mistake, and which thread made it where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Details, in a sentence.
    pub message: String,
    /// The kernel's name.
    pub kernel: String,
    /// The block's place in the grid.
    pub block: [u32; 3],
    /// The thread's place in its block, counted from 0.
    pub thread: u32,
    /// The statement of PTX.
    pub statement: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, message, kernel, block, thread, statement } = self;
        write!(formatter, "{kind:?} in {kernel}, block {block:?}, thread {thread}, at `{statement}`: {message}")
    }
}

/// A mistake before it is known where it happened.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
    pub(crate) lane: usize,
}

impl Trouble {
    pub(crate) fn new(kind: FaultKind, lane: usize, message: impl Into<String>) -> Trouble {
        Trouble { kind, message: message.into(), lane }
    }
}
