//! A pack's component, ready to run: every call happens in a fresh instance with limits of its own.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vivarium_protocol::{definition::PackDefinition, tenant::TenantId};
use wasmtime::{
    PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace,
    component::{Component, types::ComponentItem},
};

use crate::{
    bindings::{
        Pack, PackPre,
        exports::vivarium::node::nodes,
        vivarium::node::types::{Error as WireError, ErrorKind},
    },
    engine::SandboxEngine,
    error::{CallError, CallErrorKind, SandboxError},
    host::HostState,
    limits::Limits,
    services::{CallContext, NoServices, designated_names},
    value::{NodeValue, PackObject, cut},
};

/// A loaded pack.
pub struct PackComponent {
    engine: Arc<SandboxEngine>,
    digest: String,
    name: Arc<str>,
    definition: PackDefinition,
    imports: Vec<String>,
    /// Loaded with the first call: a start reads what packs say about themselves, and the code of none.
    pre: OnceLock<PackPre<HostState>>,
    /// Held by whoever loads it, so that two calls do not do the same work.
    loading: Mutex<()>,
    file: Option<PathBuf>,
}

/// What is kept about a component beside its code.
#[derive(Serialize, Deserialize)]
struct Description {
    imports: Vec<String>,
    /// What `describe` answered.
    definition: Box<serde_json::value::RawValue>,
}

/// The same, written anew.
#[derive(Serialize)]
struct Described<'a> {
    imports: &'a [String],
    definition: &'a PackDefinition,
}

impl std::fmt::Debug for PackComponent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PackComponent({} {})", self.name, self.digest)
    }
}

/// What `execute` answered.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// One value per output slot, and what clients show.
    Outputs {
        /// In the order of the definition.
        slots: Vec<NodeValue>,
        /// ComfyUI's `ui` object.
        ui: Option<Map<String, Value>>,
    },
    /// New nodes take this node's place: an object with `graph`, `slots` and perhaps `ui` (see `world.wit`).
    Expansion(NodeValue),
    /// Every output is blocked.
    Blocked(Option<Arc<str>>),
}

/// One finding of a node's own validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The input it concerns, if one.
    pub input: Option<String>,
    /// For people.
    pub message: String,
}

/// How far away the ticker must be before a guest is looked at: every tick.
const TICKS: u64 = 1;

/// The fingerprint of a node that always runs again, as in ComfyUI: NaN equals nothing, not even itself.
const NEVER_THE_SAME: &str = "NaN";

impl PackComponent {
    /// The pack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the component file, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What the pack says about itself.
    #[must_use]
    pub fn definition(&self) -> &PackDefinition {
        &self.definition
    }

    /// The interfaces that the component imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// What it says about itself, for [`SandboxEngine::described`] in another process.
    #[must_use]
    pub fn description(&self) -> String {
        let description = Described { imports: &self.imports, definition: &self.definition };
        // Strings, numbers and maps with text keys: there is nothing in it that JSON lacks.
        serde_json::to_string(&description).unwrap_or_default()
    }

    /// Its native code, for a [`crate::CodeSource`] in another process.
    ///
    /// # Errors
    /// It is gone, and can't be compiled again.
    pub fn native_code(&self) -> Result<Vec<u8>, SandboxError> {
        self.engine.native_code(&self.digest, self.file.as_deref())
    }

    /// Asks a component for its description, inside tight limits and without any power. What comes back is for
    /// [`PackComponent::described`].
    pub(crate) fn ask_description(
        engine: &SandboxEngine,
        component: &Component,
        pre: &PackPre<HostState>,
    ) -> Result<String, SandboxError> {
        let limits = engine.limits().clone();
        let call = CallContext {
            tenant: TenantId::default_tenant(),
            prompt_id: Arc::from(""),
            node_id: Arc::from(""),
            limits: limits.clone(),
            budget: vivarium_tensor::Budget::named("tensor memory of a pack that describes itself", 0),
            gpu: None,
            interrupt: Arc::default(),
            deadline: None,
            services: Arc::new(NoServices),
            depth: 0,
        };
        let state = HostState::new(call, Arc::from("?"), None, HashSet::new(), Instant::now() + limits.query_time);
        let definition = run(engine, pre, state, &TimeLimit::query(&limits, None), |pack, store| {
            Ok(Ok(pack.vivarium_node_nodes().call_describe(store)?))
        })?;
        let invalid = |message: String| SandboxError::InvalidDescription { message };
        let (bytes, limit) = (definition.len() as u64, limits.value_json_bytes);
        if bytes > limit {
            return Err(invalid(format!("it has {bytes} bytes, more than {limit} (value_json_bytes, limits.toml)")));
        }
        let imports = component
            .component_type()
            .imports(engine.wasmtime())
            .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)))
            .map(|(name, _)| name.to_owned())
            .collect();
        let definition = serde_json::from_str(&definition).map_err(|error| invalid(error.to_string()))?;
        serde_json::to_string(&Description { imports, definition }).map_err(|error| invalid(error.to_string()))
    }

    /// Takes a description that was asked for now or earlier.
    pub(crate) fn described(
        engine: Arc<SandboxEngine>,
        digest: String,
        description: &str,
        pre: Option<PackPre<HostState>>,
        file: Option<PathBuf>,
    ) -> Result<Arc<Self>, SandboxError> {
        let invalid = |message: String| SandboxError::InvalidDescription { message };
        let description: Description = serde_json::from_str(description).map_err(|error| invalid(error.to_string()))?;
        let definition: PackDefinition =
            serde_json::from_str(description.definition.get()).map_err(|error| invalid(error.to_string()))?;
        definition.check().map_err(invalid)?;
        Ok(Arc::new(Self {
            digest,
            name: Arc::from(definition.name.as_str()),
            definition,
            imports: description.imports,
            pre: pre.map_or_else(OnceLock::new, OnceLock::from),
            loading: Mutex::new(()),
            file,
            engine,
        }))
    }

    /// The code, loaded if it was not yet.
    fn pre(&self) -> Result<&PackPre<HostState>, CallError> {
        if let Some(pre) = self.pre.get() {
            return Ok(pre);
        }
        // It guards no data; a panic while it was held changed nothing.
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pre) = self.pre.get() {
            return Ok(pre);
        }
        let pre = self.engine.code(&self.digest, self.file.as_deref()).map_err(|error| {
            CallError::new(CallErrorKind::Internal, format!("pack {} cannot be loaded: {error}", self.name))
        })?;
        Ok(self.pre.get_or_init(|| pre))
    }

    /// Runs a class's own validator on the constant inputs of a node.
    ///
    /// # Errors
    /// The validator failed, or exceeded a limit.
    pub fn validate(
        self: &Arc<Self>,
        call: CallContext,
        class: &str,
        constants: &Map<String, Value>,
        input_types: &Map<String, Value>,
    ) -> Result<Vec<Finding>, CallError> {
        let constants = Value::Object(constants.clone());
        let types = Value::Object(input_types.clone()).to_string();
        let findings = self.query(call, class, &constants, |pack, store, inputs| {
            pack.vivarium_node_nodes().call_validate(store, class, inputs, &types)
        })?;
        Ok(findings.into_iter().map(|found| Finding { input: found.input, message: found.message }).collect())
    }

    /// Asks for the fingerprint of a node over its constant inputs (links are absent). `None` means that no two runs are
    /// the same.
    ///
    /// # Errors
    /// The hook failed, or exceeded a limit.
    pub fn fingerprint(
        self: &Arc<Self>,
        call: CallContext,
        class: &str,
        constants: &Map<String, Value>,
    ) -> Result<Option<Value>, CallError> {
        let call = call.within(&self.name);
        let constants = Value::Object(constants.clone());
        let limit = call.limits.value_json_bytes;
        let json = self.query(call, class, &constants, |pack, store, inputs| {
            pack.vivarium_node_nodes().call_fingerprint(store, class, inputs)
        })?;
        if json.len() as u64 > limit {
            let message = format!("the fingerprint has more than {limit} bytes (value_json_bytes, limits.toml)");
            return Err(CallError::new(CallErrorKind::LimitExceeded, message));
        }
        if json.trim() == NEVER_THE_SAME {
            return Ok(None);
        }
        serde_json::from_str(&json)
            .map(Some)
            .map_err(|error| CallError::new(CallErrorKind::Failed, format!("the fingerprint is not JSON: {error}")))
    }

    /// Asks which lazy inputs a node needs next; inputs that are not there yet are null.
    ///
    /// # Errors
    /// The hook failed, or exceeded a limit.
    pub fn needed_inputs(
        self: &Arc<Self>,
        call: CallContext,
        class: &str,
        inputs: &NodeValue,
    ) -> Result<Vec<String>, CallError> {
        let call = call.within(&self.name);
        let time = TimeLimit::query(&call.limits, call.deadline);
        self.with_value(call, class, &time, inputs, |pack, store, inputs| {
            pack.vivarium_node_nodes().call_needed_inputs(store, class, inputs)
        })
        .map(|(_, names)| names)
    }

    /// Runs a node. `inputs` is a map from input name to value.
    ///
    /// # Errors
    /// The node failed, trapped, exceeded a limit or was interrupted.
    pub fn execute(self: &Arc<Self>, call: CallContext, class: &str, inputs: &NodeValue) -> Result<Outcome, CallError> {
        let call = call.within(&self.name);
        let limits = call.limits.clone();
        let time = TimeLimit::execute(&limits, call.deadline);
        let (mut store, outcome) = self.with_value(call, class, &time, inputs, |pack, store, inputs| {
            pack.vivarium_node_nodes().call_execute(store, class, inputs)
        })?;
        match outcome {
            nodes::Outcome::Outputs(outputs) => {
                let ui = outputs.ui.map(|ui| crate::host::redact(ui, &store.data().secrets));
                let ui = ui.map(|ui| parse_ui(&ui, &limits)).transpose()?;
                match take(&mut store, outputs.slots, &time)? {
                    NodeValue::List(slots) => Ok(Outcome::Outputs { slots, ui }),
                    _ => Err(CallError::new(
                        CallErrorKind::Failed,
                        "the node's outputs are not a JSON array with one entry per slot",
                    )),
                }
            }
            nodes::Outcome::Expansion(value) => Ok(Outcome::Expansion(take(&mut store, value, &time)?)),
            nodes::Outcome::Blocked(message) => {
                let bytes = usize::try_from(limits.error_bytes).unwrap_or(usize::MAX);
                let message = message.map(|message| crate::host::redact(message, &store.data().secrets));
                Ok(Outcome::Blocked(message.map(|message| Arc::from(cut(&message, bytes)))))
            }
        }
    }

    /// Runs a method of an object of this pack, within the time of the call above it.
    ///
    /// # Errors
    /// The method failed, trapped, exceeded a limit or was interrupted.
    pub fn call_object(
        self: &Arc<Self>,
        call: CallContext,
        deadline: Instant,
        object: &PackObject,
        method: &str,
        arguments: &NodeValue,
    ) -> Result<NodeValue, CallError> {
        let call = call.within(&self.name);
        let time = TimeLimit { deadline, ..TimeLimit::execute(&call.limits, call.deadline) };
        let mut state = HostState::new(call, self.name.clone(), Some(self.clone()), HashSet::new(), time.deadline);
        let state_value = give(&mut state, &object.state)?;
        let arguments = give(&mut state, arguments)?;
        let (mut store, answer) = run_keeping(&self.engine, self.pre()?, state, &time, |pack, store| {
            pack.vivarium_node_nodes().call_call(store, &object.type_name, method, &state_value, &arguments)
        })?;
        take(&mut store, answer, &time)
    }

    fn query<T>(
        self: &Arc<Self>,
        call: CallContext,
        class: &str,
        constants: &Value,
        ask: impl FnOnce(&Pack, &mut Store<HostState>, &WireValue) -> wasmtime::Result<Result<T, WireError>>,
    ) -> Result<T, CallError> {
        let call = call.within(&self.name);
        let time = TimeLimit::query(&call.limits, call.deadline);
        self.with_value(call, class, &time, &NodeValue::from_json(constants), ask).map(|(_, answer)| answer)
    }

    fn with_value<T>(
        self: &Arc<Self>,
        call: CallContext,
        class: &str,
        time: &TimeLimit,
        inputs: &NodeValue,
        ask: impl FnOnce(&Pack, &mut Store<HostState>, &WireValue) -> wasmtime::Result<Result<T, WireError>>,
    ) -> Result<(Store<HostState>, T), CallError> {
        let node = self.definition.nodes.iter().find(|node| node.class_type == class);
        let designated = designated_names(inputs, node);
        let mut state = HostState::new(call, self.name.clone(), Some(self.clone()), designated, time.deadline);
        let inputs = give(&mut state, inputs)?;
        run_keeping(&self.engine, self.pre()?, state, time, |pack, store| ask(pack, store, &inputs))
    }
}

type WireValue = crate::bindings::vivarium::node::values::Value;

fn give(state: &mut HostState, value: &NodeValue) -> Result<WireValue, CallError> {
    state
        .give_value(value)
        .map_err(|error| CallError::new(CallErrorKind::Internal, format!("{error:#}")))?
        .map_err(|error| state.guest_error(error))
}

/// What a call answered. Tensors that were put off are computed for it, within the time of the call.
fn take(store: &mut Store<HostState>, value: WireValue, time: &TimeLimit) -> Result<NodeValue, CallError> {
    let broken = |error: wasmtime::Error| CallError::new(CallErrorKind::Trap, format!("{error:#}"));
    let taken = store.data_mut().take_value(value).map_err(broken)?;
    taken.map_err(|error| match error.kind {
        CallErrorKind::Interrupted if !store.data().interrupted() => time.error.clone(),
        _ => error,
    })
}

struct TimeLimit {
    deadline: Instant,
    error: CallError,
}

impl TimeLimit {
    fn query(limits: &Limits, prompt: Option<Instant>) -> Self {
        let error = CallError::timeout("the node", limits.query_time, "query_time", "; limits.toml raises it");
        Self { deadline: after(limits.query_time), error }.within(prompt, limits)
    }

    fn execute(limits: &Limits, prompt: Option<Instant>) -> Self {
        let hint = "; --node-timeout raises it";
        let error = CallError::timeout("the node", limits.execute_time, "execute_time", hint);
        Self { deadline: after(limits.execute_time), error }.within(prompt, limits)
    }

    /// What is left of the prompt's time may be less.
    fn within(self, prompt: Option<Instant>, limits: &Limits) -> Self {
        match prompt {
            Some(deadline) if deadline < self.deadline => {
                Self { deadline, error: CallError::prompt_timeout(limits.prompt_time) }
            }
            _ => self,
        }
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now + Duration::from_secs(1 << 30))
}

fn run<T>(
    engine: &SandboxEngine,
    pre: &PackPre<HostState>,
    state: HostState,
    time: &TimeLimit,
    ask: impl FnOnce(&Pack, &mut Store<HostState>) -> wasmtime::Result<Result<T, WireError>>,
) -> Result<T, CallError> {
    run_keeping(engine, pre, state, time, ask).map(|(_, answer)| answer)
}

/// Instantiates, calls, and translates what went wrong. The store comes back so that handles can be taken out of it.
fn run_keeping<T>(
    engine: &SandboxEngine,
    pre: &PackPre<HostState>,
    state: HostState,
    time: &TimeLimit,
    ask: impl FnOnce(&Pack, &mut Store<HostState>) -> wasmtime::Result<Result<T, WireError>>,
) -> Result<(Store<HostState>, T), CallError> {
    let mut store = Store::new(engine.wasmtime(), state);
    store.limiter(|state| &mut state.memory);
    let transfer = store.data().call.limits.transfer_bytes;
    store.set_hostcall_fuel(usize::try_from(transfer.saturating_mul(2)).unwrap_or(usize::MAX));
    store.set_epoch_deadline(TICKS);
    store.epoch_deadline_callback(|context| {
        let state = context.data();
        if state.interrupted() || Instant::now() >= state.deadline {
            return Err(Trap::Interrupt.into());
        }
        Ok(UpdateDeadline::Continue(TICKS))
    });
    let answer = pre.instantiate(&mut store).and_then(|pack| ask(&pack, &mut store));
    match answer {
        Ok(Ok(answer)) => Ok((store, answer)),
        Ok(Err(error)) => {
            let state = store.data();
            // A guest that was told to stop may say so in its own words.
            let told_to_stop = matches!(error.kind, ErrorKind::Interrupted);
            Err(match state.interrupted() {
                true => CallError::interrupted(),
                // A host operation stops at the deadline, too.
                false if told_to_stop && Instant::now() >= state.deadline => time.error.clone(),
                false => state.guest_error(error),
            })
        }
        Err(error) => Err(explain_trap(&error, store.data(), time)),
    }
}

fn explain_trap(error: &wasmtime::Error, state: &HostState, time: &TimeLimit) -> CallError {
    if state.interrupted() {
        return CallError::interrupted();
    }
    let limits = &state.call.limits;
    let frames = error.downcast_ref::<WasmBacktrace>().map(frame_names).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&state.text.stderr.contents()).trim().to_owned();
    let trap = error.downcast_ref::<Trap>().copied();
    let mut failure = match trap {
        Some(Trap::Interrupt) => time.error.clone(),
        Some(Trap::StackOverflow) => stack_error(limits),
        Some(Trap::UnreachableCodeReached | Trap::AllocationTooLarge) if state.memory.refused.is_some() => {
            memory_error(state.memory.refused.unwrap_or_default(), limits)
        }
        // Rust keeps its shadow stack at the bottom of memory: deep recursion runs off its end.
        Some(Trap::MemoryOutOfBounds) if looks_recursive(&frames) => stack_error(limits),
        Some(trap) if stderr.is_empty() => CallError::new(CallErrorKind::Trap, format!("the node crashed: {trap}")),
        Some(_) => CallError::new(CallErrorKind::Trap, format!("the node crashed: {stderr}")),
        None if error.is::<PoolConcurrencyLimitError>() => CallError::new(
            CallErrorKind::LimitExceeded,
            format!(
                "{} nodes run already, the limit (instances, limits.toml); try again when some have ended",
                limits.instances
            ),
        ),
        // wasmtime counts what a call copies into the host before the host can; its error has no type.
        None if format!("{error:#}").contains("fuel allocated for hostcalls") => CallError::new(
            CallErrorKind::LimitExceeded,
            format!(
                "the node gave the host more in one call than the limit of {} bytes (transfer_bytes, limits.toml); copy in \
                 parts",
                limits.transfer_bytes
            ),
        ),
        None => CallError::new(CallErrorKind::Trap, format!("the node was stopped: {error:#}")),
    };
    failure.message = state.shown(&failure.message, usize::try_from(limits.error_bytes).unwrap_or(usize::MAX));
    failure.frames = frames;
    failure
}

fn stack_error(limits: &Limits) -> CallError {
    CallError::new(
        CallErrorKind::StackOverflow,
        format!(
            "the node used up its stack of {} bytes (guest_stack, limits.toml): endless recursion?",
            limits.guest_stack
        ),
    )
}

fn memory_error(asked: u64, limits: &Limits) -> CallError {
    CallError::new(
        CallErrorKind::OutOfGuestMemory,
        format!(
            "the node asked for {asked} bytes of memory, the limit is {} (guest_memory); --guest-memory raises it, \
             or keep pixels in host tensors",
            limits.guest_memory
        ),
    )
}

fn looks_recursive(frames: &[String]) -> bool {
    frames.len() >= 10 && frames[1..].iter().filter(|frame| **frame == frames[1]).count() * 3 >= frames.len()
}

const FRAMES: usize = 40;

fn frame_names(backtrace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => cut(&format!("{:#}", rustc_demangle::demangle(name)), 200),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().take(FRAMES).map(name).collect()
}

fn parse_ui(json: &str, limits: &Limits) -> Result<Map<String, Value>, CallError> {
    if json.len() as u64 > limits.ui_bytes {
        return Err(CallError::new(
            CallErrorKind::LimitExceeded,
            format!(
                "the node's ui has {} bytes, more than the limit of {} (ui_bytes, limits.toml)",
                json.len(),
                limits.ui_bytes
            ),
        ));
    }
    serde_json::from_str(json)
        .map_err(|error| CallError::new(CallErrorKind::Failed, format!("the node's ui is not a JSON object: {error}")))
}
