//! `progress`: how far a node is, with a picture if somebody watches.

use vivarium_tensor::Tensor;
use wasmtime::component::Resource;

use super::{HostState, HostTensor, image::to_pixels, state::interrupted};
use crate::{
    bindings::vivarium::node::{
        progress,
        types::{Error, ErrorKind},
    },
    services::PreviewPixels,
};

/// A text beside a node is cut here, bytes.
const TEXT_BYTES: usize = 4096;

/// A preview larger than this is refused; the host scales it down anyway.
const PREVIEW_PIXELS: u64 = 64 << 20;

impl progress::Host for HostState {
    fn update(
        &mut self,
        value: f64,
        max: f64,
        preview: Option<Resource<HostTensor>>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        if !(value.is_finite() && max.is_finite()) {
            let message = format!("progress {value} of {max} is not a pair of finite numbers");
            return Ok(Err(Error { kind: ErrorKind::InvalidArgument, message }));
        }
        let pixels = match preview {
            Some(handle) if self.call.services.wants_preview() => match self.preview(&self.tensor(&handle)?) {
                Ok(pixels) => Some(pixels),
                Err(error) => return Ok(Err(error)),
            },
            _ => None,
        };
        self.call.services.progress(&self.call.node_id, value, max, pixels);
        Ok(Ok(()))
    }

    fn text(&mut self, text: String) -> wasmtime::Result<Result<(), Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let text = self.shown(&text, TEXT_BYTES);
        self.call.services.progress_text(&self.call.node_id, text);
        Ok(Ok(()))
    }
}

impl HostState {
    fn preview(&mut self, image: &Tensor) -> Result<PreviewPixels, Error> {
        self.may_show(image)?;
        let shape = image.shape();
        let (height, width) = match shape[..] {
            [height, width, 3] | [1, height, width, 3] => (height, width),
            _ => {
                let message = format!("a preview is [H,W,3] or [1,H,W,3], not {shape:?}");
                return Err(Error { kind: ErrorKind::InvalidArgument, message });
            }
        };
        if height.saturating_mul(width) > PREVIEW_PIXELS || height == 0 || width == 0 {
            let message = format!("a preview of {width}×{height} is empty or larger than {PREVIEW_PIXELS} pixels");
            return Err(Error { kind: ErrorKind::InvalidArgument, message });
        }
        let rgb = to_pixels(image, self.op()).map_err(|error| self.tensor_error(&error))?;
        let side = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
        Ok(PreviewPixels { rgb, width: side(width), height: side(height) })
    }
}
