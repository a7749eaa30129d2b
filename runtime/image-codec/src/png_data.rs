//! The pixels of a PNG as its IDAT chunks hold them: filtered rows in one zlib stream. Bands of rows are filtered and
//! compressed side by side; since bands don't depend on the number of threads, neither does the file.

use crate::CodecError;
use crate::watched::GoOn;
use flate2::{Compress, Compression, FlushCompress, Status};
use rayon::prelude::*;

/// Bytes of pixels of one band, about. What a band can't refer to in the one before makes the file larger by less than a
/// thousandth.
const BAND: usize = 1 << 20;
/// Bytes between two questions whether to go on: a millisecond or two of work.
const PIECE: usize = 64 << 10;

/// One compressed band.
struct Band {
    deflated: Vec<u8>,
    checksum: u32,
    bytes: usize,
}

/// The zlib stream, in parts that make one IDAT chunk each. `row` is the bytes of a row, `step` those of a pixel.
pub(crate) fn compressed(
    pixels: &[u8],
    row: usize,
    step: usize,
    level: u8,
    go_on: GoOn<'_>,
) -> Result<Vec<Vec<u8>>, CodecError> {
    let band = (BAND / row).max(1) * row;
    let count = pixels.len().div_ceil(band);
    let bands: Result<Vec<Band>, CodecError> = (0..count)
        .into_par_iter()
        .map(|index| {
            let start = index * band;
            let end = (start + band).min(pixels.len());
            let above = if index == 0 { &[] } else { &pixels[start - row..start] };
            compress_band(above, &pixels[start..end], (row, step), level, index + 1 == count, go_on)
        })
        .collect();
    let mut bands = bands?;
    let checksum = bands.iter().fold(1, |sum, band| joined(sum, band.checksum, band.bytes));
    if let Some(first) = bands.first_mut() {
        // RFC 1950: deflate with a window of 32 kB; the level is only a remark, of which nothing depends.
        first.deflated.splice(0..0, [0x78, 0x5E]);
    }
    if let Some(last) = bands.last_mut() {
        last.deflated.extend(checksum.to_be_bytes());
    }
    Ok(bands.into_iter().map(|band| band.deflated).collect())
}

fn compress_band(
    above: &[u8],
    pixels: &[u8],
    (row, step): (usize, usize),
    level: u8,
    is_last: bool,
    go_on: GoOn<'_>,
) -> Result<Band, CodecError> {
    let filtered = if level == 0 { unfiltered(pixels, row) } else { Filters::new(row, step).filter(above, pixels) };
    let mut compress = Compress::new(level_of_zlib(level), false);
    let mut deflated = Vec::with_capacity(filtered.len() / 2 + 1024);
    let pieces = filtered.len().div_ceil(PIECE);
    for (index, piece) in filtered.chunks(PIECE).enumerate() {
        if !go_on() {
            return Err(CodecError::GivenUp);
        }
        // A flush between bands ends at a whole byte, so that the next one can follow.
        let flush = match (index + 1 == pieces, is_last) {
            (false, _) => FlushCompress::None,
            (true, false) => FlushCompress::Sync,
            (true, true) => FlushCompress::Finish,
        };
        deflate(&mut compress, piece, &mut deflated, flush)?;
    }
    let checksum = simd_adler32::adler32(&filtered.as_slice());
    Ok(Band { deflated, checksum, bytes: filtered.len() })
}

/// What takes the least time among what makes files no larger than zlib at that level, which is the one that people know: in
/// photographs and drawn gradients zlib-rs is there a level earlier, in two thirds of the time. Its first level compresses less
/// than zlib's, by nearly half.
fn level_of_zlib(level: u8) -> Compression {
    Compression::new(match level {
        1 => 2,
        4 => 3,
        5 => 4,
        level => level.into(),
    })
}

fn deflate(compress: &mut Compress, piece: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> Result<(), CodecError> {
    let start = compress.total_in();
    loop {
        let taken = usize::try_from(compress.total_in() - start).unwrap_or(usize::MAX);
        let rest = piece.get(taken..).unwrap_or_default();
        if out.capacity() - out.len() < 1024 {
            out.reserve(out.len() / 2 + PIECE);
        }
        let status = compress
            .compress_vec(rest, out, flush)
            .map_err(|error| CodecError::unwritable(crate::Format::Png, error))?;
        let all_taken = compress.total_in() - start == piece.len() as u64;
        // With room left over, nothing is held back but what the flush allows.
        if status == Status::StreamEnd || (all_taken && out.len() < out.capacity() && flush != FlushCompress::Finish) {
            return Ok(());
        }
    }
}

/// Every row behind the number of the filter "none".
fn unfiltered(pixels: &[u8], row: usize) -> Vec<u8> {
    let mut filtered = Vec::with_capacity(pixels.len() / row * (row + 1));
    for row in pixels.chunks_exact(row) {
        filtered.push(0);
        filtered.extend(row);
    }
    filtered
}

/// Filters each row by the method of the PNG specification (12.8) that leaves the smallest differences.
struct Filters {
    row: usize,
    step: usize,
    /// A row by each of the five filters.
    tried: [Vec<u8>; 5],
}

impl Filters {
    fn new(row: usize, step: usize) -> Filters {
        Filters { row, step, tried: std::array::from_fn(|_| vec![0; row]) }
    }

    fn filter(&mut self, above: &[u8], pixels: &[u8]) -> Vec<u8> {
        let zeros = vec![0; self.row];
        let mut above = if above.is_empty() { &zeros } else { above };
        let mut filtered = Vec::with_capacity(pixels.len() / self.row * (self.row + 1));
        for row in pixels.chunks_exact(self.row) {
            self.try_all(row, above);
            let best = (0u8..).zip(&self.tried).min_by_key(|(_, tried)| size_of_differences(tried));
            if let Some((number, tried)) = best {
                filtered.push(number);
                filtered.extend(tried);
            }
            above = row;
        }
        filtered
    }

    fn try_all(&mut self, row: &[u8], above: &[u8]) {
        let step = self.step.min(row.len());
        let [none, sub, up, average, paeth] = &mut self.tried;
        none.copy_from_slice(row);
        // The first pixel has none to its left.
        sub[..step].copy_from_slice(&row[..step]);
        difference(&row[step..], &row[..row.len() - step], &mut sub[step..]);
        difference(row, above, up);
        for ((out, value), above) in average[..step].iter_mut().zip(row).zip(above) {
            *out = value.wrapping_sub(above / 2);
        }
        for ((out, value), above) in paeth[..step].iter_mut().zip(row).zip(above) {
            *out = value.wrapping_sub(*above);
        }
        let (value, left) = (&row[step..], &row[..row.len() - step]);
        let (up, corner) = (&above[step..], &above[..row.len() - step]);
        for (((out, value), left), up) in average[step..].iter_mut().zip(value).zip(left).zip(up) {
            // The mean rounded down, without a wider type.
            *out = value.wrapping_sub((left & up) + ((left ^ up) >> 1));
        }
        for ((((out, value), left), up), corner) in paeth[step..].iter_mut().zip(value).zip(left).zip(up).zip(corner) {
            *out = value.wrapping_sub(nearest_to_plane(*left, *up, *corner));
        }
    }
}

fn difference(row: &[u8], other: &[u8], out: &mut [u8]) {
    for ((out, value), other) in out.iter_mut().zip(row).zip(other) {
        *out = value.wrapping_sub(*other);
    }
}

/// The predictor of Paeth: whichever of the three is nearest to left + up − corner.
#[inline(always)]
pub(crate) fn nearest_to_plane(left: u8, up: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(corner));
    let (from_left, from_up, from_corner) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    let of_two = if from_up <= from_corner { up } else { corner };
    if from_left <= from_up && from_left <= from_corner { left } else { of_two }
}

/// The sum of the differences, whatever their sign: small ones compress well.
fn size_of_differences(row: &[u8]) -> u64 {
    // Sums of 256 bytes fit 16 bits, which more of can be added at once.
    row.chunks(256)
        .map(|chunk| u64::from(chunk.iter().map(|byte| u16::from(byte.cast_signed().unsigned_abs())).sum::<u16>()))
        .sum()
}

/// The Adler-32 checksum of two parts one after the other, from those of both and the length of the second (RFC 1950).
fn joined(first: u32, second: u32, second_bytes: usize) -> u32 {
    const MODULUS: u64 = 65_521;
    let (low, high) = (|sum: u32| u64::from(sum & 0xFFFF), |sum: u32| u64::from(sum >> 16));
    let bytes = second_bytes as u64 % MODULUS;
    let sum = (low(first) + low(second) + MODULUS - 1) % MODULUS;
    let weighted = (high(first) + high(second) + bytes * (low(first) + MODULUS - 1)) % MODULUS;
    (weighted as u32) << 16 | sum as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_parts_make_that_of_the_whole() {
        let bytes: Vec<u8> = (0..200_000u32).map(|place| ((place * 7919) >> 5) as u8).collect();
        let of = |bytes: &[u8]| simd_adler32::adler32(&bytes);
        for cut in [0, 1, 65_521, 100_000, 200_000] {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(joined(of(first), of(second), second.len()), of(&bytes));
        }
    }

    #[test]
    fn the_nearest_to_the_plane_is_left_up_or_corner_in_this_order() {
        assert_eq!(nearest_to_plane(10, 20, 10), 20);
        assert_eq!(nearest_to_plane(20, 10, 10), 20);
        assert_eq!(nearest_to_plane(7, 7, 7), 7);
        assert_eq!(nearest_to_plane(0, 255, 128), 128);
    }
}
