//! How this crate learns about node classes.

use std::sync::Arc;

use serde_json::Value;
use vivarium_protocol::definition::{DefinitionMap, InputDefinition, NodeDefinition};

/// The node classes of one moment; a prompt is checked and run against one unchanging set.
pub trait Definitions {
    /// The class of this name.
    fn get(&self, class: &str) -> Option<&NodeDefinition>;

    /// What a choice may be set to now, or `None` when the input is no choice (or nobody can tell).
    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>>;
}

/// Knows only the choices that stand in the definitions themselves.
impl Definitions for DefinitionMap {
    fn get(&self, class: &str) -> Option<&NodeDefinition> {
        DefinitionMap::get(self, class)
    }

    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>> {
        (input.input_type == "COMBO" && input.choices_from.is_none()).then(|| input.choices.clone())
    }
}

impl<T: Definitions + ?Sized> Definitions for &T {
    fn get(&self, class: &str) -> Option<&NodeDefinition> {
        (**self).get(class)
    }

    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>> {
        (**self).choices(input)
    }
}

impl<T: Definitions + ?Sized> Definitions for Arc<T> {
    fn get(&self, class: &str) -> Option<&NodeDefinition> {
        (**self).get(class)
    }

    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>> {
        (**self).choices(input)
    }
}
