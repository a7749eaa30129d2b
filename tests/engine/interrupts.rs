//! Interrupts: of what runs, of all that runs side by side, in loops, waits and host operations; and the next prompt runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vivarium_protocol::{
    event::{Event, NodeState},
    tenant::TenantId,
};
use vivarium_tests::{Laboratory, Settings, failure};
use vivarium_worker::Engine;

fn busy(milliseconds: u64) -> Value {
    json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds, "every": 5}}})
}

#[test]
fn an_interrupt_stops_a_node_that_runs_and_the_next_prompt_runs() -> Result<()> {
    let laboratory = Laboratory::start(Settings::default())?;
    let tenant = TenantId::default_tenant();
    let prompt_id = laboratory.submit(&tenant, &busy(30_000), Some("client"))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while laboratory.worker.running_node(&tenant).is_none() {
        if Instant::now() > deadline {
            bail!("the prompt did not start");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if laboratory.worker.interrupt(&tenant, Some("another prompt")) {
        bail!("an interrupt of another prompt was taken for this one");
    }
    if laboratory.worker.interrupt(&"stranger".parse()?, None) {
        bail!("a stranger could interrupt this tenant's prompt");
    }
    assert!(laboratory.worker.interrupt(&tenant, Some(&prompt_id)));
    let entry = laboratory.wait(&tenant, &prompt_id)?;
    let status = entry.status.context("a status")?;
    assert_eq!(status.messages.last().map(|(name, _)| name.as_str()), Some("execution_interrupted"));
    assert!(!status.completed);
    assert!(failure(&laboratory.run(&busy(1))?).is_none());
    Ok(())
}

fn working(work: &str, size: u64, branches: u64) -> Value {
    let mut prompt = json!({});
    for branch in 0..branches {
        let (node, show) = (format!("w{branch}"), format!("s{branch}"));
        prompt[&node] =
            json!({"class_type": "TestWork", "inputs": {"work": work, "size": size, "seed": branch, "value": branch}});
        prompt[&show] = json!({"class_type": "TestShow", "inputs": {"value": [node, 0]}});
    }
    prompt
}

/// Waits until so many nodes run.
fn wait_for_nodes(laboratory: &Laboratory, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let run = |event: &Event| match event {
        Event::ProgressState { nodes, .. } => nodes.values().filter(|node| node.state == NodeState::Running).count(),
        _ => 0,
    };
    while laboratory.recorder.events().iter().map(run).max().unwrap_or_default() < count {
        if Instant::now() > deadline {
            bail!("{count} nodes did not start");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Every work would go on for minutes; nothing but the interrupt can end it before the test gives up.
#[test]
fn an_interrupt_ends_loops_waits_and_host_operations_side_by_side_and_leaves_nothing() -> Result<()> {
    let tenant = TenantId::default_tenant();
    let mut settings = Settings::default();
    settings.worker.parallel_nodes = 3;
    let laboratory = Laboratory::start(settings)?;
    for (work, size) in [("loop", 1), ("wait", 300_000), ("matmul", 2000), ("conv2d", 512), ("sort", 1000)] {
        laboratory.recorder.clear();
        let prompt_id = laboratory.submit(&tenant, &working(work, size, 3), Some("client"))?;
        wait_for_nodes(&laboratory, 3).context(work)?;
        assert!(laboratory.worker.interrupt(&tenant, Some(&prompt_id)));
        let entry = laboratory.wait(&tenant, &prompt_id).context(work)?;
        let status = entry.status.context("a status")?;
        let last = status.messages.last().map(|(name, _)| name.as_str());
        assert_eq!((last, status.completed), (Some("execution_interrupted"), false), "{work}");
        let used = laboratory.worker.limits(&tenant);
        let used = used.iter().find(|limit| limit.name == "tenant_tensor_bytes").and_then(|limit| limit.used);
        assert_eq!(used, Some(0), "{work} left something behind");
        assert!(failure(&laboratory.run(&busy(1))?).is_none(), "the next prompt runs after {work}");
        laboratory.worker.free(&tenant, true, true);
    }
    Ok(())
}

#[test]
fn an_interrupt_ends_all_nodes_that_wait_beside_their_prompt() -> Result<()> {
    let tenant = TenantId::default_tenant();
    let laboratory = Laboratory::start(Settings::default())?;
    let mut prompt = json!({});
    for branch in 0..5 {
        let (node, show) = (format!("w{branch}"), format!("s{branch}"));
        prompt[&node] = json!({"class_type": "TestSleep", "inputs": {"value": branch, "seconds": 300.0}});
        prompt[&show] = json!({"class_type": "TestShow", "inputs": {"value": [node, 0]}});
    }
    let prompt_id = laboratory.submit(&tenant, &prompt, Some("client"))?;
    wait_for_nodes(&laboratory, 5)?;
    assert!(laboratory.worker.interrupt(&tenant, None));
    let entry = laboratory.wait(&tenant, &prompt_id)?;
    let last = entry.status.and_then(|status| status.messages.into_iter().next_back());
    assert_eq!(last.map(|(name, _)| name).as_deref(), Some("execution_interrupted"));
    assert!(failure(&laboratory.run(&busy(1))?).is_none());
    Ok(())
}
