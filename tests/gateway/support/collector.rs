//! A collector for traces: takes them by OTLP/HTTP, or misbehaves.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span as Wire;
pub(crate) use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::eventually;

/// Listens on a free port until it is dropped, and takes its connections with it.
pub(crate) struct Collector {
    pub(crate) url: String,
    state: Arc<State>,
    accepts: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    /// What it answers with; 0: it takes requests and never answers.
    status: AtomicU16,
    /// How many spans of each request it does not want.
    rejects: AtomicUsize,
    requests: AtomicUsize,
    spans: Mutex<Vec<Span>>,
    heads: Mutex<Vec<(String, HeaderMap)>>,
    bytes: Mutex<Vec<u8>>,
}

/// A span as it came.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where it is a root.
    pub(crate) parent: String,
    pub(crate) state: String,
    /// Trace and span of each.
    pub(crate) links: Vec<(String, String)>,
    /// The names of them.
    pub(crate) events: Vec<String>,
    pub(crate) failed: bool,
    pub(crate) nanoseconds: u64,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) resource: HashMap<String, String>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::answering(200).await
    }

    /// With this status; 0: never.
    pub(crate) async fn answering(status: u16) -> Self {
        Self::listening("127.0.0.1:0", status).await
    }

    /// Where another one was.
    pub(crate) async fn at(url: &str) -> Self {
        Self::listening(url.strip_prefix("http://").unwrap(), 200).await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's tasks end with the test's runtime"
    )]
    async fn listening(address: &str, status: u16) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        state.status.store(status, Relaxed);
        let its = state.clone();
        let accepts = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = its.clone();
                let serve = service_fn(move |request| take(state.clone(), request));
                let http = auto::Builder::new(TokioExecutor::new());
                open.push(AbortOnDropHandle::new(tokio::spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), serve).await;
                })));
            }
        });
        Self {
            url,
            state,
            accepts: AbortOnDropHandle::new(accepts),
        }
    }

    /// Has it take requests, but not so many of the spans in each.
    pub(crate) fn rejects(&self, spans: usize) {
        self.state.rejects.store(spans, Relaxed);
    }

    /// Closes its port and all connections.
    pub(crate) async fn ends(self) {
        self.accepts.abort();
        let _ = self.accepts.await;
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Relaxed)
    }

    /// The paths and header fields of the requests.
    pub(crate) fn heads(&self) -> Vec<(String, HeaderMap)> {
        self.state.heads.lock().unwrap().clone()
    }

    /// Every byte of every body.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state.bytes.lock().unwrap().clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state.spans.lock().unwrap().clone()
    }

    /// Those of a kind and of a name that begins so.
    pub(crate) fn named(&self, kind: Kind, name: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.kind == kind && span.name.starts_with(name));
        spans
    }

    /// Waits for so many spans.
    pub(crate) async fn has(&self, n: usize) -> Vec<Span> {
        eventually(&format!("{n} spans come"), async || {
            Some(self.spans()).filter(|spans| spans.len() >= n)
        })
        .await
    }
}

async fn take(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes());
    state.requests.fetch_add(1, Relaxed);
    let mut response = Response::new(Full::default());
    match state.status.load(Relaxed) {
        0 => std::future::pending().await,
        200 => {
            assert_eq!(head.method, Method::POST);
            let bytes = bytes.unwrap();
            let request = ExportTraceServiceRequest::decode(bytes.clone()).unwrap();
            state.bytes.lock().unwrap().extend(&bytes);
            state.spans.lock().unwrap().extend(spans(request));
            *response.body_mut() = answer(state.rejects.load(Relaxed)).into();
        }
        status => *response.status_mut() = status.try_into().unwrap(),
    }
    let path = head.uri.path().to_owned();
    state.heads.lock().unwrap().push((path, head.headers));
    Ok(response)
}

fn answer(rejects: usize) -> Vec<u8> {
    let partial = ExportTracePartialSuccess {
        rejected_spans: rejects as i64,
        error_message: String::new(),
    };
    let answer = ExportTraceServiceResponse {
        partial_success: (rejects > 0).then_some(partial),
    };
    answer.encode_to_vec()
}

fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut found = Vec::new();
    for group in request.resource_spans {
        let resource = texts(&group.resource.unwrap_or_default().attributes);
        let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        found.extend(spans.map(|span| Span::of(&span, &resource)));
    }
    found
}

impl Span {
    fn of(wire: &Wire, resource: &HashMap<String, String>) -> Self {
        let links = wire.links.iter();
        let status = wire.status.clone().unwrap_or_default();
        Self {
            name: wire.name.clone(),
            kind: wire.kind(),
            trace: hex(&wire.trace_id),
            id: hex(&wire.span_id),
            parent: hex(&wire.parent_span_id),
            state: wire.trace_state.clone(),
            links: links
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect(),
            events: wire.events.iter().map(|one| one.name.clone()).collect(),
            failed: status.code() == StatusCode::Error,
            nanoseconds: wire.end_time_unix_nano - wire.start_time_unix_nano,
            attributes: texts(&wire.attributes),
            resource: resource.clone(),
        }
    }

    /// An attribute's text; empty where it is missing.
    pub(crate) fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    /// Its trace and its id, as a link to it has them.
    pub(crate) fn place(&self) -> (String, String) {
        (self.trace.clone(), self.id.clone())
    }
}

fn texts(attributes: &[KeyValue]) -> HashMap<String, String> {
    let text = |value: &KeyValue| match value.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::BoolValue(value) => Some(value.to_string()),
        Value::IntValue(value) => Some(value.to_string()),
        Value::DoubleValue(value) => Some(value.to_string()),
        _ => None,
    };
    let told = attributes.iter();
    told.map(|one| (one.key.clone(), text(one).unwrap()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
