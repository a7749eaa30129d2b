//! Nodes that answer with nodes.

use vivarium_node::prelude::*;

/// Answers with two nodes that wait for each other.
#[derive(Node)]
#[node(category = "Testing/Nodes")]
pub(crate) struct TestDynamicDependencyCycle {
    input1: Image,
    input2: Image,
}

impl Run for TestDynamicDependencyCycle {
    type Output = Expansion<Image>;

    fn run(self) -> Result<Expansion<Image>> {
        let mut expansion = Expansion::new();
        let mask = stub_mask(&mut expansion, 0.5)?;
        let first = expansion
            .node("first", "TestLazyMixImages")
            .input("image1", self.input1)?
            .link("image2", NodeOutput::of("second", 0))
            .link("mask", mask.clone())
            .output(0);
        let second = expansion
            .node("second", "TestLazyMixImages")
            .link("image1", first)
            .link("mask", mask)
            .input("image2", self.input2)?
            .output(0);
        Ok(expansion.slot(second))
    }
}

fn stub_mask<T: vivarium_node::output::Outputs>(expansion: &mut Expansion<T>, value: f64) -> Result<NodeOutput> {
    let node = expansion.node("mask", "StubMask").input("value", value)?;
    Ok(node.input("height", 512u64)?.input("width", 512u64)?.input("batch_size", 1u64)?.output(0))
}

fn stub_image<T: vivarium_node::output::Outputs>(expansion: &mut Expansion<T>, content: &str) -> Result<NodeOutput> {
    let node = expansion.node(content, "StubImage").input("content", content.to_owned())?;
    Ok(node.input("height", 512u64)?.input("width", 512u64)?.input("batch_size", 1u64)?.output(0))
}

fn grey(value: f64) -> Image {
    Tensor::full([1, 512, 512, 3], value, Dtype::Float32).into()
}

/// Answers with values or with nodes, as its input says.
#[derive(Node)]
#[node(category = "Testing/Nodes")]
pub(crate) struct TestMixedExpansionReturns {
    input1: f64,
}

impl Run for TestMixedExpansionReturns {
    type Output = Outcome<(Image, Image)>;

    fn run(self) -> Result<Outcome<(Image, Image)>> {
        if self.input1 <= 0.2 {
            let shown = if self.input1 <= 0.1 { 0.1 } else { 0.2 };
            return Ok(Outcome::Outputs((grey(shown), grey(1.0))));
        }
        let mut expansion = Expansion::new();
        let mask = stub_mask(&mut expansion, 0.3)?;
        let black = stub_image(&mut expansion, "BLACK")?;
        let white = stub_image(&mut expansion, "WHITE")?;
        let mixed = expansion
            .node("mix", "TestLazyMixImages")
            .link("image1", black)
            .link("image2", white)
            .link("mask", mask)
            .output(0);
        Ok(Outcome::Expansion(expansion.slot(mixed).value(grey(1.0))?))
    }
}

/// Answers with a whole text-to-image graph.
#[derive(Node)]
#[node(category = "Testing/Nodes")]
pub(crate) struct TestSamplingInExpansion {
    #[input(type = "MODEL")]
    model: Value,
    #[input(type = "CLIP")]
    clip: Value,
    #[input(type = "VAE")]
    vae: Value,
    #[input(default = 0, min = 0, option("max", u64::MAX))]
    seed: u64,
    #[input(default = 20, min = 1, max = 100)]
    steps: i64,
    #[input(default = 7.0, min = 0.0, max = 30.0)]
    cfg: f64,
    #[input(multiline)]
    prompt: String,
    #[input(multiline)]
    negative_prompt: String,
}

impl Run for TestSamplingInExpansion {
    type Output = Expansion<Image>;

    fn run(self) -> Result<Expansion<Image>> {
        let mut expansion = Expansion::new();
        let text = |expansion: &mut Expansion<Image>, id: &str, text: String| -> Result<NodeOutput> {
            let node = expansion.node(id, "CLIPTextEncode").input("clip", self.clip.clone())?;
            Ok(node.input("text", text)?.output(0))
        };
        let positive = text(&mut expansion, "positive", self.prompt)?;
        let negative = text(&mut expansion, "negative", self.negative_prompt)?;
        let empty = expansion.node("empty", "EmptyLatentImage");
        let empty = empty.input("width", 512u64)?.input("height", 512u64)?.input("batch_size", 1u64)?.output(0);
        let sampled = expansion
            .node("sampler", "KSampler")
            .input("model", self.model)?
            .link("positive", positive)
            .link("negative", negative)
            .link("latent_image", empty)
            .input("seed", self.seed)?
            .input("steps", self.steps)?
            .input("cfg", self.cfg)?
            .input("sampler_name", "euler_ancestral".to_owned())?
            .input("scheduler", "normal".to_owned())?
            .input("denoise", 1.0)?
            .output(0);
        let decoded = expansion.node("decode", "VAEDecode").link("samples", sampled).input("vae", self.vae)?.output(0);
        Ok(expansion.slot(decoded))
    }
}

/// Answers with three nodes that sleep side by side, and the mean of what they pass on.
#[derive(Node)]
#[node(category = "_for_testing", output_node)]
pub(crate) struct TestParallelSleep {
    image1: Image,
    image2: Image,
    image3: Image,
    #[input(default = 0.5, min = 0.0, max = 10.0, step = 0.01)]
    sleep1: f64,
    #[input(default = 0.5, min = 0.0, max = 10.0, step = 0.01)]
    sleep2: f64,
    #[input(default = 0.5, min = 0.0, max = 10.0, step = 0.01)]
    sleep3: f64,
    #[input(hidden = "UNIQUE_ID", name = "unique_id")]
    _unique_id: String,
}

impl Run for TestParallelSleep {
    type Output = Expansion<Image>;

    fn run(self) -> Result<Expansion<Image>> {
        sleep_and_average(vec![(self.image1, self.sleep1), (self.image2, self.sleep2), (self.image3, self.sleep3)])
    }
}

fn sleep_and_average(images: Vec<(Image, f64)>) -> Result<Expansion<Image>> {
    let mut expansion = Expansion::new();
    let mut slept = Vec::new();
    for (index, (image, seconds)) in images.into_iter().enumerate() {
        let node = expansion.node(&format!("sleep{}", index + 1), "TestSleep");
        slept.push(node.input("value", image)?.input("seconds", seconds)?.output(0));
    }
    if let [only] = slept.as_slice() {
        return Ok(expansion.slot(only.clone()));
    }
    let mut average = expansion.node("average", "TestVariadicAverage");
    for (index, output) in slept.into_iter().enumerate() {
        average = average.link(&format!("input{}", index + 1), output);
    }
    let average = average.output(0);
    Ok(expansion.slot(average))
}

/// Answers with some nodes that sleep side by side, fed with two images in turn.
#[derive(Node)]
#[node(category = "_for_testing/async")]
pub(crate) struct TestDynamicAsyncGeneration {
    image1: Image,
    image2: Image,
    #[input(default = 3, min = 1, max = 10)]
    num_async_nodes: usize,
    #[input(default = 0.2, min = 0.1, max = 1.0)]
    sleep_duration: f64,
}

impl Run for TestDynamicAsyncGeneration {
    type Output = Expansion<Image>;

    fn run(self) -> Result<Expansion<Image>> {
        let turns = [self.image1, self.image2].into_iter().cycle().take(self.num_async_nodes);
        sleep_and_average(turns.map(|image| (image, self.sleep_duration)).collect())
    }
}
