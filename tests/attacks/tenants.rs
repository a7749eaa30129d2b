//! One tenant against another, on the whole server with the real worker: whatever a tenant knows or guesses of another's, it
//! gets what nobody's would give, and what it does touches nothing.
//!
//! The numbers are those of the list of threats in README.md.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vivarium_image_codec::encode_png;
use vivarium_server::{
    ServerConfig,
    auth::{Quotas, Registry, Scope},
};
use vivarium_tests::server::{Answer, Client, Field, Heard, Server, Socket, form};

/// What the other must not see, in names, ids and values.
const SECRET: &str = "verysecret";
const NOBODYS: &str = "00000000-0000-4000-8000-000000000000";

struct World {
    alice: Client,
    mallory: Client,
    server: Server,
    _registry: tempfile::TempDir,
}

impl World {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let registry = Registry::at(folder.path().join("tenants.json"));
        let mut tokens = Vec::new();
        for name in ["alice", "mallory"] {
            let name = name.parse()?;
            registry.change(|tenants| tenants.add(&name, Quotas::default()))?;
            let scopes = [Scope::Submit, Scope::Read, Scope::Admin];
            tokens.push(registry.change(|tenants| tenants.add_token(&name, &scopes, None))?.0.reveal().to_owned());
        }
        let config = ServerConfig { tenants_file: Some(registry.path().to_owned()), ..ServerConfig::default() };
        let server = Server::start(config)?;
        let [alice, mallory] = [0, 1].map(|index| server.with_token(&tokens[index]));
        Ok(Self { alice, mallory, server, _registry: folder })
    }
}

fn long() -> Value {
    json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": 600_000, "every": 20}}})
}

/// A prompt of pictures, whose names and metadata hold the secret.
fn picture(color: u32) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": SECRET}}
    })
}

/// Two answers that only their subjects tell apart.
fn same(guessed: &Answer, nothing: &Answer, subject: &str, nobodys: &str) -> Result<()> {
    let plain = |answer: &Answer, name: &str| answer.text().replace(name, "?");
    ensure!(guessed.status == nothing.status, "{} for another's, {} for nobody's", guessed.status, nothing.status);
    let (guessed, nothing) = (plain(guessed, subject), plain(nothing, nobodys));
    ensure!(guessed == nothing, "{guessed} for another's, {nothing} for nobody's");
    Ok(())
}

fn running(client: &Client, prompt: &str) -> Result<bool> {
    let queue = client.get("/queue")?.json()?;
    Ok(queue["queue_running"].as_array().is_some_and(|items| items.iter().any(|item| item[1] == prompt)))
}

fn until(mut fits: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..2000 {
        if fits()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("it does not come")
}

/// 66: what runs and waits.
#[test]
fn another_tenants_prompts_cannot_be_seen_stopped_or_deleted() -> Result<()> {
    let World { alice, mallory, server: _server, _registry } = World::start()?;
    let runs = alice.submit(&long(), None)?;
    until(|| running(&alice, &runs))?;
    let waits = alice.submit(&picture(1), None)?;

    for id in [&runs, &waits] {
        for path in ["/history/", "/jobs/"] {
            same(&mallory.get(&format!("{path}{id}"))?, &mallory.get(&format!("{path}{NOBODYS}"))?, id, NOBODYS)?;
        }
        let cancel = |id: &str| mallory.post(&format!("/jobs/{id}/cancel"), &json!({}));
        same(&cancel(id)?, &cancel(NOBODYS)?, id, NOBODYS)?;
        let several = |id: &str| mallory.post("/jobs/cancel", &json!({"job_ids": [id]}));
        same(&several(id)?, &several(NOBODYS)?, id, NOBODYS)?;
        let interrupt = |id: &str| mallory.post("/interrupt", &json!({"prompt_id": id}));
        same(&interrupt(id)?, &interrupt(NOBODYS)?, id, NOBODYS)?;
        for path in ["/queue", "/history"] {
            let delete = |id: &str| mallory.post(path, &json!({"delete": [id]}));
            same(&delete(id)?, &delete(NOBODYS)?, id, NOBODYS)?;
        }
    }
    for (path, body) in [
        ("/interrupt", json!({})),
        ("/queue", json!({"clear": true})),
        ("/history", json!({"clear": true})),
        ("/free", json!({"unload_models": true, "free_memory": true})),
    ] {
        ensure!(mallory.post(path, &body)?.status == 200);
    }
    for path in ["/queue", "/history", "/jobs", "/prompt"] {
        let text = mallory.get(path)?.text();
        ensure!(!text.contains(&runs) && !text.contains(&waits) && !text.contains(SECRET), "{path}: {text}");
    }
    ensure!(mallory.get("/prompt")?.json()?["exec_info"]["queue_remaining"] == 0);

    ensure!(running(&alice, &runs)?, "it was stopped");
    alice.post("/interrupt", &json!({"prompt_id": runs}))?;
    let entry = alice.wait(&waits)?;
    ensure!(entry["status"]["status_str"] == "success", "{entry}");
    Ok(())
}

/// 66, 75: an id that is another's, too, is one's own.
#[test]
fn a_prompt_with_another_tenants_id_changes_nothing_of_it() -> Result<()> {
    let World { alice, mallory, server: _server, _registry } = World::start()?;
    let mut socket = alice.connect(Some("alices-page"))?;
    let id = alice.submit(&picture(1), Some("alices-page"))?;
    let entry = alice.wait(&id)?;
    socket.events_of(&id)?;

    let body = json!({"prompt": picture(2), "prompt_id": id, "client_id": "alices-page"});
    ensure!(mallory.post("/prompt", &body)?.status == 200);
    mallory.wait(&id)?;
    ensure!(alice.wait(&id)? == entry, "her history was changed");
    heard_nothing(&mut socket, &id)?;

    mallory.post("/history", &json!({"delete": [id]}))?;
    ensure!(alice.wait(&id)? == entry, "her history was deleted");
    Ok(())
}

fn heard_nothing(socket: &mut Socket, of: &str) -> Result<()> {
    while let Some(heard) = socket.hear(Duration::from_millis(400))? {
        match heard {
            Heard::Event(event) => ensure!(!event.to_string().contains(of), "{event}"),
            Heard::Frame(_) => anyhow::bail!("a frame"),
        }
    }
    Ok(())
}

/// 68, 75: before, while and after its owner listens.
#[test]
fn another_tenants_client_id_hears_nothing_and_says_nothing() -> Result<()> {
    let World { alice, mallory, server, _registry } = World::start()?;
    let mut earlier = mallory.connect(Some("shared"))?;
    let mut owner = alice.connect(Some("shared"))?;
    let mut later = mallory.connect(Some("shared"))?;
    let prompt = json!({
        "0": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 9}},
        "1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": 300, "every": 20, "image": ["0", 0]}}
    });
    let id = alice.submit(&prompt, Some("shared"))?;
    for (kind, data) in [
        ("progress", json!({"value": 1, "max": 1, "prompt_id": id, "node": "1"})),
        ("execution_success", json!({"prompt_id": id})),
        ("feature_flags", json!({"supports_preview_metadata": true})),
    ] {
        later.say(&json!({"type": kind, "data": data}))?;
    }
    let events = owner.events_of(&id)?;
    ensure!(events.iter().filter(|event| event["type"] == "execution_success").count() == 1, "{events:?}");
    heard_nothing(&mut earlier, &id)?;
    heard_nothing(&mut later, &id)?;

    // What its owner missed waits for its owner.
    drop(owner);
    let missed = alice.submit(&picture(3), Some("shared"))?;
    alice.wait(&missed)?;
    heard_nothing(&mut mallory.connect(Some("shared"))?, &missed)?;
    alice.connect(Some("shared"))?.events_of(&missed)?;
    ensure!(Socket::open(server.address(), "/ws?clientId=shared", &[]).is_err(), "a socket without a token");
    ensure!(
        Socket::open(server.address(), "/ws?clientId=shared&token=viv_0", &[]).is_err(),
        "a socket with a wrong one"
    );
    Ok(())
}

/// 66: files, whatever names them.
#[test]
fn another_tenants_files_are_nowhere() -> Result<()> {
    let World { alice, mallory, server, _registry } = World::start()?;
    let name = format!("{SECRET}.png");
    let bytes = encode_png(&[1, 2, 3, 4, 5, 6], 2, 1, 3, 1, &[])?;
    alice.upload(&name, &bytes)?;
    let entry = alice.run(&picture(4))?;
    let saved = entry["outputs"]["2"]["images"][0]["filename"].as_str().context("a name")?.to_owned();
    let preview = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    });
    let entry = alice.run(&preview)?;
    let temporary = entry["outputs"]["2"]["images"][0]["filename"].as_str().context("a name")?.to_owned();
    let stored = alice.send("POST", &format!("/userdata/{SECRET}.json"), &[], b"{}")?;
    ensure!(stored.status == 200, "{stored:?}");
    alice.post(&format!("/settings/{SECRET}"), &json!(1))?;

    for (file, folder) in [(&name, "input"), (&saved, "output"), (&temporary, "temp")] {
        let view = |client: &Client, file: &str| client.get(&format!("/view?filename={file}&type={folder}"));
        ensure!(view(&alice, file)?.status == 200, "{file} is not there");
        same(&view(&mallory, file)?, &view(&mallory, "nobodys.png")?, file, "nobodys.png")?;
        for path in ["..%2Falice%2F", "..%2F..%2Falice%2F", "tenants%2Falice%2F"] {
            for query in
                [format!("filename={path}{folder}%2F{file}"), format!("filename={file}&subfolder={path}{folder}")]
            {
                let answer = mallory.get(&format!("/view?{query}&type={folder}"))?;
                ensure!((400..500).contains(&answer.status), "{query}: {answer:?}");
            }
        }
        let listed = mallory.get(&format!("/internal/files/{folder}"))?.text();
        ensure!(!listed.contains(file.as_str()), "{listed}");
        for reference in [file.clone(), format!("{file} [{folder}]"), format!("../alice/{folder}/{file}")] {
            let prompt = json!({
                "1": {"class_type": "LoadImage", "inputs": {"image": reference}},
                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
            });
            let answer = mallory.post("/prompt", &json!({"prompt": prompt}))?;
            ensure!(answer.status == 400, "{reference}: {answer:?}");
        }
    }
    // As the original of a mask.
    let original = json!({"filename": name, "type": "input"}).to_string();
    let fields = [Field::file("image", "m.png", &bytes), Field::text("original_ref", &original)];
    let (content_type, body) = form(&fields);
    let answer = mallory.send("POST", "/upload/mask", &[("content-type", &content_type)], &body)?;
    ensure!(answer.status == 404, "{answer:?}");

    for path in [
        "/object_info",
        "/object_info/LoadImage",
        "/settings",
        "/userdata?dir=.&recurse=true",
        "/v2/userdata",
        "/users",
    ] {
        ensure!(!mallory.get(path)?.text().contains(SECRET), "{path}");
    }
    ensure!(alice.get("/object_info/LoadImage")?.text().contains(SECRET));
    let read = |file: &str| mallory.get(&format!("/userdata/{file}"));
    same(&read(&format!("{SECRET}.json"))?, &read("nobodys.json")?, SECRET, "nobodys")?;
    ensure!((400..500).contains(&read(&format!("..%2F..%2Falice%2Fuser%2F{SECRET}.json"))?.status));

    // ComfyUI's header is a name and no proof.
    let named = [("comfy-user", "alice")];
    ensure!(!mallory.send("GET", "/settings", &named, b"")?.text().contains(SECRET));
    // Hashes name nothing.
    let digests = fs::read_dir(server.base().join("blobs"))?.count();
    ensure!(digests > 0);
    for hash in [format!("blake3:{}", "0".repeat(64)), format!("sha256:{}", "0".repeat(64))] {
        ensure!(mallory.get(&format!("/view?filename={hash}"))?.status == 404);
    }
    Ok(())
}

/// 67: neither answers, nor quotas, nor results tell what another has.
#[test]
fn the_same_bytes_and_the_same_prompt_are_new_to_each_tenant() -> Result<()> {
    let World { alice, mallory, server: _server, _registry } = World::start()?;
    let bytes = encode_png(&vec![77; 300 * 300 * 3], 300, 300, 3, 1, &[])?;
    let other = encode_png(&vec![78; 300 * 300 * 3], 300, 300, 3, 1, &[])?;
    ensure!(bytes.len() == other.len());
    let upload = |client: &Client, name: &str, bytes: &[u8]| -> Result<(u16, Value, u64)> {
        let (content_type, body) = form(&[Field::file("image", name, bytes)]);
        let answer = client.send("POST", "/upload/image", &[("content-type", &content_type)], &body)?;
        let limits = client.get("/vivarium/limits")?.json()?;
        let limits = limits["limits"].as_array().context("limits")?;
        let storage = limits.iter().find(|limit| limit["name"] == "quota_storage").context("a quota")?;
        Ok((answer.status, answer.json()?, storage["used"].as_u64().context("a number")?))
    };
    upload(&alice, "hers.png", &bytes)?;
    let (status, of_same, stored_same) = upload(&mallory, "guess.png", &bytes)?;
    let (_, of_new, stored_both) = upload(&mallory, "fresh.png", &other)?;
    ensure!((status, &of_same) == (200, &json!({"name": "guess.png", "subfolder": "", "type": "input"})), "{of_same}");
    ensure!(of_new["name"] == "fresh.png");
    ensure!(stored_same > 0 && stored_both == 2 * stored_same, "{stored_same}, then {stored_both}");

    let cached = |entry: &Value| -> Value {
        let messages = entry["status"]["messages"].as_array().cloned().unwrap_or_default();
        messages.into_iter().find(|message| message[0] == "execution_cached").unwrap_or_default()[1]["nodes"].clone()
    };
    alice.run(&picture(5))?;
    ensure!(cached(&alice.run(&picture(5))?).as_array().is_some_and(|nodes| !nodes.is_empty()));
    let first = mallory.run(&picture(5))?;
    ensure!(cached(&first) == json!([]), "{first}");
    Ok(())
}

/// 76: neither what others read nor what is kept holds a key or a token.
#[test]
fn keys_and_tokens_are_kept_nowhere() -> Result<()> {
    let World { alice, mallory: _, server, _registry } = World::start()?;
    let keys = ["key-0f1e2d", "auth-3c4b5a"];
    let body = |id: &str, prompt: Value| {
        json!({"prompt": prompt, "prompt_id": id, "client_id": "c", "extra_data": {
            "api_key_comfy_org": keys[0], "auth_token_comfy_org": keys[1], "extra_pnginfo": {"workflow": {"id": "w"}},
        }})
    };
    let mut socket = alice.connect(Some("c"))?;
    ensure!(alice.post("/prompt", &body("one", picture(6)))?.status == 200);
    let entry = alice.wait("one")?;
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    for event in socket.events_of("one")? {
        said.push(("an event".to_owned(), event.to_string().into_bytes()));
    }
    let image = &entry["outputs"]["2"]["images"][0];
    let name = image["filename"].as_str().context("a name")?;
    let png = alice.get(&format!("/view?filename={name}"))?;
    ensure!(png.text().contains("workflow"), "the picture has no metadata");
    said.push(("the picture".to_owned(), png.body));
    ensure!(alice.post("/prompt", &body("two", long()))?.status == 200);
    until(|| running(&alice, "two"))?;
    ensure!(alice.post("/prompt", &body("three", picture(7)))?.status == 200);
    let failing = json!({"1": {"class_type": "TestError", "inputs": {"message": "it broke"}}});
    ensure!(alice.post("/prompt", &body("four", failing))?.status == 200);
    let paths =
        ["/queue", "/history", "/history/one", "/jobs", "/jobs/one", "/jobs/two", "/internal/logs", "/system_stats"];
    for path in paths {
        said.push((path.to_owned(), alice.get(path)?.body));
    }
    alice.post("/interrupt", &json!({}))?;
    let failed = alice.wait("four")?;
    ensure!(failed["status"]["status_str"] == "error", "{failed}");
    said.push(("what failed".to_owned(), failed.to_string().into_bytes()));
    let holds = |bytes: &[u8]| keys.into_iter().find(|key| bytes.windows(key.len()).any(|part| part == key.as_bytes()));
    for (what, bytes) in said {
        ensure!(holds(&bytes).is_none(), "{what} holds {:?}", holds(&bytes));
    }
    // A prompt waits with its keys, since it has to run after a restart, too; when all have ended, no file has any. The
    // history tells of the last end a moment before.
    until(|| {
        let mut files = Vec::new();
        walk(server.base(), &mut files)?;
        ensure!(files.iter().any(|(what, _)| what.contains("queue.sqlite")), "the queue is not where it was");
        Ok(files.iter().all(|(_, bytes)| holds(bytes).is_none()))
    })
    .context("a file holds a key")
}

/// 44, 46: tenants with the same bytes share them on the disk. Whatever one of them does to its name, the other's stays.
#[test]
fn names_that_share_their_bytes_are_replaced_and_never_written_through() -> Result<()> {
    let World { alice, mallory, server, _registry } = World::start()?;
    let bytes = encode_png(&[1, 2, 3], 1, 1, 3, 1, &[])?;
    for client in [&alice, &mallory] {
        client.upload("shared.png", &bytes)?;
    }
    let evil = encode_png(&[9, 9, 9], 1, 1, 3, 1, &[])?;
    // Longer, shorter, and beginning like what is there.
    for content in [&evil, &bytes[..10].to_vec(), &[&bytes[..], b"more"].concat()] {
        let fields = [Field::file("image", "shared.png", content), Field::text("overwrite", "true")];
        let (content_type, body) = form(&fields);
        let answer = mallory.send("POST", "/upload/image", &[("content-type", &content_type)], &body)?;
        ensure!(answer.status == 200, "{answer:?}");
        let mine = mallory.get("/view?filename=shared.png&type=input")?;
        ensure!(mine.body == *content, "{mine:?}");
        let hers = alice.get("/view?filename=shared.png&type=input")?;
        ensure!(hers.body == bytes, "{hers:?}");
    }
    // A link that somebody with access to the disk made.
    #[cfg(unix)]
    for folder in ["input", "user"] {
        let secret = server.base().join("linked-from-outside.txt");
        fs::write(&secret, SECRET)?;
        let folder = server.base().join("tenants/mallory").join(folder);
        fs::create_dir_all(&folder)?;
        let link = folder.join("link.txt");
        fs::hard_link(&secret, &link).with_context(|| link.display().to_string())?;
        let fields = [Field::file("image", "link.txt", b"evil"), Field::text("overwrite", "true")];
        let (content_type, body) = form(&fields);
        mallory.send("POST", "/upload/image", &[("content-type", &content_type)], &body)?;
        mallory.send("POST", "/userdata/link.txt?overwrite=true", &[], b"evil")?;
        mallory.send("POST", "/userdata/link.txt/move/moved.txt", &[], b"")?;
        mallory.send("DELETE", "/userdata/link.txt", &[], b"")?;
        ensure!(fs::read_to_string(&secret)? == SECRET, "it was written through {}", link.display());
        fs::remove_file(&secret)?;
    }
    Ok(())
}

/// Every file below a folder.
fn walk(folder: &std::path::Path, found: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.push((path.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(())
}
