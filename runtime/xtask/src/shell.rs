//! Running programs and finding paths.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// From then on, a command's time stands in the log.
const WORTH_NOTICING: Duration = Duration::from_secs(3);

/// The repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// The one target folder of host and guests.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// Which cargo profile something is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `cargo build`: what the tests use.
    Debug,
    /// `cargo build --release`: what users run.
    Release,
}

impl Profile {
    /// The profile's folder inside the target folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// `cargo` with the given arguments, in the repository.
///
/// Without what the cargo that runs this program told it of itself: ring's build script looks at that, so it and all that is
/// built on it would be compiled again with every change between `cargo xtask` and plain `cargo`.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    command
}

/// Prints the command, runs it to its end, and says how long it took if that was worth noticing.
///
/// # Errors
/// When it can't be started, or exits non-zero.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("  $ {}", describe(command));
    let started = Instant::now();
    let status = command.status().with_context(|| format!("could not start `{}`", describe(command)))?;
    let took = started.elapsed();
    if took >= WORTH_NOTICING {
        println!("  took {:.1} s", took.as_secs_f64());
    }
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs the command quietly and returns what it wrote to stdout.
///
/// # Errors
/// When it can't be started, or exits non-zero; its stderr is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{}`", describe(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", describe(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program is, if it is in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether this is CI, where a check that can't run is a failure rather than a skip.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| matches!(value.as_str(), "1" | "true"))
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    std::iter::once(name).chain(arguments).collect::<Vec<_>>().join(" ")
}
