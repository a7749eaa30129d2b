//! Page-locked memory, and copies from it and to it that the host doesn't know to be done.
//!
//! A device reads such memory when it comes to it and not when the copy is queued. Here it is read at once, so what the host
//! does to it in between is found by a digest, when the host learns that the copy is done or the next copy begins. What is copied
//! back lies here until the host has learned that.

use crate::order::{Order, Step};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

/// What whoever reads too early finds.
const NOT_YET: u8 = 0xee;

/// All page-locked memory.
#[derive(Default)]
pub struct Pinned {
    blocks: HashMap<u64, Box<[u8]>>,
    pending: Vec<Pending>,
}

/// A copy that was queued.
struct Pending {
    block: u64,
    range: Range<usize>,
    step: Step,
    copy: Copy,
}

enum Copy {
    /// To the device, of bytes with this digest.
    Leaving(u64),
    /// To the host.
    Arriving(Vec<u8>),
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Pending {
    /// What the host did that it may not, as far as one can see it.
    fn problem(&self, blocks: &HashMap<u64, Box<[u8]>>) -> Option<String> {
        let Copy::Leaving(expected) = self.copy else { return None };
        let bytes = blocks.get(&self.block)?.get(self.range.clone())?;
        let changed = digest(std::hint::black_box(bytes)) != expected;
        changed.then(|| format!("Pinned: memory at {:#x} was overwritten while it was copied", self.block))
    }
}

impl Pinned {
    /// Fresh memory; the address of its first byte.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        let mut memory = vec![NOT_YET; bytes].into_boxed_slice();
        let base = memory.as_mut_ptr() as u64;
        self.blocks.insert(base, memory);
        base
    }

    /// Gives memory back. `None` if there is none; else what is wrong about it.
    pub fn free(&mut self, base: u64, order: &Order) -> Option<Vec<String>> {
        let mut problems = self.settle(order);
        self.blocks.remove(&base)?;
        if self.pending.iter().any(|pending| pending.block == base) {
            problems.push(format!("Pinned: memory at {base:#x} was freed while it was copied"));
        }
        self.pending.retain(|pending| pending.block != base);
        Some(problems)
    }

    fn find(&self, address: u64, length: usize) -> Option<(u64, Range<usize>)> {
        self.blocks.iter().find_map(|(base, bytes)| {
            let at = usize::try_from(address.checked_sub(*base)?).ok()?;
            (at + length <= bytes.len()).then_some((*base, at..at + length))
        })
    }

    /// Notes a copy from memory that may be page-locked. Answers what is wrong about it.
    pub fn leaves(&mut self, address: u64, length: usize, step: Step, order: &Order) -> Vec<String> {
        let Some((block, range)) = self.find(address, length) else { return Vec::new() };
        let mut problems = self.settle(order);
        problems.extend(
            self.pending.iter().filter(|other| other.block == block).filter_map(|other| other.problem(&self.blocks)),
        );
        let bytes = &self.blocks[&block][range.clone()];
        let copy = Copy::Leaving(digest(std::hint::black_box(bytes)));
        self.pending.push(Pending { block, range, step, copy });
        problems
    }

    /// Notes a copy of `data` to page-locked memory, if it is that. Answers what is wrong about it.
    pub fn arrives(&mut self, address: u64, data: &[u8], step: Step, order: &Order) -> Option<Vec<String>> {
        let (block, range) = self.find(address, data.len())?;
        let mut problems = self.settle(order);
        let meets =
            |other: &Pending| other.block == block && other.range.start < range.end && range.start < other.range.end;
        if self.pending.iter().any(meets) {
            problems.push(format!("Pinned: memory at {block:#x} is copied to before another copy is done"));
        }
        if let Some(bytes) = self.blocks.get_mut(&block) {
            bytes[range.clone()].fill(NOT_YET);
        }
        self.pending.push(Pending { block, range, step, copy: Copy::Arriving(data.to_vec()) });
        Some(problems)
    }

    /// Ends the copies that the host knows to be done.
    pub fn settle(&mut self, order: &Order) -> Vec<String> {
        let known = |pending: &mut Pending| order.knows_as_host(pending.step);
        let done: Vec<Pending> = self.pending.extract_if(.., known).collect();
        let problems = done.iter().filter_map(|pending| pending.problem(&self.blocks)).collect();
        for Pending { block, range, copy, .. } in done {
            if let (Copy::Arriving(data), Some(bytes)) = (copy, self.blocks.get_mut(&block)) {
                bytes[range].copy_from_slice(&data);
            }
        }
        problems
    }
}
