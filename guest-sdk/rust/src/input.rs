//! From what the host sends to a node's fields.

mod types;

use indexmap::IndexMap;
use vivarium_protocol::definition::InputDefinition;

use crate::error::{Error, Result};
use crate::output::Output;
use crate::value::{Json, Value};

/// A type that travels along links: `i64` is INT, [`Image`](crate::Image) is IMAGE, [`Value`] is `*`.
///
/// `#[derive(ValueType)]` makes one of a struct of your own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no type that ComfyUI knows",
    label = "expected a number, `bool`, `String`, `Image`, `Mask`, `Latent`, `Conditioning`, `Audio`, `Value`, an enum with `#[derive(Choice)]`, or a type with `impl ValueType`",
    note = "an optional input is `Option<T>`, a list is `Vec<T>`, a lazy input is `Lazy<T>`"
)]
pub trait ValueType: Sized {
    /// ComfyUI's name of the type.
    const TYPE: &'static str;

    /// What `#[input(default = …)]` takes; [`NoDefault`] where a default makes no sense.
    type Default: Into<Json>;

    /// Adds what belongs to every input of this type, such as its choices.
    fn describe(_input: &mut InputDefinition) {}

    /// Reads a value.
    ///
    /// # Errors
    /// When it is something else; the name of the input is added by the caller.
    fn from_value(value: Value) -> Result<Self>;

    /// Makes a value.
    ///
    /// # Errors
    /// When there is none, for example for a failed tensor.
    fn into_value(self) -> Result<Value>;
}

/// A number type, for which `min`, `max` and `step` mean something.
#[diagnostic::on_unimplemented(
    message = "`min`, `max` and `step` are for numbers, and `{Self}` is none",
    label = "not a number"
)]
pub trait Number: ValueType {
    /// The type of the bounds.
    type Bound: Into<Json>;
}

/// The default of a type that cannot have one.
pub enum NoDefault {}

impl From<NoDefault> for Json {
    fn from(never: NoDefault) -> Self {
        match never {}
    }
}

/// What a field of a node may be: a [`ValueType`], or `Option`, `Vec` or [`Lazy`] of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an input of a node",
    label = "expected a number, `bool`, `String`, `Image`, `Mask`, `Latent`, `Conditioning`, `Audio`, `Value`, an enum with `#[derive(Choice)]`, or `Option`, `Vec` or `Lazy` of one"
)]
pub trait Input: Sized {
    /// The type of one value.
    type Inner: ValueType;
    /// The prompt may leave it out.
    const OPTIONAL: bool = false;
    /// Takes the whole list at once.
    const LIST: bool = false;
    /// Is computed only when the node asks for it.
    const LAZY: bool = false;

    /// Reads the value; `None` when there is none.
    ///
    /// # Errors
    /// When it is missing or of another type.
    fn from_input(value: Option<Value>) -> Result<Self>;
}

impl<T: ValueType> Input for T {
    type Inner = T;

    fn from_input(value: Option<Value>) -> Result<Self> {
        T::from_value(value.ok_or_else(|| Error::invalid("is missing"))?)
    }
}

impl<T: Input> Input for Option<T> {
    type Inner = T::Inner;
    const OPTIONAL: bool = true;
    const LIST: bool = T::LIST;
    const LAZY: bool = T::LAZY;

    fn from_input(value: Option<Value>) -> Result<Self> {
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::from_input(Some(value)).map(Some),
        }
    }
}

impl<T: Input> Input for Vec<T> {
    type Inner = T::Inner;
    const LIST: bool = true;

    fn from_input(value: Option<Value>) -> Result<Self> {
        let items = match value.ok_or_else(|| Error::invalid("is missing"))? {
            Value::List(items) => items,
            single => vec![single],
        };
        let item = |(index, item)| {
            T::from_input(Some(item)).map_err(|error| error.context(format_args!("number {index} of the list")))
        };
        items.into_iter().enumerate().map(item).collect()
    }
}

/// An input that is computed only when the node's [`NeededInputs`](crate::NeededInputs) asks for it.
#[derive(Clone, Debug)]
pub struct Lazy<T>(Option<T>);

impl<T> Lazy<T> {
    /// Whether the value is here.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.0.is_some()
    }

    /// The value, if it is here.
    #[must_use]
    pub fn as_ref(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The value.
    ///
    /// # Errors
    /// When it was not asked for.
    pub fn get(self) -> Result<T> {
        self.0.ok_or_else(|| Error::failed("a lazy input is used that `needed_inputs` did not ask for"))
    }
}

impl<T: ValueType> Input for Lazy<T> {
    type Inner = T;
    const LAZY: bool = true;

    fn from_input(value: Option<Value>) -> Result<Self> {
        Option::<T>::from_input(value).map(Self)
    }
}

/// An enum whose variants are the choices of a COMBO. Made by `#[derive(Choice)]`.
pub trait Choice: ValueType {
    /// The choices, in the order of the menu.
    const CHOICES: &'static [&'static str];
}

/// What `#[input(rest)]` gives a field: all undeclared inputs, in the order of the prompt.
pub type Rest = IndexMap<String, Value>;

/// The inputs of one call by name.
pub struct Inputs(IndexMap<String, Value>);

impl Inputs {
    /// From the value that the host sends.
    ///
    /// # Errors
    /// When it is no dictionary.
    pub fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Dict(entries) => Ok(Self(entries)),
            other => Err(Error::failed(format!("expected a dictionary of inputs, got {}", other.kind()))),
        }
    }

    /// Takes out one input.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn take<T: Input>(&mut self, name: &str) -> Result<T> {
        T::from_input(self.0.shift_remove(name)).map_err(|error| named(name, error))
    }

    /// Takes out one input, or takes the default when there is none.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn take_or<T: Input>(&mut self, name: &str, default: impl Into<Json>) -> Result<T> {
        let value = match self.0.shift_remove(name) {
            None | Some(Value::Null) => Value::from(default.into()),
            Some(value) => value,
        };
        T::from_input(Some(value)).map_err(|error| named(name, error))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name)
    }

    /// All inputs that nobody took.
    #[must_use]
    pub fn take_rest(&mut self) -> Rest {
        std::mem::take(&mut self.0)
    }
}

fn named(name: &str, error: Error) -> Error {
    error.context(format_args!("input `{name}`"))
}

/// What hooks get that run before the graph: the inputs that are constants. Linked inputs are absent.
pub struct Constants {
    names: Vec<String>,
    values: IndexMap<String, Value>,
    types: serde_json::Map<String, Json>,
}

impl Constants {
    pub(crate) fn new(names: Vec<String>, inputs: Inputs, types: serde_json::Map<String, Json>) -> Self {
        Self { names, values: inputs.0, types }
    }

    /// The value of an input; `None` when it is linked or left out.
    ///
    /// # Errors
    /// When the node has no such input, or the value is of another type.
    pub fn get<T: ValueType>(&self, name: &str) -> Result<Option<T>> {
        if !self.values.contains_key(name) && !self.names.iter().any(|declared| declared == name) {
            return Err(Error::failed(format!("this node has no input `{name}`; it has {}", self.names.join(", "))));
        }
        Option::<T>::from_input(self.values.get(name).cloned()).map_err(|error| named(name, error))
    }

    /// The type that a linked input receives; known in `validate` only.
    #[must_use]
    pub fn linked_type(&self, name: &str) -> Option<&str> {
        self.types.get(name).and_then(Json::as_str)
    }

    /// Every linked input with the type that it receives; known in `validate` only.
    pub fn linked_types(&self) -> impl Iterator<Item = (&str, &str)> {
        self.types.iter().filter_map(|(name, received)| Some((name.as_str(), received.as_str()?)))
    }

    /// Every constant with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// For types that are both: makes the same value of it that an output would.
pub(crate) fn optional_value<T: Output>(value: Option<T>) -> Result<Value> {
    value.map_or(Ok(Value::Null), T::into_slot)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn inputs(json: Json) -> Inputs {
        Inputs::from_value(Value::from(json)).unwrap()
    }

    #[test]
    fn fields_are_read_with_their_name_in_every_error() {
        let mut given = inputs(json!({"width": 5, "flag": true, "text": "x", "f": 2, "list": [1, 2], "none": null}));
        assert_eq!(given.take::<u32>("width").unwrap(), 5);
        assert!(given.take::<bool>("flag").unwrap());
        assert_eq!(given.take::<f64>("f").unwrap(), 2.0);
        assert_eq!(given.take::<Vec<i64>>("list").unwrap(), [1, 2]);
        assert_eq!(given.take::<Option<i64>>("none").unwrap(), None);
        assert_eq!(given.take::<Option<String>>("text").unwrap().unwrap(), "x");
        assert_eq!(given.take::<i64>("gone").unwrap_err().message, "input `gone`: is missing");
    }

    #[test]
    fn wrong_values_say_what_was_expected() {
        let mut given = inputs(json!({"a": "x", "b": -1, "c": 1.5, "d": [1, "x"]}));
        assert_eq!(given.take::<i64>("a").unwrap_err().message, "input `a`: expected a whole number, got a text");
        assert_eq!(given.take::<u32>("b").unwrap_err().message, "input `b`: -1 is outside 0 to 4294967295");
        assert_eq!(given.take::<i64>("c").unwrap_err().message, "input `c`: expected a whole number, got 1.5");
        let error = given.take::<Vec<i64>>("d").unwrap_err().message;
        assert_eq!(error, "input `d`: number 1 of the list: expected a whole number, got a text");
    }

    #[test]
    fn a_default_stands_in_for_an_input_that_is_left_out() {
        assert_eq!(inputs(json!({})).take_or::<String>("prefix", "ComfyUI").unwrap(), "ComfyUI");
        assert_eq!(inputs(json!({"prefix": "a"})).take_or::<String>("prefix", "ComfyUI").unwrap(), "a");
    }

    #[test]
    fn asking_a_hook_for_an_unknown_input_is_an_error_and_not_silence() {
        let constants = Constants::new(vec!["image".into()], inputs(json!({})), serde_json::Map::new());
        assert_eq!(constants.get::<String>("image").unwrap(), None);
        let error = constants.get::<String>("imgae").unwrap_err().message;
        assert_eq!(error, "this node has no input `imgae`; it has image");
    }

    #[test]
    fn a_lazy_input_that_was_not_asked_for_does_not_pretend() {
        let lazy: Lazy<i64> = inputs(json!({"a": null})).take("a").unwrap();
        assert!(!lazy.is_available());
        assert!(lazy.get().unwrap_err().message.contains("needed_inputs"));
    }
}
