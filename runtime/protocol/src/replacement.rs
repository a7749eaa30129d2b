//! Which class takes the place of one that is gone, as ComfyUI's `/node_replacements` has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Replacements by the class that is gone; the first whose own class is there counts.
pub type Replacements = BTreeMap<String, Vec<Replacement>>;

/// A class that can take the place of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// The class that is gone.
    pub old_node_id: String,
    /// The class that takes its place.
    pub new_node_id: String,
    /// Names of the old node's widgets, in their order.
    #[serde(default)]
    pub old_widget_ids: Option<Vec<String>>,
    /// Where the new inputs come from. Without it they are the old ones.
    #[serde(default)]
    pub input_mapping: Option<Vec<InputMapping>>,
    /// Which new output is which old one. Those that are not named keep their number.
    #[serde(default)]
    pub output_mapping: Option<Vec<OutputMapping>>,
}

/// One input of the new node: an old one, or a constant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputMapping {
    /// Its name.
    pub new_id: String,
    /// The old input that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_id: Option<String>,
    /// The constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_value: Option<Value>,
}

/// One output, by its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputMapping {
    /// Of the new node.
    pub new_idx: u32,
    /// Of the old node.
    pub old_idx: u32,
}
