//! Chance.
//!
//! A result that somebody may want again takes its seed as an input: `#[input(control_after_generate)] seed: u64`, and
//! [`Tensor::randn`](crate::Tensor::randn) makes PyTorch's numbers of it. What is here is for everything else.

use std::hash::{BuildHasher, RandomState};

/// A seed that nobody can foresee; another one with every call.
#[must_use]
pub fn seed() -> u64 {
    // Its keys come from WASI's random numbers, a new pair for every state.
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        assert_ne!(super::seed(), super::seed());
    }
}
