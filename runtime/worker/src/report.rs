//! What operators and users can see: installed packs, limits, memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One pack in the packs folder, usable or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackReport {
    /// From the pack's definition; the file name for a pack that failed to load.
    pub name: String,
    /// From the pack's definition.
    pub version: String,
    /// From the pack's definition.
    pub publisher: String,
    /// From the pack's definition.
    pub description: String,
    /// SPDX expression.
    pub license: String,
    /// SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// File name inside the packs folder.
    pub file: String,
    /// Class names.
    pub nodes: Vec<String>,
    /// What it asks for and whether it has it.
    pub permissions: Vec<PermissionReport>,
    /// The WIT interfaces it imports.
    pub imports: Vec<String>,
    /// `ready` or `failed`.
    pub status: PackStatus,
    /// Why it failed.
    pub error: Option<String>,
}

/// Whether a pack can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackStatus {
    /// Its nodes are offered.
    Ready,
    /// It could not be loaded; see the error.
    Failed,
}

/// One permission that a pack asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PermissionReport {
    /// For example `models/checkpoints`.
    pub permission: String,
    /// The pack's own words.
    pub reason: String,
    /// Whether the operator granted it.
    pub granted: bool,
}

/// One limit in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitReport {
    /// For example `guest_memory`.
    pub name: String,
    /// In `unit`.
    pub value: u64,
    /// `bytes`, `ms`, `count`, …
    pub unit: String,
    /// What it bounds and how to raise it.
    pub description: String,
    /// Packs for which it differs, with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packs: BTreeMap<String, u64>,
    /// What is used now, where that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}

/// Tensor memory of the process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Bytes of tensors alive now.
    pub tensor_bytes_used: u64,
    /// The most that all tenants together may hold.
    pub tensor_bytes_limit: u64,
}
