//! Who has which process, and for how long.

use std::time::Duration;

use anyhow::{Result, ensure};
use vivarium_tests::{Laboratory, Settings};
use vivarium_worker::process::{Grouping, ProcessSettings};

use super::{
    begin, busy,
    children::{Child, children},
    own_processes, succeeds, tenant, until,
};

fn start(processes: ProcessSettings) -> Result<Laboratory> {
    Laboratory::start(Settings { processes: Some(processes), ..Settings::default() })
}

fn groups(word: &str) -> Result<Vec<String>> {
    let mut groups: Vec<String> = children(word)?.into_iter().map(|child: Child| child.group).collect();
    groups.sort();
    Ok(groups)
}

#[test]
fn tenants_of_a_group_share_a_process_and_others_have_their_own() -> Result<()> {
    let studio = ["alice", "bob"].map(|name| Ok((tenant(name)?, "studio".to_owned())));
    let studio = studio.into_iter().collect::<Result<_>>()?;
    let laboratory = start(ProcessSettings { groups: studio, ..own_processes("groups")? })?;
    for name in ["alice", "bob", "carol"] {
        succeeds(&laboratory, &tenant(name)?, &busy(1))?;
    }
    ensure!(groups("groups")? == ["group studio", "tenant carol"], "{:?}", groups("groups")?);

    let laboratory = start(ProcessSettings { grouping: Grouping::Shared, ..own_processes("shared")? })?;
    for name in ["alice", "bob"] {
        succeeds(&laboratory, &tenant(name)?, &busy(1))?;
    }
    ensure!(groups("shared")? == ["all tenants"], "{:?}", groups("shared")?);
    Ok(())
}

#[test]
fn an_idle_process_makes_room_for_another_group_and_a_busy_one_does_not() -> Result<()> {
    let mut settings = Settings::default();
    settings.worker.workers = 2;
    settings.processes = Some(ProcessSettings { most: 1, ..own_processes("room")? });
    let laboratory = Laboratory::start(settings)?;
    let (alice, bob) = (tenant("alice")?, tenant("bob")?);
    succeeds(&laboratory, &alice, &busy(1))?;
    succeeds(&laboratory, &bob, &busy(1))?;
    ensure!(groups("room")? == ["tenant bob"], "{:?}", groups("room")?);

    let long = begin(&laboratory, &bob)?;
    let waiting = laboratory.submit(&alice, &busy(1), None)?;
    std::thread::sleep(Duration::from_millis(500));
    ensure!(groups("room")? == ["tenant bob"] && laboratory.queue.history_entry(&alice, &waiting)?.is_none());
    vivarium_worker::Engine::interrupt(laboratory.worker.as_ref(), &bob, Some(&long));
    laboratory.wait(&alice, &waiting)?;
    ensure!(groups("room")? == ["tenant alice"], "{:?}", groups("room")?);
    Ok(())
}

#[test]
fn a_process_without_work_ends_after_a_while() -> Result<()> {
    let idle = Duration::from_millis(300);
    let laboratory = start(ProcessSettings { idle, ..own_processes("idle")? })?;
    let alice = tenant("alice")?;
    succeeds(&laboratory, &alice, &busy(1))?;
    until("it ended", || groups("idle").is_ok_and(|all| all.is_empty()))?;
    succeeds(&laboratory, &alice, &busy(1))
}
