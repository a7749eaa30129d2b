//! JSON as Python's `json.dumps` writes it, and values as Python's `str` and `repr` print them.
//!
//! Clients compare PNG metadata and read error texts that Python produced; these functions keep both the same. They recurse,
//! so they are for values of bounded depth: everything that came through [`crate::prompt`] is.

use std::fmt::Write;

use serde_json::{Map, Number, Value};

/// `json.dumps(value)`: `", "` and `": "` between parts, everything outside ASCII escaped, floats as Python prints them.
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write_json(&mut out, value);
    out
}

/// `repr(value)` of what `json.loads` makes of the value: `'x'`, `True`, `None`, `[1, 2.0]`, `{'a': 1}`.
#[must_use]
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

/// `str(value)`: like [`repr`], but a text stands for itself.
#[must_use]
pub fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
#[must_use]
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// `repr` of a text: single quotes unless only those occur in it, with escapes for what does not print.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(&mut out, text);
    out
}

fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_json_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_json_text(out, key);
                out.push_str(": ");
                write_json(out, item);
            }
            out.push('}');
        }
    }
}

fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64() {
        Some(value) if number.is_f64() => out.push_str(&float(value)),
        _ => {
            let _ = write!(out, "{number}");
        }
    }
}

fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(flag) => out.push_str(if *flag { "True" } else { "False" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_quoted(out, text),
        Value::Array(items) => write_repr_list(out, items),
        Value::Object(map) => write_repr_map(out, map),
    }
}

fn write_repr_list(out: &mut String, items: &[Value]) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        write_repr(out, item);
    }
    out.push(']');
}

fn write_repr_map(out: &mut String, map: &Map<String, Value>) {
    out.push('{');
    for (index, (key, item)) in map.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        write_quoted(out, key);
        out.push_str(": ");
        write_repr(out, item);
    }
    out.push('}');
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => {
                if character == quote {
                    out.push('\\');
                }
                out.push(character);
            }
            other if prints(other) => out.push(other),
            other => {
                let code = u32::from(other);
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Rust's and Python's idea of a printable character agree, but Rust shows it only through `escape_debug`; the letter in
/// front keeps combining marks, which Python prints, from being escaped.
fn prints(character: char) -> bool {
    let mut buffer = [0; 5];
    buffer[0] = b'a';
    let length = character.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..=length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (123456.789, "123456.789"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn json_is_what_python_writes() {
        let value =
            json!({"a": [1, 2.0, null, true], "ä\"\n\u{7f}": "😀/", "big": 18446744073709551615u64, "e": {}, "l": []});
        assert_eq!(
            to_string(&value),
            r#"{"a": [1, 2.0, null, true], "\u00e4\"\n\u007f": "\ud83d\ude00/", "big": 18446744073709551615, "e": {}, "l": []}"#
        );
    }

    #[test]
    fn repr_is_what_python_prints() {
        let value = json!({"a": [1, 2.5, null, false], "it's": "say \"hi\"", "both": "'\""});
        assert_eq!(repr(&value), r#"{'a': [1, 2.5, None, False], "it's": 'say "hi"', 'both': '\'"'}"#);
        assert_eq!(
            quote("tab\t\u{1}ä\u{a0}\u{200b}\u{e000}\u{301}😀\u{10ffff}"),
            "'tab\\t\\x01ä\\xa0\\u200b\\ue000\u{301}😀\\U0010ffff'"
        );
        assert_eq!(str(&json!("plain 'text'")), "plain 'text'");
        assert_eq!(str(&json!(true)), "True");
    }

    proptest! {
        #[test]
        fn json_reads_back_the_same(text in ".*", integer in any::<i64>()) {
            let value = json!({"t": text, "i": integer});
            let written = to_string(&value);
            prop_assert!(written.is_ascii());
            prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }

        #[test]
        fn floats_read_back_the_same(number in any::<f64>()) {
            prop_assert_eq!(float(number).parse::<f64>().unwrap().to_bits(), number.to_bits());
        }

        #[test]
        fn quoting_never_panics(text in any::<String>()) {
            prop_assert!(quote(&text).len() >= 2);
        }
    }
}
