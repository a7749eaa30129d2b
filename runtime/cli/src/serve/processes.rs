//! The flags about worker processes.

use std::{str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use vivarium_protocol::tenant::TenantId;
use vivarium_worker::process::{Grouping, ProcessSettings};

use crate::{
    failure::{Exit, OrFail, Outcome, fail},
    worker,
};

/// How long a process without work is kept: its cache of results goes with it.
const IDLE: Duration = Duration::from_secs(600);

/// Where prompts run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Worker processes")]
pub(crate) struct ProcessOptions {
    /// Run prompts in processes of their own, without network and files, so that not even a node that breaks out of WebAssembly
    /// reaches another tenant: one process per tenant, or one for all. Needs Linux with landlock; `vivarium doctor` tells
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = WorkerProcesses::Off)]
    worker_processes: WorkerProcesses,

    /// Let the tenants of a group share a process; may be repeated
    #[arg(long, value_name = "TENANT=GROUP")]
    worker_group: Vec<Member>,

    /// Worker processes at a time; a prompt that needs another one waits until one is idle
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_worker_processes: u16,

    /// Run worker processes without walls, where the kernel has none
    #[arg(long)]
    worker_processes_unsandboxed: bool,
}

/// Whether prompts run in processes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WorkerProcesses {
    /// In the server's own process.
    Off,
    /// One for every tenant.
    PerTenant,
    /// One for all.
    Shared,
}

/// `TENANT=GROUP`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    tenant: TenantId,
    group: String,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, group) = text.split_once('=').ok_or("write TENANT=GROUP, for example alice=studio")?;
        let tenant = tenant.parse().map_err(|error| format!("{error}"))?;
        // The same rule as for tenants, so that groups can be read in logs.
        let group: TenantId = group.parse().map_err(|_| format!("{group:?} is no name: a-z, 0-9, '_' and '-'"))?;
        Ok(Self { tenant, group: group.to_string() })
    }
}

impl ProcessOptions {
    /// The settings, unless prompts run in this process.
    ///
    /// # Errors
    /// When a tenant is in two groups, or there are groups and no processes.
    pub(super) fn settings(&self) -> Outcome<Option<ProcessSettings>> {
        let grouping = match self.worker_processes {
            WorkerProcesses::Off if self.worker_group.is_empty() => return Ok(None),
            WorkerProcesses::Off => {
                fail!(Exit::Usage, "--worker-group means nothing without --worker-processes per-tenant or shared")
            }
            WorkerProcesses::PerTenant => Grouping::PerTenant,
            WorkerProcesses::Shared => Grouping::Shared,
        };
        let mut groups = std::collections::BTreeMap::new();
        for Member { tenant, group } in self.worker_group.iter().cloned() {
            if let Some(other) = groups.insert(tenant.clone(), group.clone())
                && other != group
            {
                fail!(Exit::Usage, "--worker-group puts {tenant} into two groups, {other} and {group}");
            }
        }
        Ok(Some(ProcessSettings {
            program: std::env::current_exe().or_fail(Exit::Machine, || "could not find this program's own file")?,
            arguments: worker::serve(),
            grouping,
            groups,
            most: self.max_worker_processes.into(),
            idle: IDLE,
            unsandboxed: self.worker_processes_unsandboxed,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Command {
        #[command(flatten)]
        processes: ProcessOptions,
    }

    fn settings(flags: &str) -> Outcome<Option<ProcessSettings>> {
        let arguments = std::iter::once("vivarium").chain(flags.split_whitespace());
        Command::try_parse_from(arguments).unwrap().processes.settings()
    }

    #[test]
    fn prompts_run_in_the_server_unless_it_is_said_otherwise() {
        assert!(settings("").unwrap().is_none());
        let shared = settings("--worker-processes shared --max-worker-processes 3").unwrap().unwrap();
        assert_eq!((shared.grouping, shared.most, shared.unsandboxed), (Grouping::Shared, 3, false));
    }

    #[test]
    fn a_tenant_is_in_one_group() {
        let flags = "--worker-processes per-tenant --worker-group alice=studio --worker-group";
        let two = settings(&format!("{flags} bob=studio")).unwrap().unwrap();
        assert_eq!(two.group_of(&"alice".parse().unwrap()), two.group_of(&"bob".parse().unwrap()));
        let failure = settings(&format!("{flags} alice=other")).unwrap_err();
        assert!(failure.to_string().contains("studio and other"), "{failure}");
        assert!(settings("--worker-group alice=studio").is_err(), "groups of nothing");
        for text in ["alice", "=x", "alice=", "alice=a b", "Al ice=x"] {
            assert!(text.parse::<Member>().is_err(), "{text}");
        }
    }
}
