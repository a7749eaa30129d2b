//! Normalisation of rows and of groups of channels.

mod statistics;

use crate::cpu::fill_rows;
use crate::cpu::simd::{ask_for, map1, map2, map3, multiversion};
use crate::{OpContext, Tensor, TensorError};
use statistics::{AHEAD, moments, statistics};
use std::ops::Range;

/// A normalisation of dense float32, whose result is dense in the same order.
pub(crate) struct Norm {
    pub(crate) op: &'static str,
    pub(crate) input: Tensor,
    /// What is multiplied after normalisation, dense float32: the elements of a row, or the channels.
    pub(crate) weight: Option<Tensor>,
    /// What is added then.
    pub(crate) bias: Option<Tensor>,
    pub(crate) eps: f64,
    pub(crate) over: Over,
}

/// What has one mean and one variance.
pub(crate) enum Over {
    /// So many elements after one another.
    Row(usize),
    /// The same, only divided by the root of the mean square.
    RootMeanSquare(usize),
    Groups(Groups),
}

/// Groups of channels.
pub(crate) struct Groups {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    /// Pixels.
    pub(crate) inner: usize,
    /// `[B, pixels, channels]` instead of `[B, channels, pixels]`.
    pub(crate) channels_last: bool,
}

impl Groups {
    /// Channels of one.
    fn size(&self) -> usize {
        self.channels / self.groups
    }
}

/// A mean, and 1 / √(variance + eps).
type Statistics = (f32, f32);

impl Norm {
    pub(crate) fn run(&self, out: &mut [f32], cx: &OpContext) -> Result<(), TensorError> {
        self.by_parts(out, cx, || (), |(), _, normalize, out| normalize(0..out.len(), out))
    }

    /// Fills `out` part by part: `work` gets what a thread works with, where the part begins, what writes a range of its normalised
    /// numbers, and its place.
    pub(crate) fn by_parts<T: Send, S>(
        &self,
        out: &mut [T],
        cx: &OpContext,
        scratch: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize, &dyn Fn(Range<usize>, &mut [f32]), &mut [T]) + Sync,
    ) -> Result<(), TensorError> {
        if out.is_empty() {
            return Ok(());
        }
        let parts = Parts::new(self, cx)?;
        fill_rows(self.op, out, parts.length, parts.cost(), cx, &|first, rows| {
            let mut scratch = scratch();
            for (index, out) in rows.chunks_exact_mut(parts.length).enumerate() {
                let part = parts.part(first + index);
                let normalize = |range: Range<usize>, out: &mut [f32]| parts.normalize(&part, range, out);
                work(&mut scratch, (first + index) * parts.length, &normalize, out);
            }
        })
    }
}

/// The input of a [`Norm`] in parts that each know what to subtract and to multiply by.
struct Parts<'a> {
    /// Elements of each.
    length: usize,
    input: &'a [f32],
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f64,
    of: Of<'a>,
}

enum Of<'a> {
    Row,
    RootMeanSquare,
    /// A group of channels, one after the other.
    Group(&'a Groups),
    /// One channel of a group whose statistics are known.
    Channel(&'a Groups, Vec<Statistics>),
    /// One pixel, its channels after one another. For each channel of each picture: mean, factor, and what is added.
    Pixel(&'a Groups, Vec<f32>, Vec<f32>, Vec<f32>),
}

/// One of the parts, and its statistics.
struct Part<'a> {
    index: usize,
    values: &'a [f32],
    mean: f32,
    scale: f32,
}

impl<'a> Parts<'a> {
    /// Computes the statistics of parts that are smaller than what has one mean. There has to be an element.
    fn new(norm: &'a Norm, cx: &OpContext) -> Result<Parts<'a>, TensorError> {
        fn floats(tensor: &Tensor) -> &[f32] {
            tensor.as_slice().unwrap_or_default()
        }
        let input = floats(&norm.input);
        let (weight, bias) = (norm.weight.as_ref().map(floats), norm.bias.as_ref().map(floats));
        let (length, of) = match &norm.over {
            Over::Row(length) => (*length, Of::Row),
            Over::RootMeanSquare(length) => (*length, Of::RootMeanSquare),
            Over::Groups(groups) if groups.channels_last => {
                let statistics = groups.channels_last(norm.op, input, norm.eps, cx)?;
                (groups.channels, Of::pixel(groups, &statistics, weight, bias))
            }
            // Every group by itself, while it is in the cache, if there are enough of them.
            Over::Groups(groups) if groups.batch * groups.groups >= rayon::current_num_threads() => {
                (groups.inner * groups.size(), Of::Group(groups))
            }
            Over::Groups(groups) => {
                let statistics = groups.channels_first(norm.op, input, norm.eps, cx)?;
                (groups.inner, Of::Channel(groups, statistics))
            }
        };
        Ok(Parts { length, input, weight, bias, eps: norm.eps, of })
    }

    /// As [`fill_rows`] wants it.
    fn cost(&self) -> usize {
        if matches!(self.of, Of::Group(_)) { 4 } else { 2 }
    }

    fn part(&self, index: usize) -> Part<'a> {
        let values = &self.input[index * self.length..][..self.length];
        let (mean, scale) = match &self.of {
            Of::Row | Of::Group(_) => statistics(values, self.eps),
            Of::RootMeanSquare => {
                let square = moments(values, 0.0).1 / self.length as f64;
                (0.0, (1.0 / (square + self.eps).sqrt()) as f32)
            }
            Of::Channel(groups, statistics) => statistics[index / groups.size()],
            Of::Pixel(..) => (0.0, 1.0),
        };
        Part { index, values, mean, scale }
    }

    /// The numbers of a range of the part.
    fn normalize(&self, part: &Part<'_>, range: Range<usize>, out: &mut [f32]) {
        match &self.of {
            Of::Row | Of::RootMeanSquare => self.row(part, range, out),
            Of::Group(groups) => self.group(groups, part, range, out),
            Of::Channel(groups, _) => self.channel(part, part.index % groups.channels, &part.values[range], out),
            Of::Pixel(groups, means, scales, summands) => {
                let at = part.index / groups.inner * groups.channels + range.start;
                let (means, scales, summands) = (&means[at..], &scales[at..], &summands[at..]);
                pixel(&part.values[range], means, scales, summands, out);
            }
        }
    }

    fn row(&self, part: &Part<'_>, range: Range<usize>, out: &mut [f32]) {
        let (mean, scale) = (part.mean, part.scale);
        let values = &part.values[range.clone()];
        let of = |parameters: Option<&'a [f32]>| parameters.map(|parameters| &parameters[range.clone()]);
        match (of(self.weight), of(self.bias)) {
            (None, None) => map1(values, out, move |v: f32| (v - mean) * scale),
            (Some(weight), None) => map2(values, weight, out, move |v: f32, w: f32| (v - mean) * scale * w),
            (None, Some(bias)) => map2(values, bias, out, move |v: f32, b: f32| (v - mean) * scale + b),
            (Some(weight), Some(bias)) => {
                map3(values, weight, bias, out, move |v: f32, w: f32, b: f32| (v - mean) * scale * w + b);
            }
        }
    }

    /// A range may begin and end within channels.
    fn group(&self, groups: &Groups, part: &Part<'_>, range: Range<usize>, out: &mut [f32]) {
        let first = part.index % groups.groups * groups.size();
        let mut out = out;
        let mut at = range.start;
        while at < range.end {
            let channel = at / groups.inner;
            let end = range.end.min((channel + 1) * groups.inner);
            let (piece, rest) = std::mem::take(&mut out).split_at_mut(end - at);
            self.channel(part, first + channel, &part.values[at..end], piece);
            (out, at) = (rest, end);
        }
    }

    fn channel(&self, part: &Part<'_>, channel: usize, values: &[f32], out: &mut [f32]) {
        let scale = part.scale * self.weight.map_or(1.0, |weight| weight[channel]);
        let (mean, bias) = (part.mean, self.bias.map_or(0.0, |bias| bias[channel]));
        map1(values, out, move |v: f32| (v - mean) * scale + bias);
    }
}

impl<'a> Of<'a> {
    fn pixel(groups: &'a Groups, of: &[Statistics], weight: Option<&[f32]>, bias: Option<&[f32]>) -> Of<'a> {
        let (mut means, mut scales, mut summands) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (mean, scale)) in of.iter().enumerate() {
            let first = index % groups.groups * groups.size();
            for channel in first..first + groups.size() {
                means.push(*mean);
                scales.push(scale * weight.map_or(1.0, |weight| weight[channel]));
                summands.push(bias.map_or(0.0, |bias| bias[channel]));
            }
        }
        Of::Pixel(groups, means, scales, summands)
    }
}

multiversion! {
    fn pixel<>(values: &[f32], means: &[f32], scales: &[f32], summands: &[f32], out: &mut [f32]) where {} {
        ask_for(values.as_ptr().wrapping_add(AHEAD), values.len());
        for ((((out, value), mean), scale), summand) in out.iter_mut().zip(values).zip(means).zip(scales).zip(summands) {
            *out = (value - mean) * scale + summand;
        }
    }
}
