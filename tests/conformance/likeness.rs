//! When an answer is as it should be: patterns with placeholders, and the peer's answers with what differs by chance
//! taken out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Lists that ComfyUI leaves in no order.
const UNORDERED: [&str; 4] = ["errors", "dependent_outputs", "executed", "current_outputs"];

/// Why a value is not as the pattern says; `None` when it is.
///
/// A pattern is JSON. An object names the members that matter, a list is whole. Texts in angle brackets stand for any value
/// of a kind: `<any>`, `<text>`, `<number>`, `<whole>`, `<bool>`, `<list>`, `<object>`; `<absent>` for none;
/// `<has …>` for a text with these words in it. `{"<each>": pattern}` is a list of such, `{"<some>": [pattern, …]}` a list
/// that holds such, `{"<exact>": object}` an object with no other members.
pub(crate) fn unlike(value: &Value, pattern: &Value, at: &str) -> Option<String> {
    let differs = || Some(format!("{at} is {}, not {pattern}", shortened(value)));
    match pattern {
        Value::String(text) if text.starts_with('<') && text.ends_with('>') => {
            if fits_placeholder(value, &text[1..text.len() - 1]) { None } else { differs() }
        }
        Value::Object(members) => match members.iter().next() {
            Some((key, inner)) if key == "<each>" => {
                let Some(items) = value.as_array() else { return differs() };
                items.iter().enumerate().find_map(|(index, item)| unlike(item, inner, &format!("{at}[{index}]")))
            }
            Some((key, Value::Array(wanted))) if key == "<some>" => {
                let Some(items) = value.as_array() else { return differs() };
                let has = |pattern: &&Value| items.iter().any(|item| unlike(item, pattern, at).is_none());
                wanted.iter().find(|pattern| !has(pattern)).map(|pattern| format!("{at} is {value}, without {pattern}"))
            }
            Some((key, Value::Object(inner))) if key == "<exact>" => {
                let Some(object) = value.as_object() else { return differs() };
                if let Some(extra) = object.keys().find(|key| !inner.contains_key(*key)) {
                    return Some(format!("{at} has {extra:?} too: {value}"));
                }
                unlike_members(object, inner, at)
            }
            _ => match value.as_object() {
                Some(object) => unlike_members(object, members, at),
                None => differs(),
            },
        },
        Value::Array(wanted) => {
            let Some(items) = value.as_array().filter(|items| items.len() == wanted.len()) else { return differs() };
            let pairs = items.iter().zip(wanted).enumerate();
            pairs.into_iter().find_map(|(index, (item, pattern))| unlike(item, pattern, &format!("{at}[{index}]")))
        }
        Value::Number(number) => {
            if value.as_f64() == number.as_f64() {
                None
            } else {
                differs()
            }
        }
        plain => {
            if value == plain {
                None
            } else {
                differs()
            }
        }
    }
}

fn unlike_members(object: &Map<String, Value>, members: &Map<String, Value>, at: &str) -> Option<String> {
    members.iter().find_map(|(key, pattern)| match (object.get(key), pattern.as_str()) {
        (None, Some("<absent>")) => None,
        (Some(value), Some("<absent>")) => Some(format!("{at}.{key} is there: {value}")),
        (None, _) => Some(format!("{at} has no {key:?}: {}", shortened(&Value::Object(object.clone())))),
        (Some(value), _) => unlike(value, pattern, &format!("{at}.{key}")),
    })
}

fn fits_placeholder(value: &Value, kind: &str) -> bool {
    match kind {
        "any" => true,
        "text" => value.is_string(),
        "number" => value.is_number(),
        "whole" => value.is_i64() || value.is_u64(),
        "bool" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        _ => match kind.strip_prefix("has ") {
            Some(words) => value.as_str().is_some_and(|text| text.contains(words)),
            None => false,
        },
    }
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(600).collect()
}

/// A text with `{name}` replaced by what was kept under the name.
pub(crate) fn filled(text: &str, kept: &BTreeMap<String, String>) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// The same for every text and every key in a value.
pub(crate) fn filled_value(value: &Value, kept: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => json!(filled(text, kept)),
        Value::Array(items) => items.iter().map(|item| filled_value(item, kept)).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, item)| (filled(key, kept), filled_value(item, kept))).collect()
        }
        other => other.clone(),
    }
}

/// An answer, an event or a history entry with what differs from run to run taken out, as the goldens have it.
pub(crate) fn normalised(value: &Value, prompt_id: Option<&str>) -> Value {
    without_chance(value, prompt_id, "")
}

fn without_chance(value: &Value, prompt_id: Option<&str>, key: &str) -> Value {
    match value {
        _ if key == "traceback" => json!([]),
        _ if matches!(key, "timestamp" | "create_time") => json!(0),
        Value::String(text) if Some(text.as_str()) == prompt_id => json!("<prompt_id>"),
        Value::String(text) => json!(without_counters(text)),
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| without_chance(item, prompt_id, "")).collect();
            if let [kind @ Value::Array(_), options @ ..] = &items[..] {
                // A choice in the older of its two forms, where the newer has a name and the choices among the options.
                if options.iter().all(Value::is_object) && options.len() <= 1 {
                    let mut options = options.first().and_then(Value::as_object).cloned().unwrap_or_default();
                    options.insert("options".to_owned(), kind.clone());
                    items = vec![json!("COMBO"), Value::Object(options)];
                }
            }
            if UNORDERED.contains(&key) {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "tooltip" | "multiselect"))
            .map(|(key, item)| (key.clone(), without_chance(item, prompt_id, key)))
            .collect(),
        other => other.clone(),
    }
}

/// `a_00012_.png` as `a_<counter>_.png`, `_temp_abcde_` as `_temp_<letters>_`.
fn without_counters(text: &str) -> String {
    let Some(stem) = text.strip_suffix("_.png") else { return text.to_owned() };
    let Some((stem, counter)) = stem.rsplit_once('_') else { return text.to_owned() };
    if counter.len() < 5 || !counter.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let stem = match stem.rsplit_once("_temp_") {
        Some((before, letters)) if letters.len() == 5 => format!("{before}_temp_<letters>"),
        _ => stem.to_owned(),
    };
    format!("{stem}_<counter>_.png")
}

/// The first difference between two normalised values.
pub(crate) fn difference(ours: &Value, peer: &Value, at: &str) -> Option<String> {
    match (ours, peer) {
        (Value::Object(a), Value::Object(b)) => {
            if let Some(key) = a.keys().find(|key| !b.contains_key(*key)) {
                return Some(format!("{at}.{key} is only ours: {}", shortened(&a[key])));
            }
            b.iter().find_map(|(key, peer)| match a.get(key) {
                Some(ours) => difference(ours, peer, &format!("{at}.{key}")),
                None => Some(format!("{at}.{key} is only the peer's: {}", shortened(peer))),
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.into_iter().find_map(|(index, (ours, peer))| difference(ours, peer, &format!("{at}[{index}]")))
        }
        _ if ours == peer => None,
        _ => Some(format!("{at}\n      ours {}\n      peer {}", shortened(ours), shortened(peer))),
    }
}

#[test]
fn patterns_say_what_differs() {
    let value = json!({"a": [1, "two words", {"b": true}], "c": null});
    let like = |pattern: Value| unlike(&value, &pattern, "it");
    assert_eq!(like(json!({"a": ["<whole>", "<has two>", {"b": "<bool>"}], "d": "<absent>"})), None);
    assert_eq!(like(json!({"a": {"<some>": ["<text>", 1.0]}})), None);
    assert_eq!(like(json!({"a": {"<each>": "<any>"}, "c": null})), None);
    assert!(like(json!({"a": "<text>"})).is_some());
    assert!(like(json!({"a": []})).is_some());
    assert!(like(json!({"c": "<absent>"})).is_some());
    assert!(like(json!({"<exact>": {"a": "<any>"}})).is_some());
    assert!(like(json!({"e": "<any>"})).is_some());
}

#[test]
fn counters_and_letters_differ_by_chance() {
    assert_eq!(without_counters("ComfyUI_temp_abcde_00001_.png"), "ComfyUI_temp_<letters>_<counter>_.png");
    assert_eq!(without_counters("a_b_00012_.png"), "a_b_<counter>_.png");
    assert_eq!(without_counters("plain.png"), "plain.png");
}
