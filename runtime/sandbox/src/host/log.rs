//! `log`: bounded lines of the running node.

use super::HostState;
use crate::{
    bindings::vivarium::node::log::{self, Level},
    services::LogLevel,
};

impl log::Host for HostState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        let limit = self.call.limits.log_bytes;
        let left = limit.saturating_sub(self.logged_bytes);
        self.logged_bytes = self.logged_bytes.saturating_add(message.len() as u64 + 1);
        if left == 0 {
            return Ok(());
        }
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let message = self.shown(&message, usize::try_from(left).unwrap_or(usize::MAX));
        // Each line is an entry of its own: what follows a line break could pass for a line of the server.
        for line in message.lines().filter(|line| !line.is_empty()) {
            self.call.services.log(&self.pack, &self.call.node_id, level, line);
        }
        if self.logged_bytes > limit {
            let notice =
                format!("the rest of this node's log is dropped: it exceeds {limit} bytes (log_bytes, limits.toml)");
            self.call.services.log(&self.pack, &self.call.node_id, LogLevel::Warn, &notice);
        }
        Ok(())
    }
}
