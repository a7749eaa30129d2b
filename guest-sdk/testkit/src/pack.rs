//! A pack under test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use vivarium_protocol::definition::{NodeDefinition, PackDefinition};

use crate::{
    NodeCall, TestkitError, Value, cargo, program,
    wire::{Blob, Question, Reply},
};

/// A component, loaded into the sandbox. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Pack(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    /// The program's for it.
    number: u64,
    definition: PackDefinition,
}

impl Pack {
    /// The pack whose tests these are: `cargo build --release --target wasm32-wasip2` in the folder of the crate, once per
    /// test program.
    ///
    /// # Panics
    /// When it does not build, or is no pack.
    #[must_use]
    #[track_caller]
    pub fn of_this_crate() -> Self {
        let Some(folder) = env::var_os("CARGO_MANIFEST_DIR") else {
            panic!("which crate is this? `cargo test` says so; `Pack::of_crate` takes a folder")
        };
        Self::of_crate(PathBuf::from(folder))
    }

    /// The pack of the crate in a folder.
    ///
    /// # Panics
    /// When it does not build, or is no pack.
    #[must_use]
    #[track_caller]
    pub fn of_crate(folder: impl AsRef<Path>) -> Self {
        match cargo::build(folder.as_ref()) {
            Ok(component) => Self::from_file(component),
            Err(message) => panic!("{message}"),
        }
    }

    /// A pack or component that was built before, in whatever language.
    ///
    /// # Panics
    /// When it can't be read, or is no pack.
    #[must_use]
    #[track_caller]
    pub fn from_file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let component = match fs::read(path) {
            Ok(bytes) => Blob(bytes),
            Err(error) => panic!("could not read {}: {error}", path.display()),
        };
        match program::ask(Question::Load { component }) {
            Ok(Reply::Loaded { pack: number, definition }) => Self(Arc::new(Loaded { number, definition })),
            Ok(_) => panic!("{}", TestkitError::OffTopic),
            Err(TestkitError::Refused(message)) => panic!("{} can't be used: {message}", path.display()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }

    /// What the pack says about itself.
    #[must_use]
    pub fn definition(&self) -> &PackDefinition {
        &self.0.definition
    }

    /// Begins a call of a node.
    ///
    /// # Panics
    /// When the pack has no such class.
    #[track_caller]
    pub fn node(&self, class: &str) -> NodeCall {
        NodeCall::new(self.clone(), self.class(class).clone())
    }

    #[track_caller]
    fn class(&self, class: &str) -> &NodeDefinition {
        let PackDefinition { name, nodes, .. } = self.definition();
        match nodes.iter().find(|node| node.class_type == class) {
            Some(node) => node,
            None => {
                let known: Vec<_> = nodes.iter().map(|node| node.class_type.as_str()).collect();
                panic!("pack {name} has no node `{class}`; it has {}", known.join(", "))
            }
        }
    }

    /// Calls a method of an object, as another pack would. The pack that made the object answers, whichever this is.
    ///
    /// # Panics
    /// When `object` is none, or the method fails.
    #[track_caller]
    pub fn call_method(object: &Value, method: &str, arguments: impl Into<Value>) -> Value {
        let object = object.as_object();
        let question = Question::Method { object: object.id, method: method.to_owned(), arguments: arguments.into().0 };
        match program::ask(question) {
            Ok(Reply::Value(value)) => Value(value),
            Ok(Reply::Failed(failed)) => panic!("{method} of {}: {}", object.type_name, failed.message),
            Ok(_) => panic!("{}", TestkitError::OffTopic),
            Err(error) => panic!("{error}"),
        }
    }
}
