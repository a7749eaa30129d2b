//! Builds the component of a crate, as `vivarium pack build` does.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde::Deserialize;

const TARGET: &str = "wasm32-wasip2";

/// What matters of cargo's messages.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

/// The component of the crate in `folder`, built when this process asks for the first time.
///
/// # Errors
/// What to do about it, in words.
pub(crate) fn build(folder: &Path) -> Result<PathBuf, String> {
    static BUILT: Mutex<Option<HashMap<PathBuf, Result<PathBuf, String>>>> = Mutex::new(None);
    let folder =
        fs::canonicalize(folder).map_err(|error| format!("there is no folder {}: {error}", folder.display()))?;
    // A panic while it was held leaves at most an entry less. Held while cargo runs: other tests wait for the same result.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.get_or_insert_default().entry(folder.clone()).or_insert_with(|| run_cargo(&folder)).clone()
}

fn run_cargo(folder: &Path) -> Result<PathBuf, String> {
    let manifest = folder.join("Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    let output = cargo.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("could not run cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo could not build the component of {}; if it does not know the target, `rustup target add {TARGET}` adds it",
            folder.display()
        ));
    }
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let component = messages
        .filter(|message: &Message| message.reason == "compiler-artifact" && message.manifest_path == manifest)
        .flat_map(|message| message.filenames)
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    let missing = || "cargo made no component: Cargo.toml has to say crate-type = [\"cdylib\"] in [lib]".to_owned();
    component.ok_or_else(missing)
}
