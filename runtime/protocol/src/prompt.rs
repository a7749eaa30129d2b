//! What a client posts to `POST /prompt`, its nodes and links.
//!
//! ComfyUI answers wrong shapes with a bare 500. Here each is a [`PromptError`] that says what is wrong and what to send.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::PromptError;
use crate::python_json;

/// Nodes by id, in the order of the JSON object.
pub type Prompt = IndexMap<String, PromptNode>;

/// One node of a prompt. Written in the order of the official front end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct PromptNode {
    /// Constants and links by input name.
    pub inputs: Map<String, Value>,
    /// The class, e.g. `ImageInvert`.
    pub class_type: String,
    /// Everything else that the client sent: `_meta`, `is_changed`, …; kept, since it goes into the metadata of images.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Reads a prompt that is JSON. By hand, since what serde makes of it builds every table anew, which is much of the time of a
/// large prompt.
///
/// # Errors
/// A sentence, when a node has another shape.
pub fn read_prompt(prompt: &Value) -> Result<Prompt, &'static str> {
    let nodes = prompt.as_object().ok_or("the prompt is not an object")?;
    nodes.iter().map(|(id, node)| Ok((id.clone(), PromptNode::read(node)?))).collect()
}

impl PromptNode {
    fn read(node: &Value) -> Result<Self, &'static str> {
        let node = node.as_object().ok_or("a node is not an object")?;
        let inputs = match node.get("inputs") {
            None => Map::new(),
            Some(Value::Object(inputs)) => inputs.clone(),
            Some(_) => return Err("the `inputs` of a node are not an object"),
        };
        let Some(Value::String(class_type)) = node.get("class_type") else {
            return Err("a node has no `class_type`, or one that is not a text");
        };
        let rest = node.iter().filter(|(key, _)| !matches!(key.as_str(), "inputs" | "class_type"));
        let other = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(Self { inputs, class_type: class_type.clone(), other })
    }
}

impl TryFrom<Value> for PromptNode {
    type Error = &'static str;

    fn try_from(node: Value) -> Result<Self, Self::Error> {
        Self::read(&node)
    }
}

/// A link to an output of another node; on the wire `["node id", slot]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The node that makes the value.
    pub node: String,
    /// Which of its outputs. A negative one counts from the end.
    pub slot: i64,
}

impl Link {
    /// The array on the wire.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Array(vec![self.node.clone().into(), self.slot.into()])
    }
}

/// Reads a value as a link: an array of a text and a whole number. Everything else is a constant.
#[must_use]
pub fn as_link(value: &Value) -> Option<Link> {
    let (node, slot) = as_link_ref(value)?;
    Some(Link { node: node.to_owned(), slot })
}

/// As [`as_link`], without a copy of the node's id.
#[must_use]
pub fn as_link_ref(value: &Value) -> Option<(&str, i64)> {
    match value.as_array()?.as_slice() {
        [Value::String(node), Value::Number(slot)] => Some((node, slot.as_i64()?)),
        _ => None,
    }
}

/// Bounds on what a client may post. They protect the server, not a user: no real prompt comes near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptLimits {
    /// How deep the body may nest; serde_json stops at the same depth when it reads bytes. Default 128.
    pub max_depth: usize,
    /// The longest `prompt_id` and `client_id`, in bytes. Default 512.
    pub max_id_bytes: usize,
}

impl Default for PromptLimits {
    fn default() -> Self {
        Self { max_depth: 128, max_id_bytes: 512 }
    }
}

/// The body of `POST /prompt`, with every field but the prompt itself checked.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptRequest {
    /// An object from node id to node; what is inside is checked by the graph crate.
    pub prompt: Value,
    /// Chosen by the client; absent means that the server makes one.
    pub prompt_id: Option<String>,
    /// Who gets the events. From `client_id`, or else from `extra_data.client_id`.
    pub client_id: Option<String>,
    /// Kept with the prompt; holds `client_id` too when there is one.
    pub extra_data: Map<String, Value>,
    /// A place in the queue, lower first; finite. Absent means the next in turn.
    pub number: Option<f64>,
    /// Before everything that waits.
    pub front: bool,
    /// Only these output nodes; absent means all.
    pub partial_execution_targets: Option<Vec<String>>,
}

impl PromptRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// `no_prompt`, as in ComfyUI, when there is no prompt; else `invalid_json`, `invalid_request`, `invalid_prompt` or
    /// `request_too_large`, all fit for a 400 answer.
    pub fn from_bytes(body: &[u8]) -> Result<Self, PromptError> {
        let value = serde_json::from_slice(body).map_err(|error| {
            PromptError::new("invalid_json", "The request body is not valid JSON", error.to_string())
        })?;
        // It nests no deeper than it may: the parser stops at the same depth.
        Self::read(value, &PromptLimits::default())
    }

    /// Reads a body that is JSON already.
    ///
    /// # Errors
    /// As [`PromptRequest::from_bytes`].
    pub fn from_json(body: &Value) -> Result<Self, PromptError> {
        let limits = PromptLimits::default();
        check_depth(body, limits.max_depth)?;
        Self::from_value(body.clone(), &limits)
    }

    /// Reads a body that is JSON already, without copying it.
    ///
    /// # Errors
    /// As [`PromptRequest::from_bytes`].
    pub fn from_value(body: Value, limits: &PromptLimits) -> Result<Self, PromptError> {
        check_depth(&body, limits.max_depth)?;
        Self::read(body, limits)
    }

    fn read(body: Value, limits: &PromptLimits) -> Result<Self, PromptError> {
        let mut body = match body {
            Value::Object(body) => body,
            // Python looks for the word in these and does not find it.
            Value::Array(_) | Value::String(_) => return Err(no_prompt()),
            other => {
                return Err(wrong_shape("request body", "an object with a \"prompt\"", &other));
            }
        };
        let number = body.remove("number").map(|value| number(&value)).transpose()?;
        let front = body.remove("front").is_some_and(|value| truthy(&value));
        let Some(prompt) = body.remove("prompt") else {
            return Err(no_prompt());
        };
        if !prompt.is_object() {
            let expected = "an object from node id to {\"class_type\", \"inputs\"} (the API format of a workflow)";
            return Err(PromptError {
                r#type: "invalid_prompt".to_owned(),
                ..wrong_shape("prompt", expected, &prompt)
            });
        }
        let prompt_id = id(body.remove("prompt_id"), "prompt_id", limits)?;
        let targets = targets(body.remove("partial_execution_targets"))?;
        let mut extra_data = match body.remove("extra_data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(extra_data)) => extra_data,
            Some(other) => return Err(wrong_shape("extra_data", "an object", &other)),
        };
        let client_id = match id(body.remove("client_id"), "client_id", limits)? {
            Some(client_id) => {
                extra_data.insert("client_id".to_owned(), client_id.clone().into());
                Some(client_id)
            }
            None => id(extra_data.get("client_id").cloned(), "extra_data.client_id", limits)?,
        };
        Ok(Self { prompt, prompt_id, client_id, extra_data, number, front, partial_execution_targets: targets })
    }
}

/// Checks how deep a value nests, without recursion. A scalar has depth 0.
///
/// # Errors
/// `request_too_large` when it nests deeper than `max_depth`.
pub fn check_depth(value: &Value, max_depth: usize) -> Result<(), PromptError> {
    let mut stack = vec![(value, 0_usize)];
    while let Some((value, depth)) = stack.pop() {
        let inner: &mut dyn Iterator<Item = &Value> = match value {
            Value::Array(items) => &mut items.iter(),
            Value::Object(map) => &mut map.values(),
            _ => continue,
        };
        if depth >= max_depth {
            let details = format!("arrays and objects may nest at most {max_depth} deep");
            return Err(PromptError::new("request_too_large", "The request body nests too deep", details));
        }
        stack.extend(inner.map(|item| (item, depth + 1)));
    }
    Ok(())
}

/// Whether Python takes a value for true.
#[must_use]
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// What JSON calls the kind of a value.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn no_prompt() -> PromptError {
    PromptError::new("no_prompt", "No prompt provided", "No prompt provided")
}

fn wrong_shape(field: &str, expected: &str, got: &Value) -> PromptError {
    PromptError::new(
        "invalid_request",
        format!("The {field} has the wrong shape"),
        format!("{field} must be {expected}, not {}", kind(got)),
    )
}

fn id(value: Option<Value>, field: &str, limits: &PromptLimits) -> Result<Option<String>, PromptError> {
    let id = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(id)) => id,
        Some(scalar @ (Value::Bool(_) | Value::Number(_))) => python_json::str(&scalar),
        Some(other) => return Err(wrong_shape(field, "a string", &other)),
    };
    if id.len() > limits.max_id_bytes {
        let details = format!("{field} has {} bytes; at most {} are allowed", id.len(), limits.max_id_bytes);
        return Err(PromptError::new("request_too_large", format!("The {field} is too long"), details));
    }
    Ok(Some(id))
}

fn number(value: &Value) -> Result<f64, PromptError> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::String(text) => text.trim().parse().ok(),
        other => return Err(wrong_shape("number", "a number", other)),
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| {
        let shown: String = python_json::repr(value).chars().take(80).collect();
        PromptError::new("invalid_request", "The number is not a number", format!("number must be finite, not {shown}"))
    })
}

fn targets(value: Option<Value>) -> Result<Option<Vec<String>>, PromptError> {
    let expected = "null or an array of node ids (strings)";
    let items = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_shape("partial_execution_targets", expected, &other)),
    };
    let mut targets = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(target) => targets.push(target),
            other => return Err(wrong_shape("partial_execution_targets", expected, &other)),
        }
    }
    Ok(Some(targets))
}

#[cfg(test)]
mod tests;
