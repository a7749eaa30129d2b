//! `cargo xtask`: everything a person or CI does with this repository, by one name each.
//!
//! It drives `cargo`, `rustup`, `npm` and the built `vivarium`; it holds no logic of the product. It depends on nothing
//! but `anyhow`, so that it compiles in seconds on a fresh machine.
//!
//! # Layout
//! - [`setup`]: the toolchain parts that a fresh machine lacks
//! - [`nodes`]: the guest workspace, built and put where the host looks for packs
//! - [`web`]: the embedded page, rebuilt or checked to be up to date
//! - [`demo`]: the main job, end to end, as a user meets it
//! - [`attacks`]: hostile packs, one line each
//! - [`mod@bench`]: figures, beside those of a real ComfyUI
//! - [`cuda`]: the CUDA back end on a simulated driver, and what its kernels need
//! - [`deny`]: what dependencies may be
//! - [`guests`]: the tools for packs in Python and JavaScript
//! - [`fuzz`]: random input for what reads bytes from outside
//! - [`mod@test`]: every check of the repository, in named stages
//! - [`serving`]: a running `vivarium serve`
//! - [`stages`]: naming, timing and summing up steps
//! - [`shell`]: running programs and finding paths
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Result, bail};

mod assemble;
mod attacks;
mod bench;
mod cuda;
mod demo;
mod deny;
mod fuzz;
mod guests;
mod nodes;
mod processors;
mod serving;
mod setup;
mod shell;
mod stages;
mod test;
mod web;

const HELP: &str = "\
cargo xtask <command>

  setup                     add what the build needs: the wasm32-wasip2 target, rustfmt, clippy
  nodes                     build the node packs and put them beside the host binary
  web [--check]             rebuild web/dist with npm, or only check that it matches its sources
  demo [--once] [--port N]  build everything, serve, run the example workflow, print the image's path
  test [STAGE…]             every check and test, or only the named stages (`cargo xtask test --list`)
  attacks                   every attack of packs, one line each, and how somebody else fared meanwhile
  cuda <command>            the CUDA back end without a GPU (`cargo xtask cuda` lists what there is)
  bench [--quick] [FLAG…]   figures, beside those of a real ComfyUI where one is given (`cargo xtask bench --help`)
  bench tensor [FLAG…]      tensor operations, beside PyTorch where a Python with it is given
  fuzz [TARGET [SECONDS]]   random input for one target of tests/fuzz (`cargo xtask fuzz --help`)

`cargo xtask demo` keeps serving until Ctrl-C; with --once it stops after the image and exits non-zero on any failure.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match command.as_str() {
        "setup" => setup::command(rest),
        "nodes" => nodes::command(rest),
        "web" => web::command(rest),
        "demo" => demo::command(rest),
        "test" => test::command(rest),
        "attacks" => attacks::command(rest),
        "cuda" => cuda::command(rest),
        "bench" => bench::command(rest),
        "fuzz" => fuzz::command(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command `{other}`; `cargo xtask help` lists them"),
    }
}
