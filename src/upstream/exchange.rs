//! One call to the vendor: a page's key becomes a request, and what comes back becomes a page or an error.
//!
//! The request is built from typed parts alone, so no byte of a caller's reaches the vendor but what the key names.
//! Whatever the vendor does, the call ends within `upstream.timeout`.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LOCATION, CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED, PRAGMA, USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::Deserialize;
use tower::util::ServiceExt;
use tower::{Layer, Service, layer};
use tracing::{info, warn};

use super::client::DialAnew;
use super::refusal::{Refusal, refusal};
use super::sign::For;
use super::{Fetch, Settings};
use crate::clock::Clock;
use crate::contacts::Page;
use crate::contacts::control::delta_seconds;
use crate::error::Error;
use crate::telemetry::metrics::Metrics;

/// What the vendor's answers are judged by may take longer than a runtime's thread should be held: from here on it
/// is done beside it.
const LARGE: usize = 256 * 1024;

/// The rung.
pub fn layer<S>(
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Layer<S, Service = Exchange<S>> + Clone {
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
    S: Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = Error>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Page;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Page, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, fetch: Fetch) -> Self::Future {
        let Self {
            settings,
            clock,
            metrics,
            inner,
        } = self.clone();
        Box::pin(async move {
            let request = request(&settings, &fetch)?;
            let asked_at = clock.now();
            let mut status = None;
            let answer = async {
                let answer = inner.oneshot(request).await?;
                status = Some(answer.status());
                whole(answer, settings.max_body).await
            };
            let answer = tokio::time::timeout(settings.timeout, answer).await;
            let (received_at, date) = clock.both();
            let took = received_at.saturating_duration_since(asked_at);
            let page = match answer.unwrap_or(Err(Error::UpstreamTimedOut)) {
                Ok(answer) => {
                    let arrival = Arrival {
                        received_at,
                        date,
                        took,
                    };
                    judged(answer, settings.accept_any_body, arrival).await
                }
                Err(error) => Err(error),
            };
            metrics.upstream_call(fetch.reason.name(), status, outcome(&page), took);
            record(&fetch, status, &page, took);
            page
        })
    }
}

/// The vendor's request for a page.
fn request(settings: &Settings, fetch: &Fetch) -> Result<Request<Empty<Bytes>>, Error> {
    let uri = Uri::builder()
        .scheme(settings.url.scheme().clone())
        .authority(settings.url.authority().clone())
        .path_and_query(fetch.key.target())
        .build();
    // Every part is of an alphabet that paths and fields may hold, so neither of these fails.
    let list = &fetch.key.list;
    let (uri, iid, account) = match (
        uri,
        HeaderValue::from_str(list.stream.as_str()),
        HeaderValue::from_str(list.account.as_str()),
    ) {
        (Ok(uri), Ok(iid), Ok(account)) => (uri, iid, account),
        _ => return Err(Error::Internal),
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("contacts-gateway/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert("iid", iid);
    headers.insert("accountid", account);
    let mut fields = fetch.forwarded.iter().peekable();
    while let Some((name, value)) = fields.next() {
        headers.insert(name, value.clone());
        while let Some((_, more)) = fields.next_if(|(next, _)| next == name) {
            headers.append(name, more.clone());
        }
    }
    let extensions = request.extensions_mut();
    extensions.insert(For(list.stream.clone()));
    if fetch.redial {
        extensions.insert(DialAnew);
    }
    Ok(request)
}

/// Reads an answer to its end, or to `max_body`.
async fn whole(answer: Response<Incoming>, max_body: u64) -> Result<Response<Bytes>, Error> {
    let (head, body) = answer.into_parts();
    let too_large = || Error::UpstreamGarbled("it is larger than upstream.max_body".into());
    if body.size_hint().lower() > max_body {
        return Err(too_large());
    }
    let limit = usize::try_from(max_body).unwrap_or(usize::MAX);
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            Error::UpstreamGarbled("it was cut off".into())
        }
    })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// When an answer came.
#[derive(Clone, Copy)]
struct Arrival {
    received_at: Instant,
    date: SystemTime,
    took: Duration,
}

/// Makes a page of an answer, if it deserves to be one.
async fn judged(answer: Response<Bytes>, any_body: bool, at: Arrival) -> Result<Page, Error> {
    let large = answer.body().len() >= LARGE;
    let judge = move || {
        judge(&answer, any_body)?;
        Ok(page(answer, any_body, at))
    };
    if large {
        tokio::task::spawn_blocking(judge)
            .await
            .unwrap_or(Err(Error::Internal))
    } else {
        judge()
    }
}

/// Whether an answer may be passed on: a success, or the vendor's no to this very request.
fn judge(answer: &Response<Bytes>, any_body: bool) -> Result<(), Error> {
    let (status, body) = (answer.status(), answer.body());
    let success = (status == StatusCode::OK && !any_body)
        .then(|| Envelope::read(body))
        .flatten();
    // Contacts may hold any text, so of a success only its message can be a refusal.
    let text = match &success {
        Some(envelope) => envelope.message.as_bytes(),
        None if any_body && status.is_success() => b"",
        None => body,
    };
    if let Some(refusal) = refusal(status, text) {
        return Err(Error::UpstreamRefused {
            retry_after: Refusal::pause(refusal),
        });
    }
    match status.as_u16() {
        200 if any_body || success.is_some() => Ok(()),
        200 => Err(Error::UpstreamGarbled(
            "its body is not the promised JSON of a success".into(),
        )),
        401 | 403 => Err(Error::CredentialsRefused),
        400..=499 => Ok(()),
        500..=599 => Err(Error::UpstreamFailed(
            format!("it answered {status}").into(),
        )),
        300..=399 => Err(Error::UpstreamGarbled("it is a redirect".into())),
        _ => Err(Error::UpstreamGarbled(
            format!("its status is {}", status.as_u16()).into(),
        )),
    }
}

/// The part of a success that is looked at. Reading it proves that all of the body is JSON.
struct Envelope {
    message: String,
}

impl Envelope {
    /// The envelope of a success; nothing for any other body.
    fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields {
            status: String,
            #[serde(default)]
            message: serde_json::Value,
        }
        // serde would read an array into the fields as well.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let fields: Fields = serde_json::from_slice(body).ok()?;
        (fields.status == "success").then(|| Self {
            message: fields.message.as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// The vendor's fields that callers see. What is not named here ends here: cookies, hop-by-hop fields, and all that
/// is about the vendor's connection and not about the page.
const PASSED: [HeaderName; 11] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    CACHE_CONTROL,
    PRAGMA,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    VARY,
];

fn page(answer: Response<Bytes>, any_body: bool, at: Arrival) -> Page {
    let (head, body) = answer.into_parts();
    let initial_age = initial_age(&head.headers, at);
    let mut headers = passed(&head.headers, any_body);
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(at.date))
    {
        headers.insert(DATE, date);
    }
    if head.status == StatusCode::OK && !headers.contains_key(ETAG) {
        headers.insert(ETAG, etag(&body));
    }
    Page {
        status: head.status,
        headers,
        body,
        received_at: at.received_at,
        initial_age,
    }
}

fn passed(sent: &HeaderMap, any_body: bool) -> HeaderMap {
    let hop_by_hop: Vec<_> = sent
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .collect();
    let kept = |name: &HeaderName| {
        !hop_by_hop.contains(name)
            && (PASSED.contains(name) || any_body && !NEVER.contains(&name.as_str()))
    };
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in sent.iter().filter(|(name, _)| kept(name)) {
        headers.append(name, value.clone());
    }
    headers
}

/// Of an upstream of another kind every end-to-end field is passed on but these.
const NEVER: [&str; 13] = [
    "age", // ours to tell
    "connection",
    "content-length", // hyper counts
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "set-cookie", // one caller's cookie is not another's
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id", // ours
];

/// RFC 9111 section 4.2.3: the larger of what `Date` and what `Age` tell, the call's own time included in the latter.
/// Where the vendor names no freshness the age is measured by our own clock alone, so that a vendor whose clock goes
/// a minute wrong does not make its pages a minute older.
fn initial_age(headers: &HeaderMap, at: Arrival) -> Duration {
    let first = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
    };
    let named = headers.contains_key(CACHE_CONTROL) || headers.contains_key(EXPIRES);
    let apparent = first(DATE)
        .filter(|_| named)
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|date| at.date.duration_since(date).ok())
        .unwrap_or_default();
    let told = first(AGE).and_then(delta_seconds).unwrap_or_default();
    apparent.max(told + at.took)
}

/// A strong tag made of the body: the first 128 bits of its SHA-256.
fn etag(body: &[u8]) -> HeaderValue {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]);
    HeaderValue::from_str(&format!("\"{text}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The name of how a call ended, in metrics and logs.
fn outcome(page: &Result<Page, Error>) -> &'static str {
    match page {
        Ok(page) if page.status == StatusCode::OK => "ok",
        Ok(_) => "passed",
        Err(error) => error.name(),
    }
}

/// One event per call.
fn record(fetch: &Fetch, status: Option<StatusCode>, page: &Result<Page, Error>, took: Duration) {
    let list = &fetch.key.list;
    let (stream, tag) = (list.stream.as_str(), list.tag());
    let reason = fetch.reason.name();
    let status = status.map(|s| s.as_u16());
    let took_ms = took.as_millis() as u64;
    match page {
        Ok(page) => info!(
            stream, list.tag = %tag, reason, status, took_ms, bytes = page.body.len(), redial = fetch.redial,
            "called the vendor"
        ),
        Err(error) => warn!(
            stream, list.tag = %tag, reason, status, took_ms, problem = error.name(), redial = fetch.redial,
            "a call to the vendor failed: {error}"
        ),
    }
}
