//! Programs of random operations; see `support/sequence.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/sequence.rs"]
mod sequence;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_program_panics_gets_a_wrong_shape_or_leaves_a_charge(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        sequence::run(&bytes);
    }
}
