//! What packs give front ends beside nodes: data, never scripts, which would run with the user's rights.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use vivarium_protocol::replacement::Replacements;

/// What all packs together offer.
#[derive(Clone, Debug, Default)]
pub struct PackOffers {
    /// Example workflows by pack and name.
    pub workflows: BTreeMap<String, BTreeMap<String, Value>>,
    /// Subgraphs that every workflow may use, by pack and name.
    pub subgraphs: BTreeMap<String, BTreeMap<String, Value>>,
    /// Classes that take the place of others.
    pub replacements: Replacements,
    /// Translations by language, in the form of ComfyUI's `/i18n`.
    pub translations: Map<String, Value>,
}
