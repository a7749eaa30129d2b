//! How many worker processes there are, and for whom.

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf, time::Duration};

use vivarium_protocol::tenant::TenantId;
use vivarium_walls::WallsError;

/// Who shares a process, unless it was said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Nobody.
    PerTenant,
    /// Everybody.
    Shared,
}

/// Settings of worker processes.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// This executable.
    pub program: PathBuf,
    /// The words that make it call [`crate::process::serve`]. The name of the group comes after them.
    pub arguments: Vec<OsString>,
    /// Who shares a process.
    pub grouping: Grouping,
    /// Tenants that share the process of a named group.
    pub groups: BTreeMap<TenantId, String>,
    /// Processes at a time. When another group needs one, the one goes that was idle for longest; when none is, it is waited.
    pub most: usize,
    /// How long a process without work is kept.
    pub idle: Duration,
    /// Start them without walls, where the kernel has none.
    pub unsandboxed: bool,
}

impl ProcessSettings {
    /// The group of a tenant. Names of tenants hold no space, so that no group can be taken for one.
    #[must_use]
    pub fn group_of(&self, tenant: &TenantId) -> String {
        match (self.groups.get(tenant), self.grouping) {
            (Some(group), _) => format!("group {group}"),
            (None, Grouping::Shared) => "all tenants".to_owned(),
            (None, Grouping::PerTenant) => format!("tenant {tenant}"),
        }
    }
}

/// Why there is no worker process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No walls.
    #[error(
        "worker processes can't be confined here: {0}. --worker-processes-unsandboxed runs them without; a node that breaks out \
         of WebAssembly then has all the rights of this user"
    )]
    Walls(#[from] WallsError),
    /// It was not started.
    #[error("the worker process of {group} can't be started: {source}")]
    Start {
        /// Whose.
        group: String,
        /// The cause.
        source: io::Error,
    },
    /// It was started and can't work.
    #[error("the worker process of {group} can't work: {message}")]
    Unable {
        /// Whose.
        group: String,
        /// Its own words, or how it ended.
        message: String,
    },
    /// All are busy.
    #[error(
        "all {most} worker processes are busy with prompts of other tenants; try again later, or raise --max-worker-processes"
    )]
    Busy {
        /// How many there may be.
        most: usize,
    },
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The prompt was interrupted while it waited for a process.
    #[error("the prompt was interrupted")]
    Interrupted,
    /// No thread to look after them.
    #[error("the system refuses a thread: {source}")]
    Thread {
        /// The cause.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_tenant_shares_a_process_with_those_of_its_group_only() {
        let (alice, bob, carol) = ("alice".parse().unwrap(), "bob".parse().unwrap(), "carol".parse().unwrap());
        let mut settings = ProcessSettings {
            program: PathBuf::new(),
            arguments: Vec::new(),
            grouping: Grouping::PerTenant,
            groups: [(alice, "carol".to_owned()), (bob, "carol".to_owned())]
                .map(|(tenant, group): (TenantId, _)| (tenant, group))
                .into(),
            most: 1,
            idle: Duration::ZERO,
            unsandboxed: false,
        };
        let group = |settings: &ProcessSettings, name: &str| settings.group_of(&name.parse().unwrap());
        assert_eq!(group(&settings, "alice"), group(&settings, "bob"));
        assert_ne!(group(&settings, "alice"), settings.group_of(&carol), "a group may have the name of a tenant");
        assert_ne!(group(&settings, "dave"), settings.group_of(&carol));
        settings.grouping = Grouping::Shared;
        assert_eq!(group(&settings, "dave"), settings.group_of(&carol));
        assert_ne!(group(&settings, "dave"), group(&settings, "alice"));
    }
}
