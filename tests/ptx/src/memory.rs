//! The device's memory: allocations far apart from each other, each with a shadow.
//!
//! Addresses are never used twice, so an old pointer is known as one. Between allocations lies more room than any
//! off-by-one reaches.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first address of global memory. Below lie the windows of other spaces in generic addresses.
pub const GLOBAL: u64 = 0x7f00_0000_0000;
/// The owner of memory that any stream may write to.
pub const ANYBODY: u64 = 0;
const GAP: u64 = 1 << 20;
const ALIGNMENT: u64 = 512;

/// Some bytes of global memory.
#[derive(Debug)]
pub struct Allocation {
    /// Address of the first byte.
    pub base: u64,
    /// Whose it is: any number that the owner's stream has too.
    pub owner: u64,
    /// The contents.
    pub data: Vec<u8>,
    /// The number of the launch that last wrote any of it.
    pub last_writer: u32,
    /// Bytes that have been written.
    pub(crate) written: Vec<bool>,
    /// The launch and block that last wrote each byte, see [`trace`].
    pub(crate) writer: Vec<u64>,
    /// The launch and block that last read each byte, or [`MANY`].
    pub(crate) reader: Vec<u64>,
}

/// The block part of a trace of several blocks, and of atomic accesses.
pub(crate) const MANY: u64 = 0xffff_ffff;
pub(crate) const ATOMIC: u64 = 0xffff_fffe;

/// A launch and one of its blocks in one number.
pub(crate) fn trace(launch: u32, block: u64) -> u64 {
    (u64::from(launch) << 32) | block
}

impl Allocation {
    /// Writes from outside of kernels.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
        self.written[at..at + bytes.len()].fill(true);
    }

    /// The first of `length` bytes that nobody wrote.
    pub fn unwritten(&self, at: usize, length: usize) -> Option<usize> {
        self.written[at..at + length].iter().position(|written| !written).map(|index| at + index)
    }
}

/// What lies at an address.
#[derive(Debug)]
pub enum Place {
    /// In live memory, at this offset.
    Live(Arc<Mutex<Allocation>>, usize),
    /// In memory that is no more.
    Freed,
    /// Between allocations.
    Nowhere,
}

/// All allocations.
#[derive(Debug, Default)]
pub struct Memory {
    live: BTreeMap<u64, (u64, Arc<Mutex<Allocation>>)>,
    freed: BTreeMap<u64, u64>,
    next: u64,
    used: u64,
}

impl Memory {
    /// Memory whose addresses begin at `base`, beyond [`GLOBAL`]: several devices share one space of addresses.
    pub fn beginning_at(base: u64) -> Self {
        Memory { next: base, ..Memory::default() }
    }

    /// Fresh bytes that nobody wrote yet; they hold a pattern, not zeros.
    pub fn allocate(&mut self, bytes: usize, owner: u64) -> u64 {
        let base = self.next.max(GLOBAL);
        let length = (bytes as u64).max(1);
        self.next = base + (length + GAP).next_multiple_of(ALIGNMENT);
        let allocation = Allocation {
            base,
            owner,
            data: vec![0xcd; bytes],
            last_writer: 0,
            written: vec![false; bytes],
            writer: vec![0; bytes],
            reader: vec![0; bytes],
        };
        self.used += bytes as u64;
        self.live.insert(base, (length, Arc::new(Mutex::new(allocation))));
        base
    }

    /// Gives an allocation back, and answers its bytes. `None` when there is none at this address.
    pub fn free(&mut self, base: u64) -> Option<u64> {
        let (length, allocation) = self.live.remove(&base)?;
        let bytes = allocation.lock().data.len() as u64;
        self.used -= bytes;
        self.freed.insert(base, length);
        Some(bytes)
    }

    /// Gives everything back, as when the device is reset.
    pub fn free_all(&mut self) {
        self.freed.extend(self.live.iter().map(|(base, (length, _))| (*base, *length)));
        self.live.clear();
        self.used = 0;
    }

    /// What lies at an address; the end of an allocation still counts as in it.
    pub fn find(&self, address: u64) -> Place {
        if let Some((base, (length, allocation))) = self.live.range(..=address).next_back()
            && address - base <= *length
        {
            return Place::Live(Arc::clone(allocation), (address - base) as usize);
        }
        match self.freed.range(..=address).next_back() {
            Some((base, length)) if address - base < *length => Place::Freed,
            _ => Place::Nowhere,
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Address, bytes and owner of what is in use.
    pub fn live(&self) -> Vec<(u64, usize, u64)> {
        let describe = |(base, (_, allocation)): (&u64, &(u64, Arc<Mutex<Allocation>>))| {
            let allocation = allocation.lock();
            (*base, allocation.data.len(), allocation.owner)
        };
        self.live.iter().map(describe).collect()
    }
}
