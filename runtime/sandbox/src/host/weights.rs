//! `weights`: safetensors files of the model folders. Only the header is read on opening; tensors when asked for.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt, sync::Arc};

use safetensors::{Dtype as FileDtype, tensor::Metadata};
use vivarium_protocol::permission::Permission;
use vivarium_tensor::{Budget, Charge, DType, Tensor};
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
    data_start: u64,
    metadata: Vec<(String, String)>,
    entries: BTreeMap<String, StoredTensor>,
    /// For what was read of the header, as long as it is kept.
    _room: Charge,
}

struct StoredTensor {
    dtype: DType,
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
            Ok(file) => open_safetensors(file, &folder, &format!("{folder}/{name}"), &budget),
            Err(error) => Err(to_guest(&error)),
        };
        match opened {
            Ok(weights) => self.push_weights(weights),
            Err(error) => Ok(Err(error)),
        }
    }

    fn entries(&mut self, weights: Resource<HostWeights>) -> wasmtime::Result<Vec<Entry>> {
        let entries = &self.table.get(&weights)?.entries;
        let entry = |(key, tensor): (&String, &StoredTensor)| Entry {
            key: key.clone(),
            dtype: Dtype::from(tensor.dtype),
            shape: tensor.shape.clone(),
        };
        Ok(entries.iter().map(entry).collect())
    }

    fn metadata(&mut self, weights: Resource<HostWeights>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&weights)?.metadata.clone())
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
        let Some(stored) = weights.entries.get(&key) else {
            let message = format!("{} has no tensor {:?}", weights.name, clean(&key, 200));
            return Ok(Err(Error { kind: ErrorKind::NotFound, message }));
        };
        let folder = weights.folder.clone();
        let (bytes, shape, dtype) = (stored.end - stored.start, stored.shape.clone(), stored.dtype);
        // Asks the budget before the bytes are read, not after.
        if let Err(refused) = self.op().budget.charge(bytes) {
            return Ok(Err(limit_error(format!("tensor {:?}: {refused}", clean(&key, 200)))));
        }
        let data = match weights.read(stored) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        self.answer(|cx| Ok(Tensor::from_bytes(&shape, dtype, &data, cx)?.labelled(Some(folder))))
    }

    fn drop(&mut self, weights: Resource<HostWeights>) -> wasmtime::Result<()> {
        self.table.delete(weights)?;
        self.release_file();
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
impl HostWeights {
    pub(crate) fn listed(&self) -> Vec<(String, DType, Vec<u64>)> {
        let entry = |(key, stored): (&String, &StoredTensor)| (key.clone(), stored.dtype, stored.shape.clone());
        self.entries.iter().map(entry).collect()
    }

    /// `None` when there is no tensor of this name.
    pub(crate) fn read_named(&self, key: &str) -> Option<Result<Vec<u8>, Error>> {
        self.entries.get(key).map(|stored| self.read(stored))
    }
}

impl HostWeights {
    fn read(&self, stored: &StoredTensor) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(stored.end - stored.start)
            .map_err(|_| invalid(&self.name, "a tensor does not fit into memory"))?;
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, self.data_start + stored.start).map_err(|error| Error {
            kind: ErrorKind::Internal,
            message: format!("{} cannot be read: {error}", self.name),
        })?;
        Ok(data)
    }
}

/// A message may quote the file, and the file may be long.
const MESSAGE_BYTES: usize = 500;

fn invalid(name: &str, message: &str) -> Error {
    let message = format!("{name} is not a valid safetensors file: {}", clean(message, MESSAGE_BYTES));
    Error { kind: ErrorKind::InvalidArgument, message }
}

/// What a header becomes in memory, for each of its bytes, at most: names, shapes and places, in the reader and in ours.
const BYTES_PER_HEADER_BYTE: u64 = 8;

pub(crate) fn open_safetensors(
    file: File,
    folder: &str,
    name: &str,
    budget: &Arc<Budget>,
) -> Result<HostWeights, Error> {
    let io = |error: std::io::Error| invalid(name, &format!("its header cannot be read: {error}"));
    let file_length = file.metadata().map_err(io)?.len();
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES || length > file_length.saturating_sub(LENGTH_BYTES) {
        return Err(invalid(name, &format!("its header claims {length} bytes")));
    }
    let room = budget.charge(length.saturating_mul(BYTES_PER_HEADER_BYTE));
    let room = room.map_err(|refused| limit_error(format!("the header of {name}, {length} bytes: {refused}")))?;
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
        entries.insert(key, StoredTensor { dtype, shape, start, end });
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let folder = Arc::from(folder);
    Ok(HostWeights { file, name: name.to_owned(), folder, data_start, metadata, entries, _room: room })
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

    fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn a_good_file_lists_its_tensors() {
        let header = r#"{"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let weights =
            open_safetensors(file(&safetensors(header, &[0; 8])), "vae", "vae/x", &Budget::root(1 << 20)).unwrap();
        assert_eq!(weights.metadata, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(weights.entries["x"].shape, [2]);
        assert_eq!(weights.read(&weights.entries["x"]).unwrap(), [0; 8]);
    }

    #[test]
    fn malformed_headers_are_refused_without_reading_on() {
        let eight_exabytes = [&(8u64 << 60).to_le_bytes()[..], b"{}"].concat();
        let outside = safetensors(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 4]);
        let backwards = safetensors(r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, &[0; 8]);
        let wrong_size = safetensors(r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, &[0; 8]);
        for bytes in [eight_exabytes, outside, backwards, wrong_size, b"short".to_vec(), safetensors("not json", &[])] {
            let refused = open_safetensors(file(&bytes), "vae", "vae/x", &Budget::root(1 << 20)).err().unwrap();
            assert_eq!(refused.kind, ErrorKind::InvalidArgument);
            assert!(refused.message.starts_with("vae/x is not a valid safetensors file"), "{}", refused.message);
        }
    }
}
