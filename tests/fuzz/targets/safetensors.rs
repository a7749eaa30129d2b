//! Weights files: the header, and every tensor that it lists. What has to hold is in the sandbox's `properties`.

#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("it is written");
    vivarium_sandbox::properties::weights(file);
});
