//! Results of nodes that later prompts may reuse. One cache per tenant: no tenant can learn from a hit what another did.
//!
//! Which prompts' results stay is the mode's business ([`CacheMode`]). Whatever the mode, a tenant keeps a number of bytes at
//! most. Beyond it those results go first that take least time to compute again for the bytes they free; the longer nobody
//! used a result, the less its time counts (GreedyDual-Size: a result's worth is its time per byte plus the worth of what was
//! dropped last when it was used last).

use std::{collections::BTreeSet, sync::Arc};

use vivarium_graph::{CacheKey, KeyMap, KeySet};

use crate::{config::CacheMode, result::NodeResult};

/// The posted node whose expansion made a node, and its class.
pub(crate) type Owner = (String, String);

/// A result is never worth nothing: among those that took no time, the largest goes first.
const LEAST_SECONDS: f64 = 1e-6;

/// The kept results of one tenant.
#[derive(Debug, Default)]
pub(crate) struct ResultCache {
    entries: KeyMap<Entry>,
    /// The same by what they are worth, least first.
    by_worth: BTreeSet<(u64, CacheKey)>,
    bytes: u64,
    /// The most that is kept.
    limit: u64,
    /// What the last result was worth that was dropped for its bytes.
    floor: f64,
    generation: u64,
    /// How many times a GPU had failed when that last emptied the cache.
    gpu_failures: u64,
}

#[derive(Debug)]
struct Entry {
    result: Arc<NodeResult>,
    /// The last prompt that used it.
    generation: u64,
    /// For a node of an expansion: kept as long as prompts have the posted node that expands.
    owner: Option<Owner>,
    /// Bits of a float that is not negative, which are ordered as it is.
    worth: u64,
}

impl ResultCache {
    /// Keeps at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Bytes of all results.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Called once per prompt, before anything of it runs: drops what the mode does not keep.
    pub(crate) fn begin_prompt(&mut self, mode: CacheMode, keys: &KeySet, has_node: impl Fn(&Owner) -> bool) {
        self.generation += 1;
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.generation = self.generation;
            }
        }
        match mode {
            CacheMode::Classic => {
                self.retain(|key, entry| keys.contains(key) || entry.owner.as_ref().is_some_and(&has_node));
            }
            CacheMode::None => self.clear(),
            CacheMode::Lru(limit) => self.drop_oldest_prompts(limit),
            CacheMode::Ram { .. } => {}
        }
    }

    fn drop_oldest_prompts(&mut self, limit: usize) {
        let mut generations: Vec<u64> = self.entries.values().map(|entry| entry.generation).collect();
        generations.sort_unstable();
        let Some(excess) = generations.len().checked_sub(limit).filter(|&excess| excess > 0) else { return };
        let newest_dropped = generations[excess - 1].min(self.generation.saturating_sub(1));
        self.retain(|_, entry| entry.generation > newest_dropped);
    }

    /// A result, which thereby counts as used by the running prompt.
    pub(crate) fn get(&mut self, key: &CacheKey) -> Option<Arc<NodeResult>> {
        let entry = self.entries.get_mut(key)?;
        entry.generation = self.generation;
        let worth = worth(&entry.result, self.floor);
        // The same until something was dropped for its bytes.
        if worth != entry.worth {
            self.by_worth.remove(&(entry.worth, *key));
            self.by_worth.insert((worth, *key));
            entry.worth = worth;
        }
        Some(entry.result.clone())
    }

    /// Keeps a result, and drops others, or itself, when it is too much.
    pub(crate) fn insert(&mut self, key: CacheKey, result: Arc<NodeResult>, owner: Option<Owner>) {
        self.remove(&key);
        let worth = worth(&result, self.floor);
        self.bytes += result.bytes();
        self.by_worth.insert((worth, key));
        self.entries.insert(key, Entry { result, generation: self.generation, owner, worth });
        while self.bytes > self.limit {
            let Some((worth, key)) = self.by_worth.first().copied() else { return };
            self.floor = f64::from_bits(worth);
            self.remove(&key);
        }
    }

    /// The expansion of a posted node is done: what only its earlier expansions used goes.
    pub(crate) fn end_expansion(&mut self, owner: &Owner) {
        let generation = self.generation;
        self.retain(|_, entry| entry.generation == generation || entry.owner.as_ref() != Some(owner));
    }

    pub(crate) fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_worth.remove(&(entry.worth, *key));
            self.bytes -= entry.result.bytes();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    /// Drops everything, since some of it may be lost with a GPU. Prompts that run now may still hold some of the same.
    pub(crate) fn clear_lost(&mut self, gpu_failures: u64) {
        self.clear();
        self.gpu_failures = gpu_failures;
    }

    /// Whether results may be kept of a prompt that began after so many failures of GPUs.
    pub(crate) fn trusts(&self, gpu_failures: u64) -> bool {
        gpu_failures >= self.gpu_failures
    }

    /// Drops everything that the running prompt does not use. True when that freed anything.
    pub(crate) fn drop_unused(&mut self) -> bool {
        let (before, generation) = (self.entries.len(), self.generation);
        self.retain(|_, entry| entry.generation == generation);
        self.entries.len() < before
    }

    /// Drops results that nobody but the cache holds, the least worth first, until `bytes` are free. Answers how many are.
    pub(crate) fn shrink(&mut self, bytes: u64) -> u64 {
        let mut freed = 0;
        let free = |key: &CacheKey| self.entries.get(key).is_some_and(|entry| Arc::strong_count(&entry.result) == 1);
        let order: Vec<_> = self.by_worth.iter().map(|(_, key)| *key).filter(free).collect();
        for key in order {
            if freed >= bytes {
                break;
            }
            let before = self.bytes;
            self.remove(&key);
            freed += before - self.bytes;
        }
        freed
    }

    fn retain(&mut self, keep: impl Fn(&CacheKey, &Entry) -> bool) {
        let (by_worth, bytes) = (&mut self.by_worth, &mut self.bytes);
        self.entries.retain(|key, entry| {
            let kept = keep(key, entry);
            if !kept {
                by_worth.remove(&(entry.worth, *key));
                *bytes -= entry.result.bytes();
            }
            kept
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "an order, not an account")]
fn worth(result: &NodeResult, floor: f64) -> u64 {
    let seconds = result.took.as_secs_f64().max(LEAST_SECONDS);
    (floor + seconds / result.bytes().max(1) as f64).to_bits()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vivarium_sandbox::NodeValue;

    use super::*;

    fn key(byte: u8) -> CacheKey {
        [byte; 32]
    }

    fn cache() -> ResultCache {
        ResultCache::new(u64::MAX)
    }

    fn run(cache: &mut ResultCache, mode: CacheMode, keys: &[u8]) -> Vec<u8> {
        let set: KeySet = keys.iter().map(|&byte| key(byte)).collect();
        cache.begin_prompt(mode, &set, |_| false);
        let hits = keys.iter().copied().filter(|&byte| cache.get(&key(byte)).is_some()).collect();
        for &byte in keys {
            cache.insert(key(byte), Arc::default(), None);
        }
        hits
    }

    #[test]
    fn classic_keeps_the_last_prompt_only() {
        let mut cache = cache();
        assert!(run(&mut cache, CacheMode::Classic, &[1, 2]).is_empty());
        assert_eq!(run(&mut cache, CacheMode::Classic, &[2, 3]), [2]);
        assert!(run(&mut cache, CacheMode::Classic, &[1]).is_empty());
    }

    #[test]
    fn lru_drops_whole_prompts_oldest_first() {
        // As observed: with room for 3, prompts of 3 nodes each, A B A still hits.
        let mut cache = cache();
        let mode = CacheMode::Lru(3);
        assert!(run(&mut cache, mode, &[1, 2, 3]).is_empty());
        assert!(run(&mut cache, mode, &[4, 5, 6]).is_empty());
        assert_eq!(run(&mut cache, mode, &[1, 2, 3]), [1, 2, 3]);
        assert!(run(&mut cache, mode, &[7]).is_empty());
        assert!(run(&mut cache, mode, &[4, 5, 6]).is_empty());
    }

    #[test]
    fn prompts_that_ran_when_a_gpu_failed_leave_nothing_behind() {
        let mut cache = cache();
        cache.insert(key(1), Arc::default(), None);
        assert!(cache.trusts(0));
        cache.clear_lost(1);
        assert!(cache.get(&key(1)).is_none());
        assert!(!cache.trusts(0) && cache.trusts(1) && cache.trusts(2));
    }

    #[test]
    fn none_keeps_nothing_between_prompts() {
        let mut cache = cache();
        assert!(run(&mut cache, CacheMode::None, &[1]).is_empty());
        assert!(run(&mut cache, CacheMode::None, &[1]).is_empty());
    }

    #[test]
    fn ram_keeps_every_prompt_until_it_is_told_to_shrink() {
        let mut cache = cache();
        let mode = CacheMode::Ram { headroom: 0 };
        for prompt in [[1, 2], [3, 4], [5, 6]] {
            assert!(run(&mut cache, mode, &prompt).is_empty());
        }
        assert_eq!(run(&mut cache, mode, &[1, 2]), [1, 2]);
        cache.insert(key(7), result(1_000, 1), None);
        assert!(cache.shrink(u64::MAX) >= 1_000);
        assert!(kept(&cache).is_empty());
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn results_of_an_expansion_stay_while_its_node_does_and_until_its_next_expansion() {
        let owner: Owner = ("7".into(), "Loop".into());
        let mut cache = cache();
        let begin = |cache: &mut ResultCache, there: bool| {
            cache.begin_prompt(CacheMode::Classic, &KeySet::default(), |asked| there && *asked == owner);
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

    fn result(bytes: usize, milliseconds: u64) -> Arc<NodeResult> {
        let text = NodeValue::String("x".repeat(bytes).into());
        Arc::new(NodeResult::new(vec![vec![text]], None, Duration::from_millis(milliseconds)))
    }

    fn kept(cache: &ResultCache) -> Vec<u8> {
        let mut kept: Vec<u8> = cache.entries.keys().map(|key| key[0]).collect();
        kept.sort_unstable();
        kept
    }

    #[test]
    fn what_is_cheapest_to_compute_again_for_its_bytes_goes_first() {
        let mut cache = ResultCache::new(25_000);
        cache.insert(key(1), result(10_000, 900), None);
        cache.insert(key(2), result(10_000, 10), None);
        cache.insert(key(3), result(10_000, 500), None);
        assert_eq!(kept(&cache), [1, 3], "the quick one goes");
        cache.insert(key(4), result(2_000, 300), None);
        assert_eq!(kept(&cache), [1, 3, 4], "there is room");
        cache.insert(key(5), result(20_000, 3_000), None);
        assert_eq!(kept(&cache), [4, 5], "a small one that took little time is worth more than large ones");
        cache.insert(key(6), result(30_000, 100_000), None);
        assert!(kept(&cache).is_empty(), "what is larger than all that may be kept is not kept");
        assert_eq!((cache.bytes(), cache.by_worth.len()), (0, 0));
    }

    #[test]
    fn what_nobody_uses_goes_in_the_end_however_long_it_took() {
        let mut cache = ResultCache::new(25_000);
        cache.insert(key(1), result(10_000, 1_000), None);
        cache.insert(key(2), result(10_000, 200), None);
        for round in 0..30 {
            assert!(cache.get(&key(2)).is_some(), "it is in use");
            cache.insert(key(10 + round), result(10_000, 100), None);
        }
        assert!(cache.get(&key(1)).is_none());
    }

    #[test]
    fn what_somebody_holds_is_not_dropped_since_that_frees_nothing() {
        let mut cache = cache();
        let held = result(1_000, 1);
        cache.insert(key(1), held.clone(), None);
        cache.insert(key(2), result(1_000, 1), None);
        assert!(cache.shrink(u64::MAX) >= 1_000);
        assert_eq!(kept(&cache), [1]);
    }
}
