//! Nodes that compute with images: lazy inputs, undeclared inputs, fingerprints, outputs that go on.

use vivarium_node::prelude::*;
use vivarium_node::tensor::ReduceOp;

/// Mixes two images by a mask, and asks only for those that the mask lets through.
#[derive(Node)]
#[node(category = "Testing/Nodes", needed_inputs)]
pub(crate) struct TestLazyMixImages {
    image1: Lazy<Image>,
    image2: Lazy<Image>,
    /// 0 takes the first image, 1 the second.
    mask: Mask,
}

impl TestLazyMixImages {
    fn mask_is(&self, value: f64) -> Result<bool> {
        Ok(self.mask.equal(value).reduce(ReduceOp::All, [], false).item()? != 0.0)
    }
}

impl NeededInputs for TestLazyMixImages {
    fn needed_inputs(&self) -> Result<Vec<&'static str>> {
        let mut needed = Vec::new();
        if !self.image1.is_available() && !self.mask_is(1.0)? {
            needed.push("image1");
        }
        if !self.image2.is_available() && !self.mask_is(0.0)? {
            needed.push("image2");
        }
        Ok(needed)
    }
}

impl Run for TestLazyMixImages {
    type Output = Image;

    fn run(self) -> Result<Image> {
        if self.mask_is(0.0)? {
            return self.image1.get();
        }
        if self.mask_is(1.0)? {
            return self.image2.get();
        }
        let mask = self.mask.unsqueeze(-1);
        Ok((self.image1.get()?.tensor() * (1.0 - &mask) + self.image2.get()?.tensor() * &mask).into())
    }
}

/// The mean of `input1`, `input2`, … as far as they follow each other; only the first is declared.
#[derive(Node)]
#[node(category = "Testing/Nodes")]
pub(crate) struct TestVariadicAverage {
    input1: Image,
    #[input(rest)]
    more: vivarium_node::Rest,
}

impl Run for TestVariadicAverage {
    type Output = Image;

    fn run(mut self) -> Result<Image> {
        let mut images = vec![self.input1.unsqueeze(0)];
        while let Some(value) = self.more.shift_remove(&format!("input{}", images.len() + 1)) {
            images.push(Image::from_value(value)?.unsqueeze(0));
        }
        Ok(Tensor::cat(&images, 0).reduce(ReduceOp::Mean, [0], false).into())
    }
}

/// Passes an image on; runs every time when asked to.
#[derive(Node)]
#[node(category = "Testing/Nodes", fingerprint)]
pub(crate) struct TestCustomIsChanged {
    image: Image,
    #[input(optional, default = false, type = "BOOL")]
    should_change: bool,
}

impl Run for TestCustomIsChanged {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let _ = self.should_change;
        Ok(self.image)
    }
}

impl Fingerprint for TestCustomIsChanged {
    fn fingerprint(inputs: &Constants) -> Result<Change> {
        Ok(if inputs.get("should_change")? == Some(true) { Change::Always } else { false.into() })
    }
}

/// Multiplies an image; its fingerprint shows that hooks see constants only.
#[derive(Node)]
#[node(category = "Testing/Nodes", fingerprint)]
pub(crate) struct TestIsChangedWithConstants {
    image: Image,
    #[input(default = 1.0, min = 0.0, max = 10.0)]
    value: f64,
}

impl Run for TestIsChangedWithConstants {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok((self.image.tensor() * self.value).into())
    }
}

impl Fingerprint for TestIsChangedWithConstants {
    fn fingerprint(inputs: &Constants) -> Result<Change> {
        let value = inputs.get::<f64>("value")?.unwrap_or_default();
        Ok(match inputs.get::<Image>("image")? {
            None => value.into(),
            Some(image) => (image.reduce(ReduceOp::Mean, [], false).item()? * value).into(),
        })
    }
}

/// Multiplies an image; an output node whose output goes on.
#[derive(Node)]
#[node(category = "Testing/Nodes", output_node)]
pub(crate) struct TestOutputNodeWithSocketOutput {
    image: Image,
    #[input(default = 1.0, min = 0.0, max = 10.0)]
    value: f64,
}

impl Run for TestOutputNodeWithSocketOutput {
    type Output = Image;

    fn run(self) -> Result<Image> {
        Ok((self.image.tensor() * self.value).into())
    }
}
