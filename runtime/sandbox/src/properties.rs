//! What holds for everything that a stranger writes, whatever it is. Property tests here ask for some of it, `tests/fuzz` for
//! as much as it has time for.
#![allow(clippy::expect_used, clippy::missing_panics_doc)]

use std::fs::File;

use vivarium_tensor::{Budget, DType, OpContext, Tensor};

use crate::{
    host::open_weights,
    limits::Limits,
    value::{HandleEntry, decode, encode, most_decoded_bytes},
};

/// An error that a person or a guest reads has no more bytes, however long the name is that it quotes.
const ERROR_BYTES: usize = 4096;

/// A guest's value: the first byte says how many handles it has, the rest is its JSON. What is read takes no more memory than
/// was charged for, says the same when it is written, and holds no handle that was not in its table.
pub fn value(bytes: &[u8]) {
    let Some((handles, json)) = bytes.split_first() else { return };
    let Ok(json) = std::str::from_utf8(json) else { return };
    let budget = Budget::root(1 << 20);
    let cx = OpContext::new(budget.clone());
    let handles: Vec<HandleEntry> = (0..handles % 4)
        .map(|_| HandleEntry::Tensor(Tensor::zeros(&[1], DType::Uint8, &cx).expect("a byte")))
        .collect();
    let limits = Limits { value_json_bytes: 1 << 16, ..Limits::default() };
    match decode(json, &handles, &limits) {
        Ok(value) => {
            assert!(value.plain_bytes() <= most_decoded_bytes(json), "{json:?}");
            let mut tensors = 0;
            value.for_each_tensor(&mut |_| tensors += 1);
            assert!(tensors == 0 || !handles.is_empty());
            assert!(tensors == 0 || !value.is_json());
            assert!(value.summary().to_string().len() < ERROR_BYTES);
            let (written, table) = encode(&value);
            assert_eq!(table.len(), tensors);
            let again = decode(&written, &table, &Limits::default()).expect("what was written is read");
            assert_eq!(encode(&again).0, written);
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
    drop(handles);
    assert_eq!(budget.used(), 0);
}

/// A weights file. Every tensor that it lists and that is not quantised lies in the file and has as many bytes as its shape and type need.
pub fn weights(file: File) {
    let budget = Budget::root(1 << 24);
    let cx = OpContext::new(budget.clone());
    match open_weights(file, "vae", "vae/x", &budget) {
        Ok(weights) => {
            for (key, dtype, shape) in weights.listed() {
                let Ok(data) = weights.read_named(&key).expect("it is listed") else { continue };
                let tensor = Tensor::from_bytes(&shape, dtype, &data, &cx);
                match tensor {
                    Ok(tensor) => assert_eq!((tensor.shape(), tensor.dtype()), (shape, dtype)),
                    Err(refused) => assert_ne!(
                        refused.kind(),
                        vivarium_tensor::ErrorKind::InvalidArgument,
                        "{key:?} {dtype:?} {shape:?}: {refused}"
                    ),
                }
            }
        }
        Err(error) => assert!(error.message.len() <= ERROR_BYTES, "{} bytes of error", error.message.len()),
    }
    assert_eq!(budget.used(), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Pieces of what a value can be made of, in no order.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"$\"",
            "\"$$\"",
            "\"$blocked\"",
            "\"$link\"",
            "\"a\"",
            "0",
            "1",
            "-1.5e3",
            "null",
            "{\"$\":0}",
            "{\"$\":9}",
            "{\"$blocked\":null}",
            "{\"$link\":[\"1\",0]}",
            "\"\\u0000\"",
            "[[[[",
            "]]]]",
            " ",
        ]);
        (any::<u8>(), prop::collection::vec(piece, 0..12))
            .prop_map(|(handles, pieces)| [&[handles], pieces.concat().as_bytes()].concat())
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![0u64..20, Just(u64::MAX), any::<u64>()];
        let dtype = prop::sample::select(vec!["F32", "F16", "BF16", "U8", "I64", "BOOL", "F64", "F8_E4M3", "X"]);
        let entry = (dtype, prop::collection::vec(number.clone(), 0..3), number.clone(), number).prop_map(
            |(dtype, shape, start, end)| {
                format!(r#"{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
            },
        );
        (prop::collection::vec(entry, 0..3), 0usize..64, prop::option::of(any::<u64>())).prop_map(
            |(entries, data, length)| {
                let entries: Vec<String> =
                    entries.into_iter().enumerate().map(|(index, entry)| format!("\"{index}\":{entry}")).collect();
                let header = format!("{{{}}}", entries.join(","));
                let length = length.unwrap_or(header.len() as u64);
                [&length.to_le_bytes(), header.as_bytes(), &vec![7; data]].concat()
            },
        )
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_value_is_read_within_its_charge_or_refused(bytes in pieces()) {
            value(&bytes);
        }

        #[test]
        fn any_weights_file_is_read_as_it_says_or_refused(bytes in headers()) {
            weights(file(&bytes));
        }
    }

    #[test]
    fn errors_quote_the_beginning_of_long_names_only() {
        let long = "x".repeat(100_000);
        for header in [
            format!(r#"{{"{long}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#),
            format!(r#"{{"a":{{"dtype":"{long}","shape":[1],"data_offsets":[0,4]}}}}"#),
            format!(r#"{{"a":{{"{long}":1}}}}"#),
        ] {
            weights(file(&[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()));
        }
    }
}
