//! Queue items and history entries, as `GET /queue` and `GET /history` show them.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Keys of `extra_data` that no answer may show.
pub const SECRET_KEYS: [&str; 2] = ["auth_token_comfy_org", "api_key_comfy_org"];

/// Takes the secrets out of an `extra_data`.
pub fn strip_secrets(extra_data: &mut Map<String, Value>) {
    for key in SECRET_KEYS {
        // `remove` would move the last key into the gap.
        extra_data.shift_remove(key);
    }
}

/// A prompt in the queue. On the wire an array `[number, prompt_id, prompt, extra_data, outputs]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueItem {
    /// Lower runs first.
    pub number: f64,
    /// Unique unless a client reuses it.
    pub prompt_id: String,
    /// Validated and converted.
    pub prompt: Value,
    /// What the client sent along, the workflow above all.
    pub extra_data: Map<String, Value>,
    /// Ids of the output nodes to run.
    pub outputs: Vec<String>,
}

impl QueueItem {
    /// The same item, fit to be shown.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        strip_secrets(&mut self.extra_data);
        self
    }
}

/// A number as it goes over the wire: whole ones without a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WireNumber(#[serde(serialize_with = "crate::event::whole_or_float")] pub f64);

impl Serialize for QueueItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(5)?;
        tuple.serialize_element(&WireNumber(self.number))?;
        tuple.serialize_element(&self.prompt_id)?;
        tuple.serialize_element(&self.prompt)?;
        tuple.serialize_element(&self.extra_data)?;
        tuple.serialize_element(&self.outputs)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for QueueItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;

        impl<'de> Visitor<'de> for Items {
            type Value = QueueItem;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an array [number, prompt_id, prompt, extra_data, outputs]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<QueueItem, A::Error> {
                let missing = |index| A::Error::invalid_length(index, &self);
                let item = QueueItem {
                    number: items.next_element()?.ok_or_else(|| missing(0))?,
                    prompt_id: items.next_element()?.ok_or_else(|| missing(1))?,
                    prompt: items.next_element()?.ok_or_else(|| missing(2))?,
                    extra_data: items.next_element()?.ok_or_else(|| missing(3))?,
                    outputs: items.next_element()?.ok_or_else(|| missing(4))?,
                };
                // Newer clients may know further elements.
                while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(item)
            }
        }

        deserializer.deserialize_seq(Items)
    }
}

/// How a prompt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `success` or `error`.
    pub status_str: String,
    /// False after an error and after an interrupt.
    pub completed: bool,
    /// Event names and data: start, cached, then success, error or interrupted.
    pub messages: Vec<(String, Value)>,
}

/// A prompt that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// As it was queued.
    pub prompt: QueueItem,
    /// ComfyUI's `ui` by node id, cached nodes included.
    pub outputs: Map<String, Value>,
    /// Absent only for entries whose end is unknown.
    pub status: Option<Status>,
    /// By node id: `{node_id, display_node, parent_node, real_node_id}`.
    #[serde(default)]
    pub meta: Map<String, Value>,
}

impl HistoryEntry {
    /// The same entry, fit to be kept and shown.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        strip_secrets(&mut self.prompt.extra_data);
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn item() -> QueueItem {
        let extra_data =
            json!({"api_key_comfy_org": "k", "a": 1, "auth_token_comfy_org": "t", "client_id": "c", "z": 2});
        QueueItem {
            number: -3.0,
            prompt_id: "p".to_owned(),
            prompt: json!({"1": {}}),
            extra_data: extra_data.as_object().unwrap().clone(),
            outputs: vec!["1".to_owned()],
        }
    }

    #[test]
    fn an_item_is_an_array_of_five() {
        let shown = serde_json::to_string(&item().without_secrets()).unwrap();
        assert_eq!(shown, r#"[-3,"p",{"1":{}},{"a":1,"client_id":"c","z":2},["1"]]"#);
        assert_eq!(serde_json::from_str::<QueueItem>(&shown).unwrap(), item().without_secrets());
        assert!(serde_json::from_str::<QueueItem>("[1,\"p\"]").is_err());
        let broken = QueueItem { number: 1.5, ..item() };
        assert!(serde_json::to_string(&broken).unwrap().starts_with("[1.5,"));
    }

    #[test]
    fn an_entry_shows_no_secret_and_keeps_the_key_order() {
        let entry = HistoryEntry {
            prompt: item(),
            outputs: Map::new(),
            status: Some(Status {
                status_str: "success".to_owned(),
                completed: true,
                messages: vec![("execution_start".to_owned(), json!({"prompt_id": "p"}))],
            }),
            meta: Map::new(),
        };
        let shown = serde_json::to_string(&entry.without_secrets()).unwrap();
        assert_eq!(
            shown,
            r#"{"prompt":[-3,"p",{"1":{}},{"a":1,"client_id":"c","z":2},["1"]],"outputs":{},"status":{"status_str":"success","completed":true,"messages":[["execution_start",{"prompt_id":"p"}]]},"meta":{}}"#
        );
        assert!(serde_json::from_str::<HistoryEntry>(&shown).is_ok());
    }
}
