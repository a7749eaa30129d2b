//! What a pack says about itself and its nodes. A pack's `describe` export answers a [`PackDefinition`] as JSON; the host
//! stores it at install and makes ComfyUI's `/object_info` out of it.
//!
//! This module is shared by host and guests, so it stays free of I/O and of everything that does not compile to wasm.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A pack: its name, its nodes and what it asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackDefinition {
    /// Lower-case letters, digits and `-`; at most 64. Unique on a server.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// Who made it; shown to people.
    #[serde(default)]
    pub publisher: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// SPDX expression.
    #[serde(default)]
    pub license: String,
    /// What the pack asks for. Nothing of it is granted by asking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<PermissionRequest>,
    /// In the order in which UIs should list them.
    pub nodes: Vec<NodeDefinition>,
}

/// One permission that a pack asks for, with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRequest {
    /// For example `models/checkpoints`.
    pub permission: String,
    /// Why, in words a user understands.
    pub reason: String,
}

/// One node class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDefinition {
    /// The class name in prompts, e.g. `ImageInvert`.
    pub class_type: String,
    /// What UIs show.
    pub display_name: String,
    /// Help text.
    #[serde(default)]
    pub description: String,
    /// Slash-separated menu path.
    pub category: String,
    /// In declaration order, over all sections.
    #[serde(default)]
    pub inputs: Vec<InputDefinition>,
    /// One per output slot.
    #[serde(default)]
    pub outputs: Vec<OutputDefinition>,
    /// Runs even when nothing takes its outputs, and makes a prompt valid.
    #[serde(default, skip_serializing_if = "is_false")]
    pub output_node: bool,
    /// Every input arrives as the whole list in one call (ComfyUI's INPUT_IS_LIST).
    #[serde(default, skip_serializing_if = "is_false")]
    pub input_is_list: bool,
    /// Two nodes with equal inputs must not share a result.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_idempotent: bool,
    /// UIs hide it from menus.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deprecated: bool,
    /// UIs mark it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub experimental: bool,
    /// Inputs that are not declared are passed through when linked (variadic nodes).
    #[serde(default, skip_serializing_if = "is_false")]
    pub accepts_undeclared: bool,
    /// Mostly waits: it runs beside other nodes of its prompt instead of holding them up (ComfyUI's async functions).
    #[serde(default, skip_serializing_if = "is_false")]
    pub asynchronous: bool,
    /// Present when the class has a `validate` hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<Validator>,
    /// The class has a `fingerprint` hook.
    #[serde(default, skip_serializing_if = "is_false")]
    pub has_fingerprint: bool,
    /// The class has a `needed-inputs` hook. Only then are `lazy` inputs lazy.
    #[serde(default, skip_serializing_if = "is_false")]
    pub has_needed_inputs: bool,
}

/// What a class's own validator takes over from the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// Inputs that it checks by itself: the server's range and list checks are off for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// It checks every input by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all_inputs: bool,
    /// It checks the types of links by itself: the server's link-type check is off for the class.
    #[serde(default, skip_serializing_if = "is_false")]
    pub input_types: bool,
}

/// Where an input stands in ComfyUI's INPUT_TYPES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// The prompt must give it.
    #[default]
    Required,
    /// The prompt may leave it out.
    Optional,
    /// The host fills it in; `input_type` is then one of PROMPT, DYNPROMPT, EXTRA_PNGINFO, UNIQUE_ID.
    Hidden,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputDefinition {
    /// The key in a prompt's `inputs`.
    pub name: String,
    /// Required unless said otherwise.
    #[serde(default)]
    pub section: Section,
    /// `IMAGE`, `INT`, `*`, a union such as `IMAGE,MASK`, or `COMBO` for a choice.
    #[serde(rename = "type")]
    pub input_type: String,
    /// The choices of a `COMBO`, unless `choices_from` lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Value>,
    /// Lets the host fill in the choices each time they are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices_from: Option<ChoicesFrom>,
    /// ComfyUI's options as UIs read them: `default`, `min`, `max`, `step`, `round`, `tooltip`, `multiline`, `lazy`,
    /// `forceInput`, `rawLink`, `image_upload`, …
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// A list of names that only the host knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChoicesFrom {
    /// The image files at the top of the tenant's input folder.
    InputImages,
    /// The files of a model folder, e.g. `vae`.
    Models(String),
}

/// One output slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDefinition {
    /// What UIs show; usually the type.
    pub name: String,
    /// As in [`InputDefinition::input_type`].
    #[serde(rename = "type")]
    pub output_type: String,
    /// The node answers a list of values for this slot (ComfyUI's OUTPUT_IS_LIST).
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_list: bool,
    /// Help text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tooltip: Option<String>,
}

impl NodeDefinition {
    /// The input of this name, in any section.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&InputDefinition> {
        self.inputs.iter().find(|input| input.name == name)
    }
}

impl InputDefinition {
    /// The boolean option of this name; absent means false.
    #[must_use]
    pub fn flag(&self, option: &str) -> bool {
        self.options.get(option).and_then(Value::as_bool).unwrap_or(false)
    }

    /// True when links to this input are followed only after the node asked for them.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        self.flag("lazy")
    }

    /// True when the node gets the link itself and not its value.
    #[must_use]
    pub fn is_raw_link(&self) -> bool {
        self.flag("rawLink")
    }
}

/// Longest name of a pack, class, input or type.
const NAME_LENGTH: usize = 128;

impl PackDefinition {
    /// Checks the rules that the format alone does not enforce.
    ///
    /// # Errors
    /// A sentence that names the offending part.
    pub fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(plain) {
            return Err(format!("the pack name {:?} is not 1 to 64 lower-case letters, digits and '-'", self.name));
        }
        if self.version.is_empty() || self.version.len() > NAME_LENGTH {
            return Err(format!("pack {}: the version is empty or too long", self.name));
        }
        let mut classes = HashSet::new();
        for node in &self.nodes {
            node.check().map_err(|message| format!("class {:?}: {message}", node.class_type))?;
            if !classes.insert(&node.class_type) {
                return Err(format!("class {:?} is defined twice", node.class_type));
            }
        }
        Ok(())
    }
}

impl NodeDefinition {
    fn check(&self) -> Result<(), String> {
        check_name(&self.class_type)?;
        let mut names = HashSet::new();
        for input in &self.inputs {
            check_name(&input.name).map_err(|message| format!("input {:?}: {message}", input.name))?;
            if !names.insert(&input.name) {
                return Err(format!("input {:?} is declared twice", input.name));
            }
            if input.input_type.is_empty() {
                return Err(format!("input {:?} has no type", input.name));
            }
        }
        for output in &self.outputs {
            if output.output_type.is_empty() {
                return Err(format!("output {:?} has no type", output.name));
            }
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_LENGTH {
        return Err(format!("a name has 1 to {NAME_LENGTH} bytes"));
    }
    // Names end up in logs, menus and terminals.
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        return Err("a name has no control or direction characters".into());
    }
    Ok(())
}

/// Definitions by class name.
pub type DefinitionMap = IndexMap<String, NodeDefinition>;

fn is_false(value: &bool) -> bool {
    !*value
}
