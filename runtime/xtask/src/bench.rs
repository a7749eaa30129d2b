//! Figures: builds what users run, and `vivarium-bench`, which does the measuring.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    guests, nodes, setup,
    shell::{Profile, cargo, root, run, target_dir},
};

/// The flags of `vivarium-bench` and whether a value follows: checked here, before the long build.
const FLAGS: [(&str, bool); 7] = [
    ("--peer", true),
    ("--peer-start", true),
    ("--peer-url", true),
    ("--only", true),
    ("--json", true),
    ("--numpy", true),
    ("--quick", false),
];

const HELP: &str = "\
cargo xtask bench [--peer URL | --peer-start CMD --peer-url URL] [--quick] [--only servers|engine|nodes|protocol|interrupt|sandbox|guests|packs|processes] [--json FILE]
                  [--numpy PYTHON]

Builds everything in release and prints one table: `vivarium serve`, a real ComfyUI in the same run when one is given
(tests/peer/README.md says how to set one up), how many times better ours is, and whether that is what we aim at.

  cargo xtask bench --peer-start 'PATH/start.sh 8288' --peer-url http://127.0.0.1:8288

cargo xtask bench tensor [--python PATH] [--threads N] [--processor-time] [--rounds N] [CASE…]

Tensor operations beside PyTorch in the same run, taking turns; PATH (or VIVARIUM_PEER_PYTHON) is a Python that has it.
A CASE is the beginning of a name, such as `conv`.

cargo xtask bench libraries [--python PATH] [--rounds N] [CASE…]

Tensor operations beside gemm, faer, matrixmultiply, candle, burn, fast_image_resize, pic-scale, rustfft and phastft; with a
Python that has PyTorch and numpy also beside oneDNN, MKL, OpenBLAS and pocketfft. Two threads each, taking turns, and only
after all results were found to be the same. docs/performance.md says what was learned. tests/libraries is no part of the
workspace: its first build compiles 320 crates, in target/libraries. `VIVARIUM_MATRIX_UNIT=off` before the command measures
ours as it is on processors without AMX.
";

/// By which libraries are told to use two threads; the bench itself sees to the rest.
const TWO_THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "MATMUL_NUM_THREADS"];

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    if let Some(("tensor", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        let mut command = cargo(&["run", "--release", "--package", "vivarium-tensor", "--example", "compare", "--"]);
        return run(command.args(rest));
    }
    if let Some(("libraries", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        let manifest = root().join("tests/libraries/Cargo.toml");
        let mut command = cargo(&["run", "--release", "--manifest-path"]);
        command.arg(manifest).arg("--").args(rest).envs(TWO_THREADS.map(|name| (name, "2")));
        return run(command.env("CARGO_TARGET_DIR", target_dir().join("libraries")));
    }
    check(arguments)?;
    setup::for_build()?;
    run(&mut cargo(&["build", "--release", "--package", "vivarium-cli", "--package", "vivarium-bench"]))?;
    nodes::build()?;
    let bench = target_dir().join(Profile::Release.folder()).join("vivarium-bench");
    run(guests::with_tools(Command::new(bench))?.args(arguments))
}

fn check(arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let name = argument.split_once('=').map_or(argument.as_str(), |(name, _)| name);
        match FLAGS.iter().find(|(flag, _)| *flag == name) {
            Some((_, true)) if name == argument && arguments.next().is_none() => bail!("{name} needs a value"),
            Some(_) => {}
            None => bail!("`bench` has no flag `{argument}`; `cargo xtask bench --help` lists them"),
        }
    }
    Ok(())
}
