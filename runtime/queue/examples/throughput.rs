//! Prints how many prompts per second go through the queue: enqueue, lease, finish, each durable, on one thread and on four.
//! On a busy machine the processor time per prompt says more than the rate, so that is printed too (Linux).
//!
//! `cargo run --release -p vivarium-queue --example throughput`

use std::time::Instant;

use serde_json::{Map, json};
use vivarium_protocol::history::{HistoryEntry, Status};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::{NewPrompt, Queue, QueueError, SqliteQueue};

const CYCLES: u32 = 20_000;

fn new_prompt(tenant: &TenantId, number: u32) -> NewPrompt {
    let prompt = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": number}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    });
    NewPrompt {
        tenant: tenant.clone(),
        prompt_id: format!("{tenant}-{number:032x}"),
        number: None,
        front: false,
        prompt,
        extra_data: Map::new(),
        outputs: vec!["3".to_owned()],
        client_id: Some("throughput".to_owned()),
    }
}

fn cycle(queue: &SqliteQueue, tenant: &TenantId, number: u32) -> Result<(), QueueError> {
    queue.enqueue(new_prompt(tenant, number))?;
    let Some(lease) = queue.lease("throughput")? else { return Ok(()) };
    let messages = vec![
        ("execution_start".to_owned(), json!({"prompt_id": lease.item.prompt_id, "timestamp": 1})),
        ("execution_success".to_owned(), json!({"prompt_id": lease.item.prompt_id, "timestamp": 2})),
    ];
    let entry = HistoryEntry {
        prompt: lease.item.clone(),
        outputs: Map::new(),
        status: Some(Status { status_str: "success".to_owned(), completed: true, messages }),
        meta: Map::new(),
    };
    queue.finish(&lease, entry, 0.001)
}

/// Processor time of this process so far, in microseconds.
fn processor_time() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name: state, then numbers; user and system time are the 12th and 13th, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) * 10_000)
}

/// Cycles per second, and microseconds of processor time per cycle.
fn measure(threads: u32) -> Result<(f64, Option<u64>), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let queue = SqliteQueue::open(directory.path().join("queue.sqlite"))?;
    let (start, used_before) = (Instant::now(), processor_time());
    std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
        let mut workers = Vec::new();
        for thread in 0..threads {
            let tenant = TenantId::new(format!("tenant-{thread}"))?;
            let queue = &queue;
            workers
                .push(scope.spawn(move || (0..CYCLES / threads).try_for_each(|number| cycle(queue, &tenant, number))));
        }
        for worker in workers {
            worker.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })?;
    let rate = f64::from(CYCLES) / start.elapsed().as_secs_f64();
    let used = used_before.zip(processor_time()).map(|(before, after)| (after - before) / u64::from(CYCLES));
    Ok((rate, used))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for threads in [1, 4] {
        let (rate, used) = measure(threads)?;
        let used = used.map_or(String::new(), |micros| format!(", {micros} µs of processor time each"));
        println!("{threads} thread(s): {rate:.0} enqueue + lease + finish cycles per second{used}");
    }
    Ok(())
}
