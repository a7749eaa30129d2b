//! Freed memory stays for a moment, and is gone when nobody works.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use vivarium_allocator::{Allocator, IDLE, KEPT_WHILE_BUSY, keep_freed_memory, purge_delay};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

const PICTURE: usize = 100 << 20;

fn main() {
    // The number of the option is ours: this is mimalloc's default, and of no other option.
    assert_eq!(purge_delay(), Duration::from_secs(1));
    keep_freed_memory().unwrap();
    assert_eq!(purge_delay(), KEPT_WHILE_BUSY);
    if !cfg!(target_os = "linux") {
        return;
    }
    let before = resident();
    drop(black_box(vec![1u8; PICTURE]));
    assert!(resident() > before + PICTURE / 2, "freed memory went back at once");
    // Two looks: one that sees the freeing, one that sees none.
    let patience = Instant::now() + 4 * IDLE;
    while resident() > before + PICTURE / 10 {
        assert!(Instant::now() < patience, "freed memory is still held: {} bytes", resident());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Bytes of memory that the process has.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}
