//! `vivarium pack build`: from a folder with a `pack.toml` to one file.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use serde::Deserialize;
use vivarium_packs::{
    file::PackFile,
    manifest::{Build as BuildSteps, MANIFEST_BYTES, Manifest},
};

use super::{examined::Examined, key::KeyOptions, template};
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    options::LimitOptions,
    output::say,
};

const MANIFEST: &str = "pack.toml";
const TARGET: &str = "wasm32-wasip2";
/// What a shell answers, and npm after it, when there is no such program.
const NOT_FOUND: i32 = 127;

/// Build a pack out of its folder.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack build
  vivarium pack build --sign -o dist/

With a Cargo.toml and no [build] in pack.toml it runs `cargo build --release --target wasm32-wasip2`. [build] can name another
command and the component that it leaves. The component, pack.toml and the files that it names become one file.")]
pub(crate) struct Build {
    /// The folder with pack.toml
    #[arg(default_value = ".")]
    folder: PathBuf,

    /// Where to write: a file, or a folder for NAME-VERSION.wasm [default: the pack's folder]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Sign it
    #[arg(long)]
    sign: bool,

    #[command(flatten)]
    key: KeyOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

impl Build {
    pub(crate) fn run(self) -> Outcome<()> {
        let limits = self.limits.resolve()?;
        let limit = limits.component_bytes;
        let mut file = build(&self.folder, limit)?;
        if self.sign {
            file = file.signed(&self.key.read()?, limit).or_fail(Exit::Work, || "could not sign the pack")?;
        }
        // What can't be installed should not be given to others.
        let examined = Examined::new(file, limits)?;
        let name = format!("{}-{}.wasm", examined.manifest().name, examined.manifest().version);
        let path = match self.output {
            None => self.folder.join(name),
            Some(path) if path.is_dir() => path.join(name),
            Some(path) => path,
        };
        fs::write(&path, examined.file.bytes())
            .or_fail(Exit::Machine, || format!("could not write {}", path.display()))?;
        say!("{}", path.display());
        eprintln!("{} bytes, sha256 {}", examined.file.bytes().len(), examined.file.digest());
        if examined.file.signer().is_none() {
            eprintln!("It is not signed; `vivarium pack sign {}` does that.", path.display());
        }
        Ok(())
    }
}

/// Builds the component of a folder and puts the pack together. Nothing is signed, nothing is examined.
///
/// # Errors
/// When the folder holds no pack, or it doesn't build.
pub(super) fn build(folder: &Path, limit: u64) -> Outcome<PackFile> {
    let (manifest, text) = read_manifest(folder)?;
    let component = match &manifest.build {
        Some(steps) => build_as_told(folder, steps)?,
        None if folder.join("Cargo.toml").is_file() => build_with_cargo(folder)?,
        None => fail!(
            Exit::Usage,
            "{} says nothing about how to build it: add [build] with `command` and `component`",
            folder.join(MANIFEST).display()
        ),
    };
    let component =
        fs::read(&component).or_fail(Exit::Work, || format!("the build left no {}", component.display()))?;
    let mut assets = Vec::new();
    for (path, _) in manifest.assets() {
        let content = fs::read(folder.join(path)).or_fail(Exit::Work, || format!("could not read {path}"))?;
        assets.push((path.to_owned(), content));
    }
    PackFile::assemble(&component, &text, &assets, limit).or_fail(Exit::Work, || "could not put the pack together")
}

/// `pack.toml`, read, and as it is written.
///
/// # Errors
/// When there is none, or it is wrong.
pub(super) fn read_manifest(folder: &Path) -> Outcome<(Manifest, String)> {
    let path = folder.join(MANIFEST);
    let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if size > MANIFEST_BYTES as u64 {
        fail!(Exit::Work, "{} has {size} bytes, more than {MANIFEST_BYTES}", path.display());
    }
    let text = fs::read_to_string(&path).or_fail(Exit::Machine, || {
        format!("{} is no folder of a pack (`vivarium pack new` makes one)", folder.display())
    })?;
    let manifest = Manifest::parse(&text).or_fail(Exit::Work, || format!("{} is wrong", path.display()))?;
    Ok((manifest, text))
}

fn build_as_told(folder: &Path, steps: &BuildSteps) -> Outcome<PathBuf> {
    if let Some((program, arguments)) = steps.command.split_first() {
        let component = folder.join(&steps.component);
        if let Some(parent) = component.parent() {
            fs::create_dir_all(parent).or_fail(Exit::Machine, || format!("could not create {}", parent.display()))?;
        }
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdout(Stdio::null()).env("PATH", tools_of(folder)?);
        let status = match command.status() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match template::installs(program) {
                // npm does not bring itself.
                Some(step) if !step.starts_with(program) => fail!(
                    Exit::Machine,
                    "{program} is not installed; in {}, this installs it: {step}",
                    folder.display()
                ),
                _ => fail!(Exit::Machine, "{program}, which pack.toml says builds it, is not installed"),
            },
            status => status.or_fail(Exit::Machine, || format!("could not run {program}"))?,
        };
        if !status.success() {
            let command = steps.command.join(" ");
            match template::installs(program).filter(|_| status.code() == Some(NOT_FOUND)) {
                Some(step) => fail!(
                    Exit::Machine,
                    "`{command}` did not find a program that it needs; in {}, this installs it: {step}",
                    folder.display()
                ),
                None => fail!(Exit::Work, "`{command}` failed: {status}"),
            }
        }
    }
    Ok(folder.join(&steps.component))
}

/// Where programs are looked for: what the pack's folder has of its own first, as pip and npm put it there.
fn tools_of(folder: &Path) -> Outcome<OsString> {
    let folder = fs::canonicalize(folder).or_fail(Exit::Machine, || "could not find the folder")?;
    let own = [".venv/bin", "node_modules/.bin"].map(|place| folder.join(place));
    let path = env::var_os("PATH").unwrap_or_default();
    let all = own.into_iter().chain(env::split_paths(&path));
    env::join_paths(all).or_fail(Exit::Machine, || format!("{} can't be part of PATH", folder.display()))
}

/// What matters of cargo's JSON messages.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

fn build_with_cargo(folder: &Path) -> Outcome<PathBuf> {
    let folder = fs::canonicalize(folder).or_fail(Exit::Machine, || "could not find the folder")?;
    let arguments = ["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"];
    let output = Command::new("cargo")
        .args(arguments)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .or_fail(Exit::Machine, || "could not run cargo; https://rustup.rs installs it")?;
    if !output.status.success() {
        fail!(
            Exit::Work,
            "cargo could not build it; if it does not know the target, `rustup target add {TARGET}` adds it"
        );
    }
    let manifest = folder.join("Cargo.toml");
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let components = messages
        .filter(|message: &CargoMessage| message.reason == "compiler-artifact" && message.manifest_path == manifest)
        .flat_map(|message| message.filenames)
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    let Some(component) = components else {
        fail!(Exit::Work, "cargo made no component: Cargo.toml has to say crate-type = [\"cdylib\"] in [lib]");
    };
    Ok(component)
}
