//! `scratch`: files of a pack for a tenant that stay between prompts.

use vivarium_protocol::permission::Permission;

use super::{HostState, state::to_guest};
use crate::bindings::vivarium::node::{
    scratch::{self, Entry},
    types::Error,
};

impl scratch::Host for HostState {
    fn list_files(&mut self) -> wasmtime::Result<Result<Vec<Entry>, Error>> {
        Ok(self.list_scratch())
    }

    fn read(&mut self, name: String) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        Ok(self.read_scratch(&name))
    }

    fn write(&mut self, name: String, data: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        Ok(self.write_scratch(&name, &data))
    }

    fn remove(&mut self, name: String) -> wasmtime::Result<Result<(), Error>> {
        let removed = self
            .require(&Permission::Scratch)
            .and_then(|()| self.call.services.remove_scratch(&self.pack, &name).map_err(|error| to_guest(&error)));
        Ok(removed)
    }
}

impl HostState {
    fn list_scratch(&mut self) -> Result<Vec<Entry>, Error> {
        self.require(&Permission::Scratch)?;
        let files = self.call.services.scratch_files(&self.pack).map_err(|error| to_guest(&error))?;
        self.charge_transfer(files.iter().map(|file| file.name.len() as u64).sum())?;
        Ok(files.into_iter().map(|file| Entry { name: file.name, bytes: file.bytes }).collect())
    }

    fn read_scratch(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        self.require(&Permission::Scratch)?;
        let limit = self.call.limits.transfer_bytes;
        let data = self.call.services.read_scratch(&self.pack, name, limit).map_err(|error| to_guest(&error))?;
        self.charge_transfer(data.len() as u64)?;
        Ok(data)
    }

    fn write_scratch(&mut self, name: &str, data: &[u8]) -> Result<(), Error> {
        self.require(&Permission::Scratch)?;
        self.charge_transfer(data.len() as u64)?;
        let limits = self.call.limits.clone();
        self.call.services.write_scratch(&self.pack, name, data, &limits).map_err(|error| to_guest(&error))
    }
}
