//! Nodes that read image files.

use vivarium_node::files;
use vivarium_node::prelude::*;

/// Loads an image and its transparency.
#[derive(Node)]
#[node(category = "image", display_name = "Load Image", validate(image), fingerprint)]
pub(crate) struct LoadImage {
    #[input(choices_from = "input_images", image_upload)]
    image: String,
}

impl Run for LoadImage {
    type Output = (Image, Mask);

    fn run(self) -> Result<(Image, Mask)> {
        let loaded = files::load(&self.image)?;
        let mask = match loaded.alpha {
            Some(alpha) => 1.0 - alpha,
            None => Mask::empty(loaded.image.size()?.batch, 64, 64),
        };
        Ok((loaded.image, mask))
    }
}

impl Validate for LoadImage {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        must_exist(inputs)
    }
}

impl Fingerprint for LoadImage {
    fn fingerprint(inputs: &Constants) -> Result<Change> {
        content(inputs)
    }
}

/// A part of an image file that can serve as a mask.
#[derive(Choice, Clone, Copy)]
enum Channel {
    Alpha,
    Red,
    Green,
    Blue,
}

/// Loads one channel of an image as a mask. From the alpha channel, what is transparent is masked.
#[derive(Node)]
#[node(category = "mask", display_name = "Load Image (as Mask)", validate(image), fingerprint)]
pub(crate) struct LoadImageMask {
    #[input(choices_from = "input_images", image_upload)]
    image: String,
    channel: Channel,
}

impl Run for LoadImageMask {
    type Output = Mask;

    fn run(self) -> Result<Mask> {
        let loaded = files::load(&self.image)?;
        let index = match self.channel {
            Channel::Alpha => {
                let size = loaded.image.size()?;
                return Ok(match loaded.alpha {
                    Some(alpha) => 1.0 - Mask::from(alpha.slice(0, 0, 1)),
                    None => Mask::empty(1, size.height, size.width),
                });
            }
            Channel::Red => 0,
            Channel::Green => 1,
            Channel::Blue => 2,
        };
        Ok(loaded.image.slice(0, 0, 1).slice(3, index, index + 1).squeeze(3).into())
    }
}

impl Validate for LoadImageMask {
    fn validate(inputs: &Constants) -> Result<Vec<Finding>> {
        must_exist(inputs)
    }
}

impl Fingerprint for LoadImageMask {
    fn fingerprint(inputs: &Constants) -> Result<Change> {
        content(inputs)
    }
}

/// A name that comes over a link is checked when the node runs.
fn must_exist(inputs: &Constants) -> Result<Vec<Finding>> {
    Ok(match inputs.get::<String>("image")? {
        Some(name) if !files::exists(&name) => vec![Finding::on("image", format!("Invalid image file: {name}"))],
        _ => Vec::new(),
    })
}

/// The node runs again when the file is another one under the same name.
fn content(inputs: &Constants) -> Result<Change> {
    Ok(match inputs.get::<String>("image")? {
        Some(name) => files::fingerprint(&name)?.into(),
        None => Change::Always,
    })
}
