//! What is said of drivers, compilers and GPUs that do not go together, and what a GPU is told when it is opened. Only the simulated
//! driver can be told which version it has; on a real one nothing is tested but that it is found.
#![cfg(all(feature = "cuda", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;
use support::*;
use vivarium_tensor::{BinaryOp, Budget, DType, Gpu, OpContext, Operand, UnaryOp};

/// Set in processes that another test starts.
const ASKED: &str = "VIVARIUM_TEST_PROBE";

/// In a process of its own, the driver of which gets other settings.
#[test]
fn the_gpu_is_found() {
    if test_gpu_is_wanted() {
        let found = Gpu::probe();
        println!("found: {found:?}");
        assert!(std::env::var_os(ASKED).is_some() || found.unwrap()[0].starts_with("cuda:0 "));
    }
}

fn test_gpu_is_wanted() -> bool {
    std::env::var("VIVARIUM_TEST_GPU").is_ok_and(|value| value == "1")
}

/// What a process finds in which the simulated driver has these settings.
fn found(settings: &[(&str, &str)]) -> String {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "the_gpu_is_found", "--nocapture"]).envs(settings.iter().copied()).env(ASKED, "1");
    let output = process.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text.lines().find_map(|line| line.split_once("found: ")).map(|(_, found)| found.to_owned()).unwrap()
}

#[test]
fn what_does_not_go_together_is_refused_with_the_reason_when_a_gpu_is_opened() {
    if !support::simulated::is_simulated() {
        return;
    }
    let newer = found(&[("SIMULATED_CUDA_VERSION", "13000")]);
    assert!(newer.starts_with("Ok([\"cuda:0 Simulated") && newer.contains("driver for CUDA 13.0"), "{newer}");
    let without_pools = found(&[("SIMULATED_CUDA_POOLS", "0")]);
    assert!(without_pools.starts_with("Ok([\"cuda:0 Simulated"), "{without_pools}");
    let older = found(&[("SIMULATED_CUDA_VERSION", "11080")]);
    assert!(older.contains("cannot be used") && older.contains("with a driver of CUDA 11.8: install"), "{older}");
    let pascal = found(&[("SIMULATED_CUDA_ARCH", "61")]);
    assert!(pascal.contains("its compute capability is 6.1, and 7.5 is the least"), "{pascal}");
}

/// Nobody can execute it here. That it is asked to means that the driver took it.
#[test]
fn a_driver_older_than_the_compiler_gets_machine_code() {
    if !support::simulated::is_simulated() {
        return;
    }
    for architecture in ["75", "89", "100"] {
        let found = found(&[("SIMULATED_CUDA_VERSION", "12040"), ("SIMULATED_CUDA_ARCH", architecture)]);
        assert!(found.contains("does not pass its test") && found.contains("CUDA_ERROR_NOT_SUPPORTED"), "{found}");
    }
}

#[test]
fn a_kernel_that_was_damaged_on_disk_is_compiled_anew() {
    if !test_gpu_is_wanted() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("vivarium-kernels-{}", std::process::id()));
    let kernels = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let compiled = || {
        let gpu = Gpu::open(0, Some(&folder)).unwrap();
        let cx = OpContext::new(Budget::root(1 << 20)).on_gpu(gpu.job(Budget::root(1 << 20)).unwrap());
        random(&[9], DType::Float32, 1).unary(UnaryOp::Exp, &cx).unwrap();
        (gpu.counters().compiled, gpu.counters().cached)
    };
    assert_eq!([compiled(), compiled()], [(1, 0), (0, 1)]);
    for path in kernels() {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(".version", ".verzion", 1)).unwrap();
    }
    assert_eq!([compiled(), compiled()], [(1, 0), (0, 1)], "the driver refuses what is damaged");
    for path in kernels() {
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    }
    assert_eq!([compiled(), compiled()], [(1, 0), (0, 1)], "what is cut off is not asked about");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn who_waits_sleeps_and_a_part_of_freed_memory_stays_for_the_next_prompt() {
    let Some(gpu) = test_gpu() else { return };
    let Some(state) = support::simulated::state_of_device(0) else { return };
    assert_eq!(state().flags, 4, "CU_CTX_SCHED_BLOCKING_SYNC");
    let work = |elements: u64| {
        let job = gpu.job(Budget::root(1 << 30)).unwrap();
        let cx = OpContext::new(Budget::root(1 << 30)).on_gpu(job.clone());
        let x = random(&[elements], DType::Float32, 1);
        drop(x.binary(BinaryOp::Mul, Operand::Scalar(2.0), &cx).unwrap());
        drop(x);
        job.synchronize().unwrap();
    };
    work(1 << 16);
    let (used, kept) = (state().used, state().kept);
    assert!(kept >= 1 << 18, "{kept} bytes stay");
    work(1 << 16);
    assert_eq!((state().used, state().kept), (used, kept), "the second prompt asked for nothing more");
    assert!(kept <= gpu.info().memory_bytes / 4);
}
