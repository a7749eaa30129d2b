//! `Cache-Control` by class of path, as ComfyUI sets it, with one repair: a missing image is never cached for a day.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};

const DAY: &str = "public, max-age=86400";
const HOUR: &str = "public, max-age=3600";
const NO_CACHE: &str = "no-cache";

const IMAGES: [&str; 9] = [".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"];

/// The middleware. A header that a route has set already stays.
pub(crate) async fn cache_control(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if let Some(policy) = policy(&path, response.status()) {
        set_default(response.headers_mut(), policy);
    }
    response
}

fn policy(path: &str, status: StatusCode) -> Option<&'static str> {
    let last = path.rsplit('/').next().unwrap_or(path);
    if path.ends_with(".js") || path.ends_with(".css") || (last.starts_with("index") && last.ends_with(".json")) {
        return Some(NO_CACHE);
    }
    let lower = last.to_ascii_lowercase();
    if !IMAGES.iter().any(|extension| lower.ends_with(extension)) {
        return None;
    }
    match status.as_u16() {
        404 => Some(HOUR),
        200..=206 | 301 | 308 => Some(DAY),
        302 | 303 | 307 => Some(NO_CACHE),
        _ => None,
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
