//! The server under load: killed at random moments, and with thousands of sockets. Each test has a small size, which always
//! runs, and a large one that is run by hand and prints a table:
//!
//! `cargo test --release -p vivarium-cli --test soak -- --ignored --nocapture --test-threads 1`
//!
//! Needs the test packs: `cargo xtask nodes` builds them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    net::TcpStream,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use support::{Place, Server};

const PATIENCE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(40);

fn start(place: &Place) -> Server {
    let target = Path::new(env!("CARGO_BIN_EXE_vivarium")).ancestors().nth(2).unwrap();
    Server::start(place, &["--packs-directory", target.join("test-packs").to_str().unwrap()])
}

fn busy_for(milliseconds: u64) -> Value {
    json!({"prompt": {"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds}}}})
}

fn get(url: &str, path: &str) -> Value {
    ureq::get(format!("{url}{path}")).call().unwrap().body_mut().read_json().unwrap()
}

fn random_below(limit: u64) -> u64 {
    u64::try_from(uuid::Uuid::new_v4().as_u128() % u128::from(limit)).unwrap()
}

/// Until everything that was accepted has ended, however long that takes as long as prompts end.
fn wait_until_idle(url: &str) {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    while least > 0 {
        let remaining = get(url, "/prompt")["exec_info"]["queue_remaining"].as_u64().unwrap();
        if remaining < least {
            (least, since) = (remaining, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "the queue does not empty: {remaining} prompts are left");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Queues prompts one after the other until the server is gone. A request whose answer it missed is repeated under its key.
struct Feeder {
    /// The key and the prompt of a request that was not answered.
    unanswered: Option<(String, Value)>,
    /// Keys, each with the prompt that was accepted under it.
    accepted: HashMap<String, String>,
    repeated: u64,
}

impl Feeder {
    fn new() -> Self {
        Self { unanswered: None, accepted: HashMap::new(), repeated: 0 }
    }

    fn feed(mut self, url: &str, most: usize) -> Self {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build().into();
        for _ in 0..most {
            let again = self.unanswered.take();
            self.repeated += u64::from(again.is_some());
            let (key, prompt) =
                again.unwrap_or_else(|| (uuid::Uuid::new_v4().to_string(), busy_for(1 + random_below(40))));
            let asked = agent.post(format!("{url}/prompt")).header("idempotency-key", &key).send_json(&prompt);
            let answer = asked.and_then(|mut answer| answer.body_mut().read_json::<Value>());
            let Ok(answer) = answer else {
                self.unanswered = Some((key, prompt));
                return self;
            };
            let prompt_id = answer["prompt_id"].as_str().unwrap().to_owned();
            assert!(self.accepted.insert(key, prompt_id).is_none());
            // As fast as the prompts run, or emptying the queue would take most of the test.
            thread::sleep(PAUSE);
        }
        self
    }
}

/// Uploads files one after the other until the server is gone.
#[derive(Default)]
struct Uploader {
    sent: u64,
    /// Names as the server gave them, each with the bytes that were accepted under it.
    accepted: HashMap<String, Vec<u8>>,
}

impl Uploader {
    fn upload(mut self, url: &str) -> Self {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build().into();
        loop {
            self.sent += 1;
            // Every third has bytes that were sent before, every fifth takes a name that is taken.
            let content = content(self.sent - u64::from(self.sent.is_multiple_of(3)));
            let name = format!("upload-{}", self.sent - u64::from(self.sent.is_multiple_of(5)));
            let part = ureq::unversioned::multipart::Part::bytes(&content).file_name(&name);
            let form = ureq::unversioned::multipart::Form::new().part("image", part);
            let answer = agent
                .post(format!("{url}/upload/image"))
                .send(form)
                .and_then(|mut answer| answer.body_mut().read_json());
            let Ok(answer): Result<Value, _> = answer else { return self };
            let earlier = self.accepted.insert(answer["name"].as_str().unwrap().to_owned(), content.clone());
            assert!(earlier.is_none_or(|earlier| earlier == content), "a name lost its bytes to others");
            thread::sleep(PAUSE / 4);
        }
    }
}

/// Bytes that tell whether they are whole: a number, a length and a repeated letter.
fn content(number: u64) -> Vec<u8> {
    let len = 1_000 + (number * 7_919) % 300_000;
    let mut bytes = [number.to_le_bytes(), len.to_le_bytes()].concat();
    bytes.resize(16 + len as usize, b'a' + (number % 26) as u8);
    bytes
}

/// Compares what was accepted with what is there; returns how many files were accepted.
fn check_uploads(url: &str, place: &Place, uploader: &Uploader) -> usize {
    for (name, content) in &uploader.accepted {
        let mut answer =
            ureq::get(format!("{url}/view")).query("filename", name).query("type", "input").call().unwrap();
        let bytes = answer.body_mut().with_config().limit(1 << 20).read_to_vec().unwrap();
        assert!(bytes == *content, "{name} is not what was accepted");
    }
    let mut files = 0;
    for entry in std::fs::read_dir(place.path("base").join("input")).unwrap() {
        let path = entry.unwrap().path();
        // A link that was about to get its name; it is swept later.
        if path.file_name().unwrap().to_str().unwrap().starts_with(".vivarium-tmp-") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert!(bytes == content(number), "{} is half a file", path.display());
        files += 1;
    }
    println!("uploads accepted           {:>8}", uploader.accepted.len());
    println!("files there, all whole     {files:>8}");
    uploader.accepted.len()
}

/// Kills the server at random moments while several clients queue prompts, then counts.
fn kill_and_count(kills: usize, clients: usize) {
    let place = Place::new();
    let mut feeders: Vec<Feeder> = (0..clients).map(|_| Feeder::new()).collect();
    let mut uploader = Uploader::default();
    for _ in 0..kills {
        let mut server = start(&place);
        let url = server.url.clone();
        let feeding: Vec<JoinHandle<Feeder>> = feeders
            .drain(..)
            .map(|feeder| {
                let url = url.clone();
                thread::spawn(move || feeder.feed(&url, usize::MAX))
            })
            .collect();
        let uploading = thread::spawn(move || uploader.upload(&url));
        thread::sleep(Duration::from_millis(200 + random_below(1_300)));
        server.signal("KILL");
        server.exit_code();
        feeders.extend(feeding.into_iter().map(|feeder| feeder.join().unwrap()));
        uploader = uploading.join().unwrap();
    }

    let server = start(&place);
    feeders = feeders.into_iter().map(|feeder| feeder.feed(&server.url, 1)).collect();
    wait_until_idle(&server.url);
    let accepted: Vec<&String> = feeders.iter().flat_map(|feeder| feeder.accepted.values()).collect();
    let distinct: HashSet<&String> = accepted.iter().copied().collect();
    assert_eq!(distinct.len(), accepted.len(), "two keys share a prompt");
    let history = get(&server.url, "/history");
    let history = history.as_object().unwrap();
    let lost = accepted.iter().filter(|id| !history.contains_key(id.as_str())).count();
    let unasked = history.keys().filter(|id| !distinct.contains(id)).count();
    let failed = history.values().filter(|entry| entry["status"]["status_str"] != "success").count();
    let repeated: u64 = feeders.iter().map(|feeder| feeder.repeated).sum();
    println!("kill -9                    {kills:>8}");
    println!("prompts accepted           {:>8}", accepted.len());
    println!("requests repeated          {repeated:>8}");
    println!("lost                       {lost:>8}");
    println!("queued twice or unasked    {unasked:>8}");
    println!("ended as failures          {failed:>8}");
    assert_eq!((lost, unasked, failed), (0, 0, 0));
    let ended = get(&server.url, "/jobs?status=completed,failed,cancelled&limit=1");
    assert_eq!(ended["pagination"]["total"], accepted.len(), "every prompt ends exactly once");
    assert!(accepted.len() >= kills, "hardly anything was accepted");
    assert!(check_uploads(&server.url, &place, &uploader) >= kills, "hardly any upload was accepted");
}

#[test]
fn every_accepted_prompt_ends_exactly_once_across_kill_nine() {
    kill_and_count(3, 3);
}

#[test]
#[ignore = "takes minutes: run by hand"]
fn every_accepted_prompt_ends_exactly_once_across_kill_nine_large() {
    kill_and_count(60, 6);
}

fn connect(url: &str, client: &str) -> WebSocket<TcpStream> {
    let address = url.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).unwrap();
    tungstenite::client(format!("ws://{address}/ws?clientId={client}"), stream).unwrap().0
}

/// What one socket heard.
#[derive(Default)]
struct Heard {
    /// Prompts whose node is done.
    ended: Mutex<HashSet<String>>,
    /// Messages about prompts.
    progress: AtomicU64,
    /// Counts of the queue.
    statuses: AtomicU64,
}

/// Reads everything until the socket is closed.
fn watch(mut socket: WebSocket<TcpStream>, heard: &Heard) {
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        if text.contains("\"type\":\"status\"") {
            heard.statuses.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        heard.progress.fetch_add(1, Ordering::Relaxed);
        if text.contains("\"progress_state\"") && text.contains("\"finished\"") {
            let event: Value = serde_json::from_str(&text).unwrap();
            heard.ended.lock().unwrap().insert(event["data"]["prompt_id"].as_str().unwrap().to_owned());
        }
    }
}

/// Milliseconds from asking until the history has the prompt: the median and the slowest. The events of prompts with a
/// client id go to that client, those of others to every socket.
fn time_prompts(url: &str, count: usize, client_id: Option<&str>) -> (f64, f64) {
    let mut times: Vec<f64> = (0..count)
        .map(|number| {
            let began = Instant::now();
            // Unlike the one before, or its result would be taken from the cache and no node would run.
            let mut prompt = busy_for(1 + number as u64 % 2);
            if let Some(client_id) = client_id {
                prompt["client_id"] = client_id.into();
            }
            let mut answer = ureq::post(format!("{url}/prompt")).send_json(prompt).unwrap();
            let answer: Value = answer.body_mut().read_json().unwrap();
            let id = answer["prompt_id"].as_str().unwrap();
            while get(url, &format!("/history/{id}"))[id].is_null() {
                assert!(began.elapsed() < PATIENCE, "a prompt does not end");
                thread::sleep(Duration::from_millis(1));
            }
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() - 1])
}

/// Some prompts have a client, and nobody else may hear of them. The others have none, and their progress goes to every
/// socket, whether somebody reads it or not. That the prompts themselves don't write to all these sockets is counted by a
/// test of the hub; here the times are printed.
fn run_beside_sockets(idle: usize, watching: usize, prompts: usize) {
    let place = Place::new();
    let server = start(&place);
    time_prompts(&server.url, 3, None);
    let alone = time_prompts(&server.url, prompts, None);
    let kept: Vec<_> = (0..idle).map(|number| connect(&server.url, &format!("idle-{number}"))).collect();
    let heard: Vec<Arc<Heard>> = (0..watching)
        .map(|number| {
            let (socket, heard) = (connect(&server.url, &format!("watching-{number}")), Arc::<Heard>::default());
            let counting = heard.clone();
            thread::Builder::new().stack_size(256 * 1024).spawn(move || watch(socket, &counting)).unwrap();
            heard
        })
        .collect();
    let own = time_prompts(&server.url, prompts, Some("somebody-else"));
    let of_others: u64 = heard.iter().map(|heard| heard.progress.load(Ordering::Relaxed)).sum();
    let broadcast = time_prompts(&server.url, prompts, None);
    let complete = || heard.iter().filter(|heard| heard.ended.lock().unwrap().len() >= prompts).count();
    let began = Instant::now();
    while complete() < watching && began.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(50));
    }
    let mean = |of: fn(&Heard) -> &AtomicU64| {
        heard.iter().map(|heard| of(heard).load(Ordering::Relaxed)).sum::<u64>() as f64 / watching as f64
    };
    println!("sockets: {idle} that read nothing, {watching} watching; {prompts} prompts each time");
    println!("                                        median ms  slowest ms");
    println!("without sockets                         {:>9.1}  {:>10.1}", alone.0, alone.1);
    println!("with all, prompts of another client     {:>9.1}  {:>10.1}", own.0, own.1);
    println!("with all, prompts reported to everybody {:>9.1}  {:>10.1}", broadcast.0, broadcast.1);
    println!("messages per watcher: progress          {:>9.1}", mean(|heard| &heard.progress));
    println!("messages per watcher: counts            {:>9.1}", mean(|heard| &heard.statuses));
    println!("watchers that heard every prompt end    {:>9}", complete());
    assert_eq!(of_others, 0, "prompts of one client were told to others");
    assert_eq!(complete(), watching, "a watching socket missed something");
    drop(kept);
}

#[test]
fn sockets_that_read_nothing_cost_others_nothing() {
    run_beside_sockets(100, 10, 20);
}

#[test]
#[ignore = "opens 2 200 sockets: run by hand"]
fn sockets_that_read_nothing_cost_others_nothing_large() {
    run_beside_sockets(2_000, 200, 200);
}
