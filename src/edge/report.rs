//! Hides what the log is told of a request: one event if it went wrong or was slow, and nothing otherwise.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use http::header::AGE;
use http::{HeaderMap, Response};
use tracing::{error, info, warn};

use super::failure::{About, Failure};
use super::trace::Named;
use crate::contacts::{Own, Tag};
use crate::error::Error;

/// Far longer than anything from memory, and longer than the vendor takes when it is well. No setting: whoever wants
/// another bound has the histogram of durations, and this one is among its buckets.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// A request was answered.
pub(super) fn answered<B>(named: &Named, response: &Response<B>, took: Duration) {
    // Only responses that are problems, or were waited for, have extensions at all.
    match response.extensions().get() {
        Some(failure) => failed(named, failure, response.status().as_u16(), took),
        None if took >= SLOW => slow(named, response, took),
        None => {}
    }
}

fn failed(named: &Named, failure: &Failure, status: u16, took: Duration) {
    let (caller, stream, tag) = failure.about.parts();
    let failure = &failure.error;
    let (id, problem) = (named.id(), failure.name());
    let took_ms = took.as_millis() as u64;
    let detail: &dyn Display = match failure {
        // A text that is not ours from end to end repeats the caller's, who may have sent anything.
        Error::BadRequest(Cow::Owned(_)) => &"its answer names the part that breaks a rule",
        failure => failure,
    };
    macro_rules! tell {
        ($level:ident, $message:literal) => {
            $level!(
                request.id = id, caller, stream, list.tag = tag, problem, status, took_ms,
                detail = %detail, $message
            )
        };
    }
    match failure {
        Error::Internal => tell!(error, "a request failed"),
        // What the caller asked for, or is told while the gateway leaves.
        Error::NotCached | Error::Draining => tell!(info, "refused a request"),
        _ if status < 500 => tell!(info, "refused a request"),
        _ => tell!(warn, "a request failed"),
    }
}

fn slow<B>(named: &Named, response: &Response<B>, took: Duration) {
    let about = response.extensions().get().cloned().unwrap_or_default();
    let (caller, stream, tag) = About::parts(&about);
    let id = named.id();
    let headers = response.headers();
    warn!(
        request.id = id,
        caller,
        stream,
        list.tag = tag,
        status = response.status().as_u16(),
        took_ms = took.as_millis() as u64,
        served.age_s = number(headers),
        cache.status = headers
            .get(Own::CacheStatus.name())
            .and_then(|s| s.to_str().ok()),
        "a request was slow"
    );
}

impl About {
    /// As fields of an event; those that are not known are left out.
    fn parts(
        &self,
    ) -> (
        Option<&str>,
        Option<&str>,
        Option<tracing::field::DisplayValue<Tag>>,
    ) {
        let list = self.list.as_ref();
        (
            self.caller.as_deref().map(|caller| &*caller.identity.name),
            list.map(|list| list.stream()),
            list.map(|list| tracing::field::display(list.tag())),
        )
    }
}

fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(AGE)?.to_str().ok()?.parse().ok()
}
