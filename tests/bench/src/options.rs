//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

/// Measure `vivarium serve`, a ComfyUI beside it, and the sandbox.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// A ComfyUI that runs already, to measure beside ours
    #[arg(long, value_name = "URL")]
    peer: Option<String>,

    /// Start a ComfyUI with this command (by `sh`) and stop it afterwards: adds its start-up time and memory
    #[arg(long, value_name = "CMD", requires = "peer_url", conflicts_with = "peer")]
    pub(crate) peer_start: Option<String>,

    /// Where the started ComfyUI listens
    #[arg(long, value_name = "URL", requires = "peer_start")]
    peer_url: Option<String>,

    /// Fewer and shorter runs: to see that it works, not for figures to keep
    #[arg(long)]
    pub(crate) quick: bool,

    /// Measure only this part
    #[arg(long, value_enum)]
    only: Option<Part>,

    /// Write the figures as JSON too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// A Python that has numpy, for a loop over floats beside that of a guest
    #[arg(long, value_name = "PYTHON")]
    pub(crate) numpy: Option<PathBuf>,

    /// The binary to measure [default: `vivarium` beside this program]
    #[arg(long, value_name = "FILE")]
    vivarium: Option<PathBuf>,

    /// The folder of the pack `testing` [default: ../test-packs, seen from this program]
    #[arg(long, value_name = "DIR")]
    test_packs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Ours, and the peer's when one is given; prompts and single requests
    Servers,
    /// Of the servers only what a node costs in prompts of many shapes and sizes
    Engine,
    /// The same: what single nodes take with large pictures
    Nodes,
    /// The same, under load: requests, uploads, events to many sockets
    Protocol,
    /// Ours only: interrupts, and branches side by side
    Interrupt,
    /// Inside this process
    Sandbox,
    /// The same node in every language that has a template
    Guests,
    /// The start with 500 installed packs
    Packs,
    /// Prompts inside of the server and in processes of their own
    Processes,
}

impl Options {
    /// Whether `vivarium serve` has to be started for it.
    pub(crate) fn measures_a_server(&self) -> bool {
        self.measures_servers() || self.measures_engine() || self.measures_nodes() || self.measures_protocol()
    }

    pub(crate) fn measures_servers(&self) -> bool {
        matches!(self.only, None | Some(Part::Servers))
    }

    pub(crate) fn measures_protocol(&self) -> bool {
        matches!(self.only, None | Some(Part::Protocol))
    }

    pub(crate) fn measures_engine(&self) -> bool {
        matches!(self.only, None | Some(Part::Servers | Part::Engine))
    }

    pub(crate) fn measures_nodes(&self) -> bool {
        matches!(self.only, None | Some(Part::Nodes))
    }

    pub(crate) fn measures_interrupts(&self) -> bool {
        matches!(self.only, None | Some(Part::Interrupt))
    }

    pub(crate) fn measures_sandbox(&self) -> bool {
        matches!(self.only, None | Some(Part::Sandbox))
    }

    pub(crate) fn measures_guests(&self) -> bool {
        matches!(self.only, None | Some(Part::Guests))
    }

    pub(crate) fn measures_processes(&self) -> bool {
        matches!(self.only, None | Some(Part::Processes))
    }

    pub(crate) fn measures_packs(&self) -> bool {
        matches!(self.only, None | Some(Part::Packs))
    }

    /// Where the peer listens, or will listen; without a slash at its end.
    pub(crate) fn peer_url(&self) -> Option<&str> {
        self.peer.as_deref().or(self.peer_url.as_deref()).map(|url| url.trim_end_matches('/'))
    }

    /// How often something is measured: `full` times, or `quick` times with `--quick`.
    pub(crate) fn times(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// # Errors
    /// When it isn't there.
    pub(crate) fn vivarium(&self) -> Result<PathBuf> {
        let path = or_beside(self.vivarium.as_deref(), "vivarium")?;
        ensure!(path.is_file(), "{} is not there; `cargo xtask bench` builds it", path.display());
        Ok(path)
    }

    /// The component of a stock pack.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn stock_pack(&self, name: &str) -> Result<Vec<u8>> {
        read_pack(&self.vivarium()?.with_file_name("packs"), name)
    }

    /// The component of a pack that only tests use.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn test_pack(&self, name: &str) -> Result<Vec<u8>> {
        read_pack(&or_beside(self.test_packs.as_deref(), "../test-packs")?, name)
    }
}

fn or_beside(given: Option<&Path>, name: &str) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("where this program is can't be told; name the files by flags")?;
    Ok(own.parent().unwrap_or(&own).join(name))
}

fn read_pack(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(format!("{name}.wasm"));
    std::fs::read(&path).with_context(|| format!("{}; `cargo xtask nodes` builds it", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(flags: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once(&"bench").chain(flags))
    }

    #[test]
    fn a_peer_runs_already_or_is_started_and_then_both_its_command_and_url_are_needed() {
        assert_eq!(parse(&["--peer", "http://a:1/"]).unwrap().peer_url(), Some("http://a:1"));
        let started = parse(&["--peer-start", "x", "--peer-url", "http://a:1"]).unwrap();
        assert_eq!(started.peer_url(), Some("http://a:1"));
        assert!(parse(&["--peer-start", "x"]).is_err());
        assert!(parse(&["--peer-url", "http://a:1"]).is_err());
        assert!(parse(&["--peer", "http://a:1", "--peer-start", "x", "--peer-url", "http://a:1"]).is_err());
    }
}
