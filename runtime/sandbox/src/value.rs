//! Values as nodes exchange them, and their wire form: JSON beside a table of handles (see `values.wit`).

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Number, Value};
use vivarium_tensor::{Charge, Tensor};

use crate::{
    PackComponent,
    error::{CallError, CallErrorKind},
    limits::Limits,
};

/// A value between nodes. Cloning is cheap: tensors and objects are shared.
#[derive(Clone, Debug)]
pub enum NodeValue {
    /// JSON null.
    Null,
    /// JSON boolean.
    Bool(bool),
    /// JSON number.
    Number(Number),
    /// JSON string.
    String(Arc<str>),
    /// JSON array.
    List(Vec<NodeValue>),
    /// JSON object.
    Map(IndexMap<String, NodeValue>),
    /// A tensor of the host.
    Tensor(Tensor),
    /// An object of some pack.
    Object(Arc<PackObject>),
    /// Stops every node that it reaches; with a message, the client is told once.
    Blocked(Option<Arc<str>>),
    /// In the slots of an expansion: the output of a new node, by its id and slot.
    Link(Arc<str>, i64),
}

/// What one pack lends to others: MODEL, VAE, SAMPLER, ….
#[derive(Debug)]
pub struct PackObject {
    /// The component that made it; keeps an old version alive while a job still holds objects of it.
    pub owner: Arc<PackComponent>,
    /// The owner's word for what it is.
    pub type_name: String,
    /// Readable by the owner only.
    pub state: NodeValue,
    /// What it takes, charged to the call that made it and to its tenant as long as anybody holds it: a node that makes one
    /// after another must not fill the host's memory.
    pub(crate) charge: Charge,
}

/// One entry of a handle table.
#[allow(clippy::large_enum_variant, reason = "nearly every entry is a tensor, and they live for one call")]
#[derive(Clone, Debug)]
pub(crate) enum HandleEntry {
    Tensor(Tensor),
    Object(Arc<PackObject>),
}

const HANDLE_KEY: &str = "$";
const BLOCKED_KEY: &str = "$blocked";
const LINK_KEY: &str = "$link";

/// What [`NodeValue::summary`] shows of a text and of the keys of an object.
const SHOWN_TEXT: usize = 500;
const SHOWN_KEYS: usize = 16;
const SHOWN_KEY: usize = 64;

impl NodeValue {
    /// A value without handles. Takes the JSON literally: `$` keys mean nothing here.
    #[must_use]
    pub fn from_json(json: &Value) -> Self {
        match json {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => Self::Number(value.clone()),
            Value::String(value) => Self::String(Arc::from(value.as_str())),
            Value::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Value::Object(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect())
            }
        }
    }

    /// The blocker inside, if this value is one.
    #[must_use]
    pub fn as_blocked(&self) -> Option<Option<&str>> {
        match self {
            Self::Blocked(message) => Some(message.as_deref()),
            _ => None,
        }
    }

    /// Bytes of host memory that this value takes, about. Tensors and objects are left out: they are charged where they are
    /// made.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        const OWN: u64 = size_of::<NodeValue>() as u64;
        /// A key in a map, with its hash and its index.
        const KEY: u64 = 64;
        let inside = match self {
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Tensor(_) | Self::Object(_) => 0,
            Self::String(text) => text.len() as u64,
            Self::Link(node, _) => node.len() as u64,
            Self::Blocked(message) => message.as_deref().map_or(0, str::len) as u64,
            Self::List(items) => items.iter().map(Self::plain_bytes).sum(),
            Self::Map(entries) => {
                entries.iter().map(|(key, value)| KEY + key.len() as u64 + value.plain_bytes()).sum::<u64>()
            }
        };
        OWN + inside
    }

    /// Bytes that the objects inside are charged for, tensors left out.
    #[must_use]
    pub fn object_bytes(&self) -> u64 {
        match self {
            Self::Object(object) => object.charge.bytes() + object.state.object_bytes(),
            Self::List(items) => items.iter().map(Self::object_bytes).sum(),
            Self::Map(entries) => entries.values().map(Self::object_bytes).sum(),
            _ => 0,
        }
    }

    /// Calls `visit` with every tensor inside, object states included.
    pub fn for_each_tensor(&self, visit: &mut dyn FnMut(&Tensor)) {
        match self {
            Self::Tensor(tensor) => visit(tensor),
            Self::List(items) => items.iter().for_each(|item| item.for_each_tensor(visit)),
            Self::Map(entries) => entries.values().for_each(|value| value.for_each_tensor(visit)),
            Self::Object(object) => object.state.for_each_tensor(visit),
            _ => {}
        }
    }

    /// A short text for error reports: numbers and strings as they are, the rest by kind and shape.
    #[must_use]
    pub fn summary(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::String(text) => Value::String(cut(text, SHOWN_TEXT)),
            Self::List(items) => Value::String(format!("list of {} values", items.len())),
            Self::Map(entries) => {
                let keys: Vec<String> = entries.keys().take(SHOWN_KEYS).map(|key| cut(key, SHOWN_KEY)).collect();
                let more = if entries.len() > SHOWN_KEYS { " and more" } else { "" };
                Value::String(format!("object with the keys {keys:?}{more}"))
            }
            Self::Tensor(tensor) => Value::String(format!("tensor {:?} {:?}", tensor.dtype(), tensor.shape())),
            Self::Object(object) => Value::String(format!("{} of pack {}", object.type_name, object.owner.name())),
            Self::Blocked(_) => Value::String("blocked".into()),
            Self::Link(node, slot) => Value::String(format!("output {slot} of node {node}")),
        }
    }

    /// The value as plain JSON; what JSON cannot say (tensors, objects, blockers) is null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(value) => Value::Number(value.clone()),
            Self::String(text) => Value::String(text.to_string()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
            Self::Null | Self::Tensor(_) | Self::Object(_) | Self::Blocked(_) | Self::Link(..) => Value::Null,
        }
    }

    /// Whether [`NodeValue::to_json`] loses nothing.
    #[must_use]
    pub fn is_json(&self) -> bool {
        match self {
            Self::Tensor(_) | Self::Object(_) | Self::Blocked(_) | Self::Link(..) => false,
            Self::List(items) => items.iter().all(Self::is_json),
            Self::Map(entries) => entries.values().all(Self::is_json),
            _ => true,
        }
    }
}

/// At most `bytes` bytes of a text, cut at a character boundary and marked with `…`.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Writes a value as JSON and collects its handles.
pub(crate) fn encode(value: &NodeValue) -> (String, Vec<HandleEntry>) {
    let mut handles = Vec::new();
    let json = to_json(value, &mut handles);
    (json.to_string(), handles)
}

fn to_json(value: &NodeValue, handles: &mut Vec<HandleEntry>) -> Value {
    let mut handle = |entry| {
        handles.push(entry);
        Value::Object(Map::from_iter([(HANDLE_KEY.to_owned(), Value::from(handles.len() - 1))]))
    };
    match value {
        NodeValue::Null => Value::Null,
        NodeValue::Bool(value) => Value::Bool(*value),
        NodeValue::Number(value) => Value::Number(value.clone()),
        NodeValue::String(text) => Value::String(text.to_string()),
        NodeValue::List(items) => Value::Array(items.iter().map(|item| to_json(item, handles)).collect()),
        NodeValue::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    let key = if key.starts_with('$') { format!("${key}") } else { key.clone() };
                    (key, to_json(value, handles))
                })
                .collect(),
        ),
        NodeValue::Tensor(tensor) => handle(HandleEntry::Tensor(tensor.clone())),
        NodeValue::Object(object) => handle(HandleEntry::Object(object.clone())),
        NodeValue::Blocked(message) => Value::Object(Map::from_iter([(
            BLOCKED_KEY.to_owned(),
            message.as_deref().map_or(Value::Null, Value::from),
        )])),
        NodeValue::Link(node, slot) => serde_json::json!({ LINK_KEY: [&**node, slot] }),
    }
}

/// The most memory that JSON can take when it is read: a value for every comma and every opened bracket, and as many bytes of
/// text as it has.
pub(crate) fn most_decoded_bytes(json: &str) -> u64 {
    /// Of serde's tree, and of ours that is made from it while it is still there; a map has its index as well.
    const VALUE: u64 = (size_of::<Value>() + size_of::<NodeValue>()) as u64;
    const ENTRY: u64 = 128;
    let mut most = 2 * json.len() as u64 + VALUE;
    for byte in json.bytes() {
        most += match byte {
            b',' | b'[' | b'{' => VALUE,
            b':' => ENTRY,
            _ => 0,
        };
    }
    most
}

/// Reads what a guest sent.
///
/// # Errors
/// [`CallErrorKind::InvalidArgument`] for broken JSON and for handles that do not exist,
/// [`CallErrorKind::LimitExceeded`] for JSON that is too long or too deep.
pub(crate) fn decode(json: &str, handles: &[HandleEntry], limits: &Limits) -> Result<NodeValue, CallError> {
    if json.len() as u64 > limits.value_json_bytes {
        return Err(CallError::new(
            CallErrorKind::LimitExceeded,
            format!(
                "a value has {} bytes of JSON, more than the limit of {} (value_json_bytes, limits.toml)",
                json.len(),
                limits.value_json_bytes
            ),
        ));
    }
    let json: Value = serde_json::from_str(json).map_err(|error| {
        CallError::new(CallErrorKind::InvalidArgument, format!("the node sent a value that is not JSON: {error}"))
    })?;
    from_wire(json, handles, limits.value_json_depth)
}

fn from_wire(json: Value, handles: &[HandleEntry], depth_left: u64) -> Result<NodeValue, CallError> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(CallError::new(
            CallErrorKind::LimitExceeded,
            "a value is nested deeper than the limit (value_json_depth, limits.toml)",
        ));
    };
    Ok(match json {
        Value::Null => NodeValue::Null,
        Value::Bool(value) => NodeValue::Bool(value),
        Value::Number(value) => NodeValue::Number(value),
        Value::String(text) => NodeValue::String(Arc::from(text)),
        Value::Array(items) => NodeValue::List(
            items.into_iter().map(|item| from_wire(item, handles, depth_left)).collect::<Result<_, _>>()?,
        ),
        Value::Object(entries) => return object_from_wire(entries, handles, depth_left),
    })
}

fn object_from_wire(
    entries: Map<String, Value>,
    handles: &[HandleEntry],
    depth_left: u64,
) -> Result<NodeValue, CallError> {
    let invalid = |message: String| CallError::new(CallErrorKind::InvalidArgument, message);
    if entries.len() == 1 {
        if let Some(index) = entries.get(HANDLE_KEY) {
            let entry = index.as_u64().and_then(|index| handles.get(usize::try_from(index).ok()?));
            return match entry {
                Some(HandleEntry::Tensor(tensor)) => Ok(NodeValue::Tensor(tensor.clone())),
                Some(HandleEntry::Object(object)) => Ok(NodeValue::Object(object.clone())),
                None => Err(invalid(format!(
                    "a value refers to handle {index}, but its table has {} handles",
                    handles.len()
                ))),
            };
        }
        if let Some(link) = entries.get(LINK_KEY) {
            return match link.as_array().map(Vec::as_slice) {
                Some([Value::String(node), slot]) if slot.is_i64() => {
                    Ok(NodeValue::Link(Arc::from(node.as_str()), slot.as_i64().unwrap_or_default()))
                }
                _ => Err(invalid(format!("a value has the link {link}; a link is [node id, slot]"))),
            };
        }
        match entries.get(BLOCKED_KEY) {
            Some(Value::Null) => return Ok(NodeValue::Blocked(None)),
            Some(Value::String(message)) => {
                return Ok(NodeValue::Blocked(Some(Arc::from(message.as_str()))));
            }
            _ => {}
        }
    }
    let mut map = IndexMap::with_capacity(entries.len());
    for (key, value) in entries {
        let key = match key.strip_prefix('$') {
            Some(rest) if rest.starts_with('$') => rest.to_owned(),
            Some(_) => {
                return Err(invalid(format!(
                    "a value has the reserved key {key:?}; write it as {:?}",
                    format!("${key}")
                )));
            }
            None => key,
        };
        map.insert(key, from_wire(value, handles, depth_left)?);
    }
    Ok(NodeValue::Map(map))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn round_trip(json: &str) -> String {
        let limits = Limits::default();
        let value = decode(json, &[], &limits).unwrap();
        encode(&value).0
    }

    #[test]
    fn plain_json_survives() {
        let json = r#"{"a":[1,2.5,null,true,"x"],"b":{"c":{}}}"#;
        assert_eq!(round_trip(json), json);
    }

    #[test]
    fn a_float_stays_a_float() {
        assert_eq!(round_trip("[5.0,5]"), "[5.0,5]");
    }

    #[test]
    fn user_keys_with_a_dollar_are_not_handles() {
        let value = NodeValue::from_json(&serde_json::json!({"$": 0, "$blocked": null}));
        let (json, handles) = encode(&value);
        assert!(handles.is_empty());
        assert_eq!(json, r#"{"$$":0,"$$blocked":null}"#);
        assert!(
            matches!(decode(&json, &[], &Limits::default()).unwrap(), NodeValue::Map(map) if map.contains_key("$"))
        );
    }

    #[test]
    fn a_forged_handle_is_refused() {
        for json in [r#"{"$":0}"#, r#"{"$":-1}"#, r#"{"$":"0"}"#, r#"{"$":18446744073709551615}"#, r#"{"$x":1}"#] {
            let error = decode(json, &[], &Limits::default()).unwrap_err();
            assert_eq!(error.kind, CallErrorKind::InvalidArgument, "{json}");
        }
    }

    #[test]
    fn deep_json_is_refused() {
        let json = "[".repeat(120) + &"]".repeat(120);
        assert_eq!(decode(&json, &[], &Limits::default()).unwrap_err().kind, CallErrorKind::LimitExceeded);
        let json = "[".repeat(100_000);
        assert_eq!(decode(&json, &[], &Limits::default()).unwrap_err().kind, CallErrorKind::InvalidArgument);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "ä…");
        assert_eq!(cut("abc", 3), "abc");
    }
}
