//! Prompts that were queued a moment ago, as they were given: a worker that takes one need not read its JSON again, which for
//! a large prompt is a good part of running it.

use std::collections::VecDeque;

use serde_json::Value;

/// Text of all that are kept, in bytes; in memory they are several times as large.
const MOST_BYTES: usize = 4 << 20;
const MOST_PROMPTS: usize = 64;

/// The newest prompts by their rows, which are never used again.
#[derive(Default)]
pub(super) struct Fresh {
    /// Oldest first: the row, the prompt, the bytes of its text.
    prompts: VecDeque<(i64, Value, usize)>,
    bytes: usize,
}

impl Fresh {
    /// Keeps a prompt, and forgets the oldest when it becomes too much.
    pub(super) fn keep(&mut self, row: i64, prompt: Value, bytes: usize) {
        self.prompts.push_back((row, prompt, bytes));
        self.bytes += bytes;
        while self.bytes > MOST_BYTES || self.prompts.len() > MOST_PROMPTS {
            let Some((_, _, bytes)) = self.prompts.pop_front() else { return };
            self.bytes -= bytes;
        }
    }

    /// The prompt of a row, if it is still known.
    pub(super) fn take(&mut self, row: i64) -> Option<Value> {
        let at = self.prompts.binary_search_by_key(&row, |(row, ..)| *row).ok()?;
        let (_, prompt, bytes) = self.prompts.remove(at)?;
        self.bytes -= bytes;
        Some(prompt)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_are_known_once() {
        let mut fresh = Fresh::default();
        for row in 1..=100 {
            fresh.keep(row, json!(row), 10);
        }
        assert_eq!(fresh.take(36), None);
        assert_eq!(fresh.take(37), Some(json!(37)));
        assert_eq!(fresh.take(37), None);
        assert_eq!(fresh.bytes, 63 * 10);
        fresh.keep(101, json!("large"), MOST_BYTES + 1);
        assert_eq!((fresh.take(101), fresh.take(100), fresh.bytes), (None, None, 0));
    }
}
