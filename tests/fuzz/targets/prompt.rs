//! A body of `POST /prompt`: parsed, validated, its keys computed, planned to its end. Every class of the prompt exists, with
//! the same inputs of every kind, so that recorded prompts get past the look-up of classes.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use vivarium_graph::{
    CacheKeys, Definitions, DynamicPrompt, ExecutionList, Fingerprints, GraphLimits, Lookup, NoHook, Step, validate,
};
use vivarium_protocol::definition::{InputDefinition, NodeDefinition};

struct EveryClass {
    plain: NodeDefinition,
    output: NodeDefinition,
}

static CLASSES: LazyLock<EveryClass> = LazyLock::new(|| {
    let input = |name: &str, kind: &str, options: Value| json!({"name": name, "type": kind, "section": "optional", "options": options});
    let definition = |output: bool| {
        let value = json!({
            "class_type": "Any", "display_name": "", "category": "", "output_node": output,
            "accepts_undeclared": true, "has_fingerprint": true, "has_needed_inputs": true,
            "outputs": [{"name": "a", "type": "IMAGE"}, {"name": "b", "type": "*"}],
            "inputs": [
                input("image", "IMAGE", json!({})), input("images", "IMAGE,MASK", json!({})),
                input("image1", "IMAGE", json!({"lazy": true})), input("value", "FLOAT", json!({"min": 0.0, "max": 1.0})),
                input("width", "INT", json!({"min": 1, "max": 68719476736_i64})), input("a", "INT", json!({})),
                input("text", "STRING", json!({})), input("block", "BOOLEAN", json!({})),
                input("filename_prefix", "STRING", json!({})), input("value1", "*", json!({})),
                {"name": "content", "type": "COMBO", "section": "optional", "choices": ["WHITE", "BLACK", 3]},
            ],
        });
        serde_json::from_value(value).expect("a definition")
    };
    EveryClass { plain: definition(false), output: definition(true) }
});

impl Definitions for EveryClass {
    fn get(&self, class: &str) -> Option<&NodeDefinition> {
        Some(if class.ends_with("Image") || class.ends_with("Output") { &self.output } else { &self.plain })
    }

    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>> {
        (input.input_type == "COMBO").then(|| input.choices.clone())
    }
}

impl Fingerprints for EveryClass {
    fn class_signature(&self, class: &str) -> Vec<u8> {
        class.as_bytes().to_vec()
    }

    fn fingerprint(&self, _: &str, _: &str, constants: &Map<String, Value>) -> Option<Value> {
        constants.values().next().cloned()
    }
}

fuzz_target!(|body: &[u8]| {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
    let prompt = body.get("prompt").unwrap_or(&body);
    let classes: &EveryClass = &CLASSES;
    let Ok(validated) = validate(prompt.clone(), None, classes, &NoHook, &GraphLimits::default()) else { return };
    let prompt = DynamicPrompt::new(
        serde_json::from_value(validated.json).expect("a valid prompt reads as one"),
        &GraphLimits { max_ephemeral_nodes: FUZZ_EPHEMERAL, ..GraphLimits::default() },
    );
    let keys = CacheKeys::compute(&prompt, classes, classes);
    let is_cached = |id: &str| keys.get(id).is_some_and(|key| key[0] < 16);
    let lookup = Lookup { prompt: &prompt, definitions: classes, is_cached: &is_cached };
    let mut list = ExecutionList::new();
    for output in &validated.outputs {
        if list.add_node(output, &lookup).is_err() {
            return;
        }
    }
    let mut picked = 0;
    while let Step::Run(id) = list.stage_next(&prompt) {
        picked += 1;
        assert!(picked <= 2 * prompt.original().len() + 1, "nodes run again and again");
        let asks = prompt.get(&id).is_some_and(|node| node.inputs.contains_key("image1"));
        // Once per node at most: the first time its lazy input is wanted.
        if asks
            && picked <= prompt.original().len()
            && list.need_input(&id, "image1", &lookup).is_ok()
            && picked % 2 == 0
        {
            list.unstage(&id);
        } else {
            list.complete(&id);
        }
    }
});

const FUZZ_EPHEMERAL: usize = 0;
