//! Naming, timing and summing up steps, so that a log says where it is and where the time went.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::shell::{output, target_dir};

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
        let room = room().map_or_else(String::new, |room| format!(", {room}"));
        println!("== {name}: {} in {}{room}", outcome.word(), seconds(took));
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

/// What is built so far takes on the disk, and what is left there: a full disk fails in ways that do not say so.
fn room() -> Option<String> {
    let target = target_dir();
    let built = output(Command::new("du").arg("-sm").arg(&target)).ok()?;
    let left = output(Command::new("df").args(["--output=avail", "-BM"]).arg(&target)).ok()?;
    let built: u64 = built.split_whitespace().next()?.parse().ok()?;
    let left: u64 = left.lines().last()?.trim().trim_end_matches('M').parse().ok()?;
    Some(format!("target has {built} MB, {left} MB are free"))
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
