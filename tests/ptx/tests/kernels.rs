//! Kernels in CUDA C, compiled by NVRTC as the server does, and executed here. Each file in `broken/` holds one mistake
//! and names what has to be reported; those in `sound/` hold none. Without NVRTC (`cargo xtask cuda test` fetches it) there
//! is nothing to execute, and the test says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use parking_lot::Mutex;
use std::path::Path;
use vivarium_ptx::memory::Place;
use vivarium_ptx::{Fault, Launch, Memory, Module};

const ELEMENTS: usize = 150;
/// The job that launches, and another.
const OWN: u64 = 1;
const OTHER: u64 = 2;

fn compiler_is_missing() -> bool {
    #[allow(unsafe_code)]
    // SAFETY: loads a library of the system.
    let present = unsafe { cudarc::nvrtc::sys::is_culib_present() };
    if !present {
        eprintln!("no libnvrtc: nothing was executed; `cargo xtask cuda test` fetches it");
    }
    !present
}

fn write(memory: &Memory, address: u64, values: &[f32]) {
    let Place::Live(allocation, at) = memory.find(address) else { panic!("no buffer at {address:#x}") };
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    allocation.lock().write(at, &bytes);
}

fn read(memory: &Memory, address: u64) -> Vec<f32> {
    let Place::Live(allocation, at) = memory.find(address) else { panic!("no buffer at {address:#x}") };
    let allocation = allocation.lock();
    assert_eq!(allocation.unwritten(at, ELEMENTS * 4), None, "not everything was written");
    allocation.data[at..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Runs a file's kernel over 3 blocks of 64 threads; `in` belongs to another job, `out` is fresh.
fn execute(source: &str, architecture: &'static str) -> Result<(Vec<f32>, Vec<f32>), Fault> {
    let memory = Mutex::new(Memory::default());
    let values: Vec<f32> = (0..ELEMENTS).map(|index| index as f32 / 16.0 - 4.0).collect();
    let (input, output, foreign, freed) = {
        let mut memory = memory.lock();
        let input = memory.allocate(ELEMENTS * 4, OTHER);
        let output = memory.allocate(ELEMENTS * 4, OWN);
        let (foreign, freed) = (memory.allocate(64, OTHER), memory.allocate(64, OWN));
        write(&memory, input, &values);
        write(&memory, foreign, &[1.0; 16]);
        assert_eq!(memory.free(freed), Some(64));
        (input, output, foreign, freed)
    };
    let elements_to = |address: u64| (address - input) / 4;
    let defines = format!("#define FOREIGN {}\n#define FREED {}\n", elements_to(foreign), elements_to(freed));
    let options = CompileOptions { arch: Some(architecture), ..CompileOptions::default() };
    let ptx = compile_ptx_with_opts(defines + source, options).expect("the kernel compiles").to_src();
    let module = Module::parse(&ptx).expect("the PTX is understood");
    let mut params = Vec::new();
    params.extend(input.to_le_bytes());
    params.extend(output.to_le_bytes());
    params.extend((ELEMENTS as u32).to_le_bytes());
    let launch = Launch {
        module: &module,
        kernel: module.kernel("kernel").expect("it is called kernel"),
        grid: [3, 1, 1],
        block: [64, 1, 1],
        shared: 0,
        params: &params,
        owner: OWN,
        number: 1,
        max_instructions: 1 << 20,
    };
    launch.run(&memory)?;
    let memory = memory.lock();
    Ok((values, read(&memory, output)))
}

fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let named = |path: &std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(named).collect()
}

#[test]
fn each_broken_kernel_is_caught() {
    if compiler_is_missing() {
        return;
    }
    for (name, source) in files("broken") {
        let expected = source.lines().next().unwrap().trim_start_matches("// expect: ").to_owned();
        // Older ones copy nothing past the registers.
        let oldest = if source.contains("cp.async") { "compute_80" } else { "compute_75" };
        for architecture in [oldest, "compute_89"] {
            let fault = execute(&source, architecture).expect_err(&name);
            assert_eq!(format!("{:?}", fault.kind), expected, "{name} for {architecture}: {fault}");
        }
    }
}

#[test]
fn a_reduction_gives_the_sum() {
    if compiler_is_missing() {
        return;
    }
    let (_, source) = files("sound").into_iter().find(|(name, _)| name == "reduction.cu").unwrap();
    let (values, out) = execute(&source, "compute_80").unwrap();
    let first_block = values[..64].iter().sum::<f32>();
    assert!((out[0] - first_block).abs() < 1e-3, "{} instead of {first_block}", out[0]);
}

#[test]
fn products_of_matrices_are_exact_and_a_wrong_fragment_shows() {
    if compiler_is_missing() {
        return;
    }
    let (_, source) = files("sound").into_iter().find(|(name, _)| name == "matrices.cu").unwrap();
    for architecture in ["compute_75", "compute_80", "compute_100"] {
        let (values, out) = execute(&source, architecture).unwrap();
        let value = |index: usize| values[index % ELEMENTS];
        let product =
            |row: usize, column: usize| (0..16).map(|k| value(row * 7 + k * 3) * value(k * 5 + column * 11)).sum();
        // All are small multiples of 1/256, so no sum rounds.
        let wanted: Vec<f32> = (0..128).map(|place| product(place / 8, place % 8)).collect();
        assert_eq!(out[..128], wanted, "{architecture}");
        let swapped = format!("#define FIRST 1\n#define SECOND 0\n{source}");
        let (_, out) = execute(&swapped, architecture).unwrap();
        assert_ne!(out[..128], wanted, "{architecture} does not notice swapped fragments");
    }
}

#[test]
fn copies_past_the_registers_arrive_and_fill_up_with_zeros() {
    if compiler_is_missing() {
        return;
    }
    let (_, source) = files("sound").into_iter().find(|(name, _)| name == "copies.cu").unwrap();
    for architecture in ["compute_80", "compute_100"] {
        let (values, out) = execute(&source, architecture).unwrap();
        assert_eq!(out, values, "{architecture}");
    }
}

#[test]
fn functions_are_as_good_as_single_precision_allows() {
    if compiler_is_missing() {
        return;
    }
    let (_, source) = files("sound").into_iter().find(|(name, _)| name == "functions.cu").unwrap();
    let (values, out) = execute(&source, "compute_80").unwrap();
    for (i, (x, got)) in values.iter().zip(&out).enumerate() {
        let wide = f64::from(*x);
        let mut wanted =
            f64::from((x * 1e6).sin()) + wide.cos() * wide.tan() + wide.abs().powf(1.5) + f64::from(x % 0.7);
        wanted += erf(wide) + wide.atan2(2.0) + wide.exp_m1() + wide.abs().ln_1p() + wide;
        let whole = (x * 1000.0) as i64;
        let n = i as u32;
        let high = ((u64::from(n.wrapping_mul(77_777_777)) * 1_234_567) >> 32) as u32;
        wanted += (whole / 7 + whole % 13) as f64 + f64::from(high);
        wanted += f64::from(n.count_ones()) + f64::from((n + 1).leading_zeros());
        wanted += f64::from((n.reverse_bits() % 5) as f32);
        match i % 7 {
            0 => wanted += 1.0,
            1 => wanted *= 2.0,
            2 => wanted -= 3.0,
            3 => wanted = -wanted,
            4 => wanted += wide,
            _ => wanted *= 0.5,
        }
        assert!((f64::from(*got) - wanted).abs() <= 2e-6 * wanted.abs().max(100.0), "at {x}: {got}, expected {wanted}");
    }
}

/// By its series, which converges everywhere.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
