//! The least time that layers of SD 1.5 can take with the CUDA back end's kernels, from the bytes they move and the
//! operations they do: something to compare a first real run with. Prints the lines of a table for docs/cuda.md.
#![allow(missing_docs)]

/// A GPU's peaks, from NVIDIA's data sheets.
struct Peak {
    /// Bytes per second.
    memory: f64,
    /// Operations per second in float32, without tensor cores.
    float32: f64,
    /// Operations per second of float16 with sums in float32, on tensor cores, dense.
    tensor: f64,
}

const RTX_4090: Peak = Peak { memory: 1.008e12, float32: 82.6e12, tensor: 165.2e12 };
const H200: Peak = Peak { memory: 4.8e12, float32: 66.9e12, tensor: 989.4e12 };

struct Layer {
    name: &'static str,
    bytes: f64,
    operations: f64,
    /// Whether tensor cores do it.
    products: bool,
}

const HALF: f64 = 2.0;

fn layers() -> Vec<Layer> {
    // Two images at once, with and without the prompt, as guidance needs; latents of 64×64; values in float16.
    let batch = 2.0;
    let convolution = |name, from: f64, to: f64, side: f64, images: f64| {
        let pixels = images * side * side;
        // The weight is read, written in another order, and read again.
        let bytes = HALF * (pixels * (from + to) + 3.0 * 9.0 * from * to);
        Layer { name, bytes, operations: 2.0 * 9.0 * pixels * from * to, products: true }
    };
    let attention = |name, queries: f64, keys: f64, width: f64| {
        let heads = batch * 8.0;
        let bytes = HALF * heads * width * 2.0 * (queries + keys);
        Layer { name, bytes, operations: 4.0 * heads * queries * keys * width, products: true }
    };
    let elements = batch * 320.0 * 64.0 * 64.0;
    let (rows, from, to) = (batch * 4096.0, 320.0, 2560.0);
    let up = batch * 1280.0 * 16.0 * 16.0;
    vec![
        Layer {
            name: "silu, 2×320×64²", bytes: 2.0 * HALF * elements, operations: 10.0 * elements, products: false
        },
        Layer {
            name: "group norm, 2×320×64²",
            bytes: 2.0 * HALF * elements,
            operations: 8.0 * elements,
            products: false,
        },
        Layer {
            name: "layer norm, 8192×320",
            bytes: 2.0 * HALF * elements,
            operations: 8.0 * elements,
            products: false,
        },
        convolution("convolution 3×3, 2×320→320, 64²", 320.0, 320.0, 64.0, batch),
        convolution("convolution 3×3, 2×1280→1280, 16²", 1280.0, 1280.0, 16.0, batch),
        convolution("convolution 3×3 of the VAE, 128→128, 512²", 128.0, 128.0, 512.0, 1.0),
        Layer {
            name: "linear, 8192×320→2560",
            bytes: HALF * (rows * (from + to) + from * to),
            operations: 2.0 * rows * from * to,
            products: true,
        },
        attention("attention, 2×8 heads, 4096×4096×40", 4096.0, 4096.0, 40.0),
        attention("attention, 2×8 heads, 4096×77×40", 4096.0, 77.0, 40.0),
        // For each of four slices of the values, the scores once more.
        Layer {
            name: "attention of the VAE, 4096×4096×512",
            bytes: HALF * 4.0 * 4096.0 * 512.0,
            operations: 2.0 * 4096.0 * 4096.0 * 512.0 * 5.0,
            products: true,
        },
        // Along rows, across them, and back to float16; what lies between is float32.
        Layer {
            name: "nearest-exact 2×, 2×1280×16²→32²",
            bytes: up * (HALF + 2.0 * 4.0) + up * (2.0 * 4.0 + 4.0 * 4.0) + up * 4.0 * (4.0 + HALF),
            operations: up * 6.0,
            products: false,
        },
    ]
}

fn main() {
    for layer in layers() {
        let times = [RTX_4090, H200].map(|peak| {
            let memory = layer.bytes / peak.memory;
            let single = memory.max(layer.operations / peak.float32);
            let ours = if layer.products { memory.max(layer.operations / peak.tensor) } else { single };
            let bound = if ours > memory { "arithmetic" } else { "memory" };
            let without = if layer.products { format!("{:.0}", single * 1e6) } else { "–".to_owned() };
            format!("{:.0} ({bound}) | {without}", ours * 1e6)
        });
        let (megabytes, operations) = (layer.bytes / 1e6, layer.operations / 1e9);
        println!("| {} | {megabytes:.1} | {operations:.1} | {} | {} |", layer.name, times[0], times[1]);
    }
}
