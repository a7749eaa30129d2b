//! `node-context`: who is running.

use super::HostState;
use crate::bindings::vivarium::node::{node_context, types};

impl types::Host for HostState {}

impl node_context::Host for HostState {
    fn node_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.call.node_id.to_string())
    }

    fn prompt_id(&mut self) -> wasmtime::Result<String> {
        Ok(self.call.prompt_id.to_string())
    }

    fn interrupted(&mut self) -> wasmtime::Result<bool> {
        Ok(HostState::interrupted(self))
    }
}
