//! A process that is killed at any moment leaves no half file, no dangling name and no staged upload.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vivarium_blobs::{BlobStore, Digest, Durability, Folder, OutputName, TenantDirs, TenantFiles};
use vivarium_protocol::tenant::TenantId;

const BASE: &str = "VIVARIUM_TEST_BLOBS_BASE";
const ROUNDS: u64 = 25;

fn open(base: &Path) -> (Arc<BlobStore>, TenantFiles) {
    let store = BlobStore::open(&base.join("blobs")).unwrap();
    let tenant = TenantId::default_tenant();
    let files = TenantFiles::open(tenant.clone(), Arc::clone(&store), TenantDirs::below(base, &tenant)).unwrap();
    (store, files)
}

/// Bytes that tell whether they are whole: a length and a repeated letter.
fn content(number: u64) -> Vec<u8> {
    let len = 1000 + (number * 7919) % 300_000;
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.resize(8 + len as usize, b'a' + (number % 26) as u8);
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*head) == body.len() as u64 && body.iter().all(|byte| *byte == body[0])
}

#[test]
fn child_that_writes_until_it_is_killed() {
    let Ok(base) = std::env::var(BASE) else { return };
    let (store, files) = open(Path::new(&base));
    let name = OutputName::new("img", 1, 1).unwrap();
    for number in u64::from(std::process::id()).. {
        let bytes = content(number);
        let upload_name = format!("f{}", number % 5);
        let mut other = bytes.clone();
        other[8..].fill(b'-');
        // The second time it is there already; the third begins like what is there.
        for content in [&bytes, &bytes, &other] {
            let mut upload = files.stage_upload(Folder::Input, "", &upload_name, None).unwrap();
            for chunk in content.chunks(40_000) {
                upload.write(chunk).unwrap();
            }
            files.save_upload(Folder::Input, "", &upload_name, upload, number.is_multiple_of(2)).unwrap();
        }
        let blob = store.put(&bytes, Durability::Fast).unwrap();
        files.save_output(Folder::Output, &name, 0, "bin", &blob).unwrap();
        files.user_data().write("workflows/w.json", &bytes, true).unwrap();
    }
}

/// How many outputs there are: how far the children came.
fn saved(base: &Path) -> usize {
    fs::read_dir(base.join("output")).map_or(0, Iterator::count)
}

/// A busy machine may take long to start a process; a broken one is not waited for.
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_at_any_moment_nothing_is_half_done() {
    let base = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let before = saved(base.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(BASE, base.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| saved(base.path()) > before);
        std::thread::sleep(Duration::from_millis(round * 3));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (_store, files) = open(base.path());
    let staged = fs::read_dir(base.path().join("blobs/staging"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(staged.count(), 1, "only our own staging directory is left");
    let mut seen = 0;
    for folder in ["input", "output", "user/default/workflows"] {
        for entry in fs::read_dir(base.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(".vivarium-tmp-") {
                continue;
            }
            assert!(is_whole(&fs::read(&path).unwrap()), "{} is not whole", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "the children did work: {seen} files");
    for shard in fs::read_dir(base.path().join("blobs/sha256")).unwrap() {
        for blob in fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = blob.unwrap().path();
            let digest = Digest::of(&fs::read(&path).unwrap()).to_string();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), digest);
        }
    }
    for name in files.list(Folder::Input).unwrap().iter() {
        assert!(!name.starts_with(".vivarium-tmp-"));
    }
}
