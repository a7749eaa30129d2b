//! `oci://registry.example.org/team/my-pack:1.2.0`: where a pack is in a registry.

use std::{fmt, str::FromStr};

/// A pack in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pack) struct Reference {
    /// Host, and port where it is not the usual one.
    pub(super) registry: String,
    /// `team/my-pack`.
    pub(super) repository: String,
    pub(super) version: Version,
}

/// Which of a repository's manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A name, which may be given to another manifest at any time.
    Tag(String),
    /// `sha256:…` of the manifest.
    Digest(String),
}

pub(in crate::pack) const SCHEME: &str = "oci://";
const LONGEST: usize = 255;
const TAG_LENGTH: usize = 128;

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(SCHEME).ok_or("it does not begin with oci://")?;
        let (registry, path) = rest.split_once('/').ok_or("write oci://REGISTRY/REPOSITORY:TAG")?;
        let host = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']');
        if registry.is_empty() || !registry.bytes().all(host) {
            return Err("the registry is a host, perhaps with a port".into());
        }
        let (repository, version) = match path.split_once('@') {
            // A tag beside a digest says nothing more.
            Some((named, digest)) => (untagged(named).0, Version::Digest(checked_digest(digest)?.to_owned())),
            None => match untagged(path) {
                (repository, None) => (repository, Version::Tag("latest".to_owned())),
                (repository, Some(tag)) => (repository, Version::Tag(checked_tag(tag)?.to_owned())),
            },
        };
        let part = |part: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
            part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(inner)
        };
        if repository.len() > LONGEST || !repository.split('/').all(part) {
            return Err("the repository is small letters, digits, '-', '_', '.', with '/' between its parts".into());
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), version })
    }
}

fn untagged(path: &str) -> (&str, Option<&str>) {
    path.split_once(':').map_or((path, None), |(repository, tag)| (repository, Some(tag)))
}

fn checked_tag(tag: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && tag.len() <= TAG_LENGTH && tag.chars().all(plain) {
        return Ok(tag);
    }
    Err("the tag is letters, digits, '-', '_' and '.'".into())
}

/// `sha256:` and 64 hexadecimal digits; registries know no others that matter.
pub(super) fn checked_digest(digest: &str) -> Result<&str, String> {
    let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    match digest.strip_prefix("sha256:") {
        Some(digits) if digits.len() == 64 && digits.bytes().all(hexadecimal) => Ok(digest),
        _ => Err("a digest is sha256: and 64 hexadecimal digits".into()),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if matches!(self.version, Version::Tag(_)) { ':' } else { '@' };
        write!(formatter, "{SCHEME}{}/{}{separator}{}", self.registry, self.repository, self.version.as_str())
    }
}

impl Version {
    /// As paths have it.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reference_is_written_as_it_is_read() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for text in [
            "oci://ghcr.io/team/my-pack:1.2.0".to_owned(),
            "oci://127.0.0.1:5000/x:latest".to_owned(),
            format!("oci://[::1]:5000/a/b-c@{digest}"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        assert_eq!("oci://r.example/x".parse::<Reference>().unwrap().to_string(), "oci://r.example/x:latest");
        let both = format!("oci://r.example/x:1@{digest}").parse::<Reference>().unwrap();
        assert_eq!(both.version, Version::Digest(digest));
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_reference() {
        for text in [
            "ghcr.io/x",
            "oci://",
            "oci://ghcr.io",
            "oci://ghcr.io/",
            "oci:///x",
            "oci://user@ghcr.io/x",
            "oci://g/../x",
            "oci://g/x/../y",
            "oci://g/x//y",
            "oci://g/X",
            "oci://g/x:a/b",
            "oci://g/x:a?b",
            "oci://g/x@sha256:12",
            "oci://g/x@md5:0",
            "oci://g/x:",
            "oci://g/x#y",
            "oci://g%2e/x",
            "oci://g/.x",
            "oci://g/x y",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
