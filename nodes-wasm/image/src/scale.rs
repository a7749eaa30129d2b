//! Nodes that change the size of images.

use vivarium_node::prelude::*;

use crate::resample::{CropMethod, MAX_RESOLUTION, UpscaleMethod, proportional, upscale};

/// Resizes images. A width or height of 0 keeps the aspect ratio.
#[derive(Node)]
#[node(category = "image/upscaling", display_name = "Upscale Image")]
pub(crate) struct ImageScale {
    image: Image,
    upscale_method: UpscaleMethod,
    #[input(default = 512, min = 0, max = MAX_RESOLUTION, step = 1)]
    width: u64,
    #[input(default = 512, min = 0, max = MAX_RESOLUTION, step = 1)]
    height: u64,
    crop: CropMethod,
}

impl Run for ImageScale {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let size = self.image.size()?;
        let (width, height) = match (self.width, self.height) {
            (0, 0) => return Ok(self.image),
            (0, height) => (proportional(size.width, height, size.height), height),
            (width, 0) => (width, proportional(size.height, width, size.width)),
            both => both,
        };
        upscale(&self.image, width, height, self.upscale_method.into(), self.crop)
    }
}

/// Makes images larger or smaller by a factor.
#[derive(Node)]
#[node(category = "image/upscaling", display_name = "Upscale Image By")]
pub(crate) struct ImageScaleBy {
    image: Image,
    upscale_method: UpscaleMethod,
    #[input(default = 1.0, min = 0.01, max = 8.0, step = 0.01)]
    scale_by: f64,
}

impl Run for ImageScaleBy {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let size = self.image.size()?;
        let scaled = |length: u64| (length as f64 * self.scale_by).round_ties_even() as u64;
        let (width, height) = (scaled(size.width), scaled(size.height));
        upscale(&self.image, width, height, self.upscale_method.into(), CropMethod::Disabled)
    }
}
