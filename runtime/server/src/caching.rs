//! `Cache-Control` by class of path, as ComfyUI sets it, with one repair: a missing image is never cached for a day.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

const DAY: &str = "public, max-age=86400";
const HOUR: &str = "public, max-age=3600";
const NO_CACHE: &str = "no-cache";

const IMAGES: [&str; 9] = [".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"];

/// The middleware. A header that a route has set already stays.
pub(crate) async fn cache_control(request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let class = Class::of(request.uri().path());
    let mut response = next(request).await;
    if let Some(policy) = class.and_then(|class| class.policy(response.status())) {
        set_default(response.headers_mut(), policy);
    }
    response
}

/// Paths that are cached by rule.
#[derive(Clone, Copy)]
enum Class {
    /// Scripts, styles, lists of templates.
    Code,
    Image,
}

impl Class {
    fn of(path: &str) -> Option<Self> {
        let last = path.rsplit('/').next().unwrap_or(path);
        // Most paths are routes, whose last part has no dot.
        let extension = &last[last.rfind('.')?..];
        if matches!(extension, ".js" | ".css") || (last.starts_with("index") && extension == ".json") {
            return Some(Self::Code);
        }
        IMAGES.iter().any(|image| extension.eq_ignore_ascii_case(image)).then_some(Self::Image)
    }

    fn policy(self, status: StatusCode) -> Option<&'static str> {
        match (self, status.as_u16()) {
            (Self::Code, _) => Some(NO_CACHE),
            (Self::Image, 404) => Some(HOUR),
            (Self::Image, 200..=206 | 301 | 308) => Some(DAY),
            (Self::Image, 302 | 303 | 307) => Some(NO_CACHE),
            _ => None,
        }
    }
}

fn set_default(headers: &mut HeaderMap, policy: &'static str) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(policy));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_paths() {
        let ok = StatusCode::OK;
        let policy = |path: &str, status| Class::of(path).and_then(|class| class.policy(status));
        assert_eq!(policy("/scripts/app.js", ok), Some(NO_CACHE));
        assert_eq!(policy("/templates/index.fr.json", ok), Some(NO_CACHE));
        assert_eq!(policy("/templates/a.WEBP", ok), Some(DAY));
        assert_eq!(policy("/templates/a.webp", StatusCode::NOT_FOUND), Some(HOUR));
        assert_eq!(policy("/templates/a.webp", StatusCode::FOUND), Some(NO_CACHE));
        assert_eq!(policy("/templates/a.webp", StatusCode::NOT_MODIFIED), None);
        assert_eq!(policy("/api/view", ok), None);
        assert_eq!(policy("/api/object_info", ok), None);
    }
}
