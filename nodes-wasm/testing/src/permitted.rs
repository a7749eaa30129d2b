//! What needs a permission.

use std::time::Instant;

use vivarium_node::{files, folders, http, log, prelude::*, scratch, secrets, weights::Weights};

/// Reads numbers of a tensor of a safetensors file into the guest, after some arithmetic that changes none of them.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestWeightValues {
    #[input(default = "vae")]
    folder: String,
    name: String,
    key: String,
}

impl Run for TestWeightValues {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let tensor = Weights::open(&self.folder, &self.name)?.tensor(&self.key)? * 1.0;
        let numbers = tensor.read_f32()?;
        Ok(Ui::new().entry("text", vec![format!("{numbers:?}")]))
    }
}

/// Reads a secret, and tries to show it everywhere.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestSecret {
    name: String,
    /// Fail with the secret in the message.
    #[input(default = false)]
    fail: bool,
}

impl Run for TestSecret {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let secret = secrets::get(&self.name)?;
        log::info(format!("the secret is {secret}"));
        if self.fail {
            return Err(Error::failed(format!("the secret is {secret}")));
        }
        let length = secret.len();
        Ok(Ui::new().entry("text", vec![format!("{length} bytes: {secret}")]))
    }
}

/// Asks a host and shows status and body.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestHttp {
    #[input(default = "GET")]
    method: String,
    url: String,
    #[input(default = "")]
    body: String,
}

impl Run for TestHttp {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let answer = http::Request::new(self.method, self.url).body(self.body).send()?;
        Ok(Ui::new().entry("text", vec![format!("{} {}", answer.status(), answer.text())]))
    }
}

/// Counts in a scratch file how often it ran, and shows what there is.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestScratch {
    #[input(default = "count")]
    name: String,
    /// Changes nothing, and makes the node run again.
    #[input(default = 0)]
    round: i64,
}

impl Run for TestScratch {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let before = scratch::read(&self.name)?.unwrap_or_default();
        scratch::write(&self.name, &[before, vec![b'x']].concat())?;
        let files = scratch::list()?.into_iter().map(|file| format!("{} {}", file.name, file.bytes));
        log::debug(format!("round {}", self.round));
        Ok(Ui::new().entry("text", files.collect::<Vec<_>>()))
    }
}

/// Loads an image out of an input folder, by way of encoding and decoding it once more.
#[derive(Node)]
#[node(category = "testing")]
pub(crate) struct TestFolderImage {
    folder: String,
    path: String,
}

impl Run for TestFolderImage {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let image = files::decode(&folders::read(&self.folder, &self.path)?)?.image;
        let again = files::decode(&files::encode(&image, 6)?)?.image;
        Ok(again)
    }
}

/// Shows a file of an input folder, or what is in it.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestFolder {
    folder: String,
    #[input(default = "")]
    path: String,
    #[input(default = true)]
    list: bool,
}

impl Run for TestFolder {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let text = match self.list {
            true => folders::list(&self.folder, &self.path)?
                .into_iter()
                .map(|entry| format!("{} {} {}", entry.name, entry.is_folder, entry.bytes))
                .collect(),
            false => vec![String::from_utf8_lossy(&folders::read(&self.folder, &self.path)?).into_owned()],
        };
        Ok(Ui::new().entry("text", text))
    }
}

/// Tells the shortest time that its clock can measure, in nanoseconds.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestClock {}

impl Run for TestClock {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let started = Instant::now();
        let shortest = loop {
            let passed = started.elapsed().as_nanos();
            if passed > 0 {
                break passed;
            }
        };
        Ok(Ui::new().entry("text", vec![shortest.to_string()]))
    }
}
