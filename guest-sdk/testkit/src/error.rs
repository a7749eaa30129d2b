//! What can go wrong between a test program and the program that runs its nodes.

use std::io;

/// Everything that can go wrong in this crate, but for what tests find. Tests panic with its words, which are complete: none
/// has a `source`.
#[derive(Debug, thiserror::Error)]
pub enum TestkitError {
    /// The program is not there.
    #[error(
        "there is no program `{program}`: nodes run in `vivarium`, which has the sandbox. Install it so that PATH leads to it, \
         or let the environment variable VIVARIUM hold its path; `vivarium pack test` does that"
    )]
    NoProgram {
        /// As it was looked for.
        program: String,
    },
    /// The program is there but can't be started.
    #[error("the program `{program}`, which is to run the nodes, can't be started: {cause}")]
    NotStarted {
        /// As it was started.
        program: String,
        /// The system's words.
        cause: io::Error,
    },
    /// The program is of another version.
    #[error(
        "{one} speaks version {ones} of the testkit's protocol, and {other} speaks version {others}: take the program and \
         `vivarium-testkit` in Cargo.toml from the same version of Vivarium"
    )]
    Versions {
        /// Who found out.
        one: String,
        /// What it speaks.
        ones: u32,
        /// Whom it met.
        other: String,
        /// What that one speaks.
        others: u32,
    },
    /// The program ended before it was ready to run nodes.
    #[error(
        "the program `{program}` ended before it was ready to run nodes ({how}); is it `vivarium`, and of the same version as \
         `vivarium-testkit` in Cargo.toml?"
    )]
    NotReady {
        /// As it was started.
        program: String,
        /// What is known about it.
        how: String,
    },
    /// The program is gone, and every node that it ran.
    #[error("the program `{program}`, which runs the nodes, is gone: {how}")]
    Gone {
        /// As it was started.
        program: String,
        /// How it ended.
        how: String,
    },
    /// There is no program that runs nodes, for one of the reasons above, which the first test met.
    #[error("{0}")]
    Unavailable(String),
    /// The program does not do what it was asked to.
    #[error("{0}")]
    Refused(String),
    /// It answered another question.
    #[error("the program that runs the nodes answered something else than it was asked")]
    OffTopic,
    /// A frame is longer than any may be.
    #[error("a frame has {bytes} bytes of {what}, and may have {limit}")]
    FrameTooLong {
        /// Which part.
        what: &'static str,
        /// Its length, as announced.
        bytes: u64,
        /// The most there is.
        limit: u64,
    },
    /// The other side hung up in the middle of a frame.
    #[error("a frame ends too early")]
    FrameCut,
    /// What came is no message, or what was to be sent can't be one.
    #[error("a frame holds no message: {0}")]
    NoMessage(serde_json::Error),
    /// The pipe's own.
    #[error("a frame could not be handed over: {0}")]
    Pipe(io::Error),
}
