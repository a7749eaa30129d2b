//! More tensor operations: statistics, volumes, pictures.

use vivarium_node::prelude::*;
use vivarium_node::tensor::{ConvGeometry, PadMode, SampleBorder, SampleMode, VolumeGeometry};

use crate::tensors::{Checks, counted};

pub(crate) fn statistics(checks: &mut Checks) -> Result<()> {
    let line = counted(&[4]) + 1.0;
    checks.same("eye", &Tensor::eye(2, 3, Dtype::Float32), &[2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])?;
    checks.same("cumprod", &line.cumprod(0), &[4], &[1.0, 2.0, 6.0, 24.0])?;
    checks.same("median", &line.median(0, false), &[], &[2.0])?;
    checks.same("quantile", &line.quantile(0.5, 0, true), &[1], &[2.5])?;
    checks.same("norm", &Tensor::from_f32([2], &[3.0, 4.0]).norm(2.0, [0], false), &[], &[5.0])?;
    checks.same("histogram", &line.histogram(2, 1.0, 4.0), &[2], &[2.0, 2.0])?;
    let wide = line.reshape([1, 1, 4]);
    let pair = Tensor::from_f32([1, 1, 2], &[1.0, -1.0]);
    checks.same("conv1d", &wide.conv1d(&pair, None, (2, 0, 1), 1), &[1, 1, 2], &[-1.0, -1.0])?;
    let grown = wide.slice(2, 0, 2).conv_transpose1d(&pair, None, (2, 0, 1), 1, 0);
    checks.same("conv-transpose1d", &grown, &[1, 1, 4], &[1.0, -1.0, 2.0, -2.0])?;
    let (mean, variance) = (Tensor::from_f32([1], &[1.0]), Tensor::from_f32([1], &[4.0]));
    let normal = wide.batch_norm(&mean, &variance, None, None, 0.0);
    checks.same("batch-norm", &normal, &[1, 1, 4], &[0.0, 0.5, 1.0, 1.5])?;
    let two = Tensor::from_f32([1, 1, 2], &[1.0, 3.0]);
    checks.same("instance-norm", &two.instance_norm(None, None, 0.0), &[1, 1, 2], &[-1.0, 1.0])
}

pub(crate) fn volumes(checks: &mut Checks) -> Result<()> {
    let cube = counted(&[1, 1, 2, 2, 2]);
    let ones = Tensor::full([1, 1, 2, 2, 2], 1.0, Dtype::Float32);
    checks.same("conv3d", &cube.conv3d(&ones, None, VolumeGeometry::default()), &[1, 1, 1, 1, 1], &[28.0])?;
    let one = Tensor::full([1, 1, 1, 1, 1], 3.0, Dtype::Float32);
    let grown = one.conv_transpose3d(&ones, None, VolumeGeometry::default(), (0, 0, 0));
    checks.same("conv-transpose3d", &grown, &[1, 1, 2, 2, 2], &[3.0; 8])?;
    let image = counted(&[1, 1, 2, 3]);
    let columns = image.unfold((2, 2), ConvGeometry::default());
    checks.same("unfold", &columns, &[1, 4, 2], &[0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 5.0])?;
    let folded = columns.fold((2, 3), (2, 2), ConvGeometry::default());
    checks.same("fold", &folded, &[1, 1, 2, 3], &[0.0, 2.0, 2.0, 3.0, 8.0, 5.0])?;
    checks.same("adaptive-avg-pool2d", &image.adaptive_avg_pool2d(1, 3), &[1, 1, 1, 3], &[1.5, 2.5, 3.5])?;
    let (pairs, zero) = (Tensor::from_f32([1, 4], &[1.0, 2.0, 3.0, 4.0]), Tensor::zeros([2], Dtype::Float32));
    let quarter = Tensor::full([2], 1.0, Dtype::Float32);
    checks.same("rope", &pairs.rope(&zero, &quarter, true), &[1, 4], &[-2.0, 1.0, -4.0, 3.0])?;
    checks.same("rope in halves", &pairs.rope(&zero, &quarter, false), &[1, 4], &[-3.0, -4.0, 1.0, 2.0])
}

pub(crate) fn filters(checks: &mut Checks) -> Result<()> {
    let image = counted(&[1, 1, 2, 3]);
    let mirrored = Tensor::from_f32([1, 2, 3], &[-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]).affine_grid(2, 3, false);
    let seen = image.grid_sample(&mirrored, SampleMode::Bilinear, SampleBorder::Zeros, false);
    checks.same("grid-sample", &seen, &[1, 1, 2, 3], &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0])?;
    let row = Tensor::full([1, 3], 1.0, Dtype::Boolean);
    checks.same("dilate", &image.dilate(&row), &[1, 1, 2, 3], &[1.0, 2.0, 2.0, 4.0, 5.0, 5.0])?;
    checks.same("erode", &image.erode(&row), &[1, 1, 2, 3], &[0.0, 0.0, 1.0, 3.0, 3.0, 4.0])?;
    let calm = image.median_filter((1, 3), PadMode::Replicate);
    checks.same("median-filter", &calm, &[1, 1, 2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?;
    let far = image.reshape([2, 3]).distance_transform();
    checks.same("distance-transform", &far, &[2, 3], &[0.0, 1.0, 2.0, 1.0, std::f32::consts::SQRT_2, 2.236_068])?;
    let flat = Tensor::zeros([1, 3, 4, 4], Dtype::Float32);
    checks.same("canny", &flat.canny(0.1, 0.2), &[1, 1, 4, 4], &[0.0; 16])?;
    let line = Tensor::from_f32([2], &[1.0, 3.0]);
    let complex = Tensor::stack(&[&line, &Tensor::zeros([2], Dtype::Float32)], -1);
    checks.same("fft", &complex.fft([0]), &[2, 2], &[4.0, 0.0, -2.0, 0.0])?;
    checks.same("ifft", &complex.fft([0]).ifft([0]), &[2, 2], &[1.0, 0.0, 3.0, 0.0])
}

pub(crate) fn colors(checks: &mut Checks) -> Result<()> {
    let white = Tensor::full([1, 3], 1.0, Dtype::Float32);
    let round = |tensor: Tensor| tensor.round().abs();
    checks.same("rgb-to-lab", &round(white.rgb_to_lab()), &[1, 3], &[100.0, 0.0, 0.0])?;
    checks.same("lab-to-rgb", &round(white.rgb_to_lab().lab_to_rgb()), &[1, 3], &[1.0; 3])?;
    checks.same("rgb-to-ycbcr", &white.rgb_to_ycbcr(), &[1, 3], &[1.0, 0.5, 0.5])?;
    checks.same("ycbcr-to-rgb", &white.rgb_to_ycbcr().ycbcr_to_rgb(), &[1, 3], &[1.0; 3])
}
