//! Objects and their methods, weights.

use vivarium_node::prelude::*;
use vivarium_node::weights::Weights;

/// A number and perhaps an image, kept by the host between calls.
#[derive(ValueType)]
#[value_type("TEST_OBJECT")]
pub(crate) struct Counter {
    total: i64,
    image: Option<Image>,
}

impl Methods for Counter {
    fn call(self, method: &str, mut arguments: Arguments) -> Result<Value> {
        match method {
            "add" => (self.total + arguments.take::<i64>("value")?).into_value(),
            "more" => {
                let total = self.total + arguments.take::<i64>("value")?;
                Ok(Object::create(Self { total, image: self.image })?.into())
            }
            "image" => self.image.ok_or_else(|| Error::failed("the object holds no image"))?.into_value(),
            other => Err(Error::invalid(format!("TEST_OBJECT has no method `{other}`; it has add, more and image"))),
        }
    }
}

/// Makes an object that holds a number and perhaps an image.
#[derive(Node)]
#[node(category = "testing", output_types("TEST_OBJECT"))]
pub(crate) struct TestObjectMake {
    #[input(default = 0, min = -1_000_000, max = 1_000_000)]
    start: i64,
    image: Option<Image>,
}

impl Run for TestObjectMake {
    type Output = Object;

    fn run(self) -> Result<Object> {
        Object::create(Counter { total: self.start, image: self.image })
    }
}

/// Calls a method of an object, whoever made it.
#[derive(Node)]
#[node(category = "testing", output_names("result", "owner"))]
pub(crate) struct TestObjectCall {
    object: Object,
    #[input(default = "add")]
    method: String,
    #[input(default = 1, min = -1_000_000, max = 1_000_000)]
    value: i64,
}

impl Run for TestObjectCall {
    type Output = (Value, String);

    fn run(self) -> Result<(Value, String)> {
        let arguments = Value::Dict([("value".to_owned(), self.value.into_value()?)].into());
        Ok((self.object.call(&self.method, arguments)?, self.object.owner()))
    }
}

/// Reads one tensor of a safetensors file.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestWeights {
    #[input(default = "checkpoints")]
    folder: String,
    name: String,
    key: String,
}

impl Run for TestWeights {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let weights = Weights::open(&self.folder, &self.name)?;
        let keys: Vec<_> = weights.entries().into_iter().map(|entry| entry.key).collect();
        if !keys.contains(&self.key) {
            let keys = keys.join(", ");
            return Err(Error::invalid(format!("{} has no tensor `{}`; it has {keys}", self.name, self.key)));
        }
        Ok(weights.tensor(&self.key)?.into())
    }
}
