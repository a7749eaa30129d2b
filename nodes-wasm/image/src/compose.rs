//! Nodes that make one image out of two, or a part out of one.

use vivarium_node::prelude::*;

use crate::resample::{CropMethod, MAX_RESOLUTION, match_channels, repeat_to_batch, upscale};

/// Puts one batch of images after another. Images of the second that have another size are fitted to the first.
#[derive(Node)]
#[node(category = "image", display_name = "Batch Images")]
pub(crate) struct ImageBatch {
    image1: Image,
    image2: Image,
}

impl Run for ImageBatch {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let (first, second) = (self.image1.size()?, self.image2.size()?);
        let (first, second) = if first.channels < second.channels {
            (match_channels(&self.image2, &self.image1)?, self.image2)
        } else {
            (self.image1.clone(), match_channels(&self.image1, &self.image2)?)
        };
        let second = fit(&second, &first, InterpolateMode::Bilinear)?;
        Ok(Tensor::cat(&[first, second], 0).into())
    }
}

/// Gives `image` the height and width of `model`.
fn fit(image: &Image, model: &Image, method: InterpolateMode) -> Result<Image> {
    let (given, wanted) = (image.size()?, model.size()?);
    if (given.height, given.width) == (wanted.height, wanted.width) {
        return Ok(image.clone());
    }
    upscale(image, wanted.width, wanted.height, method, CropMethod::Center)
}

/// Cuts a rectangle out of images.
#[derive(Node)]
#[node(category = "image/transform", display_name = "Image Crop")]
pub(crate) struct ImageCrop {
    image: Image,
    #[input(default = 512, min = 1, max = MAX_RESOLUTION, step = 1)]
    width: u32,
    #[input(default = 512, min = 1, max = MAX_RESOLUTION, step = 1)]
    height: u32,
    #[input(default = 0, min = 0, max = MAX_RESOLUTION, step = 1)]
    x: u32,
    #[input(default = 0, min = 0, max = MAX_RESOLUTION, step = 1)]
    y: u32,
}

impl Run for ImageCrop {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let size = self.image.size()?;
        let (left, right) = span(self.x, self.width, size.width);
        let (top, bottom) = span(self.y, self.height, size.height);
        Ok(self.image.slice(1, top, bottom).slice(2, left, right).into())
    }
}

/// Start and end of a crop along one axis. It starts inside the image and ends at its edge at the latest.
fn span(start: u32, length: u32, available: u64) -> (i64, i64) {
    let available = available as i64;
    let start = i64::from(start).min(available - 1).max(0);
    (start, (start + i64::from(length)).min(available))
}

/// How two colours become one.
#[derive(Choice, Clone, Copy)]
enum BlendMode {
    Normal,
    Multiply,
    Screen,
    Overlay,
    SoftLight,
    Difference,
}

/// Blends the second image into the first. It is fitted to the size of the first.
#[derive(Node)]
#[node(category = "image/postprocessing", display_name = "Image Blend")]
pub(crate) struct ImageBlend {
    image1: Image,
    image2: Image,
    /// 0 leaves the first image as it is, 1 is the full blend.
    #[input(default = 0.5, min = 0.0, max = 1.0, step = 0.01)]
    blend_factor: f64,
    blend_mode: BlendMode,
}

impl Run for ImageBlend {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let second = match_channels(&self.image1, &self.image2)?;
        let second = fit(&second, &self.image1, InterpolateMode::Bicubic)?;
        let blended = blend(self.image1.tensor(), second.tensor(), self.blend_mode);
        let mixed = self.image1.tensor() * (1.0 - self.blend_factor) + blended * self.blend_factor;
        Ok(mixed.clamp(0.0, 1.0).into())
    }
}

fn blend(base: &Tensor, top: &Tensor, mode: BlendMode) -> Tensor {
    match mode {
        BlendMode::Normal => top.clone(),
        BlendMode::Multiply => base * top,
        BlendMode::Screen => 1.0 - (1.0 - base) * (1.0 - top),
        BlendMode::Overlay => {
            let dark = base * top * 2.0;
            let light = 1.0 - (1.0 - base) * (1.0 - top) * 2.0;
            dark.select(&base.less_equal(0.5), &light)
        }
        BlendMode::SoftLight => {
            let dark = base - (1.0 - top * 2.0) * base * (1.0 - base);
            let light = base + (top * 2.0 - 1.0) * (soft_light_curve(base) - base);
            dark.select(&top.less_equal(0.5), &light)
        }
        BlendMode::Difference => base - top,
    }
}

/// The square root, with a polynomial in its place near zero, where the root is too steep.
fn soft_light_curve(base: &Tensor) -> Tensor {
    let polynomial = ((base * 16.0 - 12.0) * base + 4.0) * base;
    polynomial.select(&base.less_equal(0.25), &base.sqrt())
}

/// Puts one image onto another.
#[derive(Node)]
#[node(category = "image", display_name = "ImageCompositeMasked")]
pub(crate) struct ImageCompositeMasked {
    destination: Image,
    source: Image,
    /// Where the left edge of the source goes, in pixels.
    #[input(default = 0, min = 0, max = MAX_RESOLUTION, step = 1)]
    x: u32,
    /// Where the top edge of the source goes, in pixels.
    #[input(default = 0, min = 0, max = MAX_RESOLUTION, step = 1)]
    y: u32,
    /// Stretches the source to the size of the destination first.
    #[input(default = false)]
    resize_source: bool,
    /// Where the source is seen. It is stretched to the size of the source.
    mask: Option<Mask>,
}

impl Run for ImageCompositeMasked {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let size = self.destination.size()?;
        let mut source = match_channels(&self.destination, &self.source)?;
        if self.resize_source {
            source = source.resize(size.width, size.height, InterpolateMode::Bilinear);
        }
        let source = Image::from(repeat_to_batch(source.tensor(), size.batch)?);

        let (x, y) = (u64::from(self.x), u64::from(self.y));
        let given = source.size()?;
        let width = given.width.min(size.width.saturating_sub(x));
        let height = given.height.min(size.height.saturating_sub(y));
        if width == 0 || height == 0 {
            return Ok(self.destination);
        }

        let (right, bottom) = (width as i64, height as i64);
        let visible = source.slice(1, 0, bottom).slice(2, 0, right);
        let patch = match self.mask {
            None => visible,
            Some(mask) => {
                let mask = fit_mask(&mask, given.width, given.height, given.batch)?;
                let mask = mask.slice(1, 0, bottom).slice(2, 0, right).unsqueeze(-1);
                let (left, top) = (x as i64, y as i64);
                let beneath = self.destination.slice(1, top, top + bottom).slice(2, left, left + right);
                beneath.lerp(&visible, &mask)
            }
        };
        Ok(self.destination.paste(&patch, [0, y, x, 0]).into())
    }
}

/// A mask [batch, height, width] out of one of any size.
fn fit_mask(mask: &Mask, width: u64, height: u64, batch: u64) -> Result<Tensor> {
    let (given_height, given_width) = (mask.size(-2)?, mask.size(-1)?);
    let planes = mask.reshape([-1, 1, given_height as i64, given_width as i64]);
    let resized = planes.interpolate(height, width, InterpolateMode::Bilinear).squeeze(1);
    repeat_to_batch(&resized, batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_never_leaves_the_image_and_is_never_empty() {
        assert_eq!(span(10, 20, 100), (10, 30));
        assert_eq!(span(90, 20, 100), (90, 100));
        assert_eq!(span(500, 20, 100), (99, 100));
    }
}
