//! Rust types of the WIT world, made by wasmtime's `bindgen!`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

wasmtime::component::bindgen!({
    path: "../../guest-sdk/wit/v1",
    world: "pack",
    imports: { default: trappable },
    with: {
        "vivarium:node/tensors.tensor": super::host::HostTensor,
        "vivarium:node/values.object": super::host::HostObject,
        "vivarium:node/weights.weights-file": super::host::HostWeights,
    },
});
