//! Resizing by `fast_image_resize` and `pic-scale`.
//!
//! Both know filters with antialiasing, and mean by them what Pillow means. `fast_image_resize` also has them without
//! (`Interpolation`), and takes filters of one's own, such as PyTorch's cubic; `pic-scale` does neither.

use std::sync::Arc;

use anyhow::Result;
use bytemuck::Pod;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32x3, U8x3};
use fast_image_resize::{Filter, FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use pic_scale::{ImageSize, ImageStore, ImageStoreMut, Resampling, ResamplingFunction, Scaler, ThreadingPolicy};

use crate::THREADS;
use crate::case::{Case, Kind};
use crate::side::Side;

/// What both have of the case.
pub(crate) fn sides(case: &Case) -> Result<Vec<Side<'_>>> {
    let (Kind::Bilinear { from, to } | Kind::Bicubic { from, to } | Kind::Lanczos { from, to }) = case.kind else {
        return Ok(Vec::new());
    };
    let sides = Sides { from, to, source: case.input(0) };
    match case.kind {
        // Not pic-scale: it reads one pixel too few wherever the window begins between pixels (`generate_weights` of 0.7.12
        // cuts it to twice its radius), which a window of two shows: 0.294 came out instead of 0.349.
        Kind::Bilinear { .. } => {
            let algorithm = ResizeAlg::Interpolation(FilterType::Bilinear);
            Ok(vec![sides.fast_image_resize("fast_image_resize", algorithm)])
        }
        Kind::Bicubic { .. } => {
            let filter = FilterType::Custom(Filter::new("PyTorch's cubic", cubic, 2.0)?);
            Ok(vec![sides.fast_image_resize("fast_image_resize", ResizeAlg::Interpolation(filter))])
        }
        _ => {
            let algorithm = ResizeAlg::Convolution(FilterType::Lanczos3);
            Ok(vec![
                sides.fast_image_resize("fast_image_resize, float32", algorithm),
                sides.fast_image_resize_bytes("fast_image_resize, 8 bits", algorithm),
                sides.pic_scale("pic-scale, float32", ResamplingFunction::Lanczos3)?,
                sides.pic_scale_bytes("pic-scale, 8 bits", ResamplingFunction::Lanczos3)?,
            ])
        }
    }
}

/// PyTorch's constant is -3/4; that of Catmull and Rom, which libraries have, is -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.75;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// A square picture of three interleaved channels, and the side of what it becomes.
#[derive(Clone, Copy)]
struct Sides<'a> {
    from: usize,
    to: usize,
    source: &'a [f32],
}

impl<'a> Sides<'a> {
    fn fast_image_resize(self, name: &'static str, algorithm: ResizeAlg) -> Side<'a> {
        let work = self.by_fast_image_resize::<F32x3, f32>(self.source.to_vec(), algorithm);
        Side::filling(name, self.result_elements(), work, |value| value)
    }

    fn fast_image_resize_bytes(self, name: &'static str, algorithm: ResizeAlg) -> Side<'a> {
        let work = self.by_fast_image_resize::<U8x3, u8>(self.bytes(), algorithm);
        Side::filling(name, self.result_elements(), work, from_byte)
    }

    fn pic_scale(self, name: &'static str, filter: ResamplingFunction) -> Result<Side<'a>> {
        let plan = scaler(filter).plan_rgb_resampling_f32(square(self.from), square(self.to))?;
        let work = self.by_pic_scale(self.source.to_vec(), plan);
        Ok(Side::filling(name, self.result_elements(), work, |value| value))
    }

    fn pic_scale_bytes(self, name: &'static str, filter: ResamplingFunction) -> Result<Side<'a>> {
        let plan = scaler(filter).plan_rgb_resampling(square(self.from), square(self.to))?;
        let work = self.by_pic_scale(self.bytes(), plan);
        Ok(Side::filling(name, self.result_elements(), work, from_byte))
    }

    /// Of three `T` to a pixel `P`. (For pixels of a type known at run time, the library compiles all that it has.)
    fn by_fast_image_resize<P: PixelTrait, T: Pod>(
        self,
        source: Vec<T>,
        algorithm: ResizeAlg,
    ) -> impl FnMut(&mut [T]) -> Result<()> {
        let (mut resizer, options) = (Resizer::new(), ResizeOptions::new().resize_alg(algorithm));
        let (from, to) = (self.from as u32, self.to as u32);
        move |result| {
            let source = TypedImageRef::<P>::from_buffer(from, from, bytemuck::cast_slice(&source))?;
            let mut result = TypedImage::<P>::from_buffer(to, to, bytemuck::cast_slice_mut(result))?;
            Ok(resizer.resize_typed(&source, &mut result, &options)?)
        }
    }

    fn by_pic_scale<T: Pod + std::fmt::Debug>(
        self,
        source: Vec<T>,
        plan: Arc<Resampling<T, 3>>,
    ) -> impl FnMut(&mut [T]) -> Result<()> {
        move |result| {
            let source = ImageStore::<T, 3>::from_slice(&source, self.from, self.from)?;
            let mut result = ImageStoreMut::<T, 3>::from_slice(result, self.to, self.to)?;
            Ok(plan.resample(&source, &mut result)?)
        }
    }

    fn result_elements(self) -> usize {
        self.to * self.to * 3
    }

    fn bytes(self) -> Vec<u8> {
        self.source.iter().map(|number| (number * 255.0).round() as u8).collect()
    }
}

fn scaler(filter: ResamplingFunction) -> Scaler {
    Scaler::new(filter).set_threading_policy(ThreadingPolicy::Fixed(THREADS))
}

fn square(side: usize) -> ImageSize {
    ImageSize::new(side, side)
}

fn from_byte(value: u8) -> f32 {
    f32::from(value) / 255.0
}
