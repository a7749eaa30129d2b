//! Values between host and guest: JSON beside a table of handles.
//!
//! WIT has no recursive types and ComfyUI's values nest, so a value crosses as JSON text in which `{"$": n}` stands for the
//! n-th handle. Generic over the handle, so that it is tested without a host.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};

/// A value as a tree. `H` is the handle: a tensor or an object of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Tree<H> {
    /// Nothing; Python's None.
    #[default]
    Null,
    /// A BOOLEAN.
    Bool(bool),
    /// An INT or a FLOAT; JSON knows no NaN and no infinity.
    Number(serde_json::Number),
    /// A STRING or the choice of a COMBO.
    String(String),
    /// A list.
    List(Vec<Tree<H>>),
    /// A dictionary, in its order.
    Dict(IndexMap<String, Tree<H>>),
    /// Something that lives in the host.
    Handle(H),
    /// Stops every node it reaches; with a message, the client is told.
    Blocked(Option<String>),
    /// The output of a node of an expansion: its id and slot. Exists only in what `execute` answers.
    Link(String, u32),
}

const HANDLE: &str = "$";
const BLOCKED: &str = "$blocked";
const LINK: &str = "$link";

impl<H> Tree<H> {
    /// Takes the handles out of the tree: the JSON text and the table.
    #[must_use]
    pub fn encode(self) -> (String, Vec<H>) {
        let mut handles = Vec::new();
        let json = self.encode_into(&mut handles);
        (json.to_string(), handles)
    }

    fn encode_into(self, handles: &mut Vec<H>) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => Json::Bool(flag),
            Self::Number(number) => Json::Number(number),
            Self::String(text) => Json::String(text),
            Self::List(items) => items.into_iter().map(|item| item.encode_into(handles)).collect(),
            Self::Dict(entries) => {
                entries.into_iter().map(|(key, value)| (escape(key), value.encode_into(handles))).collect()
            }
            Self::Handle(handle) => {
                handles.push(handle);
                marker(HANDLE, (handles.len() - 1).into())
            }
            Self::Blocked(message) => marker(BLOCKED, message.into()),
            Self::Link(node, slot) => marker(LINK, Json::from(vec![Json::from(node), Json::from(slot)])),
        }
    }

    /// The tree as plain JSON.
    ///
    /// # Errors
    /// When it holds a tensor, an object or a blocker, which JSON cannot.
    pub fn into_json(self) -> Result<Json> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => Json::Bool(flag),
            Self::Number(number) => Json::Number(number),
            Self::String(text) => Json::String(text),
            Self::List(items) => items.into_iter().map(Self::into_json).collect::<Result<_>>()?,
            Self::Dict(entries) => entries
                .into_iter()
                .map(|(key, value)| Ok((key, value.into_json()?)))
                .collect::<Result<Map<_, _>>>()?
                .into(),
            Self::Handle(_) => return Err(Error::invalid("expected plain data, got a tensor or an object in it")),
            Self::Blocked(_) => return Err(Error::invalid("expected plain data, got a blocked value in it")),
            Self::Link(..) => return Err(Error::invalid("expected plain data, got a link in it")),
        })
    }

    /// What a person would call this value, for error messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(number) if number.is_f64() => "a number",
            Self::Number(_) => "a whole number",
            Self::String(_) => "a text",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Handle(_) => "a tensor or an object",
            Self::Blocked(_) => "a blocked value",
            Self::Link(..) => "a link",
        }
    }
}

impl<H: Clone> Tree<H> {
    /// Puts the handles back into the tree. A handle may stand in several places.
    ///
    /// # Errors
    /// When the text is no JSON, names a handle that is not in the table, or has a marker that nobody knows.
    pub fn decode(json: &str, handles: &[H]) -> Result<Self> {
        let json = serde_json::from_str(json).map_err(|error| Error::failed(error).context("a value from the host"))?;
        Self::decode_json(json, handles)
    }

    fn decode_json(json: Json, handles: &[H]) -> Result<Self> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(flag),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::String(text),
            Json::Array(items) => {
                Self::List(items.into_iter().map(|item| Self::decode_json(item, handles)).collect::<Result<_>>()?)
            }
            Json::Object(entries) => Self::decode_object(entries, handles)?,
        })
    }

    fn decode_object(entries: Map<String, Json>, handles: &[H]) -> Result<Self> {
        if entries.len() == 1 {
            if let Some(index) = entries.get(HANDLE) {
                let handle = index.as_u64().and_then(|index| handles.get(usize::try_from(index).ok()?));
                let missing = || Error::failed(format!("a value names handle {index} of {}", handles.len()));
                return handle.cloned().map(Self::Handle).ok_or_else(missing);
            }
            if let Some(message) = entries.get(BLOCKED) {
                return Ok(Self::Blocked(message.as_str().map(str::to_owned)));
            }
            if let Some(link) = entries.get(LINK) {
                let node = link.get(0).and_then(Json::as_str);
                let slot = link.get(1).and_then(Json::as_u64).and_then(|slot| u32::try_from(slot).ok());
                let (Some(node), Some(slot)) = (node, slot) else {
                    return Err(Error::failed(format!("a link must be [node id, slot], got {link}")));
                };
                return Ok(Self::Link(node.to_owned(), slot));
            }
        }
        let entries = entries
            .into_iter()
            .map(|(key, value)| Ok((unescape(key)?, Self::decode_json(value, handles)?)))
            .collect::<Result<_>>()?;
        Ok(Self::Dict(entries))
    }
}

impl<H> From<Json> for Tree<H> {
    /// Plain JSON, in which a key that starts with `$` means nothing special.
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(flag),
            Json::Number(number) => Self::Number(number),
            Json::String(text) => Self::String(text),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => {
                Self::Dict(entries.into_iter().map(|(key, value)| (key, Self::from(value))).collect())
            }
        }
    }
}

fn marker(key: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(key.to_owned(), value)]))
}

fn escape(key: String) -> String {
    if key.starts_with('$') { format!("${key}") } else { key }
}

fn unescape(key: String) -> Result<String> {
    match key.strip_prefix('$') {
        None => Ok(key),
        Some(rest) if rest.starts_with('$') => Ok(rest.to_owned()),
        Some(_) => Err(Error::failed(format!("a value has the unknown marker `{key}`"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    type Tree = super::Tree<&'static str>;

    fn dict(entries: impl IntoIterator<Item = (&'static str, Tree)>) -> Tree {
        Tree::Dict(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    #[test]
    fn handles_leave_the_tree_in_the_order_of_their_numbers() {
        let tree = Tree::List(vec![Tree::Handle("a"), dict([("samples", Tree::Handle("b"))])]);
        let (json, handles) = tree.clone().encode();
        assert_eq!(json, r#"[{"$":0},{"samples":{"$":1}}]"#);
        assert_eq!(handles, ["a", "b"]);
        assert_eq!(Tree::decode(&json, &handles).unwrap(), tree);
    }

    #[test]
    fn keys_that_look_like_markers_survive_the_way_there_and_back() {
        let tree = dict([("$", Tree::Bool(true)), ("$blocked", Tree::Null), ("$$x", Tree::Null), ("a$", Tree::Null)]);
        let (json, _) = tree.clone().encode();
        assert_eq!(json, r#"{"$$":true,"$$blocked":null,"$$$x":null,"a$":null}"#);
        assert_eq!(Tree::decode(&json, &[]).unwrap(), tree);
        let single = dict([("$", Tree::from(json!(0)))]);
        let (json, handles) = single.clone().encode();
        assert_eq!(Tree::decode(&json, &handles).unwrap(), single);
    }

    #[test]
    fn blockers_and_links_are_markers() {
        let tree = Tree::List(vec![
            Tree::Blocked(None),
            Tree::Blocked(Some("no face found".into())),
            Tree::Link("n1".into(), 2),
        ]);
        let (json, _) = tree.clone().encode();
        assert_eq!(json, r#"[{"$blocked":null},{"$blocked":"no face found"},{"$link":["n1",2]}]"#);
        assert_eq!(Tree::decode(&json, &[]).unwrap(), tree);
    }

    #[test]
    fn whole_and_decimal_numbers_stay_what_they_are() {
        let (json, _) = Tree::from(json!([5, 5.0, -1, 18446744073709551615u64])).encode();
        assert_eq!(json, "[5,5.0,-1,18446744073709551615]");
    }

    #[test]
    fn one_handle_may_stand_in_two_places() {
        let tree = Tree::decode(r#"[{"$":0},{"$":0}]"#, &["a"]).unwrap();
        assert_eq!(tree, Tree::List(vec![Tree::Handle("a"), Tree::Handle("a")]));
    }

    #[test]
    fn nonsense_is_refused_with_words() {
        let message = |json: &str| Tree::decode(json, &["a"]).unwrap_err().message;
        assert_eq!(message(r#"{"$":1}"#), "a value names handle 1 of 1");
        assert_eq!(message(r#"{"$":"x"}"#), "a value names handle \"x\" of 1");
        assert_eq!(message(r#"{"$future":1}"#), "a value has the unknown marker `$future`");
        assert!(message("{").starts_with("a value from the host: "));
        assert!(Tree::Handle("a").into_json().is_err());
    }
}
