//! `vivarium worker compile`: the process that compiles one pack. Started by the sandbox, never by people.

use std::process::exit;

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
}

impl WorkerCommand {
    pub(crate) fn run(self) -> ! {
        let Job::Compile { memory, seconds } = self.job;
        exit(vivarium_sandbox::compile::serve_one(memory, seconds))
    }
}
