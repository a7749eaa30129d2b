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
}

impl ResultCache {
    /// Called once per prompt, before anything of it runs: drops what the mode does not keep.
    pub(crate) fn begin_prompt(&mut self, mode: CacheMode, keys: &HashSet<CacheKey>) {
        self.generation += 1;
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.generation = self.generation;
            }
        }
        match mode {
            CacheMode::Classic => self.entries.retain(|key, _| keys.contains(key)),
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

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<NodeResult>> {
        Some(self.entries.get(key)?.result.clone())
    }

    pub(crate) fn insert(&mut self, key: CacheKey, result: Arc<NodeResult>) {
        self.entries.insert(key, Entry { result, generation: self.generation });
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
        cache.begin_prompt(mode, &set);
        let hits = keys.iter().copied().filter(|&byte| cache.get(&key(byte)).is_some()).collect();
        for &byte in keys {
            cache.insert(key(byte), Arc::new(NodeResult::default()));
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
}
