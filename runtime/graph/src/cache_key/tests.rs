#![allow(clippy::unwrap_used)]
use std::cell::RefCell;
use std::time::Instant;

use serde_json::json;
use vivarium_protocol::prompt::Prompt;

use super::*;
use crate::limits::GraphLimits;
use crate::testing::{chain, definitions, prompt};

/// Answers a fixed fingerprint and remembers who asked.
struct Fixed {
    answer: Option<Value>,
    pack: &'static str,
    asked: RefCell<Vec<(String, Value)>>,
}

impl Fixed {
    fn new(answer: Option<Value>) -> Self {
        Self { answer, pack: "pack 1", asked: RefCell::default() }
    }
}

impl Fingerprints for Fixed {
    fn class_signature(&self, _: &str) -> Vec<u8> {
        self.pack.into()
    }

    fn fingerprint(&self, node_id: &str, _: &str, constants: &Map<String, Value>) -> Option<Value> {
        self.asked.borrow_mut().push((node_id.to_owned(), Value::Object(constants.clone())));
        self.answer.clone()
    }
}

fn keys_with(nodes: Prompt, fingerprints: &Fixed) -> CacheKeys {
    CacheKeys::compute(&DynamicPrompt::new(nodes, &GraphLimits::default()), &definitions(), fingerprints)
}

fn keys(nodes: &[(&str, &str, Value)]) -> CacheKeys {
    keys_with(prompt(nodes), &Fixed::new(Some(json!(1))))
}

fn key(class: &str, inputs: Value) -> CacheKey {
    keys(&[("1", class, inputs)]).get("1").unwrap()
}

#[test]
fn ids_do_not_matter_and_twins_share() {
    let first = keys(&[("1", "Empty", json!({"width": 8})), ("2", "Invert", json!({"image": ["1", 0]}))]);
    let renamed = keys(&[
        ("x", "Invert", json!({"image": ["y", 0]})),
        ("y", "Empty", json!({"width": 8})),
        ("z", "Empty", json!({"width": 8})),
        ("w", "Invert", json!({"image": ["z", 0]})),
    ]);
    assert_eq!(first.get("2"), renamed.get("x"));
    assert_eq!(first.get("2"), renamed.get("w"));
    assert_eq!(renamed.used().count(), 4);
    assert_ne!(first.get("1"), first.get("2"));
}

#[test]
fn anything_that_changes_a_result_changes_the_key() {
    let base = key("Empty", json!({"width": 8}));
    assert_eq!(base, key("Empty", json!({"width": 8.0})));
    assert_eq!(key("Empty", json!({"width": 8, "x": 1})), key("Empty", json!({"x": 1, "width": 8})));
    assert_eq!(key("Empty", json!({"any": {"a": 1, "b": 2}})), key("Empty", json!({"any": {"b": 2, "a": 1}})));
    for other in
        [json!({"width": 9}), json!({"width": "8"}), json!({}), json!({"width": 8, "x": 1}), json!({"height": 8})]
    {
        assert_ne!(base, key("Empty", other));
    }
    assert_ne!(key("Empty", json!({"any": 1})), key("Empty", json!({"any": true})));
    assert_ne!(key("Empty", json!({"any": []})), key("Empty", json!({"any": {}})));
    assert_ne!(key("Empty", json!({"any": ["a", "b"]})), key("Empty", json!({"any": ["ab"]})));
    let slots = keys(&[
        ("1", "Empty", json!({})),
        ("2", "Invert", json!({"image": ["1", 0]})),
        ("3", "Invert", json!({"image": ["1", 1]})),
        ("4", "Show", json!({"image": ["1", 0]})),
    ]);
    assert_ne!(slots.get("2"), slots.get("3"));
    assert_ne!(slots.get("2"), slots.get("4"));
}

#[test]
fn a_new_pack_makes_new_keys() {
    let nodes = || prompt(&[("1", "Empty", json!({}))]);
    let old = keys_with(nodes(), &Fixed::new(None));
    let new = keys_with(nodes(), &Fixed { pack: "pack 2", ..Fixed::new(None) });
    assert_ne!(old.get("1").unwrap(), new.get("1").unwrap());
}

#[test]
fn nodes_that_know_their_id_never_share() {
    let both = keys(&[
        ("1", "Random", json!({})),
        ("2", "Random", json!({})),
        ("3", "Variadic", json!({})),
        ("4", "Variadic", json!({})),
    ]);
    assert_eq!(both.used().collect::<std::collections::HashSet<_>>().len(), 4);
}

#[test]
fn fingerprints_are_asked_once_with_constants_only() {
    let nodes = || {
        prompt(&[
            ("1", "Load", json!({"file": "x.png", "n": ["2", 0], "undeclared": 1})),
            ("2", "Empty", json!({})),
            ("3", "Invert", json!({"image": ["1", 0]})),
            ("4", "Blend", json!({"image": ["1", 0], "image2": ["3", 0]})),
        ])
    };
    let first = Fixed::new(Some(json!("abc")));
    let before = keys_with(nodes(), &first);
    assert_eq!(*first.asked.borrow(), [("1".to_owned(), json!({"file": "x.png"}))]);
    let after = keys_with(nodes(), &Fixed::new(Some(json!("def"))));
    assert_eq!(before.get("2"), after.get("2"));
    for changed in ["1", "3", "4"] {
        assert_ne!(before.get(changed).unwrap(), after.get(changed).unwrap());
    }
    let never = keys_with(nodes(), &Fixed::new(None));
    assert!(never.get("2").is_some());
    for changed in ["1", "3", "4"] {
        assert_eq!(never.get(changed), None);
    }
}

#[test]
fn a_client_may_send_the_fingerprint() {
    let mut nodes = prompt(&[("1", "Load", json!({})), ("2", "Empty", json!({}))]);
    let before = keys_with(nodes.clone(), &Fixed::new(None));
    for node in nodes.values_mut() {
        node.other.insert("is_changed".to_owned(), json!([3]));
    }
    let fixed = Fixed::new(None);
    let sent = keys_with(nodes, &fixed);
    assert!(fixed.asked.borrow().is_empty());
    assert!(sent.get("1").is_some());
    assert_eq!(before.get("2"), sent.get("2"), "a class without the hook ignores it");
}

#[test]
fn missing_nodes_unknown_classes_and_cycles_have_no_key() {
    let broken = keys(&[
        ("1", "Invert", json!({"image": ["77", 0]})),
        ("2", "Nope", json!({})),
        ("3", "Invert", json!({"image": ["2", 0]})),
        ("4", "Invert", json!({"image": ["5", 0]})),
        ("5", "Invert", json!({"image": ["4", 0]})),
        ("6", "Invert", json!({"image": ["5", 0]})),
        ("7", "Invert", json!({"image": ["7", 0]})),
        ("8", "Empty", json!({})),
    ]);
    for id in ["1", "2", "3", "4", "5", "6", "7", "77"] {
        assert_eq!(broken.get(id), None, "{id}");
    }
    assert_eq!(broken.used().count(), 1);
}

#[test]
fn nodes_of_an_expansion_get_keys_too() {
    let mut grown = DynamicPrompt::new(
        prompt(&[("1", "Empty", json!({})), ("2", "Invert", json!({"image": ["1", 0]}))]),
        &GraphLimits::default(),
    );
    let fixed = Fixed::new(None);
    let mut keys = CacheKeys::compute(&grown, &definitions(), &fixed);
    let graph = prompt(&[("a", "Invert", json!({"image": ["b", 0]})), ("b", "Invert", json!({"image": ["1", 0]}))]);
    for id in grown.expand("2", graph).unwrap() {
        keys.add(&id, &grown, &definitions(), &fixed);
    }
    assert_eq!(keys.get("b"), keys.get("2"));
    assert!(keys.get("a").is_some());
}

#[test]
fn a_long_chain_is_cheap() {
    let start = Instant::now();
    let keys = keys_with(serde_json::from_value(chain(100_000)).unwrap(), &Fixed::new(None));
    assert_eq!(keys.used().count(), 100_002);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
