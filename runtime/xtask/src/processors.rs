//! The tensor tests on processors that this machine is not, emulated by QEMU: loops and kernels are compiled for several, of which
//! the one at hand runs only its own.

use anyhow::{Context, Result};

use crate::{
    cuda, setup,
    shell::{cargo, find, run},
};

/// QEMU's names of processors of this architecture, and what they have: none has AVX-512, on which CI's usually runs.
const X86: [(&str, &str); 2] = [("max", "AVX2 and FMA"), ("Nehalem", "SSE4.2, from before 2011")];
const ARM_TARGET: &str = "aarch64-unknown-linux-gnu";
const ARM_COMPILER: &str = "aarch64-linux-gnu-gcc";
/// Where Debian's compiler for ARM has its C library.
const ARM_LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// Why nothing can be emulated here.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Some("other processors are emulated on Linux on x86-64 only".to_owned());
    }
    let installed = find("qemu-x86_64").is_some() && find("qemu-aarch64").is_some();
    (!installed).then(|| "QEMU is not installed: apt-get install qemu-user".to_owned())
}

pub(crate) fn stage() -> Result<()> {
    let mut names = cuda::tensor_tests()?;
    names.retain(|name| !["cuda", "cublaslt", "staging"].iter().any(|of_gpus| name.starts_with(of_gpus)));
    for (processor, what) in X86 {
        println!("  {processor}: {what}");
        // Of the whole workspace, as the other stages build it: nothing is compiled again.
        let mut tests = cargo(&["test", "--workspace"]);
        for name in &names {
            tests.args(["--test", name]);
        }
        tests.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", format!("qemu-x86_64 -cpu {processor}"));
        // No test has to start itself again without one.
        run(tests.env("VIVARIUM_MATRIX_UNIT", "off"))?;
    }
    if let Some(lacking) = no_arm() {
        println!("  ARM is left out: {lacking}");
        return Ok(());
    }
    println!("  ARM: NEON");
    let mut tests = cargo(&["test", "--package", "vivarium-tensor", "--target", ARM_TARGET]);
    tests
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", ARM_COMPILER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("qemu-aarch64 -L {ARM_LIBRARIES}"))
        .env("VIVARIUM_MATRIX_UNIT", "off");
    run(&mut tests).context("the same tests passed on x86-64")
}

/// What building for ARM lacks. Rust's part is fetched, where that can be had.
fn no_arm() -> Option<String> {
    if find(ARM_COMPILER).is_none() {
        return Some("no compiler: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross".to_owned());
    }
    setup::target(ARM_TARGET).err().map(|error| format!("{error:#}"))
}
