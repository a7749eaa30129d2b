//! How a command ends badly: one sentence for a person, one exit code for a script.

use std::fmt;

/// Exit codes, as `vivarium --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The work itself failed: a prompt was refused or ended in an error, a check of `doctor` failed.
    Work = 1,
    /// The command line makes no sense. clap uses the same code.
    Usage = 2,
    /// Something on this machine is in the way: a file, a folder, a port, a pack.
    Machine = 3,
    /// The server can't be reached, or does not answer as a ComfyUI-protocol server.
    Server = 4,
    /// Stopped by Ctrl-C or SIGTERM before the work was done.
    Interrupted = 130,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    error: anyhow::Error,
}

/// What every command returns.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self { exit, error: anyhow::Error::msg(message) }
    }
}

/// The error with its causes, in one line.
impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#}", self.error)
    }
}

/// Says with which code an error ends the command, and what was being done.
pub(crate) trait OrFail<T> {
    /// Turns an error into a [`Failure`]; `doing` becomes the start of the sentence, the error its end.
    fn or_fail<D: fmt::Display + Send + Sync + 'static>(self, exit: Exit, doing: impl FnOnce() -> D) -> Outcome<T>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail<D: fmt::Display + Send + Sync + 'static>(self, exit: Exit, doing: impl FnOnce() -> D) -> Outcome<T> {
        self.map_err(|error| Failure { exit, error: error.into().context(doing()) })
    }
}

/// Returns a [`Failure`] with a formatted message.
macro_rules! fail {
    ($exit:expr, $($message:tt)+) => {
        return Err($crate::failure::Failure::new($exit, format!($($message)+)))
    };
}
pub(crate) use fail;
