//! A block's shared memory, with a shadow that knows which threads touched a byte since the last barrier.

use crate::fault::{FaultKind, Trouble};

/// Who is asking, and how often it has waited at barriers of the block and of its warp.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Toucher {
    pub(crate) thread: u32,
    pub(crate) lane: usize,
    pub(crate) epoch: u32,
    pub(crate) warp_epoch: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Atomic,
}

/// The last access to a byte: a thread plus one, or [`MANY`]; 0 for nobody.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    who: u32,
    warp: u32,
    epoch: u32,
    warp_epoch: u32,
    atomic: bool,
}

const MANY: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct SharedMemory {
    pub(crate) data: Vec<u8>,
    written: Vec<bool>,
    /// Bytes that copies past the registers will write.
    arriving: Vec<bool>,
    writer: Vec<Mark>,
    reader: Vec<Mark>,
}

impl Mark {
    fn of(toucher: Toucher, atomic: bool) -> Mark {
        let Toucher { thread, epoch, warp_epoch, .. } = toucher;
        Mark { who: thread + 1, warp: thread / crate::WARP as u32, epoch, warp_epoch, atomic }
    }

    /// True when something makes the marked access come before the new one.
    fn before(&self, new: &Mark) -> bool {
        self.who == 0
            || self.epoch != new.epoch
            || self.who == new.who
            || (self.warp == new.warp && self.warp_epoch != new.warp_epoch)
    }
}

impl SharedMemory {
    pub(crate) fn new(bytes: usize) -> SharedMemory {
        SharedMemory {
            data: vec![0xcd; bytes],
            written: vec![false; bytes],
            arriving: vec![false; bytes],
            writer: vec![Mark::default(); bytes],
            reader: vec![Mark::default(); bytes],
        }
    }

    /// Notes that a copy to a place that was touched is on its way, or is no more.
    pub(crate) fn is_arriving(&mut self, address: u64, length: usize, arriving: bool) {
        let at = address as usize;
        self.arriving[at..at + length].fill(arriving);
    }

    /// Checks an access and answers the bytes.
    pub(crate) fn touch(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        toucher: Toucher,
    ) -> Result<&mut [u8], Trouble> {
        let lane = toucher.lane;
        let end =
            usize::try_from(address).ok().and_then(|at| at.checked_add(length)).filter(|end| *end <= self.data.len());
        let Some(end) = end else {
            let message = format!("{length} bytes at {address:#x} of {} bytes of shared memory", self.data.len());
            return Err(Trouble::new(FaultKind::OutOfBounds, lane, message));
        };
        let at = end - length;
        let new = Mark::of(toucher, access == Access::Atomic);
        if let Some(byte) = (at..end).find(|byte| self.arriving[*byte]) {
            let message = format!("a copy to byte {byte} of shared memory has not been waited for");
            return Err(Trouble::new(FaultKind::Race, lane, message));
        }
        for byte in at..end {
            if access != Access::Write && !self.written[byte] {
                let message = format!("byte {byte} of shared memory was never written");
                return Err(Trouble::new(FaultKind::Uninitialised, lane, message));
            }
            let writer = self.writer[byte];
            let harmless = writer.before(&new) || writer.atomic && new.atomic;
            if !harmless {
                let message =
                    format!("thread {} wrote byte {byte} of shared memory, and nothing orders both", writer.who - 1);
                return Err(Trouble::new(FaultKind::Race, lane, message));
            }
            let reader = &mut self.reader[byte];
            if access == Access::Read {
                let joins = !reader.before(&new);
                let several_warps = joins && reader.warp != new.warp;
                *reader = new;
                if joins {
                    reader.who = MANY;
                }
                if several_warps {
                    reader.warp = MANY;
                }
            } else {
                if !reader.before(&new) {
                    let message = format!("another thread read byte {byte} of shared memory, and nothing orders both");
                    return Err(Trouble::new(FaultKind::Race, lane, message));
                }
                self.writer[byte] = new;
                self.written[byte] = true;
            }
        }
        Ok(&mut self.data[at..end])
    }
}
