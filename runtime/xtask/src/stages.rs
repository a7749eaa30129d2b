//! Naming, timing and summing up steps, so that a log says where it is and where the time went.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Steps that were begun, in order.
pub(crate) struct Stages {
    done: Vec<Stage>,
    started: Instant,
}

struct Stage {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl Stages {
    /// No step yet; the clock of the summary starts now.
    pub(crate) fn new() -> Self {
        Self { done: Vec::new(), started: Instant::now() }
    }

    /// Runs one step under a heading.
    ///
    /// # Errors
    /// The step's own, with its name before it.
    pub(crate) fn run<T>(&mut self, name: &'static str, what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n== {name}: {what}");
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        let outcome = if result.is_ok() { Outcome::Passed } else { Outcome::Failed };
        println!("== {name}: {} in {}", outcome.word(), seconds(took));
        self.done.push(Stage { name, took, outcome });
        result.with_context(|| format!("stage `{name}`"))
    }

    /// Notes a step that can't run here, and why.
    pub(crate) fn skip(&mut self, name: &'static str, reason: String) {
        println!("\n== {name}: skipped, {reason}");
        self.done.push(Stage { name, took: Duration::ZERO, outcome: Outcome::Skipped(reason) });
    }

    /// Prints every step with its time and how it went.
    pub(crate) fn summary(&self) {
        println!("\n== summary");
        for Stage { name, took, outcome } in &self.done {
            match outcome {
                Outcome::Skipped(reason) => println!("  {name:<14} skipped: {reason}"),
                _ => println!("  {name:<14} {:<7} {:>8}", outcome.word(), seconds(*took)),
            }
        }
        println!("  {:<14} {:<7} {:>8}", "total", "", seconds(self.started.elapsed()));
    }
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped(_) => "skipped",
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
