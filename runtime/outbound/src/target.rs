//! From an address to host, port and path; redirects.

use ureq::http::{Uri, uri::Scheme};

use crate::HttpError;

/// Longest address.
const URL_BYTES: usize = 8 << 10;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) uri: Uri,
    /// As the address spells it; IPv6 in brackets.
    pub host: String,
    /// Given, or the scheme's.
    pub port: u16,
    /// 443 or 80.
    pub usual_port: u16,
}

impl Target {
    /// Reads an absolute address. One that two readers could understand differently is refused.
    ///
    /// # Errors
    /// [`HttpError::InvalidUrl`].
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        let wrong = |reason: &str| HttpError::InvalidUrl { url: shown(url), reason: reason.to_owned() };
        if url.len() > URL_BYTES {
            return Err(wrong(&format!("it has {} bytes, more than {URL_BYTES}", url.len())));
        }
        // `\` is a `/` to some, and what is not ASCII is spelled out differently by everybody.
        if url.bytes().any(|byte| byte == b'\\' || !byte.is_ascii_graphic()) {
            return Err(wrong("it holds a character that has to be written as %XX (or, in a host, as xn--…)"));
        }
        let uri: Uri = url.parse().map_err(|error: ureq::http::uri::InvalidUri| wrong(&error.to_string()))?;
        let usual_port = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            Some(scheme) if *scheme == Scheme::HTTP => 80,
            _ => return Err(wrong("it does not begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a user name before an @; send an Authorization header instead"));
        }
        let host = authority.host().to_owned();
        if host.is_empty() || host.contains('%') {
            return Err(wrong("its host is not plain"));
        }
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None => usual_port,
            // `+80` would be a number, too.
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|&port| port > 0 && digits.bytes().all(|digit| digit.is_ascii_digit()))
                .ok_or_else(|| wrong("its port is no number"))?,
        };
        Ok(Self { uri, host, port, usual_port })
    }

    /// The whole address.
    #[must_use]
    pub fn url(&self) -> String {
        self.uri.to_string()
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.usual_port == 443
    }

    /// Whether both are one host, as far as keys and passwords go.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port && self.usual_port == other.usual_port
    }

    /// Where a `Location` leads from here.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, HttpError> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = self.uri.scheme_str().unwrap_or("https");
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path();
        let absolute = if has_scheme(location) {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else if location.starts_with('?') || location.is_empty() {
            format!("{scheme}://{authority}{path}{location}")
        } else {
            let folder = &path[..=path.rfind('/').unwrap_or(0).min(path.len().saturating_sub(1))];
            format!("{scheme}://{authority}{folder}{location}")
        };
        Self::parse(&absolute)
    }
}

/// Whether an address begins with a scheme: letters, then a colon, before any `/`, `?` or `#`.
fn has_scheme(location: &str) -> bool {
    let end = location.find([':', '/', '?', '#']).unwrap_or(location.len());
    let scheme = &location[..end];
    location[end..].starts_with(':')
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Other people's text for a message.
pub(crate) fn shown(text: &str) -> String {
    const LENGTH: usize = 200;
    let text: String = text.chars().take(LENGTH).collect();
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn an_address_names_host_and_port() {
        for (url, host, port) in [
            ("https://example.org", "example.org", 443),
            ("http://example.org/x?y", "example.org", 80),
            ("http://Example.ORG:8080/x", "Example.ORG", 8080),
            ("https://[::1]:8443/", "[::1]", 8443),
            ("https://[fd00::1]", "[fd00::1]", 443),
        ] {
            let target = target(url);
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
        }
    }

    #[test]
    fn addresses_with_two_readings_are_refused() {
        let long = format!("https://example.org/{}", "x".repeat(9000));
        for url in [
            "",
            "example.org",
            "//example.org",
            "ftp://example.org",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://user@example.org/",
            "https://example.org@evil.net/",
            "https://user:pass@example.org/",
            "https://example.org:/",
            "https://example.org:0/",
            "https://example.org:99999/",
            "https://example.org:+80/",
            "https://example.org\\@evil.net/",
            "https://bücher.example/",
            "https://example.org/a b",
            "https://example.org/\r\nHost: evil",
            "https://example.org%2eevil.net/",
            "javascript:alert(1)",
            &long,
        ] {
            assert!(matches!(Target::parse(url), Err(HttpError::InvalidUrl { .. })), "{url:?} is taken");
        }
    }

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let from = target("https://example.org:8443/a/b?c");
        for (location, to) in [
            ("https://other.org/x", "https://other.org/x"),
            ("//other.org/x", "https://other.org/x"),
            ("/x?y", "https://example.org:8443/x?y"),
            ("x", "https://example.org:8443/a/x"),
            ("?z", "https://example.org:8443/a/b?z"),
            ("/x#part", "https://example.org:8443/x"),
        ] {
            assert_eq!(from.redirect(location).unwrap().url(), to, "{location}");
        }
        assert_eq!(target("https://example.org").redirect("x").unwrap().url(), "https://example.org/x");
        assert!(from.redirect("javascript:alert(1)").is_err());
        assert!(from.redirect("file:///etc/passwd").is_err());
    }
}
