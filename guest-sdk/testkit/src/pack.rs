//! A pack under test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use vivarium_protocol::definition::{NodeDefinition, PackDefinition};
use vivarium_sandbox::{EngineConfig, Limits, PackComponent, SandboxEngine};

use crate::{NodeCall, Value, cargo, powers::Powers};

/// A component, loaded into the sandbox. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Pack {
    pub(crate) component: Arc<PackComponent>,
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
        Self::from_file(cargo::build(folder.as_ref()).unwrap_or_else(|message| panic!("{message}")))
    }

    /// A pack or component that was built before, in whatever language.
    ///
    /// # Panics
    /// When it can't be read, or is no pack.
    #[must_use]
    #[track_caller]
    pub fn from_file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
        let component = engine().load(&bytes);
        let component = component.unwrap_or_else(|error| panic!("{} can't be used: {error}", path.display()));
        Self { component }
    }

    /// What the pack says about itself.
    #[must_use]
    pub fn definition(&self) -> &PackDefinition {
        self.component.definition()
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
        let nodes = &self.definition().nodes;
        nodes.iter().find(|node| node.class_type == class).unwrap_or_else(|| {
            let known: Vec<_> = nodes.iter().map(|node| node.class_type.as_str()).collect();
            panic!("pack {} has no node `{class}`; it has {}", self.component.name(), known.join(", "))
        })
    }

    /// Calls a method of an object, as another pack would. The pack that made the object answers, whichever this is.
    ///
    /// # Panics
    /// When `object` is none, or the method fails.
    #[track_caller]
    pub fn call_method(object: &Value, method: &str, arguments: impl Into<Value>) -> Value {
        let object = object.as_object();
        let call = Powers::default().context("", &Limits::default());
        let deadline = std::time::Instant::now() + call.limits.execute_time;
        let answer = object.owner.call_object(call, deadline, object, method, &arguments.into().0);
        Value(answer.unwrap_or_else(|error| panic!("{} of {}: {error}", method, object.type_name)))
    }
}

/// The sandbox of this process. Compiled components are kept beside the test program, where cargo keeps what it built: the
/// next run finds them there.
#[track_caller]
fn engine() -> &'static Arc<SandboxEngine> {
    static ENGINE: OnceLock<Arc<SandboxEngine>> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let program = env::current_exe().ok();
        let aot_folder = program.and_then(|program| Some(program.parent()?.join("vivarium-testkit")));
        let engine = SandboxEngine::new(EngineConfig { aot_folder, ..EngineConfig::default() });
        engine.unwrap_or_else(|error| panic!("{error}"))
    })
}
