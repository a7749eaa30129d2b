//! Too much of what is allowed.

use vivarium_node::bindings::vivarium::node::values;
use vivarium_node::prelude::*;
use vivarium_node::weights::Weights;
use vivarium_node::{log, progress};

/// Makes tensors and never drops one.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileHandles {
    #[input(optional, default = 10_000_000, min = 1)]
    count: u64,
}

impl Run for HostileHandles {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut kept = Vec::new();
        for made in 0..self.count {
            let tensor = Tensor::zeros([1], Dtype::Uint8).check();
            kept.push(tensor.map_err(|error| error.context(format_args!("after {made} tensors")))?);
        }
        std::mem::forget(kept);
        Ok(Ui::text(format!("kept {} tensors", self.count)))
    }
}

/// Opens a model's file again and again, and closes none.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileWeights {
    #[input(optional, default = 100_000, min = 1)]
    count: u64,
}

impl Run for HostileWeights {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut kept = Vec::new();
        for opened in 0..self.count {
            let file = Weights::open("loras", "tiny.safetensors");
            kept.push(file.map_err(|error| error.context(format_args!("after {opened} files")))?);
        }
        Ok(Ui::text(format!("opened {}", kept.len())))
    }
}

/// Writes more to the log than anybody reads.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileLog {
    #[input(optional, default = 100_000, min = 1)]
    lines: u64,
    #[input(optional, default = 1000, min = 0)]
    length: usize,
}

impl Run for HostileLog {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        // Control characters, a terminal escape and a direction override: none may reach a terminal.
        let line = "\u{1b}[2J\u{202e}\r\n".to_owned() + &"x".repeat(self.length);
        for _ in 0..self.lines {
            log::error(&line);
        }
        Ok(Ui::text(format!("wrote {} lines", self.lines)))
    }
}

/// Reports progress as fast as it can, with nonsense numbers.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileProgress {
    #[input(optional, default = 1_000_000, min = 1)]
    count: u64,
}

impl Run for HostileProgress {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        for round in 0..self.count {
            let value = [f64::NAN, f64::INFINITY, -1.0, 1e308][round as usize % 4];
            progress::update(value, 0.0)?;
        }
        Ok(Ui::text(format!("reported {} times", self.count)))
    }
}

/// Asks for a tensor of 10¹² elements.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileTensor {}

impl Run for HostileTensor {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let shape = Tensor::zeros([1_000_000, 1_000_000], Dtype::Float32).shape()?;
        Ok(Ui::text(format!("got {shape:?}")))
    }
}

/// Asks for tensors of a fair size until there is no more.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileTensorFlood {}

impl Run for HostileTensorFlood {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let mut kept = Vec::new();
        for made in 0..1_000_000u64 {
            let tensor = Tensor::full([16, 1024, 1024], made as f64, Dtype::Float32).check();
            kept.push(tensor.map_err(|error| error.context(format_args!("after {made} tensors of 64 MiB")))?);
        }
        Ok(Ui::text(format!("got {}", kept.len())))
    }
}

/// Broadcasts one element to 10¹² and asks for a copy.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileBroadcast {}

impl Run for HostileBroadcast {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let wide = Tensor::zeros([1, 1], Dtype::Float32).expand([1_000_000, 1_000_000]);
        let sum = (wide + 1.0).sum().item()?;
        Ok(Ui::text(format!("got {sum}")))
    }
}

/// Sends a tensor's bytes in one call.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileUpload {
    #[input(optional, default = 200_000_000, min = 1)]
    bytes: usize,
}

impl Run for HostileUpload {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        use vivarium_node::bindings::vivarium::node::tensors::Tensor as Raw;
        let data = vec![7; self.bytes];
        let tensor = Raw::from_bytes(&[data.len() as u64], Dtype::Uint8, &data)?;
        Ok(Ui::text(format!("sent {:?}", tensor.shape())))
    }
}

/// Shows more than a client can take.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileUi {
    #[input(optional, default = 200_000_000, min = 1)]
    bytes: usize,
}

impl Run for HostileUi {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        Ok(Ui::text("x".repeat(self.bytes)))
    }
}

/// Fails with more words than anybody reads.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileError {
    #[input(optional, default = 64_000_000, min = 1)]
    bytes: usize,
}

impl Run for HostileError {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        Err(Error::failed("x".repeat(self.bytes)))
    }
}

/// Sends a value that is short as JSON and large as a tree.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileValue {
    #[input(optional, default = 8_000_000, min = 1)]
    numbers: usize,
}

impl Run for HostileValue {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let json = format!("[{}0]", "0,".repeat(self.numbers - 1));
        object(json)?;
        Ok(Ui::text(format!("sent {}", self.numbers)))
    }
}

/// Makes objects with 300 000 lists each until there is no more.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileObjects {}

impl Run for HostileObjects {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let lists = format!("[{}[]]", "[],".repeat(299_999));
        let mut kept = Vec::new();
        for made in 0..1_000_000u64 {
            let object = object(lists.clone());
            kept.push(object.map_err(|error| error.context(format_args!("after {made} objects of lists")))?);
        }
        Ok(Ui::text(format!("got {}", kept.len())))
    }
}

fn object(json: String) -> Result<values::Object> {
    Ok(values::Object::create("HOSTILE_OBJECT", values::Value { json, handles: Vec::new() })?)
}
