//! The one function that serves bytes which a user or a node has made.
//!
//! Why: whatever a browser runs in our origin can queue prompts and read every file. ComfyUI had to block one active type
//! after another (HTML, then XHTML, then SVG). Here is a list of what may be shown, and everything else is a download of
//! bytes without a meaning. `nosniff` keeps browsers from guessing, and `sandbox` takes our origin away from whatever they
//! might still find to run.
//!
//! Two exceptions keep pages whole: an SVG where the browser says it wants an image (an image runs no scripts), and a style
//! sheet where it says it wants one (`user.css`). Such answers depend on a request header, so they are not to be kept.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::Response,
};

use crate::serve_file::Content;

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `img-src` and `media-src` let a browser show the file itself when it is opened in a tab of its own.
const CONTENT_SECURITY_POLICY: &str =
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'";

/// What may be shown in place: no format here can carry a script.
const SHOWN: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("apng", "image/apng"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jfif", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
    ("mkv", "video/x-matroska"),
    ("ogv", "video/ogg"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
];

/// What is a download, but under its own type: a program that asks for a workflow reads it as JSON only when it is called so.
/// No browser runs these, and with `nosniff` none takes them for something else.
const TYPED: &[(&str, &str)] =
    &[("json", "application/json"), ("txt", "text/plain"), ("md", "text/markdown"), ("csv", "text/csv")];

/// How one file is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Treatment {
    content_type: &'static str,
    shown: bool,
    /// The answer would be another for another `Sec-Fetch-Dest`.
    depends_on_destination: bool,
}

/// Serves a file under the name that the client knows it by.
pub(crate) async fn serve_user_bytes(content: Content, name: &str, request: &HeaderMap) -> Response {
    let destination = request.get(SEC_FETCH_DEST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let treatment = treatment(name, destination);
    content.respond(request, headers(name, treatment)).await
}

/// Serves an image that the server itself has just encoded.
pub(crate) async fn serve_encoded(
    content: Content,
    name: &str,
    content_type: &'static str,
    request: &HeaderMap,
) -> Response {
    let treatment = Treatment { content_type, shown: true, depends_on_destination: false };
    content.respond(request, headers(name, treatment)).await
}

fn treatment(name: &str, destination: &str) -> Treatment {
    let extension = match name.rsplit_once('.') {
        Some((_, extension)) => extension.to_ascii_lowercase(),
        None => String::new(),
    };
    if let Some((_, content_type)) = SHOWN.iter().find(|(shown, _)| *shown == extension) {
        return Treatment { content_type, shown: true, depends_on_destination: false };
    }
    if let Some((_, content_type)) = TYPED.iter().find(|(typed, _)| *typed == extension) {
        return Treatment { content_type, ..DOWNLOAD };
    }
    let as_wanted = |content_type| Treatment { content_type, shown: true, depends_on_destination: true };
    match (extension.as_str(), destination) {
        ("svg", "image") => as_wanted("image/svg+xml"),
        ("css", "style") => as_wanted("text/css; charset=utf-8"),
        ("svg" | "css", _) => Treatment { depends_on_destination: true, ..DOWNLOAD },
        _ => DOWNLOAD,
    }
}

const DOWNLOAD: Treatment =
    Treatment { content_type: "application/octet-stream", shown: false, depends_on_destination: false };

fn headers(name: &str, treatment: Treatment) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(treatment.content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-site"));
    let kind = if treatment.shown { "inline" } else { "attachment" };
    headers.insert(header::CONTENT_DISPOSITION, disposition(kind, name));
    if treatment.depends_on_destination {
        headers.insert(header::VARY, HeaderValue::from_static("Sec-Fetch-Dest"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers
}

/// `inline; filename="a.png"`, with the RFC 6266 form added for names that are not plain ASCII.
fn disposition(kind: &str, name: &str) -> HeaderValue {
    let plain =
        |character: char| character.is_ascii() && !character.is_ascii_control() && !matches!(character, '"' | '\\');
    let ascii: String = name.chars().map(|character| if plain(character) { character } else { '_' }).collect();
    let mut text = format!("{kind}; filename=\"{ascii}\"");
    if ascii != name {
        let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        text.push_str(&format!("; filename*=UTF-8''{encoded}"));
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_that_can_run_is_shown() {
        for name in [
            "a.html",
            "a.HTM",
            "a.xhtml",
            "a.svg",
            "a.js",
            "a.mjs",
            "a.pdf",
            "a.xml",
            "a.png.html",
            "a",
            "a.css",
            "png",
        ] {
            for destination in ["", "document", "iframe", "script", "object", "embed"] {
                let treatment = treatment(name, destination);
                assert_eq!((treatment.content_type, treatment.shown), ("application/octet-stream", false), "{name}");
            }
        }
    }

    #[test]
    fn images_are_shown_and_svg_only_as_an_image() {
        assert_eq!(treatment("a.PNG", "document").content_type, "image/png");
        assert!(treatment("a.png", "").shown);
        let svg = treatment("a.svg", "image");
        assert_eq!((svg.content_type, svg.shown, svg.depends_on_destination), ("image/svg+xml", true, true));
        assert!(treatment("a.svg", "").depends_on_destination);
        assert_eq!(treatment("user.css", "style").content_type, "text/css; charset=utf-8");
    }

    #[test]
    fn data_keeps_its_type_and_is_a_download() {
        for (name, content_type) in [("a.json", "application/json"), ("a.TXT", "text/plain")] {
            let treatment = treatment(name, "document");
            assert_eq!((treatment.content_type, treatment.shown), (content_type, false));
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_header() {
        assert_eq!(disposition("inline", "a b.png"), "inline; filename=\"a b.png\"");
        let nasty = disposition("attachment", "a\";\r\nX: y\u{e9}.png");
        assert_eq!(
            nasty,
            "attachment; filename=\"a_;__X: y_.png\"; filename*=UTF-8''a%22%3B%0D%0AX%3A%20y%C3%A9%2Epng"
        );
    }

    #[test]
    fn every_answer_is_sandboxed() {
        for name in ["a.png", "a.html", "a.svg"] {
            let headers = headers(name, treatment(name, "image"));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert!(
                headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("sandbox; default-src 'none'")
            );
        }
    }
}
