#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refused(body: Value) -> PromptError {
    PromptRequest::from_json(&body).unwrap_err()
}

#[test]
fn a_full_request_is_read() {
    let request = PromptRequest::from_json(&json!({
        "prompt": {"1": {"class_type": "A", "inputs": {}}},
        "prompt_id": "p", "client_id": "c", "number": "2.5", "front": 1, "partial_execution_targets": ["1"],
        "extra_data": {"extra_pnginfo": {"workflow": {}}, "client_id": "old"}, "unknown": [],
    }))
    .unwrap();
    assert_eq!(request.prompt_id.as_deref(), Some("p"));
    assert_eq!(request.client_id.as_deref(), Some("c"));
    assert_eq!(request.extra_data["client_id"], "c");
    assert_eq!(request.number, Some(2.5));
    assert!(request.front);
    assert_eq!(request.partial_execution_targets, Some(vec!["1".to_owned()]));
}

#[test]
fn everything_but_the_prompt_may_be_absent_or_null() {
    let bare = PromptRequest::from_bytes(br#"{"prompt": {}}"#).unwrap();
    let nulls = PromptRequest::from_json(&json!({
        "prompt": {}, "prompt_id": null, "client_id": null, "extra_data": null, "front": null,
        "partial_execution_targets": null,
    }));
    assert_eq!(nulls.unwrap(), bare);
    assert_eq!(bare.number, None);
    let inherited = PromptRequest::from_json(&json!({"prompt": {}, "extra_data": {"client_id": "x"}})).unwrap();
    assert_eq!(inherited.client_id.as_deref(), Some("x"));
    let numeric = PromptRequest::from_json(&json!({"prompt": {}, "prompt_id": 7})).unwrap();
    assert_eq!(numeric.prompt_id.as_deref(), Some("7"));
}

#[test]
fn what_has_no_prompt_gets_the_known_error() {
    for body in [json!({}), json!([]), json!("prompt"), json!({"client_id": "x"})] {
        let error = refused(body);
        assert_eq!((error.r#type.as_str(), error.message.as_str()), ("no_prompt", "No prompt provided"));
        assert_eq!(error.details, "No prompt provided");
    }
}

#[test]
fn wrong_shapes_say_what_to_send() {
    for (body, r#type, details) in [
        (json!(null), "invalid_request", "request body must be an object with a \"prompt\", not null"),
        (
            json!({"prompt": []}),
            "invalid_prompt",
            "prompt must be an object from node id to {\"class_type\", \"inputs\"} (the API format of a workflow), not an array",
        ),
        (json!({"prompt": {}, "number": null}), "invalid_request", "number must be a number, not null"),
        (json!({"prompt": {}, "number": "nan"}), "invalid_request", "number must be finite, not 'nan'"),
        (json!({"prompt": {}, "extra_data": 3}), "invalid_request", "extra_data must be an object, not a number"),
        (json!({"prompt": {}, "client_id": []}), "invalid_request", "client_id must be a string, not an array"),
        (
            json!({"prompt": {}, "partial_execution_targets": [1]}),
            "invalid_request",
            "partial_execution_targets must be null or an array of node ids (strings), not a number",
        ),
        (
            json!({"prompt": {}, "prompt_id": "x".repeat(513)}),
            "request_too_large",
            "prompt_id has 513 bytes; at most 512 are allowed",
        ),
    ] {
        let error = refused(body);
        assert_eq!((error.r#type.as_str(), error.details.as_str()), (r#type, details));
    }
    let error = PromptRequest::from_bytes(b"{\"prompt\": ").unwrap_err();
    assert_eq!(error.r#type, "invalid_json");
    assert_eq!(error.details, "EOF while parsing a value at line 1 column 11");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    assert_eq!(refused(json!({"prompt": {"1": deep}})).r#type, "request_too_large");
    let bytes = format!("{{\"prompt\": {}", "[".repeat(1_000_000));
    assert_eq!(PromptRequest::from_bytes(bytes.as_bytes()).unwrap_err().r#type, "invalid_json");
    assert!(check_depth(&json!([[1]]), 2).is_ok());
    assert!(check_depth(&json!([[1]]), 1).is_err());
    assert!(check_depth(&json!(1), 0).is_ok());
}

#[test]
fn links_are_told_from_constants() {
    assert_eq!(as_link(&json!(["4", 1])), Some(Link { node: "4".to_owned(), slot: 1 }));
    assert_eq!(as_link(&json!(["4", -1])).unwrap().to_value(), json!(["4", -1]));
    for constant in [json!([4, 1]), json!(["4", 1.0]), json!(["4"]), json!(["4", 1, 2]), json!("4"), json!(["4", true])]
    {
        assert_eq!(as_link(&constant), None, "{constant}");
    }
}

#[test]
fn a_node_keeps_what_it_does_not_know() {
    let posted =
        json!({"inputs": {"b": 1, "a": ["1", 0]}, "class_type": "A", "_meta": {"title": "T"}, "is_changed": [1]});
    let node: PromptNode = serde_json::from_value(posted.clone()).unwrap();
    assert_eq!(node.other["is_changed"], json!([1]));
    assert_eq!(serde_json::to_string(&node).unwrap(), posted.to_string());
}

/// Any JSON, biased towards the keys that mean something.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths: serde_json reads some long fractions back one digit off.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        "[a-c0-9.]{0,3}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("prompt"),
        Just("prompt_id"),
        Just("client_id"),
        Just("number"),
        Just("front"),
        Just("extra_data"),
        Just("partial_execution_targets"),
        Just("class_type"),
        Just("inputs"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused_but_never_panics(body in any_json()) {
        let parsed = PromptRequest::from_json(&body);
        prop_assert_eq!(&parsed, &PromptRequest::from_bytes(body.to_string().as_bytes()));
        match parsed {
            Ok(request) => {
                prop_assert!(request.prompt.is_object());
                prop_assert!(request.number.is_none_or(f64::is_finite));
            }
            Err(error) => prop_assert!(!error.message.is_empty() && !error.details.is_empty()),
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PromptRequest::from_bytes(&body);
    }
}
