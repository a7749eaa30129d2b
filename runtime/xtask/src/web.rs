//! The page that is embedded in the binary. Its built form (`web/dist`) is committed, so that building the host needs no
//! Node; a stamp inside it says which sources it was built from.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::shell::{find, in_ci, root, run};

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => rebuild(),
        [only] if only == "--check" => check(),
        _ => bail!(
            "`web` takes only --check, but got `{}`",
            arguments.join(" ")
        ),
    }
}

/// Builds `web/dist` anew where npm is, else checks what can be checked.
fn rebuild() -> Result<()> {
    if find("npm").is_none() {
        println!("  npm is not installed: keeping the committed web/dist");
        return check();
    }
    install_packages()?;
    run(&mut npm(&["run", "build"]))
}

/// Checks that the committed `web/dist` was built from the committed sources.
///
/// # Errors
/// When it wasn't, or when CI lacks the Node that the check needs.
pub(crate) fn check() -> Result<()> {
    let page = root().join("web/dist/index.html");
    ensure!(
        page.is_file(),
        "web/dist is not built: run `cargo xtask web` on a machine with npm and commit the result"
    );
    if find("node").is_none() {
        ensure!(
            !in_ci(),
            "Node is not installed, so the stamp of web/dist can't be checked"
        );
        println!("  web/dist is there; without Node its stamp can't be compared with the sources");
        return Ok(());
    }
    run(Command::new("node")
        .args(["scripts/stamp.mjs", "--check"])
        .current_dir(root().join("web")))
}

/// Installs what `package-lock.json` names.
///
/// # Errors
/// When npm fails.
pub(crate) fn install_packages() -> Result<()> {
    run(&mut npm(&["ci", "--no-audit", "--no-fund"]))
}

/// `npm` in `web/`.
pub(crate) fn npm(arguments: &[&str]) -> Command {
    let mut command = Command::new("npm");
    command.args(arguments).current_dir(root().join("web"));
    command
}
