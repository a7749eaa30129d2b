//! The binary as people and scripts meet it: real server, real packs, exit codes and sentences.
//!
//! Needs the stock packs beside the binary: `cargo xtask nodes` puts them there.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, net::TcpListener, path::Path, process::Stdio};

use serde_json::{Value, json};

use support::{Place, Server, ended};

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/workflows/photo-postcard");
    folder.join(name).to_str().unwrap().to_owned()
}

fn is_png(path: &str) -> bool {
    fs::read(path).unwrap().starts_with(b"\x89PNG\r\n\x1a\n")
}

#[test]
fn a_photograph_goes_through_a_server_and_comes_back_as_a_file() {
    let place = Place::new();
    let mut server = Server::start(&place, &[]);
    let (workflow, photo, results) = (example("workflow.json"), example("photo.jpg"), place.text("results"));
    let submit = ["submit", &workflow, "--server", &server.url, "--upload", &photo, "-o", &results];
    let (code, stdout, stderr) = ended(&submit);
    assert_eq!(code, 0, "{stderr}");
    assert!(is_png(stdout.trim()), "{stdout}");
    assert!(stderr.contains("Save the postcard (13)"), "progress names the nodes: {stderr}");

    // Again, now from the cache, as JSON: the same file is not kept twice.
    let (code, stdout, stderr) = ended(&[&submit[..], &["--json", "--quiet"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["status"], "success");
    assert_eq!(fs::read_dir(&results).unwrap().count(), 1);

    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0), "a signal is a clean end");
}

#[test]
fn a_refused_workflow_is_explained_node_by_node() {
    let place = Place::new();
    let server = Server::start(&place, &[]);
    let (code, _, stderr) = ended(&["submit", &place.workflow(0), "--server", &server.url]);
    assert_eq!(code, 1);
    assert!(stderr.contains("node 1 (EmptyImage): Value 0 smaller than min of 1: width"), "{stderr}");
    let (code, _, stderr) = ended(&["submit", &place.workflow(8), "--server", &server.url, "--set", "1.widht=3"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("EmptyImage has no input `widht`; it has: width"), "{stderr}");
}

#[test]
fn run_needs_no_server_and_leaves_only_results() {
    let place = Place::new();
    let (base, results) = (place.text("base"), place.text("results"));
    let workflow = place.workflow(8);
    let (code, stdout, stderr) =
        ended(&["run", &workflow, "--base-directory", &base, "-o", &results, "--set", "1.width=5"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.trim(), place.path("results/plain_00001_.png").to_str().unwrap());
    assert!(is_png(stdout.trim()));
    assert_eq!(fs::read_dir(&results).unwrap().count(), 1);
    assert!(!place.path("base/input").exists(), "the base folder is not touched");
}

#[test]
fn run_finds_the_files_beside_the_workflow_and_those_it_is_given() {
    let place = Place::new();
    let (base, results) = (place.text("base"), place.text("results"));
    let flags = ["--base-directory", &base, "-o", &results, "--json", "--quiet"];
    let (code, stdout, stderr) = ended(&[&["run", &example("workflow.json")], &flags[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert!(is_png(report["files"][0]["path"].as_str().unwrap()));

    let alone = place.write("alone.json", fs::read(example("workflow.json")).unwrap());
    let (code, _, stderr) = ended(&[&["run", &alone], &flags[..]].concat());
    assert_eq!(code, 1, "the photograph is missing now");
    assert!(stderr.contains("photo.jpg"), "{stderr}");
    let given = format!("photo.jpg={}", example("photo.jpg"));
    let (code, _, stderr) = ended(&[&["run", &alone, "--input", &given], &flags[..]].concat());
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn what_is_in_the_way_of_a_server_is_said_in_one_sentence() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let base = place.text("base");
    let file = place.write("file", "");
    for (flags, code, words) in [
        (vec!["--base-directory", &base, "--port", &port], 3, "--port"),
        (vec!["--base-directory", &file], 3, "could not create the folder"),
        (vec!["--base-directory", &base, "--port", "0", "--output-directory", &file], 3, &*file),
        (vec!["--base-directory", &base, "--listen"], 2, "--allow-unauthenticated-remote"),
        (vec!["--base-directory", &base, "--front-end-root", "/no/such"], 3, "/no/such"),
        (vec!["--base-directory", &base, "--packs-directory", "/no/such"], 3, "/no/such"),
        (vec!["--base-directory", &base, "--max-upload-size", "-1"], 2, "--max-upload-size"),
        (vec!["--no-such-flag"], 2, "--no-such-flag"),
    ] {
        let (got, _, stderr) = ended(&[&["serve"], &flags[..]].concat());
        assert_eq!(got, code, "{flags:?}: {stderr}");
        assert!(stderr.contains(words), "{flags:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{flags:?}: {stderr}");
    }
}

#[test]
fn two_servers_can_not_share_a_base_folder() {
    let place = Place::new();
    let _first = Server::start(&place, &[]);
    let (code, _, stderr) = ended(&["serve", "--port", "0", "--base-directory", &place.text("base")]);
    assert_eq!(code, 3);
    assert!(stderr.contains("another server (process"), "{stderr}");
}

#[test]
fn a_broken_pack_is_named_and_does_not_stop_the_others() {
    let place = Place::new();
    fs::create_dir(place.path("base/packs")).unwrap();
    place.write("base/packs/broken.wasm", "this is no component");
    let base = place.text("base");
    let (code, stdout, _) = ended(&["packs", "--base-directory", &base]);
    assert_eq!(code, 1);
    assert!(stdout.contains("broken.wasm\n  FAILED: not a valid WebAssembly component"), "{stdout}");
    assert!(stdout.contains("ImageInvert"), "{stdout}");
    let (code, stdout, _) = ended(&["doctor", "--base-directory", &base, "--port", "0"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("FAILED  pack"), "{stdout}");
    let server = Server::start(&place, &[]);
    let packs =
        ureq::get(format!("{}/vivarium/packs", server.url)).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(packs.contains("broken.wasm") && packs.contains("WebAssembly component"), "{packs}");
    let (code, _, stderr) =
        ended(&["submit", &place.workflow(8), "--server", &server.url, "-o", &place.text("results")]);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn nodes_are_described_for_people_and_programs() {
    let place = Place::new();
    let base = place.text("base");
    let (code, stdout, stderr) = ended(&["nodes", "--json", "--base-directory", &base]);
    assert_eq!(code, 0, "{stderr}");
    let info: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(info["ImageInvert"]["output"], json!(["IMAGE"]));
    let (code, stdout, _) = ended(&["nodes", "ImageScale", "--base-directory", &base]);
    assert_eq!(code, 0);
    assert!(stdout.contains("width: INT") && stdout.contains("0: IMAGE"), "{stdout}");
    let (code, _, stderr) = ended(&["nodes", "imagescale", "--base-directory", &base]);
    assert_eq!(code, 1);
    assert!(stderr.contains("did you mean ImageScale?"), "{stderr}");
}

#[test]
fn the_doctor_shows_limits_of_tenants_and_packs_and_refuses_what_cannot_be() {
    let place = Place::new();
    let base = place.text("base");
    let doctor = || ended(&["doctor", "--json", "--base-directory", &base, "--port", "0"]);
    place.write("base/limits.toml", "http_requests = 7\n[tenants.alice.packs.image]\nexecute_time = \"30s\"\n");
    let (code, stdout, stderr) = doctor();
    assert_eq!(code, 0, "{stderr}");
    let said: Value = serde_json::from_str(&stdout).unwrap();
    let limits = said["limits"].as_array().unwrap();
    assert!(limits.iter().any(|limit| limit["name"] == "http_requests" && limit["value"] == 7), "{said}");
    let exception = json!({"of": "tenant alice, pack image", "name": "execute_time", "value": 30_000});
    assert_eq!(said["exceptions"], json!([exception]));

    place.write("base/limits.toml", "[packs.image]\ninstances = 7\n");
    let (code, _, stderr) = doctor();
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("limits.toml") && stderr.contains("[packs.image] instances"), "{stderr}");
}

#[test]
fn a_healthy_machine_passes_the_doctor() {
    let place = Place::new();
    let (code, stdout, stderr) = ended(&["doctor", "--json", "--base-directory", &place.text("base"), "--port", "0"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0, "{stderr}{report:#}");
    let named = |name: &str| report["checks"].as_array().unwrap().iter().any(|check| check["name"] == name);
    assert!(["base", "sandbox", "pack", "queue", "port", "memory", "cuda"].into_iter().all(named), "{report:#}");
    assert!(!report["limits"].as_array().unwrap().is_empty());
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let place = Place::new();
    let mut process = support::vivarium(&["nodes", "--json", "--base-directory", &place.text("base")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_base_folder_may_be_named_before_and_behind_a_sub_command() {
    let place = Place::new();
    let base = place.text("base");
    for arguments in [
        ["tenant", "--base-directory", &base, "add", "one"],
        ["tenant", "add", "--base-directory", &base, "two"],
        ["tenant", "add", "three", "--base-directory", &base],
    ] {
        let (code, _, stderr) = ended(&arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = ended(&["tenant", "token", "add", "two", "--base-directory", &base]);
    assert_eq!(code, 0, "{stderr}");
    let (code, stdout, stderr) = ended(&["tenant", "list", "--base-directory", &base, "--json"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(["one", "two", "three"].iter().all(|name| stdout.contains(name)), "{stdout}");
}

#[test]
fn an_extension_that_imports_deprecated_scripts_is_named_in_the_log_once() {
    let place = Place::new();
    for (file, text) in [("index.html", "<p>"), ("scripts/ui.js", "//"), ("extensions/core/old.js", "//")] {
        let path = place.path("front-end").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let server = Server::start(&place, &["--front-end-root", &place.text("front-end")]);
    let get = |path: &str, referer: &str| {
        let request = ureq::get(format!("{}{path}", server.url)).header("referer", format!("{}{referer}", server.url));
        request.call().unwrap().body_mut().read_to_string().unwrap()
    };
    for _ in 0..2 {
        get("/scripts/ui.js", "/");
        get("/scripts/ui.js", "/extensions/core/old.js");
        get("/scripts/ui.js", "/extensions/some-pack/panel.js");
        get("/extensions/core/old.js", "/extensions/some-pack/panel.js");
    }
    let log = get("/internal/logs", "/");
    let warnings: Vec<&str> = log.split("\\n").filter(|line| line.contains("deprecated")).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    for (warning, script) in warnings.iter().zip(["scripts/ui.js", "extensions/core/old.js"]) {
        assert!(warning.contains(script) && warning.contains("/extensions/some-pack/panel.js"), "{warning}");
    }
}
