//! A loop over floats in a guest, natively, and in numpy where a Python with it is given.

use std::{hint::black_box, process::Command, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use vivarium_sandbox::{NodeValue, PackComponent};

use super::{GROUP, calls, calls::Caller, slope};
use crate::{
    figure::{Better, Figure, Samples},
    options::Options,
};

#[path = "../../../../nodes-wasm/testing/src/kernel.rs"]
mod smoothstep;

/// As many floats as fit into a second-level cache, so that arithmetic counts and not memory.
const LENGTH: u64 = 65_536;

/// Elements per second of each side, in thousand millions.
///
/// # Errors
/// When a call or Python fails.
pub(super) fn measure(options: &Options, pack: &Arc<PackComponent>) -> Result<Vec<Figure>> {
    let rounds = options.times(4000, 400) as u64;
    let elements = (rounds * LENGTH) as f64 / 1e9;
    let figure = |name: &str, rate: Samples| Figure::new(GROUP, name, "G/s", Better::Higher).ours(rate);
    let rate = |seconds: Samples| seconds.map(|seconds| elements / seconds);

    let caller = Caller::new();
    let inputs = |rounds: u64| {
        let number = |value: u64| NodeValue::Number(value.into());
        calls::inputs([("length", number(LENGTH)), ("rounds", number(rounds))])
    };
    let (one, all) = (inputs(1), inputs(1 + rounds));
    let guest = slope(options.times(7, 2), |many| {
        black_box(pack.execute(caller.context(), "TestKernel", if many { &all } else { &one })?);
        Ok(())
    })?;

    let mut values: Vec<f32> = (0..LENGTH).map(|place| place as f32 / LENGTH as f32).collect();
    let native: Samples = (0..options.times(7, 2))
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..rounds {
                smoothstep::smoothstep(black_box(&mut values));
            }
            begin.elapsed().as_secs_f64()
        })
        .collect();
    let mut figures = vec![
        figure("loop over floats in a guest (SIMD)", rate(guest)),
        figure("the same loop natively (SSE2, as rustc builds it)", rate(native)),
    ];
    if let Some(python) = options.numpy.as_deref() {
        let output = Command::new(python).args(["-c", NUMPY, &LENGTH.to_string(), &rounds.to_string()]).output();
        let output = output.with_context(|| format!("could not start {}", python.display()))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seconds: Samples = String::from_utf8(output.stdout)?
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, std::num::ParseFloatError>>()?;
        figures.push(figure("the same in numpy, without new arrays", rate(seconds)));
    }
    Ok(figures)
}

/// Prints the seconds of seven times so many rounds.
const NUMPY: &str = "
import sys, time, numpy
length, rounds = map(int, sys.argv[1:])
x = numpy.arange(length, dtype=numpy.float32) / length
a, b = numpy.empty_like(x), numpy.empty_like(x)
for _ in range(7):
    begin = time.perf_counter()
    for _ in range(rounds):
        numpy.multiply(x, x, out=a)
        numpy.multiply(x, -2, out=b)
        numpy.add(b, 3, out=b)
        numpy.multiply(a, b, out=x)
    print(time.perf_counter() - begin)
";
