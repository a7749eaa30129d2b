//! What a full disk does. Needs a directory on a small disk of its own, so it runs only when asked:
//! `mount -t tmpfs -o size=4m none DIR; VIVARIUM_TEST_SMALL_DISK=DIR cargo test -p vivarium-queue --test full_disk -- --ignored`
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use serde_json::{Map, json};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::{NewPrompt, Queue, QueueError, SqliteQueue};

fn new(prompt_id: String) -> NewPrompt {
    NewPrompt {
        tenant: TenantId::default_tenant(),
        prompt_id,
        number: None,
        front: false,
        prompt: json!({"1": {"class_type": "x".repeat(20_000), "inputs": {}}}),
        extra_data: Map::new(),
        outputs: vec![],
        client_id: None,
    }
}

#[test]
#[ignore = "needs a small disk"]
fn a_full_disk_refuses_new_prompts_keeps_the_accepted_and_heals() {
    let base = PathBuf::from(std::env::var("VIVARIUM_TEST_SMALL_DISK").unwrap()).join("queue-test");
    let tenant = TenantId::default_tenant();
    let queue = SqliteQueue::open(base.join("queue.sqlite")).unwrap();
    let filler = base.join("filler");
    std::fs::write(&filler, vec![1; 1_000_000]).unwrap();
    let mut accepted = 0;
    let error = loop {
        match queue.enqueue(new(accepted.to_string())) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, QueueError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("queue.sqlite"), "{error}");
    assert!(accepted > 0);
    assert_eq!(queue.remaining(&tenant), accepted);
    assert_eq!(queue.pending(&tenant).unwrap().len(), accepted);
    std::fs::remove_file(filler).unwrap();
    queue.enqueue(new("after".to_owned())).unwrap();
    drop(queue);
    let queue = SqliteQueue::open(base.join("queue.sqlite")).unwrap();
    assert_eq!(queue.pending(&tenant).unwrap().len(), accepted + 1);
    drop(queue);
    std::fs::remove_dir_all(base).unwrap();
}
