//! The toolchain parts that a fresh machine lacks.
//!
//! `rust-toolchain.toml` names them, but rustup adds them by itself only where its auto-install is on; so this asks
//! for each part and adds what is missing.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, find, output, root, run};

/// What the guests are compiled to.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("`setup` takes no arguments, but got `{unknown}`");
    }
    for_tests()?;
    println!("everything the build needs is here");
    Ok(())
}

/// What building host and guests needs: a C compiler (SQLite and libwebp are C) and the wasm target.
///
/// # Errors
/// When a part is missing and can't be added; says how a person adds it.
pub(crate) fn for_build() -> Result<()> {
    if find("cc").is_none() && find("gcc").is_none() {
        bail!("no C compiler found: SQLite and libwebp are compiled from C. On Debian: apt-get install gcc libc6-dev");
    }
    target(WASM_TARGET)
}

/// What Rust needs to compile to `name`.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn target(name: &str) -> Result<()> {
    if target_is_installed(name)? {
        return Ok(());
    }
    rustup(&["target", "add", name])
}

/// What the tests need beyond [`for_build`]: rustfmt and clippy.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn for_tests() -> Result<()> {
    for_build()?;
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if output(&mut cargo(&[subcommand, "--version"])).is_err() {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

fn target_is_installed(name: &str) -> Result<bool> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))
        .context("is Rust installed? https://rustup.rs tells how")?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(name).join("lib").is_dir())
}

fn rustup(arguments: &[&str]) -> Result<()> {
    if find("rustup").is_none() {
        bail!(
            "`rustup {}` is needed, but rustup is not in PATH: install it from https://rustup.rs, or add that part \
             to your toolchain the way your distribution does",
            arguments.join(" ")
        );
    }
    run(Command::new("rustup").args(arguments).current_dir(root()))
}
