//! Looking up pixels between pixels.

use crate::cpu::fill_rows;
use crate::ops::{SampleBorder, SampleMode};
use crate::{OpContext, TensorError};

/// Dense pixels `[B,H,W,C]`, and how they are looked up.
pub(crate) struct Picture<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) mode: SampleMode,
    pub(crate) border: SampleBorder,
    pub(crate) align_corners: bool,
}

/// Fills `out`, `[B,h,w,C]`; `places` is `[B,h,w,2]`, and `size` its h and w.
pub(crate) fn grid(
    op: &'static str,
    picture: &Picture<'_>,
    places: &[f32],
    size: (usize, usize),
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let channels = picture.channels;
    let (each, all) = (picture.height * picture.width * channels, size.0 * size.1);
    let cost = if picture.mode == SampleMode::Bicubic { 16 } else { 4 };
    fill_rows(op, out, channels, cost, cx, &|first, pixels| {
        for (index, out) in pixels.chunks_exact_mut(channels).enumerate() {
            let pixel = first + index;
            let values = &picture.values[pixel / all * each..][..each];
            picture.sample(values, places[pixel * 2], places[pixel * 2 + 1], out);
        }
    })
}

impl Picture<'_> {
    fn sample(&self, values: &[f32], x: f32, y: f32, out: &mut [f32]) {
        out.fill(0.0);
        let (x, y) = (self.pixels(x, self.width), self.pixels(y, self.height));
        match self.mode {
            SampleMode::Nearest => {
                let (x, y) = (self.inside(x, self.width), self.inside(y, self.height));
                self.add(values, x.round_ties_even(), y.round_ties_even(), 1.0, out);
            }
            SampleMode::Bilinear => {
                let (x, y) = (self.inside(x, self.width), self.inside(y, self.height));
                let (left, top) = (x.floor(), y.floor());
                let (right, below) = (x - left, y - top);
                for (step_y, part_y) in [(0.0, 1.0 - below), (1.0, below)] {
                    for (step_x, part_x) in [(0.0, 1.0 - right), (1.0, right)] {
                        self.add(values, left + step_x, top + step_y, part_x * part_y, out);
                    }
                }
            }
            SampleMode::Bicubic => {
                let (left, top) = (x.floor(), y.floor());
                let (parts_x, parts_y) = (cubic(x - left), cubic(y - top));
                for (step_y, part_y) in (-1i8..).zip(parts_y) {
                    let y = self.inside(top + f32::from(step_y), self.height);
                    for (step_x, part_x) in (-1i8..).zip(parts_x) {
                        let x = self.inside(left + f32::from(step_x), self.width);
                        self.add(values, x, y, part_x * part_y, out);
                    }
                }
            }
        }
    }

    /// From −1…1 to pixels.
    fn pixels(&self, place: f32, length: usize) -> f32 {
        let length = length as f32;
        if self.align_corners { (place + 1.0) / 2.0 * (length - 1.0) } else { ((place + 1.0) * length - 1.0) / 2.0 }
    }

    /// The place where a place beyond the border is looked up.
    fn inside(&self, place: f32, length: usize) -> f32 {
        let last = length as f32 - 1.0;
        match self.border {
            SampleBorder::Zeros => place,
            SampleBorder::Border => limited(place, last),
            SampleBorder::Reflection if self.align_corners => limited(reflected(place, 0.0, last), last),
            SampleBorder::Reflection => limited(reflected(place, -0.5, last + 0.5), last),
        }
    }

    /// Adds a part of one pixel, if there is one. Not-a-number is nowhere.
    fn add(&self, values: &[f32], x: f32, y: f32, part: f32, out: &mut [f32]) {
        if !(x >= 0.0 && y >= 0.0 && x < self.width as f32 && y < self.height as f32) {
            return;
        }
        let from = (y as usize * self.width + x as usize) * self.channels;
        for (out, value) in out.iter_mut().zip(&values[from..from + self.channels]) {
            *out += value * part;
        }
    }
}

/// 0 to `last`; `max` and `min` send not-a-number to 0.
fn limited(place: f32, last: f32) -> f32 {
    place.max(0.0).min(last)
}

fn reflected(place: f32, low: f32, high: f32) -> f32 {
    let span = high - low;
    if span == 0.0 {
        return 0.0;
    }
    let distance = (place - low).abs();
    let (rest, flips) = (distance % span, (distance / span).floor());
    if flips % 2.0 == 0.0 { low + rest } else { high - rest }
}

/// The parts that four neighbours have in a place that is `t` behind the second.
fn cubic(t: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Fills `out`, `[B,height,width,2]`, from matrices `[B,2,3]`.
pub(crate) fn affine(
    op: &'static str,
    matrices: &[f32],
    (height, width): (usize, usize),
    align_corners: bool,
    out: &mut [f32],
    cx: &OpContext,
) -> Result<(), TensorError> {
    let place = |index: usize, length: usize| {
        let length = length as f32;
        let steps = if align_corners { (length - 1.0).max(1.0) } else { length };
        let offset = if align_corners { f32::from(u8::from(length > 1.0)) } else { 1.0 - 1.0 / length };
        2.0 * index as f32 / steps - offset
    };
    fill_rows(op, out, 2, 4, cx, &|first, pixels| {
        for (index, out) in pixels.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let pixel = first + index;
            let (x, y) = (place(pixel % width, width), place(pixel / width % height, height));
            let matrix = &matrices[pixel / width / height * 6..][..6];
            *out = [0, 3].map(|row| matrix[row] * x + matrix[row + 1] * y + matrix[row + 2]);
        }
    })
}
