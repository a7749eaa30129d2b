//! Resizing and filters against their definitions, over random shapes, types and strides.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::*;
use vivarium_tensor::{Generator, InterpolateMode, Tensor};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn filters_correlate(
        (shape, seed, last) in ([1u64..3, 1u64..5, 3u64..9, 3u64..30], any::<u64>(), any::<bool>()),
        (rows, columns, mode) in (0usize..2, 0usize..2, 0usize..4),
    ) {
        let cx = context();
        let mode = ALL_BORDERS[mode];
        let a = image(&shape, seed, last);
        let slow = Slow::of(&a);
        let kernel_y: Vec<f32> = (0..2 * rows + 1).map(|tap| tap as f32 * 0.5 - 0.3).collect();
        let kernel_x: Vec<f32> = (0..2 * columns + 1).map(|tap| 0.7 - tap as f32 * 0.2).collect();
        let wanted = Slow::build(&slow.shape, |index| {
            let mut sum = 0.0;
            for (dy, weight_y) in kernel_y.iter().enumerate() {
                for (dx, weight_x) in kernel_x.iter().enumerate() {
                    let y = bordered(mode, (index[2] + dy) as i64 - rows as i64, slow.shape[2] as i64);
                    let x = bordered(mode, (index[3] + dx) as i64 - columns as i64, slow.shape[3] as i64);
                    if let (Some(y), Some(x)) = (y, x) {
                        sum += f64::from(*weight_y) * f64::from(*weight_x) * slow.at(&[index[0], index[1], y, x]);
                    }
                }
            }
            sum
        });
        let result = a.separable_filter(&kernel_y, &kernel_x, mode, &cx).unwrap();
        wanted.assert_close(&result, 1e-5);
        prop_assert!(!last || shape[1] == 1 || result.strides()[1] == 1, "channels-last memory is kept");
    }

    #[test]
    fn interpolation_agrees(
        (shape, seed, last) in ([1u64..3, 1u64..6, 1u64..9, 1u64..9], any::<u64>(), any::<bool>()),
        (height, width, mode) in (1u64..20, 1u64..20, 0usize..5),
    ) {
        let cx = context();
        let mode = [
            InterpolateMode::Nearest, InterpolateMode::NearestExact, InterpolateMode::Bilinear,
            InterpolateMode::Bicubic, InterpolateMode::Area,
        ][mode];
        let a = image(&shape, seed, last);
        let wanted = interpolated(&Slow::of(&a), [height, width], mode);
        let result = a.interpolate(height, width, mode, &cx).unwrap();
        // Positions are computed in single precision, as PyTorch does.
        wanted.assert_close(&result, 1e-4);
        prop_assert!(!last || shape[1] == 1 || result.strides()[1] == 1, "channels-last memory is kept");
    }
}

/// Straight from the definition, in double precision.
fn interpolated(slow: &Slow, [height, width]: [u64; 2], mode: InterpolateMode) -> Slow {
    let (rows, columns) = (taps(mode, slow.shape[2], height as usize), taps(mode, slow.shape[3], width as usize));
    Slow::build(&[slow.shape[0], slow.shape[1], height as usize, width as usize], |index| {
        let mut sum = 0.0;
        for (y, weight_y) in &rows[index[2]] {
            for (x, weight_x) in &columns[index[3]] {
                sum += weight_y * weight_x * slow.at(&[index[0], index[1], *y, *x]);
            }
        }
        sum
    })
}

/// More rows and longer ones than are resized in one go, in either order of rows and columns, read where they lie or not.
#[test]
fn large_pictures_are_interpolated() {
    let cx = context();
    for (side, turned) in [([45, 403], false), ([45, 403], true), ([19, 40], false)] {
        let picture = image(&[1, 3, side[0], side[1]], 5, true);
        let picture = if turned { picture.flip(&[3], &cx).unwrap() } else { picture };
        for mode in [InterpolateMode::Bilinear, InterpolateMode::Bicubic, InterpolateMode::Area] {
            let wanted = interpolated(&Slow::of(&picture), [37, 61], mode);
            // Positions far from the edge have fewer digits behind the point.
            wanted.assert_close(&picture.interpolate(37, 61, mode, &cx).unwrap(), 1e-3);
        }
    }
}

/// Straight from the definitions, in double precision.
fn taps(mode: InterpolateMode, from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let (n, m) = (from as f64, to as f64);
    let cut = |index: f64| index.clamp(0.0, n - 1.0) as usize;
    let cubic = |x: f64| {
        let (x, a) = (x.abs(), -0.75);
        if x <= 1.0 {
            (a + 2.0) * x * x * x - (a + 3.0) * x * x + 1.0
        } else if x < 2.0 {
            a * x * x * x - 5.0 * a * x * x + 8.0 * a * x - 4.0 * a
        } else {
            0.0
        }
    };
    (0..to)
        .map(|place| {
            let centre = (place as f64 + 0.5) * n / m - 0.5;
            match mode {
                // Where rounding decides, PyTorch's is meant.
                InterpolateMode::Nearest => {
                    vec![(((place as f32 * (from as f32 / to as f32)) as usize).min(from - 1), 1.0)]
                }
                InterpolateMode::NearestExact => {
                    vec![((((place as f32 + 0.5) * (from as f32 / to as f32)) as usize).min(from - 1), 1.0)]
                }
                InterpolateMode::Bilinear => {
                    let centre = centre.max(0.0);
                    let part = centre - centre.floor();
                    vec![(cut(centre.floor()), 1.0 - part), (cut(centre.floor() + 1.0), part)]
                }
                InterpolateMode::Bicubic => (-1..3)
                    .map(|tap| (cut(centre.floor() + f64::from(tap)), cubic(centre - centre.floor() - f64::from(tap))))
                    .collect(),
                _ => {
                    let (low, high) = (place * from / to, ((place + 1) * from).div_ceil(to));
                    (low..high).map(|index| (index, 1.0 / (high - low) as f64)).collect()
                }
            }
        })
        .collect()
}

#[test]
fn what_changes_nothing_takes_no_memory() {
    let cx = cpu_context();
    let picture = Tensor::rand(&[1, 3, 5, 7], 1, Generator::Philox, &cx).unwrap();
    let cover = Tensor::rand(&[1, 3, 5, 7], 2, Generator::Philox, &cx).unwrap();
    let before = cx.budget.used();
    for mode in [InterpolateMode::Nearest, InterpolateMode::Bilinear, InterpolateMode::Bicubic, InterpolateMode::Area] {
        let same = picture.interpolate(5, 7, mode, &cx).unwrap();
        Slow::of(&picture).assert_close(&same, 0.0);
        assert_eq!(cx.budget.used(), before, "{mode:?}");
    }
    let covered = picture.paste(&cover, &[0; 4], &cx).unwrap();
    Slow::of(&cover).assert_close(&covered, 0.0);
    assert_eq!(cx.budget.used(), before);
    // Through 8 bits, whatever the size.
    assert_ne!(
        Slow::of(&picture).values,
        Slow::of(&picture.interpolate(5, 7, InterpolateMode::Lanczos, &cx).unwrap()).values
    );
}
