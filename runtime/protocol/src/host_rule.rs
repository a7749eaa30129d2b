//! Which hosts a pack may reach, as a permission names them: `api.example.org`, `*.example.org`, `127.0.0.1:8080`.
//!
//! A rule is about the host that an address names. What the name stands for in the network is checked by whoever connects.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// One host, or all hosts below a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostRule {
    host: Host,
    /// Without one: the port of the scheme, 443 or 80.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    /// Lower case.
    Name(String),
    /// `*.` before it; lower case.
    Below(String),
    Address(IpAddr),
}

/// The longest name of a host in DNS.
const NAME_LENGTH: usize = 253;
const LABEL_LENGTH: usize = 63;

impl FromStr for HostRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split_port(text)?;
        let host = match (host.strip_prefix('['), host.strip_prefix("*.")) {
            (Some(v6), _) => {
                let v6 = v6.strip_suffix(']').ok_or("an IPv6 address stands in [brackets]")?;
                let address: Ipv6Addr = v6.parse().map_err(|_| "this is not an IPv6 address".to_owned())?;
                if IpAddr::V6(address).to_canonical().is_ipv4() {
                    return Err("write an IPv4 address as one".into());
                }
                Host::Address(address.into())
            }
            // Anything shorter would be half of the internet.
            (None, Some(below)) if below.contains('.') => Host::Below(name(below)?),
            (None, Some(_)) => return Err("at least two names have to follow `*.`".into()),
            (None, None) => match host.parse() {
                Ok(address) => Host::Address(IpAddr::V4(address)),
                Err(_) => Host::Name(name(host)?),
            },
        };
        Ok(Self { host, port })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let after_host = text.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = text[after_host..].find(':').map(|at| after_host + at) else { return Ok((text, None)) };
    let port = &text[colon + 1..];
    match port.parse() {
        // `+80` would be a number, too.
        Ok(number) if number > 0 && port.bytes().all(|digit| digit.is_ascii_digit()) => {
            Ok((&text[..colon], Some(number)))
        }
        _ => Err("the port is not a number from 1 to 65535".into()),
    }
}

/// A name as DNS and certificates know it. What system libraries would read as a number is none.
fn name(text: &str) -> Result<String, String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let label = |label: &str| !label.is_empty() && label.len() <= LABEL_LENGTH && label.bytes().all(plain);
    if text.is_empty() || text.len() > NAME_LENGTH || !text.split('.').all(label) {
        return Err("a host is letters, digits, '-' and dots (names in other alphabets as xn--…), or an address".into());
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a host that ends in a number is an address, and is written as four numbers".into());
    }
    Ok(text.to_ascii_lowercase())
}

impl fmt::Display for HostRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => formatter.write_str(name)?,
            Host::Below(name) => write!(formatter, "*.{name}")?,
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]")?,
            Host::Address(address) => write!(formatter, "{address}")?,
        }
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl HostRule {
    /// Whether it covers a host as an address spells it (IPv6 in brackets), with the port, of a scheme whose own port is
    /// `usual_port`.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16, usual_port: u16) -> bool {
        let host_fits = match &self.host {
            Host::Name(name) => host.eq_ignore_ascii_case(name),
            Host::Below(name) => host
                .len()
                .checked_sub(name.len())
                .filter(|&at| at > 1 && host.is_char_boundary(at))
                .is_some_and(|at| host[at..].eq_ignore_ascii_case(name) && host[..at].ends_with('.')),
            Host::Address(address) => {
                let literal = host.trim_start_matches('[').trim_end_matches(']');
                literal.parse::<IpAddr>().is_ok_and(|literal| literal.to_canonical() == *address)
            }
        };
        host_fits && port == self.port.unwrap_or(usual_port)
    }

    /// Whether it names this very address, so that nobody can have meant another.
    #[must_use]
    pub fn names_address(&self, address: IpAddr, port: u16, usual_port: u16) -> bool {
        self.host == Host::Address(address.to_canonical()) && port == self.port.unwrap_or(usual_port)
    }

    /// Whether it is an address, not a name.
    #[must_use]
    pub fn is_address(&self) -> bool {
        matches!(self.host, Host::Address(_))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rule(text: &str) -> HostRule {
        text.parse().unwrap()
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in [
            "api.example.org",
            "*.example.org",
            "localhost:8080",
            "127.0.0.1:8080",
            "[::1]:80",
            "10.0.0.1",
            "[fd00::1]",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule("API.Example.ORG").to_string(), "api.example.org");
    }

    #[test]
    fn what_could_mean_more_than_it_says_is_no_rule() {
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            "*",
            "*.org",
            "*.*.org",
            "a.*.org",
            "*example.org",
            "example.org.",
            ".example.org",
            "a..b",
            "exa mple.org",
            "user@example.org",
            "example.org/path",
            "http://example.org",
            "example.org:0",
            "example.org:+80",
            "example.org:65536",
            "example.org:",
            "bücher.example",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.5",
            "[::ffff:10.0.0.1]",
            "[::1",
            "::1",
            "a%2eb",
            "a\0b",
            &long,
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text:?} is taken");
        }
    }

    #[test]
    fn a_name_covers_itself_and_nothing_that_looks_like_it() {
        let exact = rule("example.org");
        assert!(exact.covers("example.org", 443, 443) && exact.covers("EXAMPLE.org", 80, 80));
        for host in ["www.example.org", "example.org.", "example.org.evil.net", "notexample.org", "example.or", ""] {
            assert!(!exact.covers(host, 443, 443), "{host}");
        }
        assert!(!exact.covers("example.org", 8443, 443));
        let below = rule("*.example.org:8443");
        assert!(below.covers("a.example.org", 8443, 443) && below.covers("a.b.Example.org", 8443, 443));
        for host in ["example.org", ".example.org", "aexample.org", "a.example.org.", "a.example.org.evil.net"] {
            assert!(!below.covers(host, 8443, 443), "{host}");
        }
        assert!(!below.covers("a.example.org", 443, 443));
    }

    #[test]
    fn an_address_covers_its_literal_however_it_is_spelled() {
        let local = rule("127.0.0.1:8080");
        assert!(local.covers("127.0.0.1", 8080, 80) && local.covers("[::ffff:127.0.0.1]", 8080, 80));
        assert!(!local.covers("127.0.0.2", 8080, 80) && !local.covers("localhost", 8080, 80));
        assert!(!local.covers("127.0.0.1", 80, 80));
        assert!(rule("[::1]").covers("[0:0:0:0:0:0:0:1]", 443, 443));
        assert!(local.names_address("127.0.0.1".parse().unwrap(), 8080, 80));
        assert!(!rule("localhost:8080").names_address("127.0.0.1".parse().unwrap(), 8080, 80));
    }
}
