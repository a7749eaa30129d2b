//! Tensor operations beside those of other libraries in the same run: `cargo xtask bench libraries [--python PATH]
//! [--rounds N] [CASE…]`. What was learned by it stands in `docs/performance.md`.
//!
//! All sides of a case have the same input. Their results are compared before anything is timed, and one that differs ends
//! the run: another answer is no rival. Then all take turns, each round some runs, and the least time counts. Rust libraries
//! that write into a buffer of the caller's have one that is used again and again, which spares them what allocating costs.
//!
//! Two threads each: xtask sets the variables by which libraries are told so. On a machine with more cores, `taskset -c 0,1`
//! before the command makes certain of it.
//!
//! # Layout
//! - [`case`]: the cases, their inputs, and when two results are the same
//! - [`side`]: something that can be timed and whose result can be read
//! - [`mod@ours`]: those of vivarium-tensor
//! - [`products`]: gemm, faer, matrixmultiply
//! - [`candle`], [`burn`]: the CPU kernels of these frameworks
//! - [`pictures`]: fast_image_resize, pic-scale
//! - [`transforms`]: rustfft as it is, phastft
//! - [`python`]: oneDNN, MKL, OpenBLAS and pocketfft, as PyTorch and numpy bring them along

mod burn;
mod candle;
mod case;
mod ours;
mod pictures;
mod products;
mod python;
mod side;
mod transforms;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vivarium_tensor::{Budget, OpContext};

use case::{CASES, Case};
use python::Python;
use side::Side;

/// That of the server, for all Rust libraries.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads of every side.
const THREADS: usize = 2;

/// Idle threads of OpenMP and of rayon wait for more work for a while, on the cores of whoever is next.
const PAUSE: Duration = Duration::from_millis(60);

fn main() -> Result<()> {
    let options = Options::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global()?;
    let mut python = options.python.as_deref().map(Python::start).transpose()?;
    match &python {
        Some(python) => println!("{}", python.versions()),
        None => println!("Without --python: no oneDNN, MKL, OpenBLAS, pocketfft"),
    }
    println!("{}\n", vivarium_tensor::instructions());
    let cx = OpContext::new(Budget::root(16 << 30));
    println!("| {:25} | {:28} | {:>8} | {:>10} | {:>6} |", "case", "library", "ours ms", "library ms", "ratio");
    println!("|{:-<27}|{:-<30}|{:->10}|{:->12}|{:->8}|", "", "", "", "", "");
    for name in CASES.iter().filter(|name| options.asks_for(name)) {
        let case = Case::new(name, &cx)?;
        run(&case, python.as_mut(), options.rounds, &cx).with_context(|| format!("case {name}"))?;
    }
    Ok(())
}

/// Compares all sides of a case, times them and prints a line for each library.
fn run(case: &Case, python: Option<&mut Python>, rounds: usize, cx: &OpContext) -> Result<()> {
    let mut ours = ours::side(case, cx)?;
    let mut others = products::sides(case);
    others.extend(candle::sides(case)?);
    others.extend(burn::sides(case));
    others.extend(pictures::sides(case)?);
    others.extend(transforms::sides(case));
    if let Some(python) = python {
        others.extend(python.sides(case)?);
    }
    ensure!(!others.is_empty(), "no library has this case");
    let expected = ours.result()?;
    for other in &mut others {
        let found = other.result().with_context(|| other.name.to_owned())?;
        case.compare(&expected, &found).with_context(|| other.name.to_owned())?;
    }
    for _ in 0..rounds {
        ours.take_turn()?;
        for other in &mut others {
            other.take_turn()?;
        }
    }
    for Side { name, least, .. } in &others {
        let (own, ratio) = (ours.least, ours.least / least);
        println!("| {:25} | {name:28} | {own:8.3} | {least:10.3} | {ratio:6.2} |", case.name);
    }
    Ok(())
}

struct Options {
    python: Option<String>,
    rounds: usize,
    filters: Vec<String>,
}

impl Options {
    fn parse() -> Result<Options> {
        let mut options =
            Options { python: std::env::var("VIVARIUM_PEER_PYTHON").ok(), rounds: 5, filters: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--python" => options.python = Some(value()?),
                "--rounds" => options.rounds = value()?.parse::<usize>().context("--rounds")?.max(1),
                flag if flag.starts_with('-') => anyhow::bail!("there is no flag `{flag}`"),
                filter => {
                    ensure!(CASES.iter().any(|name| name.starts_with(filter)), "no case begins with `{filter}`");
                    options.filters.push(argument);
                }
            }
        }
        Ok(options)
    }

    fn asks_for(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.starts_with(filter.as_str()))
    }
}
