//! What comes of the questions of a test program.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};
use vivarium_image_codec::{DecodeLimits, decode_first};
use vivarium_protocol::definition::NodeDefinition;
use vivarium_sandbox::{CallContext, CallError, Limits, NodeValue, Outcome, PackComponent, SandboxEngine};
use vivarium_testkit::{
    Finding, Tensor,
    wire::{self, Blob, Call, Datum, Failed, Question, Ran, Reply},
};

use super::{
    powers::{Powers, context},
    terms,
    values::{self, Values},
};

/// What it refuses, in words.
type Answered = Result<Reply, String>;

/// Everything that the test program has here.
pub(super) struct Desk {
    engine: Arc<SandboxEngine>,
    /// By their numbers. They stay as long as the test program does.
    packs: Mutex<Vec<Arc<PackComponent>>>,
    /// Held by whoever compiles: all tests ask for the same pack at once, and need it compiled once.
    loading: Mutex<()>,
    pub(super) values: Values,
}

/// A call of a node of a pack that is there.
struct Prepared {
    component: Arc<PackComponent>,
    class: String,
    inputs: IndexMap<String, NodeValue>,
    powers: Arc<Powers>,
    limits: Arc<Limits>,
    node_id: String,
}

impl Desk {
    pub(super) fn new(engine: Arc<SandboxEngine>) -> Self {
        Self { engine, packs: Mutex::default(), loading: Mutex::default(), values: Values::default() }
    }

    pub(super) fn answer(&self, question: Question) -> Answered {
        match question {
            Question::Load { component: Blob(bytes) } => self.load(&bytes),
            Question::Run(call) => self.run(&self.prepare(*call)?),
            Question::Validate(call) => self.validate(&self.prepare(*call)?),
            Question::Fingerprint(call) => self.fingerprint(&self.prepare(*call)?),
            Question::Method { object, method, arguments } => self.call_method(object, &method, arguments),
            Question::Cast { tensor, dtype } => {
                let tensor = values::to_host(&tensor)?.cast(terms::dtype(dtype), &values::unlimited());
                Ok(Reply::Tensor(values::from_host(&tensor.map_err(|error| error.to_string())?)?))
            }
            Question::Decode { file: Blob(bytes) } => {
                let frame = decode_first(&bytes, &DecodeLimits::default()).map_err(|error| error.to_string())?;
                let shape = [1, frame.height.into(), frame.width.into(), 3];
                Ok(Reply::Tensor(Tensor::new(shape, frame.rgb.to_f32())))
            }
        }
    }

    fn packs(&self) -> MutexGuard<'_, Vec<Arc<PackComponent>>> {
        // A panic while it was held leaves at most a pack less.
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, bytes: &[u8]) -> Answered {
        let digest = hex::encode(Sha256::digest(bytes));
        // It guards no data.
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.packs().iter().position(|pack| pack.digest() == digest);
        let number = match known {
            Some(number) => number,
            None => {
                let component = self.engine.load(bytes).map_err(|error| error.to_string())?;
                let mut packs = self.packs();
                packs.push(component);
                packs.len() - 1
            }
        };
        let definition = self.packs()[number].definition().clone();
        Ok(Reply::Loaded { pack: number as u64, definition })
    }

    fn prepare(&self, call: Call) -> Result<Prepared, String> {
        let component = usize::try_from(call.pack).ok().and_then(|number| self.packs().get(number).cloned());
        let component = component.ok_or_else(|| format!("there is no pack {}", call.pack))?;
        let mut limits = Limits::default();
        for (name, value) in call.limits {
            if !limits.set(&name, value) {
                let known: Vec<_> = limits.entries().into_iter().map(|limit| limit.name).collect();
                return Err(format!("there is no limit `{name}`; there are {}", known.join(", ")));
            }
        }
        let input = |(name, value)| Ok((name, self.values.to_node(value)?));
        let inputs = call.inputs.into_iter().map(input).collect::<Result<_, String>>()?;
        let powers = Arc::new(Powers::new(call.powers)?);
        let (class, node_id) = (call.class, call.node_id);
        Ok(Prepared { component, class, inputs, powers, limits: Arc::new(limits), node_id })
    }

    fn run(&self, call: &Prepared) -> Answered {
        match call.execute() {
            Ok((outcome, asked_for)) => {
                let (outcome, notebook) = (self.outcome(outcome)?, call.powers.notebook().clone());
                Ok(Reply::Ran(Box::new(Ran { outcome, asked_for, notebook })))
            }
            Err(error) => Ok(call.failed(error)),
        }
    }

    fn outcome(&self, outcome: Outcome) -> Result<wire::Outcome, String> {
        Ok(match outcome {
            Outcome::Outputs { slots, ui } => {
                let slots = slots.into_iter().map(|value| self.values.to_datum(value)).collect::<Result<_, _>>()?;
                wire::Outcome::Outputs { slots, ui: ui.unwrap_or_default() }
            }
            Outcome::Expansion(value) => wire::Outcome::Expansion(self.values.to_datum(value)?),
            Outcome::Blocked(message) => wire::Outcome::Blocked(message.as_deref().map(str::to_owned)),
        })
    }

    fn validate(&self, call: &Prepared) -> Answered {
        let mut types = Map::new();
        for (name, value) in &call.inputs {
            if let (false, Some(input)) = (value.is_json(), call.node().and_then(|node| node.input(name))) {
                types.insert(name.clone(), Json::from(input.input_type.as_str()));
            }
        }
        let findings = call.component.validate(call.context(), &call.class, &call.constants(), &types);
        let finding = |found: vivarium_sandbox::Finding| Finding { input: found.input, message: found.message };
        Ok(match findings {
            Ok(findings) => Reply::Findings(findings.into_iter().map(finding).collect()),
            Err(error) => call.failed(error),
        })
    }

    fn fingerprint(&self, call: &Prepared) -> Answered {
        let fingerprint = call.component.fingerprint(call.context(), &call.class, &call.constants());
        Ok(match fingerprint {
            Ok(Some(fingerprint)) => Reply::Fingerprint(fingerprint),
            Ok(None) => Reply::NeverTheSame,
            Err(error) => call.failed(error),
        })
    }

    fn call_method(&self, object: u64, method: &str, arguments: Datum) -> Answered {
        let object = self.values.object(object)?;
        let arguments = self.values.to_node(arguments)?;
        let powers = Arc::new(Powers::new(wire::Powers::default())?);
        let call = context(&powers, "", &Arc::new(Limits::default()));
        let deadline = std::time::Instant::now() + call.limits.execute_time;
        match object.owner.call_object(call, deadline, &object, method, &arguments) {
            Ok(value) => Ok(Reply::Value(self.values.to_datum(value)?)),
            Err(error) => Ok(failed(error, &powers)),
        }
    }
}

fn failed(error: CallError, powers: &Powers) -> Reply {
    let CallError { kind, message, frames } = error;
    let notebook = powers.notebook().clone();
    Reply::Failed(Box::new(Failed { kind: terms::failure(kind), message, frames, notebook }))
}

impl Prepared {
    fn context(&self) -> CallContext {
        context(&self.powers, &self.node_id, &self.limits)
    }

    fn node(&self) -> Option<&NodeDefinition> {
        self.component.definition().nodes.iter().find(|node| node.class_type == self.class)
    }

    fn failed(&self, error: CallError) -> Reply {
        failed(error, &self.powers)
    }

    /// Inputs that a prompt would hold itself, not by a link.
    fn constants(&self) -> Map<String, Json> {
        let constants = self.inputs.iter().filter(|(_, value)| value.is_json());
        constants.map(|(name, value)| (name.clone(), value.to_json())).collect()
    }

    /// Asks for the lazy inputs first, as a server does, and answers which were asked for.
    fn execute(&self) -> Result<(Outcome, Vec<String>), CallError> {
        let mut inputs = self.inputs.clone();
        let mut asked_for = Vec::new();
        if let Some(node) = self.node().filter(|node| node.has_needed_inputs) {
            for input in node.inputs.iter().filter(|input| input.is_lazy()) {
                if let Some(value) = inputs.get_mut(&input.name) {
                    *value = NodeValue::Null;
                }
            }
            loop {
                let needed =
                    self.component.needed_inputs(self.context(), &self.class, &NodeValue::Map(inputs.clone()))?;
                let fresh: Vec<_> = needed.into_iter().filter(|name| !asked_for.contains(name)).collect();
                if fresh.is_empty() {
                    break;
                }
                for name in fresh {
                    let value = self.inputs.get(&name).cloned().unwrap_or(NodeValue::Null);
                    inputs.insert(name.clone(), value);
                    asked_for.push(name);
                }
            }
        }
        let outcome = self.component.execute(self.context(), &self.class, &NodeValue::Map(inputs))?;
        Ok((outcome, asked_for))
    }
}
