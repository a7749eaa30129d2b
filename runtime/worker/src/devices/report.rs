//! Devices in numbers, for people and clients.

use serde::{Deserialize, Serialize};

/// A device in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// `cpu` or `cuda`.
    pub kind: String,
    /// Number of the GPU.
    pub index: Option<usize>,
    /// The driver's name for it.
    pub name: String,
    /// Bytes that it has.
    pub memory_bytes: u64,
    /// Bytes that tensors may take.
    pub memory_limit: u64,
    /// Bytes that they take.
    pub memory_used: u64,
    /// Whether it is used.
    pub state: DeviceState,
    /// What it has done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<DeviceWork>,
    /// Of a GPU, what computes products there, or why it does not work; of the CPU, why it is no GPU, where one was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Whether a device is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It is.
    #[default]
    Working,
    /// It failed; from time to time it is tried again.
    Failed,
    /// It failed too often.
    GivenUp,
}

/// What a GPU has done since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWork {
    /// Prompts that began on it.
    pub prompts: u64,
    /// Milliseconds that kernels of prompts ran, of those that have ended.
    pub kernel_ms: u64,
    /// Kernels started.
    pub launches: u64,
    /// Tensors copied to it.
    pub uploads: u64,
    /// Tensors copied back.
    pub downloads: u64,
    /// Tensors that left its memory to make room.
    pub spilled: u64,
    /// How often it failed.
    pub failures: u64,
}
