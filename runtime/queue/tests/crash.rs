//! A process that is killed at any moment loses no accepted prompt and ends none twice.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use vivarium_protocol::history::{HistoryEntry, Status};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::{Lease, NewPrompt, Queue, QueueLimits, SqliteQueue};

const DIRECTORY: &str = "VIVARIUM_TEST_QUEUE_DIRECTORY";
const ROUND: &str = "VIVARIUM_TEST_QUEUE_ROUND";
const ROUNDS: u64 = 25;

/// Nothing is dropped and nothing is given up, so that every accepted prompt must end by itself.
fn open(directory: &Path) -> SqliteQueue {
    let limits =
        QueueLimits { max_pending_per_tenant: 1_000_000, max_history_per_tenant: 1_000_000, max_attempts: 1000 };
    SqliteQueue::open_with(directory.join("queue.sqlite"), limits).unwrap()
}

fn tenants() -> [TenantId; 2] {
    ["a", "b"].map(|name| TenantId::new(name).unwrap())
}

/// One line, written before anything else happens: it survives the kill.
fn note(directory: &Path, file: &str, prompt_id: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(directory.join(file)).unwrap();
    file.write_all(format!("{prompt_id}\n").as_bytes()).unwrap();
}

fn noted(directory: &Path, file: &str) -> Vec<String> {
    fs::read_to_string(directory.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn finish(queue: &SqliteQueue, lease: &Lease) {
    let status = Status { status_str: "success".to_owned(), completed: true, messages: vec![] };
    let entry =
        HistoryEntry { prompt: lease.item.clone(), outputs: Map::new(), status: Some(status), meta: Map::new() };
    queue.finish(lease, entry, 0.001).unwrap();
}

#[test]
fn child_that_queues_and_runs_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let (directory, round) = (Path::new(&directory), std::env::var(ROUND).unwrap());
    let queue = open(directory);
    queue.recover().unwrap();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let queue = &queue;
            scope.spawn(move || {
                while let Some(lease) = queue.lease_wait(&format!("worker {worker}"), Duration::from_secs(60)).unwrap()
                {
                    finish(queue, &lease);
                    note(directory, "finished", &lease.item.prompt_id);
                }
            });
        }
        for number in 0_u64.. {
            let [a, b] = tenants();
            let prompt_id = format!("{round}-{number}");
            let accepted = queue.enqueue(NewPrompt {
                tenant: if number.is_multiple_of(3) { a } else { b },
                prompt_id: prompt_id.clone(),
                number: None,
                front: number.is_multiple_of(5),
                prompt: json!({"1": {"class_type": "X".repeat((number % 3000) as usize), "inputs": {}}}),
                extra_data: Map::new(),
                outputs: vec!["1".to_owned()],
                client_id: None,
            });
            accepted.unwrap();
            note(directory, "accepted", &prompt_id);
        }
    });
}

/// How much was accepted: how far the children came.
fn accepted(directory: &Path) -> u64 {
    fs::metadata(directory.join("accepted")).map_or(0, |metadata| metadata.len())
}

/// A busy machine may take long to start a process; a broken one is not waited for.
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_at_any_moment_every_accepted_prompt_ends_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let before = accepted(directory.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_queues_and_runs_until_it_is_killed", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| accepted(directory.path()) > before);
        std::thread::sleep(Duration::from_millis(round * 5));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let queue = open(directory.path());
    queue.recover().unwrap();
    while let Some(lease) = queue.lease("last").unwrap() {
        finish(&queue, &lease);
    }
    let mut ends: HashMap<String, usize> = HashMap::new();
    for tenant in tenants() {
        assert_eq!(queue.remaining(&tenant), 0);
        for (prompt_id, entry) in queue.history(&tenant, None, None).unwrap() {
            assert_eq!(entry.prompt.prompt_id, prompt_id);
            *ends.entry(prompt_id).or_default() += 1;
        }
    }
    let accepted = noted(directory.path(), "accepted");
    assert!(accepted.len() > 100, "the children did work: {}", accepted.len());
    for prompt_id in &accepted {
        assert_eq!(ends.get(prompt_id), Some(&1), "{prompt_id}");
    }
    let finished = noted(directory.path(), "finished");
    let distinct: HashSet<_> = finished.iter().collect();
    assert_eq!(distinct.len(), finished.len(), "what had ended was never run again");
    assert!(ends.values().all(|count| *count == 1));
    // At most the one that was being accepted when the kill came is there without having been noted, per round.
    assert!(ends.len() - accepted.len() <= ROUNDS as usize, "{} ends, {} accepted", ends.len(), accepted.len());
}
