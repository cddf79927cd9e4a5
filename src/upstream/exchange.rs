//! One call to the vendor: a page's key becomes a request, and what comes back becomes a page or an error.
//!
//! The request is built from typed parts alone, so no byte of a caller's reaches the vendor but what the key names.
//! Whatever the vendor does, the call ends within `upstream.timeout`.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use http::header::{ACCEPT, ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use tower::{Layer, Service, layer};
use tracing::{error, info, info_span, warn};

use super::allowance::Outcome;
use super::client::{Answered, Call};
use super::judge::{Arrival, judged, map, passed};
use super::refusal::Refusal;
use super::sign::Unsigned;
use super::whole::whole;
use super::{Fetch, Settings};
use crate::clock::Clock;
use crate::contacts::{Interim, Page};
use crate::error::Error;
use crate::telemetry::logs::EACH;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{self, Span};

/// The rung.
pub fn layer<S>(
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Layer<S, Service = Exchange<S>> + Clone {
    metrics.expect_calls(&Fetch::REASONS, &OUTCOMES);
    layer::layer_fn(move |inner| Exchange {
        settings: settings.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Exchange<S> {
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S> Service<Fetch> for Exchange<S>
where
    S: Service<Unsigned, Response = Answered, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Page;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Page, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, fetch: Fetch) -> Self::Future {
        let mut request = match request(&fetch) {
            Ok(request) => request,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let (settings, clock, metrics) = (
            self.settings.clone(),
            self.clock.clone(),
            self.metrics.clone(),
        );
        let mut trace = match settings.propagate_trace || traces::is_followed() {
            true => traces::child(|| describe(&settings, &fetch)),
            false => Span::default(),
        };
        if let Some(trail) = trace.trail().filter(|_| settings.propagate_trace) {
            trail.propagate(request.headers_mut());
        }
        // The vendor sends nothing ahead that would be of use to anybody.
        let ahead = settings.accept_any_body.then(|| overhear(&mut request));
        let (asked_at, began) = clock.both();
        let answered = self.inner.call(Unsigned {
            call: Call {
                request,
                anew: fetch.redial,
            },
            list: fetch.key.list.clone(),
            by: fetch.by,
        });
        Box::pin(async move {
            // What was not answered may have come at any time.
            let (mut status, mut went) = (None, None);
            let answer = async {
                let answered = answered.await?;
                let (head, body) = answered.response.into_parts();
                (status, went) = (Some(head.status), Some(answered.went));
                let body = whole(body, settings.max_body).await?;
                Ok(Response::from_parts(head, body))
            };
            let answer = tokio::time::timeout(settings.timeout, answer).await;
            let (received_at, date) = clock.both();
            let took = received_at.saturating_duration_since(asked_at);
            let mut page = match answer.unwrap_or(Err(Error::UpstreamTimedOut)) {
                Ok(answer) => {
                    let arrival = Arrival {
                        received_at,
                        date,
                        took,
                    };
                    judged(
                        answer,
                        fetch.known.clone(),
                        settings.accept_any_body,
                        arrival,
                    )
                    .await
                }
                Err(error) => Err(error),
            };
            if let Some(outcome) = spent(&page, &fetch, settings.accept_any_body) {
                let paused_for = fetch.permit.ended(outcome, went);
                if let Err(Error::UpstreamRefused { retry_after, .. }) = &mut page {
                    *retry_after = paused_for;
                }
            }
            if let (Ok(page), Some(ahead)) = (&mut page, ahead) {
                page.ahead = ahead.take().into();
            }
            // Somebody may have joined who is followed.
            if trace.is_none() {
                trace = traces::child_since(began, || describe(&settings, &fetch));
            }
            metrics.upstream_call(fetch.reason(), status, outcome(&page), took);
            conclude(&trace, status, &page);
            record(&fetch, status, &page, took);
            page
        })
    }
}

/// The call's span, with what OpenTelemetry's conventions ask for. No path and no query: they hold ids.
fn describe(settings: &Settings, fetch: &Fetch) -> tracing::Span {
    let url = &settings.url;
    info_span!(
        "GET",
        otel.kind = "client",
        http.request.method = "GET",
        server.address = url.host(),
        server.port = i64::from(url.port()),
        http.request.resend_count = fetch.redial.then_some(1_i64),
    )
}

fn conclude(trace: &Span, status: Option<StatusCode>, page: &Result<Page, Error>) {
    if let Some(status) = status {
        trace.note("http.response.status_code", i64::from(status.as_u16()));
    }
    match (status, page) {
        (Some(status), _) if status.is_client_error() || status.is_server_error() => {
            trace.fail(status.as_str().to_owned());
        }
        (_, Err(failure)) => trace.fail(failure.name()),
        (_, Ok(_)) => {}
    }
    if let Err(failure) = page {
        trace.note("contacts_gateway.problem", failure.name());
    }
}

const IID: HeaderName = HeaderName::from_static("iid");
const ACCOUNT: HeaderName = HeaderName::from_static("accountid");

/// The vendor's request for a page.
fn request(fetch: &Fetch) -> Result<Request<Empty<Bytes>>, Error> {
    let target = PathAndQuery::try_from(fetch.key.target());
    // Every part is of an alphabet that paths and fields may hold, so neither of these fails.
    let list = &fetch.key.list;
    let (target, iid, account) = match (
        target,
        HeaderValue::from_str(list.stream()),
        HeaderValue::from_str(list.account()),
    ) {
        (Ok(target), Ok(iid), Ok(account)) => (target, iid, account),
        _ => return Err(Error::Internal),
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.into();
    let headers = request.headers_mut();
    // Room for these, for `auth`, for `host` and for validators: a map that grows is made anew each time.
    headers.reserve(9 + fetch.forwarded.len());
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("contacts-gateway/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(IID, iid);
    headers.insert(ACCOUNT, account);
    // A caller's word on a field goes before ours.
    for (name, _) in fetch.forwarded.iter() {
        headers.remove(name);
    }
    headers.extend(fetch.forwarded.iter().cloned());
    if let Some(known) = &fetch.known {
        let (tag, modified) = known.validators();
        for (name, text) in [(IF_NONE_MATCH, tag), (IF_MODIFIED_SINCE, modified)] {
            let value = text.and_then(|text| HeaderValue::from_bytes(text).ok());
            headers.extend(value.map(|value| (name, value)));
        }
    }
    Ok(request)
}

/// What comes ahead of an answer.
#[derive(Clone, Debug, Default)]
struct Ahead(Arc<Mutex<Vec<Interim>>>);

impl Ahead {
    fn take(&self) -> Vec<Interim> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Collects what comes ahead of the answer to a request. Over HTTP/2 hyper tells nothing of it.
fn overhear(request: &mut Request<Empty<Bytes>>) -> Ahead {
    const MOST: usize = 8;
    let ahead = Ahead::default();
    let heard = ahead.clone();
    hyper::ext::on_informational(request, move |response| {
        let mut heard = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        if response.status() != StatusCode::CONTINUE && heard.len() < MOST {
            heard.push(Interim {
                status: response.status(),
                headers: map(passed(response.headers(), true)),
            });
        }
    });
    ahead
}

/// What a call was to the account; nothing where none was made.
fn spent(page: &Result<Page, Error>, fetch: &Fetch, any_body: bool) -> Option<Outcome> {
    match page {
        // Of an upstream of another kind a 5xx is an answer like any other.
        Ok(_) => Some(Outcome::Answered),
        Err(Error::UpstreamRefused { hourly: true, .. }) => Some(Outcome::Refused(Refusal::Hour)),
        Err(Error::UpstreamRefused { .. }) => Some(Outcome::Refused(Refusal::Minute)),
        Err(Error::ConnectionLost) if !fetch.redial => Some(Outcome::Lost),
        // Which of two secrets the vendor takes says nothing of its health.
        Err(Error::CredentialsRefused) if fetch.spare => Some(Outcome::Lost),
        Err(Error::StreamUnknown | Error::Internal) => None,
        // What the failure of one of its pages says of the others is not known, so it is not left alone for it.
        Err(_) if any_body => Some(Outcome::Lost),
        Err(_) => Some(Outcome::Failed),
    }
}

/// How calls end, but for those that never were made.
const OUTCOMES: [&str; 7] = [
    "ok",
    "passed",
    "credentials-refused",
    "upstream-refused",
    "upstream-garbled",
    "upstream-failed",
    "upstream-timed-out",
];

/// The name of how a call ended, in metrics and logs.
fn outcome(page: &Result<Page, Error>) -> &'static str {
    match page {
        Ok(page) if page.status == StatusCode::OK => "ok",
        Ok(_) => "passed",
        Err(error) => error.name(),
    }
}

/// One event per call. Loud where only an operator can mend it.
fn record(fetch: &Fetch, status: Option<StatusCode>, page: &Result<Page, Error>, took: Duration) {
    let list = &fetch.key.list;
    let (stream, tag) = (list.stream(), list.tag());
    let (reason, redial) = (fetch.reason(), fetch.redial);
    let status = status.map(|s| s.as_u16());
    let took_ms = took.as_millis() as u64;
    macro_rules! failed {
        ($level:ident, $error:ident) => {
            $level!(
                name: EACH,
                stream, list.tag = %tag, reason, status, took_ms, redial, problem = $error.name(), detail = %$error,
                "a call to the vendor failed"
            )
        };
    }
    match page {
        Ok(page) => info!(
            name: EACH,
            stream, list.tag = %tag, reason, status, took_ms, redial, bytes = page.body.len(),
            "called the vendor"
        ),
        Err(refused @ Error::CredentialsRefused) => failed!(error, refused),
        Err(error) => failed!(warn, error),
    }
}
