//! Progress, and when a node runs again.

use std::time::{Duration, Instant};

use vivarium_node::prelude::*;
use vivarium_node::{log, progress};

/// Keeps busy for a while, tells how far it is, and passes its input on.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestSleepLoop {
    #[input(default = 100, min = 0, max = 600_000)]
    milliseconds: u64,
    /// Tell about every so many milliseconds.
    #[input(optional, default = 10, min = 1, max = 10_000)]
    every: u64,
    /// Shown beside the node while it runs.
    image: Option<Image>,
}

impl Run for TestSleepLoop {
    type Output = WithUi<Option<Image>>;

    fn run(self) -> Result<WithUi<Option<Image>>> {
        let start = Instant::now();
        let end = Duration::from_millis(self.milliseconds);
        let mut next = Duration::ZERO;
        log::info(format_args!("busy for {} ms", self.milliseconds));
        loop {
            let gone = start.elapsed().min(end);
            if gone >= next || gone == end {
                next = gone + Duration::from_millis(self.every);
                let (value, max) = (gone.as_secs_f64() * 1e3, self.milliseconds as f64);
                match &self.image {
                    Some(image) => progress::preview(value, max, image)?,
                    None => progress::update(value, max)?,
                }
            }
            if gone == end {
                return Ok(Ui::text(format!("{} ms", self.milliseconds)).with(self.image));
            }
            std::hint::spin_loop();
        }
    }
}

/// Shows texts beside itself, one after the other, as fast as it can.
#[derive(Node)]
#[node(category = "testing", output_node)]
pub(crate) struct TestProgressText {
    #[input(default = "working", multiline)]
    text: String,
    #[input(optional, default = 1, min = 1, max = 1_000_000)]
    count: u64,
}

impl Run for TestProgressText {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        for number in 1..=self.count {
            progress::text(format_args!("{} {number}", self.text))?;
        }
        Ok(Ui::text(format!("{} texts", self.count)))
    }
}

/// Passes an image on, and never out of the cache.
#[derive(Node)]
#[node(category = "testing", fingerprint)]
pub(crate) struct TestAlways {
    image: Image,
    /// When off, the node is cached like any other.
    #[input(default = true)]
    always: bool,
}

impl Run for TestAlways {
    type Output = Image;

    fn run(self) -> Result<Image> {
        log::debug(format_args!("always: {}", self.always));
        Ok(self.image)
    }
}

impl Fingerprint for TestAlways {
    fn fingerprint(inputs: &Constants) -> Result<Change> {
        Ok(if inputs.get("always")? == Some(true) { Change::Always } else { Change::When(Json::Null) })
    }
}

/// Fails with a message, or is refused before that.
#[derive(Node)]
#[node(category = "testing", output_node, validate(message))]
pub(crate) struct TestError {
    /// A message that starts with `refuse` is refused when the prompt is checked.
    #[input(default = "it went wrong")]
    message: String,
}

impl Run for TestError {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        Err(Error::failed(self.message))
    }
}

impl Validate for TestError {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        let message = inputs.get::<String>("message")?.unwrap_or_default();
        Ok(if message.starts_with("refuse") { vec![Finding::on("message", message)] } else { Vec::new() })
    }
}
