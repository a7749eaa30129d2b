//! Whether memory stays where it is over many calls of all kinds, those that fail among them.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;
use vivarium_sandbox::{EngineConfig, Limits, NodeValue, Outcome, SandboxEngine};

use super::{GROUP, calls, calls::Caller};
use crate::{
    figure::{Better, Figure, Target},
    options::Options,
};

/// Growth of this process's resident memory over the calls, after as many as warm it up.
///
/// # Errors
/// When a pack is missing, or a call that should succeed fails.
pub(super) fn measure(options: &Options) -> Result<Vec<Figure>> {
    eprintln!("  measuring: memory over many calls");
    let engine = SandboxEngine::new(EngineConfig::default())?;
    let image = engine.load(&options.stock_pack("image")?)?;
    let testing = engine.load(&options.test_pack("testing")?)?;
    let hostile = engine.load(&options.test_pack("hostile")?)?;
    let caller = Caller::new();
    let picture = NodeValue::Tensor(caller.zeros(&[1, 64, 64, 3])?);
    let tight = || caller.within(Limits { guest_memory: 16 << 20, ..Limits::default() });
    let plain = |value: serde_json::Value| NodeValue::from_json(&value);
    let mut round = |number: u64| -> Result<()> {
        match number % 8 {
            0 | 1 => {
                let inputs = calls::inputs([("image", picture.clone())]);
                image.execute(caller.context(), "ImageInvert", &inputs)?;
            }
            2 => {
                let inputs = plain(json!({"width": 128, "height": 128, "batch_size": 2, "color": number % 256}));
                image.execute(caller.context(), "EmptyImage", &inputs)?;
            }
            3 => {
                let inputs = plain(json!({"start": number, "image": null}));
                let made = testing.execute(caller.context(), "TestObjectMake", &inputs)?;
                let Outcome::Outputs { slots, .. } = made else { anyhow::bail!("TestObjectMake answered {made:?}") };
                let object = slots.into_iter().next().context("an object")?;
                let number = |value: u64| NodeValue::Number(value.into());
                let method = NodeValue::String("add".into());
                let inputs = calls::inputs([("object", object), ("method", method), ("value", number(1))]);
                testing.execute(caller.context(), "TestObjectCall", &inputs)?;
            }
            4 => drop(testing.execute(caller.context(), "TestList", &plain(json!({"count": 1000})))?),
            5 => {
                let inputs = calls::inputs([
                    ("image", picture.clone()),
                    ("bytes", NodeValue::Number(16_384.into())),
                    ("pieces", NodeValue::Number(20.into())),
                ]);
                testing.execute(caller.context(), "TestReadBytes", &inputs)?;
            }
            // These have to fail: a trap, and a guest that grows until it may not.
            6 => drop(hostile.execute(caller.context(), "HostilePanic", &plain(json!({}))).err().context("a panic")?),
            _ => drop(
                testing
                    .execute(tight(), "TestWriteBytes", &plain(json!({"bytes": 33_554_432, "pieces": 1})))
                    .err()
                    .context("a refusal")?,
            ),
        }
        Ok(())
    };
    let calls = options.times(10_000, 800) as u64;
    (0..calls / 4).try_for_each(&mut round)?;
    let before = resident_mb()?;
    (0..calls).try_for_each(&mut round)?;
    let (after, target) = (resident_mb()?, Target::AtMost(4.0));
    let figure =
        |name: String, value: f64| Figure::new(GROUP, name, "MB", Better::Lower).ours([value].into_iter().collect());
    Ok(vec![
        figure(format!("resident memory before {calls} mixed calls"), before),
        figure(format!("growth over {calls} mixed calls"), (after - before).max(0.0)).target(target),
    ])
}

fn resident_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("/proc is needed to measure memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().next().context("VmRSS")?.parse::<f64>()? * 1024.0 / 1e6)
}
