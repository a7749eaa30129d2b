//! The worker processes of this test as the system sees them.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pid: i32,
    /// Whose it is.
    pub(crate) group: String,
}

/// Those that a laboratory with this word among its arguments has started, and that have not ended.
pub(crate) fn children(word: &str) -> Result<Vec<Child>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile. One that has, and was not waited for, has no command line.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let words: Vec<String> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        if let [program, own, group, ..] = words.as_slice()
            && program.ends_with("vivarium-test-worker")
            && own == word
        {
            found.push(Child { pid, group: group.clone() });
        }
    }
    Ok(found)
}

impl Child {
    /// A line of `/proc/PID/status`.
    pub(crate) fn status(&self, field: &str) -> Result<String> {
        self.line("status", field)
    }

    /// The soft limit, of `/proc/PID/limits`.
    pub(crate) fn limit(&self, name: &str) -> Result<String> {
        let line = self.line("limits", name)?;
        Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
    }

    fn line(&self, file: &str, begin: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix(begin));
        Ok(line.with_context(|| format!("no {begin}"))?.trim().to_owned())
    }

    /// What its descriptors lead to.
    pub(crate) fn open_files(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid))?;
        entries.map(|entry| Ok(fs::read_link(entry?.path())?.to_string_lossy().into_owned())).collect()
    }

    pub(crate) fn kill(&self) -> Result<()> {
        Ok(kill_process(Pid::from_raw(self.pid).context("a process")?, Signal::KILL)?)
    }
}
