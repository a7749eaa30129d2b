//! The text chunks of a PNG file.

use crate::{CodecError, Format};
use png::chunk::{self, ChunkType};

/// Keyword and text of the text chunks, in the order of their kinds: Latin-1, compressed, UTF-8. `max_bytes` bounds each
/// compressed text after decompression. Only chunks before the pixels are seen, where ComfyUI writes them.
pub fn png_text(bytes: &[u8], max_bytes: usize) -> Result<Vec<(String, String)>, CodecError> {
    let unreadable = |error: png::DecodingError| CodecError::unreadable(Format::Png, error);
    let limits = png::Limits { bytes: max_bytes.max(1 << 20) };
    let decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    let reader = decoder.read_info().map_err(unreadable)?;
    let info = reader.info();
    let mut found = Vec::new();
    for chunk in &info.uncompressed_latin1_text {
        found.push((chunk.keyword.clone(), chunk.text.clone()));
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(max_bytes).map_err(unreadable)?;
        found.push((chunk.keyword.clone(), chunk.get_text().map_err(unreadable)?));
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(max_bytes).map_err(unreadable)?;
        found.push((chunk.keyword.clone(), chunk.get_text().map_err(unreadable)?));
    }
    Ok(found)
}

/// A chunk as it stands in a file.
pub(crate) struct RawChunk {
    pub(crate) kind: ChunkType,
    pub(crate) data: Vec<u8>,
}

/// The chunk for a text: tEXt where Latin-1 suffices, else iTXt. Neither is compressed.
pub(crate) fn text_chunk(keyword: &str, text: &str) -> Result<RawChunk, CodecError> {
    let name = latin1(keyword).filter(|name| is_keyword(name)).ok_or_else(|| {
        let message = format!("has the keyword {keyword:?}; it must be 1 to 79 printable Latin-1 characters");
        CodecError::argument("text", message)
    })?;
    let mut data = name;
    data.push(0);
    let kind = match latin1(text).filter(|text| !text.contains(&0)) {
        Some(text) => {
            data.extend(text);
            chunk::tEXt
        }
        None => {
            // Not compressed (flag and method), no language, no translated keyword.
            data.extend([0, 0, 0, 0]);
            data.extend(text.as_bytes());
            chunk::iTXt
        }
    };
    if data.len() > i32::MAX as usize {
        return Err(CodecError::argument("text", format!("under {keyword:?} is longer than a PNG chunk can be")));
    }
    Ok(RawChunk { kind, data })
}

/// The text chunks of a PNG file as they are, wherever they stand. Stops at the first damage.
pub(crate) fn raw_text_chunks(bytes: &[u8]) -> Vec<RawChunk> {
    const SIGNATURE: usize = 8;
    let mut found = Vec::new();
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, kind @ ..] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (Some(data), Some(next)) = (tail.get(..length), tail.get(length.saturating_add(4)..)) else {
            break;
        };
        let kind = ChunkType(kind);
        if matches!(kind, chunk::tEXt | chunk::zTXt | chunk::iTXt) {
            found.push(RawChunk { kind, data: data.to_vec() });
        }
        rest = next;
    }
    found
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}

fn is_keyword(name: &[u8]) -> bool {
    let printable = |byte: &u8| matches!(byte, 32..=126 | 161..=255);
    (1..=79).contains(&name.len())
        && name.iter().all(printable)
        && name.first() != Some(&b' ')
        && name.last() != Some(&b' ')
}
