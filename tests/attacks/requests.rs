//! Hostile requests from inside one tenant: names that lead out (43, 44, 46), and prompts that are bombs (71).
//!
//! The numbers are those of the list of threats in README.md.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vivarium_server::ServerConfig;
use vivarium_tests::{
    read_json,
    server::{Answer, Field, Server, form},
    tests_folder,
};

const SECRET: &str = "nobody may read this";

/// A whole segment of a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn names() -> Result<Vec<String>> {
    let names: Vec<String> = serde_json::from_value(read_json(&tests_folder().join("attacks/names.json"))?)?;
    Ok(names.into_iter().map(|name| if name == "<long>" { "x".repeat(6000) } else { name }).collect())
}

/// Every file below a folder and what it holds.
fn files(folder: &Path) -> Result<BTreeSet<(String, Vec<u8>)>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.insert((path.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(found)
}

/// A server with secrets around its folders and, where the system has them, links in its folders that lead to them.
fn with_secrets() -> Result<Server> {
    let server = Server::start(ServerConfig::default())?;
    let base = server.base();
    let places = ["", "outside", "tenants", "models", "user", "packs"];
    for place in places {
        fs::create_dir_all(base.join(place))?;
        fs::write(base.join(place).join("secret.txt"), SECRET)?;
        fs::write(base.join(place).join("secret.safetensors"), SECRET)?;
    }
    #[cfg(unix)]
    for folder in ["input", "output", "temp", "user/default"] {
        fs::create_dir_all(base.join(folder))?;
        std::os::unix::fs::symlink(base.join("outside"), base.join(folder).join("link"))?;
        std::os::unix::fs::symlink(base.join("outside/secret.txt"), base.join(folder).join("link.txt"))?;
    }
    Ok(server)
}

/// 43, 44: reading.
#[test]
fn no_name_reads_what_is_outside() -> Result<()> {
    let server = with_secrets()?;
    let mut asked = 0;
    for name in names()? {
        let name = encoded(&name);
        for path in [
            format!("/view?filename={name}"),
            format!("/view?filename={name}&type=input"),
            format!("/view?filename={name}&type=temp&preview=webp"),
            format!("/view?filename=secret.txt&subfolder={name}"),
            format!("/view?filename=secret.txt&type=input&subfolder={name}&channel=rgb"),
            format!("/view?filename=x&type={name}"),
            format!("/userdata/{name}"),
            format!("/api/userdata/{}", encoded(&name)),
            format!("/userdata?dir={name}&recurse=true&full_info=true"),
            format!("/v2/userdata?path={name}"),
            format!("/view_metadata/loras?filename={name}"),
            format!("/view_metadata/{name}?filename=secret.safetensors"),
            format!("/models/{name}"),
            format!("/experiment/models/{name}"),
            format!("/experiment/models/preview/loras/0/{name}"),
            format!("/experiment/models/preview/{name}/0/secret.safetensors"),
            format!("/internal/files/{name}"),
            format!("/settings/{name}"),
            format!("/history/{name}"),
            format!("/object_info/{name}"),
            format!("/vivarium/schema/{name}"),
            format!("/{name}"),
            format!("/assets/{name}"),
        ] {
            let answer = server.get(&path).with_context(|| path.clone())?;
            asked += 1;
            ensure!(answer.status < 500, "{path}: {answer:?}");
            ensure!(!answer.text().contains(SECRET) && !answer.text().contains("root:"), "{path}: {answer:?}");
            ensure!(answer.header("x-evil").is_none(), "{path}");
            let is_listing = path.contains("userdata?") && answer.status == 200;
            ensure!(!is_listing || !answer.text().contains("secret"), "{path}: {answer:?}");
        }
    }
    ensure!(asked > 500, "{asked} requests");
    Ok(())
}

/// 43, 44, 46: writing, by routes and by nodes.
#[test]
fn no_name_writes_outside() -> Result<()> {
    let server = with_secrets()?;
    let stored = server.send("POST", "/userdata/mine.json", &[], b"mine")?;
    ensure!(stored.status == 200, "{stored:?}");
    let base = server.base().to_owned();
    let inside = |file: &(String, Vec<u8>)| {
        let below = ["input", "output", "temp", "user/default", "blobs", "queue.sqlite"];
        below.iter().any(|folder| file.0.starts_with(&base.join(folder).display().to_string()))
    };
    let outside = |found: BTreeSet<(String, Vec<u8>)>| -> BTreeSet<(String, Vec<u8>)> {
        found.into_iter().filter(|file| !inside(file)).collect()
    };
    let before = outside(files(&base)?);
    ensure!(before.len() >= 10, "{}", before.len());
    for name in names()? {
        let plain = name.replace(['\0', '\r', '\n', '"'], "");
        for fields in [
            vec![Field::file("image", &plain, b"evil")],
            vec![
                Field::file("image", "secret.txt", b"evil"),
                Field::text("subfolder", &name),
                Field::text("overwrite", "true"),
            ],
        ] {
            let (content_type, body) = form(&fields);
            check(&server.send("POST", "/upload/image", &[("content-type", &content_type)], &body)?, &name)?;
        }
        let segment = encoded(&name);
        for (method, path) in [
            ("POST", format!("/userdata/{segment}")),
            ("DELETE", format!("/userdata/{segment}")),
            ("POST", format!("/userdata/mine.json/move/{segment}?overwrite=true")),
            ("POST", format!("/userdata/{segment}/move/taken.txt?overwrite=true")),
            ("POST", format!("/settings/{segment}")),
        ] {
            let answer = server.send(method, &path, &[], b"\"evil\"")?;
            check(&answer, &path)?;
            ensure!(!answer.text().contains(SECRET), "{path}");
        }
        let prompt = json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": name}}
        });
        server.run(&prompt).with_context(|| format!("saving as {name:?}"))?;
        let load = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        });
        let answer = server.post("/prompt", &json!({"prompt": load}))?;
        check(&answer, &name)?;
        ensure!(!answer.text().contains(SECRET), "{name:?}");
    }
    let after = outside(files(&base)?);
    let changed: Vec<_> = after.symmetric_difference(&before).map(|(path, _)| path).collect();
    ensure!(changed.is_empty(), "{changed:?}");
    Ok(())
}

fn check(answer: &Answer, about: &str) -> Result<()> {
    ensure!(answer.status < 500, "{about:?}: {answer:?}");
    Ok(())
}

/// 44: a folder that becomes a link between two requests, over and over, while somebody writes through it.
#[cfg(unix)]
#[test]
fn a_folder_that_turns_into_a_link_leads_nowhere() -> Result<()> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let server = with_secrets()?;
    let folder = server.base().join("user/default/turning");
    let outside = server.base().join("outside");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let turner = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                fs::create_dir_all(&folder)?;
                fs::remove_dir_all(&folder)?;
                std::os::unix::fs::symlink(&outside, &folder)?;
                fs::remove_file(&folder)?;
            }
            Ok(())
        });
        for _ in 0..400 {
            server.send("POST", "/userdata/turning%2Fsecret.txt", &[], b"evil")?;
            let read = server.get("/userdata/turning%2Fsecret.txt")?;
            ensure!(!read.text().contains(SECRET), "{read:?}");
            server.send("DELETE", "/userdata/turning%2Fsecret.txt", &[], b"")?;
        }
        done.store(true, Ordering::Relaxed);
        // Its own mishaps (a folder that is not empty) are no matter.
        drop(turner.join());
        Ok(())
    })?;
    ensure!(fs::read_to_string(outside.join("secret.txt"))? == SECRET, "it was overwritten");
    ensure!(fs::read_dir(&outside)?.count() == 2, "something was added");
    Ok(())
}

fn node(class: &str, inputs: Value) -> Value {
    json!({"class_type": class, "inputs": inputs})
}

fn picture() -> Value {
    node("EmptyImage", json!({"width": 1, "height": 1, "batch_size": 1, "color": 0}))
}

/// 71: each is refused or ends, and the next prompt runs.
#[test]
fn prompts_that_are_bombs_end() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let many = 100_000;
    let mut chain = serde_json::Map::from_iter([("0".to_owned(), picture())]);
    for index in 1..many {
        chain.insert(index.to_string(), node("ImageInvert", json!({"image": [(index - 1).to_string(), 0]})));
    }
    chain.insert("end".to_owned(), node("PreviewImage", json!({"images": [(many - 1).to_string(), 0]})));
    let mut outputs = serde_json::Map::from_iter([("0".to_owned(), picture())]);
    for index in 1..many {
        outputs.insert(index.to_string(), node("PreviewImage", json!({"images": ["0", 0]})));
    }
    let doubling: serde_json::Map<String, Value> = (0..60)
        .map(|index: u32| match index {
            0 => ("0".to_owned(), picture()),
            _ => {
                let before = (index - 1).to_string();
                let inputs = json!({"image1": [before, 0], "image2": [before, 0]});
                (index.to_string(), node("ImageBatch", inputs))
            }
        })
        .chain([("end".to_owned(), node("PreviewImage", json!({"images": ["59", 0]})))])
        .collect();
    let itself = json!({"1": node("ImageInvert", json!({"image": ["1", 0]})), "2": node("PreviewImage", json!({"images": ["1", 0]}))});
    let circle = json!({
        "1": node("ImageInvert", json!({"image": ["2", 0]})), "2": node("ImageInvert", json!({"image": ["1", 0]})),
        "3": node("PreviewImage", json!({"images": ["1", 0]}))
    });
    for (what, prompt) in [
        ("a chain", Value::Object(chain)),
        ("as many outputs", Value::Object(outputs)),
        ("each twice as long as the one before", Value::Object(doubling)),
        ("a link to itself", itself),
        ("a circle", circle),
    ] {
        let answer = server.post("/prompt", &json!({"prompt": prompt}))?;
        ensure!(matches!(answer.status, 200 | 400 | 413), "{what}: {answer:?}");
        if let Some(id) = answer.json()?["prompt_id"].as_str() {
            let id = id.to_owned();
            // What is merely long is stopped, as its owner would stop it.
            server.post("/interrupt", &json!({"prompt_id": id}))?;
            server.wait(&id).with_context(|| what.to_owned())?;
        }
        let next = server.run(&json!({"1": picture(), "2": node("PreviewImage", json!({"images": ["1", 0]}))}))?;
        ensure!(next["status"]["status_str"] == "success", "after {what}: {next}");
    }
    // An id twice, and ids that look like those of expanded nodes.
    let twice = r#"{"prompt": {"1": {"class_type": "EmptyImage", "inputs": {}}, "1": {"class_type": "NoSuchNode", "inputs": {}}}}"#;
    let answer = server.send("POST", "/prompt", &[], twice.as_bytes())?;
    ensure!(answer.status == 400, "{answer:?}");
    let lookalike = json!({
        "1.0.0.1": picture(), "__proto__": picture(), "": picture(),
        "2": node("PreviewImage", json!({"images": ["1.0.0.1", 0]})), "3": node("PreviewImage", json!({"images": ["", 0]}))
    });
    let entry = server.run(&lookalike)?;
    ensure!(entry["status"]["status_str"] == "success", "{entry}");
    Ok(())
}
