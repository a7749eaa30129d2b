//! The page that is embedded in the binary. Its built form (`web/dist`) is committed, so that building the host needs no
//! Node; a stamp inside it says which sources it was built from.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{find, root, run};

/// Beside everything in `src/`.
const HASHED: [&str; 5] = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => rebuild(),
        [only] if only == "--check" => check(),
        _ => bail!("`web` takes only --check, but got `{}`", arguments.join(" ")),
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

/// Checks that the committed `web/dist` was built from the committed sources. `web/scripts/stamp.mjs` says what is hashed;
/// this is the same without Node.
///
/// # Errors
/// When it wasn't.
pub(crate) fn check() -> Result<()> {
    let web = root().join("web");
    let stamp = fs::read_to_string(web.join("dist/.source-sha256")).unwrap_or_default();
    let sources = source_hash(&web)?;
    ensure!(
        stamp.trim() == sources,
        "web/dist was not built from these sources (its stamp is `{}`, theirs {sources}): run `cargo xtask web` on a \
         machine with npm and commit web/dist",
        stamp.trim()
    );
    println!("  web/dist was built from these sources");
    Ok(())
}

fn source_hash(web: &Path) -> Result<String> {
    let mut paths: Vec<String> = HASHED.map(str::to_owned).into();
    collect(web, &web.join("src"), &mut paths)?;
    paths.sort();
    let mut bytes = Vec::new();
    for path in paths {
        let content = fs::read(web.join(&path)).with_context(|| format!("could not read web/{path}"))?;
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&content);
        bytes.push(0);
    }
    sha256(&bytes)
}

/// Every file below `folder` but unit tests, relative to `web/`.
fn collect(web: &Path, folder: &Path, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry.with_context(|| format!("could not list {}", folder.display()))?.path();
        if path.is_dir() {
            collect(web, &path, paths)?;
        } else {
            let relative = path.strip_prefix(web).unwrap_or(&path).to_string_lossy().into_owned();
            paths.extend((!relative.ends_with(".test.ts")).then_some(relative));
        }
    }
    Ok(())
}

/// By `sha256sum`, which every Linux has: so this crate needs no dependency for one check.
fn sha256(bytes: &[u8]) -> Result<String> {
    let mut process = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start `sha256sum`")?;
    process
        .stdin
        .take()
        .context("`sha256sum` has no input")?
        .write_all(bytes)
        .context("could not write to `sha256sum`")?;
    let output = process.wait_with_output().context("could not wait for `sha256sum`")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().next().context("`sha256sum` answered nothing")?.to_owned())
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
