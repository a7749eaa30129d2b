//! `image`: image files of the tenant, through names that the caller was given.

use vivarium_image_codec::{CodecError, DecodeLimits, Frame, Samples, decode_while, encode_png_while};
use vivarium_tensor::{BinaryOp, DType, OpContext, Operand, Tensor, TensorError};
use wasmtime::component::Resource;

use super::{
    HostState, HostTensor,
    state::{clean, interrupted, limit_error, to_guest},
};
use crate::{
    bindings::vivarium::node::{
        image::{self, Decoded, Folder, SaveOptions, SavedFile},
        types::{Error, ErrorKind},
    },
    error::{CallError, CallErrorKind},
    services::{OutputFolder, SaveRequest},
};

impl image::Host for HostState {
    fn exists(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.designated.contains(&name) && self.call.services.image_exists(&name))
    }

    fn fingerprint(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(self
            .may_read(&name)
            .and_then(|()| self.call.services.image_fingerprint(&name).map_err(|error| to_guest(&error))))
    }

    fn load(&mut self, name: String) -> wasmtime::Result<Result<Decoded, Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let decoded = self.load_named(&name);
        self.hand_out(decoded)
    }

    fn decode(&mut self, data: Vec<u8>) -> wasmtime::Result<Result<Decoded, Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let decoded = self.charge_transfer(data.len() as u64).and_then(|()| self.decode_bytes(data, "the data"));
        self.hand_out(decoded)
    }

    fn encode(&mut self, image: Resource<HostTensor>, compress_level: u8) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        if self.interrupted() {
            return Ok(Err(interrupted()));
        }
        let image = self.tensor(&image)?;
        Ok(self.encode_one(&image, compress_level))
    }

    fn save(
        &mut self,
        images: Resource<HostTensor>,
        options: SaveOptions,
    ) -> wasmtime::Result<Result<Vec<SavedFile>, Error>> {
        let images = self.tensor(&images)?;
        Ok(self.save_batch(&images, &options))
    }
}

impl HostState {
    /// Gives pixels and opacity to the guest, or neither.
    fn hand_out(
        &mut self,
        decoded: Result<(Tensor, Option<Tensor>), Error>,
    ) -> wasmtime::Result<Result<Decoded, Error>> {
        let (pixels, alpha) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return Ok(Err(error)),
        };
        let pixels = match self.push_tensor(pixels)? {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        let alpha = match alpha.map(|alpha| self.push_tensor(alpha)).transpose()?.transpose() {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Decoded { pixels, alpha }))
    }

    fn may_read(&self, name: &str) -> Result<(), Error> {
        if self.designated.contains(name) {
            return Ok(());
        }
        Err(Error {
            kind: ErrorKind::PermissionDenied,
            message: format!(
                "{:?} is not among the inputs of this node; a node reads only the files it was given by name",
                clean(name, 200)
            ),
        })
    }

    fn load_named(&mut self, name: &str) -> Result<(Tensor, Option<Tensor>), Error> {
        self.may_read(name)?;
        let bytes = self.call.services.image_bytes(name).map_err(|error| to_guest(&error))?;
        self.decode_bytes(bytes, &format!("the image {:?}", clean(name, 200)))
    }

    fn decode_bytes(&mut self, bytes: Vec<u8>, what: &str) -> Result<(Tensor, Option<Tensor>), Error> {
        // As float32 the pixels take four times the bytes they have as 8-bit samples; all of it must fit into what this
        // call may still hold.
        let left = self.op().budget.effective_limit().saturating_sub(self.op().budget.used());
        let limits = DecodeLimits { max_bytes: left / 4, ..DecodeLimits::default() };
        let cx = self.op();
        let mut frames = decode_while(&bytes, &limits, &|| !cx.is_cancelled()).map_err(|error| Error {
            kind: match error {
                CodecError::TooLarge { .. } => ErrorKind::LimitExceeded,
                CodecError::GivenUp => ErrorKind::Interrupted,
                _ => ErrorKind::InvalidArgument,
            },
            message: format!("{what} cannot be read: {error}"),
        })?;
        // Of no use any more, while the pixels take the most memory.
        drop(bytes);
        if let Some(size) = frames.first().map(|first| (first.width, first.height)) {
            frames.retain(|frame| (frame.width, frame.height) == size);
        }
        self.stack(frames)
    }

    /// `[B,H,W,3]` pixels and, if any frame has transparency, `[B,H,W]` opacity.
    fn stack(&mut self, frames: Vec<Frame>) -> Result<(Tensor, Option<Tensor>), Error> {
        let Some((width, height)) = frames.first().map(|first| (u64::from(first.width), u64::from(first.height)))
        else {
            return Err(Error { kind: ErrorKind::InvalidArgument, message: "the image has no frame".into() });
        };
        let count = frames.len() as u64;
        let transparent = frames.iter().any(|frame| frame.alpha.is_some());
        let (mut colours, mut opacities) = (Vec::new(), Vec::new());
        for frame in frames {
            let opaque = || Samples::U8(vec![u8::MAX; frame.rgb.len() / 3]);
            opacities.extend(transparent.then(|| frame.alpha.unwrap_or_else(opaque)));
            colours.push(frame.rgb);
        }
        let pixels = floats(colours, &[count, height, width, 3], self.op());
        let pixels = pixels.map_err(|error| self.tensor_error(&error))?;
        if !transparent {
            return Ok((pixels, None));
        }
        let alpha = floats(opacities, &[count, height, width], self.op());
        let alpha = alpha.map_err(|error| self.tensor_error(&error))?;
        Ok((pixels, Some(alpha)))
    }

    fn encode_one(&mut self, image: &Tensor, compress_level: u8) -> Result<Vec<u8>, Error> {
        // The guest gets the numbers, if only 8 bits of each.
        self.may_read_values()?;
        self.may_show(image)?;
        let shape = image.shape();
        let invalid = |message: String| Error { kind: ErrorKind::InvalidArgument, message };
        let ([height, width, channels @ (1 | 3 | 4)] | [1, height, width, channels @ (1 | 3 | 4)]) = shape[..] else {
            return Err(invalid(format!("an image to encode is [H,W,C] with 1, 3 or 4 channels, not {shape:?}")));
        };
        let (width, height) = (png_side(width, "width")?, png_side(height, "height")?);
        // At 8 bits each, and hardly larger when it does not compress.
        self.charge_transfer(image.elements() as u64)?;
        let pixels = to_pixels(image, self.op()).map_err(|error| self.tensor_error(&error))?;
        png(&pixels, [width, height], channels, compress_level, &[], self.op()).map_err(|error| to_guest(&error))
    }

    fn save_batch(&mut self, images: &Tensor, options: &SaveOptions) -> Result<Vec<SavedFile>, Error> {
        self.may_show(images)?;
        let shape = images.shape();
        let invalid = |message: String| Error { kind: ErrorKind::InvalidArgument, message };
        let [count, height, width, channels @ (1 | 3 | 4)] = shape[..] else {
            return Err(invalid(format!("images to save are [B,H,W,C] with 1, 3 or 4 channels, not {shape:?}")));
        };
        let (width, height) = (png_side(width, "width")?, png_side(height, "height")?);
        let limit = self.call.limits.saved_files;
        self.saved_files = self.saved_files.saturating_add(count);
        if self.saved_files > limit {
            return Err(limit_error(format!("this node saves more than {limit} files (saved_files, limits.toml)")));
        }
        let folder = match options.folder {
            Folder::Output => OutputFolder::Output,
            Folder::Temp => OutputFolder::Temp,
        };
        let prefix = super::redact(options.filename_prefix.clone(), &self.secrets);
        let request =
            SaveRequest { folder, prefix: &prefix, width, height, count: usize::try_from(count).unwrap_or(usize::MAX) };
        let text: &[(String, String)] = if self.call.services.saves_metadata() { &options.text } else { &[] };
        let shown = |text: &String| super::redact(text.clone(), &self.secrets);
        let text: Vec<(String, String)> = text.iter().map(|(keyword, text)| (shown(keyword), shown(text))).collect();
        let cx = self.op().clone();
        let mut encode = |index: usize| -> Result<Vec<u8>, CallError> {
            let pixels = one_image(images, index, &cx)
                .map_err(|error| CallError::new(CallErrorKind::InvalidArgument, error.to_string()))?;
            png(&pixels, [width, height], channels, options.compress_level, &text, &cx)
        };
        let saved = self.call.services.save_images(&request, &mut encode).map_err(|error| to_guest(&error))?;
        Ok(saved
            .into_iter()
            .map(|file| SavedFile {
                filename: file.filename,
                subfolder: file.subfolder,
                folder: match file.folder {
                    OutputFolder::Output => "output".into(),
                    OutputFolder::Temp => "temp".into(),
                },
            })
            .collect())
    }
}

/// A PNG of `[width, height]`, unless the call is to end.
fn png(
    pixels: &[u8],
    [width, height]: [u32; 2],
    channels: u64,
    compress_level: u8,
    text: &[(String, String)],
    cx: &OpContext,
) -> Result<Vec<u8>, CallError> {
    let channels = u8::try_from(channels).unwrap_or(3);
    let go_on = || !cx.is_cancelled();
    let encoded = encode_png_while(pixels, width, height, channels, compress_level.min(9), text, &go_on);
    encoded.map_err(|error| match error {
        CodecError::GivenUp => CallError::interrupted(),
        error => CallError::new(CallErrorKind::InvalidArgument, format!("cannot encode as PNG: {error}")),
    })
}

/// Samples one after the other as 0..1. Bytes are converted by the operations of tensors, where and when they are needed.
fn floats(parts: Vec<Samples>, shape: &[u64], cx: &OpContext) -> Result<Tensor, TensorError> {
    let total: usize = parts.iter().map(Samples::len).sum();
    if parts.iter().all(|part| matches!(part, Samples::U8(_))) {
        let bytes = parts.into_iter().filter_map(|part| match part {
            Samples::U8(bytes) => Some(bytes),
            Samples::U16(_) => None,
        });
        // Of one part, which is the rule, nothing is copied.
        let bytes = bytes.reduce(|mut all, part| {
            all.extend(part);
            all
        });
        let bytes = Tensor::from_vec(shape, bytes.unwrap_or_default(), cx)?;
        return bytes.cast(DType::Float32, cx)?.binary(BinaryOp::Div, Operand::Scalar(255.0), cx);
    }
    // Until it is charged as a tensor: calls beside this one must not count on the same memory.
    let bytes = total as u64 * size_of::<f32>() as u64;
    let room = cx.budget.charge(bytes).map_err(|source| TensorError::Budget { op: "load-image", source })?;
    let mut values = vec![0.0_f32; total];
    let mut start = 0;
    for part in &parts {
        part.write_f32(&mut values[start..]);
        start += part.len();
    }
    drop(room);
    Tensor::from_vec(shape, values, cx)
}

fn png_side(length: u64, name: &str) -> Result<u32, Error> {
    match u32::try_from(length) {
        Ok(length) if (1..=65_535).contains(&length) => Ok(length),
        _ => Err(Error {
            kind: ErrorKind::InvalidArgument,
            message: format!("images to save have a {name} of {length}; 1 to 65535 can be saved"),
        }),
    }
}

fn one_image(images: &Tensor, index: usize, cx: &OpContext) -> Result<Vec<u8>, TensorError> {
    let start = i64::try_from(index).unwrap_or(i64::MAX);
    to_pixels(&images.slice(0, start, start.saturating_add(1), 1, cx)?, cx)
}

/// 8 bits per channel: clamped to 0..1, truncated as ComfyUI does.
pub(crate) fn to_pixels(image: &Tensor, cx: &OpContext) -> Result<Vec<u8>, TensorError> {
    image.to_pixels(cx)?.to_vec::<u8>(cx)
}
