//! `tests/goldens/coerced`: values are converted as ComfyUI converts them, and the converted prompt is what the history
//! keeps and what saved pictures carry.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vivarium_server::ServerConfig;
use vivarium_tests::{read_json, server::Server, tests_folder};

use crate::likeness::{difference, normalised};

#[test]
fn converted_values_are_kept_in_the_history_and_in_the_picture() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut failures = Vec::new();
    for entry in fs::read_dir(tests_folder().join("goldens/coerced"))? {
        let path = entry?.path();
        let golden = read_json(&path)?;
        if let Err(error) = check(&server, &golden["sent"], &golden["kept"]) {
            failures.push(format!("{}: {error:#}", path.display()));
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn check(server: &Server, sent: &Value, kept: &Value) -> Result<()> {
    let workflow = json!({"nodes": [], "title": "Grüße", "number": 1.0});
    let body = json!({ "prompt": sent, "extra_data": { "extra_pnginfo": { "workflow": workflow } } });
    let accepted = server.post("/prompt", &body)?.json()?;
    let entry = server.wait(accepted["prompt_id"].as_str().with_context(|| format!("refused: {accepted}"))?)?;
    same(&entry["prompt"][2], kept).context("the history")?;
    for image in entry["outputs"].as_object().into_iter().flat_map(|outputs| outputs.values()) {
        let image = &image["images"][0];
        let name = image["filename"].as_str().with_context(|| format!("nothing saved: {entry}"))?;
        let picture =
            server.get(&format!("/view?filename={name}&type={}", image["type"].as_str().unwrap_or_default()))?;
        let texts = texts_of(&picture.body)?;
        let names: Vec<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
        ensure!(names == ["prompt", "workflow"], "the picture has {names:?}");
        same(&serde_json::from_str(&texts[0].1)?, kept).context("the picture")?;
        // As Python writes JSON: clients compare these texts.
        ensure!(texts[1].1 == r#"{"nodes": [], "title": "Gr\u00fc\u00dfe", "number": 1.0}"#, "{}", texts[1].1);
    }
    Ok(())
}

/// Equal to the last digit: `1` is not `1.0` here, since cache keys and pictures tell them apart.
fn same(ours: &Value, kept: &Value) -> Result<()> {
    if let Some(difference) = difference(&normalised(ours, None), &normalised(kept, None), "") {
        bail!("{difference}");
    }
    // As texts, since the order of members counts too.
    let texts = (ours.to_string(), kept.to_string());
    ensure!(texts.0 == texts.1, "ours {ours}\n      peer {kept}");
    Ok(())
}

/// The `tEXt` chunks of a PNG file.
fn texts_of(png: &[u8]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    let mut rest = png.get(8..).context("no PNG")?;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let content = after.get(..length).context("a chunk is cut short")?;
        if &head[4..] == b"tEXt" {
            let text = String::from_utf8_lossy(content);
            let (name, value) = text.split_once('\0').context("a text without a name")?;
            texts.push((name.to_owned(), value.to_owned()));
        }
        rest = after.get(length + 4..).context("a chunk has no checksum")?;
    }
    Ok(texts)
}
