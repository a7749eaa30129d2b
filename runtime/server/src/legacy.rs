//! A word in the log when an extension imports scripts that front ends keep only for old extensions.

use std::collections::HashSet;

use axum::http::{HeaderMap, Uri, header};
use parking_lot::Mutex;

/// How many warnings are given: each import is warned of once, and nobody can fill the log.
const LIMIT: usize = 200;

/// Imports that were warned of.
#[derive(Default)]
pub(crate) struct LegacyImports(Mutex<HashSet<(String, String)>>);

impl LegacyImports {
    /// Looks at a request for a static file.
    pub(crate) fn notice(&self, path: &str, request: &HeaderMap) {
        if let Some(importer) = importer(path, request)
            && self.is_new(path, &importer)
        {
            tracing::warn!(
                path,
                importer,
                "an extension imports a script that is deprecated and will be gone from later front ends; update the \
                 extension, or tell its author"
            );
        }
    }

    fn is_new(&self, path: &str, importer: &str) -> bool {
        let mut warned = self.0.lock();
        warned.len() < LIMIT && warned.insert((path.to_owned(), importer.to_owned()))
    }
}

/// The extension that asks for a deprecated script. A front end asks for its own, too; that is fine.
fn importer(path: &str, request: &HeaderMap) -> Option<String> {
    let deprecated = path == "scripts/ui.js" || path.starts_with("scripts/ui/") || path.starts_with("extensions/core/");
    if !deprecated {
        return None;
    }
    let referer: Uri = request.get(header::REFERER)?.to_str().ok()?.parse().ok()?;
    let importer = referer.path();
    (importer.starts_with("/extensions/") && !importer.starts_with("/extensions/core/")).then(|| importer.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn extensions_are_named_once_and_front_ends_never() {
        let from = |referer: &str| HeaderMap::from_iter([(header::REFERER, referer.parse().unwrap())]);
        let old = from("http://127.0.0.1:8188/extensions/pack/a.js");
        assert_eq!(importer("scripts/ui.js", &old).as_deref(), Some("/extensions/pack/a.js"));
        assert_eq!(importer("extensions/core/x.js", &old).as_deref(), Some("/extensions/pack/a.js"));
        assert_eq!(importer("scripts/app.js", &old), None);
        for own in ["http://127.0.0.1:8188/", "http://127.0.0.1:8188/extensions/core/y.js", "not a URL"] {
            assert_eq!(importer("scripts/ui.js", &from(own)), None, "{own}");
        }
        let imports = LegacyImports::default();
        assert!(imports.is_new("a", "b") && !imports.is_new("a", "b"));
        assert!((0..2 * LIMIT).filter(|number| imports.is_new("a", &number.to_string())).count() == LIMIT - 1);
    }
}
