//! The CUDA back end without a GPU: tests on a simulated driver, and what NVIDIA's assembler says of each kernel.
//!
//! NVRTC and ptxas come from PyPI's packages (they are NVIDIA's, and stay outside the repository); pip unpacks them into
//! `target/cuda`, once. Where there is a GPU with a driver, the same tests run on it, and nothing is simulated.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};

use crate::assemble::Assembler;
use crate::shell::{Profile, cargo, find, output, root, run, target_dir};

/// NVRTC and the library beside it that it loads.
const NVRTC: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";
/// ptxas.
pub(crate) const NVCC: &str = "nvidia-cuda-nvcc-cu12==12.9.86";
/// Architectures that every kernel is assembled for.
pub(crate) const ARCHITECTURES: [u32; 6] = [75, 80, 86, 89, 90, 100];

const HELP: &str = "\
cargo xtask cuda <command>

  test [FLAG…]   the tensor tests through the CUDA back end, on a GPU or on a simulated driver; flags go to `cargo test`
  ptxas          assemble every kernel for sm_75 to sm_100 and rewrite the table in docs/cuda.md (--check: only compare)
";

pub(crate) fn command(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((name, rest)) if name == "test" => test_with(rest),
        Some((name, rest)) if name == "ptxas" => table(rest.iter().any(|flag| flag == "--check")),
        _ => {
            print!("{HELP}");
            Ok(())
        }
    }
}

/// The stage of `cargo xtask test`.
///
/// # Errors
/// When a test fails or the kernels' table is not what the assembler says.
pub(crate) fn stage() -> Result<()> {
    // Cold, both take half a minute: one of the processors, the other of the network.
    thread::scope(|scope| {
        let fetching = scope.spawn(|| fetched("nvrtc", NVRTC).and_then(|_| fetched("nvcc", NVCC)));
        // Without the feature, which all other stages build with.
        run(&mut cargo(&["clippy", "-p", "vivarium-tensor", "--all-targets", "--", "-D", "warnings"]))?;
        fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    test_with(&[])?;
    table(true)
}

/// Why the stage can't run here.
pub(crate) fn missing() -> Option<String> {
    let python = find("python3").is_none() && !folder().join("nvrtc").is_dir();
    python.then(|| "there is no python3 whose pip could fetch NVRTC".to_owned())
}

fn folder() -> PathBuf {
    target_dir().join("cuda")
}

/// A real driver comes with a device file; the library alone may be a stub.
fn has_gpu() -> bool {
    Path::new("/dev/nvidia0").exists()
}

fn test_with(flags: &[String]) -> Result<()> {
    let mut libraries = vec![fetched("nvrtc", NVRTC)?.join("nvidia/cuda_nvrtc/lib")];
    if !has_gpu() {
        build_helpers()?;
        libraries.push(simulated_driver()?);
    }
    let path = std::env::join_paths(&libraries).context("a path with a colon")?;
    // First what catches mistakes, then what relies on it.
    let environment = |command: &mut Command| {
        command
            .env("LD_LIBRARY_PATH", &path)
            .env("VIVARIUM_TEST_GPU", "1")
            // Of which most tests use the first.
            .env("SIMULATED_CUDA_DEVICES", "2")
            .env("VIVARIUM_TEST_KERNELS", folder().join("kernels"));
    };
    let mut checker = cargo(&["test", "--workspace", "--test", "kernels"]);
    environment(&mut checker);
    run(&mut checker)?;
    // Of the whole workspace, as the other stages build it: of the crate alone, most would be compiled once more.
    let mut tests = cargo(&["test", "--workspace"]);
    for test in tensor_tests()? {
        tests.args(["--test", &test]);
    }
    environment(&mut tests);
    run(tests.args(flags))?;
    // Products once more by NVIDIA's library; above, all were left to our kernels.
    if let Some(library) = cublaslt()? {
        let with_library = std::env::join_paths(libraries.iter().chain([&library])).context("a path with a colon")?;
        let mut products = cargo(&["test", "--workspace"]);
        for test in ["cuda_cublaslt", "cublaslt_misuse", "cuda_products", "families"] {
            products.args(["--test", test]);
        }
        environment(&mut products);
        run(products.env("LD_LIBRARY_PATH", with_library).env("VIVARIUM_TEST_CUBLASLT", "1"))?;
    }
    if !has_gpu() {
        // The tensor cores of the oldest architecture multiply in other pieces.
        let mut oldest = cargo(&["test", "--workspace", "--test", "cuda_products", "--test", "cuda_attention"]);
        environment(&mut oldest);
        run(oldest.env("SIMULATED_CUDA_ARCH", ARCHITECTURES[0].to_string()))?;
    }
    // Last, servers whose prompts compute there.
    let mut served = cargo(&["test", "--workspace", "--test", "gpus"]);
    environment(&mut served);
    run(&mut served)
}

/// The names of the tests that run on whatever device there is.
pub(crate) fn tensor_tests() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("runtime/tensor/tests"))? {
        let path = entry?.path();
        if let (Some("rs"), Some(name)) = (path.extension().and_then(OsStr::to_str), path.file_stem()) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The simulated driver under the name that programs load, in a folder of its own.
fn simulated_driver() -> Result<PathBuf> {
    let folder = folder().join("driver");
    fs::create_dir_all(&folder)?;
    let built = target_dir().join(Profile::Debug.folder()).join("libsimulated_cuda.so");
    // Replaced and not written over: a process may have it loaded, or another target folder be linked to it.
    let unfinished = folder.join("libcuda.so.1.part");
    let copied = fs::copy(&built, &unfinished).and_then(|_| fs::rename(&unfinished, folder.join("libcuda.so.1")));
    copied.with_context(|| format!("copying {}", built.display()))?;
    Ok(folder)
}

/// The folder of the library of products: the simulated one is part of the driver, under another name. Beside a GPU it is
/// whatever the system has, and nothing needs to be found twice.
fn cublaslt() -> Result<Option<PathBuf>> {
    if has_gpu() {
        return Ok(None);
    }
    let folder = folder().join("cublaslt");
    fs::create_dir_all(&folder)?;
    let link = folder.join("libcublasLt.so.12");
    if !link.exists() {
        // A link and no copy: only so it is the same library, with the same memory.
        std::os::unix::fs::symlink("../driver/libcuda.so.1", &link)?;
    }
    Ok(Some(folder))
}

/// A package of PyPI, unpacked under a name; nothing is fetched twice.
fn fetched(name: &str, package: &str) -> Result<PathBuf> {
    let target = folder().join(name);
    let stamp = target.join(format!("{package}.fetched"));
    if stamp.exists() {
        return Ok(target);
    }
    println!("  fetching {package}");
    let install = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"];
    run(Command::new("python3").args(install).arg(&target).arg(package))?;
    fs::write(&stamp, "")?;
    Ok(target)
}

/// Compiles and assembles every kernel and writes down what they need.
fn table(check: bool) -> Result<()> {
    let nvrtc = fetched("nvrtc", NVRTC)?.join("nvidia/cuda_nvrtc/lib");
    let ptxas = fetched("nvcc", NVCC)?.join("nvidia/cuda_nvcc/bin/ptxas");
    let written = folder().join("ptx");
    build_helpers()?;
    let mut dump = example("kernels");
    dump.arg(&written).arg(folder().join("kernels")).args(ARCHITECTURES.map(|number| number.to_string()));
    run(dump.env("LD_LIBRARY_PATH", nvrtc))?;
    let kernels = fs::read_to_string(written.join("kernels.txt")).context("the list of kernels")?;
    let assembler = Assembler { ptxas, written, remembered: folder().join("assembled") };
    let lines = assembler.rows(&kernels.lines().collect::<Vec<_>>())?.concat();
    let page = root().join("docs/cuda.md");
    let text = fs::read_to_string(&page)?;
    let estimates = output(&mut example("roofline"))?;
    let head: String = ARCHITECTURES.map(|number| format!(" sm_{number} |")).concat();
    let rule = "--:|".repeat(ARCHITECTURES.len() + 1);
    let head = format!("| kernel |{head} shared memory, bytes |\n|---|{rule}\n");
    let new = replaced(&text, "kernels", &format!("{head}{lines}"))
        .and_then(|text| replaced(&text, "roofline", &format!("{ESTIMATES}{estimates}")))
        .context("docs/cuda.md lacks the marks of a table")?;
    if check && new != text {
        bail!("the table in docs/cuda.md is out of date: run `cargo xtask cuda ptxas`\n{lines}");
    }
    if !check {
        fs::write(&page, new)?;
        println!("docs/cuda.md: {} kernels", kernels.lines().count());
    }
    Ok(())
}

/// The simulated driver and the examples. Of the whole workspace, as the other stages build it, so that little is compiled again;
/// not all targets, since nobody runs the tests and programs that `cargo test` doesn't.
fn build_helpers() -> Result<()> {
    run(&mut cargo(&["build", "--workspace", "--lib", "--examples"]))
}

/// An example of the tensor crate that was built.
fn example(name: &str) -> Command {
    Command::new(target_dir().join(Profile::Debug.folder()).join("examples").join(name))
}

/// Head of the table of estimates.
const ESTIMATES: &str = "\
| layer of SD 1.5, float16 | MB moved | 10⁹ operations | RTX 4090, µs | without tensor cores | H200, µs | without tensor cores |
|---|--:|--:|--:|--:|--:|--:|
";

/// The page with the lines between two marks replaced.
fn replaced(text: &str, mark: &str, lines: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let (before, rest) = text.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}{lines}{close}{after}"))
}
