//! Nodes that attack the host, for its tests. Each does one thing that must fail, and fail with clear words.
//!
//! Not for users: the pack is never shipped.
//!
//! # Layout
//! - [`time_and_memory`]: loops, recursion, allocation, panics
//! - [`floods`]: too much of what is allowed: handles, logs, messages, tensors
//! - [`handles`]: handles that are none, are no longer, or are something else
//! - [`operations`]: arguments of tensor operations that make no sense or ask for too much
//! - [`outside`]: for hosts, files and folders beyond what was granted
//! - [`reach`]: for what was not given: files, the network, objects that call themselves

mod floods;
mod handles;
mod operations;
mod outside;
mod reach;
mod time_and_memory;

vivarium_node::pack! {
    name: "hostile",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Nobody",
    description: "Attacks on the host, for its tests.",
    license: "Apache-2.0",
    nodes: [
        time_and_memory::HostileLoop,
        time_and_memory::HostileMemory,
        time_and_memory::HostileWait,
        time_and_memory::HostileRecursion,
        time_and_memory::HostilePanic,
        floods::HostileHandles,
        floods::HostileWeights,
        floods::HostileLog,
        floods::HostileProgress,
        floods::HostileTensor,
        floods::HostileTensorFlood,
        floods::HostileBroadcast,
        floods::HostileUpload,
        floods::HostileUi,
        floods::HostileError,
        floods::HostileValue,
        floods::HostileObjects,
        handles::HostileHandle,
        handles::HostileKeep,
        handles::HostileLists,
        operations::HostileOperations,
        operations::HostileOverwrite,
        reach::HostileReadFile,
        reach::HostileNetwork,
        reach::HostileObject,
        outside::HostileHttp,
        outside::HostileDownload,
        outside::HostileScratch,
        outside::HostileScratchFlood,
        outside::HostileFolder,
    ],
    objects: [reach::Recursive],
}
