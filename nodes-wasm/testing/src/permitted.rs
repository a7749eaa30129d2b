//! What needs a permission.

use std::time::Instant;

use vivarium_node::{log, prelude::*, secrets, weights::Weights};

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
