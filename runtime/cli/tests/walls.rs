//! The processes that Vivarium starts by itself, and the walls around them.
//!
//! Needs a kernel with landlock and seccomp, and the stock packs beside the binary: `cargo xtask nodes` puts them there.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use support::{Place, Server, ended, vivarium};

/// The state of a process as the kernel tells it: whether its system calls are filtered (2), and its powers.
fn confinement(pid: u32) -> (String, String) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    (line("Seccomp:"), line("CapPrm:"))
}

fn until_confined(pid: u32) {
    let begun = Instant::now();
    while confinement(pid) != ("2".to_owned(), "0".repeat(16)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", confinement(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes with these words on their command line.
fn processes(words: &[&str]) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut given = line.split('\0').skip(1);
        words.iter().all(|word| given.next() == Some(word))
    };
    pids.filter(has).collect()
}

#[test]
fn compiling_happens_behind_walls() {
    let mut process = vivarium(&["worker", "compile", "4000000000", "60"]);
    let mut process = process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It waits for a component, and has put up its walls before it reads one.
    until_confined(process.id());
    drop(process.stdin.take());
    assert_eq!(process.wait().unwrap().code(), Some(1), "nothing is no component");
}

#[test]
fn a_server_runs_the_prompts_of_a_tenant_in_a_confined_process_and_takes_it_along() {
    let place = Place::new();
    let mut server =
        Server::start(&place, &["--worker-processes", "per-tenant", "--worker-group", "default=own-of-this-test"]);
    let results = place.text("results");
    let workflow = place.workflow(8);
    let submit = ["submit", &workflow, "--server", &server.url, "-o", &results];
    let (code, stdout, stderr) = ended(&submit);
    assert_eq!(code, 0, "{stderr}");
    assert!(fs::read(stdout.trim()).unwrap().starts_with(b"\x89PNG"), "{stdout}");
    let own = || processes(&["worker", "serve", "group own-of-this-test"]);
    let [process] = own()[..] else { panic!("{:?}", own()) };
    until_confined(process);

    // A whole service is told to stop: the process leaves it to the server when it ends.
    let kill = format!("kill -TERM {process}");
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let (code, _, stderr) = ended(&[&submit[..], &["--set", "1.height=9"]].concat());
    assert_eq!((code, own()), (0, vec![process]), "{stderr}");
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    assert!(own().is_empty(), "{:?}", own());
}

#[test]
fn flags_of_worker_processes_that_contradict_each_other_are_refused() {
    let place = Place::new();
    let base = place.text("base");
    let (code, _, stderr) = ended(&["serve", "--base-directory", &base, "--worker-group", "alice=studio"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--worker-group means nothing without --worker-processes"), "{stderr}");
    let (code, stdout, _) = ended(&["doctor", "--base-directory", &base, "--port", "0"]);
    assert!(code == 0 && stdout.contains("walls        landlock (version "), "{stdout}");
}
