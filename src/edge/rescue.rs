//! Above here there is always a response; below, perhaps an error.
//!
//! The one place that decides what callers see of a failure (RFC 9457). It also keeps two promises
//! about every response: a `HEAD` gets no body, and a defect in the program is an answer too.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::Body as _;
use serde::Serialize;
use tower::{Layer, Service, layer};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::failure::Failure;
use super::trace::{Inbound, Named};
use super::{Attempt, Body, Outcome, Rung, quota};
use crate::contacts::Standing;
use crate::error::Error;
use crate::soon::Soon;
use crate::telemetry::metrics::Metrics;

/// The rung.
pub fn layer<S>(metrics: Arc<Metrics>) -> impl Layer<S, Service = Rescue<S>> + Clone {
    metrics.expect_problems(&Error::NAMES);
    layer::layer_fn(move |inner| Rescue {
        metrics: metrics.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Rescue<S> {
    metrics: Arc<Metrics>,
    inner: S,
}

impl<'a, S, B> Service<&'a Inbound<B>> for Rescue<S>
where
    S: Rung<&'a Inbound<B>, Failure>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Soon<Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, inbound: &'a Inbound<B>) -> Self::Future {
        let request = &inbound.request;
        let present = Present {
            named: inbound.named.clone(),
            head: request.method() == Method::HEAD,
            version: request.version(),
        };
        // Much is done before there is a future.
        let answer = match catch_unwind(AssertUnwindSafe(|| self.inner.call(inbound))) {
            Ok(Soon::Later(answer)) => Soon::Later(AssertUnwindSafe(answer).catch_unwind().boxed()),
            Ok(answer) => answer.then(Ok),
            Err(panic) => Soon::Now(Err(panic)),
        };
        answer.with(&self.metrics, move |metrics, answer| {
            Ok(present.response(metrics, answer))
        })
    }
}

/// Makes a response of whatever came.
#[derive(Debug)]
struct Present {
    named: Named,
    head: bool,
    version: Version,
}

impl Present {
    fn response(self, metrics: &Metrics, answer: thread::Result<Attempt>) -> Response<Body> {
        let failure = match answer {
            Ok(Ok(mut response)) => {
                self.keep_body(&mut response);
                return response;
            }
            Ok(Err(failure)) => failure,
            // Whoever catches panics has told of it.
            Err(_panic) => Error::Internal.into(),
        };
        metrics.problem(failure.error.name());
        let mut response = problem(&failure.error, &self.named.id());
        if self.version < Version::HTTP_2 && ends_connection(&failure.error) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response.extensions_mut().insert(failure);
        self.keep_body(&mut response);
        response
    }

    /// Unless it answers `HEAD`; its length stays known (RFC 9110 section 9.3.2).
    fn keep_body(&self, response: &mut Response<Body>) {
        if !self.head {
            return;
        }
        let length = response.body().size_hint().exact().unwrap_or(0);
        let body = std::mem::take(response.body_mut());
        if !body.is_end_stream() {
            response
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.body_mut() = Body::new(Bytes::new());
    }
}

/// RFC 9457's members.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: String,
    instance: String,
}

fn problem(failure: &Error, id: &str) -> Response<Body> {
    let (status, title) = presented(failure);
    let problem = Problem {
        r#type: format!("urn:contacts-gateway:{}", failure.name()),
        title,
        status: status.as_u16(),
        detail: failure.to_string(),
        instance: instance(id),
    };
    // A struct of texts and a number can always be written as JSON.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, json);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(wait) = retry_after(failure) {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
    }
    match failure {
        Error::MethodNotAllowed => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, PURGE"));
        }
        Error::CallerUnknown => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Error::QuotaSpent {
            kind,
            per_minute,
            retry_after,
        } => quota::tell(
            headers,
            &[Standing {
                kind,
                per_minute: *per_minute,
                left: 0,
                more_in: *retry_after,
            }],
        ),
        _ => {}
    }
    response
}

/// Rounded up: whoever waits that long does not come too early.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The request's id as a URN, letter for letter, so that whoever searches for the id finds it. A UUID in another
/// spelling than RFC 9562's is an id like any other.
fn instance(id: &str) -> String {
    if id.len() == Hyphenated::LENGTH && Uuid::parse_str(id).is_ok() {
        format!("urn:uuid:{id}")
    } else {
        format!("urn:contacts-gateway:request:{id}")
    }
}

/// The one table of statuses. Every error is in it by name.
#[deny(clippy::wildcard_enum_match_arm)]
fn presented(failure: &Error) -> (StatusCode, &'static str) {
    match failure {
        Error::BadRequest(_) | Error::UnexpectedBody => {
            (StatusCode::BAD_REQUEST, "The request breaks a rule")
        }
        Error::CallerUnknown => (StatusCode::UNAUTHORIZED, "The caller is not known"),
        Error::CallerForbidden(_) => (StatusCode::FORBIDDEN, "The caller may not do this"),
        Error::QuotaSpent { .. } => (StatusCode::TOO_MANY_REQUESTS, "The caller's quota is spent"),
        Error::NotFound => (StatusCode::NOT_FOUND, "No such path"),
        Error::StreamUnknown => (StatusCode::NOT_FOUND, "No credentials for this stream"),
        Error::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "No such method here"),
        Error::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "Not for this host"),
        Error::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many requests in flight",
        ),
        Error::Draining => (StatusCode::SERVICE_UNAVAILABLE, "Shutting down"),
        Error::CredentialsRefused => (
            StatusCode::BAD_GATEWAY,
            "The vendor refused the credentials",
        ),
        Error::UpstreamRefused { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The vendor's rate limit is spent",
        ),
        Error::AllowanceSpent { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The account's calls are spent",
        ),
        Error::UpstreamResting { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The vendor is left alone for a moment",
        ),
        Error::UpstreamGarbled(_) => (StatusCode::BAD_GATEWAY, "The vendor's answer is unusable"),
        Error::UpstreamFailed(_) | Error::ConnectionLost => {
            (StatusCode::BAD_GATEWAY, "The vendor failed")
        }
        Error::UpstreamTimedOut => (StatusCode::GATEWAY_TIMEOUT, "The vendor took too long"),
        Error::NotCached => (StatusCode::GATEWAY_TIMEOUT, "Not cached"),
        Error::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "The gateway failed"),
    }
}

/// How long to wait before the next try, where waiting helps: every 429 and 503 says so.
fn retry_after(failure: &Error) -> Option<Duration> {
    match failure {
        Error::UpstreamRefused { retry_after, .. }
        | Error::AllowanceSpent { retry_after }
        | Error::UpstreamResting { retry_after }
        | Error::QuotaSpent { retry_after, .. } => Some(*retry_after),
        Error::Overloaded | Error::Draining => Some(Duration::from_secs(1)),
        _ => None,
    }
}

/// Whether what is left on the connection cannot be trusted, or the connection has no future.
fn ends_connection(failure: &Error) -> bool {
    matches!(failure, Error::UnexpectedBody | Error::Draining)
}
