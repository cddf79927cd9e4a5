//! The operators' port: is it alive, is it ready, how does it do, and forget this.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::cache::store::Forget;
use crate::config::Config;
use crate::contacts::StreamId;
use crate::edge::Body;
use crate::error::Error;
use crate::stack::{Edge, Parts};

/// Whether callers are to be sent here.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says so, or takes it back.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Relaxed);
    }
}

/// All that the answers are made of.
#[derive(Debug)]
struct State {
    parts: Parts,
    ready: Ready,
    max_bytes: u64,
    settings_hash: String,
    started: (Instant, SystemTime),
}

/// Answers everything on the operators' port.
pub fn service(config: &Config, parts: &Parts, ready: Ready) -> Edge {
    let state = Arc::new(State {
        parts: parts.clone(),
        ready,
        max_bytes: config.cache.max_bytes,
        settings_hash: config.hash(),
        started: parts.clock.both(),
    });
    BoxCloneSyncService::new(service_fn(move |request: Request<Incoming>| {
        std::future::ready(Ok::<_, Infallible>(state.answer(&request)))
    }))
}

impl State {
    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let (path, method) = (request.uri().path(), request.method());
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/live" if reads => text(StatusCode::OK, "live\n"),
            "/ready" if reads && self.ready.0.load(Relaxed) => text(StatusCode::OK, "ready\n"),
            "/ready" if reads => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/metrics" if reads => self.metrics(),
            "/status" if reads => self.status(),
            "/cache" if method == Method::DELETE => match forget(request.uri().query()) {
                Ok(what) => {
                    let forgotten = self.parts.store.forget(&what);
                    json(&json!({ "forgotten": forgotten }))
                }
                Err(detail) => text(StatusCode::BAD_REQUEST, format!("{detail}\n")),
            },
            "/live" | "/ready" | "/metrics" | "/status" => only("GET, HEAD"),
            "/cache" => only("DELETE"),
            _ => text(
                StatusCode::NOT_FOUND,
                "no such path: there are /live, /ready, /metrics, /status and DELETE /cache\n",
            ),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let Parts { metrics, store, .. } = &self.parts;
        let (entries, bytes) = store.holds();
        metrics.holds(entries, bytes);
        typed(
            "text/plain; version=0.0.4; charset=utf-8",
            Body::from(metrics.text()),
        )
    }

    fn status(&self) -> Response<Body> {
        let Parts { clock, store, .. } = &self.parts;
        let (entries, bytes) = store.holds();
        let (began, began_at) = self.started;
        let uptime = clock.now().saturating_duration_since(began);
        json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": uptime.as_secs(),
            "cache": { "entries": entries, "bytes": bytes, "max_bytes": self.max_bytes },
            "accounts": {},
            "shared": { "configured": false, "up": false, "replicas": 1 },
            "settings": {
                "hash": self.settings_hash,
                "loaded_at": humantime::format_rfc3339_seconds(began_at).to_string(),
                "last_reload": "ok",
            },
        }))
    }
}

/// What `DELETE /cache?stream=S[&list=L][&account=A]` is about.
fn forget(query: Option<&str>) -> Result<Forget, String> {
    let (mut stream, mut list, mut account) = (None, None, None);
    for parameter in query
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
    {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "stream" => once(&mut stream, name, value)?,
            "list" => once(&mut list, name, value)?,
            "account" => once(&mut account, name, value)?,
            _ => {
                return Err(
                    "there are the parameters stream, list and account, and no others".into(),
                );
            }
        }
    }
    let stream: StreamId =
        stream.ok_or("stream is missing: name the stream whose pages to forget")?;
    Ok(Forget {
        stream,
        list,
        account,
    })
}

fn once<T: FromStr<Err = Error>>(
    held: &mut Option<T>,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let value = value.parse().map_err(|error| format!("{name}: {error}"))?;
    match held.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is given twice: give it once")),
    }
}

fn text(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = typed("text/plain; charset=utf-8", text.into());
    *response.status_mut() = status;
    response
}

fn only(methods: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {methods}\n"));
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    typed("application/json", Body::from(format!("{value}\n")))
}

fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
