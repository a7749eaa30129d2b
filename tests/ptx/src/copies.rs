//! Copies to shared memory past the registers (`cp.async`), which arrive whenever they like: here as late as they may, when their
//! thread waits for them. Until then nobody may touch the place, and others may only after a barrier behind the wait.

use crate::access::World;
use crate::decode::{Operation, Scope, Space, immediate};
use crate::fault::{FaultKind, Trouble};
use crate::shared::{Access, Toucher};
use std::collections::VecDeque;

/// A copy on its way.
#[derive(Debug)]
struct Copy {
    to: u64,
    data: Vec<u8>,
}

/// Those of one thread.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Those in no group yet.
    begun: Vec<Copy>,
    /// Groups on their way, the oldest in front.
    groups: VecDeque<Vec<Copy>>,
}

/// What a thread does about its copies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CopyWork {
    /// Makes a group of those that were begun since the last.
    EndGroup,
    /// Waits for all groups but so many.
    WaitForGroups(usize),
    /// Waits for all, in groups or not.
    WaitForAll,
}

/// `cp.async.cg.shared.global [to], [from], bytes[, read]`, and what is done about those under way.
pub(crate) fn decode(scope: &mut Scope, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
    let number = |text: Option<&&str>| text.and_then(|text| immediate(text)).ok_or("no number");
    match parts {
        ["cp", "async", "commit_group"] => Ok(Operation::WorkOnCopies(CopyWork::EndGroup)),
        ["cp", "async", "wait_group"] => {
            Ok(Operation::WorkOnCopies(CopyWork::WaitForGroups(number(operands.first())? as usize)))
        }
        ["cp", "async", "wait_all"] => Ok(Operation::WorkOnCopies(CopyWork::WaitForAll)),
        ["cp", "async", "cg", "shared" | "shared::cta", "global"] => {
            let [to, from, bytes, read @ ..] = operands else { return Err("too few operands".to_owned()) };
            Ok(Operation::BeginCopy {
                to: scope.address(Space::Shared, to)?,
                from: scope.address(Space::Global, from)?,
                bytes: number(Some(bytes))? as usize,
                read: scope.operand(read.first().unwrap_or(bytes))?,
            })
        }
        _ => Err("this interpreter does not know this form of cp".to_owned()),
    }
}

impl World<'_, '_> {
    /// Begins to copy `length` bytes, of which `read` are read and the rest is zeros.
    pub(crate) fn begin_copy(
        &mut self,
        (to, from): (u64, u64),
        (length, read): (usize, usize),
        toucher: Toucher,
    ) -> Result<(), Trouble> {
        let trouble = |kind, message: String| Err(Trouble::new(kind, toucher.lane, message));
        if read > length {
            return trouble(FaultKind::OutOfBounds, format!("a copy of {length} bytes reads {read}"));
        }
        if !from.is_multiple_of(length as u64) {
            return trouble(FaultKind::Misaligned, format!("a copy of {length} bytes from {from:#x}"));
        }
        let mut data = vec![0; length];
        if read > 0 {
            data[..read].copy_from_slice(self.touch(Space::Global, from, read, Access::Read, toucher)?.seen());
        }
        // It may arrive at once, so it must be ordered behind whoever has used the place before.
        self.touch(Space::Shared, to, length, Access::Write, toucher)?;
        self.shared.is_arriving(to, length, true);
        self.copies[toucher.thread as usize].begun.push(Copy { to, data });
        Ok(())
    }

    pub(crate) fn work_on_copies(&mut self, work: CopyWork, toucher: Toucher) -> Result<(), Trouble> {
        let Copies { begun, groups } = &mut self.copies[toucher.thread as usize];
        let arrived: Vec<Copy> = match work {
            CopyWork::EndGroup => {
                groups.push_back(std::mem::take(begun));
                return Ok(());
            }
            CopyWork::WaitForGroups(left) => groups.drain(..groups.len().saturating_sub(left)).flatten().collect(),
            CopyWork::WaitForAll => groups.drain(..).flatten().chain(std::mem::take(begun)).collect(),
        };
        for Copy { to, data } in arrived {
            self.shared.is_arriving(to, data.len(), false);
            self.shared.touch(to, data.len(), Access::Write, toucher)?.copy_from_slice(&data);
        }
        Ok(())
    }
}
