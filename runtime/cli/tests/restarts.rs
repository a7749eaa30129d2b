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

/// Also: what was queued behind it waits for the next start.
#[test]
fn a_server_that_is_told_to_stop_ends_a_short_prompt_and_its_client_hears_it() {
    let place = Place::new();
    let mut server = start(&place);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let stream = std::net::TcpStream::connect(&address).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/ws?clientId=me"), stream).unwrap();
    let queue_for_me = |milliseconds: u64| {
        let body = json!({"prompt": busy_for(milliseconds), "client_id": "me"});
        let mut answer = ureq::post(format!("{}/prompt", server.url)).send_json(body).unwrap();
        answer.body_mut().read_json::<Value>().unwrap()["prompt_id"].as_str().unwrap().to_owned()
    };
    let (short, waiting) = (queue_for_me(700), queue_for_me(701));
    wait_for("the prompt to run", || is_running(&server, &short));
    server.signal("TERM");
    let mut heard = Vec::new();
    let farewell = loop {
        match socket.read().unwrap() {
            tungstenite::Message::Text(text) => heard.push(serde_json::from_str::<Value>(&text).unwrap()),
            tungstenite::Message::Close(frame) => break frame.unwrap(),
            _ => {}
        }
    };
    assert_eq!(server.exit_code(), Some(0));
    assert_eq!(u16::from(farewell.code), 1001, "{farewell:?}");
    let succeeded: Vec<_> = heard.iter().filter(|event| event["type"] == "execution_success").collect();
    assert_eq!(succeeded.len(), 1, "{heard:?}");
    assert_eq!(succeeded[0]["data"]["prompt_id"], short);
    let last = heard.iter().rfind(|event| event["type"] == "status").unwrap();
    assert_eq!(last["data"]["status"]["exec_info"]["queue_remaining"], 1);

    let server = start(&place);
    assert_eq!(status_of(&server, &short).as_deref(), Some("success"));
    wait_for("the prompt that waited", || status_of(&server, &waiting).is_some());
    assert_eq!(status_of(&server, &waiting).as_deref(), Some("success"));
}

#[test]
fn contents_of_deleted_files_leave_the_store_at_the_next_start() {
    let place = Place::new();
    let mut server = start(&place);
    for name in ["kept", "deleted"] {
        let part = ureq::unversioned::multipart::Part::bytes(name.as_bytes()).file_name(name);
        let form = ureq::unversioned::multipart::Form::new().part("image", part);
        ureq::post(format!("{}/upload/image", server.url)).send(form).unwrap();
    }
    server.signal("TERM");
    server.exit_code();
    fs::remove_file(place.path("base").join("input/deleted")).unwrap();
    let blobs = || -> Vec<_> {
        let shards = fs::read_dir(place.path("base").join("vivarium-data/blobs/sha256")).unwrap();
        let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    };
    let before = blobs();
    assert_eq!(before.len(), 2);
    for path in &before {
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    }

    let _server = start(&place);
    wait_for("the contents to go", || blobs().len() == 1);
    assert_eq!(fs::read(&blobs()[0]).unwrap(), b"kept");
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
