//! What it costs that prompts run in processes of their own: two servers of ours that differ in nothing else, in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{
    client::Client,
    figure::{Better, Figure, Samples},
    options::Options,
    process::{Server, log_in, vivarium_serve},
    servers::say,
    workload::{Colours, request},
};

const GROUP: &str = "Worker processes";
/// Side of the images, and nodes between the first and the last.
const PROMPTS: [(&str, u32, usize); 3] = [
    ("prompt of 3 nodes, 8 × 8", 8, 1),
    ("prompt of 102 nodes, 8 × 8", 8, 100),
    ("prompt of 3 nodes, 1024 × 1024", 1024, 1),
];

/// Measures two servers that are started for it.
///
/// # Errors
/// When the server is not there, or a prompt fails.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("there is no temporary folder")?;
    let mut servers = Vec::new();
    for (name, flags) in [("inside", [].as_slice()), ("beside", ["--worker-processes", "per-tenant"].as_slice())] {
        let (mut command, url) = vivarium_serve(&options.vivarium()?, &folder.path().join(name))?;
        command.args(flags);
        servers.push((Server::start(command, &url, &log_in(folder.path(), name))?, Client::new(&url)));
    }
    let mut colours = Colours::new();
    let mut figures = Vec::new();
    let mut first = servers.iter().map(|(_, client)| milliseconds(client, &request(&mut colours, 8, 1, None)));
    let (Some(inside), Some(beside)) = (first.next(), first.next()) else { return Ok(figures) };
    let (inside, beside): (Samples, Samples) = ([inside?].into_iter().collect(), [beside?].into_iter().collect());
    let ms = |name: String, samples| Figure::new(GROUP, name, "ms", Better::Lower).ours(samples);
    figures.push(ms("first prompt, in the server".to_owned(), inside));
    figures.push(ms("first prompt, starts a process".to_owned(), beside));
    drop(first);
    for (name, size, inverts) in PROMPTS {
        say(&format!("worker processes: {name}"));
        let mut took = [Samples::default(), Samples::default()];
        for _ in 0..options.times(200, 5) {
            for ((_, client), took) in servers.iter().zip(&mut took) {
                took.push(milliseconds(client, &request(&mut colours, size, inverts, None))?);
            }
        }
        let [inside, beside] = took;
        figures.push(ms(format!("{name}, in the server"), inside));
        figures.push(ms(format!("{name}, in a process"), beside));
    }
    for ((server, _), name) in servers.iter().zip(["in the server", "and its process"]) {
        let memory: Samples = [server.resident_mb()?].into_iter().collect();
        figures.push(Figure::new(GROUP, format!("memory afterwards, {name}"), "MB", Better::Lower).ours(memory));
    }
    servers.into_iter().try_for_each(|(server, _)| server.stop())?;
    Ok(figures)
}

/// From before the post until the queue is empty.
fn milliseconds(client: &Client, body: &[u8]) -> Result<f64> {
    let begin = Instant::now();
    let id = client.queue(body)?;
    client.wait_until_idle(Duration::from_micros(100))?;
    let took = begin.elapsed();
    client.check_success(&id)?;
    Ok(took.as_secs_f64() * 1e3)
}
