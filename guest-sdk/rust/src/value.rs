//! Values of any type: what a node gets from a `*` input, and what objects keep as their state.

use crate::bindings::vivarium::node::values as wit;
use crate::codec::Tree;
use crate::error::Result;
use crate::object::Object;
use crate::tensor::Tensor;

/// Plain JSON.
pub use serde_json::Value as Json;

/// A value of any ComfyUI type.
pub type Value = Tree<Handle>;

/// Something in a value that lives in the host.
#[derive(Clone, Debug)]
pub enum Handle {
    /// Pixels, latents, weights.
    Tensor(Tensor),
    /// A model or another thing that one pack lends to another.
    Object(Object),
}

impl Value {
    pub(crate) fn into_wit(self) -> Result<wit::Value> {
        let (json, handles) = self.encode();
        let handles = handles
            .into_iter()
            .map(|handle| {
                Ok(match handle {
                    Handle::Tensor(tensor) => wit::Handle::Tensor(tensor.into_raw()?),
                    Handle::Object(object) => wit::Handle::Object(object.into_raw()?),
                })
            })
            .collect::<Result<_>>()?;
        Ok(wit::Value { json, handles })
    }

    pub(crate) fn from_wit(value: wit::Value) -> Result<Self> {
        let handles: Vec<_> = value
            .handles
            .into_iter()
            .map(|handle| match handle {
                wit::Handle::Tensor(raw) => Handle::Tensor(Tensor::from_raw(raw)),
                wit::Handle::Object(raw) => Handle::Object(Object::from_raw(raw)),
            })
            .collect();
        Self::decode(&value.json, &handles)
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Handle(Handle::Tensor(tensor))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Handle(Handle::Object(object))
    }
}
