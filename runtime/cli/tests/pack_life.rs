//! A pack's life: made from the template, tested, signed, installed into a running server, permitted, locked, removed.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Place, Server, ended, vivarium};
use vivarium_packs::{file::PackFile, signature::SigningKey};

const PATIENCE: Duration = Duration::from_secs(120);

fn built(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_BIN_EXE_vivarium")).parent().unwrap();
    fs::read(folder.join(format!("packs/{name}.wasm"))).unwrap()
}

/// The stock pack `mask` as somebody would publish it.
fn published(place: &Place, version: &str, key: &SigningKey) -> String {
    let mut bytes = built("mask");
    while let Some(start) = bytes.windows(5).position(|part| part == b"0.1.0" && version != "0.1.0") {
        bytes[start..start + 5].copy_from_slice(version.as_bytes());
    }
    let manifest = format!(
        "name = \"mask\"\nversion = \"{version}\"\npublisher = \"P\"\nlicense = \"MIT\"\n\
         [[permissions]]\npermission = \"models/vae\"\nreason = \"To decode.\"\n\
         [[workflows]]\ntitle = \"First\"\nfile = \"first.json\"\n\
         [[subgraphs]]\ntitle = \"Twice\"\nfile = \"twice.json\"\n\
         [[replacements]]\nold_node_id = \"OldMask\"\nnew_node_id = \"MaskToImage\"\n\
         [translations]\nfr = \"fr.json\"\n"
    );
    let translation =
        json!({"nodeDefs": {"MaskToImage": {"display_name": "Masque"}, "SaveImage": {"display_name": "?"}}});
    let assets = [("first.json", json!({"nodes": []})), ("twice.json", json!({})), ("fr.json", translation)];
    let assets = assets.map(|(file, content)| (file.to_owned(), content.to_string().into_bytes()));
    let file = PackFile::assemble(&bytes, &manifest, &assets, u64::MAX).unwrap().signed(key, u64::MAX).unwrap();
    place.write(&format!("mask-{version}.wasm"), file.bytes())
}

fn get(server: &Server, path: &str) -> Value {
    let text = ureq::get(format!("{}{path}", server.url)).call().unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn soon(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it does not become so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pack(server: &Server, name: &str) -> Value {
    let packs = get(server, "/vivarium/packs");
    packs["packs"].as_array().unwrap().iter().find(|pack| pack["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn a_running_server_takes_over_what_is_installed_granted_and_removed() {
    let place = Place::new();
    let (base, packs) = (place.text("base"), place.text("packs"));
    fs::create_dir(&packs).unwrap();
    fs::write(place.path("packs/image.wasm"), built("image")).unwrap();
    let server = Server::start(&place, &["--packs-directory", &packs, "--watch"]);
    let offers = |class: &str| get(&server, "/object_info").get(class).is_some();
    assert!(offers("EmptyImage") && !offers("MaskToImage"));

    let address = server.url.trim_start_matches("http://");
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{address}/ws?clientId=watcher"), stream).unwrap();

    let key = SigningKey::generate();
    let file = published(&place, "0.1.0", &key);
    let places = ["--base-directory", base.as_str(), "--packs-directory", packs.as_str()];
    let run = |words: &[&str], places: &[&str]| {
        let (code, stdout, stderr) = ended(&[&["pack"], words, places].concat());
        assert_eq!(code, 0, "{words:?}: {stdout}{stderr}");
        stdout
    };
    run(&["install", &file, "--yes"], &places);
    soon("installed", || offers("MaskToImage"));
    let told = std::iter::from_fn(|| socket.read().ok()).find(|frame| frame.to_string().contains("packs_changed"));
    let told: Value = serde_json::from_str(told.unwrap().to_text().unwrap()).unwrap();
    assert_eq!(told["data"], json!({"packs": ["mask"]}));
    assert_eq!(pack(&server, "mask")["permissions"][0]["granted"], false);
    run(&["grant", "mask", "models/vae"], &places[..2]);
    soon("granted", || pack(&server, "mask")["permissions"][0]["granted"] == true);

    // What it gives front ends, about its own classes only.
    assert_eq!(get(&server, "/workflow_templates"), json!({"mask": ["First"]}));
    assert_eq!(get(&server, "/workflow_templates/mask/First.json"), json!({"nodes": []}));
    assert_eq!(get(&server, "/global_subgraphs").as_object().unwrap().len(), 1);
    assert_eq!(get(&server, "/i18n"), json!({"fr": {"nodeDefs": {"MaskToImage": {"display_name": "Masque"}}}}));
    let replacements = get(&server, "/node_replacements");
    assert_eq!(replacements.as_object().unwrap().keys().collect::<Vec<_>>(), ["OldMask"]);

    // A workflow that is locked to a version is refused with the next one.
    let workflow = place.write(
        "masked.json",
        json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 7}},
            "2": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "red"}},
            "3": {"class_type": "OldMask", "inputs": {"mask": ["2", 0]}},
            "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
        })
        .to_string(),
    );
    let locked = run(&["lock", &workflow], &places);
    assert!(locked.contains("image 0.1.0") && locked.contains("mask 0.1.0"), "{locked}");
    let submit = || ended(&["submit", &workflow, "--server", &server.url, "-o", &place.text("results")]);
    let (code, _, stderr) = submit();
    assert_eq!(code, 0, "{stderr}");
    let next = published(&place, "0.2.0", &key);
    run(&["update", "mask", "--from", &next, "--yes"], &places);
    soon("updated", || pack(&server, "mask")["version"] == "0.2.0");
    assert_eq!(pack(&server, "mask")["permissions"][0]["granted"], true, "an update keeps grants");
    let (code, _, stderr) = submit();
    assert!(code == 1 && stderr.contains("mask should be 0.1.0"), "{stderr}");
    let (code, _, stderr) = ended(&[&["run", &workflow, "-o", &place.text("results")], &places[..]].concat());
    assert!(code == 1 && stderr.contains("mask should be 0.1.0"), "{stderr}");

    run(&["remove", "mask"], &places[..2]);
    soon("removed", || !offers("MaskToImage"));

    // With --watch, a folder is as good; a broken file leaves what worked.
    place.write("packs/mask.wasm", built("mask"));
    soon("put into the folder", || offers("MaskToImage"));
    place.write("packs/mask.wasm", &built("mask")[..1000]);
    place.write("packs/other.wasm", "broken");
    soon("noticed", || pack(&server, "other.wasm")["error"].is_string());
    assert!(offers("MaskToImage"), "a half-written file took its pack away");
    fs::remove_file(place.path("packs/mask.wasm")).unwrap();
    soon("deleted", || !offers("MaskToImage"));
}

#[test]
fn a_pack_comes_from_an_address_and_is_what_was_expected() {
    let place = Place::new();
    fs::create_dir(place.path("none")).unwrap();
    let key = SigningKey::generate();
    let file = fs::read(published(&place, "0.1.0", &key)).unwrap();
    let digest = PackFile::parse(file.clone(), u64::MAX).unwrap().digest().to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mask.wasm", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len()).unwrap();
            stream.write_all(&file).unwrap();
        }
    });
    let (base, none) = (place.text("base"), place.text("none"));
    let places = ["--base-directory", base.as_str(), "--packs-directory", none.as_str()];
    let install =
        |digest: &str| ended(&[&["pack", "install", &url, "--yes", "--digest", digest], &places[..]].concat());
    let (code, _, stderr) = install(&"0".repeat(64));
    assert!(code == 1 && stderr.contains("it is another file"), "{stderr}");
    let (code, stdout, stderr) = install(&digest);
    assert!(code == 0 && stdout.contains("list the files of the model folder vae"), "{stdout}{stderr}");
    let (code, stdout, _) = ended(&["pack", "info", "mask", "--json", "--base-directory", &base]);
    let info: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, info["source"].as_str(), info["signer"].as_str()),
        (0, Some(url.as_str()), Some(key.public().to_string().as_str()))
    );
}

#[test]
fn a_pack_from_the_template_builds_passes_its_test_and_can_be_signed() {
    let place = Place::new();
    let folder = place.text("my-pack");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("template");
    let run = |command: &mut Command| {
        let output = command.env("CARGO_TARGET_DIR", &target).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}");
        said
    };
    run(&mut vivarium(&["pack", "new", "my-pack", "--folder", &folder, "--publisher", "Ada"]));
    let said = run(&mut vivarium(&["pack", "test", &folder]));
    assert!(said.contains("workflows/brighten.json: ran") && said.contains("2 passed"), "{said}");
    let mut alone = Command::new("cargo");
    alone.arg("test").current_dir(&folder).env("CARGO_TARGET_DIR", &target).env("VIVARIUM", "/nowhere/vivarium");
    let said = String::from_utf8(alone.output().unwrap().stdout).unwrap();
    assert!(
        said.contains("\nthere is no program `/nowhere/vivarium`") && said.contains("1 passed; 1 failed"),
        "{said}"
    );
    let key = place.text("signing.key");
    run(&mut vivarium(&["pack", "key", "new", "--key", &key]));
    let said = run(&mut vivarium(&["pack", "build", &folder, "--sign", "--key", &key]));
    assert!(said.contains("my-pack-0.1.0.wasm") && !said.contains("not signed"), "{said}");
    let file = place.text("my-pack/my-pack-0.1.0.wasm");
    let said = run(&mut vivarium(&["pack", "check", &file]));
    assert!(said.contains("MyPackBrighten") && said.contains("signed by ed25519:"), "{said}");
    let said = run(&mut vivarium(&["pack", "install", &file, "--yes", "--base-directory", &place.text("base")]));
    assert!(said.contains("my-pack 0.1.0 is installed"), "{said}");
}
