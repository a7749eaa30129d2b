//! Frames: the length of a JSON text (4 bytes), the length of the tail (8 bytes), both little-endian, then the two.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

use super::tail;
use crate::TestkitError;

/// Of the JSON text: names and numbers. Values, files and tensors are in the tail.
pub const TEXT_BYTES: u64 = 64 << 20;
/// Of the tail.
pub const TAIL_BYTES: u64 = 4 << 30;

/// Of the lengths.
const HEAD: usize = 12;

/// A message, ready to be sent.
#[derive(Debug)]
pub struct Frame {
    head_and_text: Vec<u8>,
    tail: Vec<u8>,
}

impl Frame {
    /// The frame of a message.
    ///
    /// # Errors
    /// When it is longer than a frame may be, or holds what JSON can't say.
    pub fn of(message: &impl Serialize) -> Result<Self, TestkitError> {
        let (text, tail) = tail::collected(|| serde_json::to_vec(message));
        let text = text.map_err(TestkitError::NoMessage)?;
        check("JSON", text.len() as u64, TEXT_BYTES)?;
        check("tail", tail.len() as u64, TAIL_BYTES)?;
        let mut head_and_text = Vec::with_capacity(HEAD + text.len());
        // Checked: it fits.
        head_and_text.extend((text.len() as u32).to_le_bytes());
        head_and_text.extend((tail.len() as u64).to_le_bytes());
        head_and_text.extend(text);
        Ok(Self { head_and_text, tail })
    }

    /// Sends it.
    ///
    /// # Errors
    /// The pipe's own.
    pub fn write(&self, pipe: &mut impl Write) -> io::Result<()> {
        pipe.write_all(&self.head_and_text)?;
        pipe.write_all(&self.tail)?;
        pipe.flush()
    }
}

/// The message of the next frame; nothing when the other side has hung up.
///
/// # Errors
/// When what comes is no frame, or no such message.
pub fn read<M: DeserializeOwned>(pipe: &mut impl Read) -> Result<Option<M>, TestkitError> {
    let head = bytes(pipe, HEAD as u64)?;
    if head.is_empty() {
        return Ok(None);
    }
    let (text, tail) = match <[u8; HEAD]>::try_from(head) {
        Ok([a, b, c, d, tail @ ..]) => (u32::from_le_bytes([a, b, c, d]).into(), u64::from_le_bytes(tail)),
        Err(_) => return Err(TestkitError::FrameCut),
    };
    check("JSON", text, TEXT_BYTES)?;
    check("tail", tail, TAIL_BYTES)?;
    let text = whole(pipe, text)?;
    let tail = whole(pipe, tail)?;
    tail::lent(tail, || serde_json::from_slice(&text)).map(Some).map_err(TestkitError::NoMessage)
}

fn check(what: &'static str, bytes: u64, limit: u64) -> Result<(), TestkitError> {
    match bytes <= limit {
        true => Ok(()),
        false => Err(TestkitError::FrameTooLong { what, bytes, limit }),
    }
}

fn whole(pipe: &mut impl Read, length: u64) -> Result<Vec<u8>, TestkitError> {
    let bytes = bytes(pipe, length)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(TestkitError::FrameCut),
    }
}

/// As many as there are, up to `length`. A length that lies costs no memory: what does not come is not allocated.
fn bytes(pipe: &mut impl Read, length: u64) -> Result<Vec<u8>, TestkitError> {
    let mut bytes = Vec::new();
    pipe.take(length).read_to_end(&mut bytes).map_err(TestkitError::Pipe)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::{
        DType, Tensor,
        wire::{Blob, Call, Datum, Greeting, ImageFile, Object, Question, ToProgram, ToTest},
    };

    fn sent(message: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame::of(message).unwrap().write(&mut bytes).unwrap();
        bytes
    }

    fn received<M: DeserializeOwned>(mut bytes: &[u8]) -> Result<Option<M>, TestkitError> {
        let message = read(&mut bytes);
        assert!(message.is_err() || bytes.is_empty(), "bytes are left over");
        message
    }

    fn datum() -> impl Strategy<Value = Datum> {
        let tensor = (0_u64..3, 0_u64..4).prop_map(|(rows, columns)| {
            Datum::Tensor(Tensor::from_bytes(DType::Int32, [rows, columns], vec![7; (rows * columns * 4) as usize]))
        });
        let leaf = prop_oneof![
            Just(Datum::Null),
            any::<bool>().prop_map(Datum::Bool),
            any::<i64>().prop_map(|number| Datum::Number(number.into())),
            any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(Datum::Null, Datum::Number)),
            "[$a-c]{0,3}".prop_map(Datum::Text),
            tensor,
            any::<u64>().prop_map(|id| Datum::Object(Object::new(id, "MODEL".to_owned(), "pack".to_owned()))),
            proptest::option::of("[a-c]{0,3}").prop_map(Datum::Blocked),
            ("[a-c]{0,3}", any::<i64>()).prop_map(|(node, slot)| Datum::Link(node, slot)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Datum::List),
                proptest::collection::vec(("[$a-c]{0,3}", inner), 0..4)
                    .prop_map(|entries| Datum::Map(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_message_arrives_as_it_was_sent(value in datum(), file in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut call = Call { pack: 3, class: "Node".to_owned(), ..Call::default() };
            call.inputs.insert("value".to_owned(), value);
            call.powers.folders.entry("photos".to_owned()).or_default().insert("a/b".to_owned(), Blob(file.clone()));
            call.powers.images.insert("a.png".to_owned(), ImageFile::Bytes(Blob(file)));
            let message = ToProgram::Ask { id: 1, question: Question::Run(Box::new(call)) };
            let bytes = sent(&message);
            let arrived: ToProgram = received(&bytes).unwrap().unwrap();
            prop_assert_eq!(format!("{message:?}"), format!("{arrived:?}"));
            prop_assert_eq!(sent(&arrived), bytes);
        }

        #[test]
        fn what_is_no_frame_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(read::<ToTest>(&mut &bytes[..]).is_err());
        }

        #[test]
        fn a_changed_frame_is_no_panic(value in datum(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = sent(&ToProgram::Ask { id: 1, question: Question::Method {
                object: 1, method: "add".to_owned(), arguments: value,
            } });
            let at = at.index(bytes.len());
            bytes[at] = byte;
            read::<ToProgram>(&mut &bytes[..]).ok();
        }

        #[test]
        fn a_frame_that_ends_early_is_an_error(value in datum(), at in any::<prop::sample::Index>()) {
            let bytes = sent(&ToProgram::Ask { id: 1, question: Question::Method {
                object: 1, method: "add".to_owned(), arguments: value,
            } });
            let at = 1 + at.index(bytes.len() - 1);
            prop_assert!(read::<ToProgram>(&mut &bytes[..at]).is_err());
        }
    }

    #[test]
    fn nobody_there_is_the_end() {
        assert!(received::<ToTest>(&[]).unwrap().is_none());
    }

    #[test]
    fn a_length_that_lies_costs_no_memory() {
        let head = |text: u32, tail: u64| [&text.to_le_bytes()[..], &tail.to_le_bytes()].concat();
        let said = |bytes: Vec<u8>| received::<ToTest>(&bytes).unwrap_err().to_string();
        assert!(said(head(u32::MAX, 0)).contains("4294967295 bytes of JSON"), "{}", said(head(u32::MAX, 0)));
        assert!(said(head(2, u64::MAX)).contains("bytes of tail"));
        assert!(said(head(1 << 20, 1 << 30)).contains("ends too early"));
        assert!(said(b"Usage: something else\n".to_vec()).contains("bytes of JSON"));
    }

    /// A frame with this text and tail.
    fn frame(text: &str, tail: &[u8]) -> Vec<u8> {
        let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
        bytes.extend((tail.len() as u64).to_le_bytes());
        [&bytes, text.as_bytes(), tail].concat()
    }

    #[test]
    fn what_points_beyond_the_tail_or_at_the_same_bytes_twice_is_refused() {
        let question = |file: &str| {
            let text = format!(r#"{{"ask":{{"id":1,"question":{{"decode":{{"file":{file}}}}}}}}}"#);
            received::<ToProgram>(&frame(&text, b"abc"))
        };
        assert!(question(r#"{"offset":1,"length":2}"#).is_ok());
        for beyond in [r#"{"offset":1,"length":3}"#, r#"{"offset":18446744073709551615,"length":2}"#] {
            assert!(question(beyond).unwrap_err().to_string().contains("are not in a tail of 3 bytes"));
        }
        let twice = r#"{"a":{"offset":0,"length":2},"b":{"offset":0,"length":2}}"#;
        let twice = received::<std::collections::BTreeMap<String, Blob>>(&frame(twice, b"abc"));
        assert!(twice.unwrap_err().to_string().contains("belong to two fields"));
    }

    #[test]
    fn a_tensor_whose_bytes_do_not_fit_its_shape_is_refused() {
        for shape in ["[2]", "[1,1,4294967296,4294967296]", "[18446744073709551615,18446744073709551615]"] {
            let tensor = format!(r#"{{"dtype":"uint8","shape":{shape},"bytes":{{"offset":0,"length":3}}}}"#);
            let error = received::<Tensor>(&frame(&tensor, b"abc")).unwrap_err();
            assert!(error.to_string().contains("takes 2") || error.to_string().contains("more than"), "{error}");
        }
    }

    #[test]
    fn versions_that_differ_are_named() {
        let other = Greeting { protocol: 7, release: "9.9.9".to_owned() };
        let said = other.meets("the test program", "/opt/vivarium").unwrap_err().to_string();
        for part in ["/opt/vivarium (Vivarium 9.9.9) speaks version 7", "speaks version 1", "from the same version"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(Greeting::own().meets("a", "b").is_ok());
    }

    #[test]
    fn a_value_that_nests_too_deep_is_refused_before_it_is_sent() {
        let nested = |depth: usize| (0..depth).fold(Datum::Null, |inner, _| Datum::List(vec![inner]));
        let message = |depth| ToProgram::Ask {
            id: 1,
            question: Question::Method { object: 1, method: String::new(), arguments: nested(depth) },
        };
        assert!(received::<ToProgram>(&sent(&message(127))).is_ok());
        assert!(Frame::of(&message(128)).unwrap_err().to_string().contains("nested deeper"));
    }
}
