//! Nodes that answer with other nodes.

use std::marker::PhantomData;

use indexmap::IndexMap;

use super::{Answer, Output, Outputs, Ui};
use crate::bindings::exports::vivarium::node::nodes as wit;
use crate::error::{Error, Result};
use crate::value::{Json, Value};

/// New nodes that compute a node's outputs. `T` are the output slots of the node that answers with it.
///
/// ```no_run
/// use vivarium_node::{Expansion, Image, Result};
///
/// fn invert_twice(image: Image) -> Result<Expansion<Image>> {
///     let mut expansion = Expansion::new();
///     let first = expansion.node("first", "ImageInvert").input("image", image)?.output(0);
///     let second = expansion.node("second", "ImageInvert").link("image", first).output(0);
///     Ok(expansion.slot(second))
/// }
/// ```
pub struct Expansion<T: Outputs> {
    graph: IndexMap<String, Value>,
    slots: Vec<Value>,
    ui: Option<Ui>,
    outputs: PhantomData<fn() -> T>,
}

/// The output of a node: of a new one, or of one that the prompt has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOutput {
    node: String,
    slot: u32,
}

impl NodeOutput {
    /// An output of a node of the prompt, for links out of an expansion.
    #[must_use]
    pub fn of(node_id: &str, slot: u32) -> Self {
        Self { node: node_id.to_owned(), slot }
    }

    /// The id of the node.
    #[must_use]
    pub fn node_id(&self) -> &str {
        &self.node
    }

    /// Which of its outputs.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    pub(crate) fn into_link(self) -> Value {
        Value::List(vec![Value::String(self.node), Value::Number(self.slot.into())])
    }
}

/// A new node whose inputs are being set.
pub struct NewNode<'a> {
    id: String,
    node: &'a mut IndexMap<String, Value>,
}

impl<T: Outputs> Default for Expansion<T> {
    fn default() -> Self {
        Self { graph: IndexMap::new(), slots: Vec::new(), ui: None, outputs: PhantomData }
    }
}

impl<T: Outputs> Expansion<T> {
    /// Without nodes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node. The id must be unique in this expansion; a second node of the same id replaces the first.
    pub fn node(&mut self, id: &str, class: &str) -> NewNode<'_> {
        let node = IndexMap::from([
            ("class_type".to_owned(), Value::String(class.to_owned())),
            ("inputs".to_owned(), Value::Dict(IndexMap::new())),
        ]);
        let place = self.graph.entry(id.to_owned()).insert_entry(Value::Dict(node)).into_mut();
        let Value::Dict(node) = place else { unreachable!("a dictionary was just put there") };
        NewNode { id: id.to_owned(), node }
    }

    /// The next output slot takes the output of a new node.
    #[must_use]
    pub fn slot(mut self, output: NodeOutput) -> Self {
        self.slots.push(Value::Link(output.node, output.slot));
        self
    }

    /// The next output slot is a value that is known already.
    ///
    /// # Errors
    /// When there is no value, for example for a failed tensor.
    pub fn value(mut self, output: impl Output) -> Result<Self> {
        self.slots.push(output.into_slot()?);
        Ok(self)
    }

    /// Something to show beside the node.
    #[must_use]
    pub fn ui(mut self, ui: Ui) -> Self {
        self.ui = Some(ui);
        self
    }
}

impl NewNode<'_> {
    /// Sets an input to a value, which may hold tensors and objects.
    ///
    /// # Errors
    /// When there is no value, for example for a failed tensor.
    pub fn input(self, name: &str, value: impl Output) -> Result<Self> {
        let value = value.into_slot()?;
        Ok(self.set(name, value))
    }

    /// Sets an input to the output of another node.
    #[must_use]
    pub fn link(self, name: &str, output: NodeOutput) -> Self {
        self.set(name, output.into_link())
    }

    /// Events about this node name another node of the prompt.
    #[must_use]
    pub fn display_as(self, node_id: &str) -> Self {
        self.node.insert("override_display_id".to_owned(), Value::String(node_id.to_owned()));
        self
    }

    /// One of its outputs, for links and slots.
    #[must_use]
    pub fn output(&self, slot: u32) -> NodeOutput {
        NodeOutput { node: self.id.clone(), slot }
    }

    fn set(self, name: &str, value: Value) -> Self {
        if let Some(Value::Dict(inputs)) = self.node.get_mut("inputs") {
            inputs.insert(name.to_owned(), value);
        }
        self
    }
}

impl<T: Outputs> Expansion<T> {
    fn into_tree(self) -> Result<Value> {
        let (given, wanted) = (self.slots.len(), T::SLOTS.len());
        if given != wanted {
            return Err(Error::failed(format!("an expansion fills {given} output slots of a node that has {wanted}")));
        }
        let mut entries = IndexMap::from([
            ("graph".to_owned(), Value::Dict(self.graph)),
            ("slots".to_owned(), Value::List(self.slots)),
        ]);
        if let Some(ui) = self.ui {
            entries.insert("ui".to_owned(), Value::from(Json::Object(ui.0)));
        }
        Ok(Value::Dict(entries))
    }
}

impl<T: Outputs> Answer for Expansion<T> {
    type Slots = T;

    fn into_outcome(self) -> Result<wit::Outcome> {
        Ok(wit::Outcome::Expansion(self.into_tree()?.into_wit()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_expansion_is_written_as_the_host_reads_it() {
        let mut expansion: Expansion<(i64, i64)> = Expansion::new();
        let sum = expansion.node("sum", "Add").input("a", 1i64).unwrap().input("b", 2i64).unwrap().output(0);
        let twice = expansion.node("twice", "Add").link("a", sum.clone()).link("b", sum).display_as("7").output(0);
        let (json, _) = expansion.slot(twice).value(5i64).unwrap().into_tree().unwrap().encode();
        let expected = r#"{"graph":{"sum":{"class_type":"Add","inputs":{"a":1,"b":2}},"twice":{"class_type":"Add","inputs":{"a":["sum",0],"b":["sum",0]},"override_display_id":"7"}},"slots":[{"$link":["twice",0]},5]}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn a_forgotten_slot_is_an_error() {
        let error = Expansion::<(i64, i64)>::new().into_tree().unwrap_err();
        assert_eq!(error.message, "an expansion fills 0 output slots of a node that has 2");
    }
}
