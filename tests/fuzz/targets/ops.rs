//! Programs of random tensor operations; `runtime/tensor/tests/support/sequence.rs` says what has to hold.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../runtime/tensor/tests/support/sequence.rs"]
mod sequence;

fuzz_target!(|bytes: &[u8]| sequence::run(bytes));
