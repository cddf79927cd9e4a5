//! The operators' port: is it alive, is it ready, how does it do, and forget this.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tower::{ServiceExt, service_fn};

use crate::config::Config;
use crate::contacts::{AccountId, Forget, StreamId};
use crate::edge::Body;
use crate::error::Error;
use crate::soon::{Closed, Soon};
use crate::stack::{Edge, Parts};
use crate::telemetry::metrics::{Allowance, Scraped};
use crate::upstream::allowance::Standing;

/// Whether callers are to be sent here.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says so, or takes it back.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Relaxed);
    }
}

/// What is told of the settings: which are in use since when, and how reading them again went.
#[derive(Clone, Debug)]
pub struct InUse(Arc<Mutex<Settings>>);

#[derive(Clone, Debug)]
struct Settings {
    hash: String,
    loaded_at: SystemTime,
    last_reload: String,
}

impl InUse {
    /// These, from the start.
    pub fn new(hash: String, loaded_at: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Settings::good(hash, loaded_at))))
    }

    /// These from now on.
    pub fn set(&self, hash: String, loaded_at: SystemTime) {
        *self.locked() = Settings::good(hash, loaded_at);
    }

    /// Those that were in use stay so, because of this.
    pub fn failed(&self, why: &str) {
        self.locked().last_reload = format!("failed: {why}");
    }

    fn told(&self) -> Settings {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    fn good(hash: String, loaded_at: SystemTime) -> Self {
        Self {
            hash,
            loaded_at,
            last_reload: "ok".into(),
        }
    }
}

/// All that the answers are made of.
#[derive(Debug)]
struct State {
    parts: Parts,
    ready: Ready,
    max_bytes: u64,
    in_use: InUse,
    started: Instant,
}

/// Answers everything on the operators' port.
pub fn service(config: &Config, parts: &Parts, ready: Ready, in_use: InUse) -> Edge {
    let state = Arc::new(State {
        parts: parts.clone(),
        ready,
        max_bytes: config.cache.max_bytes,
        in_use,
        started: parts.clock.now(),
    });
    Closed::new(
        service_fn(move |request: Request<Incoming>| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(state.answer(&request).await) }
        })
        .map_future(|answer| Soon::Later(Box::pin(answer))),
    )
}

impl State {
    async fn answer<B>(self: Arc<Self>, request: &Request<B>) -> Response<Body> {
        let (path, method) = (request.uri().path(), request.method());
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/live" if reads => text(StatusCode::OK, "live\n"),
            "/ready" if reads && self.ready.0.load(Relaxed) => text(StatusCode::OK, "ready\n"),
            "/ready" if reads => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/metrics" if reads => self.metrics().await,
            "/status" if reads => self.status(),
            "/cache" if method == Method::DELETE => match forget(request.uri().query()) {
                Ok(what) => {
                    let Parts { store, fleet, .. } = &self.parts;
                    let forgotten = store.forget(&what).max(fleet.forget(&what).await);
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

    /// Beside the threads that requests run on, since it is a few milliseconds' work where there are many accounts.
    async fn metrics(self: Arc<Self>) -> Response<Body> {
        let runtime = tokio::runtime::Handle::current().metrics();
        let written = tokio::task::spawn_blocking(move || {
            let (entries, bytes) = self.parts.store.holds();
            self.parts.metrics.scraped(&Scraped {
                entries,
                bytes,
                accounts: allowances(&self.parts),
                runtime,
            })
        });
        match written.await {
            Ok(text) => typed("text/plain; version=0.0.4; charset=utf-8", text.into()),
            Err(_panicked) => text(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n"),
        }
    }

    fn status(&self) -> Response<Body> {
        let Parts { clock, store, .. } = &self.parts;
        let (entries, bytes) = store.holds();
        let uptime = clock.now().saturating_duration_since(self.started);
        let settings = self.in_use.told();
        let shared = self.parts.fleet.standing();
        json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": uptime.as_secs(),
            "cache": { "entries": entries, "bytes": bytes, "max_bytes": self.max_bytes },
            "accounts": accounts(&self.parts),
            "shared": { "configured": shared.configured, "up": shared.up, "replicas": shared.replicas },
            "settings": {
                "hash": settings.hash,
                "loaded_at": humantime::format_rfc3339_seconds(settings.loaded_at).to_string(),
                "last_reload": settings.last_reload,
            },
        }))
    }
}

/// Every account that was asked for of late.
fn accounts(parts: &Parts) -> serde_json::Map<String, serde_json::Value> {
    let account = |(account, standing): (AccountId, Standing)| {
        let standing = json!({
            "limit": standing.limit,
            "calls_in_window": standing.calls_in_window,
            "next_call_in_seconds": seconds(standing.next_call_in),
            "paused_for_seconds": seconds(standing.paused_for),
            "waiting": standing.waiting,
            "wanted": standing.wanted,
            "refusals": standing.refusals,
            "why": standing.why,
        });
        (account.as_str().to_owned(), standing)
    };
    let standings = parts.accounts.standings().into_iter();
    standings.map(account).collect()
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1_000.0
}

/// The accounts as metrics show them: the busiest by name, the others together.
fn allowances(parts: &Parts) -> Vec<(String, Allowance)> {
    const BUSIEST: usize = 100;
    let mut standings = parts.accounts.standings();
    standings.sort_by(|(a, one), (b, other)| {
        let more = other.calls_in_window.cmp(&one.calls_in_window);
        more.then_with(|| a.as_str().cmp(b.as_str()))
    });
    let mut shown: Vec<_> = standings
        .iter()
        .take(BUSIEST)
        .map(|(account, standing)| (account.as_str().to_owned(), allowance(standing)))
        .collect();
    let others = standings.iter().skip(BUSIEST);
    let others = others.map(|(_, standing)| allowance(standing));
    let together = |a: Allowance, b: Allowance| Allowance {
        remaining: a.remaining + b.remaining,
        limit: a.limit + b.limit,
        paused: a.paused || b.paused,
        waiting: a.waiting + b.waiting,
        wanted: a.wanted + b.wanted,
    };
    shown.extend(
        others
            .reduce(together)
            .map(|other| ("other".to_owned(), other)),
    );
    shown
}

fn allowance(standing: &Standing) -> Allowance {
    Allowance {
        remaining: standing.limit.saturating_sub(standing.calls_in_window),
        limit: standing.limit,
        paused: !standing.paused_for.is_zero(),
        waiting: standing.waiting,
        wanted: standing.wanted,
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
