//! The queue's promises, one per test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use vivarium_protocol::history::{HistoryEntry, Status};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::{
    Enqueued, JobFilter, Lease, NewPrompt, Once, PromptState, Queue, QueueError, QueueLimits, SqliteQueue, TenantQuota,
};

struct Bench {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/queue.sqlite");
    Bench { _directory: directory, path }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn new(tenant_name: &str, prompt_id: &str) -> NewPrompt {
    NewPrompt {
        tenant: tenant(tenant_name),
        prompt_id: prompt_id.to_owned(),
        number: None,
        front: false,
        prompt: json!({"9": {"class_type": "A", "inputs": {"b": 1.5, "a": "ü"}}}),
        extra_data: Map::new(),
        outputs: vec!["9".to_owned()],
        client_id: Some("client".to_owned()),
    }
}

fn ended(lease: &Lease, messages: Value) -> HistoryEntry {
    let failed = messages.to_string().contains("execution_error") || messages.to_string().contains("interrupted");
    HistoryEntry {
        prompt: lease.item.clone(),
        outputs: json!({"9": {"images": [{"filename": "x.png", "subfolder": "", "type": "output"}]}})
            .as_object()
            .unwrap()
            .clone(),
        status: Some(Status {
            status_str: if failed { "error" } else { "success" }.to_owned(),
            completed: !failed,
            messages: serde_json::from_value(messages).unwrap(),
        }),
        meta: Map::new(),
    }
}

fn run_next(queue: &SqliteQueue) -> String {
    let lease = queue.lease("worker").unwrap().unwrap();
    queue.finish(&lease, ended(&lease, json!([])), 0.1).unwrap();
    lease.item.prompt_id
}

fn ids(items: Vec<vivarium_protocol::history::QueueItem>) -> Vec<String> {
    items.into_iter().map(|item| item.prompt_id).collect()
}

#[test]
fn the_lower_number_goes_first_then_the_prompt_id() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    assert_eq!(queue.enqueue(new("a", "first")).unwrap().number, 0.0);
    assert_eq!(queue.next_number(&tenant("a")).unwrap(), 1, "a refused prompt uses a number too");
    assert_eq!(queue.enqueue(new("a", "second")).unwrap().number, 2.0);
    assert_eq!(queue.enqueue(NewPrompt { front: true, ..new("a", "front") }).unwrap().number, -3.0);
    assert_eq!(queue.enqueue(NewPrompt { number: Some(0.5), ..new("a", "z") }).unwrap().number, 0.5);
    queue.enqueue(NewPrompt { number: Some(0.5), ..new("a", "y") }).unwrap();
    assert_eq!(
        queue.enqueue(new("a", "last")).unwrap().number,
        4.0,
        "an explicit number uses no number of the counter"
    );
    assert_eq!(queue.enqueue(new("b", "other")).unwrap().number, 0.0, "every tenant has its own counter");
    let order = ["front", "first", "y", "z", "second", "last"];
    assert_eq!(ids(queue.pending(&tenant("a")).unwrap()), order);
    let run: Vec<_> = (0..7).map(|_| run_next(&queue)).filter(|id| id != "other").collect();
    assert_eq!(run, order);
    let refused = queue.enqueue(NewPrompt { number: Some(f64::NAN), ..new("a", "nan") }).unwrap_err();
    assert!(matches!(refused, QueueError::Number { .. }));
}

#[test]
fn everything_survives_closing_and_the_counter_goes_on() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(new("a", "1")).unwrap();
    let item = queue.pending(&tenant("a")).unwrap().remove(0);
    assert!(item.extra_data["create_time"].as_i64().unwrap() > 1_600_000_000_000);
    queue.enqueue(new("a", "2")).unwrap();
    run_next(&queue);
    drop(queue);
    let queue = SqliteQueue::open(&bench.path).unwrap();
    assert_eq!(queue.remaining(&tenant("a")), 1);
    assert_eq!(queue.history_entry(&tenant("a"), "1").unwrap().unwrap().prompt, item);
    assert_eq!(queue.enqueue(new("a", "3")).unwrap().number, 2.0);
    let lease = queue.lease("worker").unwrap().unwrap();
    assert_eq!((lease.item.prompt_id.as_str(), lease.client_id.as_deref(), lease.attempt), ("2", Some("client"), 1));
}

#[test]
fn a_prompt_whose_process_died_is_run_again_and_given_up_after_three_times() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(new("a", "deadly")).unwrap();
    let lease = queue.lease("worker").unwrap().unwrap();
    assert_eq!(lease.attempt, 1);
    drop(queue);
    for attempt in 2..=3 {
        let queue = SqliteQueue::open(&bench.path).unwrap();
        assert_eq!(queue.remaining(&tenant("a")), 1);
        assert_eq!(queue.recover().unwrap(), 1);
        assert_eq!(queue.lease("worker").unwrap().unwrap().attempt, attempt);
        assert_eq!(queue.recover().unwrap(), 0, "leases of this process are not orphans");
    }
    let queue = SqliteQueue::open(&bench.path).unwrap();
    assert_eq!(queue.recover().unwrap(), 1);
    assert_eq!((queue.remaining(&tenant("a")), queue.lease("worker").unwrap().is_none()), (0, true));
    let entry = queue.history_entry(&tenant("a"), "deadly").unwrap().unwrap();
    let status = entry.status.unwrap();
    assert_eq!((status.status_str.as_str(), status.completed), ("error", false));
    assert!(status.messages[0].1["exception_message"].as_str().unwrap().contains("3 times"));
    assert_eq!(queue.status_of(&tenant("a"), "deadly").unwrap(), Some(PromptState::Failed));
}

#[test]
fn gpus_that_failed_with_a_prompt_are_counted_and_the_count_outlives_the_process() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(new("a", "1")).unwrap();
    drop(queue);
    // As an earlier version left it.
    let file = rusqlite::Connection::open(&bench.path).unwrap();
    file.execute_batch("ALTER TABLE prompt DROP COLUMN gpu_failures").unwrap();
    drop(file);
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let first = queue.lease("worker").unwrap().unwrap();
    assert_eq!(first.gpu_failures, 0);
    queue.requeue_lost(&first).unwrap();
    let second = queue.lease("worker").unwrap().unwrap();
    assert_eq!((second.gpu_failures, second.attempt), (1, 1));
    assert!(matches!(queue.requeue_lost(&first), Err(QueueError::LeaseLost { .. })));
    queue.requeue(&second).unwrap();
    drop(queue);
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let third = queue.lease("worker").unwrap().unwrap();
    assert_eq!(third.gpu_failures, 1, "given back unrun is no failure, and a new server is no fresh start");
    queue.finish(&third, ended(&third, json!([])), 1.0).unwrap();
}

#[test]
fn a_lease_that_was_lost_cannot_finish() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(new("a", "1")).unwrap();
    let old = queue.lease("worker").unwrap().unwrap();
    queue.requeue(&old).unwrap();
    let live = queue.lease("worker").unwrap().unwrap();
    assert_eq!(live.attempt, 1, "giving back is no attempt");
    let lost = |result| matches!(result, Err(QueueError::LeaseLost { .. }));
    assert!(lost(queue.finish(&old, ended(&old, json!([])), 1.0)));
    assert!(lost(queue.requeue(&old)));
    queue.finish(&live, ended(&live, json!([])), 1.0).unwrap();
    assert!(lost(queue.finish(&live, ended(&live, json!([])), 1.0)));
    assert_eq!((queue.remaining(&tenant("a")), queue.history(&tenant("a"), None, None).unwrap().len()), (0, 1));
}

#[test]
fn tenants_see_nothing_of_each_other() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    for id in ["waits", "runs", "done"] {
        queue.enqueue(NewPrompt { number: Some(-(id.len() as f64)), ..new("a", id) }).unwrap();
    }
    assert_eq!(run_next(&queue), "waits");
    queue.enqueue(NewPrompt { number: Some(9.0), ..new("a", "later") }).unwrap();
    queue.lease("worker").unwrap().unwrap();
    let (mine, other) = (tenant("a"), tenant("b"));
    let all = ["waits", "runs", "done", "later"].map(str::to_owned);
    for id in &all {
        assert_eq!(queue.status_of(&other, id).unwrap(), None);
        assert_eq!(queue.history_entry(&other, id).unwrap(), None);
        assert_eq!(queue.job(&other, id).unwrap(), None);
    }
    assert_eq!(queue.delete_pending(&other, &all).unwrap() + queue.clear_pending(&other).unwrap(), 0);
    assert_eq!(queue.delete_history(&other, &all).unwrap() + queue.clear_history(&other).unwrap(), 0);
    assert_eq!(queue.jobs(&other, &JobFilter::default()).unwrap().pagination.total, 0);
    assert!(queue.pending(&other).unwrap().is_empty() && queue.running(&other).unwrap().is_empty());
    assert_eq!((queue.remaining(&other), queue.remaining(&mine)), (0, 3));
    assert_eq!(queue.jobs(&mine, &JobFilter::default()).unwrap().pagination.total, 4);
}

#[test]
fn a_tenant_with_a_thousand_prompts_does_not_hold_up_another() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    for number in 0..1000 {
        queue.enqueue(new("greedy", &number.to_string())).unwrap();
    }
    for _ in 0..10 {
        run_next(&queue);
    }
    queue.enqueue(new("modest", "mine")).unwrap();
    assert!((0..3).any(|_| run_next(&queue) == "mine"));
}

#[test]
fn a_full_queue_refuses_and_names_the_limit() {
    let bench = bench();
    let limits = QueueLimits { max_pending_per_tenant: 2, ..QueueLimits::default() };
    let queue = SqliteQueue::open_with(&bench.path, limits).unwrap();
    queue.enqueue(new("a", "1")).unwrap();
    queue.enqueue(new("a", "2")).unwrap();
    let error = queue.enqueue(new("a", "3")).unwrap_err().to_string();
    assert!(error.contains("queue of a") && error.contains("2 prompts"), "{error}");
    queue.enqueue(new("b", "3")).unwrap();
    assert_eq!(queue.delete_pending(&tenant("a"), &["1".to_owned(), "unknown".to_owned()]).unwrap(), 1);
    queue.enqueue(new("a", "3")).unwrap();
    assert_eq!(queue.clear_pending(&tenant("a")).unwrap(), 2);
    assert_eq!(queue.remaining(&tenant("a")), 0);
    assert_eq!(run_next(&queue), "3");
    assert!(queue.lease("worker").unwrap().is_none());
}

#[test]
fn seconds_of_gpus_have_a_limit_of_their_own_and_outlive_the_process() {
    let bench = bench();
    let quota = TenantQuota { gpu_seconds_per_hour: 10.0, ..TenantQuota::default() };
    let open = || {
        let queue = SqliteQueue::open(&bench.path).unwrap();
        queue.limit_tenants(std::sync::Arc::new(move |_: &TenantId| quota));
        queue
    };
    let queue = open();
    queue.enqueue(new("a", "1")).unwrap();
    queue.spend_gpu(&tenant("a"), 9.0).unwrap();
    queue.enqueue(new("a", "2")).unwrap();
    queue.spend_gpu(&tenant("a"), 1.5).unwrap();
    drop(queue);
    let queue = open();
    assert_eq!((queue.spent_gpu_seconds(&tenant("a")), queue.spent_seconds(&tenant("a"))), (10.5, 0.0));
    let error = queue.enqueue(new("a", "3")).unwrap_err().to_string();
    assert!(error.contains("a used 10 s of GPUs") || error.contains("a used 11 s of GPUs"), "{error}");
    // What waits already waits longer; others are not concerned.
    assert!(queue.lease("worker").unwrap().is_none());
    queue.enqueue(new("b", "1")).unwrap();
    assert_eq!(queue.lease("worker").unwrap().unwrap().tenant, tenant("b"));
}

#[test]
fn history_is_cut_at_its_limit_paged_and_repeated_ids_replace() {
    let bench = bench();
    let limits = QueueLimits { max_history_per_tenant: 5, ..QueueLimits::default() };
    let queue = SqliteQueue::open_with(&bench.path, limits).unwrap();
    for number in 0..7 {
        queue.enqueue(new("a", &number.to_string())).unwrap();
        run_next(&queue);
    }
    let page = |max_items, offset| {
        queue.history(&tenant("a"), max_items, offset).unwrap().into_keys().collect::<Vec<_>>().join("")
    };
    assert_eq!(page(None, None), "23456");
    assert_eq!(page(Some(2), None), "56", "without an offset the newest");
    assert_eq!(page(Some(2), Some(1)), "34");
    assert_eq!(page(None, Some(3)), "56");
    assert_eq!(page(Some(100), Some(-1)), "23456");
    assert_eq!((page(Some(0), None), page(Some(1), Some(99))), (String::new(), String::new()));
    queue.enqueue(new("a", "3")).unwrap();
    run_next(&queue);
    assert_eq!(page(None, None), "24563");
    assert_eq!(queue.delete_history(&tenant("a"), &["4".to_owned(), "unknown".to_owned()]).unwrap(), 1);
    queue.enqueue(new("a", "7")).unwrap();
    run_next(&queue);
    assert_eq!(page(None, None), "25637", "the count was kept right");
    assert_eq!(queue.clear_history(&tenant("a")).unwrap(), 5);
    assert_eq!(page(None, None), "");
}

#[test]
fn secrets_reach_the_worker_and_nobody_else() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let extra_data = json!({"auth_token_comfy_org": "secret", "api_key_comfy_org": "secret", "kept": 1});
    let prompt = NewPrompt { extra_data: extra_data.as_object().unwrap().clone(), ..new("a", "1") };
    queue.enqueue(prompt).unwrap();
    let mine = tenant("a");
    let clean = |value: Value| !value.to_string().contains("secret") && value.to_string().contains("kept");
    assert!(clean(json!(queue.pending(&mine).unwrap())));
    assert!(clean(json!(queue.job(&mine, "1").unwrap())));
    let lease = queue.lease("worker").unwrap().unwrap();
    assert_eq!(lease.item.extra_data["auth_token_comfy_org"], "secret");
    assert!(clean(json!(queue.running(&mine).unwrap())));
    queue.finish(&lease, ended(&lease, json!([])), 0.1).unwrap();
    assert!(clean(json!(queue.history(&mine, None, None).unwrap())));
    assert!(clean(json!(queue.job(&mine, "1").unwrap())));
}

#[test]
fn the_job_list_filters_pages_and_shows_the_newest_first() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let ends = [
        ("good", json!([["execution_start", {"timestamp": 10}], ["execution_success", {"timestamp": 20}]])),
        ("bad", json!([["execution_error", {"node_id": "9", "timestamp": 30}]])),
        ("stopped", json!([["execution_interrupted", {"timestamp": 40}]])),
    ];
    let mine = tenant("a");
    let enqueue = |id: &str, created: i64| {
        let extra_data = json!({"create_time": created, "extra_pnginfo": {"workflow": {"id": format!("w-{id}")}}});
        queue.enqueue(NewPrompt { extra_data: extra_data.as_object().unwrap().clone(), ..new("a", id) }).unwrap();
    };
    for (created, (id, messages)) in ends.into_iter().enumerate() {
        enqueue(id, created as i64);
        let lease = queue.lease("worker").unwrap().unwrap();
        queue.finish(&lease, ended(&lease, messages), 0.1).unwrap();
    }
    enqueue("runs", 100);
    queue.lease("worker").unwrap().unwrap();
    enqueue("waits", 101);
    let list =
        |filter: &JobFilter| queue.jobs(&mine, filter).unwrap().jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(list(&JobFilter::default()), ["waits", "runs", "stopped", "bad", "good"]);
    assert_eq!(list(&JobFilter { oldest_first: true, limit: Some(2), ..JobFilter::default() }), ["good", "bad"]);
    let only = |states: &[PromptState]| list(&JobFilter { states: states.to_vec(), ..JobFilter::default() });
    assert_eq!(only(&[PromptState::Completed, PromptState::Cancelled]), ["stopped", "good"]);
    assert_eq!(only(&[PromptState::Pending]), ["waits"]);
    assert_eq!(only(&[PromptState::InProgress, PromptState::Failed]), ["runs", "bad"]);
    assert_eq!(list(&JobFilter { workflow_id: Some("w-bad".to_owned()), ..JobFilter::default() }), ["bad"]);
    let page = queue.jobs(&mine, &JobFilter { limit: Some(2), offset: 1, ..JobFilter::default() }).unwrap();
    assert_eq!(json!(page.pagination), json!({"offset": 1, "limit": 2, "total": 5, "has_more": true}));
    let past = queue.jobs(&mine, &JobFilter { offset: u64::MAX, ..JobFilter::default() }).unwrap();
    assert_eq!((past.jobs.len(), past.pagination.has_more), (0, false));
    let good = json!(queue.job(&mine, "good").unwrap().unwrap());
    assert_eq!(good["preview_output"]["nodeId"], "9");
    assert_eq!((&good["execution_start_time"], &good["execution_end_time"]), (&json!(10), &json!(20)));
    assert_eq!((&good["workflow"]["prompt"]["9"]["class_type"], &good["status"]), (&json!("A"), &json!("completed")));
    assert_eq!(json!(queue.job(&mine, "runs").unwrap().unwrap())["status"], "in_progress");
    assert_eq!(queue.status_of(&mine, "waits").unwrap(), Some(PromptState::Pending));
    assert_eq!(queue.status_of(&mine, "runs").unwrap(), Some(PromptState::InProgress));
    assert_eq!(queue.status_of(&mine, "stopped").unwrap(), Some(PromptState::Cancelled));
    assert_eq!(queue.status_of(&mine, "unknown").unwrap(), None);
}

#[test]
fn waiting_workers_wake_up_when_work_comes_and_give_up_in_time() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let start = Instant::now();
    assert!(queue.lease_wait("worker", Duration::from_millis(50)).unwrap().is_none());
    assert!(start.elapsed() >= Duration::from_millis(50));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| queue.lease_wait("worker", Duration::from_secs(20)).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        queue.enqueue(new("a", "1")).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().item.prompt_id, "1");
    });
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn threads_never_get_the_same_prompt() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let mut run: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|thread| {
                let queue = &queue;
                scope.spawn(move || {
                    let mut run = Vec::new();
                    for number in 0..100 {
                        queue.enqueue(new(&format!("t{}", number % 3), &format!("{thread}-{number}"))).unwrap();
                        run.push(run_next(queue));
                    }
                    run
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    run.sort_unstable();
    run.dedup();
    assert_eq!(run.len(), 400);
}

#[test]
fn a_second_server_on_the_same_queue_is_told_who_has_it() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let error = SqliteQueue::open(&bench.path).unwrap_err();
    assert!(matches!(error, QueueError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&std::process::id().to_string()) && text.contains("queue.sqlite"), "{text}");
    drop(queue);
    SqliteQueue::open(&bench.path).unwrap();
}

#[test]
fn files_that_are_no_queue_or_from_the_future_are_told_apart_and_left_alone() {
    let bench = bench();
    fs::create_dir_all(bench.path.parent().unwrap()).unwrap();
    fs::write(&bench.path, "this is a letter, not a database; ".repeat(100)).unwrap();
    let error = SqliteQueue::open(&bench.path).unwrap_err();
    assert!(matches!(error, QueueError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("queue.sqlite"), "{error}");
    fs::remove_file(&bench.path).unwrap();
    drop(SqliteQueue::open(&bench.path).unwrap());
    let file = rusqlite::Connection::open(&bench.path).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let error = SqliteQueue::open(&bench.path).unwrap_err();
    assert!(matches!(error, QueueError::NewerFormat { found: 99, .. }), "{error:?}");
    let in_the_way = bench.path.join("below-a-file/queue.sqlite");
    let error = SqliteQueue::open(in_the_way).unwrap_err();
    assert!(error.to_string().contains("below-a-file"), "{error}");
}

#[test]
fn a_stored_prompt_that_cannot_be_read_ends_as_an_error_and_the_next_one_runs() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(new("a", "broken")).unwrap();
    queue.enqueue(new("a", "fine")).unwrap();
    drop(queue);
    let file = rusqlite::Connection::open(&bench.path).unwrap();
    file.execute("UPDATE prompt SET prompt = '{' WHERE prompt_id = 'broken'", []).unwrap();
    drop(file);
    let queue = SqliteQueue::open(&bench.path).unwrap();
    assert_eq!(queue.pending(&tenant("a")).unwrap().len(), 2);
    assert_eq!(run_next(&queue), "fine");
    assert_eq!(queue.status_of(&tenant("a"), "broken").unwrap(), Some(PromptState::Failed));
    assert_eq!(queue.remaining(&tenant("a")), 0);
}

#[test]
fn a_key_queues_one_prompt_of_its_tenant_and_outlives_the_process() {
    let bench = bench();
    let once = |request: &str| Once { key: "k".to_owned(), request: request.to_owned(), note: "{}".to_owned() };
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let Enqueued::Now(item) = queue.enqueue_once(new("a", "first"), once("r")).unwrap() else { panic!() };
    drop(queue);
    let queue = SqliteQueue::open(&bench.path).unwrap();
    let Enqueued::Before(before) = queue.enqueue_once(new("a", "second"), once("other")).unwrap() else { panic!() };
    assert_eq!((before.request.as_str(), before.prompt_id.as_str(), before.number), ("r", "first", item.number));
    assert_eq!(queue.remembered(&tenant("a"), "k").unwrap(), Some(before));
    assert_eq!(queue.remembered(&tenant("b"), "k").unwrap(), None);
    assert!(matches!(queue.enqueue_once(new("b", "third"), once("r")).unwrap(), Enqueued::Now(_)));
    assert_eq!((queue.remaining(&tenant("a")), queue.remaining(&tenant("b"))), (1, 1));
}

/// Files of the queue that hold a text.
fn holding(path: &std::path::Path, text: &str) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &PathBuf| fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    entries.filter(holds).map(|path| path.display().to_string()).collect()
}

fn with_key(prompt_id: &str, key: &str) -> NewPrompt {
    let extra_data = json!({"api_key_comfy_org": key, "note": "x".repeat(20_000)}).as_object().unwrap().clone();
    NewPrompt { extra_data, ..new("default", prompt_id) }
}

#[test]
fn keys_of_clients_are_in_no_file_once_their_prompts_have_left_the_queue() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    for (number, key) in ["key-one", "key-two", "key-three"].into_iter().enumerate() {
        queue.enqueue(with_key(&number.to_string(), key)).unwrap();
        assert!(!holding(&bench.path, key).is_empty(), "a prompt that waits can run after a restart");
    }
    let lease = queue.lease("w").unwrap().unwrap();
    assert_eq!(lease.item.extra_data["api_key_comfy_org"], "key-one");
    queue.requeue(&lease).unwrap();
    run_next(&queue);
    queue.delete_pending(&tenant("default"), &["1".to_owned()]).unwrap();
    queue.clear_pending(&tenant("default")).unwrap();
    for key in ["key-one", "key-two", "key-three"] {
        assert_eq!(holding(&bench.path, key), [""; 0], "{key}");
    }
    assert_eq!(queue.history(&tenant("default"), None, None).unwrap().len(), 1);
}

#[test]
fn keys_of_clients_that_an_earlier_process_left_are_overwritten_too() {
    let bench = bench();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(with_key("a", "key-left")).unwrap();
    drop(queue);
    let queue = SqliteQueue::open(&bench.path).unwrap();
    assert!(!holding(&bench.path, "key-left").is_empty());
    run_next(&queue);
    assert_eq!(holding(&bench.path, "key-left"), [""; 0]);
}

#[cfg(unix)]
#[test]
fn nobody_else_on_the_machine_reads_the_queue() {
    use std::os::unix::fs::PermissionsExt;
    let bench = bench();
    drop(SqliteQueue::open(&bench.path).unwrap());
    fs::set_permissions(&bench.path, fs::Permissions::from_mode(0o644)).unwrap();
    let queue = SqliteQueue::open(&bench.path).unwrap();
    queue.enqueue(new("default", "a")).unwrap();
    for entry in fs::read_dir(bench.path.parent().unwrap()).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with(".lock") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{name}");
        }
    }
}
