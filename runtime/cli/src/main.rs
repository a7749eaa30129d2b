//! The `vivarium` binary: a server for node workflows whose nodes are sandboxed WebAssembly.
//!
//! It reads flags, puts the parts of the other crates together, and tells people what happens. What a prompt means, how
//! it runs and what it may touch is decided in those crates.
//!
//! # Layout
//! - [`serve`], [`run`], [`submit`], [`nodes`], [`pack`], [`tenant`], [`doctor`]: one module per command
//! - [`worker`]: the hidden commands that the sandbox and the server start
//! - [`options`]: flags that commands share
//! - [`host`]: the parts, put together
//! - [`workflow`], [`progress`], [`results`], [`report`]: what `run` and `submit` have in common
//! - [`failure`], [`signals`], [`logging`], [`output`], [`text`]: ending badly, stopping, the log, stdout, other people's
//!   words
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod doctor;
mod failure;
mod host;
mod logging;
mod nodes;
mod options;
mod output;
mod pack;
mod progress;
mod report;
mod results;
mod run;
mod serve;
mod signals;
mod submit;
mod tenant;
mod text;
mod worker;
mod workflow;

/// A prompt is a large tree of small JSON values, which one thread makes and another drops: with the system's allocator that
/// was a third of the time of large prompts (docs/performance.md).
#[global_allocator]
static ALLOCATOR: vivarium_allocator::Allocator = vivarium_allocator::Allocator;

/// Runs ComfyUI workflows with sandboxed nodes.
#[derive(Parser, Debug)]
#[command(
    name = "vivarium",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Start here:
  vivarium serve                                        open http://127.0.0.1:8188
  vivarium run postcard.json -o results                 without a server
  vivarium submit postcard.json --upload photo.jpg      on any server that speaks ComfyUI's protocol
  vivarium pack new my-pack                             write nodes of your own
  vivarium COMMAND --help                               flags and examples

Exit codes: 0 done; 1 the workflow was refused or failed, or a check failed; 2 the command line makes no sense;
3 something on this machine is in the way (a file, a folder, a port); 4 a server can't be reached or answers nonsense;
130 stopped by a signal before the work was done.

Everything is kept in the base folder: --base-directory, else $VIVARIUM_BASE, else ~/.local/share/vivarium."
)]
struct Vivarium {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(Box<serve::Serve>),
    Run(Box<run::Run>),
    Submit(Box<submit::Submit>),
    Nodes(nodes::Nodes),
    Pack(pack::PackCommand),
    Packs(pack::List),
    Tenant(tenant::TenantCommand),
    Doctor(doctor::Doctor),
    Worker(worker::WorkerCommand),
}

fn main() -> ExitCode {
    let outcome = match Vivarium::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Run(run) => run.run(),
        Command::Submit(submit) => submit.run(),
        Command::Nodes(nodes) => nodes.run(),
        Command::Pack(pack) => pack.run(),
        Command::Packs(list) => list.run(),
        Command::Tenant(tenant) => tenant.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Worker(worker) => worker.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vivarium: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_flags_of_a_command_have_the_same_name() {
        Vivarium::command().debug_assert();
    }
}
