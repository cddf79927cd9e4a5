//! Names of what callers may have sent on: header fields and query parameters.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// A header field of the caller's that may be sent on to the vendor.
///
/// `Authorization` is for upstreams of another kind alone, which the settings see to as a whole.
///
/// Refused are those that say who calls, those that belong to one connection or to a body, those that the
/// gateway answers itself, and those that it writes itself: sent on, each would break a promise of the gateway's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForwardedHeader(HeaderName);

impl ForwardedHeader {
    /// The field's name.
    pub fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl fmt::Display for ForwardedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ForwardedHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name: HeaderName = text
            .parse()
            .map_err(|_| format!("{text:?} is no header field's name: write {A_HEADER}"))?;
        let why = NEVER_FORWARDED
            .iter()
            .find(|(names, _)| names.contains(&name.as_str()));
        match why {
            Some((_, why)) => Err(format!("{text:?} is never sent on, {why}: leave it out")),
            None => Ok(Self(name)),
        }
    }
}

impl<'de> Deserialize<'de> for ForwardedHeader {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::text(from, A_HEADER, str::parse)
    }
}

impl JsonSchema for ForwardedHeader {
    fn schema_name() -> Cow<'static, str> {
        "ForwardedHeader".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A header field's name; none that identifies the caller, belongs to a connection or a body, or is the gateway's own.",
            "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
            "examples": ["Accept-Language"],
        })
    }
}

/// A query parameter, beside the vendor's own, that callers may send.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtraParameter(String);

impl ExtraParameter {
    /// The parameter's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExtraParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ExtraParameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return Err(format!(
                "{text:?} is no parameter's name: write {A_PARAMETER}"
            ));
        }
        match KEYED.iter().find(|keyed| keyed.eq_ignore_ascii_case(text)) {
            Some(keyed) => Err(format!(
                "{text:?} cannot be an extra one, since {keyed} is always understood: leave it out"
            )),
            None => Ok(Self(text.into())),
        }
    }
}

impl<'de> Deserialize<'de> for ExtraParameter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::text(from, A_PARAMETER, str::parse)
    }
}

impl JsonSchema for ExtraParameter {
    fn schema_name() -> Cow<'static, str> {
        "ExtraParameter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A query parameter's name, other than accountId, skip and limit.",
            "pattern": "^[A-Za-z0-9._-]{1,64}$",
            "examples": ["locale"],
        })
    }
}

const A_HEADER: &str = "a header field's name, such as \"Accept-Language\"";
const A_PARAMETER: &str = "a query parameter's name, 1 to 64 of A-Z a-z 0-9 . _ -";

/// The parameters that every request may carry.
const KEYED: [&str; 3] = ["accountId", "skip", "limit"];

/// Names in lower case, and why none of them is sent on.
const NEVER_FORWARDED: [(&[&str], &str); 7] = [
    (
        &["auth", "proxy-authorization", "cookie", "cookie2"],
        "since it says who the caller is, and the vendor is shown only the gateway's own token",
    ),
    (
        &["iid", "accountid"],
        "since the gateway sends its own, taken from the request's path and account",
    ),
    (
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
        ],
        "since it belongs to the caller's own connection",
    ),
    (
        &[
            "host",
            "expect",
            "content-length",
            "content-type",
            "content-encoding",
            "content-range",
            "content-location",
            "content-language",
        ],
        "since the gateway writes the request itself, to another host and without a body",
    ),
    (
        &[
            "cache-control",
            "pragma",
            "range",
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
            "if-range",
        ],
        "since the gateway answers it itself, from the cache",
    ),
    (
        &["accept-encoding"],
        "since pages are kept and judged as they are, not compressed",
    ),
    (
        &["x-request-id", "traceparent", "tracestate", "baggage"],
        "since one vendor call serves many requests, so none of them may put its mark on it",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_says_what_is_wanted_may_be_sent_on() {
        for text in [
            "Accept-Language",
            "accept",
            "X-Forwarded-For",
            "user-agent",
            "X-Tenant",
        ] {
            let header: ForwardedHeader = text.parse().unwrap();
            assert_eq!(header.to_string(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn a_header_that_would_break_a_promise_is_refused_with_the_reason() {
        for (text, why) in [
            ("auth", "who the caller is"),
            ("COOKIE", "who the caller is"),
            ("accountId", "sends its own"),
            ("Transfer-Encoding", "own connection"),
            ("Host", "another host"),
            ("content-length", "without a body"),
            ("If-None-Match", "from the cache"),
            ("Accept-Encoding", "not compressed"),
            ("traceparent", "many requests"),
            ("", "is no header field's name"),
            ("two words", "is no header field's name"),
        ] {
            let refused = text.parse::<ForwardedHeader>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn an_extra_parameter_is_a_plain_name_that_means_nothing_yet() {
        for text in ["locale", "x", "a.b_c-D9", &"x".repeat(64)] {
            assert_eq!(text.parse::<ExtraParameter>().unwrap().name(), text);
        }
        for text in [
            "",
            "a b",
            "a=b",
            "ä",
            "accountid",
            "SKIP",
            "Limit",
            &"x".repeat(65),
        ] {
            assert!(text.parse::<ExtraParameter>().is_err(), "{text}");
        }
    }
}
