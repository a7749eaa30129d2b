//! The pixels of a plain PNG file by two threads: one inflates, the other takes the filters out of the rows.
//!
//! Only what most large files are: 8 bits, RGB or RGBA, not interlaced. The header has been read and checked by the decoder
//! that reads everything else, and which also says what is wrong with a file that can't be read here.

use crate::png_data::nearest_to_plane;
use crate::watched::GoOn;
use fdeflate::Decompressor;
use image::{ColorType, DynamicImage, RgbImage, RgbaImage};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// With fewer bytes of pixels, a thread is not worth its start.
const WORTHWHILE: usize = 1 << 20;
/// Bytes of rows that one thread hands to the other, about: they stay in the cache that is near to both.
const BAND: usize = 256 << 10;
/// Bands that wait between the threads.
const WAITING: usize = 4;
/// What deflate may refer back to.
const WINDOW: usize = 32 << 10;
/// Bytes between two questions whether to go on: less than a millisecond of work.
const PIECE: usize = 16 << 10;

/// The picture, if it is of the kind above and nothing is wrong with it.
pub(crate) fn read(png: &[u8], (width, height): (u32, u32), color: ColorType, go_on: GoOn<'_>) -> Option<DynamicImage> {
    let step = plain_channels(png, color)?;
    let row = usize::try_from(width).ok()?.checked_mul(step)?;
    let bytes = row.checked_mul(usize::try_from(height).ok()?)?;
    if bytes < WORTHWHILE {
        return None;
    }
    let data = compressed_pixels(png)?;
    let (bands, filtered) = sync_channel(WAITING);
    let pixels = thread::scope(|scope| {
        let unfiltering = thread::Builder::new().name("png-rows".to_owned());
        let unfiltering = unfiltering.spawn_scoped(scope, move || match step {
            3 => unfiltered::<3>(&filtered, row, bytes),
            _ => unfiltered::<4>(&filtered, row, bytes),
        });
        let inflated = inflate(&data, row + 1, bytes / row, bands, go_on);
        let pixels = unfiltering.ok()?.join().ok()??;
        inflated.map(|()| pixels)
    })?;
    match step {
        3 => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
        _ => RgbaImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgba8),
    }
}

/// Bytes of a pixel, when the header says what is read here, and what comes of it has the same channels.
fn plain_channels(png: &[u8], color: ColorType) -> Option<usize> {
    const DEPTH_AND_REST: usize = 24;
    match (png.get(DEPTH_AND_REST..DEPTH_AND_REST + 5)?, color) {
        ([8, 2, 0, 0, 0], ColorType::Rgb8) => Some(3),
        ([8, 6, 0, 0, 0], ColorType::Rgba8) => Some(4),
        _ => None,
    }
}

/// The contents of the IDAT chunks, one after the other, if all of them are whole.
fn compressed_pixels(png: &[u8]) -> Option<Vec<&[u8]>> {
    const SIGNATURE: usize = 8;
    let mut rest = png.get(SIGNATURE..)?;
    let mut data = Vec::new();
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (named, after) = after.split_at_checked(4 + u32::from_be_bytes(*length) as usize)?;
        let (checksum, after) = after.split_first_chunk::<4>()?;
        match named.split_at_checked(4)? {
            (b"IDAT", part) => {
                if crc32fast::hash(named) != u32::from_be_bytes(*checksum) {
                    return None;
                }
                data.push(part);
            }
            // They follow each other without another chunk between them.
            _ if data.is_empty() => {}
            _ => return Some(data),
        }
        rest = after;
    }
}

/// Sends `rows` filtered rows of `line` bytes, some at a time.
fn inflate(data: &[&[u8]], line: usize, rows: usize, bands: SyncSender<Vec<u8>>, go_on: GoOn<'_>) -> Option<()> {
    let mut inflater = Decompressor::new();
    inflater.ignore_adler32();
    let mut pieces = data.iter().flat_map(|part| part.chunks(PIECE));
    let mut input: &[u8] = &[];
    let band = (BAND / line).clamp(1, rows) * line;
    let mut buffer = vec![0; WINDOW + band];
    let (mut start, mut left) = (0, rows * line);
    while left > 0 {
        let end = start + band.min(left);
        let mut place = start;
        while place < end {
            let (taken, written) = inflater.read(input, &mut buffer[..end], place, false).ok()?;
            if (taken, written) == (0, 0) {
                // All that it had is used up.
                input = pieces.next().filter(|_| input.is_empty() && go_on())?;
            }
            input = &input[taken..];
            place += written;
        }
        bands.send(buffer[start..end].to_vec()).ok()?;
        left -= end - start;
        start = end.min(WINDOW);
        buffer.copy_within(end - start..end, 0);
    }
    Some(())
}

/// The pixels of filtered rows, each of which begins with the number of its filter (PNG specification, 9.2). `row` is the
/// bytes of a row without it, `bytes` those of all rows.
fn unfiltered<const STEP: usize>(bands: &Receiver<Vec<u8>>, row: usize, bytes: usize) -> Option<Vec<u8>> {
    let mut pixels = Vec::with_capacity(bytes);
    let first = vec![0; row];
    for band in bands {
        for line in band.chunks_exact(row + 1) {
            let done = pixels.len();
            pixels.resize(done + row, 0);
            let (before, target) = pixels.split_at_mut(done);
            let above = if done == 0 { &first } else { &before[done - row..] };
            let (filter, differences) = line.split_first()?;
            unfilter::<STEP>(*filter, differences, above, target)?;
        }
    }
    (pixels.len() == bytes).then_some(pixels)
}

fn unfilter<const STEP: usize>(filter: u8, differences: &[u8], above: &[u8], out: &mut [u8]) -> Option<()> {
    let pixels = out.as_chunks_mut::<STEP>().0.iter_mut().zip(differences.as_chunks::<STEP>().0);
    let pixels = pixels.zip(above.as_chunks::<STEP>().0);
    let (mut left, mut corner) = ([0; STEP], [0; STEP]);
    match filter {
        0 => out.copy_from_slice(differences),
        1 => {
            for ((out, difference), _) in pixels {
                left = std::array::from_fn(|channel| difference[channel].wrapping_add(left[channel]));
                *out = left;
            }
        }
        2 => {
            for ((out, difference), up) in out.iter_mut().zip(differences).zip(above) {
                *out = difference.wrapping_add(*up);
            }
        }
        3 => {
            for ((out, difference), up) in pixels {
                left = std::array::from_fn(|channel| {
                    let mean = (u16::from(left[channel]) + u16::from(up[channel])) / 2;
                    difference[channel].wrapping_add(mean as u8)
                });
                *out = left;
            }
        }
        4 => {
            for ((out, difference), up) in pixels {
                left = std::array::from_fn(|channel| {
                    let nearest = nearest_to_plane(left[channel], up[channel], corner[channel]);
                    difference[channel].wrapping_add(nearest)
                });
                corner = *up;
                *out = left;
            }
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::encode_png;

    #[test]
    fn large_plain_files_are_read_here_and_damaged_or_unwanted_ones_are_not() {
        let pixels: Vec<u8> = (0..700 * 700 * 3u32).map(|place| (place / 5) as u8).collect();
        let file = encode_png(&pixels, 700, 700, 3, 4, &[]).unwrap();
        let here = |png: &[u8], go_on: GoOn<'_>| read(png, (700, 700), ColorType::Rgb8, go_on);
        assert!(here(&file, &|| true).unwrap().into_bytes() == pixels);
        assert!(here(&file, &|| false).is_none());
        assert!(here(&file[..file.len() / 2], &|| true).is_none());
        assert!(read(&file, (700, 700), ColorType::Rgba8, &|| true).is_none());
    }
}
