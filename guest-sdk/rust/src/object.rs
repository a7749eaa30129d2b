//! Objects: what one pack lends to another. A MODEL is an object; whoever holds it may call its methods and nothing else.

use std::rc::Rc;

use crate::bindings::vivarium::node::values::Object as Raw;
use crate::error::{Error, Result};
use crate::input::{Input, ValueType};
use crate::value::Value;

/// An object of this or of another pack. Cloning copies no state.
#[derive(Clone, Debug)]
pub struct Object(Rc<Raw>);

/// A type of object that this pack makes. List it under `objects` in [`pack!`](macro@crate::pack).
///
/// The value itself is the state: it is turned into a [`Value`] when the object is made, and made anew of it in a fresh
/// instance of the component for every call.
pub trait Methods: ValueType {
    /// Answers a call of a method, by whichever pack.
    ///
    /// # Errors
    /// Whatever went wrong; the caller gets it.
    fn call(self, method: &str, arguments: Arguments) -> Result<Value>;
}

/// What a method was called with: one value, usually a dictionary.
pub struct Arguments(pub(crate) Value);

impl Arguments {
    /// The whole value.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }

    /// The argument of this name.
    ///
    /// # Errors
    /// When it is missing or of another type.
    pub fn take<T: Input>(&mut self, name: &str) -> Result<T> {
        let Value::Dict(entries) = &mut self.0 else {
            return Err(Error::invalid(format!("expected named arguments, got {}", self.0.kind())));
        };
        let value = entries.shift_remove(name);
        T::from_input(value).map_err(|error| error.context(format_args!("argument `{name}`")))
    }
}

impl Object {
    /// Lends `state` to others under its type's name.
    ///
    /// # Errors
    /// When the host refuses to keep it.
    pub fn create<T: Methods>(state: T) -> Result<Self> {
        Ok(Self::from_raw(Raw::create(T::TYPE, state.into_value()?.into_wit()?)?))
    }

    pub(crate) fn from_raw(raw: Raw) -> Self {
        Self(Rc::new(raw))
    }

    pub(crate) fn into_raw(self) -> Result<Raw> {
        match Rc::try_unwrap(self.0) {
            Ok(raw) => Ok(raw),
            Err(shared) => Ok(shared.share()?),
        }
    }

    /// Its type, e.g. `MODEL`.
    #[must_use]
    pub fn type_name(&self) -> String {
        self.0.type_name()
    }

    /// The name of the pack that made it.
    #[must_use]
    pub fn owner(&self) -> String {
        self.0.owner()
    }

    /// The state of an object that this pack made itself.
    ///
    /// # Errors
    /// When another pack made it, or it is of another type.
    pub fn state<T: Methods>(&self) -> Result<T> {
        if self.type_name() != T::TYPE {
            return Err(Error::invalid(format!("expected an object {}, got {}", T::TYPE, self.type_name())));
        }
        T::from_value(Value::from_wit(self.0.state()?)?)
    }

    /// Calls a method. Its owner runs in an instance of its own and sees nothing but the arguments.
    ///
    /// # Errors
    /// The owner's error, or the host's when a limit is reached.
    pub fn call(&self, method: &str, arguments: impl Into<Value>) -> Result<Value> {
        Value::from_wit(self.0.call(method, arguments.into().into_wit()?)?)
    }
}
