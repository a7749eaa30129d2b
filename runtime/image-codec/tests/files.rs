//! Files in, pixels out, and back; damaged, oversized and odd ones too.
#![allow(clippy::unwrap_used)]

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat, RgbaImage};
use proptest::prelude::*;
use std::io::Cursor;
use vivarium_image_codec::*;

fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

fn gradient(width: u32, height: u32, channels: u32) -> Vec<u8> {
    (0..width * height * channels).map(|index| (index * 7 % 251) as u8).collect()
}

#[test]
fn png_keeps_pixels_at_every_level() {
    for channels in [1u8, 3, 4] {
        let pixels = gradient(13, 7, channels.into());
        for level in 0..=9 {
            let file = encode_png(&pixels, 13, 7, channels, level, &[]).unwrap();
            let frames = decode(&file, &limits()).unwrap();
            assert_eq!(frames.len(), 1);
            let rgba = frames[0].to_rgba8();
            for (pixel, source) in rgba.chunks(4).zip(pixels.chunks(channels.into())) {
                let wanted = match source {
                    [grey] => [*grey, *grey, *grey, 255],
                    [red, green, blue] => [*red, *green, *blue, 255],
                    _ => [source[0], source[1], source[2], source[3]],
                };
                assert_eq!(pixel, wanted);
            }
            assert_eq!(frames[0].alpha.is_some(), channels == 4);
        }
    }
    assert!(encode_png(&gradient(2, 2, 3), 2, 2, 3, 10, &[]).is_err());
    assert!(encode_png(&gradient(2, 2, 3), 3, 2, 3, 1, &[]).is_err());
    assert!(encode_png(&[], 0, 0, 3, 1, &[]).is_err());
}

/// Bands are compressed apart; rows refer to those above them across their borders.
#[test]
fn png_keeps_pixels_of_pictures_of_several_bands() {
    let noise = |place: u32| (place.wrapping_mul(2_654_435_761) >> 21) as u8;
    let soft = |place: u32| (place / 5 % 256) as u8;
    for (width, height, channels) in [(700, 1100, 3), (2_100_000, 2, 1), (1, 70_001, 4), (1024, 1024, 1)] {
        for value in [noise, soft] {
            let pixels: Vec<u8> = (0..width * height * u32::from(channels)).map(value).collect();
            for level in [0, 1, 4] {
                let file = encode_png(&pixels, width, height, channels, level, &[]).unwrap();
                let read = image::load_from_memory_with_format(&file, ImageFormat::Png).unwrap();
                assert_eq!((read.width(), read.height()), (width, height));
                assert!(read.into_bytes() == pixels, "{width}x{height}x{channels} at level {level}");
            }
        }
    }
}

/// Large plain files are inflated by one thread while another takes the filters out.
#[test]
fn large_png_files_are_read_as_by_the_general_decoder() {
    let value = |place: u32| ((place / 7 % 256) ^ (place.wrapping_mul(2_654_435_761) >> 29)) as u8;
    for (width, height, channels) in [(700, 1100, 3), (600, 500, 4), (60_001, 7, 3), (5, 60_000, 4)] {
        let pixels: Vec<u8> = (0..width * height * u32::from(channels)).map(value).collect();
        for level in [0, 1, 6] {
            let file = encode_png(&pixels, width, height, channels, level, &[]).unwrap();
            let frame = decode_first(&file, &limits()).unwrap();
            let read = image::load_from_memory_with_format(&file, ImageFormat::Png).unwrap();
            assert!(frame.to_rgba8() == read.to_rgba8().into_raw(), "{width}x{height}x{channels} at level {level}");
        }
    }
}

/// Every filter of the specification in rows of its own, which our encoder would not choose for them.
#[test]
fn every_filter_of_a_large_png_is_taken_out() {
    const SIDE: u32 = 700;
    for channels in [3, 4] {
        let pixels = gradient(SIDE, SIDE, channels);
        for filter in [png::Filter::NoFilter, png::Filter::Sub, png::Filter::Up, png::Filter::Avg, png::Filter::Paeth] {
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(&mut file, SIDE, SIDE);
            encoder.set_color(if channels == 3 { png::ColorType::Rgb } else { png::ColorType::Rgba });
            encoder.set_filter(filter);
            encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
            let frame = decode_first(&file, &limits()).unwrap();
            let read = image::load_from_memory_with_format(&file, ImageFormat::Png).unwrap();
            assert!(read.as_bytes() == pixels);
            assert!(frame.to_rgba8() == read.to_rgba8().into_raw(), "{filter:?} with {channels} channels");
        }
    }
}

/// What the fast way can't read is read, or refused in its words, by the general one.
#[test]
fn large_damaged_png_files_are_refused() {
    let file = encode_png(&gradient(700, 700, 3), 700, 700, 3, 1, &[]).unwrap();
    let middle = file.len() / 2;
    let mut damaged = file.clone();
    damaged[middle] ^= 0x55;
    for broken in [&damaged, &file[..middle]] {
        let error = decode_first(broken, &limits()).unwrap_err();
        assert!(matches!(error, CodecError::Unreadable { format: Format::Png, .. }), "{error}");
    }
}

#[test]
fn texts_are_latin1_chunks_where_possible() {
    let long = "x".repeat(100_000);
    let texts = [("prompt", "{\"a\": 1}"), ("workflow", "ä ü"), ("note", "日本"), ("long", long.as_str())];
    let texts: Vec<(String, String)> = texts.map(|(key, text)| (key.into(), text.into())).to_vec();
    let file = encode_png(&gradient(4, 4, 3), 4, 4, 3, 4, &texts).unwrap();
    let mut read = png_text(&file, 1 << 20).unwrap();
    let mut wanted = texts.clone();
    read.sort();
    wanted.sort();
    assert_eq!(read, wanted);
    let count = |kind: &[u8]| file.windows(4).filter(|window| *window == kind).count();
    assert_eq!((count(b"tEXt"), count(b"iTXt"), count(b"zTXt")), (3, 1, 0));
    for keyword in ["", " x", "x\0", "日", &"k".repeat(80)] {
        assert!(encode_png(&[0], 1, 1, 1, 1, &[(keyword.to_string(), String::new())]).is_err());
    }
}

#[test]
fn jpeg_and_webp_come_back_nearly() {
    let pixels = vec![90u8; 32 * 16 * 3];
    for file in [
        encode_jpeg(&pixels, 32, 16, 3, 90).unwrap(),
        encode_webp(&pixels, 32, 16, 3, WebpQuality::Lossy(90)).unwrap(),
        encode_webp(&pixels, 32, 16, 3, WebpQuality::Lossless).unwrap(),
    ] {
        let frame = decode_first(&file, &limits()).unwrap();
        assert_eq!((frame.width, frame.height), (32, 16));
        assert!(frame.rgb.to_u8().iter().all(|value| value.abs_diff(90) < 4));
    }
    let rgba = gradient(5, 5, 4);
    let file = encode_webp(&rgba, 5, 5, 4, WebpQuality::Lossless).unwrap();
    let alpha: Vec<u8> = rgba.iter().skip(3).step_by(4).copied().collect();
    assert_eq!(decode_first(&file, &limits()).unwrap().alpha, Some(Samples::U8(alpha)));
    assert!(encode_webp(&vec![0; 16_384 * 3], 16_384, 1, 3, WebpQuality::Lossy(50)).is_err());
}

#[test]
fn deep_samples_keep_their_depth() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0x12, 0x34, 0xff, 0xff]).unwrap();
    writer.finish().unwrap();
    let frame = decode_first(&file, &limits()).unwrap();
    assert_eq!(frame.rgb, Samples::U16(vec![0x1234, 0x1234, 0x1234, 0xffff, 0xffff, 0xffff]));
    assert_eq!(frame.rgb.to_f32()[3], 1.0);
    assert!(probe(&file).unwrap().is_deep);
}

#[test]
fn a_palette_with_transparency_gives_alpha() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
    encoder.set_trns(vec![0, 128]);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0, 1]).unwrap();
    writer.finish().unwrap();
    let frame = decode_first(&file, &limits()).unwrap();
    assert_eq!(frame.to_rgba8(), [10, 20, 30, 0, 40, 50, 60, 128]);
}

#[test]
fn exif_orientation_turns_the_picture() {
    let mut file = encode_jpeg(&gradient(24, 8, 3), 24, 8, 3, 95).unwrap();
    // APP1 with one entry: orientation 6, a quarter turn to the right.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut segment = vec![0xff, 0xe1];
    segment.extend(((exif.len() + 2) as u16).to_be_bytes());
    segment.extend(exif);
    file.splice(2..2, segment);
    let info = probe(&file).unwrap();
    assert_eq!((info.width, info.height), (8, 24));
    let frame = decode_first(&file, &limits()).unwrap();
    assert_eq!((frame.width, frame.height), (8, 24));
}

fn gif(frames: usize, alpha: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = GifEncoder::new(&mut file);
    for index in 0..frames {
        let pixel = image::Rgba([index as u8 * 40, 0, 0, alpha]);
        encoder.encode_frame(image::Frame::new(RgbaImage::from_pixel(6, 4, pixel))).unwrap();
    }
    drop(encoder);
    file
}

#[test]
fn animations_are_batches_within_the_limit() {
    let frames = decode(&gif(3, 255), &limits()).unwrap();
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|frame| (frame.width, frame.height, frame.alpha.is_none()) == (6, 4, true)));
    assert!(decode(&gif(2, 0), &limits()).unwrap()[0].alpha.is_some());
    let refused = decode(&gif(3, 255), &DecodeLimits { max_frames: 2, ..limits() }).unwrap_err();
    assert_eq!(refused.to_string(), "the image's number of frames is 3, more than the limit of 2");
    assert!(decode(&gif(3, 255), &DecodeLimits { max_bytes: 250, ..limits() }).is_err());
}

#[test]
fn apng_frames_are_read() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[9; 24]).unwrap();
    writer.write_image_data(&[200; 24]).unwrap();
    writer.finish().unwrap();
    let frames = decode(&file, &limits()).unwrap();
    assert_eq!(frames.len(), 2);
    assert_eq!(decode_first(&file, &limits()).unwrap().width, 3);
}

/// A PNG that claims a size and holds nothing of it.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]).unwrap();
    file
}

#[test]
fn bombs_are_refused_by_their_header() {
    for (width, height, what) in [
        (100_000, 1, "width"),
        (1, 100_000, "height"),
        (65_535, 65_535, "number of pixels"),
        (0x7fff_ffff, 0x7fff_ffff, "width"),
    ] {
        let refused = decode(&claiming(width, height), &limits()).unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
    let wide = encode_png(&vec![0; 70_000], 70_000, 1, 1, 4, &[]).unwrap();
    let refused = decode(&wide, &limits()).unwrap_err().to_string();
    assert_eq!(refused, "the image's width is 70000, more than the limit of 65535");
    assert!(decode(&wide, &DecodeLimits { max_width: 100_000, ..limits() }).is_ok());
    let small = encode_png(&vec![0; 10_000], 100, 100, 1, 4, &[]).unwrap();
    assert!(decode(&small, &DecodeLimits { max_pixels: 9_999, ..limits() }).is_err());
    assert!(decode(&small, &DecodeLimits { max_bytes: 9_999, ..limits() }).is_err());
    assert_eq!(probe(&claiming(65_535, 65_535)).unwrap().width, 65_535);
}

#[test]
fn a_compressed_text_bomb_is_not_inflated() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.add_ztxt_chunk("bomb".into(), "0".repeat(10 << 20)).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0]).unwrap();
    writer.finish().unwrap();
    assert!(file.len() < 1 << 20);
    assert!(png_text(&file, 1 << 16).is_err());
    assert_eq!(decode(&file, &limits()).unwrap().len(), 1);
}

#[test]
fn unknown_files_say_so() {
    for bytes in [&b""[..], b"<svg/>", b"%PDF-1.4", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP"] {
        assert!(decode(bytes, &limits()).is_err());
        assert!(probe(bytes).is_err());
    }
    assert!(matches!(decode(b"hello", &limits()), Err(CodecError::UnknownFormat)));
}

#[test]
fn views_follow_the_query() {
    use PreviewFormat::*;
    let preview = |format, quality, opaque| ViewRequest::Preview { format, quality, opaque };
    let cases = [
        (None, None, ViewRequest::Raw),
        (Some("rgba"), None, ViewRequest::Raw),
        (Some("rgb"), None, ViewRequest::Rgb),
        (Some("a"), None, ViewRequest::Alpha),
        (None, Some("webp;50"), preview(WebP, 50, false)),
        (None, Some("jpeg"), preview(Jpeg, 90, true)),
        (None, Some("50"), preview(WebP, 50, false)),
        (None, Some("gif;999"), preview(WebP, 100, false)),
        (Some("rgb"), Some("webp"), preview(WebP, 90, true)),
        (Some("rgba"), Some("jpeg;70"), preview(WebP, 70, false)),
    ];
    for (channel, query, wanted) in cases {
        assert_eq!(ViewRequest::parse(channel, query), wanted, "{channel:?} {query:?}");
    }
    let file = encode_png(&gradient(6, 5, 4), 6, 5, 4, 1, &[]).unwrap();
    let view = |request| transcode_for_view(&file, request, &limits()).unwrap();
    assert!(view(ViewRequest::Raw).is_none());
    assert_eq!(view(preview(Jpeg, 90, true)).unwrap().mime, "image/jpeg");
    let webp = view(preview(WebP, 90, false)).unwrap();
    assert_eq!((webp.mime, probe(&webp.bytes).unwrap().has_alpha), ("image/webp", true));
    assert!(!probe(&view(ViewRequest::Rgb).unwrap().bytes).unwrap().has_alpha);
    let alpha = decode_first(&view(ViewRequest::Alpha).unwrap().bytes, &limits()).unwrap();
    assert!(alpha.rgb.to_u8().iter().all(|value| *value == 0));
    assert_eq!(alpha.alpha, decode_first(&file, &limits()).unwrap().alpha);
    assert!(transcode_for_view(b"text", ViewRequest::Rgb, &limits()).is_err());
}

#[test]
fn a_mask_replaces_alpha_and_keeps_texts() {
    let texts = [("prompt".to_string(), "{}".to_string()), ("workflow".to_string(), "日本".to_string())];
    let original = encode_png(&gradient(6, 5, 3), 6, 5, 3, 4, &texts).unwrap();
    let painted = encode_png(&gradient(6, 5, 4), 6, 5, 4, 4, &[]).unwrap();
    let result = replace_alpha(&original, &painted, &limits()).unwrap();
    let (frame, mask) = (decode_first(&result, &limits()).unwrap(), decode_first(&painted, &limits()).unwrap());
    assert_eq!(frame.rgb, decode_first(&original, &limits()).unwrap().rgb);
    assert_eq!(frame.alpha, mask.alpha);
    assert_eq!(png_text(&result, 1 << 20).unwrap(), texts);
    let other = encode_png(&gradient(5, 5, 4), 5, 5, 4, 4, &[]).unwrap();
    assert_eq!(
        replace_alpha(&original, &other, &limits()).unwrap_err().to_string(),
        "the mask is 5×5, but the original is 6×5"
    );
}

#[test]
fn previews_keep_the_aspect() {
    let small = preview(&gradient(400, 100, 3), 400, 100, 3, 200).unwrap();
    assert_eq!((small.width, small.height, small.pixels.len()), (200, 50, 200 * 50 * 3));
    let thin = preview(&gradient(1000, 1, 4), 1000, 1, 4, 10).unwrap();
    assert_eq!((thin.width, thin.height), (10, 1));
    let same = preview(&gradient(10, 10, 1), 10, 10, 1, 64).unwrap();
    assert_eq!(same.pixels, gradient(10, 10, 1));
    assert!(preview(&[], 0, 5, 3, 10).is_err());
}

fn samples() -> Vec<Vec<u8>> {
    let rgb = gradient(20, 15, 3);
    let mut files = vec![
        encode_png(&rgb, 20, 15, 3, 4, &[("prompt".into(), "{}".into())]).unwrap(),
        encode_jpeg(&rgb, 20, 15, 3, 80).unwrap(),
        encode_webp(&rgb, 20, 15, 3, WebpQuality::Lossy(80)).unwrap(),
        encode_webp(&rgb, 20, 15, 3, WebpQuality::Lossless).unwrap(),
        gif(3, 255),
    ];
    let image = DynamicImage::ImageRgb8(image::RgbImage::from_raw(20, 15, rgb.clone()).unwrap());
    for format in [ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Pnm] {
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, format).unwrap();
        files.push(file.into_inner());
    }
    let mut file = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut file);
    encoder.write_image(&gradient(20, 15, 8), 20, 15, ExtendedColorType::Rgba16).unwrap();
    files.push(file);
    files
}

#[test]
fn every_format_is_read() {
    for file in samples() {
        let frames = decode(&file, &limits()).unwrap();
        let info = probe(&file).unwrap();
        assert_eq!((info.width, info.height), (frames[0].width, frames[0].height), "{}", info.format);
        assert_eq!(frames[0].rgb.len(), (info.width * info.height * 3) as usize);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(which in 0usize..9, cut in 0usize..4000, spots in prop::collection::vec((0usize..4000, any::<u8>()), 0..6)) {
        let mut file = samples()[which].clone();
        for (place, byte) in spots {
            let length = file.len();
            file[place % length] = byte;
        }
        file.truncate(file.len().min(cut.max(40)));
        let limits = DecodeLimits { max_pixels: 1 << 20, max_bytes: 16 << 20, ..limits() };
        let _ = probe(&file);
        let _ = decode(&file, &limits);
        let _ = png_text(&file, 1 << 16);
        let _ = transcode_for_view(&file, ViewRequest::Alpha, &limits);
        let _ = replace_alpha(&file, &file, &limits);
    }
}
