//! Prompts that nobody draws: random JSON, cycles, a hundred thousand nodes. Nothing may panic, and ten times the prompt may
//! cost ten times the work, counted in questions that the crate asks, not in seconds.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use vivarium_protocol::definition::{DefinitionMap, InputDefinition, NodeDefinition};

use crate::testing::{chain, definitions};
use crate::{
    CacheKeys, Definitions, DynamicPrompt, ExecutionList, Fingerprints, GraphLimits, HookError, Lookup, Step,
    ValidateHook, validate,
};

/// Answers every question, and counts them.
struct Counting {
    classes: DefinitionMap,
    asked: Cell<usize>,
}

impl Counting {
    fn new() -> Self {
        Self { classes: definitions(), asked: Cell::new(0) }
    }

    fn count(&self) {
        self.asked.set(self.asked.get() + 1);
    }
}

impl Definitions for Counting {
    fn get(&self, class: &str) -> Option<&NodeDefinition> {
        self.count();
        self.classes.get(class)
    }

    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>> {
        self.count();
        self.classes.choices(input)
    }
}

impl ValidateHook for Counting {
    fn validate(
        &self,
        _: &str,
        _: &str,
        _: &Map<String, Value>,
        _: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError> {
        self.count();
        Ok(Vec::new())
    }
}

impl Fingerprints for Counting {
    fn class_signature(&self, _: &str) -> Vec<u8> {
        self.count();
        Vec::new()
    }

    fn fingerprint(&self, _: &str, _: &str, _: &Map<String, Value>) -> Option<Value> {
        self.count();
        None
    }
}

/// Validates a prompt and, if it is valid, plans it to its end. Answers how many questions that took, and how many nodes
/// were picked.
fn work(prompt: &Value) -> (usize, usize) {
    let counting = Counting::new();
    let Ok(validated) = validate(prompt.clone(), None, &counting, &counting, &GraphLimits::default()) else {
        return (counting.asked.get(), 0);
    };
    let Ok(prompt) = serde_json::from_value(validated.json) else { panic!("a valid prompt reads as one") };
    let prompt = DynamicPrompt::new(prompt, &GraphLimits::default());
    let _keys = CacheKeys::compute(&prompt, &counting, &counting);
    let is_cached = |_: &str| {
        counting.count();
        false
    };
    let lookup = Lookup { prompt: &prompt, definitions: &counting, is_cached: &is_cached };
    let mut list = ExecutionList::new();
    for output in &validated.outputs {
        if list.add_node(output, &lookup).is_err() {
            return (counting.asked.get(), 0);
        }
    }
    let mut picked = 0;
    while let Step::Run(id) = list.stage_next(&prompt) {
        picked += 1;
        list.complete(&id);
    }
    assert!(picked <= prompt.original().len(), "{picked} nodes were picked of {}", prompt.original().len());
    (counting.asked.get(), picked)
}

fn nodes(entries: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Object(entries.collect())
}

fn inverting(index: usize, source: usize) -> (String, Value) {
    (index.to_string(), json!({"class_type": "Invert", "inputs": {"image": [source.to_string(), 0]}}))
}

fn with_ends(body: impl Iterator<Item = (String, Value)>, saved: usize) -> Value {
    let empty = ("0".to_owned(), json!({"class_type": "Empty", "inputs": {"width": 8}}));
    let save = ("save".to_owned(), json!({"class_type": "Save", "inputs": {"images": [saved.to_string(), 0]}}));
    nodes(std::iter::once(save).chain(body).chain(std::iter::once(empty)))
}

/// One input per node of a wide layer.
fn fan_in(size: usize) -> Value {
    let inputs: Map<_, _> = (1..=size).map(|index| (format!("input{index}"), json!([index.to_string(), 0]))).collect();
    let gather = ((size + 1).to_string(), json!({"class_type": "Variadic", "inputs": inputs}));
    with_ends((1..=size).map(|index| inverting(index, 0)).chain([gather]), size + 1)
}

/// One output per node of a wide layer.
fn fan_out(size: usize) -> Value {
    let save = |index: usize| (index.to_string(), json!({"class_type": "Save", "inputs": {"images": ["0", 0]}}));
    with_ends((1..=size).map(save), 0)
}

/// Two ways from every node to the next: two to the power of `size` ways in all.
fn diamonds(size: usize) -> Value {
    let blend = |index: usize| {
        let source = json!([(index - 1).to_string(), 0]);
        (index.to_string(), json!({"class_type": "Blend", "inputs": {"image": source, "image2": source}}))
    };
    with_ends((1..=size).map(blend), size)
}

/// Every node reads the next, the last the first.
fn cycle(size: usize) -> Value {
    with_ends((1..=size).map(|index| inverting(index, index % size + 1)), 1)
}

/// Every node reads itself and is saved.
fn self_links(size: usize) -> Value {
    let own = |index: usize| {
        let inputs = json!({"any": [index.to_string(), 0]});
        (index.to_string(), json!({"class_type": "Show", "inputs": inputs}))
    };
    with_ends((1..=size).map(own), 0)
}

/// Every output fails for the same bad node at the end of one chain.
fn bad_source(size: usize) -> Value {
    let bad = ("1".to_owned(), json!({"class_type": "Invert", "inputs": {}}));
    let show = |index: usize| {
        let inputs = json!({"any": [(index - 1).to_string(), 0]});
        (index.to_string(), json!({"class_type": "Show", "inputs": inputs}))
    };
    with_ends(std::iter::once(bad).chain((2..=size).map(show)), size)
}

type Shape = fn(usize) -> Value;

const SHAPES: [(&str, Shape); 8] = [
    ("chain", chain),
    ("fan-in", fan_in),
    ("fan-out", fan_out),
    ("diamonds", diamonds),
    ("cycle", cycle),
    ("self links", self_links),
    ("bad source", bad_source),
    ("nothing", |_| json!({})),
];

#[test]
fn ten_times_the_prompt_is_ten_times_the_work() {
    for (name, shape) in SHAPES {
        let (small, large) = (work(&shape(900)).0, work(&shape(9_000)).0);
        assert!(large <= 11 * small + 100, "{name}: {small} questions became {large}");
    }
}

#[test]
fn prompts_as_large_as_the_limit_are_planned_to_their_end() {
    // The two ends, and the node that gathers.
    let size = GraphLimits::default().max_nodes - 3;
    for (name, shape) in SHAPES {
        let (_, picked) = work(&shape(size));
        let is_good = matches!(name, "chain" | "fan-in" | "fan-out" | "diamonds");
        assert!(!is_good || picked > size, "{name}: only {picked} of {size} nodes were picked");
    }
}

#[test]
fn values_as_deep_as_the_limit_pass_and_deeper_ones_are_refused() {
    let nested = |depth: usize| -> Value {
        let deep = (0..depth).fold(json!(1), |inner, _| Value::Array(vec![inner]));
        let mut prompt = json!({"1": {"class_type": "Empty", "inputs": {"width": 8}},
                                "2": {"class_type": "Save", "inputs": {"images": ["1", 0]}}});
        prompt["1"]["inputs"]["other"] = deep;
        prompt
    };
    assert_eq!(work(&nested(GraphLimits::default().max_depth - 10)).1, 2);
    assert_eq!(work(&nested(GraphLimits::default().max_depth + 10)).1, 0);
    assert_eq!(work(&nested(5_000)).1, 0);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("1e400")),
        Just(json!({"__value__": [1, {"__value__": 2}]})),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..8_u8).prop_map(|id| id.to_string()),
        1 => Just(String::new()),
        1 => Just("1.0.0.1".to_owned()),
        1 => any::<String>(),
    ]
}

fn any_input() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (any_id(), -2..3_i64).prop_map(|(id, slot)| json!([id, slot])),
        1 => (any_id(), any::<i64>()).prop_map(|(id, slot)| json!([id, slot])),
        1 => (any_id(), any_json()).prop_map(|(id, slot)| json!([id, slot])),
        4 => any_json(),
    ]
}

fn any_prompt() -> impl Strategy<Value = Value> {
    const CLASSES: [&str; 10] =
        ["Empty", "Invert", "Blend", "Save", "Show", "Switch", "Variadic", "Load", "Typed", "Random"];
    const INPUTS: [&str; 14] = [
        "width",
        "scale",
        "text",
        "flag",
        "mode",
        "any",
        "image",
        "image2",
        "images",
        "which",
        "a",
        "file",
        "n",
        "unique_id",
    ];
    let inputs = prop::collection::btree_map(prop::sample::select(&INPUTS[..]), any_input(), 0..6);
    let node = (prop::sample::select(&CLASSES[..]), inputs)
        .prop_map(|(class, inputs)| json!({"class_type": class, "inputs": inputs}));
    let node = prop_oneof![30 => node, 1 => any_json()];
    prop::collection::btree_map(any_id(), node, 0..12).prop_map(|nodes| json!(nodes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_prompt_makes_it_panic(prompt in any_prompt()) {
        work(&prompt);
    }

    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        work(&json);
    }
}
