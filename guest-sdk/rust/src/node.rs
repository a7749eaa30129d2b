//! A node: one struct of inputs and one function.

use vivarium_protocol::definition::NodeDefinition;

use crate::error::Result;
use crate::input::{Constants, Inputs};
use crate::output::Answer;
use crate::value::Json;

/// The description of a node class and its inputs. Made by `#[derive(Node)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no node",
    label = "write `#[derive(Node)] #[node(category = \"…\")]` above the struct"
)]
pub trait Node: Sized {
    /// The class name in prompts.
    const CLASS: &'static str;

    /// What the class says about itself.
    fn definition() -> NodeDefinition;

    /// Reads the fields.
    ///
    /// # Errors
    /// When an input is missing or of another type.
    fn from_inputs(inputs: &mut Inputs) -> Result<Self>;
}

/// What a node does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it does",
    label = "write `impl Run for {Self} {{ type Output = …; fn run(self) -> Result<Self::Output> {{ … }} }}`"
)]
pub trait Run: Node {
    /// The output slots: one value, a tuple, `()`, [`Ui`](crate::Ui), …
    type Output: Answer;

    /// Computes the outputs. Runs in a fresh instance: nothing survives between two calls.
    ///
    /// # Errors
    /// Whatever stopped the node; the message is shown to the user.
    fn run(self) -> Result<Self::Output>;
}

/// A node's own check before a prompt is accepted. Needs `validate(…)` in `#[node(…)]`, naming the inputs it checks:
/// the server's own range and list checks are off for those.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says `validate` in `#[node(…)]` and has no `impl Validate for {Self}`"
)]
pub trait Validate {
    /// Answers what is wrong; nothing when all is well.
    ///
    /// # Errors
    /// When the check itself failed.
    fn validate(inputs: &Constants) -> Result<Vec<Finding>>;
}

/// Tells when a node must run again although its inputs are the same. Needs `fingerprint` in `#[node(…)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says `fingerprint` in `#[node(…)]` and has no `impl Fingerprint for {Self}`"
)]
pub trait Fingerprint {
    /// Answers something that changes when the node must run again.
    ///
    /// # Errors
    /// When it cannot tell; the node then runs.
    fn fingerprint(inputs: &Constants) -> Result<Change>;
}

/// Chooses among lazy inputs. Needs `needed_inputs` in `#[node(…)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` says `needed_inputs` in `#[node(…)]` and has no `impl NeededInputs for {Self}`"
)]
pub trait NeededInputs: Sized {
    /// The lazy inputs that are needed next. Asked again when they are there; empty when the node can run.
    ///
    /// # Errors
    /// Whatever stops the node.
    fn needed_inputs(&self) -> Result<Vec<&'static str>>;
}

/// Something that [`Validate`] found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The input it concerns; `None` for the node as a whole.
    pub input: Option<String>,
    /// For people.
    pub message: String,
}

impl Finding {
    /// About one input.
    pub fn on(input: &str, message: impl Into<String>) -> Self {
        Self { input: Some(input.to_owned()), message: message.into() }
    }
}

/// What a node's fingerprint says.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Run again when this value is another one than last time.
    When(Json),
    /// Run again every time.
    Always,
}

impl<T: Into<Json>> From<T> for Change {
    fn from(value: T) -> Self {
        Self::When(value.into())
    }
}
