//! A component: its nodes, and the way from an export to the right one.

use vivarium_protocol::definition::{NodeDefinition, PackDefinition, PermissionRequest};

use crate::bindings::exports::vivarium::node::nodes as wit;
use crate::error::{Error, ErrorKind, Result};
use crate::input::{Constants, Inputs};
use crate::node::{Change, Finding, Fingerprint, NeededInputs, Run, Validate};
use crate::object::{Arguments, Methods};
use crate::output::Answer;
use crate::value::{Json, Value};

/// What [`pack!`](macro@crate::pack) makes.
pub struct Pack {
    /// See [`PackDefinition`].
    pub name: &'static str,
    /// See [`PackDefinition`].
    pub version: &'static str,
    /// See [`PackDefinition`].
    pub publisher: &'static str,
    /// See [`PackDefinition`].
    pub description: &'static str,
    /// See [`PackDefinition`].
    pub license: &'static str,
    /// Permissions, each with its reason.
    pub permissions: &'static [(&'static str, &'static str)],
    /// The node classes.
    pub nodes: &'static [NodeEntry],
    /// The types of objects that the pack makes.
    pub objects: &'static [ObjectEntry],
}

/// One node class, as functions.
pub struct NodeEntry {
    class: &'static str,
    definition: fn() -> NodeDefinition,
    validate: fn(&Constants) -> Result<Vec<Finding>>,
    fingerprint: fn(&Constants) -> Result<Change>,
    needed_inputs: fn(Inputs) -> Result<Vec<&'static str>>,
    execute: fn(Inputs) -> Result<wit::Outcome>,
}

impl NodeEntry {
    /// The entry of a node.
    #[must_use]
    pub const fn of<T: Run + Validate + Fingerprint + NeededInputs>() -> Self {
        Self {
            class: T::CLASS,
            definition: T::definition,
            validate: T::validate,
            fingerprint: T::fingerprint,
            needed_inputs: |mut inputs| T::from_inputs(&mut inputs)?.needed_inputs(),
            execute: |mut inputs| T::from_inputs(&mut inputs)?.run()?.into_outcome(),
        }
    }
}

/// One type of objects, as a function.
pub struct ObjectEntry {
    type_name: &'static str,
    call: fn(Value, &str, Value) -> Result<Value>,
}

impl ObjectEntry {
    /// The entry of a type.
    #[must_use]
    pub const fn of<T: Methods>() -> Self {
        Self {
            type_name: T::TYPE,
            call: |state, method, arguments| T::from_value(state)?.call(method, Arguments(arguments)),
        }
    }
}

/// The exports of the component.
impl Pack {
    /// What the pack says about itself.
    #[must_use]
    pub fn definition(&self) -> PackDefinition {
        let permission = |(permission, reason): &(&str, &str)| PermissionRequest {
            permission: (*permission).to_owned(),
            reason: (*reason).to_owned(),
        };
        PackDefinition {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            publisher: self.publisher.to_owned(),
            description: self.description.to_owned(),
            license: self.license.to_owned(),
            permissions: self.permissions.iter().map(permission).collect(),
            nodes: self.nodes.iter().map(|node| (node.definition)()).collect(),
        }
    }

    /// `describe`
    #[must_use]
    pub fn describe(&self) -> String {
        // A definition is strings, numbers and maps with string keys, which always can be written.
        serde_json::to_string(&self.definition()).unwrap_or_else(|error| panic!("the pack's definition: {error}"))
    }

    /// `validate`
    ///
    /// # Errors
    /// When the class is unknown or its check failed.
    pub fn validate(&self, class: &str, inputs: wit::Value, types: &str) -> Result<Vec<wit::Finding>> {
        let node = self.node(class)?;
        let constants = node.constants(inputs, serde_json::from_str(types)?)?;
        let findings = (node.validate)(&constants)?;
        Ok(findings.into_iter().map(|Finding { input, message }| wit::Finding { input, message }).collect())
    }

    /// `fingerprint`
    ///
    /// # Errors
    /// When the class is unknown or cannot tell.
    pub fn fingerprint(&self, class: &str, inputs: wit::Value) -> Result<String> {
        let node = self.node(class)?;
        let constants = node.constants(inputs, serde_json::Map::new())?;
        Ok(match (node.fingerprint)(&constants)? {
            Change::When(value) => value.to_string(),
            Change::Always => "NaN".to_owned(),
        })
    }

    /// `needed-inputs`
    ///
    /// # Errors
    /// When the class is unknown, an input is wrong, or the node fails.
    pub fn needed_inputs(&self, class: &str, inputs: wit::Value) -> Result<Vec<String>> {
        let needed = (self.node(class)?.needed_inputs)(read(inputs)?)?;
        Ok(needed.into_iter().map(str::to_owned).collect())
    }

    /// `execute`
    ///
    /// # Errors
    /// When the class is unknown, an input is wrong, or the node fails.
    pub fn execute(&self, class: &str, inputs: wit::Value) -> Result<wit::Outcome> {
        (self.node(class)?.execute)(read(inputs)?)
    }

    /// `call`
    ///
    /// # Errors
    /// When the type is unknown or the method fails.
    pub fn call(&self, type_name: &str, method: &str, state: wit::Value, arguments: wit::Value) -> Result<wit::Value> {
        let object = self.objects.iter().find(|object| object.type_name == type_name);
        let object = object.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("pack `{}` makes no objects of type {type_name}", self.name))
        })?;
        (object.call)(Value::from_wit(state)?, method, Value::from_wit(arguments)?)?.into_wit()
    }

    fn node(&self, class: &str) -> Result<&NodeEntry> {
        self.nodes
            .iter()
            .find(|node| node.class == class)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("pack `{}` has no node class `{class}`", self.name)))
    }
}

impl NodeEntry {
    fn constants(&self, inputs: wit::Value, types: serde_json::Map<String, Json>) -> Result<Constants> {
        let names = (self.definition)().inputs.into_iter().map(|input| input.name).collect();
        Ok(Constants::new(names, read(inputs)?, types))
    }
}

fn read(inputs: wit::Value) -> Result<Inputs> {
    Inputs::from_value(Value::from_wit(inputs)?)
}

/// Makes a component out of nodes.
///
/// ```text
/// vivarium_node::pack! {
///     name: "example",
///     version: env!("CARGO_PKG_VERSION"),
///     publisher: "Somebody",
///     description: "What the nodes are for.",
///     license: "MIT",                                               // may be left out
///     permissions: [("models/vae", "to decode latent pictures")],   // may be left out
///     nodes: [Invert, Blur],
///     objects: [Decoder],                                           // may be left out
/// }
/// ```
#[macro_export]
macro_rules! pack {
    (
        name: $name:expr,
        version: $version:expr,
        publisher: $publisher:expr,
        description: $description:expr,
        $(license: $license:expr,)?
        $(permissions: [$(($permission:expr, $reason:expr)),* $(,)?],)?
        nodes: [$($node:ty),* $(,)?]
        $(, objects: [$($object:ty),* $(,)?])?
        $(,)?
    ) => {
        /// What this component offers.
        pub static PACK: $crate::Pack = $crate::Pack {
            name: $name,
            version: $version,
            publisher: $publisher,
            description: $description,
            license: concat!($($license)?),
            permissions: &[$($(($permission, $reason)),*)?],
            nodes: &[$($crate::NodeEntry::of::<$node>()),*],
            objects: &[$($($crate::ObjectEntry::of::<$object>()),*)?],
        };

        #[allow(unsafe_code, unsafe_op_in_unsafe_fn, missing_docs, clippy::undocumented_unsafe_blocks)]
        mod vivarium_component {
            use $crate::bindings::exports::vivarium::node::nodes::{Error, Finding, Guest, Outcome, Value};

            struct Component;

            impl Guest for Component {
                fn describe() -> String {
                    super::PACK.describe()
                }

                fn validate(class: String, inputs: Value, types: String) -> Result<Vec<Finding>, Error> {
                    super::PACK.validate(&class, inputs, &types).map_err(Error::from)
                }

                fn fingerprint(class: String, inputs: Value) -> Result<String, Error> {
                    super::PACK.fingerprint(&class, inputs).map_err(Error::from)
                }

                fn needed_inputs(class: String, inputs: Value) -> Result<Vec<String>, Error> {
                    super::PACK.needed_inputs(&class, inputs).map_err(Error::from)
                }

                fn execute(class: String, inputs: Value) -> Result<Outcome, Error> {
                    super::PACK.execute(&class, inputs).map_err(Error::from)
                }

                fn call(type_name: String, method: String, state: Value, arguments: Value) -> Result<Value, Error> {
                    super::PACK.call(&type_name, &method, state, arguments).map_err(Error::from)
                }
            }

            $crate::bindings::export_pack!(Component with_types_in $crate::bindings);
        }
    };
}
