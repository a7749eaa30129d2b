//! The binary, a folder to run it in, a running server.
// Each test program uses a part of it.
#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn vivarium(arguments: &[&str]) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_vivarium"));
    let packs = binary.parent().unwrap().join("packs/image.wasm");
    assert!(packs.is_file(), "{} is missing: run `cargo xtask nodes` first", packs.display());
    let mut command = Command::new(binary);
    command.args(arguments).env_remove("VIVARIUM_BASE").env_remove("VIVARIUM_SERVER").stdin(Stdio::null());
    command
}

pub(crate) fn ended(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = vivarium(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A folder with the base folder and a place for results.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("base")).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.text(name)
    }

    /// A workflow of one image of a size and colour.
    pub(crate) fn workflow(&self, width: i64) -> String {
        let workflow = json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": width, "height": 8, "batch_size": 1, "color": 255}},
            "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "plain"}},
        });
        self.write("workflow.json", workflow.to_string())
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(place: &Place, flags: &[&str]) -> Self {
        Self::start_with(place, flags, &[])
    }

    /// With variables of the environment.
    pub(crate) fn start_with(place: &Place, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let base = place.text("base");
        let mut arguments = vec!["serve", "--port", "0", "--base-directory", &base];
        arguments.extend(flags);
        let variables = environment.iter().copied();
        let mut process = vivarium(&arguments).envs(variables).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let started = Instant::now();
        let url = loop {
            let line = log.next().map(Result::unwrap).unwrap_or_else(|| panic!("the server ended"));
            if let Some((_, url)) = line.split_once(" serves ") {
                break url.trim().to_owned();
            }
            assert!(started.elapsed() < START_LIMIT, "the server did not start");
        };
        // Somebody has to read on, or the server would wait for its log to be read.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, url }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.process, name);
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The standard library can only kill.
pub(crate) fn signal(process: &Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}
