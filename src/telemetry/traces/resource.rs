//! What all spans are of, by OpenTelemetry's variables and beneath them by what the program knows of itself.
//!
//! The SDK reads these variables too, but takes `service.name` of the attributes for more than `OTEL_SERVICE_NAME`, and values as
//! they are written, where the specification has them percent-encoded.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use uuid::Uuid;

/// Names and values.
pub(super) type Attributes = Vec<(String, String)>;

/// What `OTEL_RESOURCE_ATTRIBUTES` says, if all of it can be read.
pub(super) fn attributes(text: &str) -> Option<Attributes> {
    let entries = text.split(',').filter(|entry| !entry.trim().is_empty());
    let pair = |entry: &str| {
        let (name, value) = entry.split_once('=')?;
        Some((decoded(name.trim())?, decoded(value.trim())?))
    };
    entries.map(pair).collect()
}

/// The resource of these attributes. Of two with one name the later counts.
pub(super) fn resource(told: &Attributes) -> Resource {
    let own = [
        ("service.name", env!("CARGO_PKG_NAME").to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", Uuid::now_v7().to_string()),
    ];
    let own = own.map(|(name, value)| KeyValue::new(name, value));
    let told = told.iter().cloned();
    let told = told.map(|(name, value)| KeyValue::new(name, value));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(own.into_iter().chain(told))
        .build()
}

/// A text without its percent-encoding (RFC 3986 2.1), if it is one.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = if *first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            rest = after;
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            (high? << 4 | low?) as u8
        } else {
            *first
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_decoded_or_none_is_taken() {
        for (text, want) in [
            ("a=1", Some(&[("a", "1")][..])),
            (" a = 1 ,, b = ,", Some(&[("a", "1"), ("b", "")])),
            ("a=1=2", Some(&[("a", "1=2")])),
            ("a%2cb=%3D%25%C3%A9", Some(&[("a,b", "=%é")])),
            (",", Some(&[])),
            ("a=1,b", None),
            ("a=%2", None),
            ("a=%+1", None),
            ("a=%ff", None),
            ("a=100%,b=2", None),
        ] {
            let want = want.map(|pairs| {
                let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
                pairs.iter().map(owned).collect()
            });
            assert_eq!(attributes(text), want, "{text:?}");
        }
    }
}
