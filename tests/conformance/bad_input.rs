//! Bad input: the answer names the thing, and the server goes on with the next prompt as if nothing had been.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vivarium_image_codec::encode_png;
use vivarium_server::ServerConfig;
use vivarium_tests::{read_json, server::Server, tests_folder};

/// The prompt that must run after each bad one.
fn good(color: usize) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": color}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    })
}

fn runs(server: &Server, color: usize) -> Result<()> {
    let entry = server.run(&good(color))?;
    ensure!(entry["status"]["status_str"] == "success", "the next prompt fails: {}", entry["status"]);
    Ok(())
}

/// `bad_input.json` beside this file: prompts that are refused, or fail when they run, and the words to expect.
#[test]
fn each_bad_prompt_is_told_what_is_wrong_and_the_next_one_runs() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    server.upload_folder(&tests_folder().join("goldens/inputs"))?;
    server.upload("wide.png", &encode_png(&vec![200; 300_000], 100_000, 1, 3, 1, &[])?)?;
    server.upload("empty.png", b"")?;
    server.upload("page.png", b"<!doctype html><title>404</title>")?;
    let list = read_json(&tests_folder().join("conformance/bad_input.json"))?;
    let mut failures = Vec::new();
    for (index, bad) in list.as_array().context("a list")?.iter().enumerate() {
        let checked = check(&server, bad).and_then(|()| runs(&server, index));
        if let Err(error) = checked {
            failures.push(format!("{}: {error:#}", bad["what"]));
        }
    }
    if !failures.is_empty() {
        bail!("{} bad prompts are not answered well:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}

fn check(server: &Server, bad: &Value) -> Result<()> {
    let answer = server.post("/prompt", &json!({ "prompt": bad["prompt"] }))?;
    let (said, words) = match bad["refused"].as_array() {
        Some(words) => {
            ensure!(answer.status == 400, "it is not refused: {answer:?}");
            (answer.text(), words)
        }
        None => {
            let accepted = answer.json()?;
            let entry = server.wait(accepted["prompt_id"].as_str().with_context(|| format!("refused: {answer:?}"))?)?;
            let words = bad["fails"].as_array().context("a bad prompt is refused or fails")?;
            ensure!(entry["status"]["status_str"] == "error", "it does not fail: {entry}");
            (entry["status"]["messages"].to_string(), words)
        }
    };
    for word in words.iter().filter_map(Value::as_str) {
        ensure!(said.contains(word), "{word:?} is not said: {said}");
    }
    Ok(())
}

#[test]
fn json_nested_too_deep_is_refused() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let value = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
        for body in [value.clone(), format!("{{\"prompt\":{value}}}"), format!("{{\"prompt\":{{\"1\":{value}}}}}")] {
            let answer = server.send("POST", "/prompt", &[], body.as_bytes())?;
            ensure!(answer.status == 400, "{answer:?}");
        }
        let answer = server.send("POST", "/settings/deep", &[], value.as_bytes())?;
        ensure!(answer.status == 400, "{answer:?}");
    }
    runs(&server, 1)
}

#[test]
fn a_picture_a_hundred_thousand_pixels_wide_comes_back_or_is_refused_by_its_size() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    server.upload("wide.png", &encode_png(&vec![200; 300_000], 100_000, 1, 3, 1, &[])?)?;
    // As it is, it is bytes like any other.
    ensure!(server.get("/view?filename=wide.png&type=input")?.status == 200);
    let answer = server.get("/view?filename=wide.png&type=input&preview=webp")?;
    ensure!(answer.status == 413 || answer.status == 400, "{}", answer.status);
    ensure!(answer.text().contains("100000"), "{answer:?}");
    runs(&server, 1)
}

#[test]
fn a_chain_of_ten_thousand_nodes_is_no_bad_input() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut prompt = json!({
        "0": {"class_type": "EmptyImage", "inputs": {"width": 1, "height": 1, "batch_size": 1, "color": 0}},
    });
    for node in 1..10_000 {
        let from = (node - 1).to_string();
        prompt[node.to_string()] = json!({"class_type": "ImageInvert", "inputs": {"image": [from, 0]}});
    }
    prompt["end"] = json!({"class_type": "PreviewImage", "inputs": {"images": ["9999", 0]}});
    let entry = server.run(&prompt)?;
    ensure!(entry["status"]["status_str"] == "success", "{}", entry["status"]);
    Ok(())
}
