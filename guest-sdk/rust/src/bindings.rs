//! The bindings that wit-bindgen makes out of `guest-sdk/wit/v1`. Node authors use the wrappers; this is the raw floor
//! beneath them.
#![allow(missing_docs, unsafe_code, clippy::undocumented_unsafe_blocks, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    path: "../wit/v1",
    world: "pack",
    pub_export_macro: true,
    export_macro_name: "export_pack",
    default_bindings_module: "vivarium_node::bindings",
});
