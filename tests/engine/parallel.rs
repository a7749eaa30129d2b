//! Branches that compute side by side: they do so, and nobody can tell from what comes out.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use vivarium_protocol::{
    event::{Event, NodeState},
    history::HistoryEntry,
    tenant::TenantId,
};
use vivarium_tests::{Laboratory, Settings, failure};
use vivarium_worker::Engine;

fn laboratory(parallel: usize) -> Result<Laboratory> {
    let mut settings = Settings::default();
    settings.worker.parallel_nodes = parallel;
    Laboratory::start(settings)
}

/// Branches of two slow nodes each, all of which save under one name. The later ones are quicker.
fn branches(count: u64) -> Value {
    let mut prompt = json!({});
    for branch in 0..count {
        let id = |part: u64| (branch * 10 + part).to_string();
        let wait = 40 * (count - branch);
        let image = json!({"width": 8 + branch, "height": 8, "batch_size": 1, "color": 7});
        prompt[id(1)] = json!({"class_type": "EmptyImage", "inputs": image});
        prompt[id(2)] =
            json!({"class_type": "TestWork", "inputs": {"work": "wait", "size": wait, "value": [id(1), 0]}});
        prompt[id(3)] = json!({"class_type": "TestWork", "inputs": {"work": "wait", "size": 20, "value": [id(2), 0]}});
        prompt[id(4)] =
            json!({"class_type": "SaveImage", "inputs": {"images": [id(3), 0], "filename_prefix": "branch"}});
    }
    prompt
}

/// What clients are told of a run, apart from progress, which tells what is so, and the last word, which may come after the
/// history was asked.
fn told(laboratory: &Laboratory) -> Vec<String> {
    let shown = |event| match event {
        Event::Executing(executing) if executing.node.is_some() => Some(format!("executing {:?}", executing.node)),
        Event::Executed { node, output, .. } => Some(format!("executed {node}: {output:?}")),
        Event::ExecutionCached { nodes, .. } => Some(format!("cached {nodes:?}")),
        Event::ExecutionSuccess { .. } => Some("success".to_owned()),
        _ => None,
    };
    laboratory.recorder.events().into_iter().filter_map(shown).collect()
}

/// The most nodes that were seen running at once.
fn most_running(laboratory: &Laboratory) -> usize {
    let running = |event| match event {
        Event::ProgressState { nodes, .. } => nodes.values().filter(|node| node.state == NodeState::Running).count(),
        _ => 0,
    };
    laboratory.recorder.events().into_iter().map(running).max().unwrap_or_default()
}

fn outputs(entry: &HistoryEntry) -> BTreeMap<String, Value> {
    entry.outputs.iter().map(|(id, output)| (id.clone(), output.clone())).collect()
}

#[test]
fn branches_run_side_by_side_and_clients_see_what_they_see_without() -> Result<()> {
    let mut seen = Vec::new();
    for parallel in [1, 2, 4] {
        let laboratory = laboratory(parallel)?;
        let first = laboratory.run(&branches(4))?;
        assert!(failure(&first).is_none(), "{:?}", failure(&first));
        assert_eq!(most_running(&laboratory), parallel);
        let ids: Vec<String> = first.outputs.keys().cloned().collect();
        let told_first = told(&laboratory);
        laboratory.recorder.clear();
        let again = laboratory.run(&branches(4))?;
        seen.push((told_first, ids, outputs(&first), told(&laboratory), outputs(&again)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    Ok(())
}

#[test]
fn calls_over_a_list_run_side_by_side_and_keep_their_order() -> Result<()> {
    let prompt = json!({
        "1": {"class_type": "TestList", "inputs": {"count": 6}},
        "2": {"class_type": "TestWork", "inputs": {"work": "wait", "size": 20, "value": ["1", 0]}},
        "3": {"class_type": "TestShow", "inputs": {"value": ["2", 0]}}
    });
    for parallel in [1, 3] {
        let entry = laboratory(parallel)?.run(&prompt)?;
        assert_eq!(entry.outputs["3"]["text"], json!(["0", "1", "2", "3", "4", "5"]));
    }
    Ok(())
}

#[test]
fn twins_run_once() -> Result<()> {
    let twin = json!({"class_type": "TestWork", "inputs": {"work": "wait", "size": 30}});
    let show = |source: &str| json!({"class_type": "TestShow", "inputs": {"value": [source, 0]}});
    let prompt = json!({"1": twin, "2": twin, "3": show("1"), "4": show("2")});
    let laboratory = laboratory(4)?;
    laboratory.run(&prompt)?;
    let ran: Vec<String> = told(&laboratory).into_iter().filter(|line| line.starts_with("executing")).collect();
    assert!(
        !(ran.iter().any(|line| line.contains("\"1\"")) && ran.iter().any(|line| line.contains("\"2\""))),
        "{ran:?}"
    );
    Ok(())
}

#[test]
fn an_error_is_raised_when_its_node_has_its_turn() -> Result<()> {
    // The second branch fails at once, the first takes its time.
    let prompt = json!({
        "1": {"class_type": "TestWork", "inputs": {"work": "wait", "size": 100}},
        "2": {"class_type": "TestShow", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "TestSyncError", "inputs": {"value": 1}},
        "4": {"class_type": "TestShow", "inputs": {"value": ["3", 0]}}
    });
    let mut ends = Vec::new();
    for parallel in [1, 3] {
        let laboratory = laboratory(parallel)?;
        let entry = laboratory.run(&prompt)?;
        ends.push((told(&laboratory), outputs(&entry), failure(&entry)));
        assert!(failure(&laboratory.run(&branches(1))?).is_none(), "the next prompt runs");
    }
    assert!(ends[0].2.is_some() && ends[0].1.contains_key("2"), "{ends:?}");
    assert_eq!(ends[0], ends[1]);
    Ok(())
}

#[test]
fn what_has_room_only_alone_runs_alone() -> Result<()> {
    let mut settings = Settings::default();
    settings.worker.parallel_nodes = 4;
    // Room for two images of 1024² RGB (12.6 MB each); each branch makes two, one after another.
    settings.limits.tenant_tensor_bytes = 30 << 20;
    let laboratory = Laboratory::start(settings)?;
    let mut prompt = json!({});
    for branch in 0..4 {
        let id = |part: u64| (branch * 10 + part).to_string();
        let image = json!({"width": 1024, "height": 1024, "batch_size": 1, "color": branch});
        prompt[id(1)] = json!({"class_type": "EmptyImage", "inputs": image});
        prompt[id(2)] = json!({"class_type": "ImageInvert", "inputs": {"image": [id(1), 0]}});
        prompt[id(3)] = json!({"class_type": "TestShow", "inputs": {"value": [id(2), 0]}});
    }
    let entry = laboratory.run(&prompt)?;
    assert!(failure(&entry).is_none(), "{:?}", failure(&entry));
    assert_eq!(entry.outputs.len(), 4);
    let used = laboratory.worker.limits(&TenantId::default_tenant());
    let used = used.iter().find(|limit| limit.name == "tenant_tensor_bytes").and_then(|limit| limit.used);
    assert!(used.is_some_and(|bytes| bytes <= 30 << 20), "{used:?}");
    Ok(())
}
