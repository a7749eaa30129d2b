//! Every check of the repository, in stages that a person can run by the same names as CI.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{
    nodes, setup,
    shell::{Profile, cargo, find, in_ci, root, run, target_dir},
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
const CHECKS: [Check; 10] = [
    Check {
        name: "setup",
        what: "the wasm target, rustfmt, clippy",
        run: setup::for_tests,
        missing: nothing,
    },
    Check {
        name: "fmt",
        what: "formatting of host and guests",
        run: fmt,
        missing: nothing,
    },
    Check {
        name: "nodes",
        what: "build the stock and the test packs",
        run: build_nodes,
        missing: nothing,
    },
    Check {
        name: "clippy",
        what: "lints of the host, warnings are errors",
        run: clippy,
        missing: nothing,
    },
    Check {
        name: "clippy-nodes",
        what: "lints of the guests",
        run: clippy_nodes,
        missing: nothing,
    },
    Check {
        name: "test",
        what: "tests of the host, on the real sandbox",
        run: test_host,
        missing: nothing,
    },
    Check {
        name: "test-nodes",
        what: "tests of the guest SDK, run natively",
        run: test_nodes,
        missing: nothing,
    },
    Check {
        name: "docs",
        what: "rustdoc, warnings are errors",
        run: docs,
        missing: nothing,
    },
    Check {
        name: "web",
        what: "the page: types, unit tests, its committed build",
        run: page,
        missing: nothing,
    },
    Check {
        name: "browser",
        what: "the page and the standard front end in Chromium",
        run: browser,
        missing: no_browser,
    },
];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        CHECKS
            .iter()
            .for_each(|check| println!("{:<14} {}", check.name, check.what));
        return Ok(());
    }
    let wanted = select(arguments)?;
    let mut stages = Stages::new();
    let result = wanted
        .iter()
        .try_for_each(|check| run_check(&mut stages, check));
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
    run(&mut nodes::guest_cargo(
        Profile::Debug,
        &["fmt", "--all", "--check"],
    ))
}

fn build_nodes() -> Result<()> {
    nodes::build(Profile::Debug)
}

fn clippy() -> Result<()> {
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn clippy_nodes() -> Result<()> {
    let target = [
        "clippy",
        "--workspace",
        "--target",
        setup::WASM_TARGET,
        "--",
        "-D",
        "warnings",
    ];
    run(&mut nodes::guest_cargo(Profile::Debug, &target))
}

fn test_host() -> Result<()> {
    // The end-to-end tests start the binary, so it must be there even where no test of its crate asks for it.
    run(&mut cargo(&[
        "build",
        "--package",
        "vivarium-cli",
        "--bin",
        "vivarium",
    ]))?;
    run(&mut cargo(&["test", "--workspace"]))
}

fn test_nodes() -> Result<()> {
    run(&mut nodes::guest_cargo(
        Profile::Debug,
        &["test", "--workspace"],
    ))
}

fn docs() -> Result<()> {
    run(cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ])
    .env("RUSTDOCFLAGS", "-D warnings"))
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

/// Drives a real `vivarium serve` from a headless Chromium.
fn browser() -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--package",
        "vivarium-cli",
        "--bin",
        "vivarium",
    ]))?;
    web::install_packages()?;
    let binary = target_dir().join(Profile::Debug.folder()).join("vivarium");
    let mut command = web::npm(&["run", "test:browser"]);
    command
        .env("VIVARIUM_BIN", binary)
        .env("VIVARIUM_ROOT", root());
    command.env("CHROMIUM", chromium().unwrap_or_default());
    command.env("FRONT_END_ROOT", front_end());
    run(&mut command)
}

/// Where `.ci/run` installs the official front end. It is GPL: installed for the test, never part of the repository.
fn front_end() -> PathBuf {
    target_dir().join("front-end/comfyui_frontend_package/static")
}

fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find_map(find)
}

fn no_browser() -> Option<String> {
    if find("npm").is_none() {
        return Some("npm is not installed".to_owned());
    }
    if chromium().is_none() {
        return Some("no Chromium is installed".to_owned());
    }
    if !front_end().join("index.html").is_file() {
        return Some(format!(
            "the official front end is not installed: pip install --no-deps --target {} comfyui-frontend-package==1.58.1",
            target_dir().join("front-end").display()
        ));
    }
    None
}
