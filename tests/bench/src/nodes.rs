//! What single nodes take with pictures of 2048 × 2048, as a client sees it: the time from the event that a node begins to
//! the event that the next one does, or that it is done.
//!
//! Both servers keep the results of the last prompt only. So what stands before the measured node is not computed again,
//! and the measured node is, since another one was measured in between.

use std::{
    hint::black_box,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};
use vivarium_image_codec::encode_png;

use crate::{
    audience::connected,
    figure::{Better, Figure, Samples, Target},
    options::Options,
    servers::{Subject, say},
    wire::{Wire, upload},
    workload::node,
};

const SIDE: u32 = 2048;
const CLIENT_ID: &str = "nodes";
const GROUP: &str = "Nodes, 2048 × 2048";
/// The node that is measured.
const MEASURED: &str = "measured";
const PATIENCE: Duration = Duration::from_secs(120);

/// A node to measure. Links in its inputs lead to the nodes of [`prompt`].
struct Case {
    name: &'static str,
    class: &'static str,
    inputs: Value,
    /// How many times faster than the peer it should be, says the issue that asked for these figures.
    aim: Option<f64>,
}

/// In this order: what `ImageInvert` makes is kept while the nodes after it are measured.
fn cases(round: usize) -> Vec<Case> {
    let case = |name, class, inputs, aim| Case { name, class, inputs, aim };
    let (picture, other) = (json!(["picture", 0]), json!(["other", 0]));
    let scale = |method: &str, side: u32| json!({"image": picture, "upscale_method": method, "width": side, "height": side, "crop": "disabled"});
    let blend = |mode: &str| json!({"image1": picture, "image2": other, "blend_mode": mode, "blend_factor": 0.4});
    let blur = |radius: u32, sigma: f64| json!({"image": picture, "blur_radius": radius, "sigma": sigma});
    let composite =
        json!({"destination": picture, "source": other, "mask": ["mask", 0], "x": 0, "y": 0, "resize_source": false});
    let sharpen = json!({"image": picture, "sharpen_radius": 1, "sigma": 1.0, "alpha": 1.0});
    let another = json!({"image": file_name(round + 1)});
    vec![
        case("LoadImage", "LoadImage", another, Some(4.0)),
        case("SaveImage", "SaveImage", json!({"images": picture, "filename_prefix": "bench"}), Some(4.0)),
        case("ImageInvert", "ImageInvert", json!({"image": picture}), None),
        case("ImageScale, lanczos to 1024", "ImageScale", scale("lanczos", 1024), Some(5.0)),
        case("ImageScale, bicubic to 4096", "ImageScale", scale("bicubic", 4096), Some(5.0)),
        case("ImageScale, bilinear to 1024", "ImageScale", scale("bilinear", 1024), None),
        case("ImageBlend, normal", "ImageBlend", blend("normal"), Some(5.0)),
        case("ImageBlend, soft light", "ImageBlend", blend("soft_light"), Some(5.0)),
        case("ImageCompositeMasked", "ImageCompositeMasked", composite, Some(5.0)),
        case("ImageSharpen, radius 1", "ImageSharpen", sharpen, Some(5.0)),
        case("ImageBlur, radius 1", "ImageBlur", blur(1, 1.0), Some(20.0)),
        case("ImageBlur, radius 31", "ImageBlur", blur(31, 9.0), Some(20.0)),
    ]
}

/// Measures all subjects.
///
/// # Errors
/// When a server refuses or fails a prompt.
pub(crate) fn measure(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let rounds = options.times(4, 1);
    say("nodes: uploading pictures");
    for number in 0..=rounds {
        let picture = picture(number)?;
        for subject in &*subjects {
            let (before, after) = upload(&subject.url, &file_name(number), picture.len());
            Wire::connect(&subject.url)?.ask(&[&before, &picture, &after])?;
        }
    }
    let mut sockets = Vec::new();
    for subject in &*subjects {
        let socket = connected(&subject.url, CLIENT_ID)?;
        socket.get_ref().set_read_timeout(Some(PATIENCE))?;
        sockets.push(socket);
    }
    let mut figures: Vec<Figure> = cases(0).iter().map(figure).collect();
    for round in 0..rounds {
        for (case, figure) in cases(round).iter().zip(&mut figures) {
            say(&format!("nodes: {}, round {}", case.name, round + 1));
            for (subject, socket) in subjects.iter().zip(&mut sockets) {
                figure.of(subject.is_peer).push(milliseconds(subject, socket, case)?);
            }
        }
    }
    figures.push(copy_of_a_picture());
    Ok(figures)
}

fn figure(case: &Case) -> Figure {
    let figure = Figure { by_best: true, ..Figure::new(GROUP, case.name, "ms", Better::Lower) };
    let target = case.aim.map(|factor| Target::TimesBetter { factor, recorded: f64::NAN });
    Figure { target, ..figure }
}

/// For proportion: what a node that only moves memory can't be faster than.
fn copy_of_a_picture() -> Figure {
    let picture = vec![0.5_f32; (SIDE * SIDE * 3) as usize];
    let mut copy = picture.clone();
    let times: Samples = (0..10)
        .map(|_| {
            let begin = Instant::now();
            copy.copy_from_slice(black_box(&picture));
            black_box(&mut copy);
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let name = "for comparison: one thread copies such a picture (50 MB)";
    Figure { by_best: true, ..Figure::new(GROUP, name, "ms", Better::Lower) }.ours(times)
}

fn file_name(number: usize) -> String {
    format!("bench-picture-{}-{number}.png", std::process::id())
}

/// Soft colours with some noise, as a photograph has it: a flat picture would cost next to nothing to compress.
fn picture(number: usize) -> Result<Vec<u8>> {
    let mut state = number as u32 + 1;
    let mut pixels = Vec::with_capacity((SIDE * SIDE * 3) as usize);
    for y in 0..SIDE {
        for x in 0..SIDE {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = state >> 29;
            pixels.extend([x / 9, y / 9, (x + y) / 18].map(|colour| (colour + noise).min(255) as u8));
        }
    }
    Ok(encode_png(&pixels, SIDE, SIDE, 3, 4, &[])?)
}

/// One prompt with the measured node, what it needs, and a small preview of what it makes.
fn prompt(case: &Case) -> Value {
    let mut nodes = json!({
        "picture": node("LoadImage", json!({"image": file_name(0)})),
        MEASURED: node(case.class, case.inputs.clone()),
    });
    let needs = |name: &str| case.inputs.as_object().is_some_and(|inputs| inputs.values().any(|link| link[0] == name));
    if needs("other") {
        nodes["other"] = node("ImageInvert", json!({"image": ["picture", 0]}));
    }
    if needs("mask") {
        nodes["mask"] = node("ImageToMask", json!({"image": ["picture", 0], "channel": "red"}));
    }
    if case.class != "SaveImage" {
        let crop = json!({"image": [MEASURED, 0], "width": 8, "height": 8, "x": 0, "y": 0});
        nodes["corner"] = node("ImageCrop", crop);
        nodes["end"] = node("PreviewImage", json!({"images": ["corner", 0]}));
    }
    json!({"prompt": nodes, "client_id": CLIENT_ID})
}

/// Runs a prompt and follows it on a WebSocket.
fn milliseconds(subject: &Subject, socket: &mut WebSocket<TcpStream>, case: &Case) -> Result<f64> {
    let body = prompt(case).to_string();
    thread::scope(|scope| {
        // Beside, so that no event waits for the answer to the post.
        let posted = scope.spawn(|| subject.client.queue(body.as_bytes()));
        let took = follow(socket).with_context(|| format!("{} at {}", case.name, subject.url));
        posted.join().map_err(|_| anyhow!("a thread panicked"))??;
        took
    })
}

/// Reads events until the prompt ended. Gives how long the measured node took.
fn follow(socket: &mut WebSocket<TcpStream>) -> Result<f64> {
    let (mut began, mut took) = (None, None);
    loop {
        let Message::Text(text) = socket.read()? else { continue };
        let now = Instant::now();
        let event: Value = serde_json::from_str(&text)?;
        let is_measured = event["data"]["node"] == MEASURED;
        match event["type"].as_str() {
            Some("executing") if is_measured => began = Some(now),
            Some("executing" | "executed") => took = took.or(began.map(|began| (now - began).as_secs_f64() * 1e3)),
            Some("execution_error" | "execution_interrupted") => bail!("it failed: {}", event["data"]),
            _ => {}
        }
        if event["type"] == "executing" && event["data"]["node"].is_null() {
            return took.context("the measured node was not run");
        }
    }
}
