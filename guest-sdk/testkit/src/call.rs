//! One call of a node.

use std::sync::atomic::Ordering;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use vivarium_protocol::{
    definition::{InputDefinition, NodeDefinition, Section},
    permission::Permission,
};
use vivarium_sandbox::{CallContext, CallError, Finding, Limits, NodeValue};

use crate::{Answer, Failure, Image, Pack, Tensor, Value, powers::Powers};

/// The id that the node has in its prompt.
const NODE_ID: &str = "1";

/// A call that is being prepared. Made by [`Pack::node`].
#[must_use = "nothing runs before `run` or `fails`"]
pub struct NodeCall {
    pack: Pack,
    node: NodeDefinition,
    inputs: IndexMap<String, Value>,
    powers: Powers,
    limits: Limits,
}

impl NodeCall {
    pub(crate) fn new(pack: Pack, node: NodeDefinition) -> Self {
        Self { pack, node, inputs: IndexMap::new(), powers: Powers::default(), limits: Limits::default() }
    }

    /// Sets an input, also a hidden one.
    ///
    /// # Panics
    /// When the node has no such input.
    #[track_caller]
    pub fn input(mut self, name: &str, value: impl Into<Value>) -> Self {
        if self.node.input(name).is_none() && !self.node.accepts_undeclared {
            let known: Vec<_> = self.node.inputs.iter().map(|input| input.name.as_str()).collect();
            panic!("{} has no input `{name}`; it has {}", self.node.class_type, known.join(", "));
        }
        self.inputs.insert(name.to_owned(), value.into());
        self
    }

    /// Gives the pack a permission that it asks for, as `vivarium pack grant` does.
    ///
    /// # Panics
    /// When there is no such permission, or the pack does not ask for it.
    #[track_caller]
    pub fn grant(mut self, permission: &str) -> Self {
        let parsed: Permission = permission.parse().unwrap_or_else(|error| panic!("{error}"));
        let asked = self.pack.definition().permissions.iter().any(|request| request.permission == permission);
        assert!(asked, "the pack does not ask for {permission}, so nobody can grant it: add it to `permissions`");
        self.powers.grants.insert(parsed);
        self
    }

    /// An image file that exists in the input folder. The node may read it if an input names it.
    #[track_caller]
    pub fn image_file(mut self, name: &str, image: &Image) -> Self {
        self.powers.images.insert(name.to_owned(), image.png());
        self
    }

    /// The same with the bytes of a file, for example a broken one.
    pub fn image_bytes(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.powers.images.insert(name.to_owned(), bytes.into());
        self
    }

    /// A safetensors file in a model folder. Reading it needs the permission `models/FOLDER`.
    #[track_caller]
    pub fn model(mut self, folder: &str, name: &str, tensors: &[(&str, Tensor)]) -> Self {
        self.powers.add_model(folder, name, tensors);
        self
    }

    /// A secret of the tenant. Reading it needs the permission `secret/NAME`.
    pub fn secret(mut self, name: &str, secret: &str) -> Self {
        self.powers.secrets.insert(name.to_owned(), secret.to_owned());
        self
    }

    /// What a server answers at an address. Asking needs the permission `http/HOST`.
    pub fn http(mut self, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.powers.outside.answers.insert(url.to_owned(), (status, body.into()));
        self
    }

    /// A scratch file that an earlier call left. Reading it needs the permission `scratch`.
    pub fn scratch_file(self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.powers.notebook().scratch.insert(name.to_owned(), content.into());
        self
    }

    /// A file in a folder that the operator gave a name; `path` has `/` between names. Reading it needs the permission
    /// `input/FOLDER`.
    pub fn folder_file(mut self, folder: &str, path: &str, content: impl Into<Vec<u8>>) -> Self {
        let files = self.powers.outside.folders.entry(folder.to_owned()).or_default();
        files.insert(path.to_owned(), content.into());
        self
    }

    /// Changes limits: `.limits(|limits| limits.handles = 10)`. The defaults are those of a server.
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Interrupts the node as soon as its progress reaches `value`.
    pub fn interrupt_at(mut self, value: f64) -> Self {
        self.powers.interrupt_at = Some(value);
        self
    }

    /// Interrupts the node before it begins.
    pub fn interrupted(self) -> Self {
        self.powers.interrupt.store(true, Ordering::Relaxed);
        self
    }

    /// Runs the node: asks for its lazy inputs first, as a server does, if it has some.
    ///
    /// # Panics
    /// When it does not succeed, with its error.
    #[track_caller]
    pub fn run(self) -> Answer {
        let class = self.node.class_type.clone();
        match self.try_run() {
            Ok(answer) => answer,
            Err(failure) => panic!("{class} failed: {failure}"),
        }
    }

    /// Runs the node, which has to fail.
    ///
    /// # Panics
    /// When it succeeds.
    #[track_caller]
    pub fn fails(self) -> Failure {
        let class = self.node.class_type.clone();
        match self.try_run() {
            Ok(answer) => panic!("{class} should have failed, but answered {:?}", answer.outcome),
            Err(failure) => failure,
        }
    }

    /// Runs the node.
    ///
    /// # Errors
    /// Its error, or the limit that it ran into.
    pub fn try_run(self) -> Result<Answer, Failure> {
        match self.execute() {
            Ok((outcome, asked_for)) => Ok(Answer { outcome, asked_for, notebook: self.powers.notebook().clone() }),
            Err(error) => {
                let notebook = Box::new(self.powers.notebook().clone());
                Err(Failure { error: Box::new(error), notebook })
            }
        }
    }

    fn execute(&self) -> Result<(vivarium_sandbox::Outcome, Vec<String>), CallError> {
        let mut inputs = self.with_defaults();
        let mut asked_for = Vec::new();
        if self.node.has_needed_inputs {
            let withheld: IndexMap<String, NodeValue> = self
                .node
                .inputs
                .iter()
                .filter(|input| is_lazy(input))
                .filter_map(|input| Some((input.name.clone(), inputs.insert(input.name.clone(), NodeValue::Null)?)))
                .collect();
            loop {
                let needed = self.ask_needed(&inputs)?;
                let fresh: Vec<_> = needed.into_iter().filter(|name| !asked_for.contains(name)).collect();
                if fresh.is_empty() {
                    break;
                }
                for name in fresh {
                    inputs.insert(name.clone(), withheld.get(&name).cloned().unwrap_or(NodeValue::Null));
                    asked_for.push(name);
                }
            }
        }
        let component = &self.pack.component;
        let outcome = component.execute(self.context(), &self.node.class_type, &NodeValue::Map(inputs))?;
        Ok((outcome, asked_for))
    }

    fn ask_needed(&self, inputs: &IndexMap<String, NodeValue>) -> Result<Vec<String>, CallError> {
        let inputs = NodeValue::Map(inputs.clone());
        self.pack.component.needed_inputs(self.context(), &self.node.class_type, &inputs)
    }

    /// What the node's own check finds wrong with its constant inputs. Inputs with tensors or objects count as linked.
    ///
    /// # Panics
    /// When the check itself fails.
    #[track_caller]
    pub fn validate(self) -> Vec<Finding> {
        let class = &self.node.class_type;
        let mut types = Map::new();
        for (name, value) in &self.inputs {
            if let (false, Some(input)) = (value.0.is_json(), self.node.input(name)) {
                types.insert(name.clone(), Json::from(input.input_type.as_str()));
            }
        }
        let findings = self.pack.component.validate(self.context(), class, &self.constants(), &types);
        findings.unwrap_or_else(|error| panic!("{class} could not check its inputs: {error}"))
    }

    /// What the node says about its constant inputs beside their values: it runs again when this changes. `None` means
    /// that it always runs again.
    ///
    /// # Panics
    /// When the hook fails.
    #[track_caller]
    pub fn fingerprint(self) -> Option<Json> {
        let class = &self.node.class_type;
        let fingerprint = self.pack.component.fingerprint(self.context(), class, &self.constants());
        fingerprint.unwrap_or_else(|error| panic!("the fingerprint of {class}: {error}"))
    }

    fn context(&self) -> CallContext {
        self.powers.context(NODE_ID, &self.limits)
    }

    fn constants(&self) -> Map<String, Json> {
        let inputs = self.with_defaults().into_iter().filter(|(_, value)| value.is_json());
        inputs.map(|(name, value)| (name, value.to_json())).collect()
    }

    /// The inputs, and what a user interface and the host would fill in.
    fn with_defaults(&self) -> IndexMap<String, NodeValue> {
        let mut inputs = IndexMap::new();
        for input in &self.node.inputs {
            let given = self.inputs.get(&input.name).map(|value| value.0.clone());
            if let Some(value) = given.or_else(|| default_of(input)) {
                inputs.insert(input.name.clone(), value);
            }
        }
        for (name, value) in &self.inputs {
            inputs.entry(name.clone()).or_insert_with(|| value.0.clone());
        }
        inputs
    }
}

fn is_lazy(input: &InputDefinition) -> bool {
    input.options.get("lazy").and_then(Json::as_bool).unwrap_or_default()
}

fn default_of(input: &InputDefinition) -> Option<NodeValue> {
    match (input.section, input.input_type.as_str()) {
        (Section::Hidden, "UNIQUE_ID") => Some(NodeValue::String(NODE_ID.into())),
        (Section::Hidden, _) => Some(NodeValue::Null),
        // A prompt may leave it out, and then does.
        (Section::Optional, _) => None,
        (Section::Required, _) => {
            input.options.get("default").or_else(|| input.choices.first()).map(NodeValue::from_json)
        }
    }
}
