//! Handles that are none, are no longer, or are something else.
// Making a handle out of a number is what this file is for; the host has to survive it.
#![allow(unsafe_code)]

use vivarium_node::bindings::vivarium::node::{image, tensors::Tensor as Raw, values};
use vivarium_node::prelude::*;

/// Uses handles in ways that no honest guest can.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileHandle {
    /// forged, dropped, twice, object
    #[input(default = "forged")]
    how: String,
    /// What is taken for a handle when it is forged.
    #[input(optional, default = 4711, min = 0)]
    number: u64,
}

impl Run for HostileHandle {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let shape = match self.how.as_str() {
            "forged" => tensor_at(u32::try_from(self.number).unwrap_or(u32::MAX)).shape(),
            "dropped" => {
                let tensor = Raw::zeros(&[1], Dtype::Uint8)?;
                let number = tensor.handle();
                drop(tensor);
                tensor_at(number).shape()
            }
            "twice" => {
                let tensor = Raw::zeros(&[1], Dtype::Uint8)?;
                drop(tensor_at(tensor.handle()));
                drop(tensor);
                Vec::new()
            }
            "object" => {
                let value = values::Value { json: "1".to_owned(), handles: Vec::new() };
                let object = values::Object::create("HOSTILE_OBJECT", value)?;
                tensor_at(object.handle()).shape()
            }
            other => return Err(Error::invalid(format!("no way `{other}`"))),
        };
        Ok(Ui::text(format!("GOT THROUGH: {shape:?}")))
    }
}

fn tensor_at(number: u32) -> Raw {
    // SAFETY: none of this guest's memory depends on it; whether there is such a handle is for the host to say.
    unsafe { Raw::from_handle(number) }
}

/// Keeps a tensor beyond its end, and hands out the number of its handle.
#[derive(Node)]
#[node(category = "testing/hostile")]
pub(crate) struct HostileKeep {}

impl Run for HostileKeep {
    type Output = u64;

    fn run(self) -> Result<u64> {
        Ok(Raw::zeros(&[1], Dtype::Uint8)?.take_handle().into())
    }
}

/// Sends lists of lists: few bytes for the guest, many for a host that takes them in.
#[derive(Node)]
#[node(category = "testing/hostile", output_node)]
pub(crate) struct HostileLists {
    #[input(optional, default = 1_000_000, min = 1)]
    count: usize,
    /// Of handles instead of texts.
    #[input(optional, default = false)]
    handles: bool,
}

impl Run for HostileLists {
    type Output = Ui;

    fn run(self) -> Result<Ui> {
        let tensor = Raw::zeros(&[1, 1, 1], Dtype::Float32)?;
        if self.handles {
            let joined = Raw::cat(&vec![&tensor; self.count], 0)?;
            return Ok(Ui::text(format!("GOT THROUGH: {:?}", joined.shape())));
        }
        let options = image::SaveOptions {
            folder: image::Folder::Temp,
            filename_prefix: "lists".to_owned(),
            compress_level: 0,
            text: vec![(String::new(), String::new()); self.count],
        };
        image::save(&tensor, &options)?;
        Ok(Ui::text(format!("GOT THROUGH with {} texts", self.count)))
    }
}
