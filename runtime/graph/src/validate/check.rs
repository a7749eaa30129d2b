//! The checks of one input.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::rc::Rc;

use serde_json::{Map, Value, json};
use vivarium_protocol::definition::{InputDefinition, NodeDefinition};
use vivarium_protocol::error::PromptError;
use vivarium_protocol::python_json;

use super::convert;
use super::graph::PostedGraph;
use crate::links::slot_index;

/// The longest list of choices that errors repeat.
const MAX_SHOWN_CHOICES: usize = 20;

/// What ComfyUI reports as an exception: it ends the checks of the whole node.
#[derive(Debug)]
pub(super) struct Exception {
    pub(super) exception_type: String,
    /// Python's words.
    pub(super) message: String,
    /// Ours, for people; stands where the traceback would.
    pub(super) explanation: String,
}

/// What a choice may be set to.
pub(super) struct Choices {
    values: Vec<Value>,
    texts: HashSet<String>,
}

impl Choices {
    pub(super) fn new(values: Vec<Value>) -> Self {
        let texts = values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect();
        Self { values, texts }
    }

    fn contains(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.texts.contains(text),
            // Lists of file names hold nothing but texts: do not search them.
            other => {
                self.texts.len() < self.values.len() && self.values.iter().any(|choice| convert::equal(choice, other))
            }
        }
    }

    fn shown(&self) -> String {
        if self.values.len() > MAX_SHOWN_CHOICES {
            format!("(list of length {})", self.values.len())
        } else {
            python_json::repr(&Value::Array(self.values.clone()))
        }
    }
}

/// A declared input, or a linked one that only a variadic class takes.
pub(super) struct InputCheck<'a> {
    pub(super) name: &'a str,
    pub(super) definition: Option<&'a InputDefinition>,
    pub(super) choices: Option<Rc<Choices>>,
}

/// A link that leads somewhere.
pub(super) struct Source<'a> {
    pub(super) node: usize,
    pub(super) received_type: &'a str,
}

impl<'a> InputCheck<'a> {
    fn options(&self) -> Option<&'a Map<String, Value>> {
        self.definition.map(|definition| &definition.options)
    }

    fn input_type(&self) -> &'a str {
        self.definition.map_or("*", |definition| &definition.input_type)
    }

    /// `[type, options]`; null when the list of choices would be too long to repeat.
    pub(super) fn config(&self) -> Value {
        let first = match &self.choices {
            Some(choices) if choices.values.len() > MAX_SHOWN_CHOICES => return Value::Null,
            Some(choices) => Value::Array(choices.values.clone()),
            None => Value::String(self.input_type().to_owned()),
        };
        json!([first, self.options().cloned().unwrap_or_default()])
    }

    fn error(&self, r#type: &str, message: impl Into<String>, details: impl Into<String>) -> PromptError {
        PromptError::new(r#type, message, details).with("input_name", self.name).with("input_config", self.config())
    }

    /// The input is required and absent.
    pub(super) fn missing(&self) -> PromptError {
        PromptError::new("required_input_missing", "Required input is missing", self.name).with("input_name", self.name)
    }

    /// A list that is no link.
    pub(super) fn bad_link(&self, value: &Value) -> PromptError {
        let message = "Bad linked input, must be a length-2 list of [node_id, slot_index]";
        self.error("bad_linked_input", message, self.name).with("received_value", value.clone())
    }

    /// Finds the node and the type that a link leads to.
    pub(super) fn follow(
        &self,
        graph: &PostedGraph<'a>,
        reader: &str,
        node: &Value,
        slot: &Value,
    ) -> Result<Source<'a>, Exception> {
        let here = format!("Input '{}' of node '{reader}'", self.name);
        let index = find_node(graph, node, &here)?;
        let definition = graph.nodes[index].definition;
        let output = find_slot(definition, slot, &here, graph.nodes[index].id)?;
        Ok(Source { node: index, received_type: &definition.outputs[output].output_type })
    }

    /// The types of a link do not fit; `None` when they do.
    pub(super) fn mismatch(&self, received_type: &str, link: &Value) -> Option<PromptError> {
        if types_fit(received_type, self.input_type()) {
            return None;
        }
        let wanted = self.choices.as_ref().map_or_else(|| self.input_type().to_owned(), |choices| choices.shown());
        let details = format!("{}, received_type({received_type}) mismatch input_type({wanted})", self.name);
        let error = self.error("return_type_mismatch", "Return type mismatch between linked nodes", details);
        Some(error.with("received_type", received_type).with("linked_node", link.clone()))
    }

    /// Something that the input depends on raised.
    pub(super) fn inner_exception(&self, exception: &Exception, link: &Value) -> PromptError {
        let message = "Exception when validating inner node";
        self.error("exception_during_inner_validation", message, exception.message.clone())
            .with("exception_message", exception.message.clone())
            .with("exception_type", exception.exception_type.clone())
            .with("traceback", vec![exception.explanation.clone()])
            .with("linked_node", link.clone())
    }

    /// The value as it will be used: unwrapped and converted.
    pub(super) fn converted(&self, value: &Value) -> Result<Option<Value>, PromptError> {
        let unwrapped = value.as_object().and_then(|object| object.get("__value__"));
        let value = unwrapped.unwrap_or(value);
        let converted = if self.choices.is_some() { Ok(None) } else { convert::convert(self.input_type(), value) };
        match converted {
            Ok(Some(converted)) => Ok(Some(converted)),
            Ok(None) => Ok(unwrapped.cloned()),
            Err(reason) => {
                let message = format!("Failed to convert an input value to a {} value", self.input_type());
                let details = format!("{}, {}, {reason}", self.name, python_json::str(value));
                let error = self.error("invalid_input_type", message, details);
                Err(error.with("received_value", value.clone()).with("exception_message", reason))
            }
        }
    }

    /// The value is too small, too large, or none of the choices.
    pub(super) fn out_of_bounds(&self, reader: &str, value: &Value) -> Result<Option<PromptError>, Exception> {
        let bounds = [
            ("min", "<", Ordering::Less, "value_smaller_than_min", "smaller than min of"),
            ("max", ">", Ordering::Greater, "value_bigger_than_max", "bigger than max of"),
        ];
        for (option, operator, wrong, r#type, words) in bounds {
            let Some(bound) = self.options().and_then(|options| options.get(option)).filter(|bound| !bound.is_null())
            else {
                continue;
            };
            let order = convert::compare(value, bound, operator).map_err(|message| Exception {
                exception_type: "TypeError".to_owned(),
                message,
                explanation: format!("Input '{}' of node '{reader}' cannot be compared with its {option}.", self.name),
            })?;
            if order == wrong {
                let message = format!("Value {} {words} {}", python_json::str(value), python_json::str(bound));
                let error = self.error(r#type, message, self.name);
                return Ok(Some(error.with("received_value", value.clone())));
            }
        }
        let missed = self.choices.as_ref().filter(|choices| !choices.contains(value));
        Ok(missed.map(|choices| {
            let details = format!("{}: '{}' not in {}", self.name, python_json::str(value), choices.shown());
            let error = self.error("value_not_in_list", "Value not in list", details);
            error.with("received_value", value.clone())
        }))
    }
}

/// The link's first part: a node id.
fn find_node(graph: &PostedGraph<'_>, node: &Value, here: &str) -> Result<usize, Exception> {
    let (exception_type, message) = match node {
        Value::String(id) => match graph.by_id.get(id.as_str()) {
            Some(index) => return Ok(*index),
            None => ("KeyError", python_json::quote(id)),
        },
        Value::Array(_) | Value::Object(_) => {
            ("TypeError", format!("unhashable type: '{}'", convert::python_type(node)))
        }
        other => ("KeyError", python_json::repr(other)),
    };
    let shown: String = python_json::repr(node).chars().take(200).collect();
    Err(Exception {
        exception_type: exception_type.to_owned(),
        message,
        explanation: format!("{here} links to node {shown}, which is not in the prompt."),
    })
}

/// The link's second part: an output slot.
fn find_slot(definition: &NodeDefinition, slot: &Value, here: &str, source: &str) -> Result<usize, Exception> {
    let outputs = definition.outputs.len();
    let whole = slot.as_number().filter(|number| !number.is_f64());
    let (exception_type, message) = match whole.map(serde_json::Number::as_i64) {
        Some(Some(written)) => match slot_index(written, outputs) {
            Some(index) => return Ok(index),
            None => ("IndexError", "tuple index out of range".to_owned()),
        },
        Some(None) => ("IndexError", "cannot fit 'int' into an index-sized integer".to_owned()),
        None => {
            let found = convert::python_type(slot);
            ("TypeError", format!("tuple indices must be integers or slices, not {found}"))
        }
    };
    let shown: String = python_json::repr(slot).chars().take(200).collect();
    Err(Exception {
        exception_type: exception_type.to_owned(),
        message,
        explanation: format!("{here} links to output {shown} of node '{source}', which has {outputs} outputs."),
    })
}

/// Equal, or with a member in common when read as comma-separated lists; `*` fits everything.
fn types_fit(received: &str, wanted: &str) -> bool {
    if received == wanted {
        return true;
    }
    let members = |types: &str| -> Vec<String> { types.split(',').map(|member| member.trim().to_owned()).collect() };
    let (received, wanted) = (members(received), members(wanted));
    let any = |types: &[String]| types.iter().any(|member| member == "*");
    any(&received) || any(&wanted) || received.iter().any(|member| wanted.contains(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_fit_when_they_share_a_member() {
        for (received, wanted) in [("IMAGE", "IMAGE"), ("IMAGE", "MASK, IMAGE"), ("A,B", "B,C"), ("X", "*"), ("*", "X")]
        {
            assert!(types_fit(received, wanted), "{received} {wanted}");
        }
        for (received, wanted) in [("IMAGE", "MASK"), ("IMAGE", "IMAGES"), ("", "X")] {
            assert!(!types_fit(received, wanted), "{received} {wanted}");
        }
    }
}
