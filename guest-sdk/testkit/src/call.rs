//! One call of a node.

use indexmap::IndexMap;
use serde_json::Value as Json;
use vivarium_protocol::definition::{InputDefinition, NodeDefinition, Section};

use crate::{
    Answer, Failure, Finding, Image, Pack, Tensor, TestkitError, Value, program,
    wire::{Blob, Call, Datum, HttpAnswer, ImageFile, Powers, Question, Reply},
};

/// The id that the node has in its prompt.
const NODE_ID: &str = "1";

/// A call that is being prepared. Made by [`Pack::node`].
#[must_use = "nothing runs before `run` or `fails`"]
pub struct NodeCall {
    pack: Pack,
    node: NodeDefinition,
    /// Without defaults.
    inputs: IndexMap<String, Value>,
    /// But for the inputs.
    call: Call,
}

impl NodeCall {
    pub(crate) fn new(pack: Pack, node: NodeDefinition) -> Self {
        let call = Call {
            pack: pack.number(),
            class: node.class_type.clone(),
            node_id: NODE_ID.to_owned(),
            ..Call::default()
        };
        Self { pack, node, inputs: IndexMap::new(), call }
    }

    fn powers(&mut self) -> &mut Powers {
        &mut self.call.powers
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
        let parsed = match permission.parse() {
            Ok(parsed) => parsed,
            Err(error) => panic!("{error}"),
        };
        let asked = self.pack.definition().permissions.iter().any(|request| request.permission == permission);
        assert!(asked, "the pack does not ask for {permission}, so nobody can grant it: add it to `permissions`");
        self.powers().grants.push(parsed);
        self
    }

    /// An image file that exists in the input folder: the first picture of `image` as a PNG. The node may read it if an input
    /// names it.
    pub fn image_file(mut self, name: &str, image: &Image) -> Self {
        self.powers().images.insert(name.to_owned(), ImageFile::Picture(image.tensor().clone()));
        self
    }

    /// The same with the bytes of a file, for example a broken one.
    pub fn image_bytes(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.powers().images.insert(name.to_owned(), ImageFile::Bytes(Blob(bytes.into())));
        self
    }

    /// A safetensors file in a model folder. Reading it needs the permission `models/FOLDER`.
    pub fn model(mut self, folder: &str, name: &str, tensors: &[(&str, Tensor)]) -> Self {
        let tensors = tensors.iter().map(|(key, tensor)| ((*key).to_owned(), tensor.clone())).collect();
        self.powers().models.entry(folder.to_owned()).or_default().insert(name.to_owned(), tensors);
        self
    }

    /// A secret of the tenant. Reading it needs the permission `secret/NAME`.
    pub fn secret(mut self, name: &str, secret: &str) -> Self {
        self.powers().secrets.insert(name.to_owned(), secret.to_owned());
        self
    }

    /// What a server answers at an address. Asking needs the permission `http/HOST`.
    pub fn http(mut self, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.powers().http.insert(url.to_owned(), HttpAnswer { status, body: Blob(body.into()) });
        self
    }

    /// A scratch file that an earlier call left. Reading it needs the permission `scratch`.
    pub fn scratch_file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.powers().scratch.insert(name.to_owned(), Blob(content.into()));
        self
    }

    /// A file in a folder that the operator gave a name; `path` has `/` between names. Reading it needs the permission
    /// `input/FOLDER`.
    pub fn folder_file(mut self, folder: &str, path: &str, content: impl Into<Vec<u8>>) -> Self {
        let files = self.powers().folders.entry(folder.to_owned()).or_default();
        files.insert(path.to_owned(), Blob(content.into()));
        self
    }

    /// Sets a limit to a value in its unit: `.limit("handles", 10)`, `.limit("execute_time", 500)`. `vivarium doctor` lists
    /// names, units (bytes, milliseconds, counts) and the values that servers have by default, which hold here otherwise.
    pub fn limit(mut self, name: &str, value: u64) -> Self {
        self.call.limits.insert(name.to_owned(), value);
        self
    }

    /// Interrupts the node as soon as its progress reaches `value`.
    pub fn interrupt_at(mut self, value: f64) -> Self {
        self.powers().interrupt_at = Some(value);
        self
    }

    /// Interrupts the node before it begins.
    pub fn interrupted(mut self) -> Self {
        self.powers().interrupted = true;
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
            Ok(answer) => panic!("{class} should have failed, but answered {:?}", answer.0.outcome),
            Err(failure) => failure,
        }
    }

    /// Runs the node.
    ///
    /// # Errors
    /// Its error, or the limit that it ran into.
    ///
    /// # Panics
    /// When it can't be run: there is no limit of a name, or the program that runs nodes is gone.
    #[track_caller]
    pub fn try_run(self) -> Result<Answer, Failure> {
        match self.ask(Question::Run) {
            Ok(Reply::Ran(ran)) => Ok(Answer(ran)),
            Ok(Reply::Failed(failed)) => Err(Failure(failed)),
            Ok(_) => panic!("{}", TestkitError::OffTopic),
            Err(error) => panic!("{error}"),
        }
    }

    /// What the node's own check finds wrong with its constant inputs. Inputs with tensors or objects count as linked.
    ///
    /// # Panics
    /// When the check itself fails.
    #[track_caller]
    pub fn validate(self) -> Vec<Finding> {
        let class = self.node.class_type.clone();
        match self.ask(Question::Validate) {
            Ok(Reply::Findings(findings)) => findings,
            Ok(Reply::Failed(failed)) => panic!("{class} could not check its inputs: {}", failed.message),
            Ok(_) => panic!("{}", TestkitError::OffTopic),
            Err(error) => panic!("{error}"),
        }
    }

    /// What the node says about its constant inputs beside their values: it runs again when this changes. `None` means
    /// that it always runs again.
    ///
    /// # Panics
    /// When the hook fails.
    #[track_caller]
    pub fn fingerprint(self) -> Option<Json> {
        let class = self.node.class_type.clone();
        match self.ask(Question::Fingerprint) {
            Ok(Reply::Fingerprint(fingerprint)) => Some(fingerprint),
            Ok(Reply::NeverTheSame) => None,
            Ok(Reply::Failed(failed)) => panic!("the fingerprint of {class}: {}", failed.message),
            Ok(_) => panic!("{}", TestkitError::OffTopic),
            Err(error) => panic!("{error}"),
        }
    }

    fn ask(self, question: impl FnOnce(Box<Call>) -> Question) -> Result<Reply, TestkitError> {
        let inputs = with_defaults(&self.node, self.inputs);
        program::ask(question(Box::new(Call { inputs, ..self.call })))
    }
}

/// The inputs, and what a user interface and the host would fill in.
fn with_defaults(node: &NodeDefinition, mut given: IndexMap<String, Value>) -> IndexMap<String, Datum> {
    let mut inputs = IndexMap::new();
    for input in &node.inputs {
        let given = given.shift_remove(&input.name).map(|value| value.0);
        if let Some(value) = given.or_else(|| default_of(input)) {
            inputs.insert(input.name.clone(), value);
        }
    }
    inputs.extend(given.into_iter().map(|(name, value)| (name, value.0)));
    inputs
}

fn default_of(input: &InputDefinition) -> Option<Datum> {
    match (input.section, input.input_type.as_str()) {
        (Section::Hidden, "UNIQUE_ID") => Some(Datum::Text(NODE_ID.to_owned())),
        (Section::Hidden, _) => Some(Datum::Null),
        // A prompt may leave it out, and then does.
        (Section::Optional, _) => None,
        (Section::Required, _) => {
            input.options.get("default").or_else(|| input.choices.first()).cloned().map(Datum::from_json)
        }
    }
}
