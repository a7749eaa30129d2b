//! What pictures need beyond resizing and blurring: other places, colours and frequencies, shapes, edges.

use super::{MorphologyOp, PadMode, Raw, SampleBorder, SampleMode, Tensor};

/// Other places.
impl Tensor {
    /// Pixels of `[B,C,H,W]` at the places of `grid`, `[B,h,w,2]`: x and y, from -1 to 1. With `align_corners` these are the
    /// centres of the outermost pixels, else the borders.
    #[must_use]
    pub fn grid_sample(&self, grid: &Tensor, mode: SampleMode, border: SampleBorder, align_corners: bool) -> Self {
        self.with(|| grid.raw(), |raw, grid| raw.grid_sample(grid, mode, border, align_corners))
    }

    /// Matrices `[B,2,3]` to the grid of [`Tensor::grid_sample`] that they stand for: `[B,height,width,2]`.
    #[must_use]
    pub fn affine_grid(&self, height: u64, width: u64, align_corners: bool) -> Self {
        self.then(|raw| raw.affine_grid(height, width, align_corners))
    }
}

/// Filters that order what lies around a pixel, over `[B,C,H,W]`.
impl Tensor {
    /// The largest pixel where `footprint` (boolean, `[h,w]`, its middle on the pixel) is true: bright parts grow.
    #[must_use]
    pub fn dilate(&self, footprint: &Tensor) -> Self {
        self.with(|| footprint.raw(), |raw, footprint| raw.morphology(MorphologyOp::Dilate, footprint))
    }

    /// The smallest pixel where `footprint` is true: bright parts shrink.
    #[must_use]
    pub fn erode(&self, footprint: &Tensor) -> Self {
        self.with(|| footprint.raw(), |raw, footprint| raw.morphology(MorphologyOp::Erode, footprint))
    }

    /// The middle one of the pixels in a window of odd height and width (up to 255).
    #[must_use]
    pub fn median_filter(&self, window: (u64, u64), border: PadMode) -> Self {
        self.then(|raw| raw.median_filter(window, border))
    }

    /// For each element of `[…,H,W]`, how far the nearest zero is; float32, infinity where there is none.
    #[must_use]
    pub fn distance_transform(&self) -> Self {
        self.then(Raw::distance_transform)
    }

    /// The edges of `[B,1,H,W]`, or of the brightness of `[B,3,H,W]`, as 1 and 0: gradients above `high`, and those above
    /// `low` that are connected to such.
    #[must_use]
    pub fn canny(&self, low: f64, high: f64) -> Self {
        self.then(|raw| raw.canny(low, high))
    }
}

/// Counts and frequencies.
impl Tensor {
    /// How many of each row `[…,N]` fall into each of `bins` even parts of `min` to `max`, both included: `[…,bins]`, int64.
    #[must_use]
    pub fn histogram(&self, bins: u64, min: f64, max: f64) -> Self {
        self.then(|raw| raw.histogram(bins, min, max))
    }

    /// The Fourier transform along `dims` of complex numbers `[…,2]`: real and imaginary part. Float32. [`Tensor::stack`]
    /// with zeros makes complex numbers of real ones.
    #[must_use]
    pub fn fft(&self, dims: impl AsRef<[i32]>) -> Self {
        self.then(|raw| raw.fft(dims.as_ref(), false))
    }

    /// The reverse of [`Tensor::fft`], divided by the number of elements.
    #[must_use]
    pub fn ifft(&self, dims: impl AsRef<[i32]>) -> Self {
        self.then(|raw| raw.fft(dims.as_ref(), true))
    }
}

/// Colours; the last dimension has three channels.
impl Tensor {
    /// Red, green, blue to hue, saturation, value, all in 0..1.
    #[must_use]
    pub fn rgb_to_hsv(&self) -> Self {
        self.then(Raw::rgb_to_hsv)
    }

    /// Hue, saturation, value to red, green, blue.
    #[must_use]
    pub fn hsv_to_rgb(&self) -> Self {
        self.then(Raw::hsv_to_rgb)
    }

    /// sRGB in 0..1 to CIE L*a*b* (D65): 0..100, and around 0.
    #[must_use]
    pub fn rgb_to_lab(&self) -> Self {
        self.then(Raw::rgb_to_lab)
    }

    /// The reverse of [`Tensor::rgb_to_lab`], cut to 0..1.
    #[must_use]
    pub fn lab_to_rgb(&self) -> Self {
        self.then(Raw::lab_to_rgb)
    }

    /// Red, green, blue to brightness and the differences of blue and red to it, all in 0..1 as in JPEG.
    #[must_use]
    pub fn rgb_to_ycbcr(&self) -> Self {
        self.then(Raw::rgb_to_ycbcr)
    }

    /// The reverse of [`Tensor::rgb_to_ycbcr`].
    #[must_use]
    pub fn ycbcr_to_rgb(&self) -> Self {
        self.then(Raw::ycbcr_to_rgb)
    }
}
