//! Results of nodes that later prompts may reuse. One cache per tenant: no tenant can learn from a hit what another did.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Map, Value};
use vivarium_graph::CacheKey;
use vivarium_sandbox::NodeValue;

use crate::config::CacheMode;

/// What a node produced.
#[derive(Debug, Default)]
pub(crate) struct NodeResult {
    /// One list of values per output slot.
    pub(crate) slots: Vec<Vec<NodeValue>>,
    /// ComfyUI's `ui` object.
    pub(crate) ui: Option<Map<String, Value>>,
}

impl NodeResult {
    pub(crate) fn bytes(&self) -> u64 {
        self.slots.iter().flatten().map(NodeValue::bytes).sum()
    }
}

/// The posted node whose expansion made a node, and its class.
pub(crate) type Owner = (String, String);

/// The kept results of one tenant.
#[derive(Debug, Default)]
pub(crate) struct ResultCache {
    entries: HashMap<CacheKey, Entry>,
    generation: u64,
}

#[derive(Debug)]
struct Entry {
    result: Arc<NodeResult>,
    /// The last prompt that used it.
    generation: u64,
    /// For a node of an expansion: kept as long as prompts have the posted node that expands.
    owner: Option<Owner>,
}

impl ResultCache {
    /// Called once per prompt, before anything of it runs: drops what the mode does not keep.
    pub(crate) fn begin_prompt(
        &mut self,
        mode: CacheMode,
        keys: &HashSet<CacheKey>,
        has_node: impl Fn(&Owner) -> bool,
    ) {
        self.generation += 1;
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.generation = self.generation;
            }
        }
        match mode {
            CacheMode::Classic => {
                self.entries.retain(|key, entry| keys.contains(key) || entry.owner.as_ref().is_some_and(&has_node));
            }
            CacheMode::None => self.entries.clear(),
            CacheMode::Lru(limit) => self.drop_oldest_prompts(limit),
        }
    }

    fn drop_oldest_prompts(&mut self, limit: usize) {
        let mut generations: Vec<u64> = self.entries.values().map(|entry| entry.generation).collect();
        generations.sort_unstable();
        let Some(excess) = generations.len().checked_sub(limit).filter(|&excess| excess > 0) else { return };
        let newest_dropped = generations[excess - 1].min(self.generation.saturating_sub(1));
        self.entries.retain(|_, entry| entry.generation > newest_dropped);
    }

    /// A result, which thereby counts as used by the running prompt.
    pub(crate) fn get(&mut self, key: &CacheKey) -> Option<Arc<NodeResult>> {
        let entry = self.entries.get_mut(key)?;
        entry.generation = self.generation;
        Some(entry.result.clone())
    }

    pub(crate) fn insert(&mut self, key: CacheKey, result: Arc<NodeResult>, owner: Option<Owner>) {
        self.entries.insert(key, Entry { result, generation: self.generation, owner });
    }

    /// The expansion of a posted node is done: what only its earlier expansions used goes.
    pub(crate) fn end_expansion(&mut self, owner: &Owner) {
        let generation = self.generation;
        self.entries.retain(|_, entry| entry.generation == generation || entry.owner.as_ref() != Some(owner));
    }

    pub(crate) fn remove(&mut self, key: &CacheKey) {
        self.entries.remove(key);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Drops everything that the running prompt does not use. True when that freed anything.
    pub(crate) fn drop_unused(&mut self) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.generation == self.generation);
        self.entries.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CacheKey {
        [byte; 32]
    }

    fn run(cache: &mut ResultCache, mode: CacheMode, keys: &[u8]) -> Vec<u8> {
        let set: HashSet<_> = keys.iter().map(|&byte| key(byte)).collect();
        cache.begin_prompt(mode, &set, |_| false);
        let hits = keys.iter().copied().filter(|&byte| cache.get(&key(byte)).is_some()).collect();
        for &byte in keys {
            cache.insert(key(byte), Arc::default(), None);
        }
        hits
    }

    #[test]
    fn classic_keeps_the_last_prompt_only() {
        let mut cache = ResultCache::default();
        assert!(run(&mut cache, CacheMode::Classic, &[1, 2]).is_empty());
        assert_eq!(run(&mut cache, CacheMode::Classic, &[2, 3]), [2]);
        assert!(run(&mut cache, CacheMode::Classic, &[1]).is_empty());
    }

    #[test]
    fn lru_drops_whole_prompts_oldest_first() {
        // As observed: with room for 3, prompts of 3 nodes each, A B A still hits.
        let mut cache = ResultCache::default();
        let mode = CacheMode::Lru(3);
        assert!(run(&mut cache, mode, &[1, 2, 3]).is_empty());
        assert!(run(&mut cache, mode, &[4, 5, 6]).is_empty());
        assert_eq!(run(&mut cache, mode, &[1, 2, 3]), [1, 2, 3]);
        assert!(run(&mut cache, mode, &[7]).is_empty());
        assert!(run(&mut cache, mode, &[4, 5, 6]).is_empty());
    }

    #[test]
    fn none_keeps_nothing_between_prompts() {
        let mut cache = ResultCache::default();
        assert!(run(&mut cache, CacheMode::None, &[1]).is_empty());
        assert!(run(&mut cache, CacheMode::None, &[1]).is_empty());
    }

    #[test]
    fn results_of_an_expansion_stay_while_its_node_does_and_until_its_next_expansion() {
        let owner: Owner = ("7".into(), "Loop".into());
        let mut cache = ResultCache::default();
        let begin = |cache: &mut ResultCache, there: bool| {
            cache.begin_prompt(CacheMode::Classic, &HashSet::new(), |asked| there && *asked == owner);
        };
        begin(&mut cache, true);
        cache.insert(key(1), Arc::default(), Some(owner.clone()));
        cache.insert(key(2), Arc::default(), Some(owner.clone()));
        begin(&mut cache, true);
        assert!(cache.get(&key(1)).is_some());
        cache.end_expansion(&owner);
        assert!(cache.get(&key(1)).is_some() && cache.get(&key(2)).is_none());
        begin(&mut cache, false);
        assert!(cache.get(&key(1)).is_none());
    }
}
