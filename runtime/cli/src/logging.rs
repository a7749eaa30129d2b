//! The log: to stderr, and to the ring that clients of the default tenant can read.

use std::io::{IsTerminal, stderr};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};
use vivarium_server::LogRing;

/// ComfyUI's names for how much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Verbosity {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Verbosity {
    /// The compiler and the database have a lot to say that helps only who works on them.
    fn filter(self) -> &'static str {
        match self {
            Self::Debug => "debug,cranelift=warn,wasmtime=warn,hyper=info,h2=info",
            Self::Info => "info,cranelift=warn,wasmtime=warn",
            Self::Warning => "warn",
            Self::Error | Self::Critical => "error",
        }
    }
}

/// Starts logging. `VIVARIUM_LOG` (in the syntax of `RUST_LOG`) overrides the verbosity.
pub(crate) fn start(verbosity: Verbosity, ring: Option<&LogRing>) {
    let filter = EnvFilter::try_from_env("VIVARIUM_LOG").unwrap_or_else(|_| EnvFilter::new(verbosity.filter()));
    let to_stderr = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).with_target(false);
    let to_ring = ring
        .cloned()
        .map(|ring| fmt::layer().with_writer(move || ring.writer()).with_ansi(false).with_target(false).without_time());
    // Fails only if somebody started logging before, which then goes on.
    tracing_subscriber::registry().with(filter).with(to_stderr).with(to_ring).try_init().ok();
}
