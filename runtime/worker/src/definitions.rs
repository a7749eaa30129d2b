//! What the graph crate asks about classes, answered from the packs of one moment and the files of one tenant.

use std::sync::Arc;

use serde_json::{Map, Value};
use vivarium_blobs::{Folder, ModelFolders, TenantFiles};
use vivarium_graph::{Definitions, Fingerprints, HookError, ValidateHook};
use vivarium_packs::Snapshot;
use vivarium_protocol::definition::{ChoicesFrom, InputDefinition, NodeDefinition};
use vivarium_sandbox::CallContext;

/// The classes of a snapshot, with choices from the tenant's files.
pub(crate) struct TenantDefinitions {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Absent when the tenant's folders cannot be opened: choices from files are then empty.
    pub(crate) files: Option<Arc<TenantFiles>>,
    /// Absent where nobody chooses.
    pub(crate) models: Option<Arc<ModelFolders>>,
}

impl TenantDefinitions {
    /// The names that a list of the host holds now.
    pub(crate) fn names(&self, from: &ChoicesFrom) -> Vec<String> {
        match from {
            ChoicesFrom::InputImages => {
                let listed = self.files.as_ref().map(|files| files.list_images(Folder::Input));
                listed.and_then(Result::ok).unwrap_or_default()
            }
            ChoicesFrom::Models(folder) => {
                self.models.as_ref().and_then(|models| models.names(folder)).unwrap_or_default()
            }
        }
    }
}

impl Definitions for TenantDefinitions {
    fn get(&self, class: &str) -> Option<&NodeDefinition> {
        self.snapshot.definition(class)
    }

    fn choices(&self, input: &InputDefinition) -> Option<Vec<Value>> {
        if let Some(from) = &input.choices_from {
            return Some(self.names(from).into_iter().map(Value::from).collect());
        }
        (input.input_type == "COMBO").then(|| input.choices.clone())
    }
}

/// Runs the validators of packs.
pub(crate) struct GuestValidators<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) call: CallContext,
}

impl ValidateHook for GuestValidators<'_> {
    fn validate(
        &self,
        node_id: &str,
        class: &str,
        constants: &Map<String, Value>,
        input_types: &Map<String, Value>,
    ) -> Result<Vec<(Option<String>, String)>, HookError> {
        let Some(component) = self.snapshot.component(class) else { return Ok(Vec::new()) };
        let call = CallContext { node_id: Arc::from(node_id), ..self.call.clone() };
        match component.validate(call, class, constants, input_types) {
            Ok(findings) => Ok(findings.into_iter().map(|finding| (finding.input, finding.message)).collect()),
            Err(error) => {
                Err(HookError { exception_type: error.kind.exception_type().to_owned(), message: error.message })
            }
        }
    }
}

/// Runs the fingerprint hooks of packs.
pub(crate) struct GuestFingerprints {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) call: CallContext,
}

impl Fingerprints for GuestFingerprints {
    fn class_signature(&self, class: &str) -> Vec<u8> {
        self.snapshot.component(class).map(|component| component.digest().as_bytes().to_vec()).unwrap_or_default()
    }

    fn fingerprint(&self, node_id: &str, class: &str, constants: &Map<String, Value>) -> Option<Value> {
        let call = CallContext { node_id: Arc::from(node_id), ..self.call.clone() };
        match self.snapshot.component(class)?.fingerprint(call, class, constants) {
            Ok(fingerprint) => fingerprint,
            Err(error) => {
                tracing::warn!(node = node_id, class, error = ?error.to_string(), "a node's fingerprint failed; its result is not kept");
                None
            }
        }
    }
}
