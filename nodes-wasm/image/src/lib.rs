//! The stock image nodes, with ComfyUI's class names, inputs and results.
//!
//! Pixels stay in the host: these nodes only say what to compute. What a formula needs besides tensors (sizes, kernels,
//! names) is in plain functions that are tested without a host.
//!
//! # Layout
//! - [`load`]: LoadImage, LoadImageMask
//! - [`save`]: SaveImage, PreviewImage
//! - [`create`]: EmptyImage, ImageInvert
//! - [`scale`]: ImageScale, ImageScaleBy
//! - [`filter`]: ImageBlur, ImageSharpen
//! - [`compose`]: ImageBlend, ImageBatch, ImageCrop, ImageCompositeMasked
//! - [`rebatch`]: RebatchImages, which cuts batches anew
//! - [`resample`]: sizes, cropping and channels as the nodes above share them

mod compose;
mod create;
mod filter;
mod load;
mod rebatch;
mod resample;
mod save;
mod scale;

vivarium_node::pack! {
    name: "image",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Vivarium",
    description: "Loads, makes, changes and saves images.",
    license: "Apache-2.0",
    nodes: [
        save::SaveImage,
        save::PreviewImage,
        load::LoadImage,
        load::LoadImageMask,
        scale::ImageScale,
        scale::ImageScaleBy,
        create::ImageInvert,
        compose::ImageBatch,
        create::EmptyImage,
        compose::ImageCompositeMasked,
        compose::ImageBlend,
        filter::ImageBlur,
        filter::ImageSharpen,
        compose::ImageCrop,
        rebatch::RebatchImages,
    ],
}

#[cfg(test)]
mod tests;
