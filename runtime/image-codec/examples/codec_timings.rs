//! How long a 2048² RGB picture takes. Run with `--release`.
#![allow(clippy::unwrap_used)]

use std::time::Instant;
use vivarium_image_codec::{CodecError, DecodeLimits, WebpQuality, decode, encode_jpeg, encode_png, encode_webp};

const SIDE: u32 = 2048;

fn main() -> Result<(), CodecError> {
    let pixels = picture();
    let time = |name: &str, work: &dyn Fn() -> Result<Vec<u8>, CodecError>| {
        let start = Instant::now();
        let file = work()?;
        println!("{name:24} {:8.1} ms {:9} bytes", start.elapsed().as_secs_f64() * 1e3, file.len());
        let start = Instant::now();
        let frames = decode(&file, &DecodeLimits::default())?;
        println!("  decode {} frame         {:8.1} ms", frames.len(), start.elapsed().as_secs_f64() * 1e3);
        Ok::<_, CodecError>(())
    };
    for level in [0, 1, 4, 6, 9] {
        time(&format!("png level {level}"), &|| encode_png(&pixels, SIDE, SIDE, 3, level, &[]))?;
    }
    time("jpeg 90", &|| encode_jpeg(&pixels, SIDE, SIDE, 3, 90))?;
    time("webp 90", &|| encode_webp(&pixels, SIDE, SIDE, 3, WebpQuality::Lossy(90)))
}

/// Soft shapes with a little grain, as a photograph has.
fn picture() -> Vec<u8> {
    let mut state = 1u32;
    let mut pixels = Vec::with_capacity((SIDE * SIDE * 3) as usize);
    for y in 0..SIDE {
        for x in 0..SIDE {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = (state >> 29) as f32;
            let (u, v) = (x as f32 / 300.0, y as f32 / 200.0);
            for channel in 0..3 {
                let shade = (u + channel as f32).sin() * (v * 1.3 + u * 0.2).cos();
                pixels.push((127.0 + 110.0 * shade + grain) as u8);
            }
        }
    }
    pixels
}
