//! Every check of the repository, in stages that a person can run by the same names as CI.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    cuda, deny, guests, nodes, processors,
    serving::{self, Server},
    setup,
    shell::{Profile, cargo, find, in_ci, output, root, run, target_dir},
    stages::Stages,
    web,
};

/// A named check, and what it does in a few words.
struct Check {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<()>,
    /// Why it can't run on this machine.
    missing: fn() -> Option<String>,
}

/// In this order: what fails fastest comes first, and the host tests come after the packs that they load.
const CHECKS: [Check; 16] = [
    Check { name: "setup", what: "the wasm target, rustfmt, clippy", run: setup::for_tests, missing: nothing },
    Check { name: "fmt", what: "formatting of host and guests", run: fmt, missing: nothing },
    Check {
        name: "deny",
        what: "licences, sources and known holes of dependencies",
        run: deny::stage,
        missing: deny::missing,
    },
    Check { name: "nodes", what: "build the stock and the test packs", run: nodes::build, missing: nothing },
    Check { name: "clippy", what: "lints of the host, warnings are errors", run: clippy, missing: nothing },
    Check { name: "clippy-nodes", what: "lints of the guests", run: clippy_nodes, missing: nothing },
    Check { name: "test", what: "tests of the host, on the real sandbox", run: test_host, missing: nothing },
    Check {
        name: "walls",
        what: "prompts in confined worker processes: tests of these, and the attacks and the engine's tests in them",
        run: walls,
        missing: no_walls,
    },
    Check {
        name: "cuda",
        what: "the tensor tests and a server through the CUDA back end, on a simulated driver where there is no GPU",
        run: cuda::stage,
        missing: cuda::missing,
    },
    Check {
        name: "processors",
        what: "the tensor tests on emulated processors: without AVX-512, without AVX, ARM",
        run: processors::stage,
        missing: processors::missing,
    },
    Check { name: "test-nodes", what: "tests of the guest SDK, run natively", run: test_nodes, missing: nothing },
    Check { name: "docs", what: "rustdoc, warnings are errors", run: docs, missing: nothing },
    Check { name: "web", what: "the page: types, unit tests, its committed build", run: page, missing: nothing },
    Check {
        name: "browser",
        what: "the page and the standard front end in Chromium",
        run: browser,
        missing: no_browser,
    },
    Check {
        name: "guests",
        what: "packs in Python, JavaScript and TypeScript, from the template to a picture",
        run: guest_languages,
        missing: guests::missing,
    },
    Check {
        name: "clients",
        what: "clients from PyPI and npm run the example workflow",
        run: clients,
        missing: no_clients,
    },
];

/// The versions of the official front end that are tried: the one that ComfyUI 0.3.64 brings along, and a much newer one.
const FRONT_ENDS: [&str; 2] = ["1.27.10", "1.58.1"];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        CHECKS.iter().for_each(|check| println!("{:<14} {}", check.name, check.what));
        return Ok(());
    }
    let wanted = select(arguments)?;
    let mut stages = Stages::new();
    let result = wanted.iter().try_for_each(|check| run_check(&mut stages, check));
    stages.summary();
    result
}

fn select(names: &[String]) -> Result<Vec<&'static Check>> {
    if names.is_empty() {
        return Ok(CHECKS.iter().collect());
    }
    let known = |name: &String| CHECKS.iter().find(|check| check.name == *name);
    let Some(unknown) = names.iter().find(|name| known(name).is_none()) else {
        return Ok(names.iter().filter_map(known).collect());
    };
    bail!("there is no stage `{unknown}`; `cargo xtask test --list` names them")
}

fn run_check(stages: &mut Stages, check: &Check) -> Result<()> {
    match (check.missing)() {
        Some(reason) if in_ci() => {
            bail!("stage `{}` is obligatory in CI, but {reason}", check.name)
        }
        Some(reason) => {
            stages.skip(check.name, reason);
            Ok(())
        }
        None => stages.run(check.name, check.what, check.run),
    }
}

fn nothing() -> Option<String> {
    None
}

fn fmt() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    for outside in ["tests/fuzz/Cargo.toml", "tests/libraries/Cargo.toml"] {
        run(&mut cargo(&["fmt", "--check", "--manifest-path", outside]))?;
    }
    run(&mut nodes::guest_cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn clippy_nodes() -> Result<()> {
    // In release, as they are built: nothing is compiled twice.
    run(&mut nodes::guest_cargo(&["clippy", "--workspace", "--release", "--", "-D", "warnings"]))?;
    run(&mut nodes::sdk_cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn test_host() -> Result<()> {
    run(&mut cargo(&["test", "--workspace"]))?;
    // What tests built there, packs with what they are written against, is for the next run on the same machine.
    let built = target_dir().join("tmp");
    if in_ci() && built.exists() {
        fs::remove_dir_all(&built).with_context(|| format!("removing {}", built.display()))?;
    }
    Ok(())
}

/// What runs prompts in the server must run them the same in processes of their own.
fn walls() -> Result<()> {
    let mut others = cargo(&["test", "--workspace", "--test", "attacks", "--test", "engine"]);
    run(others.env("VIVARIUM_TEST_WORKER_PROCESSES", "1"))
}

fn no_walls() -> Option<String> {
    vivarium_walls::Kernel::probe().check().err().map(|error| error.to_string())
}

/// The binary, as `cargo test --workspace` builds it: of its crate alone, with fewer features, much would be compiled again.
pub(crate) fn build_host() -> Command {
    cargo(&["test", "--workspace", "--no-run", "--test", "end_to_end"])
}

fn test_nodes() -> Result<()> {
    run(&mut nodes::sdk_cargo(&["test", "--workspace"]))?;
    let native = host_triple()?;
    run(&mut nodes::guest_cargo(&["test", "--workspace", "--target", &native]))
}

/// What this machine's programs are compiled to; the guest workspace compiles to WebAssembly unless told so.
fn host_triple() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV").current_dir(root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

fn docs() -> Result<()> {
    // Whoever reads these docs works on the crates, so private items are shown and may be linked to.
    let flags = "-D warnings -A rustdoc::private-intra-doc-links";
    run(cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", flags))?;
    // The SDK's are read by authors of packs.
    run(nodes::sdk_cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", flags))
}

fn page() -> Result<()> {
    web::check()?;
    if find("npm").is_none() {
        println!("  npm is not installed: the page's own tests are left out");
        return Ok(());
    }
    web::install_packages()?;
    run(&mut web::npm(&["run", "typecheck"]))?;
    run(&mut web::npm(&["test"]))
}

/// Drives a real `vivarium serve` from a headless Chromium: first with the built-in page, then with the official front end.
fn browser() -> Result<()> {
    run(&mut build_host())?;
    web::install_packages()?;
    with_server("page", &[], web::npm(&["run", "test:browser"]))?;
    FRONT_ENDS.iter().try_for_each(|version| {
        let folder = front_end(version);
        let flags = ["--front-end-root", folder.to_str().context("the path of the front end is not UTF-8")?];
        let mut test = Command::new("node");
        test.args(["--test", "tests/front-end/front-end.spec.mjs"]).current_dir(root()).env("FRONT_END", version);
        with_server(&format!("front-end-{version}"), &flags, test)
    })
}

fn guest_languages() -> Result<()> {
    run(&mut build_host())?;
    run(&mut guests::with_tools(cargo(&["test", "--workspace", "--test", "languages", "--", "--ignored"]))?)
}

/// Nobody here wrote these clients: what they take for granted is ComfyUI's protocol.
fn clients() -> Result<()> {
    run(&mut build_host())?;
    let mut test = Command::new("python3");
    test.arg("tests/clients/run.py").current_dir(root());
    let base = fresh_base("clients")?;
    let server = Server::start(Profile::Debug, &base, serving::free_port()?, &[])?;
    test.arg(server.url());
    if let Err(error) = run(&mut test) {
        server.show_log();
        return Err(error);
    }
    server.stop()
}

fn no_clients() -> Option<String> {
    if find("python3").is_none() {
        return Some("python3 is not installed".to_owned());
    }
    let mut installed = Command::new("python3");
    installed.args(["tests/clients/run.py", "--check"]).current_dir(root());
    let missing = || "clients are not installed: python3 tests/clients/run.py --install".to_owned();
    output(&mut installed).is_err().then(missing)
}

/// Runs a test against a fresh server; screenshots are kept in `target/browser-tests`.
fn with_server(name: &str, flags: &[&str], mut test: Command) -> Result<()> {
    let artifacts = target_dir().join("browser-tests").join(name);
    let base = fresh_base(&format!("browser-tests/{name}"))?;
    let server = Server::start(Profile::Debug, &base, serving::free_port()?, flags)?;
    test.env("VIVARIUM_URL", server.url()).env("VIVARIUM_ARTIFACTS", &artifacts);
    test.env("CHROMIUM", chromium().unwrap_or_default());
    if let Err(error) = run(&mut test) {
        server.show_log();
        return Err(error);
    }
    server.stop()
}

/// An empty base folder for a server of a test, inside `target`.
fn fresh_base(test: &str) -> Result<PathBuf> {
    let base = target_dir().join(test).join("base");
    if base.exists() {
        fs::remove_dir_all(&base).with_context(|| format!("could not empty {}", base.display()))?;
    }
    Ok(base)
}

/// Where `.ci/run` installs a version of the official front end. It is GPL: installed for the test, never part of the
/// repository.
fn front_end(version: &str) -> PathBuf {
    target_dir().join("front-end").join(version).join("comfyui_frontend_package/static")
}

fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(find)
}

fn no_browser() -> Option<String> {
    if find("npm").is_none() {
        return Some("npm is not installed".to_owned());
    }
    if chromium().is_none() {
        return Some("no Chromium is installed".to_owned());
    }
    let missing = FRONT_ENDS.iter().find(|version| !front_end(version).join("index.html").is_file())?;
    Some(format!(
        "the official front end is not installed: pip install --no-deps --target {} comfyui-frontend-package=={missing}",
        target_dir().join("front-end").join(missing).display()
    ))
}
