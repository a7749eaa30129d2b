#![allow(clippy::unwrap_used)]
use std::time::Instant;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{chain, definitions, prompt_json};
use vivarium_protocol::prompt::Prompt;

/// A validator that refuses files other than `x.png` and raises for `raise`.
struct Files;

impl ValidateHook for Files {
    fn validate(
        &self,
        _: &str,
        class: &str,
        constants: &Map<String, Value>,
        input_types: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError> {
        if class == "Typed" {
            let received = input_types["image"].as_str().unwrap_or_default();
            return Ok(if received == "MASK" { vec![(None, "no masks".to_owned())] } else { Vec::new() });
        }
        assert_eq!(class, "Load");
        assert!(!constants.contains_key("n"));
        Ok(match constants.get("file").and_then(Value::as_str) {
            Some("x.png") => Vec::new(),
            Some("raise") => {
                return Err(HookError { exception_type: "ValueError".to_owned(), message: "boom".to_owned() });
            }
            Some("bare") => vec![(None, String::new())],
            Some(name) => vec![(Some("file".to_owned()), format!("Invalid image file: {name}"))],
            None => vec![(None, "no file".to_owned())],
        })
    }
}

struct NoFingerprints;

impl crate::Fingerprints for NoFingerprints {
    fn class_signature(&self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn fingerprint(&self, _: &str, _: &str, _: &Map<String, Value>) -> Option<Value> {
        None
    }
}

fn check(prompt: &Value) -> Result<Validated, Invalid> {
    validate(prompt.clone(), None, &definitions(), &Files, &GraphLimits::default())
}

fn check_nodes(nodes: &[(&str, &str, Value)]) -> Result<Validated, Invalid> {
    check(&prompt_json(nodes))
}

/// The errors of the node `x` that an output shows.
fn errors_of_x(class: &str, inputs: Value) -> Value {
    let result = check_nodes(&[
        ("save", "Show", json!({"any": ["x", 0]})),
        ("x", class, inputs),
        ("e", "Empty", json!({"width": 8})),
    ]);
    match result {
        Ok(_) => Value::Null,
        Err(invalid) => {
            assert_eq!(invalid.error.r#type, "prompt_outputs_failed_validation");
            assert_eq!(invalid.error.details, "");
            assert_eq!(invalid.node_errors.keys().collect::<Vec<_>>(), ["x"]);
            assert_eq!(invalid.node_errors["x"].dependent_outputs, ["save"]);
            serde_json::to_value(&invalid.node_errors["x"].errors).unwrap()
        }
    }
}

#[test]
fn a_good_prompt_is_converted_in_place() {
    let posted = json!({
        "2": {"inputs": {"text": null, "width": "8", "any": {"__value__": [1, 2]}, "unknown": "1"}, "class_type": "Empty", "_meta": {"title": "T"}},
        "1": {"class_type": "Save", "inputs": {"images": ["2", 0]}},
    });
    let validated = check(&posted).unwrap();
    assert_eq!(
        validated.json.to_string(),
        r#"{"2":{"inputs":{"text":"None","width":8,"any":[1,2],"unknown":"1"},"class_type":"Empty","_meta":{"title":"T"}},"1":{"class_type":"Save","inputs":{"images":["2",0]}}}"#
    );
    assert_eq!(validated.json["2"]["inputs"]["width"], 8);
    assert_eq!(validated.json["2"]["_meta"], json!({"title": "T"}));
    assert_eq!(validated.outputs, ["1"]);
    assert!(validated.node_errors.is_empty());
}

#[test]
fn shapes_and_classes_are_checked_first_even_of_unused_nodes() {
    for (node, message) in [
        (json!({"inputs": {}}), "Cannot execute because a node is missing the class_type property."),
        (json!({"class_type": "Nope"}), "Cannot execute because node Nope does not exist."),
        (json!({"class_type": ["Nope"]}), "Cannot execute because node ['Nope'] does not exist."),
        (json!(7), "Cannot execute because a node is a number and not an object."),
        (
            json!({"class_type": "Empty", "inputs": []}),
            "Cannot execute because the inputs of a node are an array and not an object.",
        ),
    ] {
        let mut prompt = chain(1);
        prompt["z"] = node;
        let invalid = check(&prompt).unwrap_err();
        assert_eq!((invalid.error.r#type.as_str(), invalid.error.message.as_str()), ("invalid_prompt", message));
        assert_eq!(invalid.error.details, "Node ID '#z'");
        assert!(invalid.node_errors.is_empty());
    }
    assert_eq!(
        check(&json!([])).unwrap_err().error.details,
        "prompt must be an object from node id to node, not an array"
    );
}

#[test]
fn without_outputs_there_is_nothing_to_do() {
    let prompt = prompt_json(&[("e", "Empty", json!({})), ("s", "Save", json!({"images": ["e", 0]}))]);
    for targets in [vec![], vec!["e".to_owned()], vec!["unknown".to_owned()]] {
        let invalid =
            validate(prompt.clone(), Some(&targets), &definitions(), &Files, &GraphLimits::default()).unwrap_err();
        assert_eq!(invalid.error, PromptError::new("prompt_no_outputs", "Prompt has no outputs", ""));
    }
    assert_eq!(check(&json!({})).unwrap_err().error.r#type, "prompt_no_outputs");
}

#[test]
fn only_targets_are_checked() {
    let prompt = prompt_json(&[
        ("good", "Show", json!({"any": 1})),
        ("bad", "Save", json!({})),
        ("also", "Show", json!({"any": 1})),
    ]);
    let targets = ["also".to_owned(), "good".to_owned()];
    let validated = validate(prompt.clone(), Some(&targets), &definitions(), &Files, &GraphLimits::default()).unwrap();
    assert_eq!(validated.outputs, ["good", "also"]);
    assert!(validated.node_errors.is_empty());
}

#[test]
fn errors_have_comfyuis_shapes() {
    let config = json!(["INT", {"default": 512, "min": 1, "max": 16384}]);
    assert_eq!(
        errors_of_x("Empty", json!({"width": 0})),
        json!([{
            "type": "value_smaller_than_min", "message": "Value 0 smaller than min of 1", "details": "width",
            "extra_info": {"input_name": "width", "input_config": config, "received_value": 0},
        }])
    );
    assert_eq!(
        errors_of_x("Empty", json!({"width": "wide", "scale": "1.5", "mode": "c"})),
        json!([
            {
                "type": "invalid_input_type", "message": "Failed to convert an input value to a INT value",
                "details": "width, wide, invalid literal for int() with base 10: 'wide'",
                "extra_info": {
                    "input_name": "width", "input_config": config, "received_value": "wide",
                    "exception_message": "invalid literal for int() with base 10: 'wide'",
                },
            },
            {
                "type": "value_bigger_than_max", "message": "Value 1.5 bigger than max of 1.0", "details": "scale",
                "extra_info": {"input_name": "scale", "input_config": ["FLOAT", {"min": 0.0, "max": 1.0}], "received_value": 1.5},
            },
            {
                "type": "value_not_in_list", "message": "Value not in list", "details": "mode: 'c' not in ['a', 'b', 3]",
                "extra_info": {"input_name": "mode", "input_config": [["a", "b", 3], {}], "received_value": "c"},
            },
        ])
    );
    assert_eq!(
        errors_of_x("Invert", json!({"image": ["e", 1]})),
        json!([{
            "type": "return_type_mismatch", "message": "Return type mismatch between linked nodes",
            "details": "image, received_type(MASK) mismatch input_type(IMAGE)",
            "extra_info": {"input_name": "image", "input_config": ["IMAGE", {}], "received_type": "MASK", "linked_node": ["e", 1]},
        }])
    );
    assert_eq!(
        errors_of_x("Blend", json!({"image": ["e"]})),
        json!([
            {
                "type": "bad_linked_input",
                "message": "Bad linked input, must be a length-2 list of [node_id, slot_index]", "details": "image",
                "extra_info": {"input_name": "image", "input_config": ["IMAGE", {}], "received_value": ["e"]},
            },
            {
                "type": "required_input_missing", "message": "Required input is missing", "details": "image2",
                "extra_info": {"input_name": "image2"},
            },
        ])
    );
    assert_eq!(errors_of_x("Blend", json!({"image": ["e", 0], "image2": ["e", -1]})), Value::Null);
    assert_eq!(errors_of_x("Empty", json!({"width": 8, "mode": 3.0, "flag": "false"})), Value::Null);
}

#[test]
fn exceptions_end_the_node_and_are_told_by_its_reader() {
    for (link, exception_type, message, explanation) in [
        (
            json!(["77", 0]),
            "KeyError",
            "'77'",
            "Input 'image' of node 'x' links to node '77', which is not in the prompt.",
        ),
        (json!([1, 0]), "KeyError", "1", "Input 'image' of node 'x' links to node 1, which is not in the prompt."),
        (
            json!([[], 0]),
            "TypeError",
            "unhashable type: 'list'",
            "Input 'image' of node 'x' links to node [], which is not in the prompt.",
        ),
        (
            json!(["e", 2]),
            "IndexError",
            "tuple index out of range",
            "Input 'image' of node 'x' links to output 2 of node 'e', which has 2 outputs.",
        ),
        (
            json!(["e", 0.0]),
            "TypeError",
            "tuple indices must be integers or slices, not float",
            "Input 'image' of node 'x' links to output 0.0 of node 'e', which has 2 outputs.",
        ),
    ] {
        assert_eq!(
            errors_of_x("Blend", json!({"image": link})),
            json!([{
                "type": "exception_during_inner_validation", "message": "Exception when validating inner node",
                "details": message,
                "extra_info": {
                    "input_name": "any", "input_config": ["*", {}], "exception_message": message,
                    "exception_type": exception_type, "traceback": [explanation], "linked_node": ["x", 0],
                },
            }])
        );
    }
    let invalid = check_nodes(&[("save", "Save", json!({"images": ["77", 0]}))]).unwrap_err();
    assert_eq!(invalid.error.details, "Exception when validating node: '77'");
    let error = &invalid.node_errors["save"].errors[0];
    assert_eq!(error.r#type, "exception_during_validation");
    assert_eq!(error.extra_info["exception_type"], "KeyError");
    let mut without_inputs = chain(1);
    without_inputs["0"] = json!({"class_type": "Empty"});
    let invalid = check(&without_inputs).unwrap_err();
    assert_eq!(invalid.node_errors["0"].errors[0].details, "'inputs'");
}

#[test]
fn good_outputs_run_though_others_are_bad() {
    let validated = check_nodes(&[
        ("1", "Empty", json!({"width": 0})),
        ("2", "Empty", json!({"width": 1})),
        ("bad", "Save", json!({"images": ["1", 0]})),
        ("good", "Save", json!({"images": ["2", 0]})),
        ("worse", "Save", json!({})),
    ])
    .unwrap();
    assert_eq!(validated.outputs, ["good"]);
    assert_eq!(validated.node_errors.keys().collect::<Vec<_>>(), ["1", "worse"]);
    assert_eq!(validated.node_errors["1"].dependent_outputs, ["bad", "worse"]);
    assert_eq!(validated.node_errors["worse"].dependent_outputs, ["worse"]);
}

#[test]
fn the_details_list_only_errors_of_output_nodes() {
    let invalid = check_nodes(&[
        ("1", "Empty", json!({})),
        ("a", "Save", json!({"images": ["1", 0]})),
        ("b", "Save", json!({})),
        ("c", "Save", json!({"images": ["1", 1]})),
    ])
    .unwrap_err();
    assert_eq!(
        invalid.error.details,
        "Required input is missing: images\nReturn type mismatch between linked nodes: images, received_type(MASK) mismatch input_type(IMAGE)"
    );
}

#[test]
fn validators_of_classes_are_asked_about_their_inputs() {
    assert_eq!(errors_of_x("Load", json!({"file": "x.png"})), Value::Null);
    let expected = |details: &str| {
        json!([{
            "type": "custom_validation_failed", "message": "Custom validation failed for node", "details": details,
            "extra_info": {"input_name": "file"},
        }])
    };
    assert_eq!(errors_of_x("Load", json!({"file": "y.png"})), expected("file - Invalid image file: y.png"));
    assert_eq!(errors_of_x("Load", json!({"file": "bare"})), expected("file"));
    assert_eq!(errors_of_x("Load", json!({"file": "x.png", "n": 6}))[0]["type"], "value_bigger_than_max");
    let raised = errors_of_x("Load", json!({"file": "raise"}));
    assert_eq!(raised[0]["type"], "exception_during_inner_validation");
    assert_eq!(raised[0]["extra_info"]["exception_type"], "ValueError");
    assert_eq!(errors_of_x("Load", json!({}))[0]["type"], "required_input_missing");

    let of_output =
        |slot: i64| check_nodes(&[("e", "Empty", json!({"width": 8})), ("t", "Typed", json!({"image": ["e", slot]}))]);
    assert!(of_output(0).is_ok());
    assert_eq!(of_output(1).unwrap_err().error.details, "Custom validation failed for node: no masks");
}

#[test]
fn links_of_undeclared_inputs_count_for_variadic_classes_only() {
    assert_eq!(errors_of_x("Invert", json!({"image": ["e", 0], "more": ["77", 0]})), Value::Null);
    assert_eq!(
        errors_of_x("Variadic", json!({"a": ["e", 1], "b": 3, "c": [1, 2], "unique_id": ["77", 0]})),
        Value::Null
    );
    assert_eq!(errors_of_x("Variadic", json!({"a": ["77", 1]}))[0]["details"], "'77'");
}

#[test]
fn cycles_are_refused_with_their_path() {
    let invalid = check_nodes(&[
        ("save", "Save", json!({"images": ["a", 0]})),
        ("a", "Invert", json!({"image": ["b", 0]})),
        ("b", "Invert", json!({"image": ["c", 0]})),
        ("c", "Invert", json!({"image": ["b", 0]})),
    ])
    .unwrap_err();
    assert_eq!(invalid.error.r#type, "prompt_outputs_failed_validation");
    assert_eq!(invalid.error.details, "Dependency cycle detected: b <- c <- b");
    assert!(invalid.node_errors.is_empty());

    let unused = check_nodes(&[("save", "Show", json!({"any": 1})), ("a", "Invert", json!({"image": ["a", 0]}))]);
    assert!(unused.unwrap().node_errors.is_empty());

    let mixed = check_nodes(&[
        ("good", "Show", json!({"any": 1})),
        ("bad", "Show", json!({"any": ["a", 0]})),
        ("a", "Invert", json!({"image": ["a", 0]})),
    ])
    .unwrap();
    assert_eq!(mixed.outputs, ["good"]);
    assert_eq!(mixed.node_errors["a"].errors[0].details, "a <- a");
}

#[test]
fn long_chains_and_wide_fans_are_checked_in_linear_time() {
    let start = Instant::now();
    let limits = GraphLimits { max_nodes: 200_000, ..GraphLimits::default() };
    let long = chain(100_000);
    let validated = validate(long.clone(), None, &definitions(), &NoHook, &limits).unwrap();
    assert_eq!(validated.json.as_object().unwrap().len(), 100_002);

    let mut cycle = long;
    cycle["0"] = json!({"class_type": "Invert", "inputs": {"image": ["100000", 0]}});
    let invalid = validate(cycle.clone(), None, &definitions(), &NoHook, &limits).unwrap_err();
    assert!(invalid.error.details.ends_with(" <- … <- 100000"), "{}", invalid.error.details);

    let mut raising = chain(100_000);
    raising["0"]["class_type"] = json!("Invert");
    raising["0"]["inputs"] = json!({"image": ["nowhere", 0]});
    let invalid = validate(raising.clone(), None, &definitions(), &NoHook, &limits).unwrap_err();
    assert_eq!(invalid.node_errors.keys().collect::<Vec<_>>(), ["0"]);

    let bad: Vec<_> =
        (0..50_000).map(|index| (index.to_string(), json!({"class_type": "Save", "inputs": {}}))).collect();
    let bad: Value = bad.into_iter().collect();
    let invalid = validate(bad.clone(), None, &definitions(), &NoHook, &limits).unwrap_err();
    assert_eq!(invalid.node_errors.len(), 1000);
    assert_eq!(invalid.node_errors["999"].dependent_outputs.len(), 100);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn limits_are_named_with_their_value() {
    let limits = GraphLimits { max_nodes: 2, ..GraphLimits::default() };
    let invalid = validate(chain(1), None, &definitions(), &NoHook, &limits).unwrap_err();
    assert_eq!(invalid.error.r#type, "prompt_too_large");
    assert_eq!(
        invalid.error.details,
        "the prompt has 3 nodes; the limit is 2 (max_nodes); split the workflow, or --prompt-nodes raises it"
    );
    let limits = GraphLimits { max_depth: 3, ..GraphLimits::default() };
    let invalid = validate(chain(1), None, &definitions(), &NoHook, &limits).unwrap_err();
    assert_eq!(invalid.error.r#type, "request_too_large");
}

/// Values that inputs of the test classes get, good and bad.
fn any_value() -> impl Strategy<Value = Value> {
    let id = prop_oneof!["[0-9]", Just("nowhere".to_owned())];
    prop_oneof![
        3 => (id, -2_i64..3).prop_map(|(id, slot)| json!([id, slot])),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => proptest::collection::vec(any::<u8>().prop_map(Value::from), 0..4).prop_map(Value::from),
        1 => any::<u8>().prop_map(|value| json!({"__value__": [value, {"x": null}]})),
        1 => Just(json!([{}, "0"])),
    ]
}

fn any_prompt() -> impl Strategy<Value = Value> {
    let class = proptest::sample::select(vec![
        "Empty", "Invert", "Blend", "Save", "Show", "Switch", "Variadic", "Load", "Random",
    ]);
    let name = proptest::sample::select(vec![
        "width", "scale", "text", "flag", "mode", "any", "image", "image2", "images", "a", "b", "which", "file", "n",
        "zzz",
    ]);
    let inputs = proptest::collection::vec((name, any_value()), 0..6);
    proptest::collection::vec((class, inputs), 0..10).prop_map(|nodes| {
        let mut prompt = Map::new();
        for (index, (class, inputs)) in nodes.into_iter().enumerate() {
            let inputs: Map<String, Value> = inputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            prompt.insert(index.to_string(), json!({"class_type": class, "inputs": inputs}));
        }
        Value::Object(prompt)
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), Just(json!("Save")), Just(json!("Empty"))];
    let key = proptest::sample::select(vec!["1", "2", "class_type", "inputs", "images", "width"]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_checked_without_a_panic(prompt in any_json()) {
        let _ = check(&prompt);
    }

    #[test]
    fn what_passes_can_be_scheduled_and_anything_gets_keys(prompt in any_prompt()) {
        let definitions = definitions();
        let limits = GraphLimits::default();
        let typed: Prompt = serde_json::from_value(prompt.clone()).unwrap();
        let posted = crate::DynamicPrompt::new(typed, &GraphLimits::default());
        let keys = crate::CacheKeys::compute(&posted, &definitions, &NoFingerprints);
        prop_assert!(keys.used().count() <= posted.original().len());
        match validate(prompt.clone(), None, &definitions, &NoHook, &limits) {
            Ok(validated) => {
                prop_assert!(!validated.outputs.is_empty());
                let targets = validated.outputs.clone();
                let typed: Prompt = serde_json::from_value(validated.json.clone()).unwrap();
                let dynamic = crate::DynamicPrompt::new(typed, &GraphLimits::default());
                let lookup = crate::Lookup { prompt: &dynamic, definitions: &definitions, is_cached: &|_| false };
                let mut list = crate::ExecutionList::new();
                for output in &targets {
                    list.add_node(output, &lookup).unwrap();
                }
                let mut ran = 0;
                while let crate::Step::Run(id) = list.stage_next(&dynamic) {
                    list.complete(&id);
                    ran += 1;
                }
                prop_assert!(list.is_empty() && ran <= dynamic.original().len());
            }
            Err(invalid) => {
                prop_assert!(!invalid.error.message.is_empty());
                for report in invalid.node_errors.values() {
                    prop_assert!(!report.errors.is_empty() && !report.dependent_outputs.is_empty());
                }
            }
        }
    }
}
