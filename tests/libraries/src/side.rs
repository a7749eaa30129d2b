//! One side of a case: something that can be timed and whose result can be read.

use std::time::Instant;

use anyhow::Result;

use crate::PAUSE;

/// A library with its input, ready to run.
pub(crate) struct Side<'a> {
    /// As it stands in the table.
    pub(crate) name: &'static str,
    /// Milliseconds; infinite before the first turn.
    pub(crate) least: f64,
    work: Box<dyn Timed + 'a>,
}

/// What can be timed.
pub(crate) trait Timed {
    /// Milliseconds of the fastest of some runs.
    fn least_of(&mut self, runs: usize) -> Result<f64>;

    /// Runs once and answers all numbers of the result, row-major.
    fn result(&mut self) -> Result<Vec<f32>>;
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: &'static str, work: impl Timed + 'a) -> Self {
        Side { name, least: f64::INFINITY, work: Box::new(work) }
    }

    /// For libraries that make their results: `numbers` reads one, outside of the time.
    pub(crate) fn making<R: 'a>(
        name: &'static str,
        work: impl FnMut() -> Result<R> + 'a,
        numbers: impl Fn(&R) -> Result<Vec<f32>> + 'a,
    ) -> Self {
        Side::new(name, Making { work, numbers })
    }

    /// For libraries that write their results into memory that they are given.
    pub(crate) fn filling<T: Copy + Default + 'a>(
        name: &'static str,
        elements: usize,
        work: impl FnMut(&mut [T]) -> Result<()> + 'a,
        number: impl Fn(T) -> f32 + 'a,
    ) -> Self {
        Side::new(name, Filling { buffer: vec![T::default(); elements], work, number })
    }

    pub(crate) fn result(&mut self) -> Result<Vec<f32>> {
        self.work.result()
    }

    /// One round: more runs of what is quick, and enough that memory and clocks are warm after the pause.
    pub(crate) fn take_turn(&mut self) -> Result<()> {
        let runs = match self.least {
            ..100.0 => (20.0 / self.least).clamp(5.0, 40.0) as usize,
            ..500.0 => 2,
            _ => 1,
        };
        std::thread::sleep(PAUSE);
        self.least = self.least.min(self.work.least_of(runs)?);
        Ok(())
    }
}

struct Making<W, N> {
    work: W,
    numbers: N,
}

impl<R, W: FnMut() -> Result<R>, N: Fn(&R) -> Result<Vec<f32>>> Timed for Making<W, N> {
    fn least_of(&mut self, runs: usize) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..runs {
            let start = Instant::now();
            let result = (self.work)()?;
            least = least.min(milliseconds(start));
            drop(result);
        }
        Ok(least)
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        (self.numbers)(&(self.work)()?)
    }
}

struct Filling<T, W, N> {
    buffer: Vec<T>,
    work: W,
    number: N,
}

impl<T: Copy, W: FnMut(&mut [T]) -> Result<()>, N: Fn(T) -> f32> Timed for Filling<T, W, N> {
    fn least_of(&mut self, runs: usize) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..runs {
            let start = Instant::now();
            (self.work)(&mut self.buffer)?;
            least = least.min(milliseconds(start));
        }
        Ok(least)
    }

    fn result(&mut self) -> Result<Vec<f32>> {
        (self.work)(&mut self.buffer)?;
        Ok(self.buffer.iter().map(|value| (self.number)(*value)).collect())
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
