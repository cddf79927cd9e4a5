//! What the vendor answered, as it is kept and given out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// An answer of the vendor's that may be passed on: a success, or a refusal of the request itself (400, 404).
#[derive(Clone, Debug)]
pub struct Page {
    /// The vendor's status.
    pub status: StatusCode,
    /// The vendor's end-to-end fields that are passed on, and a `Date` where it sent none.
    pub headers: HeaderMap,
    /// The vendor's body, byte for byte.
    pub body: Bytes,
    /// When the answer had arrived.
    pub received_at: Instant,
    /// How old the answer was by then: RFC 9111 section 4.2.3, `corrected_initial_age`.
    pub initial_age: Duration,
}

impl Page {
    /// How old the page is: RFC 9111 section 4.2.3, `current_age`.
    pub fn age(&self, now: Instant) -> Duration {
        self.initial_age + now.saturating_duration_since(self.received_at)
    }
}
