//! Between the values of a test program and those of the sandbox.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use vivarium_sandbox::{NodeValue, PackObject};
use vivarium_tensor::{Budget, OpContext, Tensor as HostTensor, ops::MAX_READ};
use vivarium_testkit::{
    Tensor,
    wire::{Datum, Object, frame::TAIL_BYTES},
};

use super::terms;

/// Tests may hold what they like; the nodes that they call may not.
pub(super) fn unlimited() -> OpContext {
    OpContext::new(Budget::root(u64::MAX))
}

pub(super) fn to_host(tensor: &Tensor) -> Result<HostTensor, String> {
    let host = HostTensor::from_bytes(&tensor.shape(), terms::dtype(tensor.dtype()), tensor.bytes(), &unlimited());
    host.map_err(|error| error.to_string())
}

pub(super) fn from_host(tensor: &HostTensor) -> Result<Tensor, String> {
    let (elements, size) = (tensor.elements() as u64, tensor.dtype().size() as u64);
    if elements.saturating_mul(size) > TAIL_BYTES {
        return Err(format!(
            "a tensor {:?} has more than {TAIL_BYTES} bytes, too many to be handed to a test",
            tensor.shape()
        ));
    }
    let at_once = MAX_READ / size;
    let mut bytes = Vec::new();
    let mut read = 0;
    while read < elements {
        let length = at_once.min(elements - read);
        bytes.extend(tensor.read(read, length, &unlimited()).map_err(|error| error.to_string())?);
        read += length;
    }
    Ok(Tensor::from_bytes(terms::dtype_of(tensor.dtype()), tensor.shape(), bytes))
}

/// Values, and the objects that tests hold.
#[derive(Default)]
pub(super) struct Values {
    lent: Mutex<HashMap<u64, Arc<PackObject>>>,
    numbers: AtomicU64,
}

impl Values {
    fn lent(&self) -> MutexGuard<'_, HashMap<u64, Arc<PackObject>>> {
        // A panic while it was held leaves at most an object less.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn release(&self, object: u64) {
        let released = self.lent().remove(&object);
        // Not while the lock is held: it may be large.
        drop(released);
    }

    pub(super) fn object(&self, number: u64) -> Result<Arc<PackObject>, String> {
        self.lent().get(&number).cloned().ok_or_else(|| format!("there is no object {number}"))
    }

    pub(super) fn to_node(&self, value: Datum) -> Result<NodeValue, String> {
        Ok(match value {
            Datum::Null => NodeValue::Null,
            Datum::Bool(flag) => NodeValue::Bool(flag),
            Datum::Number(number) => NodeValue::Number(number),
            Datum::Text(text) => NodeValue::String(text.into()),
            Datum::List(items) => {
                NodeValue::List(items.into_iter().map(|item| self.to_node(item)).collect::<Result<_, _>>()?)
            }
            Datum::Map(entries) => {
                let entry = |(key, value)| Ok((key, self.to_node(value)?));
                NodeValue::Map(entries.into_iter().map(entry).collect::<Result<_, String>>()?)
            }
            Datum::Tensor(tensor) => NodeValue::Tensor(to_host(&tensor)?),
            Datum::Object(object) => NodeValue::Object(self.object(object.id)?),
            Datum::Blocked(message) => NodeValue::Blocked(message.map(Arc::from)),
            Datum::Link(node, slot) => NodeValue::Link(node.into(), slot),
        })
    }

    /// Objects in it are kept until the test program releases them.
    pub(super) fn to_datum(&self, value: NodeValue) -> Result<Datum, String> {
        Ok(match value {
            NodeValue::Null => Datum::Null,
            NodeValue::Bool(flag) => Datum::Bool(flag),
            NodeValue::Number(number) => Datum::Number(number),
            NodeValue::String(text) => Datum::Text(text.to_string()),
            NodeValue::List(items) => {
                Datum::List(items.into_iter().map(|item| self.to_datum(item)).collect::<Result<_, _>>()?)
            }
            NodeValue::Map(entries) => {
                let entry = |(key, value)| Ok((key, self.to_datum(value)?));
                Datum::Map(entries.into_iter().map(entry).collect::<Result<_, String>>()?)
            }
            NodeValue::Tensor(tensor) => Datum::Tensor(from_host(&tensor)?),
            NodeValue::Object(object) => {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let described = Object::new(number, object.type_name.clone(), object.owner.name().to_owned());
                self.lent().insert(number, object);
                Datum::Object(described)
            }
            NodeValue::Blocked(message) => Datum::Blocked(message.as_deref().map(str::to_owned)),
            NodeValue::Link(node, slot) => Datum::Link(node.to_string(), slot),
        })
    }
}
