//! Constants become what Python's `int()`, `float()`, `str()` and `bool()` make of them, with Python's words when they refuse.

use std::cmp::Ordering;

use serde_json::{Number, Value};
use vivarium_protocol::prompt::truthy;
use vivarium_protocol::python_json;

/// Converts a value for an input of this type. `None`: nothing to convert for this type. An error is Python's message.
pub(super) fn convert(input_type: &str, value: &Value) -> Result<Option<Value>, String> {
    match input_type {
        "INT" => to_int(value).map(Some),
        "FLOAT" => to_float(value).map(Some),
        "STRING" => Ok(Some(Value::String(python_json::str(value)))),
        "BOOLEAN" => Ok(Some(Value::Bool(truthy(value)))),
        _ => Ok(None),
    }
}

/// The name of a value's type in Python.
pub(super) fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

fn to_int(value: &Value) -> Result<Value, String> {
    match value {
        Value::Bool(flag) => Ok(Value::from(i64::from(*flag))),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => Ok(whole(float.trunc())),
            _ => Ok(value.clone()),
        },
        Value::String(text) => parse_int(text)
            .ok_or_else(|| format!("invalid literal for int() with base 10: {}", python_json::quote(text))),
        other => Err(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            python_type(other)
        )),
    }
}

fn to_float(value: &Value) -> Result<Value, String> {
    let float = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) => parse_float(text)
            .ok_or_else(|| format!("could not convert string to float: {}", python_json::quote(text)))?,
        other => {
            return Err(format!("float() argument must be a string or a real number, not '{}'", python_type(other)));
        }
    };
    match Number::from_f64(float) {
        Some(number) => Ok(Value::Number(number)),
        None => Err("NaN and infinity are not supported".to_owned()),
    }
}

/// A whole float as an integer; as a float still when no JSON integer can hold it, so that bounds are checked all the same.
fn whole(float: f64) -> Value {
    const I64_END: f64 = 9_223_372_036_854_775_808.0;
    const U64_END: f64 = 18_446_744_073_709_551_616.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and inside the range")]
    if (-I64_END..I64_END).contains(&float) {
        Value::from(float as i64)
    } else if (0.0..U64_END).contains(&float) {
        Value::from(float as u64)
    } else {
        Value::from(float)
    }
}

/// Python allows blanks around a number and single underscores between digits.
fn without_underscores(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
    let between_digits = |index: usize| index > 0 && digit(index - 1) && digit(index + 1);
    let legal = bytes.iter().enumerate().all(|(index, byte)| *byte != b'_' || between_digits(index));
    legal.then(|| text.replace('_', ""))
}

fn parse_int(text: &str) -> Option<Value> {
    let text = without_underscores(text)?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Some(Value::from(integer));
    }
    match text.parse::<u64>() {
        Ok(integer) => Some(Value::from(integer)),
        // Python has no largest integer; beyond the largest float there is no value to give.
        Err(_) => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
    }
}

fn parse_float(text: &str) -> Option<f64> {
    without_underscores(text)?.parse().ok()
}

/// `left < right` and the like in Python, or its words when the two cannot be compared.
pub(super) fn compare(left: &Value, right: &Value, operator: &str) -> Result<Ordering, String> {
    let refused = || {
        let (left, right) = (python_type(left), python_type(right));
        format!("'{operator}' not supported between instances of '{left}' and '{right}'")
    };
    if let (Value::String(left), Value::String(right)) = (left, right) {
        return Ok(left.chars().cmp(right.chars()));
    }
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => Ok(left.cmp(&right)),
        _ => {
            let (Some(left), Some(right)) = (number(left), number(right)) else { return Err(refused()) };
            left.partial_cmp(&right).ok_or_else(refused)
        }
    }
}

/// `left == right` in Python.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (number(left), number(right)) {
        (Some(_), Some(_)) => compare(left, right, "==") == Ok(Ordering::Equal),
        _ => left == right,
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(flag) => Some(i128::from(*flag)),
        Value::Number(number) => number.as_i128(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn converted(input_type: &str, value: Value) -> Value {
        convert(input_type, &value).unwrap().unwrap()
    }

    #[test]
    fn values_become_what_python_makes_of_them() {
        for (input_type, value, expected) in [
            ("INT", json!(3.99), json!(3)),
            ("INT", json!(-3.99), json!(-3)),
            ("INT", json!(true), json!(1)),
            ("INT", json!(" 32\n"), json!(32)),
            ("INT", json!("1_000"), json!(1000)),
            ("INT", json!("+7"), json!(7)),
            ("INT", json!("18446744073709551615"), json!(u64::MAX)),
            ("INT", json!(u64::MAX), json!(u64::MAX)),
            ("INT", json!(1e19), json!(10_000_000_000_000_000_000_u64)),
            ("INT", json!(1e30), json!(1e30)),
            ("INT", json!("1000000000000000000000"), json!(1e21)),
            ("FLOAT", json!(3), json!(3.0)),
            ("FLOAT", json!(" 1.5e3 "), json!(1500.0)),
            ("FLOAT", json!(".5"), json!(0.5)),
            ("FLOAT", json!(false), json!(0.0)),
            ("STRING", json!(null), json!("None")),
            ("STRING", json!(true), json!("True")),
            ("STRING", json!({"a": [1.0, "x"]}), json!("{'a': [1.0, 'x']}")),
            ("BOOLEAN", json!("false"), json!(true)),
            ("BOOLEAN", json!(0.0), json!(false)),
            ("BOOLEAN", json!([]), json!(false)),
        ] {
            assert_eq!(converted(input_type, value), expected);
        }
        assert_eq!(convert("IMAGE", &json!(1)), Ok(None));
    }

    #[test]
    fn refusals_use_pythons_words() {
        for (input_type, value, expected) in [
            ("INT", json!("32.7"), "invalid literal for int() with base 10: '32.7'"),
            ("INT", json!(""), "invalid literal for int() with base 10: ''"),
            ("INT", json!("1__0"), "invalid literal for int() with base 10: '1__0'"),
            ("INT", json!("_1"), "invalid literal for int() with base 10: '_1'"),
            ("INT", json!("-"), "invalid literal for int() with base 10: '-'"),
            (
                "INT",
                json!(null),
                "int() argument must be a string, a bytes-like object or a real number, not 'NoneType'",
            ),
            ("FLOAT", json!("abc"), "could not convert string to float: 'abc'"),
            ("FLOAT", json!({}), "float() argument must be a string or a real number, not 'dict'"),
            ("FLOAT", json!("nan"), "NaN and infinity are not supported"),
        ] {
            assert_eq!(convert(input_type, &value).unwrap_err(), expected);
        }
    }

    #[test]
    fn comparing_is_exact_for_large_integers_and_refuses_what_python_refuses() {
        assert_eq!(compare(&json!(u64::MAX), &json!(u64::MAX - 1), ">"), Ok(Ordering::Greater));
        assert_eq!(compare(&json!(1), &json!(1.0), "<"), Ok(Ordering::Equal));
        assert_eq!(compare(&json!(true), &json!(2), "<"), Ok(Ordering::Less));
        assert_eq!(
            compare(&json!("x"), &json!(1), "<").unwrap_err(),
            "'<' not supported between instances of 'str' and 'int'"
        );
        assert!(equal(&json!(1), &json!(1.0)) && equal(&json!(true), &json!(1)));
        assert!(!equal(&json!("1"), &json!(1)));
    }
}
