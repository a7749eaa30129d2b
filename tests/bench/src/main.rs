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
//! - [`wire`], [`load`], [`audience`]: a connection that costs little; one thread for many of them; many WebSockets
//! - [`workload`]: the prompts
//! - [`servers`]: the figures of servers, ours and the peer's in turns
//! - [`engine`]: what a node costs in small and large prompts
//! - [`nodes`]: what single nodes take with large pictures
//! - [`protocol`]: their figures under load: requests, uploads, events to many sockets
//! - [`interrupt`]: how soon an interrupt takes effect, and what two heavy branches gain side by side
//! - [`sandbox`]: the figures of the sandbox, inside this process; languages of packs
//! - [`worker_processes`]: prompts inside of the server and in processes of their own
//! - [`many_packs`]: the start of a server with 500 installed packs
//! - [`figure`], [`report`]: samples, targets; the table and its JSON
#![forbid(unsafe_code)]

use anyhow::Result;
use clap::Parser;

use crate::{options::Options, report::Report};

mod audience;
mod client;
mod engine;
mod figure;
mod interrupt;
mod listener;
mod load;
mod many_packs;
mod nodes;
mod options;
mod process;
mod protocol;
mod report;
mod sandbox;
mod servers;
mod wire;
mod worker_processes;
mod workload;

fn main() -> Result<()> {
    let options = Options::parse();
    let mut report = Report::begin();
    if options.measures_a_server() {
        report.add(servers::measure(&options)?);
    }
    if options.measures_interrupts() {
        report.add(interrupt::measure(&options)?);
    }
    if options.measures_sandbox() {
        report.add(sandbox::measure(&options)?);
    }
    if options.measures_guests() {
        report.add(sandbox::guests::measure(&options)?);
    }
    if options.measures_processes() {
        report.add(worker_processes::measure(&options)?);
    }
    if options.measures_packs() {
        report.add(many_packs::measure(&options)?);
    }
    report.end();
    print!("{report}");
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(())
}
