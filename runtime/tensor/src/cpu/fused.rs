//! Runs the steps of an expression over blocks of elements, whose results in between stay in the nearest cache.

use crate::cpu::elementwise::Input;
use crate::cpu::fill;
use crate::cpu::norm::Norm;
use crate::fusion::{Expression, Source, Step};
use crate::shape::Order;
use crate::{OpContext, Shape, Tensor, TensorError};
use std::sync::Arc;

/// Makes a block of results of blocks of operands.
pub(crate) type BlockStep<T> = dyn Fn(&[&[f32]], &mut [T]) + Send + Sync;

/// Reads a block of what lies where the results are written.
type ReadSpare<T> = dyn Fn(&[T], &mut [f32]) + Sync;

/// Elements of a block: some ten blocks fit the nearest cache.
const BLOCK: usize = 512;
/// The same where nothing is kept in between, so that less time goes into getting from block to block. Results of other types
/// are rounded in blocks of so many.
const BLOCK_OF_ONE_STEP: usize = crate::cpu::BLOCK;

/// The steps of an expression in order.
pub(crate) struct Program<'a> {
    steps: Vec<Planned<'a>>,
    scalars: Vec<f32>,
    /// What is read from memory. Held, since an expression inside may be somebody's result that was just computed.
    tensors: Vec<Tensor>,
    /// Of the result, and the order of its memory.
    shape: Shape,
    order: Order,
    registers: usize,
}

struct Planned<'a> {
    step: &'a Step,
    operands: Vec<Place>,
    /// The register that takes the result, but for the last step.
    register: usize,
}

#[derive(Clone, Copy)]
enum Place {
    Scalar(usize),
    Tensor(usize),
    /// The result of a step.
    Step(usize),
    /// What lies where the result is written.
    Spare,
}

impl<'a> Program<'a> {
    /// Plans an expression. Expressions inside that somebody else holds are computed.
    pub(crate) fn new(
        op: &'static str,
        expression: &'a Expression,
        cx: &OpContext,
    ) -> Result<Program<'a>, TensorError> {
        let (shape, order) = (expression.layout.shape, expression.order);
        let mut program =
            Program { steps: Vec::new(), scalars: Vec::new(), tensors: Vec::new(), shape, order, registers: 0 };
        program.add(op, expression, &mut Vec::new(), cx)?;
        program.assign_registers();
        Ok(program)
    }

    /// Adds what an expression is made of, then the expression. `done` are those that are steps already.
    fn add(
        &mut self,
        op: &'static str,
        expression: &'a Expression,
        done: &mut Vec<(*const Expression, Place)>,
        cx: &OpContext,
    ) -> Result<(), TensorError> {
        let mut operands = Vec::with_capacity(expression.sources.len());
        for source in &expression.sources {
            let place = match source {
                Source::Scalar(value) => self.scalar(*value),
                Source::Tensor(tensor) => self.tensor(tensor.clone()),
                Source::Spare => Place::Spare,
                Source::Expression(inner) => {
                    let key = Arc::as_ptr(inner);
                    let known = done.iter().find(|(other, _)| *other == key).map(|(_, place)| *place);
                    match (known, inner.held()) {
                        (Some(place), _) => place,
                        (None, Some(tensor)) => {
                            tensor.buffer(op, cx)?;
                            let place = self.tensor(tensor);
                            done.push((key, place));
                            place
                        }
                        (None, None) => {
                            self.add(op, inner, done, cx)?;
                            let place = Place::Step(self.steps.len() - 1);
                            done.push((key, place));
                            place
                        }
                    }
                }
            };
            operands.push(place);
        }
        self.steps.push(Planned { step: &expression.step, operands, register: 0 });
        Ok(())
    }

    fn scalar(&mut self, value: f32) -> Place {
        let bits = value.to_bits();
        let known = self.scalars.iter().position(|other| other.to_bits() == bits);
        Place::Scalar(known.unwrap_or_else(|| {
            self.scalars.push(value);
            self.scalars.len() - 1
        }))
    }

    fn tensor(&mut self, tensor: Tensor) -> Place {
        let same = |other: &Tensor| other.shares_storage(&tensor) && other.layout == tensor.layout;
        let known = self.tensors.iter().position(same);
        Place::Tensor(known.unwrap_or_else(|| {
            self.tensors.push(tensor);
            self.tensors.len() - 1
        }))
    }

    /// A register is free again after the last step that reads it.
    fn assign_registers(&mut self) {
        let mut last_use = vec![0; self.steps.len()];
        for (index, planned) in self.steps.iter().enumerate() {
            for operand in &planned.operands {
                if let Place::Step(step) = operand {
                    last_use[*step] = index;
                }
            }
        }
        let mut free = Vec::new();
        // The result of the last step goes to memory.
        for index in 0..self.steps.len() - 1 {
            // Its operands are still read while its result is written.
            self.steps[index].register = free.pop().unwrap_or_else(|| {
                self.registers += 1;
                self.registers - 1
            });
            let mut ended: Vec<usize> = self.steps[index]
                .operands
                .iter()
                .filter_map(|place| match place {
                    Place::Step(step) if last_use[*step] == index => Some(self.steps[*step].register),
                    _ => None,
                })
                .collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended);
        }
    }

    /// Runs the program; its last step is `last`, whose results go to `out`.
    pub(crate) fn run<T: Send>(
        &self,
        op: &'static str,
        out: &mut [T],
        cx: &OpContext,
        last: &BlockStep<T>,
    ) -> Result<(), TensorError> {
        if self.has_spare() {
            // It was lost when this was stopped before.
            return Err(TensorError::Cancelled { op });
        }
        self.run_with(op, out, cx, (last, None))
    }

    /// As [`Program::run`], over the elements of the operand that was spare.
    pub(crate) fn run_over(
        &self,
        op: &'static str,
        out: &mut [f32],
        cx: &OpContext,
        last: &BlockStep<f32>,
    ) -> Result<(), TensorError> {
        let read = |values: &[f32], block: &mut [f32]| block.copy_from_slice(values);
        let read: Option<&ReadSpare<f32>> = if self.has_spare() { Some(&read) } else { None };
        self.run_with(op, out, cx, (last, read))
    }

    fn has_spare(&self) -> bool {
        self.steps.iter().any(|planned| planned.operands.iter().any(|place| matches!(place, Place::Spare)))
    }

    fn run_with<T: Send>(
        &self,
        op: &'static str,
        out: &mut [T],
        cx: &OpContext,
        ends: (&BlockStep<T>, Option<&ReadSpare<T>>),
    ) -> Result<(), TensorError> {
        let mut inputs = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let layout = tensor.layout.expanded(self.shape).permuted(self.order.dims());
            inputs.push(Input::new(tensor.buffer(op, cx)?, &layout));
        }
        if let Some(norm) = self.norm() {
            let scratch = || Blocks::new(self, &inputs, BLOCK);
            return norm.by_parts(out, cx, scratch, |blocks, first, normalize, out| {
                for (block, piece) in out.chunks_mut(BLOCK).enumerate() {
                    let at = block * BLOCK;
                    let normalize = |out: &mut [f32]| normalize(at..at + out.len(), out);
                    self.block(&inputs, first + at, piece, blocks, &normalize, ends);
                }
            });
        }
        let length = if self.steps.len() == 1 { BLOCK_OF_ONE_STEP } else { BLOCK };
        fill(op, out, cx, &|start, chunk| {
            let mut blocks = Blocks::new(self, &inputs, length);
            for (index, piece) in chunk.chunks_mut(length).enumerate() {
                self.block(&inputs, start + index * length, piece, &mut blocks, &|_| {}, ends);
            }
        })
    }

    fn norm(&self) -> Option<&'a Norm> {
        self.steps.iter().find_map(|planned| match planned.step {
            Step::Norm(norm) => Some(&**norm),
            _ => None,
        })
    }

    /// Computes the elements from `at` on; `normalize` makes those of the normalisation, if there is one.
    fn block<T>(
        &self,
        inputs: &[Input<'_>],
        at: usize,
        piece: &mut [T],
        blocks: &mut Blocks,
        normalize: &dyn Fn(&mut [f32]),
        (last, read_spare): (&BlockStep<T>, Option<&ReadSpare<T>>),
    ) {
        let length = piece.len();
        let Some((ending, before)) = self.steps.split_last() else { return };
        // Tensors that don't lie so that a block of them is a slice are read once.
        for (input, scratch) in inputs.iter().zip(&mut blocks.tensors) {
            if !input.is_slice::<f32>() {
                input.read(at, &mut scratch[..length]);
            }
        }
        if let Some(read) = read_spare {
            read(piece, &mut blocks.spare[..length]);
        }
        for planned in before {
            let mut result = std::mem::take(&mut blocks.registers[planned.register]);
            let operands = Operands::new(self, planned, inputs, at, length, blocks);
            match planned.step {
                Step::Floats(step) => step(operands.all(), &mut result[..length]),
                Step::Test(step) => {
                    let mut truths = [false; BLOCK];
                    step(operands.all(), &mut truths[..length]);
                    for (result, truth) in result.iter_mut().zip(&truths[..length]) {
                        *result = f32::from(u8::from(*truth));
                    }
                }
                Step::Norm(_) => normalize(&mut result[..length]),
            }
            blocks.registers[planned.register] = result;
        }
        last(Operands::new(self, ending, inputs, at, length, blocks).all(), piece);
    }
}

/// Scratch memory of one thread.
struct Blocks {
    scalars: Vec<Vec<f32>>,
    /// Empty for those whose blocks are slices.
    tensors: Vec<Vec<f32>>,
    registers: Vec<Vec<f32>>,
    /// Of what lies where the result is written; empty if that is not read.
    spare: Vec<f32>,
}

impl Blocks {
    fn new(program: &Program<'_>, inputs: &[Input<'_>], length: usize) -> Blocks {
        let scratch = |input: &Input<'_>| vec![0.0; if input.is_slice::<f32>() { 0 } else { length }];
        Blocks {
            scalars: program.scalars.iter().map(|value| vec![*value; length]).collect(),
            tensors: inputs.iter().map(scratch).collect(),
            registers: (0..program.registers).map(|_| vec![0.0; length]).collect(),
            spare: vec![0.0; if program.has_spare() { length } else { 0 }],
        }
    }
}

/// The blocks that a step reads; no operation takes more than three.
struct Operands<'b> {
    blocks: [&'b [f32]; 3],
    count: usize,
}

impl<'b> Operands<'b> {
    fn new(
        program: &Program<'_>,
        planned: &Planned<'_>,
        inputs: &'b [Input<'_>],
        at: usize,
        length: usize,
        blocks: &'b Blocks,
    ) -> Operands<'b> {
        let mut operands = Operands { blocks: [&[]; 3], count: planned.operands.len() };
        for (block, place) in operands.blocks.iter_mut().zip(&planned.operands) {
            *block = match *place {
                Place::Scalar(index) => &blocks.scalars[index][..length],
                Place::Tensor(index) => {
                    inputs[index].slice(at, length).unwrap_or_else(|| &blocks.tensors[index][..length])
                }
                Place::Spare => &blocks.spare[..length],
                Place::Step(step) => &blocks.registers[program.steps[step].register][..length],
            };
        }
        operands
    }

    fn all(&self) -> &[&'b [f32]] {
        &self.blocks[..self.count]
    }
}
