//! Sizes, cropping and channels, as several nodes share them.

use vivarium_node::prelude::*;

/// The largest side of an image that ComfyUI's nodes offer.
pub(crate) const MAX_RESOLUTION: i64 = 16384;

/// How pixels in between are found.
#[derive(Choice, Clone, Copy)]
pub(crate) enum UpscaleMethod {
    #[choice("nearest-exact")]
    NearestExact,
    Bilinear,
    Area,
    Bicubic,
    Lanczos,
}

impl From<UpscaleMethod> for InterpolateMode {
    fn from(method: UpscaleMethod) -> Self {
        match method {
            UpscaleMethod::NearestExact => Self::NearestExact,
            UpscaleMethod::Bilinear => Self::Bilinear,
            UpscaleMethod::Area => Self::Area,
            UpscaleMethod::Bicubic => Self::Bicubic,
            UpscaleMethod::Lanczos => Self::Lanczos,
        }
    }
}

/// What happens when the aspect ratio changes.
#[derive(Choice, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CropMethod {
    Disabled,
    Center,
}

/// Resizes; with `CropMethod::Center`, the source is first cropped to the new aspect ratio.
pub(crate) fn upscale(
    image: &Image,
    width: u64,
    height: u64,
    method: InterpolateMode,
    crop: CropMethod,
) -> Result<Image> {
    if width == 0 || height == 0 {
        return Err(Error::invalid(format!("the image would be {width}×{height} pixels: choose a larger size")));
    }
    let size = image.size()?;
    if crop == CropMethod::Disabled {
        return Ok(image.resize(width, height, method));
    }
    let (x, y) = center_margins(size.width, size.height, width, height);
    let cropped = image.slice(1, y as i64, (size.height - y) as i64).slice(2, x as i64, (size.width - x) as i64);
    Ok(Image::from(cropped).resize(width, height, method))
}

/// The margins, left = right and top = bottom, that are cut off so that the rest has the aspect ratio `width:height`. At
/// least one pixel is left.
fn center_margins(old_width: u64, old_height: u64, width: u64, height: u64) -> (u64, u64) {
    let (old_width, old_height) = (old_width as f64, old_height as f64);
    let old_aspect = old_width / old_height;
    let aspect = width as f64 / height as f64;
    let margin = |length: f64, kept: f64| {
        let largest = ((length - 1.0) / 2.0).floor().max(0.0);
        ((length - length * kept) / 2.0).round_ties_even().min(largest) as u64
    };
    if old_aspect > aspect {
        (margin(old_width, aspect / old_aspect), 0)
    } else if old_aspect < aspect {
        (0, margin(old_height, old_aspect / aspect))
    } else {
        (0, 0)
    }
}

/// `length · numerator / denominator` in whole pixels, halves to the even number, at least one.
pub(crate) fn proportional(length: u64, numerator: u64, denominator: u64) -> u64 {
    ((length as f64 * numerator as f64 / denominator as f64).round_ties_even() as u64).max(1)
}

/// Gives `source` the number of channels of `destination`: surplus ones are dropped, a missing alpha is opaque.
pub(crate) fn match_channels(destination: &Image, source: &Image) -> Result<Image> {
    let (wanted, given) = (destination.size()?.channels, source.size()?.channels);
    Ok(match wanted.checked_sub(given) {
        Some(0) => source.clone(),
        Some(missing) => source.pad([0; 4], [0, 0, 0, missing], PadMode::Constant, 1.0).into(),
        None => source.slice(3, 0, wanted as i64).into(),
    })
}

/// As many along the first dimension as asked for: cut off, or repeated from the start.
pub(crate) fn repeat_to_batch(tensor: &Tensor, batch: u64) -> Result<Tensor> {
    let shape = tensor.shape()?;
    let Some(&given) = shape.first().filter(|given| **given > 0) else {
        return Err(Error::invalid("the batch is empty"));
    };
    if given == batch {
        return Ok(tensor.clone());
    }
    let mut counts = vec![1; shape.len()];
    counts[0] = batch.div_ceil(given);
    let repeated = if counts[0] > 1 { tensor.repeat(counts) } else { tensor.clone() };
    Ok(repeated.slice(0, 0, batch as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_image_loses_its_sides_and_a_tall_one_top_and_bottom() {
        assert_eq!(center_margins(100, 50, 50, 50), (25, 0));
        assert_eq!(center_margins(50, 100, 50, 50), (0, 25));
        assert_eq!(center_margins(64, 64, 512, 512), (0, 0));
        assert_eq!(center_margins(2, 64, 1, 16384), (0, 0));
    }

    #[test]
    fn halves_are_rounded_to_the_even_pixel_as_python_does() {
        assert_eq!(center_margins(101, 100, 100, 100), (0, 0));
        assert_eq!(center_margins(103, 100, 100, 100), (2, 0));
        assert_eq!(proportional(5, 1, 2), 2);
        assert_eq!(proportional(7, 1, 2), 4);
        assert_eq!(proportional(1, 1, 100), 1);
    }
}
