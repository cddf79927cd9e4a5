//! Tells who calls, by the certificate that the connection was opened with or the token in `Authorization: Bearer`, and
//! counts it.
//!
//! What it refuses: callers that the settings do not know. Behind the limit on requests in flight, so that guessing
//! tokens costs no more than that; before all else, so that nobody unknown learns anything or spends anything. Where no
//! callers are configured everybody is anonymous, and no token is looked at.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderMap, Response};
use memchr::memchr;
use tower::{Layer, Service, layer};

use super::callers::{Caller, Callers, Recent};
use super::failure::Failure;
use super::trace::Inbound;
use super::{Attempt, Body, Rung};
use crate::error::Error;
use crate::soon::Soon;
use crate::telemetry::traces;

/// The rung.
pub fn layer<S>(callers: Arc<Callers>) -> impl Layer<S, Service = Identify<S>> + Clone {
    layer::layer_fn(move |inner| Identify {
        callers: callers.clone(),
        recent: Recent::default(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Identify<S> {
    callers: Arc<Callers>,
    recent: Recent,
    inner: S,
}

/// A request, and who makes it.
#[derive(Debug)]
pub struct Call<'a, B> {
    /// Who.
    pub(super) caller: &'a Arc<Caller>,
    /// What, and when.
    pub(super) inbound: &'a Inbound<B>,
}

impl<'a, S, B> Service<&'a Inbound<B>> for Identify<S>
where
    S: for<'c> Rung<Call<'c, B>, Failure>,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Soon<Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, inbound: &'a Inbound<B>) -> Self::Future {
        let Inbound {
            present, request, ..
        } = inbound;
        let Self {
            callers,
            recent,
            inner,
        } = self;
        let caller = callers.anonymous().or_else(|| {
            let peer = request.extensions().get();
            let token = present.authorization.then(|| bearer(request.headers()));
            callers.find(peer, token.flatten(), recent)
        });
        match caller {
            Some(caller) => {
                traces::note("contacts_gateway.caller", || caller.identity.name.clone());
                caller.asked.inc();
                inner.call(Call { caller, inbound })
            }
            None => Soon::Now(Err(Error::CallerUnknown.into())),
        }
    }
}

/// The token of a request that carries exactly one (RFC 6750 section 2.1). Which letters it may have is left to those
/// who make it: what counts is its digest.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (field, None) = (fields.next()?, fields.next()) else {
        return None;
    };
    let (scheme, rest) = field.as_bytes().split_at_checked("Bearer".len())?;
    let token = rest.trim_ascii_start();
    let apart = token.len() < rest.len() && !token.is_empty() && memchr(b' ', token).is_none();
    (apart && scheme.eq_ignore_ascii_case(b"Bearer")).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_what_one_bearer_field_holds() {
        let token = |fields: &[&'static str]| {
            let fields = fields.iter().copied().map(HeaderValue::from_static);
            let headers: HeaderMap = fields.map(|value| (AUTHORIZATION, value)).collect();
            bearer(&headers).map(|token| String::from_utf8(token.to_vec()).unwrap())
        };
        for good in ["Bearer abc", "bearer abc", "BEARER abc", "Bearer   abc"] {
            assert_eq!(token(&[good]).as_deref(), Some("abc"), "{good}");
        }
        assert_eq!(
            token(&["Bearer a-b._~+/1=="]).as_deref(),
            Some("a-b._~+/1==")
        );
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearerabc",
            "Basic abc",
            "abc",
            "Bearer a b",
            "Token abc",
            "Bear abc",
            "Bearer,abc",
        ] {
            assert_eq!(token(&[bad]), None, "{bad}");
        }
        assert_eq!(token(&[]), None);
        assert_eq!(token(&["Bearer abc", "Bearer abc"]), None, "repeated");
    }
}
