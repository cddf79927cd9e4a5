//! What the vendor answered, as it is kept and given out.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::Fields;

/// An answer of the vendor's that may be passed on: a success, or a refusal of the request itself (400, 404).
#[derive(Clone)]
pub struct Page {
    /// The vendor's status.
    pub status: StatusCode,
    /// The vendor's end-to-end fields that are passed on; a `Date` and an `ETag` where it sent none.
    pub fields: Fields,
    /// The vendor's body, byte for byte.
    pub body: Bytes,
    /// When the answer had arrived.
    pub received_at: Instant,
    /// When the vendor made it, by its `Date`; when it arrived, where that is none. In seconds since 1970, as a `Date` tells it.
    pub date: u64,
    /// How old the answer was by then: RFC 9111 section 4.2.3, `corrected_initial_age`.
    pub initial_age: Millis,
    /// Whether the `ETag` was made here. The vendor knows nothing of such a tag.
    pub tagged_here: bool,
    /// Whether the vendor has just said of an older copy that it still holds (304).
    pub revalidated: bool,
    /// What an upstream of another kind sent ahead of it (1xx). Never kept: it was for those who waited.
    pub ahead: Box<[Interim]>,
}

impl AsRef<Self> for Page {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A page that several have, with whatever it is kept with.
#[derive(Clone)]
pub struct SharedPage(Arc<dyn AsRef<Page> + Send + Sync>);

impl<T: AsRef<Page> + Send + Sync + 'static> From<Arc<T>> for SharedPage {
    fn from(page: Arc<T>) -> Self {
        Self(page)
    }
}

impl From<Page> for SharedPage {
    fn from(page: Page) -> Self {
        Arc::new(page).into()
    }
}

impl Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for SharedPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Page::fmt(self, f)
    }
}

/// How long something is, in milliseconds: half as large as a [`Duration`]. The last one counts as whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Millis(u64);

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

impl From<Millis> for Duration {
    fn from(Millis(millis): Millis) -> Self {
        Self::from_millis(millis)
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
    /// How old the page is: RFC 9111 section 4.2.3, `current_age`.
    pub fn age(&self, now: Instant) -> Duration {
        Duration::from(self.initial_age) + now.saturating_duration_since(self.received_at)
    }

    /// What the vendor can tell by whether the page still holds: its `ETag` and its `Last-Modified`.
    pub fn validators(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        let tag = self.fields.get(ETAG).filter(|_| !self.tagged_here);
        (tag, self.fields.get(LAST_MODIFIED))
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
            .field("fields", &self.fields)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("received_at", &self.received_at)
            .field("initial_age", &self.initial_age)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_millisecond_counts_as_whole() {
        for (nanos, millis) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            let duration = Duration::from(Millis::from(Duration::from_nanos(nanos)));
            assert_eq!(duration, Duration::from_millis(millis), "{nanos}");
        }
    }
}
