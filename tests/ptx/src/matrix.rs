//! What a warp does together with small matrices: `mma` and `ldmatrix`. All 32 lanes take part, and each holds the fragment
//! of a matrix that the PTX ISA gives it: a lane's *group* is its number / 4, its *place* the number % 4.

use crate::alu::toward_zero;
use crate::convert::Kind;
use crate::decode::{Register, Scope};
use crate::{Lanes, WARP};

/// `d = a · b + c`, where `a` is 16 × depth, `b` depth × 8, `c` and `d` 16 × 8; see the PTX ISA, "Matrix fragments for
/// mma.m16n8k16 with floating point type".
#[derive(Debug, Clone)]
pub(crate) struct Multiply {
    out: [Register; 4],
    a: Vec<Register>,
    b: Vec<Register>,
    c: [Register; 4],
    number: Kind,
}

/// One to four matrices of 8 × 8 halves from shared memory: the address of row `r` of matrix `m` is that of lane 8·m + r.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) outs: Vec<Register>,
    pub(crate) transposed: bool,
}

/// Rows of one matrix of `ldmatrix`, and bytes of one.
pub(crate) const ROWS: usize = 8;
pub(crate) const ROW_BYTES: usize = 16;

/// A lane, its group, and its place in that.
struct Seat {
    lane: usize,
    group: usize,
    place: usize,
}

fn seats() -> impl Iterator<Item = Seat> {
    (0..WARP).map(|lane| Seat { lane, group: lane / 4, place: lane % 4 })
}

impl Multiply {
    /// Of the parts of an opcode such as `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`.
    pub(crate) fn of(scope: &mut Scope, parts: &[&str], operands: &[&str]) -> Result<Multiply, String> {
        let ["mma", "sync", "aligned", shape, "row", "col", "f32", left, right, "f32"] = *parts else {
            return Err("this interpreter does not know this form of mma".to_owned());
        };
        let number = match (shape, left, right) {
            ("m16n8k8" | "m16n8k16", "f16", "f16") => Kind::Half,
            ("m16n8k8" | "m16n8k16", "bf16", "bf16") => Kind::Brain,
            _ => return Err(format!("this interpreter does not know mma of {shape} with {left} and {right}")),
        };
        let wide = usize::from(shape == "m16n8k16") + 1;
        let mut lists = operands.iter().map(|text| scope.list(text));
        let mut next = |count: usize| match lists.next() {
            Some(Ok(list)) if list.len() == count => Ok(list),
            Some(Err(problem)) => Err(problem),
            _ => Err(format!("a list of {count} registers is missing")),
        };
        let (out, a, b, c) = (next(4)?, next(2 * wide)?, next(wide)?, next(4)?);
        let four = |list: Vec<Register>| <[Register; 4]>::try_from(list).map_err(|_| "not four registers".to_owned());
        Ok(Multiply { out: four(out)?, a, b, c: four(c)?, number })
    }

    /// For all lanes at once.
    pub(crate) fn run(&self, registers: &mut [Lanes]) {
        let (mut a, mut b) = ([[0.0f64; 16]; 16], [[0.0f64; 8]; 16]);
        for Seat { lane, group, place } in seats() {
            for half in 0..2 {
                let number = |register: Register| self.number.float(registers[register as usize][lane] >> (16 * half));
                for (index, register) in self.a.iter().enumerate() {
                    a[group + index % 2 * 8][2 * place + half + index / 2 * 8] = number(*register);
                }
                for (index, register) in self.b.iter().enumerate() {
                    b[2 * place + half + index * 8][group] = number(*register);
                }
            }
        }
        let depth = 8 * self.b.len();
        for Seat { lane, group, place } in seats() {
            for index in 0..4 {
                let (row, column) = (group + index / 2 * 8, 2 * place + index % 2);
                let start = f64::from(f32::from_bits(registers[self.c[index] as usize][lane] as u32));
                let sum = (0..depth).fold(start, |sum, k| a[row][k].mul_add(b[k][column], sum));
                // What is seen of tensor cores: they cut sums off, and do not round them.
                registers[self.out[index] as usize][lane] = u64::from(toward_zero(sum).to_bits());
            }
        }
    }
}

impl Load {
    /// Of the parts of an opcode such as `ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16`.
    pub(crate) fn of(scope: &mut Scope, parts: &[&str], outs: &str) -> Result<Load, String> {
        let (count, transposed) = match *parts {
            ["ldmatrix", "sync", "aligned", "m8n8", count, "shared" | "shared::cta", "b16"] => (count, false),
            ["ldmatrix", "sync", "aligned", "m8n8", count, "trans", "shared" | "shared::cta", "b16"] => (count, true),
            _ => return Err("this interpreter does not know this form of ldmatrix".to_owned()),
        };
        let outs = scope.list(outs)?;
        match (count, outs.len()) {
            ("x1", 1) | ("x2", 2) | ("x4", 4) => Ok(Load { outs, transposed }),
            _ => Err(format!("{count} matrices in {} registers", outs.len())),
        }
    }

    /// Hands the rows of matrix `index` to the lanes.
    pub(crate) fn spread(&self, index: usize, rows: &[[u8; ROW_BYTES]; ROWS], registers: &mut [Lanes]) {
        let half = |row: usize, column: usize| {
            u64::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]))
        };
        for (lane, out) in registers[self.outs[index] as usize].iter_mut().enumerate() {
            let (group, first) = (lane / 4, 2 * (lane % 4));
            let [low, high] = [first, first + 1].map(|place| match self.transposed {
                true => half(place, group),
                false => half(group, place),
            });
            *out = low | high << 16;
        }
    }
}
