//! How long the layers of diffusion models take, at the sizes of Stable Diffusion 1.5. Run with `--release`.
//! `tests/pytorch/timings.py` prints the same lines for PyTorch.
#![allow(clippy::unwrap_used)]

use std::time::Instant;
use vivarium_tensor::{Budget, ConvGeometry, DType, Generator, OpContext, Tensor, TensorError, UnaryOp};

const RUNS: usize = 7;

fn main() -> Result<(), TensorError> {
    let threads = std::env::args().nth(1).and_then(|threads| threads.parse().ok()).unwrap_or(2);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let cx = &OpContext::new(Budget::root(8 << 30));
    let noise = |shape: &[u64]| Tensor::randn(shape, 1, Generator::Philox, cx).unwrap();
    let (a, b) = (noise(&[1024, 1024]), noise(&[1024, 1024]));
    time("matmul 1024³", &|| a.matmul(&b, cx));
    let (x, w, bias) = (noise(&[4096, 320]), noise(&[1280, 320]), noise(&[1280]));
    time("linear 4096×320→1280", &|| x.linear(&w, Some(&bias), cx));
    let (half_x, half_w) = (x.cast(DType::Float16, cx)?, w.cast(DType::Float16, cx)?);
    time("linear 4096×320→1280 f16", &|| half_x.linear(&half_w, None, cx));
    let (x, w) = (noise(&[77, 768]), noise(&[768, 768]));
    time("matmul 77×768×768", &|| x.matmul(&w, cx));
    let padded = ConvGeometry { padding: [1, 1], ..ConvGeometry::default() };
    for (name, channels, side, window, geometry) in [
        ("conv3×3 320→320 at 64²", 320, 64, 3, padded),
        ("conv3×3 320→320 at 64² stride 2", 320, 64, 3, ConvGeometry { stride: [2, 2], ..padded }),
        ("conv1×1 320→320 at 64²", 320, 64, 1, ConvGeometry::default()),
        ("conv3×3 1280→1280 at 16²", 1280, 16, 3, padded),
        ("conv3×3 128→128 at 256²", 128, 256, 3, padded),
    ] {
        let (x, w) = (noise(&[1, channels, side, side]), noise(&[channels, channels, window, window]));
        let bias = noise(&[channels]);
        let last = x.permute(&[0, 2, 3, 1], cx)?.contiguous(cx)?.permute(&[0, 3, 1, 2], cx)?;
        time(name, &|| x.conv2d(&w, Some(&bias), &geometry, cx));
        time(&format!("{name} channels last"), &|| last.conv2d(&w, Some(&bias), &geometry, cx));
    }
    let (x, w, bias) = (noise(&[1, 320, 64, 64]), noise(&[320]), noise(&[320]));
    let last = x.permute(&[0, 2, 3, 1], cx)?.contiguous(cx)?.permute(&[0, 3, 1, 2], cx)?;
    time("group_norm 320×64²", &|| x.group_norm(32, Some(&w), Some(&bias), 1e-5, cx));
    time("group_norm 320×64² channels last", &|| last.group_norm(32, Some(&w), Some(&bias), 1e-5, cx));
    time("silu 320×64²", &|| x.unary(UnaryOp::Silu, cx));
    let x = noise(&[4096, 320]);
    time("layer_norm 4096×320", &|| x.layer_norm(1, Some(&w), Some(&bias), 1e-5, cx));
    let x = noise(&[8, 1024, 1024]);
    time("softmax 8×1024×1024", &|| x.softmax(-1, cx));
    let [q, k, v] = [1, 2, 3].map(|seed| Tensor::randn(&[1, 8, 4096, 40], seed, Generator::Philox, cx).unwrap());
    time("attention 8×4096×40", &|| q.scaled_dot_product_attention(&k, &v, None, false, None, cx));
    let (k, v) = (noise(&[1, 8, 77, 40]), noise(&[1, 8, 77, 40]));
    time("attention 8×4096×77×40", &|| q.scaled_dot_product_attention(&k, &v, None, false, None, cx));
    time("randn 4×128²", &|| Tensor::randn(&[1, 4, 128, 128], 1, Generator::Pytorch, cx));
    let x = noise(&[64, 8192]);
    time("sort 64×8192", &|| x.sort(-1, false, cx).map(|sorted| sorted.0));
    time("cumsum 64×8192", &|| x.cumsum(-1, cx));
    Ok(())
}

fn time(name: &str, work: &dyn Fn() -> Result<Tensor, TensorError>) {
    let mut taken: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work().unwrap();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    println!("{name:45} {:9.2} ms, best {:9.2}", taken[RUNS / 2], taken[0]);
}
