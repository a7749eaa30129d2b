//! The `vivarium` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod failure;
mod progress;
mod report;
mod signals;
mod submit;
mod text;
mod workflow;

#[derive(Parser, Debug)]
#[command(version, about)]
struct Vivarium {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Submit(submit::Submit),
}

fn main() -> ExitCode {
    let outcome = match Vivarium::parse().command {
        Command::Submit(submit) => submit.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vivarium: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}
