//! GGUF files: metadata, then the names, shapes and formats of tensors, then their bytes. Versions 2 and 3, little-endian.
//!
//! Everything before the bytes is read on opening, up to [`HEADER_BYTES`]; what is long and of no use here (vocabularies,
//! templates) is read past. Nothing is allocated because a number in the file says so.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
};

use serde_json::Value;
use vivarium_tensor::{BlockFormat, DType};

use super::{Contents, Format, HEADER_BYTES, StoredTensor};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
const MAX_DIMS: u32 = 8;
/// Longer texts of the metadata are left out, and so are longer lists.
const MAX_TEXT: u64 = 64 << 10;
const MAX_LIST: u64 = 64;
/// Lists in lists.
const MAX_DEPTH: u32 = 3;
const MAX_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

pub(super) fn read(file: &File, file_length: u64) -> Result<Contents, String> {
    let mut header = Header { source: BufReader::new(file).take(HEADER_BYTES) };
    header.contents(file_length).map_err(|error| match error {
        Wrong::Text(text) => text,
        Wrong::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            format!("its header ends early, or is longer than {HEADER_BYTES} bytes")
        }
        Wrong::Io(error) => format!("its header cannot be read: {error}"),
    })
}

enum Wrong {
    Io(io::Error),
    Text(String),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Text(text.into()))
}

struct Header<R> {
    source: io::Take<R>,
}

impl<R: Read> Header<R> {
    fn contents(&mut self, file_length: u64) -> Result<Contents, Wrong> {
        self.bytes::<4>()?;
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return wrong(format!("it is of version {version}; 2 and 3 are understood"));
        }
        let (tensors, entries) = (self.u64()?, self.u64()?);
        let (mut metadata, mut alignment) = (Vec::new(), DEFAULT_ALIGNMENT);
        for _ in 0..entries {
            let key = self.name()?;
            let kind = self.u32()?;
            let Some(value) = self.value(kind, 0)? else { continue };
            if key == "general.alignment" {
                alignment = value.as_u64().unwrap_or_default();
            }
            metadata.push((key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return wrong(format!("its alignment is {alignment}"));
        }
        let mut found = BTreeMap::new();
        for _ in 0..tensors {
            let (name, tensor) = self.tensor()?;
            if found.insert(name.clone(), tensor).is_some() {
                return wrong(format!("two tensors are called {name:?}"));
            }
        }
        let data_start = (HEADER_BYTES - self.source.limit()).next_multiple_of(alignment);
        let data_length = file_length.saturating_sub(data_start);
        // Formats that the host cannot read are left out, so that the others of the file stay usable.
        let mut entries = BTreeMap::new();
        for (name, tensor) in found {
            let Some(tensor) = tensor else { continue };
            if tensor.end > data_length {
                return wrong(format!("tensor {name:?} lies at {}..{}, outside of the file", tensor.start, tensor.end));
            }
            entries.insert(name, tensor);
        }
        Ok(Contents { data_start, metadata, entries })
    }

    fn tensor(&mut self) -> Result<(String, Option<StoredTensor>), Wrong> {
        let name = self.name()?;
        let rank = self.u32()?;
        if rank > MAX_DIMS {
            return wrong(format!("tensor {name:?} has {rank} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.u64()?);
        }
        // The innermost dimension stands first in the file.
        shape.reverse();
        let (kind, start) = (self.u32()?, self.u64()?);
        let Some(format) = format(kind) else { return Ok((name, None)) };
        let elements = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length));
        let bytes = match format {
            Format::Plain(dtype) => elements.and_then(|elements| elements.checked_mul(dtype.size() as u64)),
            Format::Blocks(format) => format.bytes(&shape),
        };
        match bytes.and_then(|bytes| start.checked_add(bytes)) {
            Some(end) => Ok((name, Some(StoredTensor { format, shape, start, end }))),
            None => wrong(format!("tensor {name:?} has a shape, {shape:?}, that its format cannot have")),
        }
    }

    /// A value of the metadata, or nothing for one that was read past.
    fn value(&mut self, kind: u32, depth: u32) -> Result<Option<Value>, Wrong> {
        Ok(Some(match kind {
            0 => Value::from(self.bytes::<1>()?[0]),
            1 => Value::from(i8::from_le_bytes(self.bytes()?)),
            2 => Value::from(u16::from_le_bytes(self.bytes()?)),
            3 => Value::from(i16::from_le_bytes(self.bytes()?)),
            4 => Value::from(self.u32()?),
            5 => Value::from(i32::from_le_bytes(self.bytes()?)),
            6 => Value::from(f32::from_le_bytes(self.bytes()?)),
            7 => Value::from(self.bytes::<1>()?[0] != 0),
            8 => return Ok(self.text(MAX_TEXT)?.map(Value::from)),
            9 => return self.list(depth),
            10 => Value::from(self.u64()?),
            11 => Value::from(i64::from_le_bytes(self.bytes()?)),
            12 => Value::from(f64::from_le_bytes(self.bytes()?)),
            kind => return wrong(format!("its metadata has a value of unknown type {kind}")),
        }))
    }

    fn list(&mut self, depth: u32) -> Result<Option<Value>, Wrong> {
        let (kind, length) = (self.u32()?, self.u64()?);
        if depth >= MAX_DEPTH {
            return wrong("its metadata has lists in lists in lists");
        }
        let mut values = Vec::new();
        // Each element takes at least a byte, so the header's end is reached soon.
        for index in 0..length {
            match self.value(kind, depth + 1)? {
                Some(value) if index < MAX_LIST => values.push(value),
                _ => {}
            }
        }
        Ok((length <= MAX_LIST).then_some(Value::Array(values)))
    }

    fn name(&mut self) -> Result<String, Wrong> {
        match self.text(MAX_TEXT)? {
            Some(name) => Ok(name),
            None => wrong(format!("it has a name of more than {MAX_TEXT} bytes")),
        }
    }

    /// A text, or nothing for one that was too long and read past.
    fn text(&mut self, most: u64) -> Result<Option<String>, Wrong> {
        let length = self.u64()?;
        if length > self.source.limit() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut part = self.source.by_ref().take(length);
        if length > most {
            if io::copy(&mut part, &mut io::sink())? < length {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            return Ok(None);
        }
        let mut text = Vec::new();
        if (part.read_to_end(&mut text)? as u64) < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => wrong("it has a text that is not UTF-8"),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], io::Error> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, io::Error> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, io::Error> {
        self.bytes().map(u64::from_le_bytes)
    }
}

/// GGML's numbers for formats.
fn format(kind: u32) -> Option<Format> {
    Some(match kind {
        0 => Format::Plain(DType::Float32),
        1 => Format::Plain(DType::Float16),
        2 => Format::Blocks(BlockFormat::Q4_0),
        3 => Format::Blocks(BlockFormat::Q4_1),
        6 => Format::Blocks(BlockFormat::Q5_0),
        7 => Format::Blocks(BlockFormat::Q5_1),
        8 => Format::Blocks(BlockFormat::Q8_0),
        10 => Format::Blocks(BlockFormat::Q2K),
        11 => Format::Blocks(BlockFormat::Q3K),
        12 => Format::Blocks(BlockFormat::Q4K),
        13 => Format::Blocks(BlockFormat::Q5K),
        14 => Format::Blocks(BlockFormat::Q6K),
        20 => Format::Blocks(BlockFormat::Iq4Nl),
        23 => Format::Blocks(BlockFormat::Iq4Xs),
        26 => Format::Plain(DType::Int32),
        27 => Format::Plain(DType::Int64),
        30 => Format::Plain(DType::Bfloat16),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(key)[..], &kind.to_le_bytes(), value].concat()
    }

    fn tensor(name: &str, shape: &[u64], kind: u32, start: u64) -> Vec<u8> {
        let mut bytes = [text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat();
        shape.iter().rev().for_each(|length| bytes.extend(length.to_le_bytes()));
        [&bytes[..], &kind.to_le_bytes(), &start.to_le_bytes()].concat()
    }

    fn gguf(entries: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
        let counts = [tensors.len() as u64, entries.len() as u64].map(u64::to_le_bytes).concat();
        let mut bytes = [&MAGIC[..], &3u32.to_le_bytes(), &counts, &entries.concat(), &tensors.concat()].concat();
        bytes.resize(bytes.len().next_multiple_of(32) + data, 1);
        bytes
    }

    fn opened(bytes: &[u8]) -> Result<Contents, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        read(&file, bytes.len() as u64)
    }

    #[test]
    fn a_good_file_lists_metadata_and_tensors() {
        let long = [&8u32.to_le_bytes()[..], &100u64.to_le_bytes(), &text("word").repeat(100)].concat();
        let short = [&4u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[1, 0, 0, 0, 2, 0, 0, 0]].concat();
        let entries = [
            entry("general.architecture", 8, &text("sd1")),
            entry("tokenizer.tokens", 9, &long),
            entry("shape", 9, &short),
            entry("scale", 6, &0.5f32.to_le_bytes()),
        ];
        let tensors = [tensor("q", &[2, 32], 8, 32), tensor("unknown", &[7], 99, 1 << 60), tensor("f", &[3], 0, 0)];
        let contents = opened(&gguf(&entries, &tensors, 100)).unwrap();
        let wanted = [("general.architecture", "sd1"), ("shape", "[1,2]"), ("scale", "0.5")];
        assert_eq!(contents.metadata, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(contents.entries.keys().collect::<Vec<_>>(), ["f", "q"]);
        let q = &contents.entries["q"];
        assert_eq!((&q.shape[..], q.start, q.end), (&[2u64, 32][..], 32, 100));
        assert_eq!(contents.data_start % 32, 0);
    }

    #[test]
    fn malformed_files_are_refused_before_anything_is_read_for_them() {
        let endless = [&MAGIC[..], &3u32.to_le_bytes(), &[255; 16], &entry("a", 4, &[0; 4])].concat();
        let old = [&MAGIC[..], &1u32.to_le_bytes(), &[0; 16]].concat();
        let huge_list = [&4u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
        let mut deep = Vec::new();
        for _ in 0..10 {
            deep.extend([&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat());
        }
        let cases = [
            (endless, "ends early"),
            (old, "version 1"),
            (gguf(&[entry("a", 9, &huge_list)], &[], 0), "ends early"),
            (gguf(&[entry("a", 9, &deep)], &[], 0), "lists in lists"),
            (gguf(&[entry("a", 8, &u64::MAX.to_le_bytes())], &[], 0), "ends early"),
            (gguf(&[entry("a", 77, &[])], &[], 0), "unknown type 77"),
            (gguf(&[entry("general.alignment", 4, &3u32.to_le_bytes())], &[], 0), "alignment is 3"),
            (gguf(&[], &[tensor("x", &[33], 8, 0)], 100), "that its format cannot have"),
            (gguf(&[], &[tensor("x", &[1 << 40, 1 << 40], 0, 0)], 100), "that its format cannot have"),
            (gguf(&[], &[tensor("x", &[4], 0, u64::MAX)], 100), "that its format cannot have"),
            (gguf(&[], &[tensor("x", &[4], 0, 90)], 100), "outside of the file"),
            (gguf(&[], &[tensor("x", &[1; 9], 0, 0)], 100), "9 dimensions"),
            (gguf(&[], &[tensor("x", &[1], 0, 0), tensor("x", &[1], 0, 0)], 100), "two tensors"),
            (MAGIC.to_vec(), "ends early"),
        ];
        for (bytes, wanted) in cases {
            let refused = opened(&bytes).err().unwrap();
            assert!(refused.contains(wanted), "{refused}, not {wanted}");
        }
    }
}
