//! Lazy inputs, lists, blockers, expansions, undeclared inputs.

use std::collections::BTreeMap;

use vivarium_node::prelude::*;
use vivarium_node::tensor::ReduceOp;
use vivarium_node::value::Handle;

/// Mixes two images and asks only for those that the mask lets through.
#[derive(Node)]
#[node(category = "testing", needed_inputs)]
pub(crate) struct TestLazyMix {
    image1: Lazy<Image>,
    image2: Lazy<Image>,
    /// 0 takes the first image, 1 the second.
    mask: Mask,
}

impl TestLazyMix {
    /// Whether the mask is 0 (or 1) everywhere.
    fn mask_is(&self, value: f64) -> Result<bool> {
        Ok(self.mask.equal(value).reduce(ReduceOp::All, [], false).item()? != 0.0)
    }
}

impl NeededInputs for TestLazyMix {
    fn needed_inputs(&self) -> Result<Vec<&'static str>> {
        let mut needed = Vec::new();
        if !self.image1.is_available() && !self.mask_is(1.0)? {
            needed.push("image1");
        }
        if !self.image2.is_available() && !self.mask_is(0.0)? {
            needed.push("image2");
        }
        Ok(needed)
    }
}

impl Run for TestLazyMix {
    type Output = Image;

    fn run(self) -> Result<Image> {
        if self.mask_is(0.0)? {
            return self.image1.get();
        }
        if self.mask_is(1.0)? {
            return self.image2.get();
        }
        Ok(self.image1.get()?.lerp(self.image2.get()?.tensor(), &self.mask.unsqueeze(-1)).into())
    }
}

/// Lets a value through, or stops everything behind it.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestBlocker {
    input: Value,
    block: bool,
    /// Sent to the client; without it, nodes are skipped silently.
    #[input(default = "")]
    message: String,
}

impl Run for TestBlocker {
    type Output = Blockable<Value>;

    fn run(self) -> Result<Blockable<Value>> {
        let message = Some(self.message).filter(|message| !message.is_empty());
        Ok(if self.block { Blockable::Blocked(message) } else { Blockable::Value(self.input) })
    }
}

/// Makes the list 0, 1, 2, …
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestList {
    #[input(default = 3, min = 0, max = 10_000)]
    count: i64,
}

impl Run for TestList {
    type Output = Vec<i64>;

    fn run(self) -> Result<Vec<i64>> {
        Ok((0..self.count).collect())
    }
}

/// Adds up a whole list in one call.
#[derive(Node)]
#[node(category = "testing", input_is_list, output_node)]
pub(crate) struct TestListSum {
    values: Vec<i64>,
}

impl Run for TestListSum {
    type Output = WithUi<i64>;

    fn run(self) -> Result<WithUi<i64>> {
        let sum: i64 = self.values.iter().sum();
        Ok(Ui::text(sum.to_string()).with(sum))
    }
}

/// Answers with two nodes that invert an image twice.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestExpand {
    image: Image,
}

impl Run for TestExpand {
    type Output = Expansion<Image>;

    fn run(self) -> Result<Expansion<Image>> {
        let mut expansion = Expansion::new();
        let first = expansion.node("first", "ImageInvert").input("image", self.image)?.output(0);
        let second = expansion.node("second", "ImageInvert").link("image", first).output(0);
        Ok(expansion.slot(second))
    }
}

/// Takes any number of numbers that it never declared.
#[derive(Node)]
#[node(category = "testing", output_node, output_names("sum"))]
pub(crate) struct TestVariadic {
    #[input(default = 0.0)]
    input1: f64,
    #[input(rest)]
    more: vivarium_node::Rest,
}

impl Run for TestVariadic {
    type Output = WithUi<f64>;

    fn run(self) -> Result<WithUi<f64>> {
        let more = self.more.into_iter().map(|(_, value)| f64::from_value(value)).sum::<Result<f64>>()?;
        let sum = self.input1 + more;
        Ok(Ui::text(sum.to_string()).with(sum))
    }
}

/// Shows any value as text, tensors by their shape.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestShow {
    value: Value,
}

impl Run for TestShow {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        Ok(Ui::text(show(self.value)?.to_string()))
    }
}

fn show(value: Value) -> Result<Json> {
    Ok(match value {
        Value::Handle(Handle::Tensor(tensor)) => format!("tensor {:?}", tensor.shape()?).into(),
        Value::Handle(Handle::Object(object)) => format!("object {} of {}", object.type_name(), object.owner()).into(),
        Value::List(items) => items.into_iter().map(show).collect::<Result<Vec<_>>>()?.into(),
        Value::Dict(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Ok((key, show(value)?)));
            serde_json::to_value(entries.collect::<Result<BTreeMap<_, _>>>()?)?
        }
        plain => plain.into_json()?,
    })
}
