//! Packs in an OCI registry: pushed, installed from there, and refused when the registry lies. The registry is a thread here.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use sha2::{Digest, Sha256};
use support::Place;
use vivarium_packs::{file::PackFile, signature::SigningKey};

/// What a registry keeps, by path; and who it talks to.
#[derive(Default)]
struct Kept {
    files: Mutex<HashMap<String, Vec<u8>>>,
    /// Tokens it gave out, as `Authorization` has them.
    asked: Mutex<Vec<String>>,
}

struct Registry {
    address: String,
    kept: Arc<Kept>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let kept: Arc<Kept> = Arc::default();
        let (shared, own) = (kept.clone(), address.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, own) = (shared.clone(), own.clone());
                thread::spawn(move || serve(stream, &shared, &own));
            }
        });
        Self { address, kept }
    }

    fn reference(&self, rest: &str) -> String {
        format!("oci://{}/team/mask{rest}", self.address)
    }

    fn change(&self, path: &str, content: Vec<u8>) {
        self.kept.files.lock().unwrap().insert(path.to_owned(), content);
    }

    fn kept(&self, path: &str) -> Vec<u8> {
        self.kept.files.lock().unwrap()[path].clone()
    }
}

fn serve(stream: TcpStream, kept: &Kept, own: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut line, mut length, mut authorization) = (String::new(), 0, String::new());
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => authorization = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (head, content) = answer(&method, &target, &authorization, body, kept, own);
        let mut stream = &stream;
        let text = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", content.len());
        stream.write_all(text.as_bytes()).unwrap();
        if method != "HEAD" {
            stream.write_all(&content).unwrap();
        }
    }
}

fn answer(method: &str, target: &str, authorization: &str, body: Vec<u8>, kept: &Kept, own: &str) -> (String, Vec<u8>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path == "/token" {
        kept.asked.lock().unwrap().push(format!("{query} {authorization}"));
        return ("200 OK".into(), br#"{"token": "let-me-in"}"#.to_vec());
    }
    if authorization != "Bearer let-me-in" {
        let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"tests\"");
        return (format!("401 Unauthorized\r\nwww-authenticate: {challenge}"), Vec::new());
    }
    let mut files = kept.files.lock().unwrap();
    match method {
        "POST" => (format!("202 Accepted\r\nlocation: {path}upload-1"), Vec::new()),
        "PUT" => {
            let path = match query.split_once("digest=") {
                Some((_, digest)) => format!("/v2/team/mask/blobs/{digest}"),
                None => path.to_owned(),
            };
            files.insert(path, body);
            ("201 Created".into(), Vec::new())
        }
        _ => match files.get(path) {
            Some(content) => ("200 OK".into(), content.clone()),
            None => ("404 Not Found".into(), br#"{"errors":[{"code":"UNKNOWN"}]}"#.to_vec()),
        },
    }
}

/// Runs the program to its end, which has to be of a code; answers what it said on both streams.
fn ended(arguments: &[&str], code: i32) -> (String, String) {
    let (ended, stdout, stderr) = support::ended(arguments);
    assert_eq!(ended, code, "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

fn pack(place: &Place) -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_vivarium")).parent().unwrap();
    let component = fs::read(folder.join("packs/mask.wasm")).unwrap();
    let manifest = "name = \"mask\"\nversion = \"0.1.0\"\npublisher = \"P\"\nlicense = \"MIT\"\n";
    let file = PackFile::assemble(&component, manifest, &[], u64::MAX).unwrap();
    let signed = file.signed(&SigningKey::generate(), u64::MAX).unwrap();
    place.write("mask.wasm", signed.bytes())
}

#[test]
fn a_pack_is_pushed_to_a_registry_and_installed_from_it() {
    let place = Place::new();
    let (base, packs) = (place.text("base"), place.text("packs"));
    fs::create_dir(&packs).unwrap();
    let registry = Registry::start();
    let file = pack(&place);
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(fs::read(&file).unwrap())));

    let (manifest, _) = ended(&["pack", "push", &file, &registry.reference(":0.1.0")], 0);
    let manifest = manifest.trim();
    assert_eq!(registry.kept(&format!("/v2/team/mask/blobs/{digest}")), fs::read(&file).unwrap());
    assert!(registry.kept.asked.lock().unwrap()[0].contains("service=tests&scope=repository:team/mask:pull%2Cpush"));

    let install = |reference: &str, more: &[&str], code: i32| {
        let common = ["pack", "install", reference, "--yes", "--packs-directory", &packs, "--base-directory", &base];
        ended(&[&common[..], more].concat(), code)
    };
    let (_, offline) = install(&registry.reference(":0.1.0"), &["--offline"], 2);
    assert!(offline.contains("--offline"), "{offline}");
    install(&registry.reference(":0.1.0"), &["--digest", &digest], 0);
    registry.change(&format!("/v2/team/mask/manifests/{manifest}"), registry.kept("/v2/team/mask/manifests/0.1.0"));
    install(&registry.reference(&format!("@{manifest}")), &[], 0);
    let (info, _) = ended(&["pack", "info", "mask", "--base-directory", &base], 0);
    assert!(info.contains(&format!("@{manifest}")), "{info}");
}

#[test]
fn a_registry_that_sends_something_else_is_not_believed() {
    let place = Place::new();
    let registry = Registry::start();
    let file = pack(&place);
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(fs::read(&file).unwrap())));
    let (manifest, _) = ended(&["pack", "push", &file, &registry.reference(":1")], 0);
    let manifest = manifest.trim();
    let check = |rest: &str, code: i32| ended(&["pack", "check", &registry.reference(rest)], code).1;

    assert!(check(":2", 4).contains("404"));
    let blob = format!("/v2/team/mask/blobs/{digest}");
    let (good, mut changed) = (registry.kept(&blob), registry.kept(&blob));
    *changed.last_mut().unwrap() ^= 1;
    registry.change(&blob, changed);
    assert!(check(":1", 1).contains("was changed"));
    registry.change(&blob, [good.as_slice(), b"more"].concat());
    assert!(check(":1", 4).contains("larger than"));
    registry.change(&blob, good);

    let named = format!("/v2/team/mask/manifests/{manifest}");
    registry.change(&named, b"{}".to_vec());
    assert!(check(&format!("@{manifest}"), 1).contains("was changed"));
    let layer = |digest: &str, size: u64| {
        format!(
            r#"{{"schemaVersion":2,"layers":[{{"mediaType":"application/wasm","digest":"{digest}","size":{size}}}]}}"#
        )
    };
    for (content, said) in [
        ("not json".to_owned(), "no image manifest"),
        (r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), "is no pack"),
        (layer(&digest, 1 << 40), "component_bytes"),
        (layer("sha256:../../secret", 5), "digest"),
        (
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#.to_owned(),
            "index",
        ),
    ] {
        registry.change("/v2/team/mask/manifests/1", content.into_bytes());
        let stderr = check(":1", 1);
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
}
