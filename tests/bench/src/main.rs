//! `cargo xtask bench`: measures `vivarium serve` as its users meet it, a real ComfyUI in the same run by the same
//! client, and what it costs to cross into the sandbox and back.
//!
//! `tests/peer/README.md` says exactly what each figure of a server is. Nothing here is an assertion: a figure that
//! misses its target is printed as such, and the run succeeds.
//!
//! Not here: whether answers are right (the other test areas), counts of instructions.
//!
//! # Layout
//! - [`options`]: the command line
//! - [`process`]: a server as a process: start-up time, memory, stopping it
//! - [`client`], [`listener`]: one HTTP connection, one WebSocket
//! - [`workload`]: the prompts
//! - [`servers`]: the figures of servers, ours and the peer's in turns
//! - [`engine`]: what a node costs in small and large prompts
//! - [`sandbox`]: the figures of the sandbox, inside this process
//! - [`figure`], [`report`]: samples, targets; the table and its JSON
#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;

use crate::{options::Options, report::Report};

mod client;
mod engine;
mod figure;
mod listener;
mod options;
mod process;
mod report;
mod sandbox;
mod servers;
mod workload;

fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::begin();
    if options.measures_servers() {
        report.add(servers::measure(&options)?);
    }
    if options.measures_sandbox() {
        report.add(sandbox::measure(&options)?);
    }
    report.end();
    print!("{report}");
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(())
}
