//! The stock image nodes, with ComfyUI's class names, inputs and results.
//!
//! Pixels stay in the host: these nodes only say what to compute.
//!
//! # Layout
//! - [`create`]: EmptyImage, ImageInvert

mod create;

vivarium_node::pack! {
    name: "image",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Vivarium",
    description: "Loads, makes, changes and saves images.",
    license: "Apache-2.0",
    nodes: [
        create::EmptyImage,
        create::ImageInvert,
    ],
}
