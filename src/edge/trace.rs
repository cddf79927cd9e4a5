//! Names a request: the id that its answer, its problem and its log lines carry, and the path it came on. And opens the
//! span of those that are traced.
//!
//! Outermost, so that nothing happens to a request that has no name. Whether one is traced is decided before anything is
//! made for it: the others, of which there are many, go straight on.

use std::borrow::Cow;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Request, Response, Version};
use tower::{Layer, Service, layer};
use tracing::info_span;
use uuid::{Builder, Uuid};

use super::failure::Failure;
use super::peer::Peer;
use super::present::Present;
use super::report::SLOW;
use super::{Body, Outcome, Rung};
use crate::clock::Clock;
use crate::contacts::{Api, Own, Split};
use crate::soon::Soon;
use crate::telemetry::traces::{self, Span, Traces};

/// The methods that spans name: those that everybody knows, and ours. Any other is the caller's text.
const METHODS: [&str; 10] = [
    "GET", "HEAD", "PURGE", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
];

/// The rung.
pub fn layer<S>(clock: Clock, traces: Traces) -> impl Layer<S, Service = Trace<S>> + Clone {
    layer::layer_fn(move |inner| Trace {
        clock: clock.clone(),
        traces: traces.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    clock: Clock,
    traces: Traces,
    inner: S,
}

/// A request with its name. It is lent from rung to rung, until it has become an ask.
#[derive(Debug)]
pub struct Inbound<B> {
    /// Its name.
    pub(super) named: Named,
    /// When it came: what is decided about it is decided by this.
    pub(super) at: Instant,
    /// What its header has.
    pub(super) present: Present,
    /// It.
    pub(super) request: Request<B>,
}

impl<B> Inbound<B> {
    /// A request that came just now.
    pub fn new(request: Request<B>, clock: &Clock) -> Self {
        let present = Present::of(request.headers());
        let at = clock.now();
        let named = Named::of(&request, &present, || clock.date_of(at));
        Self {
            named,
            at,
            present,
            request,
        }
    }
}

/// A request's name.
#[derive(Clone, Debug)]
pub struct Named {
    id: Id,
    /// The path's parts, if it is one of the vendor's.
    pub(super) split: Option<Split>,
}

#[derive(Clone, Debug)]
enum Id {
    /// The caller's, where it is a sensible one.
    Theirs(HeaderValue),
    /// A UUID v7.
    Ours(Uuid),
}

impl Named {
    fn of<B>(request: &Request<B>, present: &Present, date: impl FnOnce() -> SystemTime) -> Self {
        let told = present
            .request_id
            .then(|| request.headers().get(Own::RequestId.name()));
        let told = told.flatten().filter(|id| sensible(id.as_bytes()));
        Self {
            id: told.map_or_else(|| Id::Ours(fresh_id(date())), |id| Id::Theirs(id.clone())),
            split: Split::of(request.uri().path()),
        }
    }

    /// Which of the vendor's paths it came on.
    pub(crate) fn api(&self) -> Option<Api> {
        self.split.map(|split| split.api)
    }

    /// Adds the id to the answer.
    fn mark(self, response: &mut Response<Body>) {
        let id = match self.id {
            Id::Theirs(id) => id,
            Id::Ours(id) => {
                let mut text = Uuid::encode_buffer();
                let text = id.hyphenated().encode_lower(&mut text);
                HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
            }
        };
        Own::RequestId.set(response.headers_mut(), id);
    }

    /// The id's text.
    pub(crate) fn id(&self) -> String {
        match &self.id {
            Id::Theirs(id) => String::from_utf8_lossy(id.as_bytes()).into_owned(),
            Id::Ours(id) => id.to_string(),
        }
    }
}

/// Whether a caller's id may stand in logs and answers as it is.
fn sensible(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"._:/+=-".contains(b))
}

/// RFC 9562 section 5.7. Not by `Uuid::now_v7`, which all threads share a lock for.
fn fresh_id(date: SystemTime) -> Uuid {
    let since = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    let [.., a, b, c, d, e, f, g, h, i, j] = Uuid::new_v4().into_bytes();
    let random = [a, b, c, d, e, f, g, h, i, j];
    Builder::from_unix_timestamp_millis(since.as_millis() as u64, &random).into_uuid()
}

impl<S, B> Service<Request<B>> for Trace<S>
where
    S: for<'a> Rung<&'a Inbound<B>, Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Soon<Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inbound = Inbound::new(request, &self.clock);
        let headers = inbound.request.headers();
        let told = inbound.present.traceparent.then_some(headers);
        let trace = self.traces.request(told, || describe(&inbound));
        // A hit is found at once.
        let within = trace.enter();
        let mut answer = self.inner.call(&inbound);
        drop(within);
        let Inbound { named, at, .. } = inbound;
        if !trace.is_none() {
            return self.traced(trace, named, at, answer);
        }
        answer.edit(|answer| {
            if let Ok(response) = answer {
                named.mark(response);
            }
        });
        answer
    }
}

impl<S> Trace<S> {
    /// The same for a request that is followed.
    #[cold]
    fn traced(
        &self,
        trace: Span,
        named: Named,
        began: Instant,
        answer: Soon<Outcome>,
    ) -> Soon<Outcome> {
        let clock = self.clock.clone();
        Soon::Later(Box::pin(trace.around(async move {
            let mut response = answer.await?;
            let took = clock.now().saturating_duration_since(began);
            conclude(&response, took);
            named.mark(&mut response);
            Ok(response)
        })))
    }
}

/// What OpenTelemetry's conventions ask for of a request. No path and no query: they hold ids.
fn describe<B>(Inbound { request, named, .. }: &Inbound<B>) -> tracing::Span {
    let method = METHODS
        .into_iter()
        .find(|m| *m == request.method().as_str());
    let route = named.api().map(Api::route);
    let (verb, gap) = (method.unwrap_or("HTTP"), route.map_or("", |_| " "));
    let private = request.extensions().get::<Peer>().is_some();
    info_span!(
        "request",
        otel.name = format_args!("{verb}{gap}{}", route.unwrap_or_default()),
        otel.kind = "server",
        http.request.method = method.unwrap_or("_OTHER"),
        http.route = route,
        url.scheme = if private { "https" } else { "http" },
        network.protocol.version = match request.version() {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        },
    )
}

/// How the request was answered. What a collector should keep whatever its share of the rest is marked.
fn conclude(response: &Response<Body>, took: Duration) {
    let status = response.status();
    traces::note("http.response.status_code", || i64::from(status.as_u16()));
    let problem = response
        .extensions()
        .get()
        .map(|failure: &Failure| failure.error.name());
    if let Some(problem) = problem {
        traces::note("contacts_gateway.problem", || problem);
    }
    // 4xx are the caller's doing, and no failure of what is described here.
    if status.is_server_error() {
        let kind = problem.map_or_else(|| status.as_str().to_owned().into(), Cow::Borrowed);
        traces::fail(kind);
        traces::note("contacts_gateway.keep", || "failure");
    } else if took >= SLOW {
        traces::note("contacts_gateway.keep", || "slow");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensible_id_is_kept_and_any_other_is_replaced() {
        let id_for = |told: &[u8]| {
            let mut request = Request::new(());
            let told = HeaderValue::from_bytes(told).unwrap();
            request.headers_mut().insert(Own::RequestId.name(), told);
            Named::of(&request, &Present::of(request.headers()), || UNIX_EPOCH)
                .id()
                .to_owned()
        };
        let longest = "a".repeat(128);
        for kept in [
            "a",
            "Root=1-67891233-abcdef012345678912345678",
            "a/b:c+d=.-_",
            &longest,
        ] {
            assert_eq!(id_for(kept.as_bytes()), kept);
        }
        let too_long = "a".repeat(129);
        for replaced in ["", "a b", "a\"b", "\u{e4}", "a;b", &too_long] {
            let id = id_for(replaced.as_bytes());
            assert_eq!(
                Uuid::parse_str(&id).unwrap().get_version_num(),
                7,
                "{replaced:?}"
            );
        }
    }
}
