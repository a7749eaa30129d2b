//! How long a server with very many installed packs takes to start.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    figure::{Better, Figure, Samples, Target},
    options::Options,
    process::{self, Server},
    sandbox::guests,
};

/// Installs packs that differ in name and class only, and starts the server several times.
///
/// # Errors
/// When a pack can't be built or installed, or the server doesn't start.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let count = options.times(500, 20);
    let place = tempfile::tempdir()?;
    let vivarium = options.vivarium()?;
    eprintln!("  measuring: the start with {count} packs; installing them compiles each");
    let pack = guests::build(&vivarium, place.path(), "rust")?;
    let base = place.path().join("base");
    for number in 0..count {
        let file = place.path().join("pack.wasm");
        fs::write(&file, renamed(&pack, number))?;
        let mut install = Command::new(&vivarium);
        install.args(["pack", "install", "--yes", "--allow-unsigned", "--base-directory"]).arg(&base).arg(&file);
        let output = install.output().context("could not start vivarium")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let (mut starts, mut memory) = (Samples::default(), Samples::default());
    for _ in 0..=options.times(5, 1) {
        let (started_in, resident) = start(&vivarium, &base, place.path(), count)?;
        starts.push(started_in.as_secs_f64());
        memory.push(resident);
    }
    let figure = |name: String, unit, samples| Figure::new("Many packs", name, unit, Better::Lower).ours(samples);
    Ok(vec![
        figure(format!("start with {count} installed packs"), "s", starts).target(Target::AtMost(1.0)),
        figure(format!("memory with {count} installed packs"), "MB", memory),
    ])
}

/// The same pack under another name, with its class under another name, both of the same length.
fn renamed(pack: &[u8], number: usize) -> Vec<u8> {
    let mut bytes = pack.to_vec();
    for (before, after) in [
        ("bench-pack-0000", format!("bench-pack-{number:04}")),
        ("BenchPack0000Brighten", format!("BenchPack{number:04}Brighten")),
    ] {
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(before.len()).position(|part| part == before.as_bytes()) {
            bytes[at + found..at + found + before.len()].copy_from_slice(after.as_bytes());
            at += found + before.len();
        }
    }
    bytes
}

fn start(vivarium: &Path, base: &Path, place: &Path, count: usize) -> Result<(Duration, f64)> {
    let (command, url) = process::vivarium_serve(vivarium, base)?;
    let server = Server::start(command, &url, &place.join("serve.log"))?;
    let info: serde_json::Value =
        ureq::get(format!("{url}/object_info")).call()?.body_mut().with_config().limit(1 << 30).read_json()?;
    let there =
        info.as_object().context("/object_info is no object")?.keys().filter(|class| class.starts_with("BenchPack"));
    ensure!(there.count() == count, "not every pack was loaded: see {}", place.display());
    let figures = (server.started_in(), server.resident_mb()?);
    server.stop()?;
    Ok(figures)
}
