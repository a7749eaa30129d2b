//! Nodes that make an image out of nothing or out of one.

use vivarium_node::prelude::*;

/// The largest side of an image that ComfyUI's nodes offer.
pub(crate) const MAX_RESOLUTION: i64 = 16384;

/// Makes images of one colour.
#[derive(Node)]
#[node(category = "image", display_name = "EmptyImage")]
pub(crate) struct EmptyImage {
    #[input(default = 512, min = 1, max = MAX_RESOLUTION, step = 1)]
    width: u64,
    #[input(default = 512, min = 1, max = MAX_RESOLUTION, step = 1)]
    height: u64,
    #[input(default = 1, min = 1, max = 4096)]
    batch_size: u64,
    /// Red, green and blue as one number, 0xRRGGBB.
    #[input(default = 0, min = 0, max = 0xFF_FFFF, step = 1, display = "color")]
    color: u32,
}

impl Run for EmptyImage {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let rgb = [16, 8, 0].map(|shift| f32::from((self.color >> shift) as u8) / 255.0);
        Ok(Image::filled(self.batch_size, self.height, self.width, rgb))
    }
}

/// Makes the negative of an image.
#[derive(Node)]
#[node(category = "image", display_name = "Invert Image")]
pub(crate) struct ImageInvert {
    image: Image,
}

impl Run for ImageInvert {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok(1.0 - self.image)
    }
}
