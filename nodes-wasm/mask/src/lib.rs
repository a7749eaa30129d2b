//! The stock mask nodes, with ComfyUI's class names, inputs and results.
//!
//! One file: three nodes of one line each.

use vivarium_node::prelude::*;

pack! {
    name: "mask",
    version: env!("CARGO_PKG_VERSION"),
    publisher: "Vivarium",
    description: "Turns masks into images and back.",
    license: "Apache-2.0",
    nodes: [MaskToImage, ImageToMask, InvertMask],
}

/// Shows a mask as a grey image.
#[derive(Node)]
#[node(category = "mask", display_name = "Convert Mask to Image")]
struct MaskToImage {
    mask: Mask,
}

impl Run for MaskToImage {
    type Output = Image;

    fn run(self) -> Result<Image> {
        let (height, width) = (self.mask.size(-2)?, self.mask.size(-1)?);
        Ok(self.mask.reshape([-1, height as i64, width as i64, 1]).expand([-1, -1, -1, 3]).into())
    }
}

#[derive(Choice, Clone, Copy)]
enum Channel {
    Red,
    Green,
    Blue,
    Alpha,
}

/// Takes one channel of an image as a mask.
#[derive(Node)]
#[node(category = "mask", display_name = "Convert Image to Mask")]
struct ImageToMask {
    image: Image,
    channel: Channel,
}

impl Run for ImageToMask {
    type Output = Mask;

    fn run(self) -> Result<Mask> {
        let (index, channels) = (self.channel as i64, self.image.size()?.channels);
        if index >= channels as i64 {
            return Err(Error::invalid(format!(
                "the image has {channels} channels, so there is no channel number {}: choose another channel",
                index + 1
            )));
        }
        Ok(self.image.slice(3, index, index + 1).squeeze(3).into())
    }
}

/// Masks what was not masked.
#[derive(Node)]
#[node(category = "mask", display_name = "InvertMask")]
struct InvertMask {
    mask: Mask,
}

impl Run for InvertMask {
    type Output = Mask;

    fn run(self) -> Result<Mask> {
        Ok(1.0 - self.mask)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn classes_and_outputs_are_those_of_comfyui() {
        let definition = super::PACK.definition();
        assert_eq!(definition.check(), Ok(()));
        let classes = definition.nodes.iter().map(|node| {
            let inputs: Vec<_> = node.inputs.iter().map(|input| input.name.as_str()).collect();
            format!("{}({}) -> {}", node.class_type, inputs.join(", "), node.outputs[0].output_type)
        });
        let expected =
            ["MaskToImage(mask) -> IMAGE", "ImageToMask(image, channel) -> MASK", "InvertMask(mask) -> MASK"];
        assert_eq!(classes.collect::<Vec<_>>(), expected);
    }
}
