//! Nodes that wait in every hook that a class has, and fail in many ways.

use vivarium_node::prelude::*;
use vivarium_node::progress;

use crate::waiting::wait;

const VALIDATION_SECONDS: f64 = 0.05;

fn grey(value: f64) -> Image {
    Tensor::full([1, 512, 512, 3], value, Dtype::Float32).into()
}

/// Refuses, after a while, a constant `name` above the constant `limit`.
fn refuse_above(inputs: &Constants, name: &str, limit: &str) -> Result<Vec<Finding>> {
    wait(VALIDATION_SECONDS)?;
    Ok(match (inputs.get::<f64>(name)?, inputs.get::<f64>(limit)?) {
        (Some(value), Some(most)) if value > most => {
            vec![Finding::on(name, format!("Value {value:?} exceeds {limit} {most:?}"))]
        }
        _ => Vec::new(),
    })
}

/// A grey image; its value is checked by a validator that waits.
#[derive(Node)]
#[node(category = "_for_testing/async", validate(value, threshold))]
pub(crate) struct TestAsyncValidation {
    #[input(default = 5.0)]
    value: f64,
    #[input(default = 10.0)]
    threshold: f64,
}

impl Run for TestAsyncValidation {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let _ = self.threshold;
        Ok(grey(self.value / 10.0))
    }
}

impl Validate for TestAsyncValidation {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        refuse_above(inputs, "value", "threshold")
    }
}

/// A grey image; the other way of the same check.
#[derive(Node)]
#[node(category = "_for_testing/async", validate(value, max_value))]
pub(crate) struct TestAsyncValidationError {
    #[input(default = 5.0)]
    value: f64,
    #[input(default = 10.0)]
    max_value: f64,
}

impl Run for TestAsyncValidationError {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok(grey(self.value / self.max_value))
    }
}

impl Validate for TestAsyncValidationError {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        refuse_above(inputs, "value", "max_value")
    }
}

/// Fails after a while.
#[derive(Node)]
#[node(category = "_for_testing/async", asynchronous)]
pub(crate) struct TestAsyncError {
    #[input(name = "value")]
    _value: Value,
    #[input(default = 0.1, min = 0.0, max = 10.0)]
    error_after: f64,
}

impl Run for TestAsyncError {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait(self.error_after)?;
        Err(Error::failed("Intentional async execution error for testing"))
    }
}

/// Passes a value on after an operation, unless that takes too long.
#[derive(Node)]
#[node(category = "_for_testing/async", asynchronous)]
pub(crate) struct TestAsyncTimeout {
    value: Value,
    #[input(default = 1.0, min = 0.1, max = 10.0)]
    timeout: f64,
    #[input(default = 2.0, min = 0.1, max = 10.0)]
    operation_time: f64,
}

impl Run for TestAsyncTimeout {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait(self.operation_time.min(self.timeout))?;
        if self.operation_time > self.timeout {
            return Err(Error::failed(format!("Operation timed out after {:?} seconds", self.timeout)));
        }
        Ok(self.value)
    }
}

/// Fails at once.
#[derive(Node)]
#[node(category = "_for_testing/async")]
pub(crate) struct TestSyncError {
    #[input(name = "value")]
    _value: Value,
}

impl Run for TestSyncError {
    type Output = Value;

    fn run(self) -> Result<Value> {
        Err(Error::failed("Intentional sync execution error for testing"))
    }
}

/// A white image; asks for one of its inputs after a while.
#[derive(Node)]
#[node(category = "_for_testing/async", needed_inputs)]
pub(crate) struct TestAsyncLazyCheck {
    input1: Lazy<Value>,
    input2: Lazy<Value>,
    #[input(default = true)]
    condition: bool,
}

impl NeededInputs for TestAsyncLazyCheck {
    fn needed_inputs(&self) -> Result<Vec<&'static str>> {
        wait(VALIDATION_SECONDS)?;
        Ok(match self.condition {
            true if !self.input1.is_available() => vec!["input1"],
            false if !self.input2.is_available() => vec!["input2"],
            _ => Vec::new(),
        })
    }
}

impl Run for TestAsyncLazyCheck {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok(grey(1.0))
    }
}

/// Passes a value on after a while. In ComfyUI, a second node that uses the same resource meanwhile fails; here no node can
/// know of another.
#[derive(Node)]
#[node(category = "_for_testing/async", asynchronous)]
pub(crate) struct TestAsyncResourceUser {
    value: Value,
    #[input(default = "resource_0", name = "resource_id")]
    _resource_id: String,
    #[input(default = 0.1, min = 0.0, max = 1.0)]
    duration: f64,
}

impl Run for TestAsyncResourceUser {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait(self.duration)?;
        Ok(self.value)
    }
}

/// Inverts images one by one, each after a while.
#[derive(Node)]
#[node(category = "_for_testing/async", asynchronous)]
pub(crate) struct TestAsyncBatchProcessing {
    images: Image,
    #[input(default = 0.1, min = 0.01, max = 1.0)]
    process_time_per_item: f64,
    #[input(hidden = "UNIQUE_ID", name = "unique_id")]
    _unique_id: String,
}

impl Run for TestAsyncBatchProcessing {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let count = self.images.size()?.batch;
        let mut inverted = Vec::new();
        for index in 0..count {
            wait(self.process_time_per_item)?;
            inverted.push(1.0 - self.images.at(index).tensor());
            progress::update((index + 1) as f64, count as f64)?;
        }
        Ok(Tensor::cat(&inverted, 0).into())
    }
}

/// Passes a value on after a while. In ComfyUI at most two such nodes wait at once; here only the server's own bound counts.
#[derive(Node)]
#[node(category = "_for_testing/async", asynchronous)]
pub(crate) struct TestAsyncConcurrentLimit {
    value: Value,
    #[input(default = 0.5, min = 0.1, max = 2.0)]
    duration: f64,
    #[input(default = 0, name = "node_id")]
    _node_id: i64,
}

impl Run for TestAsyncConcurrentLimit {
    type Output = Value;

    fn run(self) -> Result<Value> {
        wait(self.duration)?;
        Ok(self.value)
    }
}
