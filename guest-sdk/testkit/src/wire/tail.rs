//! The bytes of a message, which its JSON only points at: `{"offset": 0, "length": 3}`.
//!
//! serde hands no context to the types that it writes and reads, so the tail of the message under way is in a variable of the
//! thread, for as long as that takes. Fields of bytes say `#[serde(with = "tail")]`, and nobody can forget to send one.

use std::cell::RefCell;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    /// Given to fields so far: together no more than there is, whatever they point at.
    given: u64,
}

thread_local! {
    static UNDER_WAY: RefCell<Option<Tail>> = const { RefCell::new(None) };
}

/// Where a field's bytes are.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Stretch {
    offset: u64,
    length: u64,
}

/// Runs `write` and collects the bytes of all that it serialises.
pub(super) fn collected<T>(write: impl FnOnce() -> T) -> (T, Vec<u8>) {
    around(Vec::new(), write)
}

/// Runs `read`, which deserialises what points at these bytes.
pub(super) fn lent<T>(bytes: Vec<u8>, read: impl FnOnce() -> T) -> T {
    around(bytes, read).0
}

fn around<T>(bytes: Vec<u8>, work: impl FnOnce() -> T) -> (T, Vec<u8>) {
    // What is dropped on the way may send a message of its own.
    let before = UNDER_WAY.replace(Some(Tail { bytes, given: 0 }));
    let result = work();
    let tail = UNDER_WAY.replace(before).unwrap_or_default();
    (result, tail.bytes)
}

const OUTSIDE: &str = "bytes are written and read in frames only";

fn put(bytes: &[u8]) -> Result<Stretch, &'static str> {
    UNDER_WAY.with_borrow_mut(|tail| {
        let tail = tail.as_mut().ok_or(OUTSIDE)?;
        let stretch = Stretch { offset: tail.bytes.len() as u64, length: bytes.len() as u64 };
        tail.bytes.extend(bytes);
        Ok(stretch)
    })
}

fn take(stretch: Stretch) -> Result<Vec<u8>, String> {
    UNDER_WAY.with_borrow_mut(|tail| {
        let tail = tail.as_mut().ok_or(OUTSIDE)?;
        let Stretch { offset, length } = stretch;
        let range = usize::try_from(offset).ok().zip(offset.checked_add(length).and_then(|end| end.try_into().ok()));
        let bytes = range.and_then(|(start, end): (_, usize)| tail.bytes.get(start..end));
        let beyond = || format!("{length} bytes at {offset} are not in a tail of {} bytes", tail.bytes.len());
        let bytes = bytes.ok_or_else(beyond)?.to_vec();
        tail.given = tail.given.saturating_add(length);
        match tail.given <= tail.bytes.len() as u64 {
            true => Ok(bytes),
            false => Err("bytes of the tail belong to two fields".to_owned()),
        }
    })
}

pub(crate) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    put(bytes.as_ref()).map_err(S::Error::custom)?.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<Vec<u8>>>(deserializer: D) -> Result<T, D::Error> {
    let stretch = Stretch::deserialize(deserializer)?;
    take(stretch).map(T::from).map_err(D::Error::custom)
}

/// A file, or what else is just bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blob(#[serde(with = "crate::wire::tail")] pub Vec<u8>);

/// Files by name, for who shows them as they are.
pub(crate) mod files {
    use std::collections::BTreeMap;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        files: &BTreeMap<String, Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let entry = |(name, bytes): (&String, &Vec<u8>)| Ok((name.clone(), put(bytes)?));
        let files: Result<BTreeMap<String, Stretch>, &str> = files.iter().map(entry).collect();
        files.map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        let files = BTreeMap::<String, Blob>::deserialize(deserializer)?;
        Ok(files.into_iter().map(|(name, Blob(bytes))| (name, bytes)).collect())
    }
}

/// JSON that may nest as deep as a reader allows, which counts from its beginning: it has a text of its own.
pub(crate) mod json {
    use serde::de::DeserializeOwned;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &impl Serialize, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_vec(value).map_err(S::Error::custom)?;
        super::serialize(&text, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
        let text: Vec<u8> = super::deserialize(deserializer)?;
        serde_json::from_slice(&text).map_err(D::Error::custom)
    }
}
