//! What it costs to load a pack, to call into it and back, and to move bytes: inside this process, without a server.

mod calls;
mod flat;
pub(crate) mod guests;
mod kernel;
mod nobody;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use vivarium_sandbox::{EngineConfig, NodeValue, Outcome, PackComponent, SandboxEngine};

use self::calls::Caller;
use crate::{
    figure::{Better, Figure, Samples, Target},
    options::Options,
};

const GROUP: &str = "Sandbox";
const MIB: u64 = 1 << 20;

/// Measures the sandbox.
///
/// # Errors
/// When a pack is missing, or a call fails.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let mut figures = loading(options)?;
    let engine = SandboxEngine::new(EngineConfig::default())?;
    eprintln!("  measuring: calls into the sandbox");
    let image = engine.load(&options.stock_pack("image")?)?;
    figures.extend(round_trips(options, &image)?);
    eprintln!("  measuring: calls out of the sandbox");
    let testing = engine.load(&options.test_pack("testing")?)?;
    figures.extend(host_calls(options, &testing)?);
    figures.extend(transfers(options, &testing)?);
    figures.extend(kernel::measure(options, &testing)?);
    figures.extend(flat::measure(options)?);
    Ok(figures)
}

fn loading(options: &Options) -> Result<Vec<Figure>> {
    eprintln!("  measuring: loading a pack");
    let component = options.stock_pack("image")?;
    let compiler = SandboxEngine::new(EngineConfig::default())?;
    let compile = repeat(options.times(5, 1), 1, || Ok(compiler.load(&component)?))?;

    let folder = tempfile::tempdir()?;
    let config = EngineConfig { aot_folder: Some(folder.path().join("aot")), ..EngineConfig::default() };
    let loader = SandboxEngine::new(config)?;
    loader.load(&component)?;
    let load = repeat(options.times(50, 5), 1, || Ok(loader.load(&component)?))?;
    let size = component.len() / 1000;
    Ok(vec![
        figure(format!("compile the pack image ({size} kB)"), "ms", 1e3, compile).target(Target::AtMost(100.0)),
        figure("load it compiled, from the cache", "ms", 1e3, load).target(Target::AtMost(0.6)),
    ])
}

fn round_trips(options: &Options, pack: &Arc<PackComponent>) -> Result<Vec<Figure>> {
    let caller = Caller::new();
    let (runs, batch) = (options.times(15, 3), 200);
    let image = caller.zeros(&[1, 8, 8, 3])?;
    let invert = calls::inputs([("image", NodeValue::Tensor(image))]);
    let empty = calls::inputs(
        [("width", 8.into()), ("height", 8.into()), ("batch_size", 1.into()), ("color", 255.into())]
            .map(|(name, number): (_, serde_json::Number)| (name, NodeValue::Number(number))),
    );
    let asked = repeat(runs, batch, || Ok(pack.needed_inputs(caller.context(), "EmptyImage", &empty)?))?;
    let inverted = repeat(runs, batch, || match pack.execute(caller.context(), "ImageInvert", &invert)? {
        Outcome::Outputs { slots, .. } if slots.len() == 1 => Ok(slots),
        other => bail!("ImageInvert answered {other:?}"),
    })?;
    Ok(vec![
        figure("new instance, a call that does nothing", "µs", 1e6, asked).target(Target::AtMost(21.0)),
        figure("new instance, ImageInvert 8×8", "µs", 1e6, inverted),
    ])
}

fn host_calls(options: &Options, pack: &Arc<PackComponent>) -> Result<Vec<Figure>> {
    let caller = Caller::new();
    let count = options.times(1_000_000, 100_000) as u64;
    let image = NodeValue::Tensor(caller.zeros(&[1, 8, 8, 3])?);
    let mut figures = Vec::new();
    for (name, image, target) in [
        ("call to the host: has anybody interrupted?", None, Some(Target::AtMost(0.13))),
        ("call to the host: a tensor's element type", Some(image), None),
    ] {
        let inputs = |count: u64| {
            let image = image.clone().unwrap_or(NodeValue::Null);
            calls::inputs([("count", NodeValue::Number(count.into())), ("image", image)])
        };
        let (none, all) = (inputs(0), inputs(count));
        let each = slope(options.times(7, 2), |many| {
            let inputs = if many { &all } else { &none };
            black_box(pack.execute(caller.context(), "TestHostCalls", inputs)?);
            Ok(())
        })?;
        let each = each.map(|seconds| seconds / count as f64);
        figures.push(Figure { target, ..figure(name, "µs", 1e6, each) });
    }
    Ok(figures)
}

fn transfers(options: &Options, pack: &Arc<PackComponent>) -> Result<Vec<Figure>> {
    let caller = Caller::new();
    let image = NodeValue::Tensor(caller.zeros(&[1, 2048, 2048, 1])?);
    let mut figures = Vec::new();
    for (class, way) in [("TestReadBytes", "host → guest"), ("TestWriteBytes", "guest → host")] {
        for piece in [MIB, 16 * MIB] {
            let total = options.times(1024, 128) as u64 * MIB;
            let inputs = |pieces: u64| {
                let number = |value: u64| NodeValue::Number(value.into());
                let mut inputs = vec![("bytes", number(piece)), ("pieces", number(pieces))];
                inputs.extend((class == "TestReadBytes").then(|| ("image", image.clone())));
                calls::inputs(inputs)
            };
            // One piece is in both, so that the guest's memory has grown before the clock starts to count.
            let (one, all) = (inputs(1), inputs(1 + total / piece));
            let seconds = slope(options.times(5, 1), |many| {
                black_box(pack.execute(caller.context(), class, if many { &all } else { &one })?);
                Ok(())
            })?;
            let rate = seconds.map(|seconds| total as f64 / seconds / 1e9);
            let name = format!("bytes {way}, in pieces of {} MiB", piece / MIB);
            figures.push(Figure::new(GROUP, name, "GB/s", Better::Higher).ours(rate));
        }
    }
    Ok(figures)
}

fn figure(name: impl Into<String>, unit: &'static str, per_second: f64, seconds: Samples) -> Figure {
    Figure::new(GROUP, name, unit, Better::Lower).ours(seconds.map(|seconds| seconds * per_second))
}

/// Seconds of one execution, as the mean of a batch; `runs` batches after one that does not count.
fn repeat<T>(runs: usize, batch: u32, mut work: impl FnMut() -> Result<T>) -> Result<Samples> {
    let mut seconds = Vec::new();
    for run in 0..=runs {
        let begin = Instant::now();
        for _ in 0..batch {
            black_box(work()?);
        }
        seconds.extend((run > 0).then(|| (begin.elapsed() / batch).as_secs_f64()));
    }
    Ok(seconds.into_iter().collect())
}

/// Seconds that much of something takes beyond little of it, several times.
fn slope(runs: usize, mut work: impl FnMut(bool) -> Result<()>) -> Result<Samples> {
    let mut timed = |many| -> Result<Duration> {
        let begin = Instant::now();
        work(many)?;
        Ok(begin.elapsed())
    };
    timed(false)?;
    (0..runs).map(|_| Ok(timed(true)?.saturating_sub(timed(false)?).as_secs_f64())).collect()
}
