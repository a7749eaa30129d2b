//! What the derives make, as clients will see it.
#![allow(clippy::unwrap_used, dead_code)]

use serde_json::{Value as Json, json};
use vivarium_node::definition::{ChoicesFrom, NodeDefinition, OutputDefinition, Section, Validator};
use vivarium_node::prelude::*;
use vivarium_node::{Inputs, NodeEntry, Rest};

#[derive(Choice, Debug, PartialEq)]
enum Mode {
    Normal,
    SoftLight,
    #[choice("nearest-exact")]
    NearestExact,
}

const LARGEST: i64 = 4096;

/// Does everything
/// at once.
///
/// A second paragraph.
#[derive(Node)]
#[node(
    category = "example",
    name = "Everything",
    display_name = "All of it",
    output_names("picture", "count"),
    output_tooltips("The picture.", "How many."),
    output_node,
    experimental,
    validate(image, kind),
    validate_types,
    fingerprint,
    needed_inputs
)]
struct EverythingNode {
    image: Lazy<Image>,
    /// In pixels.
    #[input(default = 512, min = 1, max = LARGEST, step = 8, display = "slider")]
    width: u32,
    #[input(default = 0.5, min = 0.0, max = 1.0, step = 0.01, round = 0.001)]
    strength: f64,
    #[input(default = "soft_light")]
    mode: Mode,
    #[input(default = "a cat", multiline, dynamic_prompts, option("spellcheck", false))]
    text: String,
    #[input(name = "type", choices("a", "b"))]
    kind: String,
    #[input(choices_from = "models/vae")]
    vae_name: String,
    #[input(type = "MODEL")]
    model: Object,
    #[input(force_input)]
    seed: Option<u64>,
    #[input(optional, default = true)]
    flag: bool,
    anything: Option<Value>,
    #[input(raw_link)]
    link: Option<Json>,
    #[input(hidden = "UNIQUE_ID")]
    id: Option<String>,
    #[input(rest)]
    more: Rest,
}

impl Run for EverythingNode {
    type Output = WithUi<(Image, Vec<i64>)>;

    fn run(self) -> Result<Self::Output> {
        Ok(Ui::text("done").with((self.image.get()?, vec![1])))
    }
}

impl Validate for EverythingNode {
    fn validate(_: &Constants) -> Result<Vec<Finding>> {
        Ok(vec![Finding::on("image", "no")])
    }
}

impl Fingerprint for EverythingNode {
    fn fingerprint(_: &Constants) -> Result<Change> {
        Ok(Change::Always)
    }
}

impl NeededInputs for EverythingNode {
    fn needed_inputs(&self) -> Result<Vec<&'static str>> {
        Ok(vec!["image"])
    }
}

fn everything() -> NodeDefinition {
    EverythingNode::definition()
}

fn options(name: &str) -> Json {
    everything().input(name).unwrap().options.clone().into()
}

#[test]
fn the_class_is_described_by_its_attribute_and_comment() {
    let node = everything();
    assert_eq!((node.class_type.as_str(), node.display_name.as_str()), ("Everything", "All of it"));
    assert_eq!(node.description, "Does everything at once.\nA second paragraph.");
    assert_eq!(node.category, "example");
    assert!(node.output_node && node.experimental && !node.deprecated && !node.input_is_list);
    assert!(node.has_fingerprint && node.has_needed_inputs && node.accepts_undeclared);
    let validator = Validator { inputs: vec!["image".into(), "type".into()], all_inputs: false, input_types: true };
    assert_eq!(node.validator, Some(validator));
}

#[test]
fn inputs_are_declared_in_the_order_of_the_fields() {
    let node = everything();
    let inputs: Vec<_> =
        node.inputs.iter().map(|input| (input.name.as_str(), input.input_type.as_str(), input.section)).collect();
    use Section::{Hidden, Optional, Required};
    let expected = [
        ("image", "IMAGE", Required),
        ("width", "INT", Required),
        ("strength", "FLOAT", Required),
        ("mode", "COMBO", Required),
        ("text", "STRING", Required),
        ("type", "COMBO", Required),
        ("vae_name", "COMBO", Required),
        ("model", "MODEL", Required),
        ("seed", "INT", Optional),
        ("flag", "BOOLEAN", Optional),
        ("anything", "*", Optional),
        ("link", "*", Optional),
        ("id", "UNIQUE_ID", Hidden),
    ];
    assert_eq!(inputs, expected);
}

#[test]
fn options_are_written_as_comfyui_names_them() {
    assert_eq!(options("image"), json!({"lazy": true}));
    let width = r#"{"default":512,"min":1,"max":4096,"step":8,"display":"slider","tooltip":"In pixels."}"#;
    assert_eq!(options("width").to_string(), width);
    assert_eq!(options("strength").to_string(), r#"{"default":0.5,"min":0.0,"max":1.0,"step":0.01,"round":0.001}"#);
    let text = json!({"default": "a cat", "multiline": true, "dynamicPrompts": true, "spellcheck": false});
    assert_eq!(options("text"), text);
    assert_eq!(options("seed"), json!({"forceInput": true}));
    assert_eq!(options("link"), json!({"rawLink": true}));
}

#[test]
fn choices_come_from_an_enum_a_list_or_the_host() {
    let node = everything();
    assert_eq!(node.input("mode").unwrap().choices, ["normal", "soft_light", "nearest-exact"]);
    assert_eq!(node.input("type").unwrap().choices, ["a", "b"]);
    assert_eq!(node.input("vae_name").unwrap().choices_from, Some(ChoicesFrom::Models("vae".into())));
    assert_eq!(Mode::from_value(Value::String("nearest-exact".into())).unwrap(), Mode::NearestExact);
    let error = Mode::from_value(Value::String("x".into())).unwrap_err();
    assert_eq!(error.message, "`x` is none of normal, soft_light, nearest-exact");
}

#[test]
fn outputs_take_their_types_from_run_and_their_names_from_the_attribute() {
    let output = |name: &str, output_type: &str, is_list, tooltip: &str| OutputDefinition {
        name: name.into(),
        output_type: output_type.into(),
        is_list,
        tooltip: Some(tooltip.into()),
    };
    let expected = [output("picture", "IMAGE", false, "The picture."), output("count", "INT", true, "How many.")];
    assert_eq!(everything().outputs, expected);
}

/// Takes lists.
#[derive(Node)]
#[node(category = "example", input_is_list)]
struct Join {
    texts: Vec<String>,
    separator: Option<Vec<String>>,
}

impl Run for Join {
    type Output = String;

    fn run(self) -> Result<String> {
        let separator = self.separator.and_then(|separator| separator.into_iter().next()).unwrap_or_default();
        Ok(self.texts.join(&separator))
    }
}

#[test]
fn a_node_of_plain_values_runs_without_a_host() {
    let mut inputs = Inputs::from_value(Value::from(json!({"texts": ["a", "b"], "separator": ["-"]}))).unwrap();
    assert_eq!(Join::from_inputs(&mut inputs).unwrap().run().unwrap(), "a-b");
    let node = Join::definition();
    assert!(node.input_is_list);
    assert_eq!(node.input("separator").unwrap().section, Section::Optional);
}

#[derive(ValueType, Debug, PartialEq)]
#[value_type("COUNTER")]
struct Counter {
    total: i64,
    names: Vec<String>,
    limit: Option<f64>,
}

#[test]
fn a_struct_becomes_a_value_and_back() {
    let counter = Counter { total: 3, names: vec!["a".into()], limit: None };
    let value = counter.into_value().unwrap();
    assert_eq!(value.clone().into_json().unwrap(), json!({"total": 3, "names": ["a"], "limit": null}));
    let read = Counter::from_value(value).unwrap();
    assert_eq!(read, Counter { total: 3, names: vec!["a".into()], limit: None });
    let error = Counter::from_value(Value::from(json!({"total": "x"}))).unwrap_err();
    assert_eq!(error.message, "total of COUNTER: expected a whole number, got a text");
    assert_eq!(Counter::from_value(Value::Null).unwrap_err().message, "expected a value COUNTER, got nothing");
}

vivarium_node::pack! {
    name: "example",
    version: "1.2.3",
    publisher: "Somebody",
    description: "For this test.",
    permissions: [("models/vae", "to decode")],
    nodes: [EverythingNode, Join],
}

#[test]
fn a_pack_describes_its_nodes_as_json_that_the_host_reads() {
    let definition = PACK.definition();
    assert_eq!(definition.check(), Ok(()));
    assert_eq!(definition.permissions[0].permission, "models/vae");
    let read: vivarium_node::definition::PackDefinition = serde_json::from_str(&PACK.describe()).unwrap();
    assert_eq!(read, definition);
    let _: NodeEntry = NodeEntry::of::<Join>();
}
