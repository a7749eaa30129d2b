//! `vivarium worker`: processes that Vivarium starts by itself, never people: one that compiles a pack, started by the sandbox,
//! and one that runs prompts, started by `vivarium serve --worker-processes`.

use std::{ffi::OsString, process::exit};

use clap::{Args, Subcommand};

/// Processes that Vivarium starts by itself.
#[derive(Args, Debug)]
#[command(hide = true)]
pub(crate) struct WorkerCommand {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand, Debug)]
enum Job {
    /// Compile the component on standard input to native code on standard output
    Compile {
        /// Bytes of memory
        memory: u64,
        /// Seconds
        seconds: u64,
    },
    /// Run the prompts that come over the socket on standard input
    Serve {
        /// Whose; for people who look at a list of processes
        group: String,
    },
}

/// The words after the name of this program that make it compile.
pub(crate) fn compile() -> Vec<OsString> {
    vec!["worker".into(), "compile".into()]
}

/// The words after the name of this program that make it run prompts.
pub(crate) fn serve() -> Vec<OsString> {
    vec!["worker".into(), "serve".into()]
}

impl WorkerCommand {
    pub(crate) fn run(self) -> ! {
        exit(match self.job {
            Job::Compile { memory, seconds } => vivarium_sandbox::compile::serve_one(memory, seconds),
            Job::Serve { .. } => vivarium_worker::process::serve(),
        })
    }
}
