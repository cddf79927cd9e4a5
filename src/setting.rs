//! How a value is written in the settings: durations, sizes, hosts, and the names that reach the vendor.
//!
//! A text becomes a type here, once. Each refusal says what to write instead.

mod host;
mod name;
mod origin;

pub use host::Host;
pub use name::{ExtraParameter, ForwardedHeader};
pub use origin::Origin;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Visitor};

/// A duration as text, zero included: `#[serde(with = "setting::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Reads a text such as "60s".
    ///
    /// # Errors
    /// It is no text, or no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        super::text(from, super::A_DURATION, super::parse_duration)
    }

    /// Writes a text such as "1m".
    ///
    /// # Errors
    /// There is no place for a text.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }
}

/// A duration as text, above zero: `#[serde(with = "setting::positive_duration")]`.
pub mod positive_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Reads a text such as "60s".
    ///
    /// # Errors
    /// It is no text, no duration, or zero.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        super::text(from, super::A_DURATION, super::parse_positive_duration)
    }

    /// Writes a text such as "1m".
    ///
    /// # Errors
    /// There is no place for a text.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }
}

/// A number of bytes as text, above zero: `#[serde(with = "setting::size")]`.
pub mod size {
    use serde::{Deserializer, Serializer};

    /// Reads a text such as "64MiB".
    ///
    /// # Errors
    /// It is no text, no size, or zero.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        super::text(from, super::A_SIZE, super::parse_size)
    }

    /// Writes the number of bytes as a text.
    ///
    /// # Errors
    /// There is no place for a text.
    pub fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{bytes}B"))
    }
}

/// The schema of a duration: `#[schemars(with = "setting::DurationText")]`.
pub enum DurationText {}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: numbers with units (ms, s, m, h, d), for example \"1h 30m\".",
            "pattern": r"^\s*(0|([0-9][0-9\s]*(\.[0-9\s]+)?[A-Za-zµ]+\s*)+)$",
            "examples": ["60s", "1h 30m", "250ms"],
        })
    }
}

/// The schema of a number of bytes: `#[schemars(with = "setting::SizeText")]`.
pub enum SizeText {}

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes, with a unit (B, KiB, MiB, GiB, kB, MB, GB), for example \"64MiB\".",
            "pattern": r"^[0-9]+(\.[0-9]+)?\s*([KMGTkmgt]?[Bb]?|[KMGTkmgt][Ii][Bb]?)$",
            "examples": ["64MiB", "512KiB"],
        })
    }
}

/// Reads a text and parses it. Whatever else stands there is refused with `wanted`, which says what to write.
fn text<'de, D: Deserializer<'de>, T>(
    from: D,
    wanted: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Text<F>(&'static str, F);

    impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            self.1(text).map_err(E::custom)
        }
    }

    from.deserialize_str(Text(wanted, parse))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let refused = |why: &str| Err(format!("{text:?} {why}: write {A_DURATION}"));
    // So many digits overflow inside humantime.
    if text.bytes().filter(u8::is_ascii_digit).count() > MAX_DIGITS {
        return refused("has too many digits");
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => refused("is more than a hundred years"),
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::UnknownUnit { unit, .. }) if unit.is_empty() => {
            refused("has no unit")
        }
        Err(humantime::DurationError::UnknownUnit { unit, .. }) => {
            refused(&format!("has a unit {unit:?} that is not known"))
        }
        Err(_) => refused("is no duration"),
    }
}

fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err(format!("must be more than zero: write {A_DURATION}")),
        duration => Ok(duration),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err(format!("must be more than zero: write {A_SIZE}")),
        Ok(ByteSize(bytes)) if bytes > LARGEST => {
            Err(format!("{text:?} is too large: write {A_SIZE}"))
        }
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err(format!("{text:?} is no size: write {A_SIZE}")),
    }
}

const A_DURATION: &str = "a duration as text, such as \"60s\", \"1h 30m\" or \"250ms\"";
const A_SIZE: &str = "a size as text, such as \"64MiB\" or \"512KiB\"";
const MAX_DIGITS: usize = 15;
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);
const LARGEST: u64 = 1 << 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        for (text, want) in [
            ("60s", Duration::from_secs(60)),
            ("1h 30m", Duration::from_secs(5400)),
            ("250ms", Duration::from_millis(250)),
            ("1.5s", Duration::from_millis(1500)),
            ("0s", Duration::ZERO),
            ("0", Duration::ZERO),
            ("100years", LONGEST),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_to_write() {
        for (text, why) in [
            ("", "is no duration"),
            ("60", "has no unit"),
            ("-5s", "is no duration"),
            ("10 parsecs", "\"parsecs\""),
            ("s", "is no duration"),
            ("101 years", "more than a hundred years"),
            ("18446744073709551615s 1000ms", "too many digits"),
            ("999999999999999 years", "is no duration"),
        ] {
            let refused = parse_duration(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
            assert!(refused.contains("\"60s\""), "{text}: {refused}");
        }
        assert!(parse_positive_duration("0ms").is_err());
        assert!(parse_positive_duration("1ms").is_ok());
    }

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        for (text, want) in [
            ("64MiB", 64 << 20),
            ("512 KiB", 512 << 10),
            ("1MB", 1_000_000),
            ("1.5GiB", 3 << 29),
            ("1024", 1024),
        ] {
            assert_eq!(parse_size(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_to_write() {
        for text in ["", "0", "0B", "-1MiB", "64 parsecs", "MiB", "9999999EiB"] {
            let refused = parse_size(text).unwrap_err();
            assert!(refused.contains("\"64MiB\""), "{text}: {refused}");
        }
    }
}
