//! safetensors and GGUF files of the model folders. Needs the permission `models/<folder>`.

pub use crate::bindings::vivarium::node::weights::Entry;

use crate::bindings::vivarium::node::weights as host;
use crate::error::Result;
use crate::tensor::Tensor;

/// The files of a model folder.
///
/// # Errors
/// When the pack was not granted the folder.
pub fn list(folder: &str) -> Result<Vec<String>> {
    Ok(host::list_files(folder)?)
}

/// An open file. Tensors are read when asked for, not before.
#[derive(Debug)]
pub struct Weights(host::WeightsFile);

impl Weights {
    /// Opens a file.
    ///
    /// # Errors
    /// When there is no such file, it is no safetensors file, or the pack was not granted the folder.
    pub fn open(folder: &str, name: &str) -> Result<Self> {
        Ok(Self(host::WeightsFile::open(folder, name)?))
    }

    /// Keys, types and shapes.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.0.entries()
    }

    /// The `__metadata__` of the header.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, String)> {
        self.0.metadata()
    }

    /// One tensor.
    ///
    /// # Errors
    /// When the file has no such key.
    pub fn tensor(&self, key: &str) -> Result<Tensor> {
        Ok(Tensor::from_raw(self.0.tensor(key)?))
    }
}
