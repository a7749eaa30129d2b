//! The table, and the same as JSON.

use std::{
    fmt, fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::figure::{Figure, Samples, Target};

/// Everything measured, and on what.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Seconds since 1970.
    time: u64,
    version: &'static str,
    processor: String,
    cores: usize,
    /// Of a minute, before the first figure and after the last: other work on the machine shows here.
    load_before: f64,
    load_after: f64,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn begin() -> Self {
        Self {
            time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            version: env!("CARGO_PKG_VERSION"),
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_before: load_average(),
            load_after: f64::NAN,
            figures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    pub(crate) fn end(&mut self) {
        self.load_after = load_average();
    }

    /// # Errors
    /// When the file can't be written.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        fs::write(path, json + "\n").with_context(|| format!("could not write {}", path.display()))
    }
}

const HEADS: [&str; 6] = ["", "ours (min … max)", "peer (min … max)", "times better", "target", ""];

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 6]> = self.figures.iter().map(row).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADS[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        writeln!(formatter)?;
        line(formatter, &widths, &HEADS.map(str::to_owned))?;
        let mut group = "";
        for (figure, row) in self.figures.iter().zip(&rows) {
            if figure.group != group {
                group = figure.group;
                writeln!(formatter, "\n{group}")?;
            }
            line(formatter, &widths, row)?;
        }
        writeln!(
            formatter,
            "\nMedian of several runs; under load the best of several rounds. vivarium {}, {} × {}, load average {:.1} before and {:.1} after.",
            self.version, self.cores, self.processor, self.load_before, self.load_after
        )
    }
}

fn line(formatter: &mut fmt::Formatter<'_>, widths: &[usize; 6], cells: &[String; 6]) -> fmt::Result {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        text.push_str(&format!("{cell:<width$}  "));
    }
    writeln!(formatter, "{}", text.trim_end())
}

fn row(figure: &Figure) -> [String; 6] {
    let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
    let met = match figure.met() {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    };
    [
        format!("  {}{unit}", figure.name),
        shown(figure, &figure.ours),
        shown(figure, &figure.peer),
        figure.times_better().map(|times| format!("{}×", number(times))).unwrap_or_default(),
        aim(figure),
        met.to_owned(),
    ]
}

/// The target; beside it the recorded figure of a peer that wasn't there to be measured.
fn aim(figure: &Figure) -> String {
    match figure.target {
        Some(target @ Target::TimesBetter { recorded, .. }) if !figure.peer.is_any() && recorded.is_finite() => {
            format!("{target} than {recorded}")
        }
        Some(target) => target.to_string(),
        None => String::new(),
    }
}

fn shown(figure: &Figure, samples: &Samples) -> String {
    let value = number(figure.shown(samples));
    match samples.len() {
        0 => String::new(),
        1 => value,
        _ => format!("{value} ({} … {})", number(samples.min()), number(samples.max())),
    }
}

/// With about three digits that mean something.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Better;

    #[test]
    fn the_table_says_whether_a_target_was_met_and_leaves_out_what_was_not_measured() {
        let mut report = Report::begin();
        let samples = |values: &[f64]| values.iter().copied().collect::<Samples>();
        report.add(vec![
            Figure::new("Start", "idle", "MB", Better::Lower)
                .target(Target::AtMost(120.0))
                .ours(samples(&[150.0]))
                .peer(samples(&[1130.0])),
            Figure::new("Start", "alone", "s", Better::Lower).ours(samples(&[0.25, 0.5, 0.125])),
        ]);
        let table = report.to_string();
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let has = |line: &str| lines.iter().any(|other| other == line);
        assert!(has("idle, MB 150 1130 7.53× ≤ 120 NOT MET"), "{table}");
        assert!(has("alone, s 0.250 (0.125 … 0.500)"), "{table}");
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!([1234.5, 12.34, 1.234, 0.1234, 0.01234].map(number), ["1234", "12.3", "1.23", "0.123", "0.0123"]);
    }
}
