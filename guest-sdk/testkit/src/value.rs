//! What nodes take and answer.

use indexmap::IndexMap;
use serde_json::{Number, Value as Json};

use crate::{
    Image, Mask, Tensor,
    wire::{Datum, Object},
};

/// A value of any ComfyUI type. Made of Rust's types by `into()`; its accessors panic when it is something else.
#[derive(Clone, Debug)]
pub struct Value(pub(crate) Datum);

impl Value {
    /// Nothing; Python's None.
    #[must_use]
    pub fn nothing() -> Self {
        Self(Datum::Null)
    }

    /// A list of values of any types.
    pub fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Self {
        Self(Datum::List(items.into_iter().map(|item| item.into().0).collect()))
    }

    /// A dictionary, for example a LATENT: `Value::dictionary([("samples", tensor)])`.
    pub fn dictionary<T: Into<Value>>(entries: impl IntoIterator<Item = (&'static str, T)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value.into().0));
        Self(Datum::Map(entries.collect()))
    }

    /// A LATENT of [batch, channels, height/8, width/8].
    #[must_use]
    pub fn latent(samples: Tensor) -> Self {
        Self::dictionary([("samples", samples)])
    }

    /// An AUDIO: a waveform [batch, channels, samples] and its rate per second.
    #[must_use]
    pub fn audio(waveform: Tensor, sample_rate: u32) -> Self {
        Self::dictionary([("waveform", Value::from(waveform)), ("sample_rate", Value::from(sample_rate))])
    }

    /// A CONDITIONING of one part: an embedding and its options.
    pub fn conditioning<T: Into<Value>>(
        embedding: Tensor,
        options: impl IntoIterator<Item = (&'static str, T)>,
    ) -> Self {
        Self::list([Self::list([Self::from(embedding), Self::dictionary(options)])])
    }

    #[track_caller]
    fn wrong(&self, wanted: &str) -> ! {
        panic!("expected {wanted}, got {}", self.in_words())
    }

    fn in_words(&self) -> String {
        match &self.0 {
            Datum::Null => "nothing".to_owned(),
            Datum::Bool(flag) => flag.to_string(),
            Datum::Number(number) => number.to_string(),
            Datum::Text(text) => format!("{text:?}"),
            Datum::List(items) => format!("a list of {} values", items.len()),
            Datum::Map(entries) => format!("a dictionary with the keys {:?}", entries.keys().collect::<Vec<_>>()),
            Datum::Tensor(tensor) => format!("a tensor {:?} {:?}", tensor.dtype(), tensor.shape()),
            Datum::Object(object) => format!("a {} of pack {}", object.type_name, object.pack),
            Datum::Blocked(_) => "a blocker".to_owned(),
            Datum::Link(node, slot) => format!("output {slot} of node {node}"),
        }
    }

    /// A number of any kind.
    #[must_use]
    #[track_caller]
    pub fn number(&self) -> f64 {
        match &self.0 {
            Datum::Number(number) => number.as_f64().unwrap_or(f64::NAN),
            _ => self.wrong("a number"),
        }
    }

    /// A whole number.
    #[must_use]
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match &self.0 {
            Datum::Number(number) => number.as_i64().unwrap_or_else(|| self.wrong("a whole number")),
            _ => self.wrong("a whole number"),
        }
    }

    /// A BOOLEAN.
    #[must_use]
    #[track_caller]
    pub fn boolean(&self) -> bool {
        match self.0 {
            Datum::Bool(flag) => flag,
            _ => self.wrong("a boolean"),
        }
    }

    /// A STRING.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match &self.0 {
            Datum::Text(text) => text,
            _ => self.wrong("a text"),
        }
    }

    /// The items of a list.
    #[must_use]
    #[track_caller]
    pub fn items(&self) -> Vec<Value> {
        match &self.0 {
            Datum::List(items) => items.iter().cloned().map(Self).collect(),
            _ => self.wrong("a list"),
        }
    }

    /// The entry of a dictionary.
    #[must_use]
    #[track_caller]
    pub fn entry(&self, key: &str) -> Value {
        match &self.0 {
            Datum::Map(entries) => match entries.get(key) {
                Some(value) => Self(value.clone()),
                None => panic!("no entry `{key}`; there are {:?}", entries.keys().collect::<Vec<_>>()),
            },
            _ => self.wrong("a dictionary"),
        }
    }

    /// A tensor.
    #[must_use]
    #[track_caller]
    pub fn tensor(&self) -> Tensor {
        match &self.0 {
            Datum::Tensor(tensor) => tensor.clone(),
            _ => self.wrong("a tensor"),
        }
    }

    /// An IMAGE.
    #[must_use]
    #[track_caller]
    pub fn image(&self) -> Image {
        Image::of(self.tensor())
    }

    /// A MASK.
    #[must_use]
    #[track_caller]
    pub fn mask(&self) -> Mask {
        Mask::of(self.tensor())
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self.0, Datum::Null)
    }

    /// Whether it stops every node that it reaches, and what it then says.
    #[must_use]
    pub fn blocked(&self) -> Option<Option<&str>> {
        match &self.0 {
            Datum::Blocked(message) => Some(message.as_deref()),
            _ => None,
        }
    }

    /// The type of an object, for example `MODEL`.
    #[must_use]
    #[track_caller]
    pub fn object_type(&self) -> &str {
        &self.as_object().type_name
    }

    #[track_caller]
    pub(crate) fn as_object(&self) -> &Object {
        match &self.0 {
            Datum::Object(object) => object,
            _ => self.wrong("an object"),
        }
    }

    /// Plain data as JSON; tensors, objects and links inside are null.
    #[must_use]
    pub fn json(&self) -> Json {
        self.0.to_json()
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self(Datum::from_json(json))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(Datum::Text(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self(Datum::Text(text))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self(Datum::Bool(flag))
    }
}

impl From<f64> for Value {
    /// What is not finite is nothing, as in JSON.
    fn from(number: f64) -> Self {
        Self(Number::from_f64(number).map_or(Datum::Null, Datum::Number))
    }
}

macro_rules! whole {
    ($($type:ty)*) => {$(
        impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self(Datum::Number(number.into()))
            }
        }
    )*};
}

whole!(u8 u16 u32 u64 usize i32 i64);

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self(Datum::Tensor(tensor))
    }
}

impl From<Image> for Value {
    fn from(image: Image) -> Self {
        Tensor::from(image).into()
    }
}

impl From<Mask> for Value {
    fn from(mask: Mask) -> Self {
        mask.into_tensor().into()
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::list(items)
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        Self::list(items)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::nothing, T::into)
    }
}

impl<T: Into<Value>> From<IndexMap<String, T>> for Value {
    fn from(entries: IndexMap<String, T>) -> Self {
        Self(Datum::Map(entries.into_iter().map(|(key, value)| (key, value.into().0)).collect()))
    }
}
