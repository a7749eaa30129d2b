//! What makes components of Python, JavaScript and TypeScript: `.ci/run` installs it into `target/guest-tools`.

use std::{env, path::PathBuf, process::Command};

use anyhow::Result;

use crate::shell::target_dir;

fn tools() -> PathBuf {
    target_dir().join("guest-tools")
}

/// The command with these tools in `PATH` and `PYTHONPATH`, should they be there.
///
/// # Errors
/// When a path can't be part of `PATH`.
pub(crate) fn with_tools(mut command: Command) -> Result<Command> {
    let python = tools().join("python");
    let own = [python.join("bin"), tools().join("javascript/node_modules/.bin")];
    let path = env::var_os("PATH").unwrap_or_default();
    command.env("PATH", env::join_paths(own.into_iter().chain(env::split_paths(&path)))?).env("PYTHONPATH", python);
    Ok(command)
}

/// Which tool is not installed, and how to install it.
pub(crate) fn missing() -> Option<String> {
    let [python, javascript] = [tools().join("python"), tools().join("javascript")];
    if !python.join("bin/componentize-py").is_file() {
        let command = format!("python3 -m pip install --target {} componentize-py==0.25.1", python.display());
        return Some(format!("componentize-py is not installed: {command}"));
    }
    let programs = ["componentize-qjs", "esbuild", "tsc"];
    if let Some(program) = programs.iter().find(|program| !javascript.join("node_modules/.bin").join(program).is_file())
    {
        let packages = "componentize-qjs@0.4.5 esbuild@0.28.2 typescript@7.0.2";
        return Some(format!("{program} is not installed: npm install --prefix {} {packages}", javascript.display()));
    }
    None
}
