//! From what a node returns to what the host takes.

mod answer;
mod expansion;

pub use answer::{Answer, Outcome, SlotDefinition, Ui, WithUi};
pub use expansion::{Expansion, NewNode, NodeOutput};

use crate::error::Result;
use crate::input::{ValueType, optional_value};
use crate::value::Value;

/// What may stand in an output slot: a [`ValueType`], a `Vec` of one (the slot then is a list of values for which later
/// nodes run one by one), an `Option` or a [`Blockable`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an output of a node",
    label = "expected a number, `bool`, `String`, `Image`, `Mask`, `Latent`, `Conditioning`, `Audio`, `Value`, or `Vec`, `Option` or `Blockable` of one"
)]
pub trait Output: Sized {
    /// ComfyUI's name of the type.
    const TYPE: &'static str;
    /// The slot is a list (ComfyUI's OUTPUT_IS_LIST).
    const IS_LIST: bool = false;

    /// The value for the slot.
    ///
    /// # Errors
    /// When there is none, for example for a failed tensor.
    fn into_slot(self) -> Result<Value>;
}

impl<T: ValueType> Output for T {
    const TYPE: &'static str = T::TYPE;

    fn into_slot(self) -> Result<Value> {
        self.into_value()
    }
}

impl<T: Output> Output for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn into_slot(self) -> Result<Value> {
        optional_value(self)
    }
}

impl<T: Output> Output for Vec<T> {
    const TYPE: &'static str = T::TYPE;
    const IS_LIST: bool = true;

    fn into_slot(self) -> Result<Value> {
        self.into_iter().map(T::into_slot).collect::<Result<_>>().map(Value::List)
    }
}

/// A value, or a stop sign for every node that would use it.
#[derive(Clone, Debug)]
pub enum Blockable<T> {
    /// Goes on.
    Value(T),
    /// Nodes behind this slot do not run; with a message, the client is told.
    Blocked(Option<String>),
}

impl<T> From<T> for Blockable<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: Output> Output for Blockable<T> {
    const TYPE: &'static str = T::TYPE;
    const IS_LIST: bool = T::IS_LIST;

    fn into_slot(self) -> Result<Value> {
        match self {
            Self::Value(value) => value.into_slot(),
            Self::Blocked(message) => Ok(Value::Blocked(message)),
        }
    }
}

/// All output slots of a node: `()`, one [`Output`] or a tuple of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be what a node returns",
    label = "expected one output, a tuple of outputs, or `()`"
)]
pub trait Outputs: Sized {
    /// One per slot.
    const SLOTS: &'static [SlotDefinition];

    /// The values, one per slot.
    ///
    /// # Errors
    /// When a slot has none, for example for a failed tensor.
    fn into_slots(self) -> Result<Vec<Value>>;
}

impl Outputs for () {
    const SLOTS: &'static [SlotDefinition] = &[];

    fn into_slots(self) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}

impl<T: Output> Outputs for T {
    const SLOTS: &'static [SlotDefinition] = &[SlotDefinition::of::<T>()];

    fn into_slots(self) -> Result<Vec<Value>> {
        Ok(vec![self.into_slot()?])
    }
}

macro_rules! tuple {
    ($($type:ident)+) => {
        impl<$($type: Output),+> Outputs for ($($type,)+) {
            const SLOTS: &'static [SlotDefinition] = &[$(SlotDefinition::of::<$type>()),+];

            fn into_slots(self) -> Result<Vec<Value>> {
                #[allow(non_snake_case)]
                let ($($type,)+) = self;
                Ok(vec![$($type.into_slot()?),+])
            }
        }
    };
}

tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
tuple!(A B C D E F G);
tuple!(A B C D E F G H);
tuple!(A B C D E F G H I);
tuple!(A B C D E F G H I J);
