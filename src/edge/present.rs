//! Hides how it is known which header fields a request has: they are gone through once, because most requests have few, and
//! to look each one up that matters costs more than to pass by all there are.

use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, PRAGMA};
use http::{HeaderMap, HeaderName};

use crate::contacts::Own;

/// Which of the fields that matter to the edge a request has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Present {
    /// How many `Host`.
    pub(super) hosts: usize,
    pub(super) request_id: bool,
    pub(super) traceparent: bool,
    pub(super) iid: bool,
    pub(super) account: bool,
    pub(super) authorization: bool,
    /// `Cache-Control` or `Pragma`.
    pub(super) control: bool,
    /// `If-None-Match` or `If-Modified-Since`.
    pub(super) condition: bool,
}

const REQUEST_ID: HeaderName = Own::RequestId.name();
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IID: HeaderName = HeaderName::from_static("iid");
const ACCOUNT_ID: HeaderName = HeaderName::from_static("accountid");

impl Present {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for (name, _) in headers {
            present.hosts += usize::from(name == HOST);
            present.request_id |= name == REQUEST_ID;
            present.traceparent |= name == TRACEPARENT;
            present.iid |= name == IID;
            present.account |= name == ACCOUNT_ID;
            present.authorization |= name == AUTHORIZATION;
            present.control |= name == CACHE_CONTROL || name == PRAGMA;
            present.condition |= name == IF_NONE_MATCH || name == IF_MODIFIED_SINCE;
        }
        present
    }
}
