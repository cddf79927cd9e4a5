//! The `Cache-Control` field: of requests as a type, of answers as a list that the cache's policy reads.

use std::time::Duration;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderValue};

/// What a caller's `Cache-Control` asks: RFC 9111 section 5.2.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Answer from memory or not at all.
    pub only_if_cached: bool,
    /// Ask the vendor, whatever is in memory.
    pub no_cache: bool,
    /// Keep nothing of the answer.
    pub no_store: bool,
    /// Nothing older than this.
    pub max_age: Option<Duration>,
    /// Nothing that is fresh for less than this.
    pub min_fresh: Option<Duration>,
    /// An old page will do, if it went stale no longer ago than this.
    pub max_stale: Option<Duration>,
}

impl Directives {
    /// Reads a request's `Cache-Control`, or its `Pragma` where it has none (RFC 9111 section 5.4).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut asked = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            asked.no_cache = headers
                .get_all(PRAGMA)
                .iter()
                .any(|value| directives(value.as_bytes()).any(|(name, _)| name == "no-cache"));
            return asked;
        }
        let lines = headers.get_all(CACHE_CONTROL);
        for (name, argument) in cache_control(lines.iter().map(HeaderValue::as_bytes)) {
            let seconds = argument.as_deref().and_then(delta_seconds);
            match name.as_str() {
                "only-if-cached" => asked.only_if_cached = true,
                "no-cache" => asked.no_cache = true,
                "no-store" => asked.no_store = true,
                "max-age" => asked.max_age = seconds.or(asked.max_age),
                "min-fresh" => asked.min_fresh = seconds.or(asked.min_fresh),
                // Without an argument: any age will do.
                "max-stale" if argument.is_none() => asked.max_stale = Some(Duration::MAX),
                "max-stale" => asked.max_stale = seconds.or(asked.max_stale),
                _ => {}
            }
        }
        asked
    }

    /// Those alone that can only spare the vendor a call. A cache may leave out the others (RFC 9111 section 5.2.1).
    pub fn sparing(self) -> Self {
        Self {
            only_if_cached: self.only_if_cached,
            max_stale: self.max_stale,
            ..Self::default()
        }
    }
}

/// Every directive of a message's `Cache-Control`, of all its lines, names in lower case, arguments without their quotes.
pub fn cache_control<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
) -> impl Iterator<Item = (String, Option<String>)> {
    lines.into_iter().flat_map(directives)
}

/// `delta-seconds` of RFC 9111 section 1.2.2: digits only; what is too large to count is very long.
pub fn delta_seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    const LONGEST: u64 = 1 << 31;
    Some(Duration::from_secs(
        text.parse().unwrap_or(LONGEST).min(LONGEST),
    ))
}

/// Splits a list of `token[=token-or-quoted-string]`. What is malformed is passed over up to the next comma.
fn directives(field: &[u8]) -> impl Iterator<Item = (String, Option<String>)> {
    let mut rest = field;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (item, after) = one(rest);
            rest = after;
            if item.is_some() {
                return item;
            }
        }
        None
    })
}

type Item = Option<(String, Option<String>)>;

/// The first item of a list, if it is well-formed, and what follows its comma.
fn one(field: &[u8]) -> (Item, &[u8]) {
    let field = field.trim_ascii_start();
    let end = field
        .iter()
        .position(|b| !is_token(*b))
        .unwrap_or(field.len());
    let (name, rest) = field.split_at(end);
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let (argument, rest) = match rest {
        [b'=', b'"', quoted @ ..] => match quoted_string(quoted) {
            Some((text, rest)) => (Some(text), rest),
            None => return (None, &[]),
        },
        [b'=', rest @ ..] => {
            let end = rest
                .iter()
                .position(|b| !is_token(*b))
                .unwrap_or(rest.len());
            let (text, rest) = rest.split_at(end);
            (Some(String::from_utf8_lossy(text).into_owned()), rest)
        }
        rest => (None, rest),
    };
    let rest = rest.trim_ascii_start();
    let (well_formed, rest) = match rest {
        [] => (true, rest),
        [b',', rest @ ..] => (true, rest),
        _ => (false, after_comma(rest)),
    };
    (
        (well_formed && !name.is_empty()).then_some((name, argument)),
        rest,
    )
}

/// The text of a quoted string whose opening quote is gone, and what follows its closing one.
fn quoted_string(field: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match field.get(at)? {
            b'"' => break,
            b'\\' => {
                at += 1;
                text.push(*field.get(at)?);
            }
            byte => text.push(*byte),
        }
        at += 1;
    }
    Some((
        String::from_utf8_lossy(&text).into_owned(),
        &field[at + 1..],
    ))
}

/// Passes over a malformed item, quoted strings whole, so that a comma inside one starts nothing.
fn after_comma(mut field: &[u8]) -> &[u8] {
    loop {
        match field {
            [] => return field,
            [b',', rest @ ..] => return rest,
            [b'"', rest @ ..] => match quoted_string(rest) {
                Some((_, rest)) => field = rest,
                None => return &[],
            },
            [_, rest @ ..] => field = rest,
        }
    }
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_directives_is_read_as_rfc_9110_writes_it() {
        let a = |n: &str| (n.to_owned(), None);
        let b = |n: &str, v: &str| (n.to_owned(), Some(v.to_owned()));
        for (field, want) in [
            ("", vec![]),
            (
                "Max-Age=60, no-cache",
                vec![b("max-age", "60"), a("no-cache")],
            ),
            ("max-age=\"60\"", vec![b("max-age", "60")]),
            (",, no-store ,", vec![a("no-store")]),
            (
                "private=\"a, b\", x=\"q\\\"\"",
                vec![b("private", "a, b"), b("x", "q\"")],
            ),
            ("max-age =60, no-store", vec![a("no-store")]),
            ("a b, c", vec![a("c")]),
            ("max-age=, x", vec![b("max-age", ""), a("x")]),
            ("=1, x", vec![a("x")]),
            ("a=\"open, no-store", vec![]),
            ("x y=\"1, no-store\", z", vec![a("z")]),
        ] {
            assert_eq!(
                directives(field.as_bytes()).collect::<Vec<_>>(),
                want,
                "{field}"
            );
        }
    }

    #[test]
    fn seconds_are_digits_and_huge_ones_are_very_long() {
        for (text, want) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("99999999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
        ] {
            assert_eq!(delta_seconds(text).map(|d| d.as_secs()), want, "{text}");
        }
    }

    #[test]
    fn a_callers_directives_are_typed() {
        let of = |fields: &[(&'static str, &'static str)]| {
            Directives::of(
                &fields
                    .iter()
                    .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                    .collect(),
            )
        };
        let all = of(&[
            ("cache-control", "only-if-cached, max-stale"),
            (
                "cache-control",
                "max-age=0, min-fresh=5, no-cache, no-store",
            ),
        ]);
        assert_eq!(
            all,
            Directives {
                only_if_cached: true,
                no_cache: true,
                no_store: true,
                max_age: Some(Duration::ZERO),
                min_fresh: Some(Duration::from_secs(5)),
                max_stale: Some(Duration::MAX),
            }
        );
        let sparing = Directives {
            only_if_cached: true,
            max_stale: Some(Duration::MAX),
            ..Directives::default()
        };
        assert_eq!(all.sparing(), sparing);
        assert!(of(&[("pragma", "no-cache")]).no_cache);
        assert!(!of(&[("pragma", "no-cache"), ("cache-control", "x")]).no_cache);
        assert_eq!(of(&[("cache-control", "max-age=x")]).max_age, None);
    }
}
