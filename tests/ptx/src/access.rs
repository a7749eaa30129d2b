//! Loads, stores and atomics: from an address to bytes, with every check on the way.

use crate::convert::Kind;
use crate::copies::Copies;
use crate::decode::{AtomicKind, LOCAL, MODULE, SHARED, Space};
use crate::fault::{FaultKind, Trouble};
use crate::memory::{ANYBODY, ATOMIC, Allocation, GLOBAL, MANY, Memory, Place, trace};
use crate::shared::{Access, SharedMemory, Toucher};
use parking_lot::{Mutex, MutexGuard};

/// Everything that a block can reach.
pub(crate) struct World<'a, 'g> {
    pub(crate) memory: &'a Mutex<Memory>,
    pub(crate) handed: &'a mut [MutexGuard<'g, Allocation>],
    pub(crate) constants: &'a [u8],
    pub(crate) params: &'a [u8],
    pub(crate) owner: u64,
    pub(crate) launch: u32,
    pub(crate) block: u64,
    pub(crate) shared: SharedMemory,
    /// Of each thread: copies to shared memory past the registers.
    pub(crate) copies: Vec<Copies>,
    /// Of each thread: bytes, and whether they were written.
    pub(crate) locals: Vec<(Vec<u8>, Vec<bool>)>,
    /// The allocation of the last access.
    pub(crate) recent: usize,
}

/// Bytes to read, or to write.
pub(crate) enum Bytes<'a> {
    Constant(&'a [u8]),
    Changeable(&'a mut [u8]),
}

impl Bytes<'_> {
    /// To read.
    pub(crate) fn seen(&self) -> &[u8] {
        match self {
            Bytes::Constant(bytes) => bytes,
            Bytes::Changeable(bytes) => bytes,
        }
    }
}

impl World<'_, '_> {
    pub(crate) fn touch(
        &mut self,
        space: Space,
        address: u64,
        length: usize,
        access: Access,
        toucher: Toucher,
    ) -> Result<Bytes<'_>, Trouble> {
        if !address.is_multiple_of(length as u64) {
            let message = format!("{length} bytes at {address:#x}, which is no multiple of {length}");
            return Err(Trouble::new(FaultKind::Misaligned, toucher.lane, message));
        }
        let (space, address) = match space {
            Space::Generic if address >= GLOBAL => (Space::Global, address),
            Space::Generic if address >= MODULE => (Space::Constant, address),
            Space::Generic if address >= LOCAL => (Space::Local, address - LOCAL),
            Space::Generic if address >= SHARED => (Space::Shared, address - SHARED),
            Space::Generic => (Space::Global, address),
            Space::Global if (MODULE..GLOBAL).contains(&address) => (Space::Constant, address),
            other => (other, address),
        };
        match space {
            Space::Shared => self.shared.touch(address, length, access, toucher).map(Bytes::Changeable),
            Space::Local => self.local(address, length, access, toucher).map(Bytes::Changeable),
            Space::Param | Space::Constant => {
                let (from, bytes) = if space == Space::Param { (0, self.params) } else { (MODULE, self.constants) };
                if access != Access::Read {
                    return Err(Trouble::new(FaultKind::ForeignWrite, toucher.lane, "constants cannot be written"));
                }
                let at = address.wrapping_sub(from) as usize;
                let found = at.checked_add(length).and_then(|end| bytes.get(at..end));
                found.map(Bytes::Constant).ok_or_else(|| {
                    let message = format!("{length} bytes at {at} of {} bytes of {space:?} memory", bytes.len());
                    Trouble::new(FaultKind::OutOfBounds, toucher.lane, message)
                })
            }
            Space::Global | Space::Generic => self.global(address, length, access, toucher.lane).map(Bytes::Changeable),
        }
    }

    fn local(&mut self, address: u64, length: usize, access: Access, toucher: Toucher) -> Result<&mut [u8], Trouble> {
        let (bytes, written) = &mut self.locals[toucher.thread as usize];
        let at = address as usize;
        if at.checked_add(length).is_none_or(|end| end > bytes.len()) {
            let message = format!("{length} bytes at {at} of {} bytes of local memory", bytes.len());
            return Err(Trouble::new(FaultKind::OutOfBounds, toucher.lane, message));
        }
        if access == Access::Write {
            written[at..at + length].fill(true);
        } else if written[at..at + length].contains(&false) {
            let message = format!("{length} bytes at {at} of local memory were never written");
            return Err(Trouble::new(FaultKind::Uninitialised, toucher.lane, message));
        }
        Ok(&mut bytes[at..at + length])
    }

    fn global(&mut self, address: u64, length: usize, access: Access, lane: usize) -> Result<&mut [u8], Trouble> {
        let inside = |allocation: &Allocation| {
            address >= allocation.base && address - allocation.base + length as u64 <= allocation.data.len() as u64
        };
        if !self.handed.get(self.recent).is_some_and(|allocation| inside(allocation)) {
            match self.handed.iter().position(|allocation| inside(allocation)) {
                Some(index) => self.recent = index,
                None => return Err(self.nowhere(address, length, lane)),
            }
        }
        let (launch, block, owner) = (self.launch, self.block, self.owner);
        let allocation = &mut *self.handed[self.recent];
        let at = (address - allocation.base) as usize;
        let trouble = |kind, message| Err(Trouble::new(kind, lane, message));
        if access != Access::Read && ![owner, ANYBODY].contains(&allocation.owner) {
            let message = format!("a buffer of owner {} written by owner {owner}", allocation.owner);
            return trouble(FaultKind::ForeignWrite, message);
        }
        let own = trace(launch, if access == Access::Atomic { ATOMIC } else { block });
        // Another block of this launch, which nothing orders before or after this one.
        let clashes = |other: u64| (other >> 32) as u32 == launch && other != own && other & 0xffff_ffff != block;
        if access != Access::Read {
            allocation.last_writer = launch;
        }
        for byte in at..at + length {
            if access != Access::Write && !allocation.written[byte] {
                let message = format!("byte {byte} of a buffer of {} was never written", allocation.data.len());
                return trouble(FaultKind::Uninitialised, message);
            }
            if clashes(allocation.writer[byte]) {
                return trouble(FaultKind::Race, format!("another block wrote byte {byte} of the same buffer"));
            }
            let reader = allocation.reader[byte];
            if access == Access::Read {
                allocation.reader[byte] = if clashes(reader) { trace(launch, MANY) } else { own };
            } else {
                if clashes(reader) {
                    return trouble(FaultKind::Race, format!("another block read byte {byte} of the same buffer"));
                }
                allocation.writer[byte] = own;
                allocation.written[byte] = true;
            }
        }
        Ok(&mut allocation.data[at..at + length])
    }

    /// What is wrong with an address that no buffer of this launch holds.
    fn nowhere(&self, address: u64, length: usize, lane: usize) -> Trouble {
        // An allocation that was handed over is locked, so the memory is not asked about those.
        let near = self.handed.iter().find(|allocation| {
            let end = allocation.base + allocation.data.len() as u64;
            address >= allocation.base && address <= end
                || address < allocation.base && address + 4096 >= allocation.base
        });
        if let Some(allocation) = near {
            let at = address.wrapping_sub(allocation.base) as i64;
            let message = format!("{length} bytes at {at} of a buffer of {} bytes", allocation.data.len());
            return Trouble::new(FaultKind::OutOfBounds, lane, message);
        }
        let (kind, what) = match self.memory.lock().find(address) {
            Place::Live(..) => (FaultKind::ForeignBuffer, "lies in a buffer that was not handed to this launch"),
            Place::Freed => (FaultKind::UseAfterFree, "lies in memory that was freed"),
            Place::Nowhere => (FaultKind::OutOfBounds, "lies in no buffer"),
        };
        Trouble::new(kind, lane, format!("{address:#x} {what}"))
    }
}

/// Little-endian bytes as a register; `signed` widens the sign.
pub(crate) fn load(bytes: &[u8], signed: bool) -> u64 {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let value = u64::from_le_bytes(wide);
    let unused = 64 - 8 * bytes.len() as u32;
    if signed { (((value << unused) as i64) >> unused) as u64 } else { value }
}

/// What an atomic operation makes of the value in memory.
pub(crate) fn atomic(kind: AtomicKind, number: Kind, old: u64, a: u64, b: u64) -> Option<u64> {
    let float =
        |apply: fn(f32, f32) -> f32| u64::from(apply(f32::from_bits(old as u32), f32::from_bits(a as u32)).to_bits());
    let wide = |apply: fn(f64, f64) -> f64| apply(f64::from_bits(old), f64::from_bits(a)).to_bits();
    let signed = matches!(number, Kind::Signed32 | Kind::Signed64);
    let narrow = matches!(number, Kind::Signed32);
    let (left, right) = if narrow { (i64::from(old as i32), i64::from(a as i32)) } else { (old as i64, a as i64) };
    Some(match (kind, number) {
        (AtomicKind::Add, Kind::Single) => float(|x, y| x + y),
        (AtomicKind::Add, Kind::Double) => wide(|x, y| x + y),
        (_, Kind::Half | Kind::Brain) => return None,
        (AtomicKind::Add, _) => old.wrapping_add(a),
        (AtomicKind::Min, _) if signed => left.min(right) as u64,
        (AtomicKind::Max, _) if signed => left.max(right) as u64,
        (AtomicKind::Min, _) => old.min(a),
        (AtomicKind::Max, _) => old.max(a),
        (AtomicKind::And, _) => old & a,
        (AtomicKind::Or, _) => old | a,
        (AtomicKind::Xor, _) => old ^ a,
        (AtomicKind::Exchange, _) => a,
        (AtomicKind::CompareAndSwap, _) => {
            if old == a {
                b
            } else {
                old
            }
        }
    })
}
