//! Loops, recursion, allocation, panics.

use std::hint::black_box;

use vivarium_node::prelude::*;

/// Never comes back, and calls the host never or always.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileLoop {
    /// Makes a cheap host call in every round.
    #[input(optional, default = false)]
    call_host: bool,
}

impl Run for HostileLoop {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut rounds = 0u64;
        loop {
            rounds = black_box(rounds.wrapping_add(1));
            if self.call_host {
                // The answer is ignored on purpose: this guest does not stop when asked.
                let _ = vivarium_node::context::check_interrupted();
            }
        }
    }
}

/// Takes memory until there is none.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileMemory {
    /// Asks politely and stops when refused, instead of running into the wall.
    #[input(optional, default = false)]
    politely: bool,
}

impl Run for HostileMemory {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        const MEBIBYTE: usize = 1 << 20;
        let mut taken: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut block = Vec::new();
            if self.politely && block.try_reserve_exact(MEBIBYTE).is_err() {
                return Ok(Ui::text(format!("refused after {} MiB", taken.len())));
            }
            block.resize(MEBIBYTE, 1);
            taken.push(black_box(block));
        }
    }
}

/// Calls itself until the stack is used up.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileRecursion {}

impl Run for HostileRecursion {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        Ok(Ui::text(descend(1).to_string()))
    }
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    descend(depth + 1) + frame[black_box(depth as usize % 64)]
}

/// Panics with a message.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostilePanic {
    #[input(optional, default = "the guest panicked on purpose")]
    message: String,
}

impl Run for HostilePanic {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        panic!("{}", self.message)
    }
}

/// Sleeps for a day, in the host.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileWait {}

impl Run for HostileWait {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        std::thread::sleep(std::time::Duration::from_secs(24 * 60 * 60));
        Ok(Ui::text("slept well"))
    }
}
