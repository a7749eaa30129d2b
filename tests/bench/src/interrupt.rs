//! How long an interrupt takes from the request to a queue that is empty again, by what it interrupts; and how much two
//! heavy branches gain by running side by side.
//!
//! A server of its own, with the pack `testing`, whose node `TestWork` keeps busy with one thing for as long as it is let.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::{
    client::Client,
    figure::{Better, Figure, Samples, Target},
    options::Options,
    process::{Server, log_in, vivarium_serve},
    servers::say,
};

/// What is interrupted and its size: of matrices the side, of a wait the milliseconds.
const WORKS: [(&str, u64); 10] = [
    ("loop", 1),
    ("wait", 300_000),
    ("matmul", 2048),
    ("conv2d", 512),
    ("attention", 4096),
    ("sort", 2048),
    ("cumsum", 4096),
    ("randn", 4096),
    ("interpolate", 512),
    ("exp", 4096),
];
const GROUP: &str = "Interrupt";
/// Steps of a loop in the guest: about half a second.
const HEAVY: u64 = 400_000_000;

/// Measures a server that is started for it.
///
/// # Errors
/// When the server or the pack is not there, or a prompt does not end as it should.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("there is no temporary folder")?;
    let mut figures = latencies(options, folder.path())?;
    figures.extend(branches(options, folder.path())?);
    Ok(figures)
}

fn latencies(options: &Options, folder: &Path) -> Result<Vec<Figure>> {
    let (server, client) = start(options, folder, "interrupts", &[])?;
    let mut figures = Vec::new();
    for (work, size) in WORKS {
        for side_by_side in [1, 3] {
            say(&format!("interrupt: {side_by_side} × {work}"));
            let runs = options.times(10, 2);
            let took = (0..runs).map(|run| interrupted(&client, work, size, side_by_side, run as u64));
            let took: Samples = took.collect::<Result<_>>()?;
            let longest: Samples = [took.max()].into_iter().collect();
            let name = format!("{side_by_side} × {work}");
            figures.push(Figure::new(GROUP, name.clone(), "ms", Better::Lower).ours(took));
            let longest = Figure::new(GROUP, format!("{name}, longest"), "ms", Better::Lower).ours(longest);
            figures.push(longest.target(Target::AtMost(50.0)));
        }
    }
    server.stop()?;
    Ok(figures)
}

/// Milliseconds from the request until nothing runs.
fn interrupted(client: &Client, work: &str, size: u64, branches: u64, run: u64) -> Result<f64> {
    let id = client.queue(&request(work, size, branches, run))?;
    // Until the work is surely under way, and at another point of it in each run.
    thread::sleep(Duration::from_millis(300 + 17 * run));
    let begin = Instant::now();
    client.post("/interrupt", &json!({"prompt_id": id}))?;
    client.wait_until_idle(Duration::from_micros(500))?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let entry = client.history(&id)?;
    let messages = entry["status"]["messages"].as_array().context("the history holds no messages")?;
    let stopped = messages.iter().any(|message| message[0] == "execution_interrupted");
    ensure!(stopped, "{work} was not interrupted: {}", entry["status"]);
    Ok(took)
}

/// Two heavy branches, one after the other and side by side.
fn branches(options: &Options, folder: &Path) -> Result<Vec<Figure>> {
    let alone = start(options, folder, "alone", &["--parallel-nodes", "1"])?;
    let beside = start(options, folder, "beside", &["--parallel-nodes", "2"])?;
    let (mut one, mut two) = (Samples::default(), Samples::default());
    for run in 0..options.times(5, 1) {
        say("two heavy branches");
        one.push(both(&alone.1, run as u64)?);
        two.push(both(&beside.1, run as u64)?);
    }
    alone.0.stop()?;
    beside.0.stop()?;
    let gain: Samples = [one.min() / two.min()].into_iter().collect();
    let group = "Branches";
    Ok(vec![
        Figure::new(group, "two heavy branches, one after the other", "s", Better::Lower).ours(one),
        Figure::new(group, "two heavy branches, side by side", "s", Better::Lower).ours(two),
        Figure::new(group, "gain of running side by side, of minima", "×", Better::Higher).ours(gain),
    ])
}

fn both(client: &Client, run: u64) -> Result<f64> {
    let begin = Instant::now();
    let id = client.queue(&request("count", HEAVY, 2, run))?;
    client.wait_until_idle(Duration::from_millis(2))?;
    let took = begin.elapsed();
    client.check_success(&id)?;
    Ok(took.as_secs_f64())
}

/// The body of a prompt with that many branches of work.
fn request(work: &str, size: u64, branches: u64, run: u64) -> Vec<u8> {
    let mut prompt = Map::new();
    for branch in 0..branches {
        let seed = run * 100 + branch;
        let inputs = json!({"work": work, "size": size, "seed": seed, "value": seed});
        prompt.insert(format!("w{branch}"), json!({"class_type": "TestWork", "inputs": inputs}));
        let shown = Value::from(vec![json!(format!("w{branch}")), json!(0)]);
        prompt.insert(format!("s{branch}"), json!({"class_type": "TestShow", "inputs": {"value": shown}}));
    }
    json!({"prompt": prompt}).to_string().into_bytes()
}

/// A server with the pack `testing` among its packs.
fn start(options: &Options, folder: &Path, name: &str, flags: &[&str]) -> Result<(Server, Client)> {
    let base = folder.join(name);
    let packs = base.join("packs");
    fs::create_dir_all(&packs)?;
    fs::write(packs.join("testing.wasm"), options.test_pack("testing")?)?;
    let (mut command, url) = vivarium_serve(&options.vivarium()?, &base)?;
    command.args(flags);
    let server = Server::start(command, &url, &log_in(folder, name))?;
    Ok((server, Client::new(&url)))
}
