//! Static files: the front end that the operator pointed to, or our own page from the binary.

use std::{path::Path, time::SystemTime};

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use cap_std::{ambient_authority, fs::Dir};
use rust_embed::RustEmbed;
use vivarium_blobs::RelativePath;

use crate::{
    error::{ApiError, ServerError},
    json,
    serve_file::Content,
    state::AppState,
};

/// Our own page, as `web/` builds it. Without a build the binary still serves the API.
#[derive(RustEmbed)]
#[folder = "$CARGO_MANIFEST_DIR/../../web/dist"]
#[allow_missing = true]
struct Page;

/// Where static files come from.
pub(crate) enum FrontEnd {
    /// A folder of the operator's. A handle: what is asked for cannot leave it.
    Folder(Dir),
    /// The binary.
    Embedded,
}

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Vivarium</title>\
    <p>This server was built without its own page. Its API works. To get the page, run <code>cargo xtask web</code> and \
    build again, or start the server with <code>--front-end-root</code> and a folder with a front end.</p></html>";

impl FrontEnd {
    /// Opens the operator's folder, if there is one.
    pub(crate) fn open(root: Option<&Path>) -> Result<Self, ServerError> {
        let Some(root) = root else { return Ok(Self::Embedded) };
        let failed = |source| ServerError::FrontEnd { path: root.to_path_buf(), source };
        let folder = Dir::open_ambient_dir(root, ambient_authority()).map_err(failed)?;
        folder.metadata("index.html").map_err(failed)?;
        Ok(Self::Folder(folder))
    }

    /// URL paths of all scripts under `extensions/`, which front ends import one by one.
    pub(crate) fn extension_scripts(&self) -> Vec<String> {
        let mut scripts = Vec::new();
        match self {
            Self::Folder(folder) => find_scripts(folder, "extensions", 0, &mut scripts),
            Self::Embedded => {
                scripts.extend(Page::iter().filter(|file| is_extension(file)).map(|file| format!("/{file}")))
            }
        }
        scripts.sort_unstable();
        scripts
    }

    fn open_file(&self, path: &RelativePath) -> Option<Content> {
        match self {
            Self::Folder(folder) => {
                let file = folder.open(path.as_str()).ok()?;
                let metadata = file.metadata().ok().filter(cap_std::fs::Metadata::is_file)?;
                let modified = metadata.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
                Some(Content::file(file.into_std(), metadata.len(), modified))
            }
            Self::Embedded => {
                let file = Page::get(path.as_str())?;
                let tag: String = file.metadata.sha256_hash()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
                let bytes = match file.data {
                    std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                    std::borrow::Cow::Owned(bytes) => bytes.into(),
                };
                Some(Content::bytes(bytes, &tag))
            }
        }
    }

    /// Whether files with a digest in their name may be kept for ever. We know that of our own page only.
    fn names_hold_digests(&self) -> bool {
        matches!(self, Self::Embedded)
    }
}

/// The fallback of the router: everything that is no route is a static file.
pub(crate) async fn serve(State(state): State<AppState>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        // What is no route can only be a file.
        return ([(header::ALLOW, "GET,HEAD")], method_not_allowed().await).into_response();
    }
    let Some(path) = static_path(request.uri()) else { return not_found(request.uri()) };
    let served = path.as_str().to_owned();
    state.legacy_imports().notice(&served, request.headers());
    // Opening is a few system calls on a local folder, or none.
    let opened =
        state.blocking("opening a static file", move |state| Ok::<_, ApiError>(state.front_end().open_file(&path)));
    match opened.await {
        Ok(Some(content)) => {
            let headers = headers(&served, state.front_end().names_hold_digests());
            content.respond(request.headers(), headers).await
        }
        Ok(None) if served == "index.html" => {
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], NOT_BUILT)
                .into_response()
        }
        // Front ends offer templates at the first start; the package that holds them is not part of a front end.
        Ok(None) if served == "templates/index.json" => json::ok(&[(); 0]),
        Ok(None) => not_found(request.uri()),
        Err(error) => error.into_response(),
    }
}

/// The answer to a known path with another method, as aiohttp words it. The router adds the methods that are allowed.
pub(crate) async fn method_not_allowed() -> ApiError {
    ApiError::text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed")
}

fn static_path(uri: &Uri) -> Option<RelativePath> {
    let decoded = percent_encoding::percent_decode_str(uri.path()).decode_utf8().ok()?;
    let path = decoded.strip_prefix('/')?;
    RelativePath::parse_file(if path.is_empty() { "index.html" } else { path }).ok()
}

fn not_found(uri: &Uri) -> Response {
    ApiError::not_found(format!("There is nothing at {}", uri.path())).into_response()
}

fn headers(path: &str, names_hold_digests: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, content_type(path));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if path == "index.html" {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert(header::EXPIRES, HeaderValue::from_static("0"));
        // Another site may not put our page into a frame and have the user click in it.
        headers.insert(
            HeaderName::from_static("content-security-policy"),
            HeaderValue::from_static("frame-ancestors 'self'"),
        );
    } else if names_hold_digests && path.starts_with("assets/") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    }
    headers
}

fn content_type(path: &str) -> HeaderValue {
    let guessed = mime_guess::from_path(path).first_or_octet_stream();
    let text = match guessed.essence_str() {
        // The registered name since RFC 9239; scripts are UTF-8 whatever their file says.
        "application/javascript" | "text/javascript" => "text/javascript; charset=utf-8".to_owned(),
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

fn is_extension(file: &str) -> bool {
    file.starts_with("extensions/") && file.ends_with(".js")
}

/// No front end nests deeper, and a link may lead in circles.
const MAX_DEPTH: usize = 16;

fn find_scripts(folder: &Dir, path: &str, depth: usize, scripts: &mut Vec<String>) {
    let Ok(entries) = folder.read_dir(path) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let below = format!("{path}/{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => find_scripts(folder, &below, depth + 1, scripts),
            Ok(_) if is_extension(&below) => scripts.push(format!("/{below}")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn path(uri: &str) -> Option<String> {
        static_path(&uri.parse().unwrap()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(path("/").as_deref(), Some("index.html"));
        assert_eq!(path("/assets/a%20b.js?x=1").as_deref(), Some("assets/a b.js"));
        for bad in ["/../x", "/a/%2e%2e/x", "/..%2fx", "/%2fetc/passwd", "/a%00b", "/a%5c..%5cb", "/%ff", "/dir/"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn scripts_have_a_javascript_type() {
        for name in ["a.js", "a.mjs"] {
            assert_eq!(content_type(name), "text/javascript; charset=utf-8");
        }
        assert_eq!(content_type("a.html"), "text/html; charset=utf-8");
        assert_eq!(content_type("a.wasm"), "application/wasm");
        assert_eq!(content_type("a.unknown"), "application/octet-stream");
    }

    #[test]
    fn a_folder_serves_its_files_and_finds_its_scripts() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FrontEnd::open(Some(folder.path())).is_err());
        std::fs::create_dir_all(folder.path().join("extensions/core")).unwrap();
        for file in ["index.html", "extensions/core/b.js", "extensions/core/a.js", "extensions/core/a.css"] {
            std::fs::write(folder.path().join(file), "x").unwrap();
        }
        let front_end = FrontEnd::open(Some(folder.path())).unwrap();
        assert_eq!(front_end.extension_scripts(), ["/extensions/core/a.js", "/extensions/core/b.js"]);
        let open = |path: &str| front_end.open_file(&RelativePath::parse_file(path).unwrap());
        assert!(open("index.html").is_some());
        assert!(open("extensions").is_none());
        assert!(open("missing").is_none());
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("leak")).unwrap();
        assert!(open("leak").is_none());
    }
}
