//! The guest workspace, built once for the demo, the tests and the tests' attack packs.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    setup::{self, WASM_TARGET},
    shell::{Profile, cargo, root, run, target_dir},
};

/// What ships with the host, in `packs/` beside its executable.
const STOCK_PACKS: [&str; 2] = ["image", "mask"];

/// What only tests load: misbehaving nodes, and nodes that exercise each power of the engine.
const TEST_PACKS: [&str; 3] = ["hostile", "testing", "testing_pack"];

/// What attacks whoever loads it: only the tests of loading do.
const HOSTILE_PACKS: [&str; 1] = ["hostile_start"];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("`nodes` takes no arguments, but got `{unknown}`");
    }
    setup::for_build()?;
    build()
}

/// Builds every guest and copies the components to where the host and the tests look. Guests are always optimised: they
/// are small, the tests load them by the thousand, and so one build serves every profile of the host.
///
/// # Errors
/// When a guest doesn't compile, or a pack that should be there isn't.
pub(crate) fn build() -> Result<()> {
    run(&mut guest_cargo(&["build", "--workspace", "--release", "--target", WASM_TARGET]))?;
    let built = target_dir().join(WASM_TARGET).join(Profile::Release.folder());
    for profile in [Profile::Debug, Profile::Release] {
        install(&built, &STOCK_PACKS, &target_dir().join(profile.folder()).join("packs"))?;
    }
    install(&built, &TEST_PACKS, &target_dir().join("test-packs"))?;
    install(&built, &HOSTILE_PACKS, &target_dir().join("hostile-packs"))
}

/// `cargo` in the guest workspace: run from there, so that its `.cargo/config.toml` (SIMD) counts.
pub(crate) fn guest_cargo(arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.current_dir(root().join("nodes-wasm"));
    command
}

/// `cargo` in the workspace of the guest SDK.
pub(crate) fn sdk_cargo(arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.current_dir(root().join("guest-sdk/rust"));
    command
}

fn install(built: &Path, packs: &[&str], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    for pack in packs {
        let file = format!("{pack}.wasm");
        replace(&built.join(&file), &folder.join(&file))?;
    }
    println!("  {} in {}", packs.join(", "), folder.display());
    Ok(())
}

/// Copies beside the destination and renames, so that a server that watches the folder never reads half a component.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("the guest build left no {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    fs::write(&partial, bytes).with_context(|| format!("could not write {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("could not replace {}", to.display()))
}
