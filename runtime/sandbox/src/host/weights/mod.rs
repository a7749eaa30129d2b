//! `weights`: safetensors and GGUF files of the model folders. Only the header is read on opening; tensors when asked for.

mod gguf;

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt, sync::Arc};

use safetensors::{Dtype as FileDtype, tensor::Metadata};
use vivarium_protocol::permission::Permission;
use vivarium_tensor::{BlockFormat, Budget, Charge, DType, Tensor};
use wasmtime::component::Resource;

use super::{
    HostState, HostTensor,
    state::{clean, interrupted, limit_error, to_guest},
};
use crate::bindings::vivarium::node::{
    tensors::Dtype,
    types::{Error, ErrorKind},
    weights::{self, Entry},
};

/// Headers of real models stay below 10 MB.
const HEADER_BYTES: u64 = 32 << 20;
const LENGTH_BYTES: u64 = 8;

/// An open weights file.
#[allow(unreachable_pub)]
pub struct HostWeights {
    file: File,
    name: String,
    folder: Arc<str>,
    contents: Contents,
    /// For what was read of the header, as long as it is kept.
    _room: Charge,
}

/// What a header says.
struct Contents {
    data_start: u64,
    metadata: Vec<(String, String)>,
    entries: BTreeMap<String, StoredTensor>,
}

/// How the elements of a tensor stand in a file.
#[derive(Clone, Copy)]
enum Format {
    Plain(DType),
    /// Quantised; numbers of float16 for whoever asks.
    Blocks(BlockFormat),
}

impl Format {
    fn dtype(self) -> DType {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Blocks(_) => DType::Float16,
        }
    }
}

struct StoredTensor {
    format: Format,
    shape: Vec<u64>,
    start: u64,
    end: u64,
}

impl weights::Host for HostState {
    fn list_files(&mut self, folder: String) -> wasmtime::Result<Result<Vec<String>, Error>> {
        if let Err(refused) = self.require(&Permission::Weights { folder: folder.clone() }) {
            return Ok(Err(refused));
        }
        Ok(self.call.services.model_files(&folder).map_err(|error| to_guest(&error)))
    }
}

impl weights::HostWeightsFile for HostState {
    fn open(&mut self, folder: String, name: String) -> wasmtime::Result<Result<Resource<HostWeights>, Error>> {
        if let Err(refused) = self.require(&Permission::Weights { folder: folder.clone() }) {
            return Ok(Err(refused));
        }
        self.holds_weights(&Arc::from(folder.as_str()));
        let budget = self.op().budget.clone();
        let opened = match self.call.services.open_model(&folder, &name) {
            Ok(file) => open(file, &folder, &format!("{folder}/{name}"), &budget),
            Err(error) => Err(to_guest(&error)),
        };
        match opened {
            Ok(weights) => self.push_weights(weights),
            Err(error) => Ok(Err(error)),
        }
    }

    fn entries(&mut self, weights: Resource<HostWeights>) -> wasmtime::Result<Vec<Entry>> {
        let entries = &self.table.get(&weights)?.contents.entries;
        let entry = |(key, tensor): (&String, &StoredTensor)| Entry {
            key: key.clone(),
            dtype: Dtype::from(tensor.format.dtype()),
            shape: tensor.shape.clone(),
        };
        Ok(entries.iter().map(entry).collect())
    }

    fn metadata(&mut self, weights: Resource<HostWeights>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&weights)?.contents.metadata.clone())
    }

    fn tensor(
        &mut self,
        weights: Resource<HostWeights>,
        key: String,
    ) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let weights = self.table.get(&weights)?;
        let Some(stored) = weights.contents.entries.get(&key) else {
            let message = format!("{} has no tensor {:?}", weights.name, clean(&key, 200));
            return Ok(Err(Error { kind: ErrorKind::NotFound, message }));
        };
        let folder = weights.folder.clone();
        let (bytes, shape, format) = (stored.end - stored.start, stored.shape.clone(), stored.format);
        // Asks the budget before the bytes are read, not after.
        let paid = match self.op().budget.charge(bytes) {
            Ok(paid) => paid,
            Err(refused) => return Ok(Err(limit_error(format!("tensor {:?}: {refused}", clean(&key, 200))))),
        };
        let data = match weights.read(stored) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        // Bytes that become the tensor itself are paid for as such.
        let _paid = matches!(format, Format::Blocks(_)).then_some(paid);
        self.answer(|cx| {
            let tensor = match format {
                Format::Plain(dtype) => Tensor::from_bytes(&shape, dtype, &data, cx)?,
                Format::Blocks(format) => Tensor::from_blocks(&shape, format, &data, cx)?,
            };
            Ok(tensor.labelled(Some(folder)))
        })
    }

    fn drop(&mut self, weights: Resource<HostWeights>) -> wasmtime::Result<()> {
        self.table.delete(weights)?;
        self.release_file();
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
impl HostWeights {
    /// Those that are not quantised.
    pub(crate) fn listed(&self) -> Vec<(String, DType, Vec<u64>)> {
        let entry = |(key, stored): (&String, &StoredTensor)| match stored.format {
            Format::Plain(dtype) => Some((key.clone(), dtype, stored.shape.clone())),
            Format::Blocks(_) => None,
        };
        self.contents.entries.iter().filter_map(entry).collect()
    }

    /// `None` when there is no tensor of this name.
    pub(crate) fn read_named(&self, key: &str) -> Option<Result<Vec<u8>, Error>> {
        self.contents.entries.get(key).map(|stored| self.read(stored))
    }
}

impl HostWeights {
    fn read(&self, stored: &StoredTensor) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(stored.end - stored.start)
            .map_err(|_| invalid(&self.name, "a tensor does not fit into memory"))?;
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, self.contents.data_start + stored.start).map_err(|error| Error {
            kind: ErrorKind::Internal,
            message: format!("{} cannot be read: {error}", self.name),
        })?;
        Ok(data)
    }
}

/// A message may quote the file, and the file may be long.
const MESSAGE_BYTES: usize = 500;

fn invalid(name: &str, message: &str) -> Error {
    let message = format!("{name} is not a valid safetensors or GGUF file: {}", clean(message, MESSAGE_BYTES));
    Error { kind: ErrorKind::InvalidArgument, message }
}

/// What a header becomes in memory, for each of its bytes, at most: names, shapes and places, in the reader and in ours.
const BYTES_PER_HEADER_BYTE: u64 = 8;

/// Pays for what is kept of a header of so many bytes.
fn room(name: &str, header: u64, budget: &Arc<Budget>) -> Result<Charge, Error> {
    let room = budget.charge(header.saturating_mul(BYTES_PER_HEADER_BYTE));
    room.map_err(|refused| limit_error(format!("the header of {name}, {header} bytes: {refused}")))
}

pub(crate) fn open(file: File, folder: &str, name: &str, budget: &Arc<Budget>) -> Result<HostWeights, Error> {
    let mut start = [0; gguf::MAGIC.len()];
    let (contents, room) = match file.read_exact_at(&mut start, 0) {
        Ok(()) if start == *gguf::MAGIC => {
            let length = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
            // How long the header is shows only at its end.
            let most = room(name, length.min(HEADER_BYTES), budget)?;
            let contents = gguf::read(&file, length).map_err(|message| invalid(name, &message))?;
            drop(most);
            let room = room(name, contents.data_start, budget)?;
            (contents, room)
        }
        _ => safetensors(&file, name, budget)?,
    };
    Ok(HostWeights { file, name: name.to_owned(), folder: Arc::from(folder), contents, _room: room })
}

fn safetensors(file: &File, name: &str, budget: &Arc<Budget>) -> Result<(Contents, Charge), Error> {
    let io = |error: std::io::Error| invalid(name, &format!("its header cannot be read: {error}"));
    let file_length = file.metadata().map_err(io)?.len();
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES || length > file_length.saturating_sub(LENGTH_BYTES) {
        return Err(invalid(name, &format!("its header claims {length} bytes")));
    }
    let room = room(name, length, budget)?;
    let mut header = vec![0; usize::try_from(length).map_err(|_| invalid(name, "its header is too long"))?];
    file.read_exact_at(&mut header, LENGTH_BYTES).map_err(io)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| invalid(name, &error.to_string()))?;
    let data_start = LENGTH_BYTES + length;
    let data_length = file_length - data_start;
    let mut entries = BTreeMap::new();
    for (key, info) in header.tensors() {
        let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        if start > end || end > data_length {
            return Err(invalid(name, &format!("tensor {key:?} lies at {start}..{end}, outside of the file")));
        }
        // Formats that the host cannot read are left out, so that the others of the file stay usable.
        let Some(dtype) = dtype(info.dtype) else {
            continue;
        };
        let shape = info.shape.iter().map(|&length| length as u64).collect();
        entries.insert(key, StoredTensor { format: Format::Plain(dtype), shape, start, end });
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((Contents { data_start, metadata, entries }, room))
}

fn dtype(dtype: FileDtype) -> Option<DType> {
    Some(match dtype {
        FileDtype::F32 => DType::Float32,
        FileDtype::F16 => DType::Float16,
        FileDtype::BF16 => DType::Bfloat16,
        FileDtype::U8 => DType::Uint8,
        FileDtype::I32 => DType::Int32,
        FileDtype::I64 => DType::Int64,
        FileDtype::BOOL => DType::Boolean,
        FileDtype::F8_E4M3 => DType::Float8E4m3,
        FileDtype::F8_E5M2 => DType::Float8E5m2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn bytes_of(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn a_good_file_lists_its_tensors() {
        let header = r#"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let weights = open(file(&bytes_of(header, &[0; 8])), "vae", "vae/x", &Budget::root(1 << 20)).unwrap();
        assert_eq!(weights.contents.metadata, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(weights.contents.entries["x"].shape, [2]);
        assert_eq!(weights.read(&weights.contents.entries["x"]).unwrap(), [0; 8]);
    }

    #[test]
    fn malformed_headers_are_refused_without_reading_on() {
        let eight_exabytes = [&(8u64 << 60).to_le_bytes()[..], b"{}"].concat();
        let outside = bytes_of(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 4]);
        let backwards = bytes_of(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, &[0; 8]);
        let wrong_size = bytes_of(r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8]);
        for bytes in [eight_exabytes, outside, backwards, wrong_size, b"short".to_vec(), bytes_of("not json", &[])] {
            let refused = open(file(&bytes), "vae", "vae/x", &Budget::root(1 << 20)).err().unwrap();
            assert_eq!(refused.kind, ErrorKind::InvalidArgument);
            assert!(
                refused.message.starts_with("vae/x is not a valid safetensors or GGUF file"),
                "{}",
                refused.message
            );
        }
    }
}
