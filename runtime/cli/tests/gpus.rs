//! Servers that compute on GPUs: on one, on several, and on some that fail. `cargo xtask cuda test` runs this with a GPU, or with
//! simulated ones, which alone can be asked to fail.
//!
//! Needs the packs: `cargo xtask nodes` builds them.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Place, Server, ended};

/// Long for what takes moments.
const PATIENCE: Duration = Duration::from_secs(60);

/// Under `cargo xtask cuda test` there is a GPU, simulated where there is no real one.
fn has_gpu() -> bool {
    std::env::var("VIVARIUM_TEST_GPU").is_ok_and(|value| value == "1")
}

fn is_simulated() -> bool {
    has_gpu() && !Path::new("/dev/nvidia0").exists()
}

#[test]
fn a_gpu_that_is_not_there_is_asked_for_in_vain() {
    let place = Place::new();
    let serve = ["serve", "--port", "0", "--base-directory", &place.text("base"), "--device"];
    let (code, _, stderr) = ended(&[&serve[..], &["cuda:99"]].concat());
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("could not use the GPU (--device cpu does without)"), "{stderr}");
    for (wrong, words) in [("gpu", "none of auto, cpu, cuda, cuda:N"), ("cuda:1,cuda:1", "names cuda:1 twice")] {
        let (code, _, stderr) = ended(&[&serve[..], &[wrong]].concat());
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    let (code, _, stderr) = ended(&["run", &scaled(&place), "--device", "cuda:0,cuda:1"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("a prompt runs on one"), "{stderr}");
}

#[test]
fn the_doctor_lists_every_gpu() {
    if !is_simulated() {
        return;
    }
    let place = Place::new();
    bring_compiled_packs(&place);
    let (base, packs) = (place.text("base"), packs());
    let mut doctor = vec!["doctor", "--json", "--port", "0", "--base-directory", &base];
    doctor.extend(packs.iter().map(String::as_str));
    let output = support::vivarium(&doctor).env(TWO.0, TWO.1).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let gpus = said["checks"].as_array().unwrap().iter().filter(|check| check["name"] == "cuda");
    let names: Vec<&str> = gpus.map(|check| &check["message"].as_str().unwrap()[..16]).collect();
    assert_eq!(names, ["cuda:0 Simulated", "cuda:1 Simulated"]);
}

/// More than one step, all of which have kernels. It takes so many milliseconds longer than it has to; the seed makes equal
/// work different.
fn slowly_scaled(wait: u64, seed: u64) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 12, "height": 8, "batch_size": 1, "color": 3_368_601}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "TestWork", "inputs": {"work": "wait", "size": wait, "seed": seed, "value": ["2", 0]}},
        "4": {"class_type": "ImageScale", "inputs": {
            "image": ["3", 0], "upscale_method": "nearest-exact", "width": 20 + seed, "height": 20, "crop": "disabled"
        }},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "scaled"}},
    })
}

/// The same, of stock nodes only.
fn scaled(place: &Place) -> String {
    let mut workflow = slowly_scaled(1, 0);
    workflow["4"]["inputs"]["image"] = json!(["2", 0]);
    workflow.as_object_mut().unwrap().remove("3");
    place.write("scaled.json", workflow.to_string())
}

/// Flags for the stock packs and those of tests.
fn packs() -> Vec<String> {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_vivarium"));
    let folders = [binary.with_file_name("packs"), binary.ancestors().nth(2).unwrap().join("test-packs")];
    folders.iter().flat_map(|folder| ["--packs-directory".to_owned(), folder.to_str().unwrap().to_owned()]).collect()
}

/// Compiles the packs once for all servers: that takes longer than what the tests do with them.
fn bring_compiled_packs(place: &Place) {
    const COMPILED: &str = "base/vivarium-data/compiled";
    static ONCE: OnceLock<Place> = OnceLock::new();
    let compiled = ONCE.get_or_init(|| {
        let place = Place::new();
        let (base, packs) = (place.text("base"), packs());
        let mut doctor = vec!["doctor", "--port", "0", "--base-directory", &base];
        doctor.extend(packs.iter().map(String::as_str));
        let (code, _, stderr) = ended(&doctor);
        assert_eq!(code, 0, "{stderr}");
        place
    });
    fs::create_dir_all(place.path(COMPILED)).unwrap();
    for file in fs::read_dir(compiled.path(COMPILED)).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), place.path(COMPILED).join(file.file_name())).unwrap();
    }
}

fn start(place: &Place, flags: &[&str], environment: &[(&str, &str)]) -> Server {
    bring_compiled_packs(place);
    let packs = packs();
    let packs = packs.iter().map(String::as_str).collect::<Vec<_>>();
    Server::start_with(place, &[&packs, flags].concat(), environment)
}

/// Whoever talks to a server.
struct Client<'a> {
    server: &'a Server,
    token: Option<String>,
}

impl<'a> Client<'a> {
    /// Nobody in particular.
    fn of(server: &'a Server) -> Self {
        Self { server, token: None }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let request = ureq::get(format!("{}{path}", self.server.url));
        let token = self.token.iter().fold(request, |request, token| request.header("authorization", token));
        token.call().unwrap().body_mut().read_to_vec().unwrap()
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.get(path)).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> ureq::http::Response<ureq::Body> {
        let request = ureq::post(format!("{}{path}", self.server.url));
        let request = self.token.iter().fold(request, |request, token| request.header("authorization", token));
        request.send_json(body).unwrap()
    }

    fn queue(&self, workflow: &Value) -> String {
        let mut answer = self.post("/prompt", &json!({"prompt": workflow}));
        let answer: Value = answer.body_mut().read_json().unwrap();
        answer["prompt_id"].as_str().unwrap().to_owned()
    }

    /// How a prompt ended.
    fn ended(&self, prompt: &str) -> Ended {
        let started = Instant::now();
        loop {
            let history = self.json(&format!("/history/{prompt}"));
            if let Some(entry) = history.get(prompt) {
                return Ended(entry.clone());
            }
            assert!(started.elapsed() < PATIENCE, "{prompt} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The picture of a prompt that ended well.
    fn picture(&self, ended: &Ended) -> Vec<u8> {
        let image = &ended.0["outputs"]["5"]["images"][0];
        let name = image["filename"].as_str().unwrap_or_else(|| panic!("no picture: {:#}", ended.0));
        self.get(&format!("/view?filename={name}&type=output"))
    }

    /// Keeps one of two GPUs busy, without a kernel. Answers the prompt that does.
    fn occupy(&self, index: usize) -> String {
        let busy = json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": 60_000}}});
        loop {
            let begun =
                |devices: &[Value]| [0, 1].map(|index: usize| devices[index]["vivarium"]["work"]["prompts"].clone());
            let before = begun(&self.devices());
            let prompt = self.queue(&busy);
            let after = self.wait_for_begun(|now| *now != before);
            if after[index] != before[index] {
                return prompt;
            }
            self.interrupt(&prompt);
            self.ended(&prompt);
        }
    }

    /// Waits until a prompt has begun, and answers what has begun then.
    fn wait_for_begun(&self, wanted: impl Fn(&[u64; 2]) -> bool) -> [u64; 2] {
        begun(&self.wait_for("a prompt begins", |devices| wanted(&begun(devices))))
    }

    fn interrupt(&self, prompt: &str) {
        self.post("/interrupt", &json!({"prompt_id": prompt}));
    }

    fn devices(&self) -> Vec<Value> {
        self.json("/system_stats")["devices"].as_array().unwrap().clone()
    }

    /// Waits until the devices are as they shall be.
    fn wait_for(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let devices = self.devices();
            if wanted(&devices) {
                return devices;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {devices:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How many prompts have begun on each of two GPUs.
fn begun(devices: &[Value]) -> [u64; 2] {
    let gpus = devices.iter().filter(|device| device["type"] == "cuda");
    let prompts = gpus.filter_map(|gpu| gpu["vivarium"]["work"]["prompts"].as_u64());
    prompts.collect::<Vec<_>>().try_into().unwrap()
}

fn sum(begun: [u64; 2]) -> u64 {
    begun.iter().sum()
}

/// An entry of the history.
struct Ended(Value);

impl Ended {
    fn message(&self, name: &str) -> &Value {
        let messages = self.0["status"]["messages"].as_array().unwrap();
        let found = messages.iter().find(|message| message[0] == name);
        &found.unwrap_or_else(|| panic!("no {name}: {:#}", self.0))[1]
    }

    fn device(&self) -> &str {
        self.message("execution_start")["device"].as_str().unwrap()
    }

    /// When it ran, in milliseconds.
    fn time(&self) -> (u64, u64) {
        let at = |name: &str| self.message(name)["timestamp"].as_u64().unwrap();
        (at("execution_start"), at("execution_success"))
    }
}

fn overlap(one: &Ended, other: &Ended) -> bool {
    let ((from, to), (start, end)) = (one.time(), other.time());
    from < end && start < to
}

/// What the CPU makes of workflows.
fn pictures_of_the_cpu(workflows: &[Value]) -> Vec<Vec<u8>> {
    let place = Place::new();
    let server = start(&place, &["--device", "cpu", "--disable-metadata"], &[]);
    let client = Client::of(&server);
    let devices = client.devices();
    assert_eq!((&devices[0]["type"], &devices[0]["vivarium"]), (&json!("cpu"), &Value::Null));
    let prompts: Vec<String> = workflows.iter().map(|workflow| client.queue(workflow)).collect();
    prompts.iter().map(|prompt| client.picture(&client.ended(prompt))).collect()
}

#[test]
fn a_workflow_gives_the_same_file_on_a_gpu_and_on_the_cpu() {
    if !has_gpu() {
        return;
    }
    let workflow = slowly_scaled(1, 0);
    let wanted = pictures_of_the_cpu(std::slice::from_ref(&workflow));
    let place = Place::new();
    let server = start(&place, &["--device", "cuda", "--disable-metadata"], &[]);
    let client = Client::of(&server);
    let ended = client.ended(&client.queue(&workflow));
    assert_eq!([client.picture(&ended)], *wanted);
    assert_eq!(ended.device(), "cuda:0");
    let [device] = client.devices().try_into().unwrap();
    assert_eq!((&device["type"], &device["index"]), (&json!("cuda"), &json!(0)));
    assert_eq!(device["vivarium"]["state"], "working");
    let work = &device["vivarium"]["work"];
    assert!(work["launches"].as_u64().unwrap() >= 2 && work["prompts"] == 1, "{device}");
}

const TWO: (&str, &str) = ("SIMULATED_CUDA_DEVICES", "2");

fn tokens_of_two_tenants(place: &Place) -> [String; 2] {
    ["alice", "bob"].map(|name| {
        let (code, stdout, stderr) =
            support::ended(&["tenant", "add", name, "--json", "--base-directory", &place.text("base")]);
        assert_eq!(code, 0, "{stderr}");
        let added: Value = serde_json::from_str(&stdout).unwrap();
        format!("Bearer {}", added["token"].as_str().unwrap())
    })
}

#[test]
fn prompts_go_where_their_tenant_has_results() {
    if !is_simulated() {
        return;
    }
    let place = Place::new();
    let tokens = tokens_of_two_tenants(&place);
    let server = start(&place, &["--device", "cuda:all", "--cache-lru", "100"], &[TWO]);
    let tenants = tokens.map(|token| Client { server: &server, token: Some(token) });
    let first: Vec<Ended> = [1, 0]
        .iter()
        .zip(&tenants)
        .map(|(free, tenant)| {
            // With the other GPU busy, there is only one that a prompt goes to.
            let busy = tenants[0].occupy(1 - free);
            let ended = tenant.ended(&tenant.queue(&slowly_scaled(1, 0)));
            tenants[0].interrupt(&busy);
            tenants[0].ended(&busy);
            assert_eq!(ended.device(), format!("cuda:{free}"));
            ended
        })
        .collect();
    // One after the other: either GPU has nothing to do.
    for seed in [1, 2, 3] {
        for (tenant, first) in tenants.iter().zip(&first) {
            let ended = tenant.ended(&tenant.queue(&slowly_scaled(1, seed)));
            assert_eq!(ended.device(), first.device(), "round {seed}");
        }
    }
}

#[test]
fn two_tenants_compute_on_two_gpus_at_the_same_time() {
    if !is_simulated() {
        return;
    }
    let place = Place::new();
    let tokens = tokens_of_two_tenants(&place);
    let workflows = [slowly_scaled(1000, 0), slowly_scaled(1000, 1), slowly_scaled(1001, 0), slowly_scaled(1001, 1)];
    let wanted = pictures_of_the_cpu(&workflows);
    let server = start(&place, &["--device", "cuda:all", "--cache-lru", "100", "--disable-metadata"], &[TWO]);
    let [alice, bob] = tokens.map(|token| Client { server: &server, token: Some(token) });
    let prompts = [alice.queue(&workflows[0]), bob.queue(&workflows[1])];
    let ends = [alice.ended(&prompts[0]), bob.ended(&prompts[1])];
    assert!(overlap(&ends[0], &ends[1]), "one waited for the other: {:?} {:?}", ends[0].time(), ends[1].time());
    let mut used = [ends[0].device(), ends[1].device()];
    used.sort_unstable();
    assert_eq!(used, ["cuda:0", "cuda:1"]);
    assert_eq!([alice.picture(&ends[0]), bob.picture(&ends[1])], wanted[..2]);

    // Now both are alice's, and begin with a result that one of the GPUs has.
    let prompts = [alice.queue(&workflows[2]), alice.queue(&workflows[3])];
    let ends = prompts.map(|prompt| alice.ended(&prompt));
    assert!(overlap(&ends[0], &ends[1]) && ends[0].device() != ends[1].device());
    assert_eq!(ends.each_ref().map(|ended| alice.picture(ended)), wanted[2..]);
    for ended in &ends {
        let kept = ended.message("execution_cached")["nodes"].as_array().unwrap();
        assert!(kept.contains(&json!("2")), "{kept:?}");
    }
    let devices = alice.devices();
    assert_eq!(devices.len(), 2);
    for (index, device) in devices.iter().enumerate() {
        assert_eq!((&device["index"], &device["vivarium"]["state"]), (&json!(index), &json!("working")));
        assert_eq!(device["vivarium"]["work"]["prompts"], 2);
    }
}

#[test]
fn a_gpu_that_failed_once_is_used_again() {
    if !is_simulated() {
        return;
    }
    let workflow = slowly_scaled(1, 0);
    let wanted = pictures_of_the_cpu(std::slice::from_ref(&workflow));
    let place = Place::new();
    let flags = ["--device", "cuda", "--cache-none", "--disable-metadata"];
    // The first two launches are the test at the start.
    let server = start(&place, &flags, &[("SIMULATED_CUDA_FAILURES", "0:4")]);
    let client = Client::of(&server);
    let ended = client.ended(&client.queue(&workflow));
    assert_eq!(ended.device(), "cpu", "it ran again where something works");
    assert_eq!([client.picture(&ended)], *wanted);
    let devices = client.wait_for("the GPU comes back", |devices| devices[0]["type"] == "cuda");
    assert_eq!((devices.len(), &devices[0]["vivarium"]["work"]["failures"]), (1, &json!(1)), "{devices:#?}");
    let ended = client.ended(&client.queue(&workflow));
    assert_eq!(ended.device(), "cuda:0");
    assert_eq!([client.picture(&ended)], *wanted);
}

#[test]
fn prompts_of_a_gpu_that_fails_end_on_another() {
    if !is_simulated() {
        return;
    }
    let workflows: Vec<Value> = (0..4).map(|seed| slowly_scaled(200, seed)).collect();
    let wanted = pictures_of_the_cpu(&workflows);
    let place = Place::new();
    // Nothing is kept, so that every prompt starts kernels enough.
    let flags = ["--device", "cuda:0,cuda:1", "--cache-none", "--disable-metadata"];
    let server = start(&place, &flags, &[TWO, ("SIMULATED_CUDA_FAILURES", "1:4+")]);
    let client = Client::of(&server);
    let prompts: Vec<String> = workflows.iter().map(|workflow| client.queue(workflow)).collect();
    let ends: Vec<Ended> = prompts.iter().map(|prompt| client.ended(prompt)).collect();
    for (ended, wanted) in ends.iter().zip(&wanted) {
        assert_eq!(client.picture(ended), *wanted);
    }
    let failed = |devices: &[Value]| devices[1]["vivarium"]["state"] == "failed";
    let devices = client.wait_for("the second GPU fails", failed);
    assert_eq!((devices.len(), &devices[0]["vivarium"]["state"]), (2, &json!("working")), "{devices:#?}");
    let note = devices[1]["vivarium"]["note"].as_str().unwrap();
    assert!(note.starts_with("the GPU failed (") && note.contains("tried again"), "{note}");
    assert_eq!((&devices[1]["vram_free"], &devices[1]["vivarium"]["work"]["failures"]), (&json!(0), &json!(1)));
    // Its worker takes nothing more: one GPU has one prompt at a time.
    let prompts = [8, 9].map(|seed| client.queue(&slowly_scaled(500, seed)));
    let ends = prompts.map(|prompt| client.ended(&prompt));
    assert_eq!(ends.each_ref().map(Ended::device), ["cuda:0"; 2]);
    assert!(!overlap(&ends[0], &ends[1]), "{:?} {:?}", ends[0].time(), ends[1].time());
}

/// A result is kept on the second GPU, a prompt on the first is about to use it, and the second GPU fails.
#[test]
fn a_prompt_that_loses_a_kept_result_with_another_gpu_runs_again() {
    if !is_simulated() {
        return;
    }
    // What leaves the inverted picture on a GPU, and what starts kernels there later.
    let mut kept = slowly_scaled(1, 0);
    kept["4"]["inputs"]["image"] = json!(["2", 0]);
    let mut failing = slowly_scaled(1000, 1);
    failing["1"]["inputs"]["color"] = json!(7);
    let flags = ["--cache-lru", "100", "--disable-metadata", "--device"];
    let launches = {
        let place = Place::new();
        let server = start(&place, &[&flags[..], &["cuda"]].concat(), &[]);
        let client = Client::of(&server);
        for workflow in [&kept, &failing] {
            client.picture(&client.ended(&client.queue(workflow)));
        }
        // The driver counts the two launches of the test at the start, too.
        client.devices()[0]["vivarium"]["work"]["launches"].as_u64().unwrap() + 2
    };
    let wanted = pictures_of_the_cpu(&[slowly_scaled(1, 2)]);

    let place = Place::new();
    let failures = format!("1:{launches}");
    let variables = [TWO, ("SIMULATED_CUDA_FAILURES", failures.as_str())];
    let server = start(&place, &[&flags[..], &["cuda:all"]].concat(), &variables);
    let client = Client::of(&server);
    let busy = client.occupy(0);
    assert_eq!(client.ended(&client.queue(&kept)).device(), "cuda:1");
    let before = begun(&client.devices());
    let failing = client.queue(&failing);
    let before = sum(client.wait_for_begun(|now| sum(*now) > sum(before)));
    client.interrupt(&busy);
    let using = client.ended(&client.queue(&slowly_scaled(2200, 2)));
    assert_eq!([client.picture(&using)], *wanted);
    client.picture(&client.ended(&failing));
    let works = |devices: &[Value]| devices.len() == 2 && devices[1]["vivarium"]["state"] == "working";
    let devices = client.wait_for("the second GPU comes back", works);
    let failures = [0, 1].map(|index: usize| devices[index]["vivarium"]["work"]["failures"].clone());
    assert_eq!(failures, [json!(0), json!(1)]);
    assert_eq!(sum(begun(&devices)), before + 3, "what failed and what lost something with it ran twice");
}

#[test]
fn a_prompt_that_two_gpus_failed_with_is_not_run_a_third_time() {
    if !is_simulated() {
        return;
    }
    let place = Place::new();
    let flags = ["--device", "cuda:0,cuda:1", "--disable-metadata"];
    let server = start(&place, &flags, &[TWO, ("SIMULATED_CUDA_FAILURES", "0:4+,1:4+")]);
    let client = Client::of(&server);
    let ended = client.ended(&client.queue(&slowly_scaled(1, 0)));
    let error = ended.message("execution_error");
    assert_eq!(error["exception_type"], "GpuFailedError", "{error:#}");
    let message = error["exception_message"].as_str().unwrap();
    assert!(message.starts_with("2 GPUs in a row failed while they ran this prompt"), "{message}");
    assert!(message.contains("ILLEGAL_ADDRESS"), "{message}");
    let failed = |device: &Value| device["vivarium"]["state"] == "failed";
    let devices = client.devices();
    assert_eq!((devices.len(), &devices[0]["type"]), (3, &json!("cpu")), "{devices:#?}");
    assert!(devices[1..].iter().all(failed), "{devices:#?}");
    // Others go on, on what is left.
    let workflow = slowly_scaled(1, 1);
    let ended = client.ended(&client.queue(&workflow));
    assert_eq!(ended.device(), "cpu");
    assert_eq!([client.picture(&ended)], *pictures_of_the_cpu(&[workflow]));
}
