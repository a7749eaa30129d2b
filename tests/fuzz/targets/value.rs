//! Values that guests send: JSON beside a table of handles. What has to hold is in the sandbox's `properties`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vivarium_sandbox::properties::value(bytes));
