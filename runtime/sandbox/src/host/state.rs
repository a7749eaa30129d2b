//! The state behind one call into a guest: its tables, its meters, its limits.

use std::{
    cell::Cell,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use vivarium_protocol::permission::Permission;
use vivarium_tensor::{Copies, ErrorKind as TensorErrorKind, OpContext, Tensor, TensorError};
use wasmtime::{
    ResourceLimiter,
    component::{Resource, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::pipe::MemoryOutputPipe};

use super::{HostObject, HostTensor, HostWeights};
use crate::{
    PackComponent,
    bindings::vivarium::node::{
        types::{Error, ErrorKind},
        values::{Handle, Value as WireValue},
    },
    error::{CallError, CallErrorKind},
    services::CallContext,
    value::{self, HandleEntry, NodeValue, cut},
};

/// What errors call the account of one call: with the limit, and the flag that raises it.
const CALL_MEMORY: &str = "tensor memory of the node (call_tensor_bytes, --node-tensor-memory)";

/// What wasmtime keeps for one call.
pub(crate) struct HostState {
    pub(crate) call: CallContext,
    pub(crate) pack: Arc<str>,
    /// The component that runs; absent while it describes itself.
    pub(crate) component: Option<Arc<PackComponent>>,
    /// Image files that this call may read.
    pub(crate) designated: HashSet<String>,
    pub(crate) deadline: Instant,
    pub(crate) text: CapturedText,
    pub(crate) memory: MemoryMeter,
    pub(crate) table: ResourceTable,
    pub(crate) saved_files: u64,
    pub(crate) logged_bytes: u64,
    pub(crate) http_requests: u64,
    /// Weights files that the guest has open.
    open_files: u64,
    /// Those that the guest has read.
    pub(crate) secrets: Vec<String>,
    /// The model folder whose weights this call holds without the permission to read its numbers back.
    pub(crate) sealed_folder: Option<Arc<str>>,
    operands: Cell<Operands>,
    fine_clock: Option<bool>,
    op: OpContext,
    wasi: WasiCtx,
    handles: u64,
    transferred: u64,
    /// A tensor operation was refused for want of memory.
    pub(super) tensor_memory_refused: bool,
}

/// What an operation takes. A result of weights alone is weights still: it carries their label on.
#[derive(Default)]
pub(crate) struct Operands {
    weights: Option<Arc<str>>,
    others: bool,
}

/// What a guest wrote to its standard streams, bounded.
pub(crate) struct CapturedText {
    pub(crate) stdout: MemoryOutputPipe,
    pub(crate) stderr: MemoryOutputPipe,
}

/// Limits the guest's own memory and remembers when it asked for more.
pub(crate) struct MemoryMeter {
    memory: usize,
    /// What all memories of the instance have together.
    used: usize,
    table_elements: usize,
    /// The size that was refused last, bytes.
    pub(crate) refused: Option<u64>,
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let together = self.used.saturating_add(desired.saturating_sub(current));
        let granted = together <= self.memory;
        if granted {
            self.used = together;
        } else {
            self.refused = Some(together as u64);
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements)
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl HostState {
    pub(crate) fn new(
        call: CallContext,
        pack: Arc<str>,
        component: Option<Arc<PackComponent>>,
        designated: HashSet<String>,
        deadline: Instant,
    ) -> Self {
        let limits = call.limits.clone();
        let text = CapturedText {
            stdout: MemoryOutputPipe::new(to_usize(limits.log_bytes)),
            stderr: MemoryOutputPipe::new(to_usize(limits.log_bytes)),
        };
        // No arguments, no environment, no folders, no network; the clocks are ours (see clocks.rs).
        let wasi = WasiCtx::builder()
            .stdout(text.stdout.clone())
            .stderr(text.stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .max_random_size(limits.transfer_bytes)
            .build();
        let mut table = ResourceTable::new();
        // WASI's own streams and pollables live in the same table; ours are counted apart, with an error a guest can handle.
        table.set_max_capacity(to_usize(limits.handles.saturating_mul(2)));
        let budget = call.budget.named_child(CALL_MEMORY, limits.call_tensor_bytes);
        let op = OpContext {
            cancelled: call.interrupt.clone(),
            deadline: Some(deadline),
            gpu: call.gpu.clone(),
            copies: Copies::up_to(limits.gpu_transfer_bytes),
            ..OpContext::new(budget)
        };
        let memory = MemoryMeter {
            memory: to_usize(limits.guest_memory),
            used: 0,
            table_elements: to_usize(limits.table_elements),
            refused: None,
        };
        Self {
            call,
            pack,
            component,
            designated,
            deadline,
            text,
            memory,
            table,
            saved_files: 0,
            logged_bytes: 0,
            http_requests: 0,
            open_files: 0,
            secrets: Vec::new(),
            sealed_folder: None,
            operands: Cell::default(),
            fine_clock: None,
            op,
            wasi,
            handles: 0,
            transferred: 0,
            tensor_memory_refused: false,
        }
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.call.interrupt.load(Ordering::Relaxed)
    }

    pub(crate) fn interrupt_flag(&self) -> Arc<AtomicBool> {
        self.call.interrupt.clone()
    }

    pub(crate) fn op(&self) -> &OpContext {
        &self.op
    }

    /// Whether the pack has a permission.
    pub(crate) fn has(&self, permission: &Permission) -> bool {
        self.call.services.allows(&self.pack, permission)
    }

    /// Refuses what the pack was not granted.
    pub(crate) fn require(&self, permission: &Permission) -> Result<(), Error> {
        if self.has(permission) {
            return Ok(());
        }
        let permission = clean(&permission.to_string(), 200);
        let message = format!(
            "pack {pack} has no permission {permission}; `vivarium pack grant {pack} {permission}` gives it to an installed \
             pack, --grant {pack}:{permission} to one in a folder",
            pack = self.pack
        );
        Err(Error { kind: ErrorKind::PermissionDenied, message })
    }

    /// Whether the pack's clocks are of full precision. Asked once per call, since a clock is asked often.
    pub(crate) fn has_fine_clock(&mut self) -> bool {
        if self.fine_clock.is_none() {
            self.fine_clock = Some(self.has(&Permission::FineClock));
        }
        self.fine_clock.unwrap_or_default()
    }

    /// Refuses to give numbers to a guest that may only compute with the weights that it holds.
    pub(crate) fn may_read_values(&self) -> Result<(), Error> {
        let Some(folder) = &self.sealed_folder else { return Ok(()) };
        self.require(&Permission::WeightValues { folder: folder.to_string() })
    }

    /// Refuses to show weights as if they were a picture.
    pub(crate) fn may_show(&self, tensor: &Tensor) -> Result<(), Error> {
        let Some(folder) = tensor.label() else { return Ok(()) };
        self.require(&Permission::WeightValues { folder: folder.to_string() }).map_err(|refused| Error {
            message: format!("these are numbers of a model file and no picture: {}", refused.message),
            ..refused
        })
    }

    /// A call that holds weights reads nothing back, unless it may read their numbers.
    pub(crate) fn holds_weights(&mut self, folder: &Arc<str>) {
        if !self.has(&Permission::WeightValues { folder: folder.to_string() }) {
            self.sealed_folder = Some(folder.clone());
        }
    }

    /// A guest's text made safe to show: see [`clean`]; secrets that it has read are removed.
    pub(crate) fn shown(&self, text: &str, bytes: usize) -> String {
        // Before it is cut: half a secret is not recognised.
        match self.secrets.as_slice() {
            [] => clean(text, bytes),
            secrets => clean(&super::redact(text.to_owned(), secrets), bytes),
        }
    }

    /// Charges bytes that one host call copies into or out of the guest.
    pub(crate) fn charge_transfer(&mut self, bytes: u64) -> Result<(), Error> {
        let limits = &self.call.limits;
        if bytes > limits.transfer_bytes {
            return Err(limit_error(format!(
                "{bytes} bytes in one call are more than the limit of {} (transfer_bytes, limits.toml); copy in parts",
                limits.transfer_bytes
            )));
        }
        self.transferred = self.transferred.saturating_add(bytes);
        if self.transferred > limits.total_transfer_bytes {
            return Err(limit_error(format!(
                "this node copied more than the limit of {} bytes (total_transfer_bytes, limits.toml)",
                limits.total_transfer_bytes
            )));
        }
        Ok(())
    }

    fn charge_handle(&mut self) -> Result<(), Error> {
        if self.handles >= self.call.limits.handles {
            return Err(limit_error(format!(
                "this node holds {} handles, the limit (handles, limits.toml); drop tensors that are no longer needed",
                self.handles
            )));
        }
        self.handles += 1;
        Ok(())
    }

    pub(crate) fn release_handle(&mut self) {
        self.handles = self.handles.saturating_sub(1);
    }

    pub(crate) fn push_tensor(&mut self, tensor: Tensor) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        if let Err(error) = self.charge_handle() {
            return Ok(Err(error));
        }
        if let Some(folder) = tensor.label() {
            let folder = folder.clone();
            if self.sealed_folder.as_ref() != Some(&folder) {
                self.holds_weights(&folder);
            }
        }
        Ok(Ok(self.table.push(HostTensor(tensor))?))
    }

    pub(crate) fn push_object(&mut self, object: HostObject) -> wasmtime::Result<Result<Resource<HostObject>, Error>> {
        if let Err(error) = self.charge_handle() {
            return Ok(Err(error));
        }
        Ok(Ok(self.table.push(object)?))
    }

    /// Hands out an open file: a handle of the guest, and one of the server's too, of which all tenants share some.
    pub(crate) fn push_weights(
        &mut self,
        weights: HostWeights,
    ) -> wasmtime::Result<Result<Resource<HostWeights>, Error>> {
        let limit = self.call.limits.open_files;
        if self.open_files >= limit {
            return Ok(Err(limit_error(format!(
                "this node has {limit} files open, the limit (open_files, limits.toml); drop those that are no longer needed"
            ))));
        }
        if let Err(error) = self.charge_handle() {
            return Ok(Err(error));
        }
        self.open_files += 1;
        Ok(Ok(self.table.push(weights)?))
    }

    pub(crate) fn release_file(&mut self) {
        self.open_files = self.open_files.saturating_sub(1);
        self.release_handle();
    }

    pub(crate) fn tensor(&self, handle: &Resource<HostTensor>) -> wasmtime::Result<Tensor> {
        Ok(self.table.get(handle)?.0.clone())
    }

    /// A tensor that the next operation takes.
    pub(crate) fn operand_tensor(&self, handle: &Resource<HostTensor>) -> wasmtime::Result<Tensor> {
        let tensor = self.tensor(handle)?;
        let mut operands = self.operands.take();
        match tensor.label() {
            Some(folder) => operands.weights = Some(folder.clone()),
            None => operands.others = true,
        }
        self.operands.set(operands);
        Ok(tensor)
    }

    /// Puts the label of what it was computed from on a result, if that was weights alone.
    pub(crate) fn label_result(&self, operands: &Operands, result: Tensor) -> Tensor {
        match &operands.weights {
            Some(folder) if !operands.others => result.labelled(Some(folder.clone())),
            // A view of weights has their label, also where the operation took something else to choose it.
            _ => result,
        }
    }

    /// What the operation takes, of which nothing is left for the next.
    pub(crate) fn take_operands(&self) -> Operands {
        self.operands.take()
    }

    /// Runs a tensor operation and hands its result to the guest.
    pub(crate) fn answer(
        &mut self,
        operation: impl FnOnce(&OpContext) -> Result<Tensor, TensorError>,
    ) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        let operands = self.take_operands();
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        match operation(&self.op) {
            Ok(tensor) => self.push_tensor(self.label_result(&operands, tensor)),
            Err(error) => Ok(Err(self.tensor_error(&error))),
        }
    }

    pub(crate) fn tensor_error(&mut self, error: &TensorError) -> Error {
        self.tensor_memory_refused |= matches!(error, TensorError::Budget { .. } | TensorError::OutOfMemory { .. });
        let kind = match error.kind() {
            TensorErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
            TensorErrorKind::LimitExceeded => ErrorKind::LimitExceeded,
            TensorErrorKind::Interrupted => ErrorKind::Interrupted,
            TensorErrorKind::DeviceFailed => ErrorKind::Internal,
        };
        Error { kind, message: error.to_string() }
    }

    /// Takes a value that the guest gave away: its handles leave the guest's table.
    pub(crate) fn take_value(&mut self, value: WireValue) -> wasmtime::Result<Result<NodeValue, CallError>> {
        let mut handles = Vec::with_capacity(value.handles.len());
        for handle in value.handles {
            self.release_handle();
            handles.push(match handle {
                Handle::Tensor(handle) => HandleEntry::Tensor(self.table.delete(handle)?.0),
                Handle::Object(handle) => HandleEntry::Object(self.table.delete(handle)?.0),
            });
        }
        // What is given away outlives the call, so it is computed now: the call pays for it, in time too.
        for entry in &handles {
            if let HandleEntry::Tensor(tensor) = entry
                && let Err(error) = tensor.settle(&self.op)
            {
                let stopped = matches!(error.kind(), TensorErrorKind::Interrupted);
                let error = self.tensor_error(&error);
                return Ok(Err(if stopped { CallError::interrupted() } else { self.guest_error(error) }));
            }
        }
        // Held while the JSON is taken apart: "[0,0,…" takes forty times its bytes.
        let _room = match self.op.budget.charge(value::most_decoded_bytes(&value.json)) {
            Ok(room) => room,
            Err(refused) => {
                let message = format!("a value of {} bytes of JSON: {refused}", value.json.len());
                self.tensor_memory_refused = true;
                return Ok(Err(CallError::new(CallErrorKind::OutOfTensorMemory, message)));
            }
        };
        Ok(value::decode(&value.json, &handles, &self.call.limits))
    }

    /// Gives a value to the guest: its handles enter the guest's table.
    pub(crate) fn give_value(&mut self, value: &NodeValue) -> wasmtime::Result<Result<WireValue, Error>> {
        let (json, entries) = value::encode(value);
        let mut handles = Vec::with_capacity(entries.len());
        for entry in entries {
            let pushed = match entry {
                HandleEntry::Tensor(tensor) => self.push_tensor(tensor)?.map(Handle::Tensor),
                HandleEntry::Object(object) => self.push_object(HostObject(object))?.map(Handle::Object),
            };
            match pushed {
                Ok(handle) => handles.push(handle),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(WireValue { json, handles }))
    }

    /// The error of a guest as the host reports it: cut to the limit, cleaned of control characters.
    pub(crate) fn guest_error(&self, error: Error) -> CallError {
        let kind = match error.kind {
            ErrorKind::InvalidArgument => CallErrorKind::InvalidArgument,
            ErrorKind::LimitExceeded if self.tensor_memory_refused => CallErrorKind::OutOfTensorMemory,
            ErrorKind::LimitExceeded => CallErrorKind::LimitExceeded,
            ErrorKind::Interrupted if self.interrupted() => CallErrorKind::Interrupted,
            ErrorKind::NotFound => CallErrorKind::NotFound,
            ErrorKind::PermissionDenied => CallErrorKind::PermissionDenied,
            ErrorKind::Unsupported => CallErrorKind::Unsupported,
            ErrorKind::Interrupted | ErrorKind::Failed | ErrorKind::Internal => CallErrorKind::Failed,
        };
        CallError::new(kind, self.shown(&error.message, to_usize(self.call.limits.error_bytes)))
    }
}

/// A guest's text made safe to show: cut, without control and bidirectional characters.
pub(crate) fn clean(text: &str, bytes: usize) -> String {
    let bidirectional =
        |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let text = cut(text, bytes);
    text.chars().filter(|&c| c == '\n' || c == '\t' || !(c.is_control() || bidirectional(c))).collect()
}

pub(crate) fn limit_error(message: String) -> Error {
    Error { kind: ErrorKind::LimitExceeded, message }
}

pub(crate) fn interrupted() -> Error {
    Error { kind: ErrorKind::Interrupted, message: "the prompt was interrupted".into() }
}

/// The reverse of [`HostState::guest_error`], for errors that go back into a guest.
pub(crate) fn to_guest(error: &CallError) -> Error {
    let kind = match error.kind {
        CallErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
        CallErrorKind::NotFound => ErrorKind::NotFound,
        CallErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        CallErrorKind::Unsupported => ErrorKind::Unsupported,
        CallErrorKind::Interrupted => ErrorKind::Interrupted,
        CallErrorKind::Timeout
        | CallErrorKind::OutOfGuestMemory
        | CallErrorKind::OutOfTensorMemory
        | CallErrorKind::StackOverflow
        | CallErrorKind::LimitExceeded => ErrorKind::LimitExceeded,
        CallErrorKind::Failed | CallErrorKind::Trap => ErrorKind::Failed,
        CallErrorKind::Internal => ErrorKind::Internal,
    };
    Error { kind, message: error.message.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memories_of_one_instance_share_one_limit() -> wasmtime::Result<()> {
        let mut meter = MemoryMeter { memory: 100, used: 0, table_elements: 0, refused: None };
        assert!(meter.memory_growing(0, 60, None)?);
        assert!(!meter.memory_growing(0, 50, None)?, "a second memory");
        assert_eq!(meter.refused, Some(110));
        assert!(meter.memory_growing(60, 100, None)?);
        assert!(!meter.memory_growing(100, 101, None)?);
        Ok(())
    }
}
