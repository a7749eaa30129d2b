//! Between handles of a guest and tensors: looking up operands, running an operation, handing out its results.

use vivarium_tensor::{OpContext, Tensor, TensorError};
use wasmtime::component::Resource;

use super::{Answer, Handle};
use crate::bindings::vivarium::node::{tensors::Operand, types::Error};
use crate::host::{HostState, HostTensor, state::interrupted};

impl HostState {
    /// Runs an operation on one tensor.
    pub(super) fn on(
        &mut self,
        handle: &Resource<HostTensor>,
        operation: impl FnOnce(&Tensor, &OpContext) -> Result<Tensor, TensorError>,
    ) -> Answer {
        let tensor = self.operand_tensor(handle)?;
        self.answer(|cx| operation(&tensor, cx))
    }

    /// Runs an operation that answers several tensors; the guest gets all of them or none.
    pub(super) fn on_many(
        &mut self,
        handle: &Handle,
        operation: impl FnOnce(&Tensor, &OpContext) -> Result<Vec<Tensor>, TensorError>,
    ) -> wasmtime::Result<Result<Vec<Handle>, Error>> {
        let tensor = self.operand_tensor(handle)?;
        let operands = self.take_operands();
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let results = match operation(&tensor, self.op()) {
            Ok(results) => results,
            Err(error) => return Ok(Err(self.tensor_error(&error))),
        };
        let mut handles: Vec<Handle> = Vec::with_capacity(results.len());
        for result in results {
            match self.push_tensor(self.label_result(&operands, result))? {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    for handle in handles {
                        self.release_handle();
                        self.table.delete(handle)?;
                    }
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(handles))
    }

    pub(super) fn on_two(
        &mut self,
        handle: &Handle,
        operation: impl FnOnce(&Tensor, &OpContext) -> Result<(Tensor, Tensor), TensorError>,
    ) -> wasmtime::Result<Result<(Handle, Handle), Error>> {
        let answer =
            self.on_many(handle, |tensor, cx| operation(tensor, cx).map(|(first, second)| vec![first, second]));
        Ok(answer?.map(|handles| {
            let mut handles = handles.into_iter();
            match (handles.next(), handles.next()) {
                (Some(first), Some(second)) => (first, second),
                _ => unreachable!("two tensors give two handles"),
            }
        }))
    }

    pub(super) fn tensors(&self, handles: &[Handle]) -> wasmtime::Result<Vec<Tensor>> {
        handles.iter().map(|handle| self.operand_tensor(handle)).collect()
    }

    pub(super) fn maybe(&self, handle: Option<&Handle>) -> wasmtime::Result<Option<Tensor>> {
        handle.map(|handle| self.operand_tensor(handle)).transpose()
    }

    pub(super) fn operand(&self, operand: &Operand) -> wasmtime::Result<OwnedOperand> {
        Ok(match operand {
            Operand::Tensor(handle) => OwnedOperand::Tensor(self.operand_tensor(handle)?),
            Operand::Scalar(value) => OwnedOperand::Scalar(*value),
        })
    }
}

#[allow(clippy::large_enum_variant)] // One at a time, on the stack.
pub(super) enum OwnedOperand {
    Tensor(Tensor),
    Scalar(f64),
}

impl OwnedOperand {
    pub(super) fn get(&self) -> vivarium_tensor::Operand<'_> {
        match self {
            Self::Tensor(tensor) => vivarium_tensor::Operand::Tensor(tensor),
            Self::Scalar(value) => vivarium_tensor::Operand::Scalar(*value),
        }
    }
}
