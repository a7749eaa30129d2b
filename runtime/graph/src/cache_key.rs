//! Which results are the same.
//!
//! A node's key is a hash over its class, its fingerprint and its inputs, where a link counts as the key of the node that
//! makes the value, and its slot. So ids do not matter: a renamed graph hits, and equal nodes share one result. Keys are
//! ComfyUI's signatures in another form, but each costs only its own inputs, not all its ancestors again.
//!
//! Numbers are equal when their values are, as in Python; booleans are not numbers here, although Python thinks so, since a
//! node that takes any type could tell them apart.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use vivarium_protocol::definition::{NodeDefinition, Section};
use vivarium_protocol::prompt::{PromptNode, as_link_ref};

use crate::definitions::Definitions;
use crate::dynamic::DynamicPrompt;

/// Two nodes with the same key have the same results.
pub type CacheKey = [u8; 32];

/// Keys are hashes already: a table of them takes what is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let begin = bytes.first_chunk::<8>().map_or(0, |begin| u64::from_le_bytes(*begin));
        self.0 = self.0.rotate_left(8) ^ begin;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A set of keys.
pub type KeySet = HashSet<CacheKey, BuildHasherDefault<KeyHasher>>;
/// A table by keys.
pub type KeyMap<V> = HashMap<CacheKey, V, BuildHasherDefault<KeyHasher>>;

/// What keys need to know beyond the prompt.
pub trait Fingerprints {
    /// What changes whenever the code of a class may have changed: the digest of its pack.
    fn class_signature(&self, class: &str) -> Vec<u8>;

    /// The class's own `fingerprint` hook; asked once per node, only for classes that have one and only when the client sent no
    /// `is_changed`. `constants` are the node's declared inputs that are not links. `None` when the hook failed: the
    /// node is then never cached.
    fn fingerprint(&self, node_id: &str, class: &str, constants: &Map<String, Value>) -> Option<Value>;
}

/// The keys of a prompt's nodes.
#[derive(Clone, Debug, Default)]
pub struct CacheKeys {
    /// `None` for nodes that never match anything.
    keys: HashMap<String, Option<CacheKey>>,
}

impl CacheKeys {
    /// The keys of all posted nodes.
    #[must_use]
    pub fn compute(prompt: &DynamicPrompt, definitions: &dyn Definitions, fingerprints: &dyn Fingerprints) -> Self {
        let mut keys = Self { keys: HashMap::with_capacity(prompt.original().len()) };
        for id in prompt.original().keys() {
            keys.add(id, prompt, definitions, fingerprints);
        }
        keys
    }

    /// Adds the key of one more node, e.g. of an expansion, and of all its ancestors.
    pub fn add(
        &mut self,
        id: &str,
        prompt: &DynamicPrompt,
        definitions: &dyn Definitions,
        fingerprints: &dyn Fingerprints,
    ) {
        // A node on the stack, or behind a cycle, has no key yet when it is asked for; that counts as "never matches".
        let mut stack = vec![(id, false)];
        while let Some((id, sources_done)) = stack.pop() {
            if sources_done {
                let key = self.hash_node(id, prompt, definitions, fingerprints);
                if let Some(known) = self.keys.get_mut(id) {
                    *known = key;
                }
                continue;
            }
            if self.keys.contains_key(id) {
                continue;
            }
            self.keys.insert(id.to_owned(), None);
            stack.push((id, true));
            let Some(node) = prompt.get(id) else { continue };
            let sources = node.inputs.values().filter_map(as_link_ref).map(|(source, _)| source);
            stack.extend(sources.filter(|source| !self.keys.contains_key(*source)).map(|source| (source, false)));
        }
    }

    /// Decides that a node never matches anything, and so nothing behind it either: its inputs hold what cannot be compared.
    pub fn never(&mut self, id: &str) {
        self.keys.insert(id.to_owned(), None);
    }

    /// The key of a node; `None` when it must not be cached (or was never added).
    #[must_use]
    pub fn get(&self, id: &str) -> Option<CacheKey> {
        self.keys.get(id).copied().flatten()
    }

    /// Every key in use.
    pub fn used(&self) -> impl Iterator<Item = CacheKey> {
        self.keys.values().filter_map(|key| *key)
    }

    fn hash_node(
        &self,
        id: &str,
        prompt: &DynamicPrompt,
        definitions: &dyn Definitions,
        fingerprints: &dyn Fingerprints,
    ) -> Option<CacheKey> {
        let node = prompt.get(id)?;
        let definition = definitions.get(&node.class_type)?;
        let mut hash = Hash(Sha256::new());
        hash.bytes(b"vivarium node key 1");
        hash.bytes(&fingerprints.class_signature(&node.class_type));
        hash.bytes(node.class_type.as_bytes());
        hash.value(&fingerprint(id, node, definition, fingerprints)?);
        if is_bound_to_its_id(definition) {
            hash.bytes(id.as_bytes());
        }
        let mut inputs: Vec<_> = node.inputs.iter().collect();
        inputs.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in inputs {
            hash.bytes(name.as_bytes());
            match as_link_ref(value) {
                Some((source, slot)) => {
                    hash.tag(b'@');
                    hash.bytes(&self.get(source)?);
                    hash.integer(slot.into());
                }
                None => hash.value(value),
            }
        }
        Some(hash.0.finalize().into())
    }
}

fn is_bound_to_its_id(definition: &NodeDefinition) -> bool {
    let takes_id = |input: &vivarium_protocol::definition::InputDefinition| {
        input.section == Section::Hidden && input.input_type == "UNIQUE_ID"
    };
    definition.not_idempotent || definition.inputs.iter().any(takes_id)
}

fn fingerprint(
    id: &str,
    node: &PromptNode,
    definition: &NodeDefinition,
    fingerprints: &dyn Fingerprints,
) -> Option<Value> {
    if !definition.has_fingerprint {
        return Some(Value::Bool(false));
    }
    if let Some(sent) = node.other.get("is_changed") {
        return Some(sent.clone());
    }
    let constants = node
        .inputs
        .iter()
        .filter(|(name, value)| {
            as_link_ref(value).is_none() && definition.input(name).is_some_and(|input| input.section != Section::Hidden)
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    fingerprints.fingerprint(id, &node.class_type, &constants)
}

/// Every part is tagged and, where its length varies, preceded by it, so that no two different sequences hash alike.
struct Hash(Sha256);

impl Hash {
    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn integer(&mut self, value: i128) {
        self.0.update(value.to_le_bytes());
    }

    /// Recurses; values in prompts are of bounded depth.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.tag(b'n'),
            Value::Bool(flag) => self.tag(if *flag { b't' } else { b'f' }),
            Value::Number(number) => self.number(number),
            Value::String(text) => {
                self.tag(b's');
                self.bytes(text.as_bytes());
            }
            Value::Array(items) => {
                self.tag(b'[');
                self.integer(items.len() as i128);
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(map) => {
                self.tag(b'{');
                self.integer(map.len() as i128);
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                for (key, item) in entries {
                    self.bytes(key.as_bytes());
                    self.value(item);
                }
            }
        }
    }

    fn number(&mut self, number: &Number) {
        const WHOLE_BELOW: f64 = 1e38;
        let whole = match (number.as_i128(), number.as_f64()) {
            (Some(integer), _) => Some(integer),
            #[expect(clippy::cast_possible_truncation, reason = "whole and inside the range of i128")]
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < WHOLE_BELOW => Some(float as i128),
            _ => None,
        };
        match whole {
            Some(integer) => {
                self.tag(b'i');
                self.integer(integer);
            }
            None => {
                self.tag(b'd');
                self.0.update(number.as_f64().unwrap_or(f64::NAN).to_bits().to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
