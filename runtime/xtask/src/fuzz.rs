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

  prompt       a body of POST /prompt: parsed, validated, planned
  path         names of files that clients send: nothing outside of a folder is opened
  ops          programs of tensor operations: shapes and types are right, nothing stays charged
  manifest     pack.toml of a pack
  pack         a pack file, up to where the compiling process takes over
  value        a value that a guest sends: JSON beside a table of handles
  safetensors  a weights file

The last four are in the sandbox; their first build compiles wasmtime.
";

/// Targets that need the feature `sandbox`.
const IN_SANDBOX: [&str; 4] = ["manifest", "pack", "value", "safetensors"];

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
    let features: &[&str] = if IN_SANDBOX.contains(&target) { &["--features", "sandbox"] } else { &[] };
    run(cargo(&["build", "--release", "--target", &host, "--bin", target])
        .args(features)
        .current_dir(root().join("tests/fuzz"))
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTFLAGS", COVERAGE))?;

    let corpus = target_dir().join("fuzz-corpus").join(target);
    let failures = target_dir().join("fuzz-corpus").join(format!("{target}.failures"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&failures)?;
    seed(target, &corpus)?;
    let prefix = format!("-artifact_prefix={}/", failures.display());
    let program = folder.join(&host).join("release").join(target);
    run(Command::new(program).arg(&corpus).arg(&failures).arg(prefix).args([
        format!("-max_total_time={seconds}"),
        "-max_len=16384".to_owned(),
        "-timeout=20".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]))
}

/// What a corpus starts with.
fn seed(target: &str, corpus: &Path) -> Result<()> {
    match target {
        "prompt" => seed_prompts(corpus),
        "path" => seed_names(corpus),
        "manifest" => seed_manifests(corpus, |manifest| manifest.as_bytes().to_vec()),
        "pack" => seed_manifests(corpus, pack),
        "value" => seed_texts(corpus, &VALUES, |json| [b"\x03", json.as_bytes()].concat()),
        "safetensors" => seed_texts(corpus, &HEADERS, |header| {
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[7; 16]].concat()
        }),
        _ => Ok(()),
    }
}

const VALUES: [&str; 4] = [
    r#"[{"$":0},{"pooled_output":{"$":1},"strength":1.0}]"#,
    r#"{"a":[1,2.5,null,true,"x"],"$$b":{"c":{}},"d":{"$blocked":"why"}}"#,
    r#"{"graph":{"1":{"class_type":"A","inputs":{"x":["2",0]}}},"slots":[{"$link":["1",0]}]}"#,
    r#"[[[[[[[[{"$":2}]]]]]]],-1e308,"\u0000"]"#,
];

const HEADERS: [&str; 3] = [
    r#"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
    r#"{"a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"b":{"dtype":"BOOL","shape":[8],"data_offsets":[8,16]}}"#,
    r#"{"a":{"dtype":"F8_E4M3","shape":[16],"data_offsets":[0,16]},"n":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}}"#,
];

fn seed_texts(corpus: &Path, texts: &[&str], file: impl Fn(&str) -> Vec<u8>) -> Result<()> {
    for (index, text) in texts.iter().enumerate() {
        fs::write(corpus.join(format!("seed-{index}")), file(text))?;
    }
    Ok(())
}

/// The template's manifest, and the one of the documentation, which has all there is.
fn seed_manifests(corpus: &Path, file: impl Fn(&str) -> Vec<u8>) -> Result<()> {
    let template = fs::read_to_string(root().join("guest-sdk/templates/shared/pack.toml"))?;
    let page = fs::read_to_string(root().join("docs/packs.md"))?;
    let documented = page.split_once("### pack.toml\n\n```toml\n").and_then(|(_, rest)| rest.split_once("```"));
    let (documented, _) = documented.context("docs/packs.md shows no pack.toml")?;
    let plain = "name = \"x\"\nversion = \"1.0.0\"\npublisher = \"P\"\nlicense = \"MIT\"\n";
    let icon = format!("{plain}icon = \"icon.png\"\n");
    seed_texts(corpus, &[&template, documented, plain, &icon], file)
}

/// An empty component that carries a manifest and an icon, as `docs/packs.md` lays it out.
fn pack(manifest: &str) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    let mut section = |name: &str, data: &[u8]| {
        let mut body = number(name.len());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(data);
        bytes.push(0);
        bytes.extend(number(body.len()));
        bytes.extend(body);
    };
    section("vivarium:manifest", manifest.as_bytes());
    if manifest.contains("icon.png") {
        section("vivarium:file/icon.png", b"\x89PNG\r\n\x1a\n");
    }
    bytes
}

/// As WebAssembly writes numbers (LEB128).
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
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
