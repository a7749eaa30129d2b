//! `vivarium doctor`: would a server start here, and what would it keep to?

mod checks;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use vivarium_protocol::limit::LimitEntry;
use vivarium_queue::QueueLimits;
use vivarium_sandbox::{LimitFile, Limits};

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    options::{FolderOptions, LimitOptions},
    output::say,
    text::printable,
};

/// Check this machine, the folders, the packs and the limits.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium doctor
  vivarium doctor --base-directory /srv/vivarium --port 8288
  vivarium doctor --json | jq '.checks[] | select(.state == \"failed\")'

Give it the flags that you give to `vivarium serve`. It creates missing folders, as `serve` would, and changes nothing
else. The exit code is 1 when a check failed; warnings don't count.")]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Where the server would listen
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "127.0.0.1")]
    listen: Vec<String>,

    /// The port it would use
    #[arg(long, default_value_t = 8188)]
    port: u16,

    #[command(flatten)]
    folders: FolderOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, but somebody should know.
    Warning,
    Failed,
    /// Neither good nor bad.
    Info,
}

impl Doctor {
    pub(crate) fn run(self) -> Outcome<()> {
        let folders = self.folders.resolve()?;
        let limits = self.limits.resolve_in(&folders)?;
        let said = LimitFile::read(&folders.limits()).or_fail(Exit::Usage, || "could not read the limits")?;
        let of_prompts = [self.limits.graph().entries(), QueueLimits::default().entries()].concat();
        let mut checks = checks::folders(&folders);
        checks.extend(checks::sandbox_and_packs(&folders, &limits));
        checks.push(checks::queue(&folders));
        checks.extend(self.listen.iter().map(|address| checks::port(address, self.port)));
        checks.push(checks::memory(&limits));
        checks.push(checks::open_files());
        checks.push(checks::walls());
        checks.push(checks::processor());
        checks.extend(checks::cuda());
        let failed = checks.iter().filter(|check| check.state == State::Failed).count();
        if self.json {
            print_json(&checks, &limits.entries(), &of_prompts, &said);
        } else {
            print(&checks);
            print_limits("nodes", &limits.entries());
            print_limits("prompts", &of_prompts);
            print_exceptions(&said);
        }
        match failed {
            0 => Ok(()),
            1 => fail!(Exit::Work, "one check failed"),
            _ => fail!(Exit::Work, "{failed} checks failed"),
        }
    }
}

fn print_json(checks: &[Check], nodes: &[LimitEntry], prompts: &[LimitEntry], said: &LimitFile) {
    let limits = nodes.iter().chain(prompts).map(
        |limit| json!({"name": limit.name, "value": limit.value, "unit": limit.unit, "description": limit.description}),
    );
    let exceptions = said.exceptions();
    let exceptions = exceptions
        .iter()
        .map(|(whose, name, value)| json!({"of": whose, "name": name, "value": value}))
        .collect::<Vec<_>>();
    say!("{}", json!({"checks": checks, "limits": limits.collect::<Vec<_>>(), "exceptions": exceptions}));
}

fn print(checks: &[Check]) {
    for Check { name, state, message } in checks {
        let mark = match state {
            State::Ok => "ok     ",
            State::Warning => "WARNING",
            State::Failed => "FAILED ",
            State::Info => "note   ",
        };
        say!("{mark} {name:<12} {}", printable(message));
    }
}

fn print_limits(of: &str, limits: &[LimitEntry]) {
    say!("\nLimits of {of}:");
    for limit in limits {
        let value = amount(limit.value, limit.unit);
        say!("  {:<22} {value:>14}  {}", limit.name, limit.description);
    }
}

/// Those that `limits.toml` has for tenants and packs.
fn print_exceptions(said: &LimitFile) {
    let exceptions = said.exceptions();
    if exceptions.is_empty() {
        return;
    }
    say!("\nOther limits of tenants and packs (limits.toml):");
    for (whose, name, value) in exceptions {
        let unit = Limits::about(name).map_or("count", |(_, unit)| unit);
        say!("  {name:<22} {:>14}  {}", amount(value, unit), printable(&whose));
    }
}

fn amount(value: u64, unit: &str) -> String {
    match unit {
        "bytes" => bytes(value),
        "count" => value.to_string(),
        unit => format!("{value} {unit}"),
    }
}

/// An amount of memory for people.
fn bytes(amount: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut shown = amount as f64;
    while shown >= 1024.0 && unit + 1 < UNITS.len() {
        shown /= 1024.0;
        unit += 1;
    }
    if shown.fract() == 0.0 { format!("{shown} {}", UNITS[unit]) } else { format!("{shown:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_readable() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(64 << 10), "64 KiB");
        assert_eq!(bytes((3 << 30) / 2), "1.5 GiB");
    }
}
