//! A host that requests may be addressed to.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::uri::Authority;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// What a request's `Host` may say: a name or an address, perhaps a port. Compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// In small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("{text:?} {why}: write {A_HOST}"));
        if text.contains('*') {
            return refused("stands for many, and each is to be named");
        }
        match text.parse::<Authority>() {
            Ok(authority) if !text.contains('@') && !authority.host().is_empty() => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => refused("is no host"),
        }
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::text(from, A_HOST, str::parse)
    }
}

impl JsonSchema for Host {
    fn schema_name() -> Cow<'static, str> {
        "Host".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A name or an address, with or without a port; no scheme and no path.",
            "pattern": r"^[^\s/?#@*:][^\s/?#@*]*$",
            "examples": ["contacts.example", "contacts.example:8443"],
        })
    }
}

const A_HOST: &str =
    "a name or an address, with or without a port, such as \"contacts.example\" or \"[::1]:8080\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_can_be_addressed_to_is_refused() {
        for host in ["a", "A.Example:8443", "10.0.0.1", "[::1]", "[::1]:8080"] {
            assert_eq!(
                host.parse::<Host>().unwrap().as_str(),
                host.to_ascii_lowercase()
            );
        }
        for (text, why) in [
            ("", "is no host"),
            (":8080", "is no host"),
            ("http://a", "is no host"),
            ("a/", "is no host"),
            ("a b", "is no host"),
            ("name@a", "is no host"),
            ("*.example", "stands for many, and each is to be named"),
        ] {
            let refused = text.parse::<Host>().unwrap_err();
            assert_eq!(refused, format!("{text:?} {why}: write {A_HOST}"));
        }
    }
}
