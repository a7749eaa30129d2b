//! One block: its warps, the groups of lanes that they split into, and what each instruction does.

use crate::access::{Bytes, World, atomic, load};
use crate::alu;
use crate::decode::{Address, CarryWork, Combine, Operation, Register, Shuffle, Vote};
use crate::fault::{FaultKind, Trouble};
use crate::matrix;
use crate::module::Kernel;
use crate::shared::{Access, Toucher};
use crate::{Lanes, WARP};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    AtBarrier,
    /// At a shuffle, vote or barrier of the warp, for lanes that have not come yet.
    Waiting,
}

/// Lanes that are at the same instruction.
#[derive(Debug, Clone, Copy)]
struct Group {
    at: usize,
    lanes: u32,
    state: State,
}

pub(crate) struct Warp {
    index: usize,
    registers: Vec<Lanes>,
    carry: u32,
    groups: Vec<Group>,
    epoch: u32,
    exited: bool,
}

impl Warp {
    pub(crate) fn new(index: usize, registers: Vec<Lanes>, lanes: u32) -> Warp {
        let groups = vec![Group { at: 0, lanes, state: State::Running }];
        Warp { index, registers, carry: 0, groups, epoch: 0, exited: false }
    }

    fn lanes(&self) -> u32 {
        self.groups.iter().fold(0, |lanes, group| lanes | group.lanes)
    }
}

/// A block on its way.
pub(crate) struct Run<'a, 'g> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) world: World<'a, 'g>,
    /// Barriers passed.
    pub(crate) epoch: u32,
    pub(crate) instructions: u64,
    pub(crate) budget: u64,
}

/// What an instruction leads to.
enum Next {
    Following,
    Exit,
    Barrier,
    /// Lanes that go there, the others on.
    Jump(u32, usize),
    /// Each lane of the group by itself.
    Scatter(Vec<(u32, usize)>),
    /// Try again when the rest of the warp is here.
    Wait,
}

fn each(mask: u32) -> impl Iterator<Item = usize> {
    (0..WARP).filter(move |lane| mask >> lane & 1 == 1)
}

fn first(mask: u32) -> usize {
    (mask.trailing_zeros() as usize).min(WARP - 1)
}

impl Run<'_, '_> {
    /// To the end of all threads. A mistake comes with its warp and instruction.
    pub(crate) fn block(&mut self, warps: &mut [Warp]) -> Result<(), (Trouble, usize, usize)> {
        loop {
            for warp in warps.iter_mut() {
                self.warp(warp)?;
            }
            let mut waiting = warps.iter().flat_map(|warp| warp.groups.iter().map(move |group| (warp.index, group)));
            let Some((warp, group)) = waiting.next() else { return Ok(()) };
            let divergence = |warp: usize, group: &Group, message: &str| {
                Err((Trouble::new(FaultKind::Divergence, first(group.lanes), message), warp, group.at))
            };
            for (other_warp, other) in waiting {
                if other.at != group.at {
                    return divergence(other_warp, other, "threads of one block wait at different barriers");
                }
            }
            if warps.iter().any(|warp| warp.exited) {
                return divergence(warp, group, "other threads of the block have ended and never reach this barrier");
            }
            self.epoch += 1;
            for group in warps.iter_mut().flat_map(|warp| &mut warp.groups) {
                *group = Group { at: group.at + 1, state: State::Running, ..*group };
            }
        }
    }

    /// Until every lane has ended or waits at a barrier.
    fn warp(&mut self, warp: &mut Warp) -> Result<(), (Trouble, usize, usize)> {
        loop {
            let running = warp.groups.iter().filter(|group| group.state == State::Running);
            let Some(at) = running.map(|group| group.at).min() else {
                let stuck = warp.groups.iter().find(|group| group.state == State::Waiting);
                return match stuck {
                    None => Ok(()),
                    Some(group) => {
                        let message = "lanes named in the mask are elsewhere and never come here";
                        Err((Trouble::new(FaultKind::Divergence, first(group.lanes), message), warp.index, group.at))
                    }
                };
            };
            let mut lanes = 0;
            warp.groups.retain(|group| {
                let here = group.at == at && group.state != State::AtBarrier;
                lanes |= if here { group.lanes } else { 0 };
                !here
            });
            self.group(warp, Group { at, lanes, state: State::Running })?;
        }
    }

    /// Runs a group while it stays together and no other is behind it.
    fn group(&mut self, warp: &mut Warp, mut group: Group) -> Result<(), (Trouble, usize, usize)> {
        let alone = warp.groups.is_empty();
        loop {
            let index = warp.index;
            let kernel = self.kernel;
            let Some(instruction) = kernel.instructions.get(group.at) else {
                warp.exited = true;
                return Ok(());
            };
            self.instructions += 1;
            if self.instructions > self.budget {
                let trouble =
                    Trouble::new(FaultKind::Endless, first(group.lanes), "more instructions than a launch may take");
                return Err((trouble, index, group.at));
            }
            let mut lanes = group.lanes;
            if let Some((register, negated)) = instruction.guard {
                let values = &warp.registers[register as usize];
                lanes = each(lanes)
                    .filter(|lane| (values[*lane] & 1 == 1) != negated)
                    .fold(0, |mask, lane| mask | 1 << lane);
            }
            let next = if lanes == 0 {
                Ok(Next::Following)
            } else {
                self.execute(warp, &instruction.operation, lanes, group.lanes)
            };
            let following = group.at + 1;
            let go = |at, lanes| Group { at, lanes, state: State::Running };
            match next.map_err(|trouble| (trouble, index, group.at))? {
                Next::Following => group.at = following,
                Next::Jump(all, to) if all == group.lanes => group.at = to,
                Next::Jump(jumping, to) => {
                    warp.groups.push(go(to, jumping));
                    warp.groups.push(go(following, group.lanes & !jumping));
                    return Ok(());
                }
                Next::Scatter(targets) => {
                    let jumping = targets.iter().fold(0, |lanes, (lane, _)| lanes | lane);
                    warp.groups.extend(targets.iter().map(|(lane, to)| go(*to, *lane)));
                    if group.lanes & !jumping != 0 {
                        warp.groups.push(go(following, group.lanes & !jumping));
                    }
                    return Ok(());
                }
                Next::Exit => {
                    warp.exited = true;
                    if group.lanes & !lanes == 0 {
                        return Ok(());
                    }
                    group = go(following, group.lanes & !lanes);
                }
                Next::Barrier if lanes == group.lanes => {
                    warp.groups.push(Group { state: State::AtBarrier, ..group });
                    return Ok(());
                }
                Next::Barrier => {
                    let trouble = Trouble::new(FaultKind::Divergence, first(lanes), "a barrier under a condition");
                    return Err((trouble, index, group.at));
                }
                Next::Wait => {
                    warp.groups.push(Group { state: State::Waiting, ..group });
                    return Ok(());
                }
            }
            if !alone {
                warp.groups.push(group);
                return Ok(());
            }
        }
    }

    fn execute(&mut self, warp: &mut Warp, operation: &Operation, lanes: u32, together: u32) -> Result<Next, Trouble> {
        let registers = &mut warp.registers;
        match operation {
            Operation::Alu { function, out, a, b, c } => {
                let mut result = registers[*out as usize];
                let [a, b, c] = [a, b, c].map(|register| &registers[*register as usize]);
                function(&mut result, a, b, c, lanes);
                registers[*out as usize] = result;
            }
            Operation::Compare { function, out, opposite, a, b, combine } => {
                let mut result = [0; WARP];
                function(&mut result, &registers[*a as usize], &registers[*b as usize], &registers[*a as usize], lanes);
                let with = combine.map(|(how, register, negated)| (how, registers[register as usize], negated));
                for lane in each(lanes) {
                    let merged = |value: u64| match with {
                        None => value,
                        Some((how, with, negated)) => {
                            let with = (with[lane] & 1) ^ u64::from(negated);
                            match how {
                                Combine::And => value & with,
                                Combine::Or => value | with,
                                Combine::Xor => value ^ with,
                            }
                        }
                    };
                    registers[*out as usize][lane] = merged(result[lane]);
                    if let Some(opposite) = opposite {
                        registers[*opposite as usize][lane] = merged(1 - result[lane]);
                    }
                }
            }
            Operation::Select { out, yes, no, predicate } => {
                for lane in each(lanes) {
                    let from = if registers[*predicate as usize][lane] & 1 == 1 { yes } else { no };
                    registers[*out as usize][lane] = registers[*from as usize][lane];
                }
            }
            Operation::Not { out, a } => {
                for lane in each(lanes) {
                    registers[*out as usize][lane] = (registers[*a as usize][lane] & 1) ^ 1;
                }
            }
            Operation::Convert { conversion, out, a } => {
                for lane in each(lanes) {
                    registers[*out as usize][lane] = conversion.apply(registers[*a as usize][lane]);
                }
            }
            Operation::Offset { out, a, by } => {
                for lane in each(lanes) {
                    registers[*out as usize][lane] = registers[*a as usize][lane].wrapping_add(*by);
                }
            }
            Operation::Insert { out, value, into, position, length, width } => {
                for lane in each(lanes) {
                    let [value, into, position, length] =
                        [value, into, position, length].map(|register| registers[*register as usize][lane]);
                    registers[*out as usize][lane] = alu::insert(value, into, position, length, *width);
                }
            }
            Operation::Logic { out, a, b, c, table } => {
                for lane in each(lanes) {
                    let [a, b, c] = [a, b, c].map(|register| registers[*register as usize][lane]);
                    registers[*out as usize][lane] = alu::logic(a, b, c, *table);
                }
            }
            Operation::Carry { .. } => carry(warp, operation, lanes),
            Operation::Pack { out, parts, width } => {
                let mask = u64::MAX >> (64 - width);
                for lane in each(lanes) {
                    let join = |value: u64, (index, part): (usize, &Register)| {
                        value | (registers[*part as usize][lane] & mask) << (*width as usize * index)
                    };
                    registers[*out as usize][lane] = parts.iter().enumerate().fold(0, join);
                }
            }
            Operation::Unpack { outs, a, width } => {
                let mask = u64::MAX >> (64 - width);
                for lane in each(lanes) {
                    let value = registers[*a as usize][lane];
                    for (index, out) in outs.iter().enumerate() {
                        if let Some(out) = out {
                            registers[*out as usize][lane] = (value >> (*width as usize * index)) & mask;
                        }
                    }
                }
            }
            Operation::Load { .. } | Operation::Store { .. } | Operation::Atomic { .. } => {
                self.memory(warp, operation, lanes)?;
            }
            Operation::BeginCopy { .. } | Operation::WorkOnCopies(_) => self.copies(warp, operation, lanes)?,
            Operation::Branch { target } => return Ok(Next::Jump(lanes, *target)),
            Operation::Jump { index, targets } => {
                let mut scattered = Vec::new();
                for lane in each(lanes) {
                    let index = registers[*index as usize][lane] as u32 as usize;
                    let target = targets.get(index).ok_or_else(|| {
                        Trouble::new(
                            FaultKind::OutOfBounds,
                            lane,
                            format!("entry {index} of {} targets", targets.len()),
                        )
                    })?;
                    scattered.push((1 << lane, *target));
                }
                return Ok(Next::Scatter(scattered));
            }
            Operation::Barrier => return Ok(Next::Barrier),
            Operation::Nothing => {}
            Operation::WarpBarrier { .. }
            | Operation::Shuffle { .. }
            | Operation::Vote { .. }
            | Operation::ActiveMask { .. }
            | Operation::MultiplyMatrices(_)
            | Operation::LoadMatrices { .. } => return self.collective(warp, operation, lanes, together),
            Operation::Exit => return Ok(Next::Exit),
            Operation::Trap => return Err(Trouble::new(FaultKind::Trap, first(lanes), "the kernel trapped")),
        }
        Ok(Next::Following)
    }

    /// Instructions that lanes execute together.
    fn collective(
        &mut self,
        warp: &mut Warp,
        operation: &Operation,
        lanes: u32,
        together: u32,
    ) -> Result<Next, Trouble> {
        let mask = match operation {
            Operation::WarpBarrier { mask } | Operation::Shuffle { mask, .. } | Operation::Vote { mask, .. } => {
                warp.registers[*mask as usize][first(lanes)] as u32
            }
            Operation::MultiplyMatrices(_) | Operation::LoadMatrices { .. } => !0,
            _ => lanes,
        };
        if mask & lanes != lanes {
            let message = format!("the mask {mask:#x} lacks a lane that is here");
            return Err(Trouble::new(FaultKind::Divergence, first(lanes & !mask), message));
        }
        let alive = warp.lanes() | together;
        if mask & alive & !lanes != 0 {
            return Ok(Next::Wait);
        }
        if mask & !alive != 0 && warp.exited {
            let message = format!("the mask {mask:#x} names lanes that have ended");
            return Err(Trouble::new(FaultKind::Divergence, first(lanes), message));
        }
        match operation {
            Operation::MultiplyMatrices(_) | Operation::LoadMatrices { .. } => {
                self.matrices(warp, operation, lanes)?;
                return Ok(Next::Following);
            }
            _ => {}
        }
        let registers = &mut warp.registers;
        match operation {
            Operation::Shuffle { mode, out, inside, a, by, clamp, .. } => {
                let values = registers[*a as usize];
                for lane in each(lanes) {
                    let (by, clamp) = (registers[*by as usize][lane], registers[*clamp as usize][lane]);
                    let (from, valid) = shuffled(*mode, lane as i64, (by & 31) as i64, clamp);
                    let from = if valid { from } else { lane };
                    if lanes >> from & 1 == 0 {
                        let message = format!("lane {from} has no value for this shuffle");
                        return Err(Trouble::new(FaultKind::Divergence, lane, message));
                    }
                    registers[*out as usize][lane] = values[from];
                    if let Some(inside) = inside {
                        registers[*inside as usize][lane] = u64::from(valid);
                    }
                }
            }
            Operation::Vote { mode, out, predicate, negated, .. } => {
                let values = &registers[*predicate as usize];
                let yes = each(lanes)
                    .filter(|lane| (values[*lane] & 1 == 1) != *negated)
                    .fold(0u32, |mask, lane| mask | 1 << lane);
                let answer = match mode {
                    Vote::Any => u64::from(yes != 0),
                    Vote::All => u64::from(yes == lanes),
                    Vote::Ballot => u64::from(yes),
                };
                each(lanes).for_each(|lane| registers[*out as usize][lane] = answer);
            }
            Operation::ActiveMask { out } => {
                each(lanes).for_each(|lane| registers[*out as usize][lane] = u64::from(lanes));
                return Ok(Next::Following);
            }
            _ => {}
        }
        // Shuffles and votes do not order memory; only the barrier of a warp does.
        if matches!(operation, Operation::WarpBarrier { .. }) {
            warp.epoch += 1;
        }
        Ok(Next::Following)
    }

    /// What takes all lanes of a warp.
    fn matrices(&mut self, warp: &mut Warp, operation: &Operation, lanes: u32) -> Result<(), Trouble> {
        if lanes != !0 {
            let message = "a warp that is not whole works on matrices";
            return Err(Trouble::new(FaultKind::Divergence, first(!lanes), message));
        }
        match operation {
            Operation::MultiplyMatrices(multiply) => multiply.run(&mut warp.registers),
            Operation::LoadMatrices { address, load } => {
                for index in 0..load.outs.len() {
                    let mut rows = [[0u8; matrix::ROW_BYTES]; matrix::ROWS];
                    for (row, bytes) in rows.iter_mut().enumerate() {
                        let lane = index * matrix::ROWS + row;
                        let at = warp.registers[address.base as usize][lane].wrapping_add(address.offset as u64);
                        let toucher = self.toucher(warp, lane);
                        let found = self.world.touch(address.space, at, bytes.len(), Access::Read, toucher)?;
                        bytes.copy_from_slice(found.seen());
                    }
                    load.spread(index, &rows, &mut warp.registers);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Copies past the registers.
    fn copies(&mut self, warp: &Warp, operation: &Operation, lanes: u32) -> Result<(), Trouble> {
        for lane in each(lanes) {
            let toucher = self.toucher(warp, lane);
            let place =
                |address: &Address| warp.registers[address.base as usize][lane].wrapping_add(address.offset as u64);
            match operation {
                Operation::BeginCopy { to, from, bytes, read } => {
                    let read = warp.registers[*read as usize][lane] as u32 as usize;
                    self.world.begin_copy((place(to), place(from)), (*bytes, read), toucher)?;
                }
                Operation::WorkOnCopies(work) => self.world.work_on_copies(*work, toucher)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn toucher(&self, warp: &Warp, lane: usize) -> Toucher {
        let thread = (warp.index * WARP + lane) as u32;
        Toucher { thread, lane, epoch: self.epoch, warp_epoch: warp.epoch }
    }

    fn memory(&mut self, warp: &mut Warp, operation: &Operation, lanes: u32) -> Result<(), Trouble> {
        let (index, warp_epoch, epoch) = (warp.index, warp.epoch, self.epoch);
        let toucher = |lane: usize| Toucher { thread: (index * WARP + lane) as u32, lane, epoch, warp_epoch };
        let registers = &mut warp.registers;
        let place = |registers: &[Lanes], address: &Address, lane: usize| {
            registers[address.base as usize][lane].wrapping_add(address.offset as u64)
        };
        match operation {
            Operation::Load { address, outs, bytes, signed } => {
                for lane in each(lanes) {
                    let at = place(registers, address, lane);
                    let total = bytes * outs.len();
                    let found = self.world.touch(address.space, at, total, Access::Read, toucher(lane))?;
                    for (out, part) in outs.iter().zip(found.seen().chunks_exact(*bytes)) {
                        registers[*out as usize][lane] = load(part, *signed);
                    }
                }
            }
            Operation::Store { address, values, bytes } => {
                for lane in each(lanes) {
                    let at = place(registers, address, lane);
                    let total = bytes * values.len();
                    if let Bytes::Changeable(found) =
                        self.world.touch(address.space, at, total, Access::Write, toucher(lane))?
                    {
                        for (value, part) in values.iter().zip(found.chunks_exact_mut(*bytes)) {
                            part.copy_from_slice(&registers[*value as usize][lane].to_le_bytes()[..*bytes]);
                        }
                    }
                }
            }
            Operation::Atomic { address, kind, out, a, b, number, bytes } => {
                for lane in each(lanes) {
                    let at = place(registers, address, lane);
                    if let Bytes::Changeable(found) =
                        self.world.touch(address.space, at, *bytes, Access::Atomic, toucher(lane))?
                    {
                        let mask = u64::MAX >> (64 - 8 * bytes);
                        let (a, b) = (registers[*a as usize][lane] & mask, registers[*b as usize][lane] & mask);
                        let old = load(found, false);
                        let new = atomic(*kind, *number, old, a, b).ok_or_else(|| {
                            Trouble::new(FaultKind::Trap, lane, "this interpreter does not know the atomic operation")
                        })?;
                        found.copy_from_slice(&new.to_le_bytes()[..*bytes]);
                        if let Some(out) = out {
                            registers[*out as usize][lane] = old;
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The lane that a shuffle reads, and whether it lies in the segment.
fn shuffled(mode: Shuffle, lane: i64, by: i64, clamp: u64) -> (usize, bool) {
    let (limit, segment) = ((clamp & 31) as i64, (clamp >> 8 & 31) as i64);
    let highest = (lane & segment) | (limit & !segment);
    let (from, valid) = match mode {
        Shuffle::Up => (lane - by, lane - by >= highest),
        Shuffle::Down => (lane + by, lane + by <= highest),
        Shuffle::Butterfly => (lane ^ by, lane ^ by <= highest),
        Shuffle::Index => {
            let from = (lane & segment) | (by & !segment);
            (from, from <= highest)
        }
    };
    (from.clamp(0, WARP as i64 - 1) as usize, valid)
}

fn carry(warp: &mut Warp, operation: &Operation, lanes: u32) {
    let Operation::Carry { out, a, b, c, work, takes, sets, width } = operation else { return };
    let mask = u128::from(u64::MAX >> (64 - width));
    for lane in each(lanes) {
        let [a, b, c] = [a, b, c].map(|register| u128::from(warp.registers[*register as usize][lane]) & mask);
        let flag = u128::from(*takes && warp.carry >> lane & 1 == 1);
        let (value, flag) = match work {
            CarryWork::Add => (a + b + flag, (a + b + flag) > mask),
            CarryWork::Subtract => (a.wrapping_sub(b).wrapping_sub(flag), a < b + flag),
            CarryWork::MultiplyLow => (((a * b) & mask) + c + flag, ((a * b) & mask) + c + flag > mask),
            CarryWork::MultiplyHigh => (((a * b) >> width) + c + flag, ((a * b) >> width) + c + flag > mask),
        };
        warp.registers[*out as usize][lane] = (value & mask) as u64;
        if *sets {
            warp.carry = warp.carry & !(1 << lane) | u32::from(flag) << lane;
        }
    }
}
