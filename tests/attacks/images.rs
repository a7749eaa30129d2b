//! Hostile files: what a tenant uploads, or an operator downloaded for a model (72, 69).
//!
//! Each is refused by name or comes out small; nothing of it is unpacked beyond the limits, and the next prompt runs.

use std::{fs, io::Write};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::ZlibEncoder};
use serde_json::{Value, json};
use vivarium_image_codec::encode_png;
use vivarium_server::ServerConfig;
use vivarium_tests::server::{Field, Server, form};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(kind);
    checksum.update(data);
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], kind, data, &checksum.sum().to_be_bytes()].concat()
}

fn header(width: u32, height: u32) -> Vec<u8> {
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat())
}

/// Zeros of so many bytes, deflated.
fn deflated(bytes: usize) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let block = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        encoder.write_all(&block)?;
    }
    Ok(encoder.finish()?)
}

/// A good picture of one pixel with chunks put before its pixels.
fn with_chunks(chunks: &[Vec<u8>]) -> Result<Vec<u8>> {
    let png = encode_png(&[1, 2, 3], 1, 1, 3, 1, &[])?;
    let pixels = png.windows(4).position(|window| window == b"IDAT").context("a chunk of pixels")? - 4;
    Ok([&png[..pixels], &chunks.concat(), &png[pixels..]].concat())
}

fn bombs() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let bomb = deflated(512 << 20)?;
    let text = |kind: &[u8; 4], head: &[u8]| chunk(kind, &[head, &bomb].concat());
    let pixels =
        |width, height| [SIGNATURE, &header(width, height), &chunk(b"IDAT", &bomb), &chunk(b"IEND", b"")].concat();
    let gif = |width: u16, height: u16| {
        [b"GIF89a".as_slice(), &width.to_le_bytes(), &height.to_le_bytes(), &[0xf0, 0, 0, 0, 0, 0, 255, 255, 255]]
            .concat()
    };
    let jpeg = [
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00".as_slice(),
        &[0; 64],
    ]
    .concat();
    let mut exif = vec![b"II*\0\x08\0\0\0\xff\xff".to_vec()];
    exif.push(b"\x0e\x01\x02\x00\xff\xff\xff\xff\x00\x00\x00\x00".repeat(5000));
    Ok(vec![
        ("text-bomb.png", with_chunks(&[text(b"zTXt", b"workflow\0\0")])?),
        ("itext-bomb.png", with_chunks(&[text(b"iTXt", b"prompt\0\x01\0\0\0")])?),
        ("profile-bomb.png", with_chunks(&[text(b"iCCP", b"p\0\0")])?),
        ("many-bombs.png", with_chunks(&vec![text(b"zTXt", b"workflow\0\0"); 8])?),
        ("exif.png", with_chunks(&[chunk(b"eXIf", &exif.concat())])?),
        ("long-chunk.png", [SIGNATURE, &header(1, 1), b"\xff\xff\xff\xfftEXt"].concat()),
        ("huge-pixels.png", pixels(20_000, 9_000)),
        ("huge.png", pixels(65_535, 65_535)),
        ("huger.png", pixels(u32::MAX, u32::MAX)),
        ("none.png", pixels(0, 0)),
        ("huge.gif", gif(65_535, 65_535)),
        ("huge.jpg", jpeg),
        (
            "huge.bmp",
            [
                b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0\x28\0\0\0\xff\xff\xff\x7f\xff\xff\xff\x7f\x01\0\x18\0"
                    .as_slice(),
                &[0; 40],
            ]
            .concat(),
        ),
        ("huge.webp", b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff".to_vec()),
        ("huge.tiff", b"II*\0\xff\xff\xff\xff".to_vec()),
    ])
}

#[test]
fn pictures_that_are_bombs_unpack_to_nothing() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    for (index, (name, bytes)) in bombs()?.into_iter().enumerate() {
        server.upload(name, &bytes)?;
        for query in ["preview=webp", "preview=jpeg;50", "channel=rgb", "channel=a"] {
            let answer = server.get(&format!("/view?filename={name}&type=input&{query}"))?;
            ensure!(matches!(answer.status, 200 | 400 | 413), "{name} {query}: {answer:?}");
            ensure!(answer.body.len() < 1 << 20, "{name} {query}: {} bytes", answer.body.len());
            let refused = answer.status != 200;
            ensure!(refused || !name.starts_with("huge"), "{name} {query} is shown");
        }
        let original = json!({"filename": name, "type": "input"}).to_string();
        let mask = encode_png(&[0, 0, 0, 9], 1, 1, 4, 1, &[])?;
        let (content_type, body) =
            form(&[Field::file("image", "m.png", &mask), Field::text("original_ref", &original)]);
        let answer = server.send("POST", "/upload/mask", &[("content-type", &content_type)], &body)?;
        ensure!(matches!(answer.status, 200 | 400 | 413), "{name} as an original: {answer:?}");
        let (content_type, body) =
            form(&[Field::file("image", "n.png", &bytes), Field::text("original_ref", &original)]);
        let answer = server.send("POST", "/upload/mask", &[("content-type", &content_type)], &body)?;
        ensure!(matches!(answer.status, 200 | 400 | 413), "{name} as a mask: {answer:?}");

        let load = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        });
        let entry = server.run(&load).with_context(|| name.to_owned())?;
        ensure!(!name.starts_with("huge") || entry["status"]["status_str"] == "error", "{name}: {entry}");
        let next = json!({
            "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": index}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
        });
        let entry = server.run(&next)?;
        ensure!(entry["status"]["status_str"] == "success", "after {name}: {entry}");
    }
    Ok(())
}

#[test]
fn models_with_hostile_headers_are_refused_or_have_no_metadata() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let folder = server.base().join("models/loras");
    fs::create_dir_all(&folder)?;
    let model = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!("{{\"__metadata__\":{deep}}}");
    for (name, bytes) in [
        ("eight-exabytes", model(u64::MAX, b"{}")),
        ("half", model(i64::MAX as u64, b"{}")),
        ("longer-than-the-file", model(1000, b"{}")),
        ("a-megabyte-more", model((1 << 20) + 1, &vec![b' '; (1 << 20) + 1])),
        ("nothing", Vec::new()),
        ("short", vec![1, 2, 3]),
        ("no-json", model(3, b"{{{")),
        ("list", model(2, b"[]")),
        ("deep", model(deep.len() as u64, deep.as_bytes())),
        ("no-text", model(4, b"\xff\xfe\xfd\xfc")),
        ("number", model(18, b"{\"__metadata__\": 1}")),
    ] {
        fs::write(folder.join(format!("{name}.safetensors")), bytes)?;
        let answer = server.get(&format!("/view_metadata/loras?filename={name}.safetensors"))?;
        ensure!(matches!(answer.status, 400 | 404), "{name}: {answer:?}");
        ensure!(answer.body.len() < 1000, "{name}: {} bytes", answer.body.len());
    }
    // GGUF is listed and never read: neither its counts nor its offsets lead anywhere.
    let counts = [&b"GGUF"[..], &3_u32.to_le_bytes(), &u64::MAX.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    fs::write(folder.join("counts.gguf"), counts)?;
    // A header of safetensors under that name is none either.
    fs::write(folder.join("disguised.gguf"), model(27, b"{\"__metadata__\":{\"a\":\"b\"}}"))?;
    for name in ["counts.gguf", "disguised.gguf"] {
        let answer = server.get(&format!("/view_metadata/loras?filename={name}"))?;
        ensure!(answer.status == 404, "{name}: {answer:?}");
    }
    ensure!(server.get("/models/loras")?.json()?.as_array().is_some_and(|names| names.len() == 13));
    Ok(())
}

/// 69: whatever it is called or holds, a browser is given nothing of a user's that it would run.
#[test]
fn uploads_that_could_run_are_downloads() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>";
    let extensions = [
        "html",
        "htm",
        "HTML",
        "xhtml",
        "xht",
        "shtml",
        "mhtml",
        "mht",
        "svg",
        "svgz",
        "xml",
        "xsl",
        "rdf",
        "js",
        "mjs",
        "cjs",
        "css",
        "pdf",
        "swf",
        "wasm",
        "json",
        "webmanifest",
        "vbs",
        "htc",
        "eml",
        "url",
        "png.html",
        "html ",
        "html.",
    ];
    for extension in extensions {
        let name = format!("page.{extension}");
        server.upload(&name, script)?;
        let stored = server.send("POST", &format!("/userdata/{}", name.replace(' ', "%20")), &[], script)?;
        ensure!(stored.status == 200, "{name}: {stored:?}");
        for path in ["/view?type=input&filename=", "/userdata/"] {
            for destination in ["", "document", "iframe", "script", "object", "embed", "worker", "serviceworker"] {
                let headers = [("sec-fetch-dest", destination), ("sec-fetch-site", "same-origin")];
                let headers = if destination.is_empty() { &[][..] } else { &headers[..] };
                let answer = server.send("GET", &format!("{path}{}", name.replace(' ', "%20")), headers, b"")?;
                let header = |name: &str| Value::from(answer.header(name).unwrap_or_default());
                let about = format!("{path}{name} for {destination:?}: {:?}", answer.headers);
                ensure!(answer.status == 200, "{about}");
                ensure!(answer.header("x-content-type-options") == Some("nosniff"), "{about}");
                ensure!(
                    answer.header("content-security-policy").is_some_and(|policy| policy.contains("sandbox")),
                    "{about}"
                );
                ensure!(
                    answer.header("content-disposition").is_some_and(|kind| kind.starts_with("attachment")),
                    "{about}"
                );
                ensure!(
                    matches!(header("content-type").as_str(), Some("application/octet-stream" | "application/json")),
                    "{about}"
                );
            }
        }
    }
    // A picture's name makes it a picture to the browser, which then reads no script in it.
    server.upload("polyglot.png", script)?;
    let answer = server.get("/view?type=input&filename=polyglot.png")?;
    ensure!(
        answer.header("content-type") == Some("image/png")
            && answer.header("x-content-type-options") == Some("nosniff")
    );
    Ok(())
}
