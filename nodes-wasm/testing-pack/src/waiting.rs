//! Nodes that wait and tell how far they are.

use std::time::{Duration, Instant};

use vivarium_node::context::check_interrupted;
use vivarium_node::prelude::*;
use vivarium_node::progress;

/// How often a waiting node tells how far it is.
const STEP: Duration = Duration::from_millis(10);

fn duration(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| Error::invalid(format!("{seconds} seconds: {error}")))
}

/// Waits, unless the prompt is interrupted.
pub(crate) fn wait(seconds: f64) -> Result<()> {
    std::thread::sleep(duration(seconds)?);
    check_interrupted()
}

/// Waits and reports every step: the part of `max` that has passed.
fn wait_and_tell(seconds: f64, max: f64) -> Result<()> {
    let (whole, start) = (duration(seconds)?, Instant::now());
    loop {
        let passed = start.elapsed().min(whole);
        let part = if whole.is_zero() { 1.0 } else { passed.as_secs_f64() / whole.as_secs_f64() };
        progress::update(part * max, max)?;
        if passed == whole {
            return Ok(());
        }
        std::thread::sleep(STEP.min(whole - passed));
    }
}

/// Passes a value on after a while.
#[derive(Node)]
#[node(category = "_for_testing", asynchronous)]
pub(crate) struct TestSleep {
    value: Value,
    #[input(default = 1.0, min = 0.0, max = 9999.0, step = 0.01)]
    seconds: f64,
    #[input(hidden = "UNIQUE_ID", name = "unique_id")]
    _unique_id: String,
}

impl Run for TestSleep {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait_and_tell(self.seconds, self.seconds)?;
        Ok(self.value)
    }
}

/// Passes a value on after a while, beside other nodes.
#[derive(Node)]
#[node(category = "_for_testing/async", asynchronous)]
pub(crate) struct TestAsyncProgressUpdate {
    value: Value,
    #[input(default = 1.0, min = 0.0, max = 9999.0, step = 0.01)]
    sleep_seconds: f64,
}

impl Run for TestAsyncProgressUpdate {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait_and_tell(self.sleep_seconds, 1.0)?;
        Ok(self.value)
    }
}

/// Passes a value on after a while, and holds up other nodes.
#[derive(Node)]
#[node(category = "_for_testing/async")]
pub(crate) struct TestSyncProgressUpdate {
    value: Value,
    #[input(default = 1.0, min = 0.0, max = 9999.0, step = 0.01)]
    sleep_seconds: f64,
}

impl Run for TestSyncProgressUpdate {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait_and_tell(self.sleep_seconds, 1.0)?;
        Ok(self.value)
    }
}
