//! `vivarium pack test`: unit tests, then the built pack in the real sandbox.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use super::{build, examined::Examined};
use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    host,
    options::{Folders, LimitOptions},
    output::say,
};

/// Build a pack, run its unit tests, check it, and run its example workflows.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium pack test
  vivarium pack test ../other-pack

With a Cargo.toml it runs `cargo test` first. Then the built pack is examined as `vivarium pack check` does, and every workflow
that pack.toml names has to run to its end, together with the stock packs. Files that a workflow loads are looked for beside
it.")]
pub(crate) struct Test {
    /// The folder with pack.toml
    #[arg(default_value = ".")]
    folder: PathBuf,

    #[command(flatten)]
    limits: LimitOptions,
}

impl Test {
    pub(crate) fn run(self) -> Outcome<()> {
        let limits = self.limits.resolve()?;
        build::read_manifest(&self.folder)?;
        if self.folder.join("Cargo.toml").is_file() {
            let mut cargo = Command::new("cargo");
            // Unit tests run nodes in this program, whether or not it is in `PATH`.
            cargo.arg("test").current_dir(&self.folder).env("VIVARIUM", this_program()?);
            run(&mut cargo, "cargo test")?;
        }
        let file = build::build(&self.folder, limits.component_bytes)?;
        let scratch = Scratch::create(file.bytes())?;
        // Compiled where the workflows find it: an interpreter takes its time.
        let examined = Examined::on(&host::sandbox(limits, Some(Folders::compiled_below(&scratch.0)))?, file)?;
        let manifest = examined.manifest();
        say!("{} {}: {} nodes", manifest.name, manifest.version, examined.component.definition().nodes.len());
        for workflow in &manifest.workflows {
            scratch.run_workflow(&self.folder.join(&workflow.file))?;
            say!("{}: ran", workflow.file);
        }
        say!("{} passed", manifest.name);
        Ok(())
    }
}

/// A folder with the pack in it, which goes away with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn create(pack: &[u8]) -> Outcome<Self> {
        let scratch = Self(env::temp_dir().join(format!("vivarium-pack-test-{}", uuid::Uuid::new_v4())));
        let write = || {
            fs::create_dir_all(scratch.0.join("packs"))?;
            fs::write(scratch.0.join("packs/pack.wasm"), pack)
        };
        write().or_fail(Exit::Machine, || format!("could not write to {}", scratch.0.display()))?;
        Ok(scratch)
    }

    fn run_workflow(&self, workflow: &Path) -> Outcome<()> {
        let program = this_program()?;
        let mut command = Command::new(&program);
        command.arg("run").arg(workflow).arg("--base-directory").arg(&self.0).arg("-o").arg(self.0.join("output"));
        let stock = program.parent().map(|folder| folder.join("packs")).filter(|folder| folder.is_dir());
        for folder in stock.into_iter().chain([self.0.join("packs")]) {
            command.arg("--packs-directory").arg(folder);
        }
        run(&mut command, &workflow.display().to_string())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing in it is needed any more.
        fs::remove_dir_all(&self.0).ok();
    }
}

fn this_program() -> Outcome<PathBuf> {
    env::current_exe().or_fail(Exit::Machine, || "could not find this program's own file")
}

fn run(command: &mut Command, name: &str) -> Outcome<()> {
    let status = command.status().or_fail(Exit::Machine, || format!("could not run {name}"))?;
    if !status.success() {
        fail!(Exit::Work, "{name} failed: {status}");
    }
    Ok(())
}
