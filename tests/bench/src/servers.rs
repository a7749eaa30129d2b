//! The figures of servers. Where both are measured, they take turns, so that other work on the machine hits both.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    client::Client,
    engine,
    figure::{Better, Figure, Samples, Target},
    listener::{CLIENT_ID, Listener},
    nodes,
    options::Options,
    process::{Server, log_in, shell, vivarium_serve},
    protocol,
    workload::{Colours, request},
};

const CHAINS: [usize; 5] = [50, 100, 200, 400, 1000];
/// Longer ones take the peer minutes.
const LONGEST_CHAIN_OF_PEER: usize = 400;
const WARM_UP_PROMPTS: usize = 20;

/// One server under measurement.
pub(crate) struct Subject {
    pub(crate) is_peer: bool,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) colours: Colours,
    /// Absent when it ran before: then its start and memory are nobody's business.
    server: Option<Server>,
}

impl Subject {
    fn new(is_peer: bool, url: String, server: Option<Server>) -> Self {
        Self { is_peer, client: Client::new(&url), colours: Colours::new(), url, server }
    }

    /// Of the server so far, where it is ours to look at.
    pub(crate) fn processor_seconds(&self) -> Result<Option<f64>> {
        self.server.as_ref().map(Server::processor_seconds).transpose()
    }
}

/// Measures ours, and the peer if one is given.
///
/// # Errors
/// When a server does not start, or refuses what it should run.
pub(crate) fn measure(options: &Options) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("there is no temporary folder")?;
    let (mut figures, ours) = start_ours(options, &folder)?;
    let mut subjects = vec![ours];
    if let Some(peer) = start_peer(options, folder.path())? {
        let started: Samples = peer.server.iter().map(|server| server.started_in().as_secs_f64()).collect();
        figures
            .iter_mut()
            .filter(|figure| figure.name.contains("warm"))
            .for_each(|figure| figure.peer = started.clone());
        subjects.push(peer);
    }
    if options.measures_servers() {
        figures.extend(alone(options, &mut subjects)?);
    }
    if options.measures_engine() {
        figures.extend(engine::measure(options, &mut subjects)?);
    }
    if options.measures_nodes() {
        figures.extend(nodes::measure(options, &mut subjects)?);
    }
    if options.measures_protocol() {
        figures.extend(protocol::measure(options, &mut subjects)?);
    }
    // By then ours has given back what it kept for the next node.
    thread::sleep(Duration::from_secs(options.times(25, 1) as u64));
    figures.push(memory(&subjects, Figure::new("Memory", "25 s after all the measuring", "MB", Better::Lower))?);
    // The rows of a group belong together.
    figures.sort_by_key(|figure| ["Start", "Memory"].iter().position(|group| *group == figure.group).unwrap_or(9));
    for server in subjects.into_iter().filter_map(|subject| subject.server) {
        server.stop()?;
    }
    Ok(figures)
}

/// With nothing else to do for the server.
fn alone(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    thread::sleep(Duration::from_secs(3));
    let idle = Figure::new("Memory", "idle, 3 s after start", "MB", Better::Lower).target(Target::AtMost(120.0));
    figures.push(memory(subjects, idle)?);
    figures.extend(prompts(options, subjects)?);
    figures.extend(latencies(options, subjects)?);
    figures.extend(chains(options, subjects)?);
    Ok(figures)
}

// --- Start and memory --------------------------------------------------------------------------------------------

fn start_ours(options: &Options, folder: &TempDir) -> Result<(Vec<Figure>, Subject)> {
    let binary = options.vivarium()?;
    let log = log_in(folder.path(), "vivarium");
    let start = |base: &Path| -> Result<(Server, String)> {
        let (command, url) = vivarium_serve(&binary, base)?;
        Ok((Server::start(command, &url, &log)?, url))
    };
    say("ours: start");
    let (mut cold, mut warm) = (Samples::default(), Samples::default());
    let runs = if options.measures_servers() { options.times(5, 1) } else { 1 };
    for run in 0..runs {
        let base = folder.path().join(format!("cold-{run}"));
        let (server, _) = start(&base)?;
        cold.push(server.started_in().as_secs_f64());
        server.stop()?;
    }
    let base = folder.path().join("cold-0");
    for _ in 0..if options.measures_servers() { options.times(10, 2) } else { 1 } {
        let (server, _) = start(&base)?;
        warm.push(server.started_in().as_secs_f64());
        server.stop()?;
    }
    let figures = vec![
        Figure::new("Start", "compiled packs in the cache (warm)", "s", Better::Lower)
            .target(Target::AtMost(0.3))
            .ours(warm),
        Figure::new("Start", "first start in a folder (cold)", "s", Better::Lower).ours(cold),
    ];
    let (server, url) = start(&base)?;
    Ok((figures, Subject::new(false, url, Some(server))))
}

fn start_peer(options: &Options, folder: &Path) -> Result<Option<Subject>> {
    let Some(url) = options.peer_url() else { return Ok(None) };
    let Some(command) = &options.peer_start else {
        return Ok(Some(Subject::new(true, url.to_owned(), None)));
    };
    say("peer: start");
    // Twice: the first fills the caches of the system and of Python.
    Server::start(shell(command), url, &log_in(folder, "peer"))?.stop()?;
    let server = Server::start(shell(command), url, &log_in(folder, "peer"))?;
    Ok(Some(Subject::new(true, url.to_owned(), Some(server))))
}

fn memory(subjects: &[Subject], figure: Figure) -> Result<Figure> {
    let of = |is_peer: bool| -> Result<Samples> {
        let servers = subjects.iter().filter(|subject| subject.is_peer == is_peer).filter_map(|s| s.server.as_ref());
        servers.map(Server::resident_mb).collect()
    };
    Ok(figure.ours(of(false)?).peer(of(true)?))
}

// --- Figures in turns --------------------------------------------------------------------------------------------

/// Measures all subjects, `rounds` times in turns; returns ours and the peer's.
pub(crate) fn in_turns(
    subjects: &mut [Subject],
    rounds: usize,
    mut measure: impl FnMut(&mut Subject) -> Result<Vec<f64>>,
) -> Result<(Samples, Samples)> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for subject in &mut *subjects {
            let values = measure(subject)?;
            if subject.is_peer { peers.extend(values) } else { ours.extend(values) }
        }
    }
    Ok((ours.into_iter().collect(), peers.into_iter().collect()))
}

fn latencies(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (path, target) in [("/object_info", Some(Target::AtMost(1.0))), ("/prompt", None)] {
        say(&format!("GET {path}"));
        let requests = options.times(200, 30);
        let (ours, peers) =
            in_turns(subjects, options.times(5, 1), |subject| milliseconds(&subject.client, path, requests))?;
        let late =
            |samples: &Samples| -> Samples { samples.is_any().then(|| samples.quantile(0.99)).into_iter().collect() };
        let tail = Figure::new("Latency", format!("GET {path}, 99 of 100 within"), "ms", Better::Lower)
            .ours(late(&ours))
            .peer(late(&peers));
        let median = Figure::new("Latency", format!("GET {path}"), "ms", Better::Lower).ours(ours).peer(peers);
        figures.extend([Figure { target, ..median }, tail]);
    }
    // Servers differ in how many classes they offer; this puts their latencies into proportion.
    let size = |subject: &mut Subject| Ok(vec![subject.client.get("/object_info")?.len() as f64 / 1e3]);
    let (ours, peers) = in_turns(subjects, 1, size)?;
    figures.push(Figure::new("Latency", "size of /object_info", "kB", Better::Lower).ours(ours).peer(peers));
    Ok(figures)
}

/// Of that many requests, after 3 more.
fn milliseconds(client: &Client, path: &str, requests: usize) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(requests);
    for number in 0..requests + 3 {
        let begin = Instant::now();
        client.get(path)?;
        took.extend((number >= 3).then(|| begin.elapsed().as_secs_f64() * 1e3));
    }
    Ok(took)
}

/// With and without a listener by turns, and few rounds: a ComfyUI lists its temp folder for every preview, so that it
/// becomes slower with each prompt that it has run.
fn prompts(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let count = options.times(500, 100);
    let higher = |name| Figure::new("Throughput", name, "1/s", Better::Higher);
    let aim = Target::TimesBetter { factor: 5.0, recorded: 206.0 };
    let mut followed = higher("prompts, followed on a WebSocket").target(aim);
    let mut alone = higher("prompts, nobody listening").target(aim);
    // Says more than the rate where other work takes part of the machine.
    let cost = "the server's processor time per prompt, followed";
    let mut cost = Figure::new("Throughput", cost, "ms", Better::Lower);
    for round in 1..=options.times(3, 1) {
        say(&format!("prompts, round {round}"));
        for (listening, rate) in [(true, &mut followed), (false, &mut alone)] {
            for subject in &mut *subjects {
                let (per_second, milliseconds) = prompts_per_second(subject, count, listening)?;
                rate.of(subject.is_peer).push(per_second);
                if let Some(milliseconds) = milliseconds.filter(|_| listening) {
                    cost.of(subject.is_peer).push(milliseconds);
                }
            }
        }
    }
    Ok(vec![followed, alone, cost])
}

/// Prompts per second, and the server's processor time for one in milliseconds, where the server is ours to look at.
fn prompts_per_second(subject: &mut Subject, count: usize, listening: bool) -> Result<(f64, Option<f64>)> {
    const ASK_EVERY: Duration = Duration::from_millis(10);
    let client_id = listening.then_some(CLIENT_ID);
    let listener = listening.then(|| Listener::connect(&subject.url)).transpose()?;
    let mut bodies =
        |count| -> Vec<_> { (0..count).map(|_| request(&mut subject.colours, 64, 1, client_id)).collect() };
    let (warm_up, measured) = (bodies(WARM_UP_PROMPTS), bodies(count));
    let client = &subject.client;
    warm_up.iter().try_for_each(|body| client.queue(body).map(drop))?;
    client.wait_until_idle(ASK_EVERY)?;
    let used_before = subject.processor_seconds()?;
    let begin = Instant::now();
    let ids = measured.iter().map(|body| client.queue(body)).collect::<Result<Vec<_>>>()?;
    client.wait_until_idle(ASK_EVERY)?;
    let took = begin.elapsed();
    let cost =
        subject.processor_seconds()?.zip(used_before).map(|(after, before)| (after - before) / count as f64 * 1e3);
    let deaf = listener.is_some_and(|listener| listener.messages() < count as u64);
    ensure!(!deaf, "{} told its listener next to nothing", subject.url);
    for id in [ids.first(), ids.last()].into_iter().flatten() {
        client.check_success(id)?;
    }
    Ok((count as f64 / took.as_secs_f64(), cost))
}

fn chains(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut seconds = Vec::new();
    let mut per_node = Vec::new();
    for length in CHAINS {
        let (ours, peers) = chain(options, subjects, length)?;
        let each = |samples: &Samples| samples.map(|seconds| seconds / length as f64 * 1e3);
        let figure = Figure::new("Chain of ImageInvert", format!("{length} nodes, per node"), "ms", Better::Lower)
            .ours(each(&ours))
            .peer(each(&peers));
        per_node.push(match length {
            200 => figure.target(Target::TimesBetter { factor: 100.0, recorded: 12.9 }),
            _ => figure,
        });
        let name = format!("{length} nodes");
        seconds.push(Figure::new("Chain of ImageInvert", name, "s", Better::Lower).ours(ours).peer(peers));
    }
    let growth = growth(&per_node);
    Ok(seconds.into_iter().chain(per_node).chain(growth).collect())
}

fn chain(options: &Options, subjects: &mut [Subject], length: usize) -> Result<(Samples, Samples)> {
    say(&format!("chain of {length}"));
    in_turns(subjects, options.times(3, 1), |subject| {
        // With ours, a chain is over in a moment, so it is run more often.
        let repeats = match subject.is_peer {
            true if length > LONGEST_CHAIN_OF_PEER => 0,
            true => 1,
            false => 5,
        };
        let _listener = Listener::connect(&subject.url)?;
        (0..repeats).map(|_| chain_seconds(subject, length)).collect()
    })
}

fn chain_seconds(subject: &mut Subject, length: usize) -> Result<f64> {
    let body = request(&mut subject.colours, 8, length, Some(CLIENT_ID));
    let begin = Instant::now();
    let id = subject.client.queue(&body)?;
    subject.client.wait_until_idle(Duration::from_millis(2))?;
    let took = begin.elapsed();
    subject.client.check_success(&id)?;
    Ok(took.as_secs_f64())
}

/// How much dearer a node is in the longest chain than in one of 200; 1 is linear.
fn growth(per_node: &[Figure]) -> Option<Figure> {
    let of = |length: usize| {
        let index = CHAINS.iter().position(|other| *other == length)?;
        per_node.get(index).map(|figure| (figure.ours.median(), figure.peer.median()))
    };
    let ((base, peer_base), (long, _), (_, peer_long)) = (of(200)?, of(1000)?, of(LONGEST_CHAIN_OF_PEER)?);
    let one = |value: f64| -> Samples { [value].into_iter().filter(|value| value.is_finite()).collect() };
    let name = "growth of a node's time, 200 → 1000 (peer: → 400)";
    let figure = Figure::new("Chain of ImageInvert", name, "×", Better::Lower).target(Target::AtMost(1.25));
    Some(figure.ours(one(long / base)).peer(one(peer_long / peer_base)))
}

pub(crate) fn say(what: &str) {
    eprintln!("  measuring: {what}");
}
