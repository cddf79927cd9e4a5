//! An http or https URL that ends after its port.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::uri::{Authority, Scheme};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// Where requests are sent: a scheme, a host, perhaps a port, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    authority: Authority,
}

impl Origin {
    /// `http` or `https`.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host, and port where one is written: what `:authority` says.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The port, written or not.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(self.usual_port())
    }

    /// What `Host` says (RFC 9110 section 7.2): as written, but for a port that is the usual one.
    pub fn host_field(&self) -> &str {
        match self.port() == self.usual_port() {
            true => self.host(),
            false => self.authority.as_str(),
        }
    }

    fn usual_port(&self) -> u16 {
        if self.scheme == Scheme::HTTPS {
            443
        } else {
            80
        }
    }

    /// The host alone; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        self.authority.host()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// A reason never repeats the text: there could be a password in it.
impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("{why}: write {AN_ORIGIN}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return refused("is no URL");
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return refused("the scheme must be http or https"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return refused("no user and no password may stand in it");
        }
        if rest.contains('?') {
            return refused("no query may stand in it");
        }
        if rest.contains('#') {
            return refused("no fragment may stand in it");
        }
        if !matches!(rest, "" | "/") {
            return refused("no path may stand in it");
        }
        match authority.parse::<Authority>() {
            Ok(authority) if !is_host(authority.host()) => refused("the host is no host"),
            Ok(authority) if !is_port(authority.as_str(), authority.host()) => {
                refused("the port must be 1 to 65535")
            }
            Ok(authority) => Ok(Self { scheme, authority }),
            Err(_) => refused("the host is no host"),
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::text(from, AN_ORIGIN, str::parse)
    }
}

impl JsonSchema for Origin {
    fn schema_name() -> Cow<'static, str> {
        "Origin".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An http or https URL: scheme, host, and port where it is not the usual one.",
            "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+/?$",
            "examples": ["https://platform.kore.ai"],
        })
    }
}

fn is_host(host: &str) -> bool {
    match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            host.bytes().all(plain) && host.bytes().any(|b| b.is_ascii_alphanumeric())
        }
    }
}

fn is_port(authority: &str, host: &str) -> bool {
    match authority.strip_prefix(host) {
        Some("") => true,
        Some(port) => {
            let digits = port.trim_start_matches(':');
            digits.bytes().all(|b| b.is_ascii_digit())
                && digits.parse() != Ok(0_u16)
                && digits.parse::<u16>().is_ok()
        }
        None => false,
    }
}

const AN_ORIGIN: &str = "scheme, host and perhaps a port, such as \"https://platform.kore.ai\" or \"http://127.0.0.1:8081\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        for (text, want, host) in [
            (
                "https://platform.kore.ai",
                "https://platform.kore.ai",
                "platform.kore.ai",
            ),
            (
                "https://platform.kore.ai/",
                "https://platform.kore.ai",
                "platform.kore.ai",
            ),
            (
                "HTTPS://example.com:8443",
                "https://example.com:8443",
                "example.com",
            ),
            (
                "http://127.0.0.1:8081",
                "http://127.0.0.1:8081",
                "127.0.0.1",
            ),
            ("http://[::1]:8081", "http://[::1]:8081", "[::1]"),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.to_string(), want);
            assert_eq!(origin.host(), host);
        }
    }

    #[test]
    fn a_usual_port_is_known_unwritten_and_left_out_of_the_host_field() {
        for (url, port, field) in [
            ("https://kore.example", 443, "kore.example"),
            ("https://kore.example:443", 443, "kore.example"),
            ("https://kore.example:8443", 8443, "kore.example:8443"),
            ("http://kore.example:443", 443, "kore.example:443"),
            ("http://[::1]:80", 80, "[::1]"),
            ("http://[::1]:8080", 8080, "[::1]:8080"),
        ] {
            let origin: Origin = url.parse().unwrap();
            assert_eq!((origin.port(), origin.host_field()), (port, field), "{url}");
        }
    }

    #[test]
    fn anything_more_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "no URL"),
            ("platform.kore.ai", "no URL"),
            ("ftp://platform.kore.ai", "http or https"),
            ("https://", "no host"),
            ("https://:80", "no host"),
            ("https://.", "no host"),
            ("https://exa mple", "no host"),
            ("https://ex%41mple", "no host"),
            ("https://[nonsense]", "no host"),
            ("https://host:", "1 to 65535"),
            ("https://host:0", "1 to 65535"),
            ("https://host:65536", "1 to 65535"),
            ("https://host:http", "1 to 65535"),
            ("https://host/agentassist", "no path"),
            ("https://host//", "no path"),
            ("https://host?x=1", "no query"),
            ("https://host/#top", "no fragment"),
        ] {
            let refused = text.parse::<Origin>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let refused = "https://user:hunter2@host".parse::<Origin>().unwrap_err();
        assert!(
            refused.contains("no password") && !refused.contains("hunter2"),
            "{refused}"
        );
    }
}
