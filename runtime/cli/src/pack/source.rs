//! From a file, a folder or an address to a pack file.

use std::{
    fs,
    io::Read,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ureq::http::Uri;
use vivarium_packs::file::PackFile;

use super::{
    build,
    oci::{self, Reference},
};
use crate::{
    failure::{Exit, Failure, OrFail, Outcome, fail},
    options::NetworkOptions,
};

/// How long a download may take.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// Where a pack comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A pack file.
    File(PathBuf),
    /// A folder with a `pack.toml`, which is built.
    Folder(PathBuf),
    /// `https://…`, or `http://…`.
    Url(String),
    /// `oci://…`
    Registry(Reference),
}

impl Source {
    /// Tells which of them it is.
    ///
    /// # Errors
    /// It begins as a place in a registry does, and is none.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        if text.starts_with(oci::SCHEME) {
            let reference =
                text.parse().map_err(|error: String| Failure::new(Exit::Usage, format!("{text}: {error}")))?;
            return Ok(Self::Registry(reference));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Url(text.to_owned()));
        }
        let path = PathBuf::from(text);
        Ok(if path.is_dir() { Self::Folder(path) } else { Self::File(path) })
    }

    /// As the store remembers it: also another folder can be the working folder at the next update.
    pub(super) fn lasting(&self) -> String {
        let absolute = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        match self {
            Self::File(path) | Self::Folder(path) => absolute(path),
            Self::Url(url) => url.clone(),
            Self::Registry(reference) => reference.to_string(),
        }
    }

    /// Reads, builds or fetches the pack. `expected` is its SHA-256, if it is known.
    ///
    /// # Errors
    /// When it can't be had, is no pack, or is not the expected one.
    pub(super) fn read(&self, expected: Option<&str>, limit: u64, network: &NetworkOptions) -> Outcome<PackFile> {
        let file = match self {
            Self::File(path) => read_file(path, limit)?,
            Self::Folder(path) => build::build(path, limit)?,
            Self::Registry(reference) => {
                let name = reference.to_string();
                network.may_ask(&name)?;
                parse(oci::pull(reference, limit)?, &name, limit)?
            }
            Self::Url(url) => {
                network.may_ask(url)?;
                parse(fetch(url, expected.is_some(), limit)?, url, limit)?
            }
        };
        if let Some(expected) = expected
            && !expected.trim_start_matches("sha256:").eq_ignore_ascii_case(file.digest())
        {
            let refusal = vivarium_packs::admission::Refusal::Digest {
                expected: expected.to_owned(),
                found: file.digest().to_owned(),
            };
            return Err(refusal).or_fail(Exit::Work, || format!("{} is refused", self.lasting()));
        }
        Ok(file)
    }
}

/// A pack file on disk.
///
/// # Errors
/// When it can't be read or is no pack.
pub(super) fn read_file(path: &Path, limit: u64) -> Outcome<PackFile> {
    let doing = || format!("could not read {}", path.display());
    let file = fs::File::open(path).or_fail(Exit::Machine, doing)?;
    let mut bytes = Vec::new();
    // One byte more than allowed is enough to see that it is too much.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).or_fail(Exit::Machine, doing)?;
    parse(bytes, &path.display().to_string(), limit)
}

fn parse(bytes: Vec<u8>, name: &str, limit: u64) -> Outcome<PackFile> {
    let doing = || format!("{} can't be used", crate::text::one_line(name, 200));
    vivarium_sandbox::check_header(&bytes).or_fail(Exit::Work, doing)?;
    PackFile::parse(bytes, limit).or_fail(Exit::Work, doing)
}

fn fetch(url: &str, digest_is_known: bool, limit: u64) -> Outcome<Vec<u8>> {
    let uri: Uri = url.parse().or_fail(Exit::Usage, || format!("`{url}` is not an address"))?;
    if uri.scheme_str() == Some("http") && !digest_is_known && !is_this_machine(&uri) {
        fail!(
            Exit::Usage,
            "what comes over http:// can be changed on the way: use https://, or say with --digest what it has to be"
        );
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(DOWNLOAD))
        .max_redirects(5)
        // A redirect must not lead out of TLS.
        .https_only(uri.scheme_str() == Some("https"))
        .build()
        .into();
    let doing = || format!("could not fetch {url}");
    let mut response = agent.get(url).call().or_fail(Exit::Server, doing)?;
    response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec().or_fail(Exit::Server, doing)
}

pub(super) fn is_this_machine(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_can_be_changed_on_the_way_needs_a_digest() {
        let failure = fetch("http://example.invalid/x.wasm", false, 10);
        assert!(failure.is_err_and(|failure| failure.exit == Exit::Usage));
        assert!(is_this_machine(&Uri::from_static("http://127.0.0.1:1/x")));
        assert!(is_this_machine(&Uri::from_static("http://[::1]:1/x")));
        assert!(!is_this_machine(&Uri::from_static("http://localhost.example/x")));
    }

    #[test]
    fn a_source_is_an_address_a_folder_or_a_file() {
        let parse = |text: &str| Source::parse(text).unwrap();
        assert!(matches!(parse("oci://ghcr.io/a/b:1"), Source::Registry(_)));
        assert!(Source::parse("oci://ghcr.io").is_err());
        assert_eq!(parse("https://x/y.wasm"), Source::Url("https://x/y.wasm".into()));
        assert_eq!(parse("/"), Source::Folder("/".into()));
        assert_eq!(parse("/no/such.wasm"), Source::File("/no/such.wasm".into()));
    }
}
