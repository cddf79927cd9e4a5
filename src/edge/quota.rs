//! Keeps a caller to its `requests_per_minute`, and tells it how its quotas stand.
//!
//! What it refuses: a request too many. It stands before everything is looked up, because requests cost something
//! whatever comes of them. The other quota, `fetches_per_minute`, is kept where fetches begin, in `cache::coalesce`.
//!
//! Quotas are told as draft-ietf-httpapi-ratelimit-headers has it. Clients pass over what a response with an age says
//! of them, so only refusals and what the vendor has just given tell; a refusal becomes a response further out, in
//! `rescue`.

use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tower::{Layer, Service, layer};

use super::callers::Caller;
use super::failure::{About, Failure};
use super::identify::Call;
use super::rescue::whole_seconds;
use super::respond::New;
use super::{Attempt, Body, Rung};
use crate::clock::Clock;
use crate::contacts::{Allotment, Standing};
use crate::soon::Soon;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The rung.
pub fn layer<S>(clock: Clock) -> impl Layer<S, Service = Quota<S>> + Clone {
    layer::layer_fn(move |inner| Quota {
        clock: clock.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Quota<S> {
    clock: Clock,
    inner: S,
}

impl<'a, S, B> Service<Call<'a, B>> for Quota<S>
where
    S: Rung<Call<'a, B>, Failure>,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Soon<Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<'a, B>) -> Self::Future {
        let requests = call.caller.requests.as_ref();
        if let Some(Err(spent)) = requests.map(|requests| requests.take(call.inbound.at)) {
            let about = About::of(call.caller, None);
            return Soon::Now(Err(about.failed(spent)));
        }
        let mut answer = self.inner.call(call);
        answer.edit_with(&self.clock, |clock, answer| {
            if let Ok(response) = answer {
                tell_of_news(clock, response);
            }
        });
        answer
    }
}

/// Tells a caller how its quotas stand, if the vendor has just given what is in the response.
fn tell_of_news(clock: &Clock, response: &mut Response<Body>) {
    let extensions = response.extensions();
    if let (Some(New), Some(About { caller, .. })) = (extensions.get(), extensions.get()) {
        let now = clock.now();
        let quotas = caller.iter().flat_map(|caller| quotas(caller));
        let standings: Vec<_> = quotas.filter_map(|quota| quota.standing(now)).collect();
        tell(response.headers_mut(), &standings);
    }
}

fn quotas(caller: &Caller) -> impl Iterator<Item = &Allotment> {
    let requests = caller.requests.iter();
    requests.chain(caller.identity.fetches.iter())
}

/// Writes how quotas stand: `RateLimit-Policy: "requests";q=6000;w=60` and `RateLimit: "requests";r=12;t=1`, where `r`
/// may be asked at once and in `t` seconds there is more.
pub(super) fn tell(headers: &mut HeaderMap, standings: &[Standing]) {
    let (mut policies, mut limits) = (String::with_capacity(64), String::with_capacity(64));
    for standing in standings {
        let (per_minute, left) = (standing.per_minute.get().into(), standing.left.into());
        member(&mut policies, standing.kind, [("q", per_minute), ("w", 60)]);
        let more_in = whole_seconds(standing.more_in);
        member(&mut limits, standing.kind, [("r", left), ("t", more_in)]);
    }
    for (field, list) in [(RATELIMIT_POLICY, policies), (RATELIMIT, limits)] {
        if let Ok(value) = HeaderValue::from_str(&list)
            && !list.is_empty()
        {
            headers.insert(field, value);
        }
    }
}

/// One more of a structured field's list (RFC 9651). By hand, since each miss has two: 3,200 instructions, not 5,300. The name
/// is one of ours, which needs no escapes.
fn member(list: &mut String, name: &'static str, parameters: [(&'static str, u64); 2]) {
    /// No integer has more than 15 digits.
    const MOST: u64 = 999_999_999_999_999;
    let comma = if list.is_empty() { "" } else { ", " };
    for part in [comma, "\"", name, "\""] {
        list.push_str(part);
    }
    for (key, number) in parameters {
        let mut digits = itoa::Buffer::new();
        for part in [";", key, "=", digits.format(number.min(MOST))] {
            list.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    #[test]
    fn quotas_are_told_as_the_draft_writes_it() {
        let standing = |kind, per_minute, left, millis| Standing {
            kind,
            per_minute: NonZeroU32::new(per_minute).unwrap(),
            left,
            more_in: Duration::from_millis(millis),
        };
        let mut headers = HeaderMap::new();
        tell(&mut headers, &[]);
        assert!(headers.is_empty(), "nothing where there is no quota");
        tell(
            &mut headers,
            &[
                standing("requests", 6000, 12, 10),
                standing("fetches", 60, 0, 30_001),
            ],
        );
        assert_eq!(
            headers[RATELIMIT_POLICY],
            "\"requests\";q=6000;w=60, \"fetches\";q=60;w=60"
        );
        assert_eq!(
            headers[RATELIMIT],
            "\"requests\";r=12;t=1, \"fetches\";r=0;t=31"
        );
    }
}
