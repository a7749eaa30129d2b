//! What the derives call. No interface: it may change with every version.

use vivarium_protocol::definition::{InputDefinition, NodeDefinition, OutputDefinition, Section};

pub use serde_json;

use crate::error::{Error, Result};
use crate::input::{Input, Inputs, Number, ValueType};
use crate::output::Outputs;
use crate::value::{Json, Value};

/// The default that an input of type `T` takes.
pub type DefaultOf<T> = <<T as Input>::Inner as ValueType>::Default;
/// The bound that a number input of type `T` takes.
pub type BoundOf<T> = <<T as Input>::Inner as Number>::Bound;

/// A class without inputs and outputs.
#[must_use]
pub fn node(class: &str, display_name: &str, description: &str, category: &str) -> NodeDefinition {
    NodeDefinition {
        class_type: class.to_owned(),
        display_name: display_name.to_owned(),
        description: description.to_owned(),
        category: category.to_owned(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        output_node: false,
        input_is_list: false,
        not_idempotent: false,
        deprecated: false,
        experimental: false,
        accepts_undeclared: false,
        asynchronous: false,
        validator: None,
        has_fingerprint: false,
        has_needed_inputs: false,
    }
}

/// An input without options.
#[must_use]
pub fn input<T: Input>(name: &str) -> InputDefinition {
    let mut input = InputDefinition {
        name: name.to_owned(),
        section: if T::OPTIONAL { Section::Optional } else { Section::Required },
        input_type: T::Inner::TYPE.to_owned(),
        choices: Vec::new(),
        choices_from: None,
        options: serde_json::Map::new(),
    };
    T::Inner::describe(&mut input);
    input
}

/// Sets one of ComfyUI's options.
pub fn option(input: &mut InputDefinition, key: &str, value: impl Into<Json>) {
    input.options.insert(key.to_owned(), value.into());
}

/// The output slots, with the names, types and tooltips that the author gave, if any.
#[must_use]
pub fn outputs<T: Outputs>(names: &[&str], types: &[&str], tooltips: &[&str]) -> Vec<OutputDefinition> {
    let slot = |(index, slot): (usize, &crate::output::SlotDefinition)| {
        let output_type = types.get(index).copied().unwrap_or(slot.output_type);
        OutputDefinition {
            name: names.get(index).copied().unwrap_or(output_type).to_owned(),
            output_type: output_type.to_owned(),
            is_list: slot.is_list,
            tooltip: tooltips.get(index).map(|text| (*text).to_owned()),
        }
    };
    T::SLOTS.iter().enumerate().map(slot).collect()
}

/// The fields of a value of type `type_name`.
///
/// # Errors
/// When it is no dictionary.
pub fn fields(value: Value, type_name: &str) -> Result<Inputs> {
    match value {
        Value::Dict(_) => Inputs::from_value(value),
        other => Err(Error::invalid(format!("expected a value {type_name}, got {}", other.kind()))),
    }
}

/// One of them.
///
/// # Errors
/// When it is missing or of another type.
pub fn field<T: Input>(fields: &mut Inputs, name: &str, type_name: &str) -> Result<T> {
    T::from_input(fields.remove(name)).map_err(|error| error.context(format_args!("{name} of {type_name}")))
}

/// A value out of named fields.
pub fn dictionary<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Dict(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
