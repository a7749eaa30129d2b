//! Nodes that look at the neighbours of a pixel.

use vivarium_node::prelude::*;

/// Softens images.
#[derive(Node)]
#[node(category = "image/postprocessing", display_name = "Image Blur")]
pub(crate) struct ImageBlur {
    image: Image,
    #[input(default = 1, min = 1, max = 31, step = 1)]
    blur_radius: u32,
    #[input(default = 1.0, min = 0.1, max = 10.0, step = 0.1)]
    sigma: f64,
}

impl Run for ImageBlur {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok(if self.blur_radius == 0 { self.image } else { blur(&self.image, self.blur_radius, self.sigma) })
    }
}

/// Brings out edges.
#[derive(Node)]
#[node(category = "image/postprocessing", display_name = "Image Sharpen")]
pub(crate) struct ImageSharpen {
    image: Image,
    #[input(default = 1, min = 1, max = 31, step = 1)]
    sharpen_radius: u32,
    #[input(default = 1.0, min = 0.1, max = 10.0, step = 0.01)]
    sigma: f64,
    #[input(default = 1.0, min = 0.0, max = 5.0, step = 0.01)]
    alpha: f64,
}

impl Run for ImageSharpen {
    type Output = Image;

    fn run(self) -> Result<Image> {
        if self.sharpen_radius == 0 {
            return Ok(self.image);
        }
        // ComfyUI's kernel is a Gaussian times -10·alpha whose centre makes the sum 1: the image plus that much of what
        // the blur takes away.
        let strength = 10.0 * self.alpha;
        let blurred = blur(&self.image, self.sharpen_radius, self.sigma);
        let sharpened = self.image * (1.0 + strength) - blurred * strength;
        Ok(sharpened.clamp(0.0, 1.0).into())
    }
}

fn blur(image: &Image, radius: u32, sigma: f64) -> Image {
    let kernel = gaussian_kernel(radius, sigma);
    image.channels_first().separable_filter(&kernel, &kernel, PadMode::Reflect).channels_last().into()
}

/// The 2·radius + 1 weights of one axis. They sum to 1. The radius is the unit of `sigma`.
fn gaussian_kernel(radius: u32, sigma: f64) -> Vec<f32> {
    let weight = |step: i64| {
        let distance = step as f64 / f64::from(radius);
        (-distance * distance / (2.0 * sigma * sigma)).exp()
    };
    let weights: Vec<f64> = (-i64::from(radius)..=i64::from(radius)).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| (weight / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_sums_to_one_and_is_widest_in_the_middle() {
        for (radius, sigma) in [(1, 1.0), (5, 0.3), (31, 10.0)] {
            let kernel = gaussian_kernel(radius, sigma);
            assert_eq!(kernel.len(), 2 * radius as usize + 1);
            assert!((kernel.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(kernel[radius as usize] >= kernel[0]);
            assert_eq!(kernel[0], kernel[2 * radius as usize]);
        }
    }

    #[test]
    fn sigma_is_measured_in_radii() {
        let kernel = gaussian_kernel(1, 1.0);
        let edge = (-0.5f64).exp();
        assert!((f64::from(kernel[0]) - edge / (1.0 + 2.0 * edge)).abs() < 1e-6);
    }
}
