//! Fuzzing: builds one program of `tests/fuzz/targets` with coverage counters and runs it on a corpus. Needs a C++ compiler
//! for libFuzzer, but neither a nightly compiler nor `cargo-fuzz`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, output, root, run, target_dir};

const HELP: &str = "\
cargo xtask fuzz [TARGET [SECONDS]]

Runs a target of tests/fuzz/targets (default: prompt) for some seconds (default: 60) on a corpus below target/fuzz-corpus,
which starts with what this repository has of the kind and grows from run to run. What makes it fail is written to
target/fuzz-corpus/TARGET.failures; the same command runs such a file first the next time.

  prompt  a body of POST /prompt: parsed, validated, planned
  path    names of files that clients send: nothing outside of a folder is opened
";

/// What libFuzzer reads: edges by 8-bit counters, and their table.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Ccodegen-units=1 --cfg fuzzing";

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let target = arguments.first().map_or("prompt", String::as_str);
    let seconds: u32 = arguments.get(1).map_or(Ok(60), |seconds| seconds.parse()).context("SECONDS")?;
    if !root().join("tests/fuzz/targets").join(format!("{target}.rs")).is_file() {
        bail!("there is no target `{target}` in tests/fuzz/targets");
    }
    // With a target triple, build scripts and macros are not instrumented.
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?.to_owned();
    let folder = target_dir().join("fuzz");
    run(cargo(&["build", "--release", "--target", &host, "--bin", target])
        .current_dir(root().join("tests/fuzz"))
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", COVERAGE))?;

    let corpus = target_dir().join("fuzz-corpus").join(target);
    let failures = target_dir().join("fuzz-corpus").join(format!("{target}.failures"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&failures)?;
    match target {
        "prompt" => seed_prompts(&corpus)?,
        "path" => seed_names(&corpus)?,
        _ => {}
    }
    let prefix = format!("-artifact_prefix={}/", failures.display());
    let program = folder.join(&host).join("release").join(target);
    run(Command::new(program).arg(&corpus).arg(&failures).arg(prefix).args([
        format!("-max_total_time={seconds}"),
        "-max_len=16384".to_owned(),
        "-timeout=20".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]))
}

/// The names of the attacks. Escapes stay as they are written: it is a beginning.
fn seed_names(corpus: &Path) -> Result<()> {
    let names = fs::read_to_string(root().join("tests/attacks/names.json"))?;
    let names = names.lines().map(|line| line.trim().trim_end_matches(',').trim_matches('"'));
    for (index, name) in names.enumerate() {
        fs::write(corpus.join(format!("name-{index}")), name)?;
        fs::write(corpus.join(format!("below-{index}")), format!("sub\n{name}"))?;
    }
    Ok(())
}

/// The recorded cases, one line each, and the example workflows.
fn seed_prompts(corpus: &Path) -> Result<()> {
    let recorded = fs::read_to_string(root().join("tests/differential/cases.jsonl"))?;
    for (index, line) in recorded.lines().enumerate() {
        // Everything before the answer of the first step is its body.
        let body = line.split_once("\"body\":").and_then(|(_, rest)| rest.split_once(",\"status\":"));
        if let Some((body, _)) = body {
            fs::write(corpus.join(format!("recorded-{index}")), body)?;
        }
    }
    for workflow in fs::read_dir(root().join("tests/workflows"))? {
        for file in fs::read_dir(workflow?.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(name) = path.file_name()
            {
                fs::copy(&path, corpus.join(name))?;
            }
        }
    }
    Ok(())
}
