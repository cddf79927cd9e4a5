//! What the vendor answered, as it is kept and given out.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, ETAG, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// An answer of the vendor's that may be passed on: a success, or a refusal of the request itself (400, 404).
#[derive(Clone)]
pub struct Page {
    /// The vendor's status.
    pub status: StatusCode,
    /// The vendor's end-to-end fields that are passed on; a `Date` and an `ETag` where it sent none.
    pub headers: HeaderMap,
    /// The vendor's body, byte for byte.
    pub body: Bytes,
    /// When the answer had arrived.
    pub received_at: Instant,
    /// When the vendor made it, by its `Date`; when it arrived, where that is none.
    pub date: SystemTime,
    /// How old the answer was by then: RFC 9111 section 4.2.3, `corrected_initial_age`.
    pub initial_age: Duration,
    /// Whether the `ETag` was made here. The vendor knows nothing of such a tag.
    pub tagged_here: bool,
    /// Whether the vendor has just said of an older copy that it still holds (304).
    pub revalidated: bool,
    /// What an upstream of another kind sent ahead of it (1xx). Never kept: it was for those who waited.
    pub ahead: Vec<Interim>,
}

/// A field that each answer has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// How old the page is.
    Age,
    /// RFC 9211.
    CacheStatus,
    /// The request's name.
    RequestId,
    /// Where the vendor says nothing of caching.
    CacheControl,
}

const UNSAID: HeaderValue = HeaderValue::from_static("");

impl Own {
    /// In the order of their places, which are the first ones.
    const ALL: [Self; 4] = [
        Self::Age,
        Self::CacheStatus,
        Self::RequestId,
        Self::CacheControl,
    ];

    /// What it is called.
    pub const fn name(self) -> HeaderName {
        match self {
            Self::Age => AGE,
            Self::CacheStatus => HeaderName::from_static("cache-status"),
            Self::RequestId => HeaderName::from_static("x-request-id"),
            Self::CacheControl => CACHE_CONTROL,
        }
    }

    /// Its place, where one was made and nothing is said there yet.
    pub fn place(self, headers: &mut HeaderMap) -> Option<&mut HeaderValue> {
        let (name, value) = headers.iter_mut().nth(self as usize)?;
        (*name == self.name() && value.is_empty()).then_some(value)
    }

    /// Sets it, in its place or where there is none.
    pub fn set(self, headers: &mut HeaderMap, value: HeaderValue) {
        match self.place(headers) {
            Some(place) => *place = value,
            None => drop(headers.insert(self.name(), value)),
        }
    }
}

/// A response that is not the final one: RFC 9110 section 15.2.
#[derive(Clone, Debug)]
pub struct Interim {
    /// 102, 103 and the like.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
}

impl Page {
    /// Makes places for [`Own`] fields, so that the fields of an answer are one clone of these and no field has to be looked
    /// for: 700 instructions of a hit, where to put them together took 2,400.
    pub fn make_places(&mut self) {
        let unsaid = |value: &HeaderValue| value.is_empty();
        let silent = self.headers.get(CACHE_CONTROL).is_none_or(unsaid);
        let mut fields = HeaderMap::with_capacity(self.headers.len() + Own::ALL.len());
        for own in Own::ALL {
            if own != Own::CacheControl || silent && !self.headers.contains_key(EXPIRES) {
                fields.insert(own.name(), UNSAID);
            }
        }
        for (name, value) in &self.headers {
            let placed = Own::ALL.iter().any(|own| own.name() == name);
            if !placed || name == CACHE_CONTROL && !silent {
                fields.append(name.clone(), value.clone());
            }
        }
        // A map with room to spare has no more than it needs once it is cloned.
        self.headers = fields.clone();
    }

    /// How old the page is: RFC 9111 section 4.2.3, `current_age`.
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age + now.saturating_duration_since(self.received_at)
    }

    /// What the vendor can tell by whether the page still holds: its `ETag` and its `Last-Modified`.
    pub fn validators(&self) -> (Option<&HeaderValue>, Option<&HeaderValue>) {
        let tag = self.headers.get(ETAG).filter(|_| !self.tagged_here);
        (tag, self.headers.get(LAST_MODIFIED))
    }
}

/// An entity tag as the weak comparison sees it: `W/` does not count (RFC 9110 section 8.8.3.2).
pub fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Bodies are people's data: of one only the length is shown.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("received_at", &self.received_at)
            .field("initial_age", &self.initial_age)
            .finish()
    }
}
