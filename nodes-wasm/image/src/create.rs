//! Nodes that make an image out of nothing, or its negative.

use vivarium_node::prelude::*;

use crate::resample::MAX_RESOLUTION;

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
    color: i64,
}

impl Run for EmptyImage {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok(Image::filled(self.batch_size, self.height, self.width, rgb(self.color)))
    }
}

/// 0xRRGGBB as three numbers from 0 to 1.
fn rgb(color: i64) -> [f32; 3] {
    // Of a number beyond the range, which a link may bring, the lowest bits count.
    let [.., red, green, blue] = color.to_be_bytes();
    [red, green, blue].map(|channel| f32::from(channel) / 255.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_red_green_blue() {
        assert_eq!(rgb(0xFF_00_33), [1.0, 0.0, 0.2]);
    }
}
