//! Processes that are killed.

use anyhow::{Context, Result, ensure};
use vivarium_protocol::{event::Event, tenant::TenantId};
use vivarium_tests::{Laboratory, Settings, failure};
use vivarium_worker::{Engine, WorkerConfig};

use super::{begin, busy, children::children, own_processes, succeeds, tenant, until};

fn two_at_a_time(name: &str) -> Result<Laboratory> {
    let worker = WorkerConfig { workers: 2, ..WorkerConfig::default() };
    Laboratory::start(Settings { processes: Some(own_processes(name)?), worker, ..Settings::default() })
}

#[test]
fn a_killed_process_fails_its_prompt_and_no_other() -> Result<()> {
    let laboratory = two_at_a_time("killed")?;
    let (alice, mallory) = (tenant("alice")?, tenant("mallory")?);
    let honest = begin(&laboratory, &alice)?;
    let hostile = begin(&laboratory, &mallory)?;
    let waiting = laboratory.submit(&mallory, &busy(1), Some("client"))?;
    let before = children("killed")?;
    ensure!(before.len() == 2, "{before:?}");
    laboratory.recorder.clear();
    before.iter().find(|child| child.group == "tenant mallory").context("mallory's process")?.kill()?;

    let (kind, message) = failure(&laboratory.wait(&mallory, &hostile)?).context("it did not fail")?;
    ensure!(
        kind == "WorkerProcessDied" && message.contains("SIGKILL") && message.contains("tenant mallory"),
        "{kind}: {message}"
    );
    let told = laboratory.recorder.events().into_iter().any(|event| match event {
        Event::ExecutionError(error) => {
            error.prompt_id == hostile && error.node_id == "1" && error.node_type == "TestSleepLoop"
        }
        _ => false,
    });
    ensure!(told, "the client was not told where its prompt was: {:?}", laboratory.recorder.events());

    let next = failure(&laboratory.wait(&mallory, &waiting)?);
    ensure!(next.is_none(), "the next prompt of the same tenant: {next:?}");
    ensure!(laboratory.queue.history_entry(&alice, &honest)?.is_none(), "alice's prompt ended");
    ensure!(laboratory.worker.interrupt(&alice, Some(&honest)));
    laboratory.wait(&alice, &honest)?;
    let after = children("killed")?;
    ensure!(
        after.len() == 2 && before.iter().filter(|child| after.contains(child)).count() == 1,
        "{before:?} {after:?}"
    );
    Ok(())
}

#[test]
fn a_process_that_died_idle_is_not_noticed_by_the_next_prompt() -> Result<()> {
    let laboratory = two_at_a_time("idle-death")?;
    let tenant = TenantId::default_tenant();
    succeeds(&laboratory, &tenant, &busy(1))?;
    children("idle-death")?.first().context("a process")?.kill()?;
    until("it is gone", || children("idle-death").is_ok_and(|all| all.is_empty()))?;
    succeeds(&laboratory, &tenant, &busy(1))
}

#[test]
fn a_stopped_server_gives_its_prompt_back_and_leaves_no_process() -> Result<()> {
    let laboratory = two_at_a_time("stopped")?;
    let tenant = TenantId::default_tenant();
    let prompt_id = begin(&laboratory, &tenant)?;
    laboratory.worker.stop(std::time::Duration::ZERO);
    ensure!(laboratory.queue.history_entry(&tenant, &prompt_id)?.is_none(), "it was ended, not given back");
    ensure!(laboratory.queue.remaining(&tenant) == 1);
    until("no process is left", || children("stopped").is_ok_and(|all| all.is_empty()))
}
