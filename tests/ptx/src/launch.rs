//! Grids, blocks and warps.
//!
//! The lanes of a warp that are at the same instruction run it together; of several groups the one that is farthest behind
//! goes first, so that groups meet again after a branch. Blocks run one after the other. Where threads depend on an order
//! that nothing guarantees, the shadows report it; the interpreter itself keeps one order.

use crate::WARP;
use crate::access::World;
use crate::copies::Copies;
use crate::decode::Special;
use crate::fault::{Fault, FaultKind, Trouble};
use crate::memory::{Memory, Place};
use crate::module::{Kernel, Module};
use crate::run::{Run, Warp};
use crate::shared::SharedMemory;
use parking_lot::{Mutex, MutexGuard};

/// Threads of a block, as on every device, whatever a kernel was compiled for.
pub const MAX_THREADS: u32 = 1024;
/// Bytes of shared memory of a block without asking the driver for more.
pub const MAX_SHARED: usize = 48 << 10;

/// One kernel over a grid.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The module.
    pub module: &'a Module,
    /// One of its kernels.
    pub kernel: &'a Kernel,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of shared memory besides those that the kernel declares.
    pub shared: u32,
    /// The parameters at their offsets.
    pub params: &'a [u8],
    /// Whose launch it is; it may write only to memory of the same owner.
    pub owner: u64,
    /// A number that no other launch has.
    pub number: u32,
    /// Instructions, counted per warp, after which it counts as endless. Ten million take about a second.
    pub max_instructions: u64,
}

/// What a launch took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    /// Instructions, counted per warp.
    pub instructions: u64,
}

impl Launch<'_> {
    /// Runs it to its end, or to the first mistake.
    pub fn run(&self, memory: &Mutex<Memory>) -> Result<Statistics, Fault> {
        let mut statistics = Statistics::default();
        self.check()?;
        let handed = self.handed(memory);
        let mut guards: Vec<MutexGuard<'_, _>> = handed.iter().map(|allocation| allocation.lock()).collect();
        let threads = self.threads() as usize;
        let warps = threads.div_ceil(WARP);
        for z in 0..self.grid[2] {
            for y in 0..self.grid[1] {
                for x in 0..self.grid[0] {
                    let block = [x, y, z];
                    let linear = (u64::from(z) * u64::from(self.grid[1]) + u64::from(y)) * u64::from(self.grid[0]);
                    let mut warps: Vec<Warp> = (0..warps).map(|index| self.warp(index, block)).collect();
                    let local = self.kernel.local_bytes;
                    let mut run = Run {
                        kernel: self.kernel,
                        world: World {
                            memory,
                            handed: &mut guards,
                            constants: &self.module.constants,
                            params: self.params,
                            owner: self.owner,
                            launch: self.number,
                            block: linear + u64::from(x),
                            shared: SharedMemory::new(self.kernel.shared_bytes + self.shared as usize),
                            copies: std::iter::repeat_with(Copies::default).take(threads).collect(),
                            locals: vec![(vec![0xcd; local], vec![false; local]); threads],
                            recent: 0,
                        },
                        epoch: 0,
                        instructions: 0,
                        budget: self.max_instructions - statistics.instructions,
                    };
                    let result = run.block(&mut warps);
                    statistics.instructions += run.instructions;
                    result.map_err(|(trouble, warp, at)| self.fault(trouble, block, warp, at))?;
                }
            }
        }
        Ok(statistics)
    }

    fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    fn check(&self) -> Result<(), Fault> {
        let shared = self.kernel.shared_bytes + self.shared as usize;
        let wrong = if self.block.contains(&0) || self.grid.contains(&0) {
            Some("a grid or block without threads".to_owned())
        } else if self
            .block
            .iter()
            .try_fold(1u32, |all, axis| all.checked_mul(*axis))
            .is_none_or(|all| all > MAX_THREADS)
        {
            Some(format!("a block of {:?} threads; {MAX_THREADS} is the most", self.block))
        } else if self.threads() > self.kernel.most_threads {
            Some(format!("{} threads of a kernel compiled for {} at most", self.threads(), self.kernel.most_threads))
        } else if self.grid[1] > 65_535 || self.grid[2] > 65_535 || self.grid[0] > i32::MAX as u32 || self.block[2] > 64
        {
            Some(format!("a grid of {:?} and blocks of {:?}", self.grid, self.block))
        } else if shared > MAX_SHARED {
            Some(format!("{shared} bytes of shared memory; {MAX_SHARED} is the most"))
        } else if self.params.len() != self.kernel.param_bytes() {
            Some(format!("{} bytes of parameters instead of {}", self.params.len(), self.kernel.param_bytes()))
        } else {
            None
        };
        match wrong {
            Some(message) => {
                let trouble = Trouble::new(FaultKind::Configuration, 0, message);
                Err(self.fault(trouble, [0; 3], 0, 0))
            }
            None => Ok(()),
        }
    }

    /// The buffers whose addresses stand in the parameters. Nothing else may be touched.
    fn handed(&self, memory: &Mutex<Memory>) -> Vec<std::sync::Arc<Mutex<crate::Allocation>>> {
        let memory = memory.lock();
        let mut found = std::collections::BTreeMap::new();
        for bytes in self.params.as_chunks::<8>().0 {
            let address = u64::from_le_bytes(*bytes);
            if let Place::Live(allocation, at) = memory.find(address) {
                found.insert(address - at as u64, allocation);
            }
        }
        found.into_values().collect()
    }

    fn fault(&self, trouble: Trouble, block: [u32; 3], warp: usize, at: usize) -> Fault {
        Fault {
            kind: trouble.kind,
            message: trouble.message,
            kernel: self.kernel.name.clone(),
            block,
            thread: (warp * WARP + trouble.lane) as u32,
            statement: self.kernel.instructions.get(at).map(|instruction| instruction.text.clone()).unwrap_or_default(),
        }
    }

    fn warp(&self, index: usize, block: [u32; 3]) -> Warp {
        let mut registers = vec![[0u64; WARP]; self.kernel.registers];
        for (register, value) in &self.kernel.initial {
            registers[*register as usize] = [*value; WARP];
        }
        for (register, special) in &self.kernel.specials {
            for (lane, slot) in registers[*register as usize].iter_mut().enumerate() {
                let thread = (index * WARP + lane) as u32;
                let [width, height, _] = self.block;
                *slot = u64::from(match special {
                    Special::Thread(0) => thread % width,
                    Special::Thread(1) => thread / width % height,
                    Special::Thread(_) => thread / width / height,
                    Special::Threads(axis) => self.block[*axis],
                    Special::Block(axis) => block[*axis],
                    Special::Blocks(axis) => self.grid[*axis],
                    Special::Lane => lane as u32,
                    Special::Warp => index as u32,
                    Special::LanesBelow => (1u32 << lane) - 1,
                    Special::Clock => 0,
                });
            }
        }
        let count = (self.threads() as usize - index * WARP).min(WARP);
        let lanes = if count == WARP { !0 } else { (1u32 << count) - 1 };
        Warp::new(index, registers, lanes)
    }
}
