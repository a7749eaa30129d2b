//! Every stock node against what a real ComfyUI drew: pixels within 1/255. See README.md beside this file.

#![forbid(unsafe_code)]

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vivarium_image_codec::{DecodeLimits, Frame, Samples, decode_first};
use vivarium_protocol::tenant::TenantId;
use vivarium_tests::{Laboratory, Settings, cases, read_json, tests_folder};
use vivarium_worker::Engine;

fn laboratory() -> Result<Laboratory> {
    let laboratory = Laboratory::start(Settings::default())?;
    for entry in fs::read_dir(tests_folder().join("goldens/inputs"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        laboratory.add_input(&TenantId::default_tenant(), &name, &fs::read(&path)?)?;
    }
    Ok(laboratory)
}

/// Fails with every failing case, not with the first.
fn check_all(folder: &str, check: impl Fn(&Laboratory, &Path) -> Result<()>) -> Result<()> {
    let laboratory = laboratory()?;
    let cases = cases(&tests_folder().join("goldens").join(folder))?;
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(error) = check(&laboratory, case) {
            failures.push(format!("{}: {error:#}", case.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    if !failures.is_empty() {
        bail!("{} of {} cases differ:\n{}", failures.len(), cases.len(), failures.join("\n"));
    }
    Ok(())
}

#[test]
fn stock_nodes_draw_what_comfyui_draws() -> Result<()> {
    check_all("cases", check_case)
}

fn check_case(laboratory: &Laboratory, case: &Path) -> Result<()> {
    let expected = read_json(&case.join("expected.json"))?;
    if expected.get("quirk").is_some() {
        return Ok(());
    }
    let entry = laboratory.run(&read_json(&case.join("prompt.json"))?)?;
    let status = entry.status.as_ref().map(|status| status.status_str.clone()).unwrap_or_default();
    if status != expected["status"] {
        bail!("the status is {status}, not {}: {:?}", expected["status"], vivarium_tests::failure(&entry));
    }
    let tolerance = expected["tolerance"].as_u64().unwrap_or(1);
    let Some(outputs) = expected["outputs"].as_object() else { return Ok(()) };
    for (node, output) in outputs {
        let wanted = output["images"].as_array().map_or(0, Vec::len);
        let images =
            entry.outputs.get(node).and_then(|output| output["images"].as_array()).cloned().unwrap_or_default();
        if images.len() != wanted {
            bail!("node {node} saved {} images, not {wanted}", images.len());
        }
        for (index, image) in images.iter().enumerate() {
            let file = case.join(format!("expected/{node}_{index}.png"));
            let expected = fs::read(&file).with_context(|| file.display().to_string())?;
            let drawn = laboratory.saved(&TenantId::default_tenant(), image)?;
            compare(&decode(&drawn)?, &decode(&expected)?, tolerance)
                .with_context(|| format!("image {index} of node {node}"))?;
        }
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Result<Frame> {
    Ok(decode_first(bytes, &DecodeLimits::default())?)
}

fn levels(samples: &Samples) -> Vec<u8> {
    samples.to_u8()
}

fn compare(drawn: &Frame, expected: &Frame, tolerance: u64) -> Result<()> {
    if (drawn.width, drawn.height) != (expected.width, expected.height) {
        bail!("it is {}×{}, not {}×{}", drawn.width, drawn.height, expected.width, expected.height);
    }
    if drawn.alpha.is_some() != expected.alpha.is_some() {
        bail!("transparency: {} instead of {}", drawn.alpha.is_some(), expected.alpha.is_some());
    }
    let alpha = |frame: &Frame| frame.alpha.as_ref().map(levels).unwrap_or_default();
    let drawn_levels = [levels(&drawn.rgb), alpha(drawn)].concat();
    let expected_levels = [levels(&expected.rgb), alpha(expected)].concat();
    let mut worst = 0;
    let mut off = 0;
    for (a, b) in drawn_levels.iter().zip(&expected_levels) {
        let difference = u64::from(a.abs_diff(*b));
        worst = worst.max(difference);
        off += usize::from(difference > tolerance);
    }
    if off > 0 {
        bail!("{off} of {} levels differ by more than {tolerance}, the worst by {worst}", drawn_levels.len());
    }
    Ok(())
}

#[test]
fn classes_are_described_as_comfyui_describes_them() -> Result<()> {
    let laboratory = laboratory()?;
    let folder = tests_folder().join("goldens/object_info");
    let mut failures = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let class = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut expected = read_json(&path)?;
        if let Some(inner) = expected.get(&class) {
            expected = inner.clone();
        }
        let found = laboratory.worker.object_info(&TenantId::default_tenant(), Some(&class));
        let mut found = found.get(&class).cloned().unwrap_or(Value::Null);
        remove_texts(&mut found);
        remove_texts(&mut expected);
        hide_input_files(&mut found);
        for key in [
            "input",
            "input_order",
            "output",
            "output_is_list",
            "output_name",
            "name",
            "display_name",
            "category",
            "output_node",
        ] {
            // Newer classes of the peer leave the name to show to its front end.
            if normal(&found[key]) != normal(&expected[key]) && !(key == "display_name" && expected[key].is_null()) {
                failures.push(format!("{class}.{key}:\n  ours {}\n  peer {}", found[key], expected[key]));
            }
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// `1` and `1.0` are the same to clients, and a choice has two ways to be written.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => {
            if let [Value::String(kind), Value::Object(options)] = items.as_slice()
                && kind == "COMBO"
                && let Some(choices) = options.get("options")
            {
                let mut options = options.clone();
                options.shift_remove("options");
                options.shift_remove("multiselect");
                return normal(&json!([choices, options]));
            }
            // `["IMAGE", {}]` says no more than `["IMAGE"]`.
            let kept = items.iter().filter(|item| !item.as_object().is_some_and(serde_json::Map::is_empty));
            kept.map(normal).collect()
        }
        Value::Object(entries) => {
            // Absent and null or false mean the same.
            let kept = entries.iter().filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
            let mut sorted: Vec<_> = kept.map(|(key, value)| (key.clone(), normal(value))).collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            sorted.into_iter().collect()
        }
        other => other.clone(),
    }
}

/// What is in the input folder is no property of a class.
fn hide_input_files(info: &mut Value) {
    if let Some(image) = info["input"]["required"]["image"].as_array_mut()
        && image.first().is_some_and(Value::is_array)
    {
        image[0] = json!(["<input files>"]);
    }
}

fn remove_texts(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|key, _| key != "tooltip" && key != "description");
            entries.values_mut().for_each(remove_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_texts),
        _ => {}
    }
}
