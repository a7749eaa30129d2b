//! The types that ComfyUI's own nodes use.

use serde_json::Value as Json;

use super::{NoDefault, Number, ValueType};
use crate::error::{Error, Result};
use crate::media::{Audio, Conditioning, ConditioningPart, Image, Latent, Mask};
use crate::object::Object;
use crate::output::NodeOutput;
use crate::tensor::Tensor;
use crate::value::{Handle, Value};

fn expected(what: &str, got: &Value) -> Error {
    Error::invalid(format!("expected {what}, got {}", got.kind()))
}

fn whole(value: &Value) -> Result<i128> {
    match value {
        Value::Number(number) => {
            let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            integer
                .or_else(|| large(number))
                .ok_or_else(|| Error::invalid(format!("expected a whole number, got {number}")))
        }
        Value::Bool(flag) => Ok(i128::from(*flag)),
        other => Err(expected("a whole number", other)),
    }
}

/// JSON readers turn integers that fit no 64 bits into floats: what is left of them is still whole.
fn large(number: &serde_json::Number) -> Option<i128> {
    const SMALLEST: f64 = 9_223_372_036_854_775_808.0;
    const LARGEST: f64 = 1e38;
    number.as_f64().filter(|float| (SMALLEST..LARGEST).contains(&float.abs())).map(|float| float as i128)
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl ValueType for $type {
            const TYPE: &'static str = "INT";
            type Default = i64;

            fn from_value(value: Value) -> Result<Self> {
                let number = whole(&value)?;
                Self::try_from(number)
                    .map_err(|_| Error::invalid(format!("{number} is outside {} to {}", Self::MIN, Self::MAX)))
            }

            fn into_value(self) -> Result<Value> {
                Ok(Value::Number(self.into()))
            }
        }

        impl Number for $type {
            type Bound = i64;
        }
    )*};
}

whole!(u8, u16, u32, u64, usize, i16, i32, i64);

/// For inputs that take every INT: links carry -2^63 to 2^64 - 1 exactly.
impl ValueType for i128 {
    const TYPE: &'static str = "INT";
    type Default = i64;

    fn from_value(value: Value) -> Result<Self> {
        whole(&value)
    }

    fn into_value(self) -> Result<Value> {
        let number = i64::try_from(self).map(Into::into).or_else(|_| u64::try_from(self).map(Into::into));
        let outside = |_| Error::failed(format!("{self} is outside {} to {}, what an INT holds", i64::MIN, u64::MAX));
        number.map(Value::Number).map_err(outside)
    }
}

impl Number for i128 {
    type Bound = f64;
}

macro_rules! decimal {
    ($($type:ty),*) => {$(
        impl ValueType for $type {
            const TYPE: &'static str = "FLOAT";
            type Default = f64;

            fn from_value(value: Value) -> Result<Self> {
                match &value {
                    Value::Number(number) => Ok(number.as_f64().unwrap_or_default() as $type),
                    Value::Bool(flag) => Ok(Self::from(u8::from(*flag))),
                    other => Err(expected("a number", other)),
                }
            }

            fn into_value(self) -> Result<Value> {
                let number = serde_json::Number::from_f64(self.into());
                number.map(Value::Number).ok_or_else(|| Error::failed(format!("{self} cannot leave a node as a FLOAT")))
            }
        }

        impl Number for $type {
            type Bound = f64;
        }
    )*};
}

decimal!(f32, f64);

impl ValueType for bool {
    const TYPE: &'static str = "BOOLEAN";
    type Default = bool;

    fn from_value(value: Value) -> Result<Self> {
        match &value {
            Value::Bool(flag) => Ok(*flag),
            Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
            other => Err(expected("a boolean", other)),
        }
    }

    fn into_value(self) -> Result<Value> {
        Ok(Value::Bool(self))
    }
}

impl ValueType for String {
    const TYPE: &'static str = "STRING";
    type Default = &'static str;

    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(expected("a text", &other)),
        }
    }

    fn into_value(self) -> Result<Value> {
        Ok(Value::String(self))
    }
}

impl ValueType for Value {
    const TYPE: &'static str = "*";
    type Default = NoDefault;

    fn from_value(value: Value) -> Result<Self> {
        Ok(value)
    }

    fn into_value(self) -> Result<Value> {
        Ok(self)
    }
}

impl ValueType for Json {
    const TYPE: &'static str = "*";
    type Default = Json;

    fn from_value(value: Value) -> Result<Self> {
        value.into_json()
    }

    fn into_value(self) -> Result<Value> {
        Ok(Value::from(self))
    }
}

/// What an input with `raw_link` gets: the link and not what flows through it.
impl ValueType for NodeOutput {
    const TYPE: &'static str = "*";
    type Default = NoDefault;

    fn from_value(value: Value) -> Result<Self> {
        if let Value::List(items) = &value
            && let [Value::String(node), Value::Number(slot)] = items.as_slice()
            && let Some(slot) = slot.as_u64().and_then(|slot| u32::try_from(slot).ok())
        {
            return Ok(Self::of(node, slot));
        }
        Err(expected("a link", &value))
    }

    fn into_value(self) -> Result<Value> {
        Ok(self.into_link())
    }
}

fn tensor(value: Value, what: &str) -> Result<Tensor> {
    match value {
        Value::Handle(Handle::Tensor(tensor)) => Ok(tensor),
        other => Err(expected(what, &other)),
    }
}

macro_rules! pixels {
    ($($type:ident $name:literal $what:literal),*) => {$(
        impl ValueType for $type {
            const TYPE: &'static str = $name;
            type Default = NoDefault;

            fn from_value(value: Value) -> Result<Self> {
                tensor(value, $what).map(Self::from)
            }

            fn into_value(self) -> Result<Value> {
                Ok(Tensor::from(self).check()?.into())
            }
        }
    )*};
}

pixels!(Image "IMAGE" "an image", Mask "MASK" "a mask", Tensor "*" "a tensor");

impl ValueType for Latent {
    const TYPE: &'static str = "LATENT";
    type Default = NoDefault;

    fn from_value(value: Value) -> Result<Self> {
        let Value::Dict(mut other) = value else { return Err(expected("a latent", &value)) };
        let samples = other.shift_remove("samples").ok_or_else(|| Error::invalid("a latent without `samples`"))?;
        Ok(Self { samples: tensor(samples, "a tensor as `samples`")?, other })
    }

    fn into_value(self) -> Result<Value> {
        let mut entries = self.other;
        entries.shift_insert(0, "samples".to_owned(), self.samples.check()?.into());
        Ok(Value::Dict(entries))
    }
}

impl ValueType for Conditioning {
    const TYPE: &'static str = "CONDITIONING";
    type Default = NoDefault;

    fn from_value(value: Value) -> Result<Self> {
        let Value::List(parts) = value else { return Err(expected("a conditioning", &value)) };
        let part = |(index, part)| {
            conditioning_part(part).map_err(|error| error.context(format_args!("part {index} of the conditioning")))
        };
        Ok(Self { parts: parts.into_iter().enumerate().map(part).collect::<Result<_>>()? })
    }

    fn into_value(self) -> Result<Value> {
        let part =
            |part: ConditioningPart| Ok(Value::List(vec![part.embedding.check()?.into(), Value::Dict(part.options)]));
        self.parts.into_iter().map(part).collect::<Result<_>>().map(Value::List)
    }
}

fn conditioning_part(value: Value) -> Result<ConditioningPart> {
    let wanted = "an embedding and a dictionary";
    let Value::List(items) = value else { return Err(expected(wanted, &value)) };
    let got = items.len();
    let mut items = items.into_iter();
    match (items.next(), items.next(), items.next()) {
        (Some(embedding), Some(Value::Dict(options)), None) => {
            Ok(ConditioningPart { embedding: tensor(embedding, "a tensor as the embedding")?, options })
        }
        _ => Err(Error::invalid(format!("expected {wanted}, got a list of {got} values"))),
    }
}

impl ValueType for Audio {
    const TYPE: &'static str = "AUDIO";
    type Default = NoDefault;

    fn from_value(value: Value) -> Result<Self> {
        let Value::Dict(mut other) = value else { return Err(expected("sound", &value)) };
        let mut entry =
            |key: &str| other.shift_remove(key).ok_or_else(|| Error::invalid(format!("sound without `{key}`")));
        let (waveform, rate) = (entry("waveform")?, entry("sample_rate")?);
        let sample_rate = u32::from_value(rate).map_err(|error| error.context("`sample_rate`"))?;
        Ok(Self { waveform: tensor(waveform, "a tensor as `waveform`")?, sample_rate, other })
    }

    fn into_value(self) -> Result<Value> {
        let mut entries = self.other;
        entries.shift_insert(0, "waveform".to_owned(), self.waveform.check()?.into());
        entries.insert("sample_rate".to_owned(), Value::Number(self.sample_rate.into()));
        Ok(Value::Dict(entries))
    }
}

impl ValueType for Object {
    const TYPE: &'static str = "*";
    type Default = NoDefault;

    fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Handle(Handle::Object(object)) => Ok(object),
            other => Err(expected("an object", &other)),
        }
    }

    fn into_value(self) -> Result<Value> {
        Ok(self.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn refusal<T: ValueType>(json: Json) -> String {
        T::from_value(Value::from(json)).err().unwrap().message
    }

    #[test]
    fn conditioning_and_sound_of_the_wrong_shape_are_refused_in_words() {
        assert_eq!(refusal::<Conditioning>(json!("x")), "expected a conditioning, got a text");
        let wanted = "part 0 of the conditioning: expected an embedding and a dictionary, got a list of 1 values";
        assert_eq!(refusal::<Conditioning>(json!([[1]])), wanted);
        assert!(refusal::<Conditioning>(json!([[1, {}]])).contains("expected a tensor as the embedding"));
        assert_eq!(refusal::<Audio>(json!([])), "expected sound, got a list");
        assert_eq!(refusal::<Audio>(json!({"waveform": null})), "sound without `sample_rate`");
        assert_eq!(
            refusal::<Audio>(json!({"waveform": null, "sample_rate": -1})),
            "`sample_rate`: -1 is outside 0 to 4294967295"
        );
    }
}
