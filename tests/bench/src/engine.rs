//! What a node costs the engine, from small prompts to large ones, in three shapes; and a large prompt whose results are
//! all kept from the run before.
//!
//! Images have 8 × 8 pixels, so that computing is next to nothing. No two nodes are alike: equal ones would share a result.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::{
    figure::{Better, Figure, Samples, Target},
    listener::{CLIENT_ID, Listener},
    options::Options,
    servers::{Subject, in_turns, say},
    workload::{Colours, node},
};

const SIZES: [usize; 4] = [10, 100, 1000, 10_000];
/// In larger prompts ComfyUI takes minutes for the keys of its cache, or refuses the depth.
const LARGEST_OF_PEER: usize = 100;
const GROUP: &str = "Engine";

/// How the nodes of a prompt hang together.
#[derive(Clone, Copy)]
enum Shape {
    /// Each reads the one before.
    Chain,
    /// Half of the nodes read the first one; the other half gathers what they made.
    FanOut,
    /// Of three nodes, two read the one before, and the third reads both.
    Diamond,
}

/// Measures all shapes and sizes.
///
/// # Errors
/// When a server refuses or fails a prompt.
pub(crate) fn measure(options: &Options, subjects: &mut [Subject]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (shape, name) in [(Shape::Chain, "chain"), (Shape::FanOut, "fan-out"), (Shape::Diamond, "diamonds")] {
        let mut least = Vec::new();
        for size in SIZES {
            say(&format!("engine: {name} of {size}"));
            let (ours, peers) = in_turns(subjects, options.times(5, 1), |subject| fresh(subject, shape, size))?;
            least.push(ours.min());
            let title = format!("{name} of {size}, per node");
            figures.push(Figure::new(GROUP, title, "ms", Better::Lower).ours(ours).peer(peers));
        }
        let dearest = least.iter().skip(1).copied().fold(0.0, f64::max);
        let cheapest = least.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
        let growth: Samples = [dearest / cheapest].into_iter().collect();
        let title = format!("{name}: dearest node by cheapest, 100 to 10000, of minima");
        figures.push(Figure::new(GROUP, title, "×", Better::Lower).target(Target::AtMost(1.5)).ours(growth));
    }
    for (size, target) in [(100, None), (10_000, Some(Target::AtMost(50.0)))] {
        say(&format!("engine: kept results, {size}"));
        let (ours, peers) = in_turns(subjects, options.times(3, 1), |subject| again(subject, size))?;
        let figure = Figure::new(GROUP, format!("chain of {size} again, all kept"), "ms", Better::Lower);
        figures.push(Figure { target, ..figure.ours(ours).peer(peers) });
    }
    Ok(figures)
}

/// Milliseconds per node of a prompt that was never run.
fn fresh(subject: &mut Subject, shape: Shape, size: usize) -> Result<Vec<f64>> {
    if subject.is_peer && size > LARGEST_OF_PEER {
        return Ok(Vec::new());
    }
    let _listener = Listener::connect(&subject.url)?;
    let body = request(&mut subject.colours, shape, size);
    Ok(vec![seconds(subject, &body)? / size as f64 * 1e3])
}

/// Milliseconds of prompts that were run just before.
fn again(subject: &mut Subject, size: usize) -> Result<Vec<f64>> {
    if subject.is_peer && size > LARGEST_OF_PEER {
        return Ok(Vec::new());
    }
    let _listener = Listener::connect(&subject.url)?;
    let body = request(&mut subject.colours, Shape::Chain, size);
    seconds(subject, &body)?;
    (0..5).map(|_| Ok(seconds(subject, &body)? * 1e3)).collect()
}

/// From before the post until the queue is empty.
fn seconds(subject: &Subject, body: &[u8]) -> Result<f64> {
    const ASK_EVERY: Duration = Duration::from_micros(500);
    let begin = Instant::now();
    let id = subject.client.queue(body)?;
    subject.client.wait_until_idle(ASK_EVERY)?;
    let took = begin.elapsed();
    subject.client.check_success(&id)?;
    Ok(took.as_secs_f64())
}

/// The body of a prompt with that many nodes, the source and the preview among them.
fn request(colours: &mut Colours, shape: Shape, size: usize) -> Vec<u8> {
    let mut nodes = Nodes(Map::new());
    let source = nodes.add("EmptyImage", json!({"width": 8, "height": 8, "batch_size": 1, "color": colours.take()}));
    let mut last = source.clone();
    let within = size.saturating_sub(2);
    match shape {
        Shape::Chain => {
            for _ in 0..within {
                last = nodes.add("ImageInvert", json!({"image": last}));
            }
        }
        Shape::FanOut => {
            let branches: Vec<_> = (0..within / 2).map(|index| nodes.blend(&source, &source, index, within)).collect();
            for branch in branches {
                last = nodes.blend(&last, &branch, 0, 1);
            }
        }
        Shape::Diamond => {
            for index in 0..within / 3 {
                let sides =
                    [nodes.add("ImageInvert", json!({"image": last})), nodes.blend(&last, &last, index, within)];
                last = nodes.blend(&sides[0], &sides[1], 0, 1);
            }
        }
    }
    while nodes.0.len() < size.saturating_sub(1) {
        last = nodes.add("ImageInvert", json!({"image": last}));
    }
    nodes.add("PreviewImage", json!({"images": last}));
    json!({"prompt": nodes.0, "client_id": CLIENT_ID}).to_string().into_bytes()
}

struct Nodes(Map<String, Value>);

impl Nodes {
    /// A link to the output of a new node.
    fn add(&mut self, class: &str, inputs: Value) -> Value {
        let id = (self.0.len() + 1).to_string();
        self.0.insert(id.clone(), node(class, inputs));
        json!([id, 0])
    }

    fn blend(&mut self, one: &Value, other: &Value, part: usize, of: usize) -> Value {
        let factor = part as f64 / of as f64;
        self.add("ImageBlend", json!({"image1": one, "image2": other, "blend_factor": factor, "blend_mode": "normal"}))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_shape_has_the_nodes_that_it_says_and_one_preview() {
        for shape in [Shape::Chain, Shape::FanOut, Shape::Diamond] {
            for size in [10, 100] {
                let body: Value = serde_json::from_slice(&request(&mut Colours::new(), shape, size)).unwrap();
                let prompt = body["prompt"].as_object().unwrap();
                assert_eq!(prompt.len(), size);
                assert_eq!(prompt.values().filter(|node| node["class_type"] == "PreviewImage").count(), 1);
            }
        }
    }
}
