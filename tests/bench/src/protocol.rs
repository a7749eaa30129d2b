//! The figures of the protocol under load: requests, uploads, events to many sockets. Both servers take turns in every
//! round, and their best rounds are compared, since other work on the machine can only make a round worse.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::{
    audience::{Audience, deaf_sockets},
    figure::{Better, Figure, Samples, Target},
    load,
    options::Options,
    servers::{Subject, say},
    wire::{Wire, get, upload},
    workload::request_named,
};

const CONNECTIONS: usize = 8;
const UPLOAD_CONNECTIONS: usize = 4;
const UPLOAD_BYTES: usize = 1_000_000;
const SOCKETS: usize = 200;
/// Sockets that never read, beside those that watch.
const IDLE_SOCKETS: usize = 2000;
/// Issue and design ask for it.
const AIM: Target = Target::TimesBetter { factor: 5.0, recorded: f64::NAN };

/// Measures all subjects.
///
/// # Errors
/// When a server refuses what it should do.
pub(crate) fn measure(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut figures = requests(options, subjects)?;
    figures.extend(uploads(options, subjects)?);
    figures.extend(audience(options, subjects)?);
    figures.extend(crowd(options, subjects)?);
    Ok(figures)
}

fn requests(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let seconds = Duration::from_millis(options.times(2_000, 300) as u64);
    for path in ["/prompt", "/queue", "/object_info"] {
        let mut rate = best("Requests", format!("GET {path}, {CONNECTIONS} connections"), "1/s", Better::Higher);
        let mut tail = best("Requests", format!("GET {path}, 99 of 100 within"), "ms", Better::Lower);
        let mut cost = best("Requests", format!("GET {path}, the server's processor time"), "µs", Better::Lower);
        for round in 1..=options.times(6, 1) {
            say(&format!("GET {path}, round {round}"));
            for subject in &mut *subjects {
                let used = subject.processor_seconds()?;
                let begin = Instant::now();
                let times = load::ask_for(&subject.url, &get(&subject.url, path), CONNECTIONS, seconds)?;
                let milliseconds: Samples = times.into_iter().collect();
                rate.of(subject.is_peer).push(milliseconds.len() as f64 / begin.elapsed().as_secs_f64());
                tail.of(subject.is_peer).push(milliseconds.quantile(0.99));
                if let (Some(before), Some(after)) = (used, subject.processor_seconds()?) {
                    cost.of(subject.is_peer).push((after - before) / milliseconds.len() as f64 * 1e6);
                }
            }
        }
        figures.extend([rate, tail, cost]);
    }
    Ok(figures)
}

fn uploads(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let count = options.times(250, 20);
    let row = |what: &str| {
        best("Uploads of 1 MB", format!("{what}, {UPLOAD_CONNECTIONS} connections"), "1/s", Better::Higher)
    };
    let (mut different, mut same) = (row("all different"), row("always the same bytes and name"));
    let mut cost = best("Uploads of 1 MB", "all different, the server's processor time", "ms", Better::Lower);
    for round in 1..=options.times(4, 1) {
        say(&format!("uploads, round {round}"));
        for subject in &mut *subjects {
            let used = subject.processor_seconds()?;
            different.of(subject.is_peer).push(uploads_per_second(&subject.url, count, |number| {
                let run = std::process::id();
                (format!("bench-{run}-{round}-{number}.bin"), [u64::from(run), round as u64, number as u64])
            })?);
            if let (Some(before), Some(after)) = (used, subject.processor_seconds()?) {
                cost.of(subject.is_peer).push((after - before) / count as f64 * 1e3);
            }
            let name = format!("bench-{}-same.bin", std::process::id());
            same.of(subject.is_peer).push(uploads_per_second(&subject.url, count, |_| (name.clone(), [7; 3]))?);
        }
    }
    Ok(vec![different.target(AIM), same.target(AIM), cost])
}

/// `file` gives the name and the first bytes of each file.
fn uploads_per_second(url: &str, count: usize, file: impl Fn(usize) -> (String, [u64; 3]) + Sync) -> Result<f64> {
    let wires = (0..UPLOAD_CONNECTIONS).map(|_| Wire::connect(url)).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    at_once(wires.into_iter().enumerate().collect(), |(first, mut wire)| {
        let mut content = vec![b'x'; UPLOAD_BYTES];
        for number in (first..count).step_by(UPLOAD_CONNECTIONS) {
            let (name, stamp) = file(number);
            for (bytes, stamp) in content.chunks_exact_mut(8).zip(stamp) {
                bytes.copy_from_slice(&stamp.to_le_bytes());
            }
            let (before, after) = upload(url, &name, content.len());
            wire.ask(&[&before, &content, &after])?;
        }
        Ok(())
    })?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

fn audience(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let prompts = options.times(100, 20);
    let group = "Events to 200 sockets";
    let mut rate = best(group, "prompts, until every socket heard the last end", "1/s", Better::Higher);
    let mut single = best(group, "one prompt, until every socket heard its end", "ms", Better::Lower);
    let mut cost = best(group, "the server's processor time per prompt", "ms", Better::Lower);
    for round in 1..=options.times(4, 1) {
        say(&format!("events to {SOCKETS} sockets, round {round}"));
        for subject in &mut *subjects {
            let listening = Audience::connect(&subject.url, "watching", SOCKETS)?;
            single.of(subject.is_peer).push(one_by_one(subject, &listening, None, 20)?.median());

            let together = bodies(subject, None, prompts);
            let used = subject.processor_seconds()?;
            let last = together.last().ok_or_else(|| anyhow!("no prompts"))?;
            listening.wait_for(&last.0);
            let begin = Instant::now();
            together.iter().try_for_each(|(_, body)| subject.client.queue(body).map(drop))?;
            listening.until_all_heard()?;
            rate.of(subject.is_peer).push(prompts as f64 / begin.elapsed().as_secs_f64());
            if let (Some(before), Some(after)) = (used, subject.processor_seconds()?) {
                cost.of(subject.is_peer).push((after - before) / prompts as f64 * 1e3);
            }
        }
    }
    Ok(vec![rate.target(AIM), single, cost])
}

/// Prompts and their ids. Without a client id, their progress goes to every socket.
fn bodies(subject: &mut Subject, client_id: Option<&str>, count: usize) -> Vec<(String, Vec<u8>)> {
    let prompt = |_| {
        // No colour comes twice.
        let id = format!("bench-{}-{}", std::process::id(), subject.colours.take());
        let body = request_named(&mut subject.colours, &id, client_id);
        (id, body)
    };
    (0..count).map(prompt).collect()
}

/// The milliseconds from posting each prompt until all who listen heard its end.
fn one_by_one(subject: &mut Subject, listening: &Audience, client_id: Option<&str>, prompts: usize) -> Result<Samples> {
    let bodies = bodies(subject, client_id, prompts);
    let times = bodies.iter().map(|(id, body)| {
        listening.wait_for(id);
        let begin = Instant::now();
        subject.client.queue(body)?;
        listening.until_all_heard()?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    });
    times.collect()
}

/// What a crowd of sockets costs somebody who is not one of them.
fn crowd(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let group = "Prompts beside other sockets";
    let mut alone = best(group, "one prompt, until its client heard its end", "ms", Better::Lower);
    let name = format!("the same beside {IDLE_SOCKETS} sockets that never read and {SOCKETS} that watch");
    let mut beside = best(group, name, "ms", Better::Lower);
    for round in 1..=options.times(4, 1) {
        say(&format!("prompts beside other sockets, round {round}"));
        for subject in &mut *subjects {
            let url = subject.url.clone();
            let own = Audience::connect(&url, "own", 1)?;
            let mut median =
                || one_by_one(subject, &own, Some("own-0"), options.times(100, 10)).map(|times| times.median());
            let before = median()?;
            let _watching = Audience::connect(&url, "watching", SOCKETS)?;
            let _idle = deaf_sockets(&url, IDLE_SOCKETS)?;
            let after = median()?;
            alone.of(subject.is_peer).push(before);
            beside.of(subject.is_peer).push(after);
        }
    }
    Ok(vec![alone, beside])
}

/// A figure of which the best rounds are compared.
fn best(group: &'static str, name: impl Into<String>, unit: &'static str, better: Better) -> Figure {
    let figure = Figure { by_best: true, ..Figure::new(group, name, unit, better) };
    if group == "Requests" && better == Better::Higher { figure.target(AIM) } else { figure }
}

/// One thread for each.
fn at_once<T: Send, R: Send>(each: Vec<T>, work: impl Fn(T) -> Result<R> + Sync) -> Result<Vec<R>> {
    thread::scope(|scope| {
        let threads: Vec<_> = each.into_iter().map(|one| scope.spawn(|| work(one))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    })
}
