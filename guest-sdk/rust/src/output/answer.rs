//! The ways in which a node may answer.

use serde_json::{Map, Value as Json, json};

use super::{Expansion, Output, Outputs};
use crate::bindings::exports::vivarium::node::nodes as wit;
use crate::error::Result;
use crate::files::SavedFile;
use crate::value::Value;

/// Type and kind of one output slot.
#[derive(Clone, Copy, Debug)]
pub struct SlotDefinition {
    /// ComfyUI's name of the type.
    pub output_type: &'static str,
    /// The slot is a list.
    pub is_list: bool,
}

impl SlotDefinition {
    pub(super) const fn of<T: Output>() -> Self {
        Self { output_type: T::TYPE, is_list: T::IS_LIST }
    }
}

/// What [`Run::run`](crate::Run::run) may return: outputs, [`Ui`], [`WithUi`], [`Outcome`] or an [`Expansion`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a node returns",
    label = "expected one output, a tuple of outputs, `()`, `Ui`, `WithUi`, `Outcome` or `Expansion`"
)]
pub trait Answer: Sized {
    /// The output slots.
    type Slots: Outputs;

    /// For the host.
    ///
    /// # Errors
    /// When an output has no value.
    fn into_outcome(self) -> Result<wit::Outcome>;
}

fn outputs(slots: Vec<Value>, ui: Option<Ui>) -> Result<wit::Outcome> {
    let ui = ui.map(|ui| Json::Object(ui.0).to_string());
    Ok(wit::Outcome::Outputs(wit::Outputs { slots: Value::List(slots).into_wit()?, ui }))
}

impl<T: Outputs> Answer for T {
    type Slots = T;

    fn into_outcome(self) -> Result<wit::Outcome> {
        outputs(self.into_slots()?, None)
    }
}

/// What clients show beside a node and the history keeps. Every entry is a list, as ComfyUI's clients expect it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ui(pub(super) Map<String, Json>);

impl Ui {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows saved image files.
    #[must_use]
    pub fn images(files: &[SavedFile]) -> Self {
        let file =
            |file: &SavedFile| json!({"filename": file.filename, "subfolder": file.subfolder, "type": file.folder});
        Self::new().entry("images", files.iter().map(file).collect::<Vec<_>>())
    }

    /// Shows a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new().entry("text", [text.into()])
    }

    /// Adds an entry of any name.
    #[must_use]
    pub fn entry<T: Into<Json>>(mut self, name: &str, items: impl IntoIterator<Item = T>) -> Self {
        self.0.insert(name.to_owned(), items.into_iter().map(Into::into).collect());
        self
    }

    /// Adds output slots.
    #[must_use]
    pub fn with<T: Outputs>(self, outputs: T) -> WithUi<T> {
        WithUi { outputs, ui: self }
    }
}

impl Answer for Ui {
    type Slots = ();

    fn into_outcome(self) -> Result<wit::Outcome> {
        outputs(Vec::new(), Some(self))
    }
}

/// Outputs and something to show.
#[derive(Clone, Debug)]
pub struct WithUi<T> {
    /// The output slots.
    pub outputs: T,
    /// What clients show.
    pub ui: Ui,
}

impl<T: Outputs> Answer for WithUi<T> {
    type Slots = T;

    fn into_outcome(self) -> Result<wit::Outcome> {
        outputs(self.outputs.into_slots()?, Some(self.ui))
    }
}

/// For nodes that answer sometimes this way, sometimes that.
pub enum Outcome<T: Outputs> {
    /// The output slots.
    Outputs(T),
    /// New nodes that compute the outputs.
    Expansion(Expansion<T>),
    /// Every output is blocked; with a message, the client is told.
    Blocked(Option<String>),
}

impl<T: Outputs> Answer for Outcome<T> {
    type Slots = T;

    fn into_outcome(self) -> Result<wit::Outcome> {
        match self {
            Self::Outputs(outputs) => outputs.into_outcome(),
            Self::Expansion(expansion) => expansion.into_outcome(),
            Self::Blocked(message) => Ok(wit::Outcome::Blocked(message)),
        }
    }
}
