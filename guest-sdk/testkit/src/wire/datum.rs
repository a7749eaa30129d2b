//! Values on the wire, as packs get them too (`values.wit`): a JSON text, in which `{"$": n}` is the entry `n` of a table of
//! tensors and objects. The text is in the tail, so that values may nest as deep as JSON does.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Map, Number, Value as Json, json};

use super::tail;
use crate::{Tensor, program};

/// How deep a reader of JSON follows.
const DEPTH: usize = 127;

const HANDLE_KEY: &str = "$";
const BLOCKED_KEY: &str = "$blocked";
const LINK_KEY: &str = "$link";

/// What is in a [`crate::Value`].
#[derive(Clone, Debug, Default)]
pub enum Datum {
    /// Nothing; Python's None.
    #[default]
    Null,
    /// A BOOLEAN.
    Bool(bool),
    /// An INT or a FLOAT.
    Number(Number),
    /// A STRING.
    Text(String),
    /// Values in order.
    List(Vec<Datum>),
    /// Values by name.
    Map(IndexMap<String, Datum>),
    /// Numbers.
    Tensor(Tensor),
    /// What a pack lends.
    Object(Object),
    /// Stops every node that it reaches, perhaps with a message.
    Blocked(Option<String>),
    /// In an expansion: the output of a new node, by its id and slot.
    Link(String, i64),
}

/// An object of a pack, which the program keeps.
#[derive(Clone, Debug)]
pub struct Object {
    /// The program's number for it.
    pub id: u64,
    /// The pack's word for what it is.
    pub type_name: String,
    /// The pack that made it.
    pub pack: String,
    /// On the test's side, from the time it arrived.
    kept: Option<Arc<Kept>>,
}

/// The program may forget the object with this number when the last clone of it is gone.
#[derive(Debug)]
struct Kept(u64);

impl Drop for Kept {
    fn drop(&mut self) {
        program::release(self.0);
    }
}

impl Object {
    /// An object under its number.
    #[must_use]
    pub fn new(id: u64, type_name: String, pack: String) -> Self {
        Self { id, type_name, pack, kept: None }
    }
}

/// A value in its two parts.
#[derive(Serialize, Deserialize)]
struct Parts {
    #[serde(with = "tail")]
    json: Vec<u8>,
    handles: Vec<Handle>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Handle {
    Tensor(Tensor),
    Object { id: u64, type_name: String, pack: String },
}

impl Datum {
    /// A value without tensors and objects. Takes the JSON literally: `$` keys mean nothing here.
    #[must_use]
    pub fn from_json(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(flag),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::Text(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            Json::Object(entries) => {
                Self::Map(entries.into_iter().map(|(key, value)| (key, Self::from_json(value))).collect())
            }
        }
    }

    /// As plain JSON; what JSON can't say (tensors, objects, blockers, links) is null.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Number(number) => Json::Number(number.clone()),
            Self::Text(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
            Self::Null | Self::Tensor(_) | Self::Object(_) | Self::Blocked(_) | Self::Link(..) => Json::Null,
        }
    }

    /// From now on the program may forget the objects in it when their last clone is gone.
    pub(crate) fn keep(&mut self) {
        match self {
            Self::Object(object) => object.kept = Some(Arc::new(Kept(object.id))),
            Self::List(items) => items.iter_mut().for_each(Self::keep),
            Self::Map(entries) => entries.values_mut().for_each(Self::keep),
            _ => {}
        }
    }

    fn written(&self, handles: &mut Vec<Handle>) -> Json {
        let mut handle = |entry| {
            handles.push(entry);
            json!({ HANDLE_KEY: handles.len() - 1 })
        };
        match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Number(number) => Json::Number(number.clone()),
            Self::Text(text) => Json::String(text.clone()),
            Self::List(items) => items.iter().map(|item| item.written(handles)).collect(),
            Self::Map(entries) => {
                let key = |key: &String| if key.starts_with('$') { format!("${key}") } else { key.clone() };
                entries.iter().map(|(name, value)| (key(name), value.written(handles))).collect()
            }
            Self::Tensor(tensor) => handle(Handle::Tensor(tensor.clone())),
            Self::Object(Object { id, type_name, pack, .. }) => {
                handle(Handle::Object { id: *id, type_name: type_name.clone(), pack: pack.clone() })
            }
            Self::Blocked(message) => json!({ BLOCKED_KEY: message }),
            Self::Link(node, slot) => json!({ LINK_KEY: [node, slot] }),
        }
    }

    fn read(json: Json, handles: &[Handle]) -> Result<Self, String> {
        Ok(match json {
            Json::Array(items) => {
                Self::List(items.into_iter().map(|item| Self::read(item, handles)).collect::<Result<_, _>>()?)
            }
            Json::Object(entries) => match Self::read_special(&entries, handles)? {
                Some(special) => special,
                None => {
                    let plain = |key: String| key.strip_prefix('$').map(str::to_owned).unwrap_or(key);
                    let entry = |(key, value)| Ok((plain(key), Self::read(value, handles)?));
                    Self::Map(entries.into_iter().map(entry).collect::<Result<_, String>>()?)
                }
            },
            flat => Self::from_json(flat),
        })
    }

    /// What a key with one `$` stands for.
    fn read_special(entries: &Map<String, Json>, handles: &[Handle]) -> Result<Option<Self>, String> {
        let reserved = |key: &&String| key.starts_with('$') && !key.starts_with("$$");
        let Some(key) = entries.keys().find(reserved) else { return Ok(None) };
        let wrong = || format!("there is no such value as {}", Json::from(entries.clone()));
        let value = &entries[key];
        let special = match (key.as_str(), value) {
            _ if entries.len() != 1 => None,
            (HANDLE_KEY, Json::Number(index)) => {
                let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                index.and_then(|index| handles.get(index)).map(Handle::datum)
            }
            (BLOCKED_KEY, Json::Null) => Some(Self::Blocked(None)),
            (BLOCKED_KEY, Json::String(message)) => Some(Self::Blocked(Some(message.clone()))),
            (LINK_KEY, Json::Array(link)) => match link.as_slice() {
                [Json::String(node), Json::Number(slot)] => slot.as_i64().map(|slot| Self::Link(node.clone(), slot)),
                _ => None,
            },
            _ => None,
        };
        special.map(Some).ok_or_else(wrong)
    }
}

impl Handle {
    fn datum(&self) -> Datum {
        match self {
            Self::Tensor(tensor) => Datum::Tensor(tensor.clone()),
            Self::Object { id, type_name, pack } => Datum::Object(Object::new(*id, type_name.clone(), pack.clone())),
        }
    }
}

fn depth(json: &Json) -> usize {
    let inside = match json {
        Json::Array(items) => items.iter().map(depth).max(),
        Json::Object(entries) => entries.values().map(depth).max(),
        _ => return 0,
    };
    1 + inside.unwrap_or_default()
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut handles = Vec::new();
        let json = self.written(&mut handles);
        if depth(&json) > DEPTH {
            return Err(S::Error::custom(format!("a value is nested deeper than {DEPTH} lists and dictionaries")));
        }
        Parts { json: json.to_string().into_bytes(), handles }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { json, handles } = Parts::deserialize(deserializer)?;
        let json = serde_json::from_slice(&json).map_err(D::Error::custom)?;
        Self::read(json, &handles).map_err(D::Error::custom)
    }
}
