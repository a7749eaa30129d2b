//! The last lines of the server's log, for `/internal/logs` and the sockets that follow it.
//!
//! The log is the operator's: it may name any tenant. So it is shown to the default tenant only.

use std::{collections::VecDeque, io, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use vivarium_protocol::event::LogEntry;

/// The longest line kept, in bytes. What guests log is already bounded; this bounds the rest.
const LINE_BYTES: usize = 8 * 1024;

/// A ring of log lines. Cheap to clone; all clones share the lines.
#[derive(Clone, Debug)]
pub struct LogRing(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    lines: Mutex<Lines>,
    capacity: usize,
    grew: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<LogEntry>,
    /// How many lines there ever were.
    total: u64,
}

impl LogRing {
    /// An empty ring for so many lines.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Ring { lines: Mutex::default(), capacity: capacity.max(1), grew: Notify::new() }))
    }

    /// A writer for one log event, as `tracing_subscriber`'s `with_writer` wants it: `move || ring.writer()`.
    #[must_use]
    pub fn writer(&self) -> LogWriter {
        LogWriter { ring: self.clone(), text: Vec::new() }
    }

    /// All lines kept, oldest first.
    pub(crate) fn entries(&self) -> Vec<LogEntry> {
        self.0.lines.lock().kept.iter().cloned().collect()
    }

    /// The lines after the first `seen` there ever were, and how many there are now.
    pub(crate) fn entries_after(&self, seen: u64) -> (Vec<LogEntry>, u64) {
        let lines = self.0.lines.lock();
        let new = usize::try_from(lines.total.saturating_sub(seen)).unwrap_or(usize::MAX).min(lines.kept.len());
        (lines.kept.iter().skip(lines.kept.len() - new).cloned().collect(), lines.total)
    }

    /// Waits for a line.
    pub(crate) async fn grew(&self) {
        self.0.grew.notified().await;
    }

    fn add(&self, text: &str) {
        let entry = LogEntry { t: jiff::Timestamp::now().to_string(), m: format!("{}\n", printable(text)) };
        let mut lines = self.0.lines.lock();
        if lines.kept.len() >= self.0.capacity {
            lines.kept.pop_front();
        }
        lines.kept.push_back(entry);
        lines.total += 1;
        drop(lines);
        self.0.grew.notify_one();
    }
}

/// Collects the text of one log event; it enters the ring when the writer is dropped.
#[derive(Debug)]
pub struct LogWriter {
    ring: LogRing,
    text: Vec<u8>,
}

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_BYTES.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        text.lines().filter(|line| !line.trim().is_empty()).for_each(|line| self.ring.add(line));
    }
}

/// Front ends show lines in a terminal: nothing in them may move its cursor or turn its text around.
fn printable(line: &str) -> String {
    let harmful = |character: char| {
        (character.is_control() && character != '\t')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    line.chars().filter(|character| !harmful(*character)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    #[test]
    fn the_newest_lines_stay_and_cannot_steer_a_terminal() {
        let ring = LogRing::new(2);
        for line in ["one", "two\nthree", "\u{1b}[2Jfour\u{202e}"] {
            ring.writer().write_all(line.as_bytes()).unwrap();
        }
        let lines: Vec<_> = ring.entries().into_iter().map(|entry| entry.m).collect();
        assert_eq!(lines, ["three\n", "[2Jfour\n"]);
        let (new, total) = ring.entries_after(3);
        assert_eq!((new.len(), total), (1, 4));
    }
}
