//! What was accepted is not lost, however the server ends.
//!
//! Needs the test packs: `cargo xtask nodes` builds them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use support::{Place, Server, signal, vivarium};

const PATIENCE: Duration = Duration::from_secs(60);

fn start(place: &Place) -> Server {
    Server::start(place, &["--packs-directory", &test_packs()])
}

fn test_packs() -> String {
    let target = Path::new(env!("CARGO_BIN_EXE_vivarium")).ancestors().nth(2).unwrap();
    target.join("test-packs").to_str().unwrap().to_owned()
}

fn busy_for(milliseconds: u64) -> Value {
    json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds}}})
}

fn queue(server: &Server, prompt: &Value) -> String {
    let mut answer = ureq::post(format!("{}/prompt", server.url)).send_json(json!({"prompt": prompt})).unwrap();
    let accepted: Value = answer.body_mut().read_json().unwrap();
    accepted["prompt_id"].as_str().unwrap().to_owned()
}

fn get(server: &Server, path: &str) -> Value {
    ureq::get(format!("{}{path}", server.url)).call().unwrap().body_mut().read_json().unwrap()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_running(server: &Server, prompt_id: &str) -> bool {
    get(server, "/queue")["queue_running"].as_array().unwrap().iter().any(|item| item[1] == prompt_id)
}

fn status_of(server: &Server, prompt_id: &str) -> Option<String> {
    let history = get(server, &format!("/history/{prompt_id}"));
    history[prompt_id]["status"]["status_str"].as_str().map(str::to_owned)
}

#[test]
fn after_kill_nine_the_running_prompt_runs_again_and_the_waiting_one_runs() {
    let place = Place::new();
    let mut server = start(&place);
    let done = queue(&server, &busy_for(1));
    wait_for("the first prompt", || status_of(&server, &done).is_some());
    let (running, waiting) = (queue(&server, &busy_for(1_500)), queue(&server, &busy_for(2)));
    wait_for("the second prompt to run", || is_running(&server, &running));
    server.signal("KILL");
    server.exit_code();

    let server = start(&place);
    assert_eq!(status_of(&server, &done).as_deref(), Some("success"), "the history is kept");
    for prompt in [running, waiting] {
        wait_for("a prompt of before", || status_of(&server, &prompt).is_some());
        assert_eq!(status_of(&server, &prompt).as_deref(), Some("success"));
    }
}

#[test]
fn a_server_that_is_told_to_stop_gives_a_long_prompt_back_to_the_queue() {
    let place = Place::new();
    let mut server = start(&place);
    let long = queue(&server, &busy_for(600_000));
    wait_for("the prompt to run", || is_running(&server, &long));
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));

    let server = start(&place);
    wait_for("the prompt to run again", || is_running(&server, &long));
    ureq::post(format!("{}/interrupt", server.url)).send_empty().unwrap();
    wait_for("the interrupt", || status_of(&server, &long).is_some());
}

#[test]
fn a_second_signal_stops_at_once() {
    let place = Place::new();
    let mut server = start(&place);
    let long = queue(&server, &busy_for(600_000));
    wait_for("the prompt to run", || is_running(&server, &long));
    server.signal("INT");
    thread::sleep(Duration::from_millis(300));
    let asked_again = Instant::now();
    server.signal("INT");
    assert_eq!(server.exit_code(), Some(130));
    assert!(asked_again.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_signal_ends_a_run_and_leaves_nothing_behind() {
    let place = Place::new();
    let workflow = place.write("workflow.json", busy_for(600_000).to_string());
    let scratch = place.text("scratch");
    fs::create_dir(&scratch).unwrap();
    let base = place.text("base");
    let mut run = vivarium(&["run", &workflow, "--base-directory", &base, "--packs-directory", &test_packs()]);
    let mut process = run.env("TMPDIR", &scratch).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("TestSleepLoop")).unwrap().unwrap();
    signal(&process, "INT");
    let rest: String = lines.map(Result::unwrap).collect();
    assert_eq!(process.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("interrupted"), "{rest}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
}
