//! Classes that check their inputs by themselves, each in another way. All of them multiply.

use vivarium_node::prelude::*;
use vivarium_node::value::Handle;

use crate::variants::check_own_types;

/// An image of one grey when both are numbers, else the product.
fn product(first: Value, second: Value) -> Result<Image> {
    let factor = |value: Value| match value {
        Value::Handle(Handle::Tensor(tensor)) => Ok(Ok(tensor)),
        other => f64::from_value(other).map(Err),
    };
    Ok(match (factor(first)?, factor(second)?) {
        (Err(first), Err(second)) => Tensor::full([1, 512, 512, 3], first * second, Dtype::Float32),
        (Ok(first), Ok(second)) => first * second,
        (Ok(tensor), Err(number)) | (Err(number), Ok(tensor)) => tensor * number,
    }
    .into())
}

/// Constants that are no decimal number and no tensor. `5` is none: JSON tells it from `5.0`.
fn undecimal(inputs: &Constants) -> Vec<Finding> {
    let is_fine = |value: &Value| match value {
        Value::Null | Value::Handle(_) => true,
        Value::Number(number) => number.is_f64(),
        _ => false,
    };
    let wrong = inputs.iter().filter(|(_, value)| !is_fine(value));
    wrong.map(|(name, value)| Finding::on(name, format!("Invalid type of {name}: {}", value.kind()))).collect()
}

/// Checks its constants.
#[derive(Node)]
#[node(category = "Testing/Nodes", validate(input1, input2))]
pub(crate) struct TestCustomValidation1 {
    #[input(type = "IMAGE,FLOAT")]
    input1: Value,
    #[input(type = "IMAGE,FLOAT")]
    input2: Value,
}

impl Run for TestCustomValidation1 {
    type Output = Image;

    fn run(self) -> Result<Image> {
        product(self.input1, self.input2)
    }
}

impl Validate for TestCustomValidation1 {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        Ok(undecimal(inputs))
    }
}

/// Checks its constants and the types of its links.
#[derive(Node)]
#[node(category = "Testing/Nodes", validate(input1, input2), validate_types)]
pub(crate) struct TestCustomValidation2 {
    #[input(type = "IMAGE,FLOAT")]
    input1: Value,
    #[input(type = "IMAGE,FLOAT")]
    input2: Value,
}

impl Run for TestCustomValidation2 {
    type Output = Image;

    fn run(self) -> Result<Image> {
        product(self.input1, self.input2)
    }
}

impl Validate for TestCustomValidation2 {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        let mut findings = undecimal(inputs);
        let wrong = inputs.linked_types().filter(|(_, received)| !matches!(*received, "IMAGE" | "FLOAT"));
        findings.extend(wrong.map(|(name, received)| Finding::on(name, format!("Invalid type of {name}: {received}"))));
        Ok(findings)
    }
}

/// Checks the types of its links.
#[derive(Node)]
#[node(category = "Testing/Nodes", validate_types)]
pub(crate) struct TestCustomValidation3 {
    #[input(type = "IMAGE,FLOAT")]
    input1: Value,
    #[input(type = "IMAGE,FLOAT")]
    input2: Value,
}

impl Run for TestCustomValidation3 {
    type Output = Image;

    fn run(self) -> Result<Image> {
        product(self.input1, self.input2)
    }
}

check_own_types!(TestCustomValidation3);

/// Checks its constants and leaves the links to the server.
#[derive(Node)]
#[node(category = "Testing/Nodes", validate(input1, input2))]
pub(crate) struct TestCustomValidation4 {
    input1: f64,
    input2: f64,
}

impl Run for TestCustomValidation4 {
    type Output = Image;

    fn run(self) -> Result<Image> {
        product(self.input1.into_value()?, self.input2.into_value()?)
    }
}

impl Validate for TestCustomValidation4 {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        Ok(undecimal(inputs))
    }
}

/// Checks every constant by itself, so that its own ranges count for nothing.
#[derive(Node)]
#[node(category = "Testing/Nodes", validate_all)]
pub(crate) struct TestCustomValidation5 {
    #[input(min = 0.0, max = 1.0)]
    input1: f64,
    #[input(min = 0.0, max = 1.0)]
    input2: f64,
}

impl Run for TestCustomValidation5 {
    type Output = Image;

    fn run(self) -> Result<Image> {
        product(self.input1.into_value()?, self.input2.into_value()?)
    }
}

impl Validate for TestCustomValidation5 {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        let refused = inputs.get::<f64>("input2")? == Some(7.0);
        Ok(if refused { vec![Finding::on("input2", "7 is refused")] } else { Vec::new() })
    }
}
