//! `cases/<case>/recorded.json`: what a real ComfyUI answered to the same conversation (`record.py`), one entry per step.
//!
//! Our answer has to be like it, unless the step says why it `differs`; then it must differ, so that no reason outlives its
//! cause. What may differ without a reason is listed in [`difference`].

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use vivarium_tests::{read_json, server::Answer};

use crate::likeness::{filled_value, unlike};

/// The real ComfyUI's answer to a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recorded {
    /// Which step it belongs to.
    ask: String,
    pub(crate) status: u16,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    json: Option<Value>,
    text: Option<Value>,
    image: Option<Image>,
    /// A hash, or that the body was compressed: neither is compared.
    #[serde(rename = "bytes")]
    _bytes: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Image {
    format: String,
    width: u32,
    height: u32,
}

/// The recording beside a conversation; none if the recorded ComfyUI is too old for it.
pub(crate) fn read(case: &Path, asks: &[&str]) -> Result<Option<Vec<Recorded>>> {
    let path = case.join("recorded.json");
    if !path.exists() {
        return Ok(None);
    }
    let recorded: Vec<Recorded> = serde_json::from_value(read_json(&path)?)?;
    let of_old = || format!("{} is of other steps; record it anew", path.display());
    ensure!(recorded.len() == asks.len(), of_old());
    ensure!(recorded.iter().zip(asks).all(|(recorded, ask)| recorded.ask == *ask), of_old());
    Ok(Some(recorded))
}

/// Compares, and holds a step to what it says about itself.
pub(crate) fn check(
    recorded: &Recorded,
    answer: &Answer,
    kept: &BTreeMap<String, String>,
    differs: Option<&str>,
) -> Result<()> {
    let difference = difference(recorded, answer, kept)?;
    match (differs, difference) {
        (None, Some(difference)) => anyhow::bail!("the real ComfyUI answers otherwise: {difference}"),
        (Some(reason), None) => anyhow::bail!("it says that it differs ({reason}), and does not"),
        _ => Ok(()),
    }
}

/// How our answer is unlike the recorded one. Without a reason of its own it may
/// - be 4xx where ComfyUI fails with 500: input that it does not expect;
/// - say in words what is wrong where ComfyUI refuses with the same status and says nothing, or fails to find a static file;
/// - have more members in objects, and more headers.
fn difference(recorded: &Recorded, answer: &Answer, kept: &BTreeMap<String, String>) -> Result<Option<String>> {
    if recorded.status == 500 {
        return Ok(
            (!(400..500).contains(&answer.status)).then(|| format!("500, and ours {} is no refusal", answer.status))
        );
    }
    if recorded.status != answer.status {
        return Ok(Some(format!("the status is {}", recorded.status)));
    }
    // aiohttp's own words for a status are none, but for 405, which clients know.
    let standard = recorded.status != 405
        && recorded
            .text
            .as_ref()
            .and_then(Value::as_str)
            .is_some_and(|text| text.starts_with(&format!("{}: ", recorded.status)));
    let wordless = standard || (recorded.json.is_none() && recorded.text.is_none() && recorded.image.is_none());
    if recorded.status >= 400 && wordless {
        return Ok(None);
    }
    for (name, pattern) in &recorded.headers {
        // Of an empty answer it means nothing.
        if name == "content-type" && answer.body.is_empty() {
            continue;
        }
        let value = answer.header(name).map_or(Value::Null, |value| of_header(name, value));
        let pattern = filled_value(pattern, kept);
        let pattern = pattern.as_str().map_or(pattern.clone(), |text| of_header(name, text));
        if let Some(difference) = unlike(&value, &pattern, name) {
            return Ok(Some(difference));
        }
    }
    if let Some(pattern) = &recorded.json {
        return Ok(unlike(&answer.json()?, &filled_value(pattern, kept), "the answer"));
    }
    if let Some(pattern) = &recorded.text {
        return Ok(unlike(&Value::from(answer.text()), &filled_value(pattern, kept), "the answer"));
    }
    if let Some(image) = &recorded.image {
        let info = vivarium_image_codec::probe(&answer.body).context("the real ComfyUI answers with a picture")?;
        let ours =
            Image { format: format!("{:?}", info.format).to_lowercase(), width: info.width, height: info.height };
        return Ok((ours != *image).then(|| format!("{image:?}")));
    }
    Ok(None)
}

/// Lists in headers have no order, and a `charset` is more than ComfyUI always says.
fn of_header(name: &str, value: &str) -> Value {
    if value.starts_with('<') {
        return value.into();
    }
    match name {
        "allow" | "access-control-allow-methods" => {
            let mut words: Vec<_> = value.split(',').map(str::trim).collect();
            words.sort_unstable();
            words.join(",").into()
        }
        "content-type" => value.split(';').next().unwrap_or_default().into(),
        _ => value.into(),
    }
}
