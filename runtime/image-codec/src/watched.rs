//! Reading and writing that can be given up half-way.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use crate::CodecError;

/// Asked again and again while a picture is read or written: `false` gives it up.
pub type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);

/// Bytes between two questions. Short of a millisecond of work for the decoders.
const PIECE: usize = 16 << 10;

/// A file in memory whose reading ends with an error once nobody wants it any more.
pub(crate) struct Watched<'a> {
    cursor: Cursor<&'a [u8]>,
    go_on: GoOn<'a>,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(bytes: &'a [u8], go_on: GoOn<'a>) -> Self {
        Watched { cursor: Cursor::new(bytes), go_on }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(out.len());
        out[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !(self.go_on)() {
            return Err(io::Error::other("given up"));
        }
        let rest = self.cursor.fill_buf()?;
        Ok(&rest[..rest.len().min(PIECE)])
    }

    fn consume(&mut self, count: usize) {
        self.cursor.consume(count);
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.cursor.seek(to)
    }
}

/// A decoder may take the end of what it gets for the end of the file, so its answer is not asked.
pub(crate) fn unless_given_up<T>(go_on: GoOn<'_>, answer: Result<T, CodecError>) -> Result<T, CodecError> {
    if go_on() { answer } else { Err(CodecError::GivenUp) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;
    use crate::{DecodeLimits, decode_while, encode_png, encode_png_while};

    const SIDE: u32 = 512;

    /// Goes on so many times.
    fn times(count: u32) -> impl Fn() -> bool + Sync {
        let left = AtomicU32::new(count);
        move || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn noise() -> Vec<u8> {
        (0..SIDE * SIDE * 3).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn writing_ends_at_the_next_question() {
        let pixels = noise();
        let write = |go_on: GoOn<'_>| encode_png_while(&pixels, SIDE, SIDE, 3, 4, &[], go_on);
        assert!(matches!(write(&|| false), Err(CodecError::GivenUp)));
        assert!(matches!(write(&times(5)), Err(CodecError::GivenUp)));
        assert_eq!(write(&times(u32::MAX)).unwrap(), encode_png(&pixels, SIDE, SIDE, 3, 4, &[]).unwrap());
    }

    #[test]
    fn reading_ends_at_the_next_question() {
        let png = encode_png(&noise(), SIDE, SIDE, 3, 4, &[]).unwrap();
        let jpeg = crate::encode_jpeg(&noise(), SIDE, SIDE, 3, 95).unwrap();
        for file in [png, jpeg] {
            let read = |go_on: GoOn<'_>| decode_while(&file, &DecodeLimits::default(), go_on);
            assert!(matches!(read(&|| false), Err(CodecError::GivenUp)));
            assert!(matches!(read(&times(5)), Err(CodecError::GivenUp)));
            assert_eq!(read(&times(u32::MAX)).unwrap(), crate::decode(&file, &DecodeLimits::default()).unwrap());
        }
    }
}
