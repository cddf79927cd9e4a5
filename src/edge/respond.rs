//! Makes a response of what the cache has: the vendor's status, body and fields, and what a cache owes its callers
//! (`Age`, `Cache-Status`, 304 where the caller has the page already).

use std::task::{Context, Poll};
use std::time::SystemTime;

use http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, DATE, ETAG, EXPIRES, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sfv::{Integer, ItemSerializer, key_ref, token_ref};
use tower::{Layer, Service, layer};

use super::failure::Failure;
use super::seconds::Seconds;
use super::{Attempt, Body};
use crate::cache::{Answer, How, Served};
use crate::contacts::{Ask, Fields, Interim, Own, Page, http_date, opaque};
use crate::error::Error;
use crate::soon::Soon;

/// RFC 9110 section 15.4.5: what a 304 says of what a 200 would have said.
const TOLD_OF_WHAT_IS_HELD_BACK: [HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY];

/// The rung.
pub fn layer<S>() -> impl Layer<S, Service = Respond<S>> + Clone {
    layer::layer_fn(|inner| Respond { inner })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Respond<S> {
    inner: S,
}

/// What is to be sent ahead of the response that this is an extension of.
#[derive(Clone, Debug)]
pub struct Ahead(pub Vec<Interim>);

/// That the vendor gave the response that this is an extension of just now.
#[derive(Clone, Copy, Debug)]
pub(super) struct New;

/// An ask, and what of its answer depends on what the caller has already.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is asked.
    pub(crate) ask: Ask,
    /// Under which conditions it is answered in full.
    pub(crate) conditions: Conditions,
}

/// `If-None-Match` and `If-Modified-Since`: RFC 9110 section 13.1.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    none_match: Vec<HeaderValue>,
    modified_since: Option<SystemTime>,
}

impl<S> Service<Asked> for Respond<S>
where
    S: Service<Ask, Response = Answer, Error = Error, Future = Soon<Result<Answer, Error>>>,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Soon<Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx).map_err(Failure::from)
    }

    fn call(&mut self, asked: Asked) -> Self::Future {
        let Asked { ask, conditions } = asked;
        self.inner.call(ask).then(move |answer| {
            Ok(match answer.map_err(Failure::from)? {
                Answer::Page(served) => page(&served, &conditions),
                Answer::Forgotten(n) => forgotten(n),
            })
        })
    }
}

fn page(served: &Served, conditions: &Conditions) -> Response<Body> {
    let page: &Page = &served.page;
    let held_back = page.status == StatusCode::OK && conditions.hold_back(&page.fields);
    let age = served.age.as_secs().try_into().unwrap_or(i64::MAX);
    let mut headers = page.fields.answer(AGE.value(age), cache_status(served));
    if held_back {
        reduce_to_what_is_told(&mut headers);
    }
    let mut response = Response::new(Body::default());
    *response.headers_mut() = headers;
    if held_back {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.status_mut() = page.status;
        *response.body_mut() = Body::new(page.body.clone());
    }
    if !page.ahead.is_empty() {
        response.extensions_mut().insert(Ahead(page.ahead.to_vec()));
    }
    if matches!(served.how, How::Fetched { .. }) && served.age.as_secs() == 0 {
        response.extensions_mut().insert(New);
    }
    response
}

/// Takes out what a 304 does not say.
fn reduce_to_what_is_told(headers: &mut HeaderMap) {
    let told = |name| TOLD_OF_WHAT_IS_HELD_BACK.contains(name) || Own::has(name);
    let others: Vec<_> = headers.keys().filter(|name| !told(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
}

fn forgotten(n: u64) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{{\"forgotten\": {n}}}")));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `Age`: RFC 9111 section 5.1.
static AGE: Seconds = Seconds::new(HeaderValue::from);

/// What [`cache_status`] is of a page from memory.
static HIT: Seconds = Seconds::new(|ttl| {
    let text = format!("contacts-gateway; hit; ttl={}", integer(ttl));
    HeaderValue::from_str(&text).unwrap_or(OURS)
});

/// RFC 9211: a list of one member, ours. The space after each semicolon is for people.
fn cache_status(served: &Served) -> HeaderValue {
    let ours = || ItemSerializer::new().bare_item(token_ref("contacts-gateway"));
    let ours = match served.how {
        // By far the most, and by hand a tenth of the work: 150 instructions, not 1,500.
        How::Hit { ttl } => return HIT.value(ttl),
        How::Fetched {
            fwd,
            status,
            stored,
            collapsed,
        } => {
            let stored = if stored { "; stored" } else { "" };
            let collapsed = if collapsed { "; collapsed" } else { "" };
            let text = [
                "contacts-gateway; fwd=",
                fwd,
                "; fwd-status=",
                status.as_str(),
                stored,
                collapsed,
            ];
            return HeaderValue::from_str(&text.concat()).unwrap_or(OURS);
        }
        How::OldAfter(name) => ours()
            .parameter(key_ref("fwd"), token_ref("stale"))
            .parameter(key_ref("detail"), token_ref(name)),
    };
    let text = ours.finish().replace(';', "; ");
    HeaderValue::from_str(&text).unwrap_or(OURS)
}

const OURS: HeaderValue = HeaderValue::from_static("contacts-gateway");

/// The nearest integer of 15 digits, which is all that structured fields have.
fn integer(n: i64) -> Integer {
    n.try_into()
        .unwrap_or(if n < 0 { Integer::MIN } else { Integer::MAX })
}

impl Conditions {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let none_match: Vec<_> = headers.get_all(IF_NONE_MATCH).iter().cloned().collect();
        let modified_since = headers
            .get(IF_MODIFIED_SINCE)
            // RFC 9110 section 13.1.3: not looked at beside If-None-Match.
            .filter(|_| none_match.is_empty())
            .and_then(|value| http_date(value.to_str().ok()?));
        Self {
            none_match,
            modified_since,
        }
    }

    /// Whether the caller has the page already.
    fn hold_back(&self, page: &Fields) -> bool {
        if !self.none_match.is_empty() {
            let tag = page.get(ETAG);
            let matches = |value: &HeaderValue| {
                tags(value.as_bytes()).any(|t| t == b"*" || tag.map(opaque) == Some(opaque(t)))
            };
            return self.none_match.iter().any(matches);
        }
        let Some(since) = self.modified_since else {
            return false;
        };
        // RFC 9111 section 4.3.2: where the vendor tells no modification, its Date stands in for one.
        let modified = page
            .get(LAST_MODIFIED)
            .or_else(|| page.get(DATE))
            .and_then(|value| http_date(str::from_utf8(value).ok()?));
        modified.is_some_and(|modified| modified <= since)
    }
}

/// The entity tags of a list, and `*` (RFC 9110 section 8.8.3). A comma inside a tag belongs to it.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = &rest[rest.iter().position(|b| !b", \t".contains(b))?..];
        let quote = rest.iter().position(|b| *b == b'"').unwrap_or(rest.len());
        let comma = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
        let end = if quote < comma {
            let opened = quote + 1;
            let closed = rest[opened..].iter().position(|b| *b == b'"');
            closed.map_or(rest.len(), |at| opened + at + 1)
        } else {
            comma
        };
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contacts::{Millis, SharedPage};

    #[test]
    fn cache_status_is_what_rfc_9211_writes() {
        let page = SharedPage::from(Page {
            status: StatusCode::OK,
            fields: HeaderMap::new().into(),
            body: bytes::Bytes::new(),
            received_at: crate::clock::Clock::system().now(),
            date: 0,
            initial_age: Millis::default(),
            tagged_here: false,
            revalidated: false,
            ahead: Box::default(),
        });
        let fetched = |stored, collapsed| How::Fetched {
            fwd: "uri-miss",
            status: StatusCode::OK,
            stored,
            collapsed,
        };
        for (how, want) in [
            (How::Hit { ttl: 42 }, "contacts-gateway; hit; ttl=42"),
            (How::Hit { ttl: -7 }, "contacts-gateway; hit; ttl=-7"),
            (
                fetched(true, false),
                "contacts-gateway; fwd=uri-miss; fwd-status=200; stored",
            ),
            (
                fetched(false, false),
                "contacts-gateway; fwd=uri-miss; fwd-status=200",
            ),
            (
                fetched(true, true),
                "contacts-gateway; fwd=uri-miss; fwd-status=200; stored; collapsed",
            ),
            (
                How::OldAfter("upstream-failed"),
                "contacts-gateway; fwd=stale; detail=upstream-failed",
            ),
        ] {
            let served = Served {
                page: page.clone(),
                age: Duration::ZERO,
                how,
            };
            assert_eq!(cache_status(&served), want);
        }
    }

    #[test]
    fn a_condition_holds_a_page_back_that_the_caller_has() {
        let page: HeaderMap = [
            (ETAG, "\"a,b\""),
            (LAST_MODIFIED, "Mon, 01 Jan 2024 00:00:00 GMT"),
        ]
        .map(|(n, v)| (n, HeaderValue::from_static(v)))
        .into_iter()
        .collect();
        let held = |name: HeaderName, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            Conditions::of(&headers).hold_back(&page.clone().into())
        };
        for (value, want) in [
            ("\"a,b\"", true),
            ("W/\"a,b\"", true),
            ("*", true),
            ("\"x\", \"a,b\"", true),
            ("\"x\" ,W/\"y\",\t\"a,b\"", true),
            ("\"a\"", false),
            ("a,b", false),
            ("", false),
        ] {
            assert_eq!(held(IF_NONE_MATCH, value), want, "If-None-Match: {value}");
        }
        for (value, want) in [
            ("Mon, 01 Jan 2024 00:00:00 GMT", true),
            ("Sun, 31 Dec 2023 23:59:59 GMT", false),
            ("yesterday", false),
        ] {
            assert_eq!(
                held(IF_MODIFIED_SINCE, value),
                want,
                "If-Modified-Since: {value}"
            );
        }
    }
}
