//! The attacks of packs, threats 1 to 65, as a list that people read: what was tried, whether it was stopped, by which words,
//! and how somebody else's prompt fared meanwhile. The tests themselves are those of `cargo xtask test`; which of them belong to
//! a threat is in the table of `docs/threat-model.md`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    nodes, setup,
    shell::{cargo, root, run},
    test::build_host,
};

/// Threats that a pack is, or its way in. The others are of requests and tenants.
const THREATS: std::ops::RangeInclusive<u32> = 1..=65;
/// The test that runs all of `tests/engine/cases`.
const ENGINE_CASES: &str = "graphs_run_as_their_cases_say";

#[derive(Default)]
struct Count {
    stopped: usize,
    failed: usize,
}

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("`attacks` takes no arguments, but got `{unknown}`");
    }
    setup::for_build()?;
    nodes::build()?;
    run(&mut build_host())?;
    let mut count = Count::default();
    println!("\n{:<9}{:<40}{:>10}{:>10}{:>7}  what was said", "", "case", "meanwhile", "idle", "ratio");
    for (program, test) in [("attacks", "every_attack"), ("packs", "every_hostile_pack")] {
        // Of the whole workspace, as `cargo xtask test` builds it: with the features of a part, all of it would be built again.
        let mut command = cargo(&["test", "--quiet", "--workspace", "--test", program, "--", "--nocapture", test]);
        count_cases(&mut command, &mut count)?;
    }
    println!("\ntests in code, of {THREATS:?}");
    count_tests(&named_tests()?, &mut count)?;
    println!("\n{} stopped, {} failed", count.stopped, count.failed);
    if count.failed > 0 { bail!("{} attacks were not stopped as they should be", count.failed) } else { Ok(()) }
}

/// Runs a test that says a line for each case, and says it to people.
fn count_cases(command: &mut Command, count: &mut Count) -> Result<()> {
    let before = count.stopped + count.failed;
    let mut rest = String::new();
    let passed = each_line(command.env("VIVARIUM_ATTACKS", "lines"), |line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let ["attack", case, word, meanwhile, idle, said] = cells[..] else {
            rest.push_str(line);
            rest.push('\n');
            return;
        };
        let ratio = match (meanwhile.parse::<f64>(), idle.parse::<f64>()) {
            (Ok(meanwhile), Ok(idle)) => format!("{:.1}", meanwhile / idle),
            _ => "-".to_owned(),
        };
        let said: String = said.chars().take(100).collect();
        println!("{word:<9}{case:<40}{:>10}{:>10}{ratio:>7}  {said}", format!("{meanwhile} ms"), format!("{idle} ms"));
        *(if word == "stopped" { &mut count.stopped } else { &mut count.failed }) += 1;
    })?;
    if !passed || count.stopped + count.failed == before {
        println!("{rest}");
    }
    if count.stopped + count.failed == before {
        bail!("no case was run");
    }
    Ok(())
}

/// Runs tests by their names and says how each went. Those that this machine or this build can't run are said to be so.
fn count_tests(names: &BTreeSet<String>, count: &mut Count) -> Result<()> {
    let mut waiting = names.clone();
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
    let mut rest = String::new();
    let passed = each_line(command.args(names), |line| {
        // `test module::name ... ok`; names are parts of names to cargo, so others may run too.
        let Some((path, outcome)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) else {
            rest.push_str(line);
            rest.push('\n');
            return;
        };
        let name = path.split(' ').next().unwrap_or(path).rsplit("::").next().unwrap_or(path);
        let word = match outcome {
            "ok" => "stopped",
            "FAILED" => "failed",
            _ => return,
        };
        if names.contains(name) {
            waiting.remove(name);
            println!("{word:<9}{name}");
            *(if word == "stopped" { &mut count.stopped } else { &mut count.failed }) += 1;
        }
    })?;
    for name in waiting {
        println!("{:<9}{name} (`cargo xtask cuda test` runs those of the CUDA back end)", "not run");
    }
    if !passed {
        println!("{rest}");
    }
    Ok(())
}

/// Answers whether the command ended well.
fn each_line(command: &mut Command, mut with: impl FnMut(&str)) -> Result<bool> {
    let mut process = command.stdout(Stdio::piped()).spawn().context("could not start cargo")?;
    let output = process.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).lines() {
        with(&line?);
    }
    Ok(process.wait()?.success())
}

/// The names of tests that the table names for [`THREATS`].
fn named_tests() -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(root().join("docs/threat-model.md"))?;
    let mut names = BTreeSet::new();
    for row in page.lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, _, shown_by] = cells[..] else { continue };
        if !number.parse().is_ok_and(|number| THREATS.contains(&number)) {
            continue;
        }
        // Whatever stands between two backticks; cases with a number ran before.
        for name in shown_by.split('`').skip(1).step_by(2) {
            match name.split_once('/') {
                None => names.insert(name.to_owned()),
                Some(("engine", _)) => names.insert(ENGINE_CASES.to_owned()),
                Some(_) => false,
            };
        }
    }
    Ok(names)
}
