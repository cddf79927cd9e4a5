//! What the vendor's answers mean: which of them become pages, what of them is passed on, and what is wrong with the rest.
//!
//! Pure, but for where the work is done: a page of megabytes is read beside the runtime, not on it.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::refusal::{LONGEST, Refusal, refusal};
use crate::contacts::control::delta_seconds;
use crate::contacts::{Field, Fields, Page, SharedPage, http_date, opaque, unix_seconds};
use crate::error::Error;

/// From here on an answer is read beside the runtime.
const LARGE: usize = 256 * 1024;

/// When an answer came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// On the clock for ages.
    pub received_at: Instant,
    /// On the clock for dates.
    pub date: SystemTime,
    /// How long the call had taken.
    pub took: Duration,
}

/// Makes a page of an answer, if it deserves to be one. `known` is the page that the vendor was asked about.
///
/// # Errors
/// What is wrong with the answer.
pub async fn judged(
    answer: Response<Bytes>,
    known: Option<SharedPage>,
    any_body: bool,
    at: Arrival,
) -> Result<Page, Error> {
    let large = answer.body().len() >= LARGE;
    let judge = move || {
        if answer.status() == StatusCode::NOT_MODIFIED {
            return revalidated(&answer, known, any_body, at);
        }
        judge(&answer, any_body)?;
        Ok(page(answer, any_body, at))
    };
    if large {
        let judged = tokio::task::spawn_blocking(judge).await;
        judged.unwrap_or(Err(Error::Internal))
    } else {
        judge()
    }
}

/// Whether an answer may be passed on: a success, or the vendor's no to this very request. An upstream of another kind
/// may answer what it likes, and only status 429 is known to be a refusal.
fn judge(answer: &Response<Bytes>, any_body: bool) -> Result<(), Error> {
    let (status, body) = (answer.status(), answer.body());
    let success = (status == StatusCode::OK && !any_body && is_plain(answer.headers()))
        .then(|| Envelope::read(body))
        .flatten();
    // Contacts may hold any text, so of a success only its message can be a refusal.
    let text = match &success {
        Some(envelope) => envelope.message.as_bytes(),
        None if any_body => b"",
        None => body,
    };
    if let Some(refusal) = refusal(status, text) {
        return Err(Error::UpstreamRefused {
            hourly: refusal == Refusal::Hour,
            // The account knows: see `exchange`.
            retry_after: Duration::ZERO,
        });
    }
    match status.as_u16() {
        _ if any_body => Ok(()),
        200 if success.is_some() => Ok(()),
        200 => Err(Error::UpstreamGarbled(
            "its body is not the promised JSON of a success".into(),
        )),
        401 | 403 => Err(Error::CredentialsRefused),
        400..=499 => Ok(()),
        500..=599 => Err(Error::UpstreamFailed(
            format!("it answered {}", status.as_u16()).into(),
        )),
        300..=399 => Err(Error::UpstreamGarbled("it is a redirect".into())),
        other => Err(Error::UpstreamGarbled(
            format!("its status is {other}").into(),
        )),
    }
}

/// Whether a body is what its bytes are. `identity` alone was asked for, so what comes in another coding is not the
/// promised JSON; and a body that is merely labelled so would be one that no caller can read.
fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|coding| coding.is_empty() || coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The part of a success that is looked at. Reading it proves that all of the body is JSON.
struct Envelope<'a> {
    message: Cow<'a, str>,
}

impl<'a> Envelope<'a> {
    /// The envelope of a success; nothing for any other body.
    fn read(body: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            status: Cow<'a, str>,
            #[serde(borrow)]
            message: Option<&'a RawValue>,
        }
        // RFC 8259 section 8.1: JSON is UTF-8. In what it passes over, serde would not look.
        let text = std::str::from_utf8(body).ok()?;
        // serde would read an array into the fields as well.
        if !text.trim_ascii_start().starts_with('{') {
            return None;
        }
        let fields: Fields<'a> = serde_json::from_str(text).ok()?;
        let message = fields.message.map_or("", RawValue::get);
        (fields.status == "success").then(|| Self {
            message: string(message),
        })
    }
}

/// The text of a JSON string. It is copied only if it has escapes and could be a refusal, which is short: of megabytes
/// a copy would be made for nothing.
fn string(json: &str) -> Cow<'_, str> {
    let text = json.strip_prefix('"').unwrap_or_default();
    let most = 6 * LONGEST; // Each character may be an escape.
    let escaped = text.len() < most && text.contains('\\');
    let decoded = escaped.then(|| serde_json::from_str(json).ok()).flatten();
    decoded.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// The vendor's fields that callers see. What is not named here ends here: cookies, hop-by-hop fields, and all that
/// is about the vendor's connection and not about the page.
const PASSED: [HeaderName; 11] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CACHE_CONTROL,
    PRAGMA,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    VARY,
];

fn page(answer: Response<Bytes>, any_body: bool, at: Arrival) -> Page {
    let (head, body) = answer.into_parts();
    let initial_age = initial_age(&head.headers, at);
    let mut fields = passed(&head.headers, any_body);
    let first = |wanted| {
        let mut those = fields.iter().filter(|(name, _)| **name == wanted);
        those.next().map(|(_, value)| *value)
    };
    let (date, dated_here) = date(first(DATE), at);
    let tagged_here = head.status == StatusCode::OK && first(ETAG).is_none();
    let tag = tagged_here.then(|| etag(&body));
    fields.extend(dated_here.iter().map(|date| (&DATE, date)));
    fields.extend(tag.iter().map(|tag| (&ETAG, tag)));
    let (fields, body) = Fields::with_body(&fields, body);
    Page {
        status: head.status,
        fields,
        body,
        received_at: at.received_at,
        date: unix_seconds(date),
        initial_age: initial_age.into(),
        tagged_here,
        revalidated: false,
        ahead: Box::default(),
    }
}

/// RFC 9111 section 4.3.4: the known page, with what the 304 says anew.
fn revalidated(
    answer: &Response<Bytes>,
    known: Option<SharedPage>,
    any_body: bool,
    at: Arrival,
) -> Result<Page, Error> {
    let unasked = || Error::UpstreamGarbled("it is a 304 that nobody asked for".into());
    let known = known.ok_or_else(unasked)?;
    let (tag, modified) = known.validators();
    let told = answer.headers().get(ETAG);
    let other = tag
        .zip(told)
        .is_some_and(|(ours, told)| opaque(ours) != opaque(told.as_bytes()));
    if other || tag.is_none() && modified.is_none() {
        return Err(unasked());
    }
    let mut anew = map(passed(answer.headers(), any_body));
    let (date, dated_here) = date(anew.get(DATE), at);
    anew.extend(dated_here.map(|date| (DATE, date)));
    // Section 3.2: these describe the body that is kept, not the one that was not sent.
    for name in [
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ] {
        anew.remove(name);
    }
    let mut headers = known.fields.to_map();
    for name in anew.keys() {
        headers.remove(name);
    }
    for (name, value) in &anew {
        headers.append(name, value.clone());
    }
    Ok(Page {
        fields: headers.into(),
        received_at: at.received_at,
        date: unix_seconds(date),
        initial_age: initial_age(answer.headers(), at).into(),
        tagged_here: known.tagged_here && told.is_none(),
        revalidated: true,
        ..Page::clone(&known)
    })
}

/// When the answer was made, by its `Date`, and that where it is missing. Where it is no date it is left as it is, and the time of
/// arrival counts.
fn date(told: Option<&HeaderValue>, at: Arrival) -> (SystemTime, Option<HeaderValue>) {
    match told {
        Some(value) => {
            let told = value.to_str().ok().and_then(http_date);
            (told.unwrap_or(at.date), None)
        }
        None => {
            let text = httpdate::fmt_http_date(at.date);
            (at.date, HeaderValue::try_from(text).ok())
        }
    }
}

/// Fields as a map.
pub(super) fn map(fields: Vec<Field<'_>>) -> HeaderMap {
    let fields = fields.into_iter();
    fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Those of an answer's fields that callers see.
pub(super) fn passed(sent: &HeaderMap, any_body: bool) -> Vec<Field<'_>> {
    let hop_by_hop: Vec<_> = sent
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .collect();
    let kept = |name: &HeaderName| {
        !hop_by_hop.contains(name)
            && (PASSED.contains(name) || any_body && !NEVER.contains(&name.as_str()))
    };
    let mut fields = Vec::with_capacity(sent.len() + 2);
    fields.extend(sent.iter().filter(|(name, _)| kept(name)));
    fields
}

/// Of an upstream of another kind every end-to-end field is passed on but these.
const NEVER: [&str; 13] = [
    "age", // ours to tell
    "connection",
    "content-length", // hyper counts
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id", // ours
];

/// RFC 9111 section 4.2.3: the larger of what `Date` and what `Age` tell, the call's own time included in the latter.
/// Where the vendor names no freshness the age is measured by our own clock alone, so that a vendor whose clock goes
/// a minute wrong does not make its pages a minute older.
fn initial_age(headers: &HeaderMap, at: Arrival) -> Duration {
    let first = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    let named = headers.contains_key(CACHE_CONTROL) || headers.contains_key(EXPIRES);
    let apparent = first(DATE)
        .filter(|_| named)
        .and_then(http_date)
        .and_then(|date| at.date.duration_since(date).ok())
        .unwrap_or_default();
    // Section 5.1: of several the first counts, and what cannot be read does not.
    let told = first(AGE).and_then(|text| delta_seconds(text.split(',').next()?.trim()));
    let told = told.unwrap_or_default();
    apparent.max(told + at.took)
}

/// A strong tag made of the body, the same in every replica: its XXH3 of 128 bits. Whoever could write pages of one tag could only
/// hide from callers what they wrote themselves, so that it need be no cryptographic hash, which took 4 µs for 50 contacts.
fn etag(body: &[u8]) -> HeaderValue {
    use base64::Engine as _;
    const LENGTH: usize = 22; // of 16 bytes
    let hash = xxhash_rust::xxh3::xxh3_128(body).to_be_bytes();
    let mut tag = [b'"'; LENGTH + 2];
    let text = &mut tag[1..=LENGTH];
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode_slice(hash, text);
    let tag = encoded
        .ok()
        .and_then(|_| HeaderValue::from_bytes(&tag).ok());
    tag.unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_success_is_json_what_nobody_looks_at_included() {
        for (rest, whole) in [
            (&b"\"data\":{\"firstName\":\"Zo\xc3\xab\"}"[..], true),
            (b"\"data\":{\"firstName\":\"Zo\xeb\"}", false),
            (b"\"data\":{\"firstName\":\"Zo\\ud800\"}", true),
            (b"\"data\":{\"firstName\":Zoe}", false),
            (b"\"data\":{\"firstName\":\"Zoe\"", false),
        ] {
            let body = [b"{\"status\":\"success\",", rest, b"}"].concat();
            let envelope = Envelope::read(&body);
            assert_eq!(
                envelope.is_some(),
                whole,
                "{}",
                String::from_utf8_lossy(&body)
            );
        }
    }

    #[test]
    fn a_date_that_is_missing_or_not_passed_on_is_that_of_arrival() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200);
        let at = Arrival {
            received_at: crate::clock::Clock::system().now(),
            date,
            took: Duration::ZERO,
        };
        const ITS: &str = "Sun, 31 Dec 2023 23:59:00 GMT";
        const OURS: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
        for (sent, want) in [
            (&[][..], OURS),
            (&[("date", ITS)], ITS),
            (&[("date", ITS), ("connection", "date")], OURS),
            (&[("date", "never")], "never"),
        ] {
            let mut answer = Response::new(Bytes::new());
            for (name, value) in sent {
                let value = HeaderValue::from_static(value);
                answer.headers_mut().insert(*name, value);
            }
            let page = page(answer, true, at);
            assert_eq!(page.fields.get(DATE), Some(want.as_bytes()), "{sent:?}");
        }
    }

    #[test]
    fn a_refusal_in_a_success_is_known_however_json_spells_it() {
        for (message, refused) in [
            ("exceeded the per-minute rate limit", true),
            (
                "You\\u2019ve exceeded the per\\u002dminute rate limit",
                true,
            ),
            ("\\ud800 exceeded the per-minute rate limit", true),
            (r#"the \"rate limit\""#, false),
        ] {
            let body = format!(r#"{{"status":"success","message":"{message}"}}"#);
            let judged = judge(&Response::new(body.into()), false);
            let refusal = matches!(judged, Err(Error::UpstreamRefused { .. }));
            assert_eq!(refusal, refused, "{message}: {judged:?}");
        }
    }
}
