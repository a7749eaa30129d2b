//! For hosts, files and folders beyond what was granted.

use vivarium_node::{folders, http::Request, prelude::*, scratch};

use crate::reach::attempt;

/// Asks for addresses, one a line, and tells which answered.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileHttp {
    #[input(multiline)]
    urls: String,
    #[input(optional, default = "GET")]
    method: String,
    /// One a line: name, colon, value. `\r`, `\n` and `\0` stand for what they are in Rust.
    #[input(optional, default = "", multiline)]
    headers: String,
}

impl Run for HostileHttp {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut attempts = Vec::new();
        // Each header by itself: one that is refused would hide the others.
        let headers: Vec<Option<&str>> = match self.headers.as_str() {
            "" => vec![None],
            lines => lines.lines().map(Some).collect(),
        };
        for url in self.urls.lines() {
            for header in &headers {
                let mut request = Request::new(&self.method, url);
                if let Some((name, value)) = header.and_then(|header| header.split_once(':')) {
                    request = request.header(unescaped(name), unescaped(value.trim_start()));
                }
                attempts.push(attempt(format_args!("{} {url} {header:?}", self.method), request.send()));
            }
        }
        Ok(Ui::new().entry("text", attempts))
    }
}

fn unescaped(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0")
}

/// Asks for an address again and again, and fails as it fails.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileDownload {
    url: String,
    #[input(optional, default = 1, min = 1)]
    times: u64,
    /// Sends so many bytes.
    #[input(optional, default = 0, min = 0)]
    bytes: usize,
}

impl Run for HostileDownload {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut received = 0;
        for _ in 0..self.times {
            let request = match self.bytes {
                0 => Request::get(&self.url),
                bytes => Request::post(&self.url).body(vec![0; bytes]),
            };
            received += request.send()?.body().len();
        }
        Ok(Ui::text(format!("received {received} bytes")))
    }
}

const NAMES: [&str; 11] =
    ["..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "", ".", ".hidden", "%2e%2e%2fx", "C:\\x"];

/// Tries names that lead out of its scratch space.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileScratch {}

impl Run for HostileScratch {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut attempts = Vec::new();
        for name in NAMES {
            attempts.push(attempt(format_args!("write {name:?}"), scratch::write(name, b"x")));
            attempts.push(attempt(format_args!("read {name:?}"), scratch::read(name)));
            attempts.push(attempt(format_args!("remove {name:?}"), scratch::remove(name)));
        }
        Ok(Ui::new().entry("text", attempts))
    }
}

/// Fills its scratch space.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileScratchFlood {
    #[input(optional, default = 0, min = 0)]
    bytes: usize,
}

impl Run for HostileScratchFlood {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        for number in 0..1_000_000 {
            scratch::write(&format!("flood-{number}"), &vec![0; self.bytes])?;
        }
        Ok(Ui::text("wrote it all"))
    }
}

/// Tries to read what is not in the folder that it may read, and folders that it may not.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileFolder {
    folder: String,
}

impl Run for HostileFolder {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut attempts = Vec::new();
        for name in
            NAMES.into_iter().filter(|name| !matches!(*name, "" | ".")).chain(["link", "link/x", "../../etc/passwd"])
        {
            attempts.push(attempt(format_args!("read {name:?}"), folders::read(&self.folder, name)));
            attempts.push(attempt(format_args!("list {name:?}"), folders::list(&self.folder, name)));
        }
        for other in ["other", "", "..", "/", "../photos", "photos/.."] {
            attempts.push(attempt(format_args!("list the folder {other:?}"), folders::list(other, "")));
            attempts.push(attempt(format_args!("read of the folder {other:?}"), folders::read(other, "x")));
        }
        Ok(Ui::new().entry("text", attempts))
    }
}
