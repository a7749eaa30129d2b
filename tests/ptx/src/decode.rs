//! Statements as operations on numbered registers.

use crate::alu::{self, Function};
use crate::convert::{Conversion, Kind};
use crate::copies::{self, CopyWork};
use crate::matrix;
use crate::memory::GLOBAL;
use crate::syntax::{Statement, type_bytes};
use std::collections::HashMap;

/// Where shared, local and module memory lie in generic addresses.
pub(crate) const SHARED: u64 = 0x0100_0000_0000;
pub(crate) const LOCAL: u64 = 0x0200_0000_0000;
pub(crate) const MODULE: u64 = 0x0300_0000_0000;
const _: () = assert!(MODULE < GLOBAL);

pub(crate) type Register = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    LanesBelow,
    Clock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    And,
    Or,
    Xor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicKind {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vote {
    Any,
    All,
    Ballot,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) space: Space,
    pub(crate) base: Register,
    pub(crate) offset: i64,
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Alu {
        function: Function,
        out: Register,
        a: Register,
        b: Register,
        c: Register,
    },
    Compare {
        function: Function,
        out: Register,
        opposite: Option<Register>,
        a: Register,
        b: Register,
        combine: Option<(Combine, Register, bool)>,
    },
    Select {
        out: Register,
        yes: Register,
        no: Register,
        predicate: Register,
    },
    Not {
        out: Register,
        a: Register,
    },
    Convert {
        conversion: Conversion,
        out: Register,
        a: Register,
    },
    Offset {
        out: Register,
        a: Register,
        by: u64,
    },
    Insert {
        out: Register,
        value: Register,
        into: Register,
        position: Register,
        length: Register,
        width: u32,
    },
    Logic {
        out: Register,
        a: Register,
        b: Register,
        c: Register,
        table: u8,
    },
    Carry {
        out: Register,
        a: Register,
        b: Register,
        c: Register,
        work: CarryWork,
        takes: bool,
        sets: bool,
        width: u32,
    },
    Pack {
        out: Register,
        parts: Vec<Register>,
        width: u32,
    },
    Unpack {
        outs: Vec<Option<Register>>,
        a: Register,
        width: u32,
    },
    Load {
        address: Address,
        outs: Vec<Register>,
        bytes: usize,
        signed: bool,
    },
    Store {
        address: Address,
        values: Vec<Register>,
        bytes: usize,
    },
    Atomic {
        address: Address,
        kind: AtomicKind,
        out: Option<Register>,
        a: Register,
        b: Register,
        number: Kind,
        bytes: usize,
    },
    Branch {
        target: usize,
    },
    Jump {
        index: Register,
        targets: Vec<usize>,
    },
    Barrier,
    WarpBarrier {
        mask: Register,
    },
    Nothing,
    Shuffle {
        mode: Shuffle,
        out: Register,
        inside: Option<Register>,
        a: Register,
        by: Register,
        clamp: Register,
        mask: Register,
    },
    Vote {
        mode: Vote,
        out: Register,
        predicate: Register,
        negated: bool,
        mask: Register,
    },
    ActiveMask {
        out: Register,
    },
    MultiplyMatrices(Box<matrix::Multiply>),
    /// A copy past the registers.
    BeginCopy {
        to: Address,
        from: Address,
        bytes: usize,
        read: Register,
    },
    WorkOnCopies(CopyWork),
    LoadMatrices {
        address: Address,
        load: matrix::Load,
    },
    Exit,
    Trap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarryWork {
    Add,
    Subtract,
    MultiplyLow,
    MultiplyHigh,
}

#[derive(Debug, Clone)]
pub(crate) struct Instruction {
    pub(crate) guard: Option<(Register, bool)>,
    pub(crate) operation: Operation,
    pub(crate) text: String,
}

/// Names of one function.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    registers: HashMap<String, Register>,
    constants: HashMap<u64, Register>,
    pub(crate) specials: HashMap<Register, Special>,
    pub(crate) symbols: HashMap<String, u64>,
    pub(crate) labels: HashMap<String, usize>,
    pub(crate) tables: HashMap<String, Vec<String>>,
    pub(crate) count: u32,
}

/// An integer or float literal as bits.
pub(crate) fn immediate(text: &str) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0f").or_else(|| text.strip_prefix("0F")) {
        return u32::from_str_radix(bits, 16).ok().map(u64::from);
    }
    if let Some(bits) = text.strip_prefix("0d").or_else(|| text.strip_prefix("0D")) {
        return u64::from_str_radix(bits, 16).ok();
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = digits.trim_end_matches('U');
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

impl Scope {
    fn fresh(&mut self) -> Register {
        self.count += 1;
        self.count - 1
    }

    pub(crate) fn constants(&self) -> Vec<(Register, u64)> {
        self.constants.iter().map(|(value, register)| (*register, *value)).collect()
    }

    fn constant(&mut self, value: u64) -> Register {
        if let Some(register) = self.constants.get(&value) {
            return *register;
        }
        let register = self.fresh();
        self.constants.insert(value, register);
        register
    }

    /// A register, literal, symbol or special register.
    pub(crate) fn operand(&mut self, text: &str) -> Result<Register, String> {
        if let Some(register) = self.registers.get(text) {
            return Ok(*register);
        }
        if let Some(value) = immediate(text).or_else(|| self.symbols.get(text).copied()) {
            return Ok(self.constant(value));
        }
        if !text.starts_with('%') {
            return Err(format!("no such name: {text}"));
        }
        let register = self.fresh();
        self.registers.insert(text.to_owned(), register);
        if let Some(special) = special(text) {
            self.specials.insert(register, special);
        }
        Ok(register)
    }

    pub(crate) fn list(&mut self, text: &str) -> Result<Vec<Register>, String> {
        let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        match inner {
            Some(inner) => inner.split(',').map(|name| self.operand(name.trim())).collect(),
            None => Ok(vec![self.operand(text.trim())?]),
        }
    }

    pub(crate) fn address(&mut self, space: Space, text: &str) -> Result<Address, String> {
        let inner = text.trim_start_matches('[').trim_end_matches(']').trim();
        let (base, offset) = match inner.split_once('+') {
            Some((base, offset)) => {
                let value = immediate(offset.trim()).ok_or_else(|| format!("an offset of {offset}"))?;
                (base.trim(), value as i64)
            }
            None => (inner, 0),
        };
        Ok(Address { space, base: self.operand(base)?, offset })
    }

    pub(crate) fn instruction(&mut self, statement: &Statement) -> Result<Instruction, String> {
        let guard = match &statement.guard {
            Some((name, negated)) => Some((self.operand(name)?, *negated)),
            None => None,
        };
        let parts: Vec<&str> = statement.opcode.split('.').collect();
        let operands: Vec<&str> = statement.operands.iter().map(String::as_str).collect();
        let operation =
            self.operation(&parts, &operands).map_err(|problem| format!("`{}`: {problem}", statement.text))?;
        Ok(Instruction { guard, operation, text: statement.text.clone() })
    }

    fn operation(&mut self, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
        let has = |part: &str| parts.contains(&part);
        let kind = *parts.last().ok_or("an empty statement")?;
        let at = |index: usize| operands.get(index).copied().ok_or_else(|| "an operand is missing".to_owned());
        match parts[0] {
            "ret" | "exit" => Ok(Operation::Exit),
            "trap" | "brkpt" => Ok(Operation::Trap),
            "membar" | "fence" | "griddepcontrol" => Ok(Operation::Nothing),
            "bra" => Ok(Operation::Branch { target: self.label(at(0)?)? }),
            "brx" => {
                let names = self.tables.get(at(1)?).cloned().ok_or("a jump without a table")?;
                let targets = names.iter().map(|name| self.label(name)).collect::<Result<_, _>>()?;
                Ok(Operation::Jump { index: self.operand(at(0)?)?, targets })
            }
            "bar" | "barrier" if has("warp") => Ok(Operation::WarpBarrier { mask: self.operand(at(0)?)? }),
            "bar" | "barrier" if has("sync") && operands.len() == 1 && at(0)? == "0" => Ok(Operation::Barrier),
            "mov" => self.mov(kind, at(0)?, at(1)?),
            "cvta" => self.generic(parts, at(0)?, at(1)?),
            "cvt" => {
                let conversion = Conversion::of(parts).ok_or("an unknown conversion")?;
                Ok(Operation::Convert { conversion, out: self.operand(at(0)?)?, a: self.operand(at(1)?)? })
            }
            "setp" => self.compare(parts, operands),
            "selp" => Ok(Operation::Select {
                out: self.operand(at(0)?)?,
                yes: self.operand(at(1)?)?,
                no: self.operand(at(2)?)?,
                predicate: self.operand(at(3)?)?,
            }),
            "not" if kind == "pred" => Ok(Operation::Not { out: self.operand(at(0)?)?, a: self.operand(at(1)?)? }),
            "bfi" => Ok(Operation::Insert {
                out: self.operand(at(0)?)?,
                value: self.operand(at(1)?)?,
                into: self.operand(at(2)?)?,
                position: self.operand(at(3)?)?,
                length: self.operand(at(4)?)?,
                width: if kind == "b64" { 64 } else { 32 },
            }),
            "lop3" => Ok(Operation::Logic {
                out: self.operand(at(0)?)?,
                a: self.operand(at(1)?)?,
                b: self.operand(at(2)?)?,
                c: self.operand(at(3)?)?,
                table: immediate(at(4)?).ok_or("no table")? as u8,
            }),
            "addc" | "subc" | "madc" => self.carry(parts, operands),
            "add" | "sub" | "mad" if has("cc") => self.carry(parts, operands),
            "ld" | "ldu" => {
                let address = self.address(space(parts), at(1)?)?;
                let bytes = type_bytes(kind).ok_or("an unknown type")?;
                Ok(Operation::Load { address, outs: self.list(at(0)?)?, bytes, signed: kind.starts_with('s') })
            }
            "st" => {
                let address = self.address(space(parts), at(0)?)?;
                let bytes = type_bytes(kind).ok_or("an unknown type")?;
                Ok(Operation::Store { address, values: self.list(at(1)?)?, bytes })
            }
            "atom" | "red" => self.atomic(parts, operands),
            "shfl" => self.shuffle(parts, operands),
            "vote" => {
                let mode = if has("ballot") {
                    Vote::Ballot
                } else if has("any") {
                    Vote::Any
                } else if has("all") {
                    Vote::All
                } else {
                    return Err("an unknown vote".to_owned());
                };
                let predicate = at(1)?;
                let negated = predicate.starts_with('!');
                let predicate = self.operand(predicate.trim_start_matches('!'))?;
                Ok(Operation::Vote {
                    mode,
                    out: self.operand(at(0)?)?,
                    predicate,
                    negated,
                    mask: self.operand(at(2)?)?,
                })
            }
            "mma" => matrix::Multiply::of(self, parts, operands)
                .map(|multiply| Operation::MultiplyMatrices(Box::new(multiply))),
            "ldmatrix" => Ok(Operation::LoadMatrices {
                address: self.address(Space::Shared, at(1)?)?,
                load: matrix::Load::of(self, parts, at(0)?)?,
            }),
            "cp" => copies::decode(self, parts, operands),
            "activemask" => Ok(Operation::ActiveMask { out: self.operand(at(0)?)? }),
            _ => self.arithmetic(parts, operands),
        }
    }

    fn arithmetic(&mut self, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
        let (function, count) = alu::select(parts).ok_or("this interpreter does not know it")?;
        if operands.len() != count + 1 {
            return Err(format!("{} operands instead of {}", operands.len(), count + 1));
        }
        let out = self.operand(operands[0])?;
        let mut sources = [out; 3];
        for (slot, text) in sources.iter_mut().zip(&operands[1..]) {
            *slot = self.operand(text)?;
        }
        Ok(Operation::Alu { function, out, a: sources[0], b: sources[1], c: sources[2] })
    }

    fn label(&self, name: &str) -> Result<usize, String> {
        self.labels.get(name).copied().ok_or_else(|| format!("no such label: {name}"))
    }

    fn mov(&mut self, kind: &str, out: &str, from: &str) -> Result<Operation, String> {
        let width = 8 * type_bytes(kind).ok_or("an unknown type")? as u32;
        if let Some(inner) = out.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let names: Vec<&str> = inner.split(',').map(str::trim).collect();
            let outs = names.iter().map(|name| if *name == "_" { Ok(None) } else { self.operand(name).map(Some) });
            let outs: Vec<_> = outs.collect::<Result<_, _>>()?;
            let width = width / outs.len() as u32;
            return Ok(Operation::Unpack { outs, a: self.operand(from)?, width });
        }
        let parts = self.list(from)?;
        let width = width / parts.len() as u32;
        let out = self.operand(out)?;
        Ok(match parts.as_slice() {
            [one] => Operation::Offset { out, a: *one, by: 0 },
            _ => Operation::Pack { out, parts, width },
        })
    }

    fn generic(&mut self, parts: &[&str], out: &str, from: &str) -> Result<Operation, String> {
        let window = match space(parts) {
            Space::Shared => SHARED,
            Space::Local => LOCAL,
            Space::Global | Space::Constant => 0,
            _ => return Err("no window for this space".to_owned()),
        };
        let by = if parts.contains(&"to") { window.wrapping_neg() } else { window };
        Ok(Operation::Offset { out: self.operand(out)?, a: self.operand(from)?, by })
    }

    /// `setp.cmp[.bool].type p[|q], a, b[, [!]c]`
    fn compare(&mut self, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
        let kind = parts[parts.len() - 1];
        let function = alu::comparison(parts[1], kind).ok_or("an unknown comparison")?;
        let combine = parts[2..].iter().find_map(|part| match *part {
            "and" => Some(Combine::And),
            "or" => Some(Combine::Or),
            "xor" => Some(Combine::Xor),
            _ => None,
        });
        let inputs = if combine.is_some() { 3 } else { 2 };
        let outs = operands.len().checked_sub(inputs).filter(|outs| (1..=2).contains(outs)).ok_or("odd operands")?;
        let combine = match combine {
            Some(combine) => {
                let name = operands[operands.len() - 1];
                Some((combine, self.operand(name.trim_start_matches('!'))?, name.starts_with('!')))
            }
            None => None,
        };
        let opposite = if outs == 2 { Some(self.operand(operands[1])?) } else { None };
        let (a, b) = (self.operand(operands[outs])?, self.operand(operands[outs + 1])?);
        Ok(Operation::Compare { function, out: self.operand(operands[0])?, opposite, a, b, combine })
    }

    fn carry(&mut self, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
        let work = match parts[0] {
            "add" | "addc" => CarryWork::Add,
            "sub" | "subc" => CarryWork::Subtract,
            _ if parts.contains(&"hi") => CarryWork::MultiplyHigh,
            _ => CarryWork::MultiplyLow,
        };
        let wanted = if matches!(work, CarryWork::Add | CarryWork::Subtract) { 3 } else { 4 };
        let kind = parts[parts.len() - 1];
        if operands.len() != wanted || kind.starts_with('s') && work == CarryWork::MultiplyHigh {
            return Err("odd operands".to_owned());
        }
        let out = self.operand(operands[0])?;
        let (a, b) = (self.operand(operands[1])?, self.operand(operands[2])?);
        let c = if wanted == 4 { self.operand(operands[3])? } else { a };
        let width = 8 * type_bytes(kind).ok_or("an unknown type")? as u32;
        let takes = parts[0].ends_with('c') && parts[0] != "sub";
        Ok(Operation::Carry { out, a, b, c, work, takes, sets: parts.contains(&"cc"), width })
    }

    fn atomic(&mut self, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
        let kind = parts.iter().find_map(|part| {
            Some(match *part {
                "add" => AtomicKind::Add,
                "min" => AtomicKind::Min,
                "max" => AtomicKind::Max,
                "and" => AtomicKind::And,
                "or" => AtomicKind::Or,
                "xor" => AtomicKind::Xor,
                "exch" => AtomicKind::Exchange,
                "cas" => AtomicKind::CompareAndSwap,
                _ => return None,
            })
        });
        let kind = kind.ok_or("an unknown atomic operation")?;
        let name = parts[parts.len() - 1];
        let (out, rest) = match parts[0] {
            "red" => (None, operands),
            _ => (Some(self.operand(operands.first().ok_or("no operand")?)?), &operands[1..]),
        };
        let address = self.address(space(parts), rest.first().ok_or("no address")?)?;
        let a = self.operand(rest.get(1).ok_or("no value")?)?;
        let b = match rest.get(2) {
            Some(text) => self.operand(text)?,
            None => a,
        };
        let bytes = type_bytes(name).ok_or("an unknown type")?;
        let number = Kind::of(name).ok_or("an unknown type")?;
        Ok(Operation::Atomic { address, kind, out, a, b, number, bytes })
    }

    /// `shfl.sync.mode.b32 d[|p], a, b, c, mask`
    fn shuffle(&mut self, parts: &[&str], operands: &[&str]) -> Result<Operation, String> {
        let mode = match parts.get(2) {
            Some(&"up") => Shuffle::Up,
            Some(&"down") => Shuffle::Down,
            Some(&"bfly") => Shuffle::Butterfly,
            Some(&"idx") => Shuffle::Index,
            _ => return Err("an unknown shuffle".to_owned()),
        };
        let outs = operands.len().checked_sub(4).filter(|outs| (1..=2).contains(outs)).ok_or("odd operands")?;
        let inside = if outs == 2 { Some(self.operand(operands[1])?) } else { None };
        let [a, by, clamp, mask] = [0, 1, 2, 3].map(|index| self.operand(operands[outs + index]));
        Ok(Operation::Shuffle {
            mode,
            out: self.operand(operands[0])?,
            inside,
            a: a?,
            by: by?,
            clamp: clamp?,
            mask: mask?,
        })
    }
}

fn space(parts: &[&str]) -> Space {
    let named = parts.iter().find_map(|part| {
        Some(match *part {
            "global" => Space::Global,
            "shared" | "shared::cta" => Space::Shared,
            "local" => Space::Local,
            "param" | "param::entry" => Space::Param,
            "const" => Space::Constant,
            _ => return None,
        })
    });
    named.unwrap_or(Space::Generic)
}

fn special(name: &str) -> Option<Special> {
    let axis = match name.rsplit('.').next() {
        Some("x") => 0,
        Some("y") => 1,
        _ => 2,
    };
    Some(match name.split('.').next()? {
        "%tid" => Special::Thread(axis),
        "%ntid" => Special::Threads(axis),
        "%ctaid" => Special::Block(axis),
        "%nctaid" => Special::Blocks(axis),
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%lanemask_lt" => Special::LanesBelow,
        "%clock" | "%clock64" => Special::Clock,
        _ => return None,
    })
}
