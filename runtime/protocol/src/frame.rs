//! Binary messages on the WebSocket: previews and progress texts. All integers are big-endian.
//!
//! The ids are those that clients parse: 1 preview, 3 text, 4 preview with metadata. Id 2 (a preview not yet encoded) is
//! internal to ComfyUI and never sent, so it is unknown here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ProtocolError;

const PREVIEW_IMAGE: u32 = 1;
const TEXT: u32 = 3;
const PREVIEW_IMAGE_WITH_METADATA: u32 = 4;

/// How the image of a preview is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageType {
    /// 1 on the wire.
    #[serde(rename = "image/jpeg")]
    Jpeg,
    /// 2 on the wire.
    #[serde(rename = "image/png")]
    Png,
}

impl ImageType {
    /// `image/jpeg` or `image/png`.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Jpeg => 1,
            Self::Png => 2,
        }
    }
}

/// Which node a preview belongs to. Sent only to clients that announced `supports_preview_metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewMetadata {
    /// The running node.
    pub node_id: String,
    /// Its prompt.
    pub prompt_id: String,
    /// The node beside which UIs show it.
    pub display_node_id: String,
    /// The node whose expansion made it, if any.
    pub parent_node_id: Option<String>,
    /// The node of the posted prompt that it stems from.
    pub real_node_id: String,
    /// How the image is encoded.
    pub image_type: ImageType,
}

/// One binary message.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A preview for clients that know no metadata (id 1).
    PreviewImage {
        /// How it is encoded.
        image_type: ImageType,
        /// The encoded image.
        image: Arc<[u8]>,
    },
    /// A text shown on a node while it runs (id 3).
    Text {
        /// Only for clients that announced `supports_progress_text_metadata`: the form then differs.
        prompt_id: Option<String>,
        /// The node.
        node_id: String,
        /// What to show.
        text: String,
    },
    /// A preview with its node (id 4).
    PreviewImageWithMetadata {
        /// The node, and how the image is encoded.
        metadata: PreviewMetadata,
        /// The encoded image.
        image: Arc<[u8]>,
    },
}

impl Frame {
    /// The bytes of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::PreviewImage { image_type, image } => {
                let mut out = Vec::with_capacity(8 + image.len());
                put_u32(&mut out, PREVIEW_IMAGE);
                put_u32(&mut out, image_type.code());
                out.extend_from_slice(image);
                out
            }
            Self::Text { prompt_id, node_id, text } => {
                let mut out = Vec::with_capacity(12 + node_id.len() + text.len());
                put_u32(&mut out, TEXT);
                if let Some(prompt_id) = prompt_id {
                    put_sized(&mut out, prompt_id.as_bytes());
                }
                put_sized(&mut out, node_id.as_bytes());
                out.extend_from_slice(text.as_bytes());
                out
            }
            Self::PreviewImageWithMetadata { metadata, image } => {
                // A struct of texts always serialises.
                let json = serde_json::to_vec(metadata).unwrap_or_default();
                let mut out = Vec::with_capacity(8 + json.len() + image.len());
                put_u32(&mut out, PREVIEW_IMAGE_WITH_METADATA);
                put_sized(&mut out, &json);
                out.extend_from_slice(image);
                out
            }
        }
    }

    /// Reads a message. A text is read in the form without a prompt id; see [`Frame::decode_negotiated`].
    ///
    /// # Errors
    /// Names the part that is cut off, unknown or not UTF-8.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProtocolError> {
        Self::decode_negotiated(bytes, false)
    }

    /// Reads a message; `text_has_prompt_id` says whether this client announced `supports_progress_text_metadata`, since the
    /// two forms of a text cannot be told apart by their bytes.
    ///
    /// # Errors
    /// As [`Frame::decode`].
    pub fn decode_negotiated(bytes: &[u8], text_has_prompt_id: bool) -> Result<Self, ProtocolError> {
        let mut rest = bytes;
        match take_u32(&mut rest, "event id")? {
            PREVIEW_IMAGE => {
                let image_type = match take_u32(&mut rest, "image type")? {
                    1 => ImageType::Jpeg,
                    2 => ImageType::Png,
                    value => {
                        return Err(ProtocolError::FrameUnknown { what: "image type", value });
                    }
                };
                Ok(Self::PreviewImage { image_type, image: rest.into() })
            }
            TEXT => {
                let prompt_id = if text_has_prompt_id {
                    Some(utf8(take_sized(&mut rest, "prompt id")?, "prompt id")?)
                } else {
                    None
                };
                let node_id = utf8(take_sized(&mut rest, "node id")?, "node id")?;
                Ok(Self::Text { prompt_id, node_id, text: utf8(rest, "text")? })
            }
            PREVIEW_IMAGE_WITH_METADATA => {
                let json = take_sized(&mut rest, "metadata")?;
                let metadata = serde_json::from_slice(json)
                    .map_err(|error| ProtocolError::FrameText { what: "metadata", reason: error.to_string() })?;
                Ok(Self::PreviewImageWithMetadata { metadata, image: rest.into() })
            }
            value => Err(ProtocolError::FrameUnknown { what: "event id", value }),
        }
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Ids and metadata are far below 4 GiB; a longer one is cut rather than sent with a wrong length.
fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    put_u32(out, length);
    out.extend_from_slice(&bytes[..length as usize]);
}

fn take<'a>(rest: &mut &'a [u8], needed: usize, what: &'static str) -> Result<&'a [u8], ProtocolError> {
    let Some((head, tail)) = rest.split_at_checked(needed) else {
        return Err(ProtocolError::FrameTruncated { what, needed, available: rest.len() });
    };
    *rest = tail;
    Ok(head)
}

fn take_u32(rest: &mut &[u8], what: &'static str) -> Result<u32, ProtocolError> {
    let bytes = take(rest, 4, what)?;
    Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
}

fn take_sized<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], ProtocolError> {
    let length = take_u32(rest, what)?;
    take(rest, length as usize, what)
}

fn utf8(bytes: &[u8], what: &'static str) -> Result<String, ProtocolError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(ProtocolError::FrameText { what, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> PreviewMetadata {
        PreviewMetadata {
            node_id: "6.0.0.1".to_owned(),
            prompt_id: "p".to_owned(),
            display_node_id: "6".to_owned(),
            parent_node_id: Some("6".to_owned()),
            real_node_id: "6".to_owned(),
            image_type: ImageType::Jpeg,
        }
    }

    #[test]
    fn frames_have_the_bytes_that_clients_parse() {
        let image: Arc<[u8]> = Arc::from(&b"\xff\xd8"[..]);
        let preview = Frame::PreviewImage { image_type: ImageType::Png, image: image.clone() };
        assert_eq!(preview.encode(), b"\0\0\0\x01\0\0\0\x02\xff\xd8");
        let text = Frame::Text { prompt_id: None, node_id: "7".to_owned(), text: "hé".to_owned() };
        assert_eq!(text.encode(), "\0\0\0\x03\0\0\0\x017hé".as_bytes());
        let rich = Frame::PreviewImageWithMetadata { metadata: metadata(), image };
        let json = r#"{"node_id":"6.0.0.1","prompt_id":"p","display_node_id":"6","parent_node_id":"6","real_node_id":"6","image_type":"image/jpeg"}"#;
        let mut expected = vec![0, 0, 0, 4, 0, 0, 0, json.len() as u8];
        expected.extend_from_slice(json.as_bytes());
        expected.extend_from_slice(b"\xff\xd8");
        assert_eq!(rich.encode(), expected);
        for frame in [preview, text, rich] {
            assert_eq!(Frame::decode(&frame.encode()).unwrap(), frame);
        }
    }

    #[test]
    fn text_with_prompt_id_reads_back_when_negotiated() {
        let text = Frame::Text { prompt_id: Some("p".to_owned()), node_id: "7".to_owned(), text: "t".to_owned() };
        assert_eq!(Frame::decode_negotiated(&text.encode(), true).unwrap(), text);
    }

    #[test]
    fn a_length_beyond_the_frame_is_an_error_not_an_allocation() {
        let error = Frame::decode(b"\0\0\0\x03\xff\xff\xff\xffx").unwrap_err();
        assert_eq!(error.to_string(), "binary frame ends too early: node id needs 4294967295 bytes, 1 are left");
        assert!(Frame::decode(b"\0\0\0\x02").is_err());
        assert!(Frame::decode(b"").is_err());
    }

    proptest! {
        #[test]
        fn decoding_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), negotiated: bool) {
            if let Ok(frame) = Frame::decode_negotiated(&bytes, negotiated) {
                prop_assert_eq!(Frame::decode_negotiated(&frame.encode(), negotiated).unwrap(), frame);
            }
        }
    }
}
