//! `values`: objects that one pack lends to another.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::{
    HostObject, HostState,
    state::{interrupted, limit_error, to_guest},
};
use crate::{
    bindings::vivarium::node::{
        types::{Error, ErrorKind},
        values::{self, Value as WireValue},
    },
    services::CallContext,
    value::{PackObject, cut},
};

const TYPE_NAME_BYTES: usize = 100;

/// Of an object beside its name and its state, about.
const OWN_BYTES: u64 = 256;

impl values::Host for HostState {}

impl values::HostObject for HostState {
    fn create(&mut self, type_name: String, state: WireValue) -> wasmtime::Result<Result<Resource<HostObject>, Error>> {
        let Some(owner) = self.component.clone() else {
            return Ok(Err(Error {
                kind: ErrorKind::Unsupported,
                message: "objects cannot be made while a pack describes itself".into(),
            }));
        };
        let state = match self.take_value(state)? {
            Ok(state) => state,
            Err(error) => return Ok(Err(to_guest(&error))),
        };
        let type_name = cut(&type_name, TYPE_NAME_BYTES);
        let charge = match self.op().budget.charge(OWN_BYTES + type_name.len() as u64 + state.plain_bytes()) {
            Ok(charge) => charge,
            Err(refused) => {
                self.tensor_memory_refused = true;
                return Ok(Err(limit_error(format!("an object of type {type_name}: {refused}"))));
            }
        };
        let object = PackObject { owner, type_name, state, charge };
        self.push_object(HostObject(Arc::new(object)))
    }

    fn type_name(&mut self, object: Resource<HostObject>) -> wasmtime::Result<String> {
        Ok(self.table.get(&object)?.0.type_name.clone())
    }

    fn owner(&mut self, object: Resource<HostObject>) -> wasmtime::Result<String> {
        Ok(self.table.get(&object)?.0.owner.name().to_owned())
    }

    fn share(&mut self, object: Resource<HostObject>) -> wasmtime::Result<Result<Resource<HostObject>, Error>> {
        let object = self.table.get(&object)?.0.clone();
        self.push_object(HostObject(object))
    }

    fn state(&mut self, object: Resource<HostObject>) -> wasmtime::Result<Result<WireValue, Error>> {
        let object = self.table.get(&object)?.0.clone();
        if object.owner.name() != &*self.pack {
            return Ok(Err(Error {
                kind: ErrorKind::PermissionDenied,
                message: format!(
                    "only pack {} may read the state of its {}; pack {} may call its methods",
                    object.owner.name(),
                    object.type_name,
                    self.pack
                ),
            }));
        }
        self.give_value(&object.state)
    }

    fn call(
        &mut self,
        object: Resource<HostObject>,
        method: String,
        arguments: WireValue,
    ) -> wasmtime::Result<Result<WireValue, Error>> {
        let object = self.table.get(&object)?.0.clone();
        let arguments = match self.take_value(arguments)? {
            Ok(arguments) => arguments,
            Err(error) => return Ok(Err(to_guest(&error))),
        };
        if HostState::interrupted(self) {
            return Ok(Err(interrupted()));
        }
        let limit = self.call.limits.object_call_depth;
        if self.call.depth >= limit {
            return Ok(Err(limit_error(format!(
                "objects call each other more than {limit} deep (object_call_depth, limits.toml)"
            ))));
        }
        // Charged to this call's own budget, so that an object cannot be used to get around it.
        let call = CallContext { depth: self.call.depth + 1, budget: self.op().budget.clone(), ..self.call.clone() };
        match object.owner.call_object(call, self.deadline, &object, &method, &arguments) {
            Ok(answer) => self.give_value(&answer),
            Err(error) => Ok(Err(to_guest(&error))),
        }
    }

    fn drop(&mut self, object: Resource<HostObject>) -> wasmtime::Result<()> {
        self.release_handle();
        self.table.delete(object)?;
        Ok(())
    }
}
