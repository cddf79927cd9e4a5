//! Which requests are traced, what their spans tell, and what goes on to a collector.
//!
//! Nobody outside knows OpenTelemetry. Its own `Tracer` is not used, because two decisions are ours: whether a request is
//! followed is decided before anything is made for it, so that the others cost one random number; and a fetch, which
//! belongs to nobody, is kept for the collector if any of those who waited for it is followed, even one who came late.
//!
//! The span of what is under way is [`Span::around`] a future: while that is polled, whatever it calls can [`note`] something
//! on the span, make a [`child`] of it, or tell where it is ([`current()`], [`current_ids`]).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData};

mod context;
mod current;
mod export;
mod settings;

pub use current::{Around, Ids, child, current, current_ids, fail, note};
pub use settings::{Endpoint, OpenTelemetry, Ratio};

use self::context::Parent;
use self::export::Outlet;
use self::settings::Sampler;
use super::Settings;
use super::metrics::Metrics;

/// Tells the time: the monotonic one for how long something took, the wall's for when.
pub type Now = Arc<dyn Fn() -> (Instant, SystemTime) + Send + Sync>;

/// Makes spans. Clones share what happens to them; [`Traces::default`] makes none.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    now: Now,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    sampler: Sampler,
    /// Whether the vendor is told.
    propagate: bool,
    /// Nothing where contexts pass through and that is all.
    outlet: Option<Outlet>,
}

/// A piece of work, which ends when this is dropped. Most are none at all, and cost nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Live>>);

struct Live {
    tracing: Arc<Tracing>,
    trail: Trail,
    /// Nothing where the caller's context only passes through.
    record: Option<Record>,
}

struct Record {
    data: SpanData,
    began: Instant,
}

/// Where something is in a trace: what a child is a child of, and what a link leads to.
#[derive(Clone, Debug)]
pub struct Trail {
    context: SpanContext,
    /// Whether the span is one of ours.
    recorded: bool,
    /// Whether somebody wants to see it. Shared with the children.
    followed: Arc<AtomicBool>,
}

/// What a span is to those who look at it.
pub type Kind = SpanKind;

impl Traces {
    /// Starts what the settings and OpenTelemetry's variables ask for, on the runtime that this is called from. Where that
    /// is no exporter, callers' contexts can still pass through to the vendor, if they are to be propagated.
    pub fn start(settings: &Settings, propagate: bool, now: Now, metrics: &Arc<Metrics>) -> Self {
        let plan = settings.traces();
        if plan.is_none() && !propagate {
            return Self(None);
        }
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Self(Some(Arc::new(Tracing {
            now,
            ids: RandomIdGenerator::default(),
            scope,
            sampler: settings.sampler(),
            propagate,
            outlet: plan.map(|plan| Outlet::open(plan, metrics)),
        })))
    }

    /// The span of a caller's request, if it is followed. It has no name yet.
    pub fn request(&self, headers: &HeaderMap) -> Span {
        let Some(tracing) = &self.0 else {
            return Span::NONE;
        };
        let parent = Parent::of(headers);
        let takes = tracing.outlet.is_some() && tracing.sampler.takes(parent.as_ref());
        match parent {
            None if takes => tracing.begin("", Kind::Server, None, flag(true)),
            Some(parent) if takes => {
                let parent = parent.context(headers);
                tracing.begin("", Kind::Server, Some(&parent), flag(true))
            }
            // Most callers who trace do not follow most of their requests: they are told from the others, and that is all.
            Some(parent) if tracing.propagate => tracing.passing(Trail {
                context: parent.context(headers),
                recorded: false,
                followed: flag(parent.followed),
            }),
            _ => Span::NONE,
        }
    }

    /// The span of a fetch, which is a child of what waits for it. Nobody waits for a refresh: it is a trace of its own,
    /// with a link to what caused it.
    pub fn fetch(&self, cause: Option<&Trail>, refresh: bool) -> Span {
        let Some(tracing) = &self.0 else {
            return Span::NONE;
        };
        let parent = cause.filter(|_| !refresh);
        if tracing.outlet.is_none() {
            return parent.map_or(Span::NONE, |trail| tracing.passing(trail.clone()));
        }
        let followed = cause.is_some_and(Trail::is_followed);
        let followed = flag(followed);
        let parent = parent.map(|trail| &trail.context);
        let mut span = tracing.begin("fetch", Kind::Internal, parent, followed);
        if let Some(cause) = cause.filter(|_| refresh) {
            span.link(cause);
        }
        span
    }

    /// Hands over what is left, for so long at most. What ends after this is lost.
    pub async fn close(&self, within: Duration) {
        if let Some(outlet) = self.0.as_ref().and_then(|tracing| tracing.outlet.clone()) {
            // It blocks.
            let _ = tokio::task::spawn_blocking(move || outlet.close(within)).await;
        }
    }
}

fn flag(value: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(value))
}

impl Trail {
    /// Adds the fields that tell the next one where this is: never baggage.
    pub fn propagate(&self, headers: &mut HeaderMap) {
        context::inject(&self.context, self.followed.load(Relaxed), headers);
    }

    fn is_followed(&self) -> bool {
        self.recorded && self.followed.load(Relaxed)
    }
}

impl Tracing {
    fn begin(
        self: &Arc<Self>,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        parent: Option<&SpanContext>,
        followed: Arc<AtomicBool>,
    ) -> Span {
        let (began, start_time) = (self.now)();
        let (trace, state) = match parent {
            Some(parent) => (parent.trace_id(), parent.trace_state().clone()),
            None => (self.ids.new_trace_id(), Default::default()),
        };
        let flags = TraceFlags::SAMPLED;
        let context = SpanContext::new(trace, self.ids.new_span_id(), flags, false, state);
        let data = SpanData {
            span_context: context.clone(),
            parent_span_id: parent.map_or(SpanId::INVALID, SpanContext::span_id),
            parent_span_is_remote: parent.is_some_and(SpanContext::is_remote),
            span_kind: kind,
            name: name.into(),
            start_time,
            end_time: start_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        };
        Span(Some(Box::new(Live {
            tracing: self.clone(),
            trail: Trail {
                context,
                recorded: true,
                followed,
            },
            record: Some(Record { data, began }),
        })))
    }

    fn passing(self: &Arc<Self>, trail: Trail) -> Span {
        Span(Some(Box::new(Live {
            tracing: self.clone(),
            trail,
            record: None,
        })))
    }
}

impl Span {
    /// None at all.
    const NONE: Self = Self(None);

    /// Whether what is said of it is kept.
    pub fn records(&self) -> bool {
        self.0.as_ref().is_some_and(|live| live.record.is_some())
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Where it is in its trace.
    pub fn trail(&self) -> Option<&Trail> {
        self.0.as_ref().map(|live| &live.trail)
    }

    /// Names it, where that could not be done before.
    pub fn name(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(record) = self.record() {
            record.data.name = name.into();
        }
    }

    /// Says something about the work.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(record) = self.record() {
            record
                .data
                .attributes
                .push(KeyValue::new(key, value.into()));
        }
    }

    /// Says that the work failed: OpenTelemetry's `error.type`, of which there are few.
    pub fn fail(&mut self, error: impl Into<Value>) {
        if let Some(record) = self.record() {
            record.data.status = Status::error("");
        }
        self.note("error.type", error);
    }

    /// Says that the work hangs on another piece of work, which is in a place of its own. Who follows the one will want to
    /// see the other.
    pub fn link(&mut self, to: &Trail) {
        if self.trail().is_some_and(Trail::is_followed) {
            to.followed.store(true, Relaxed);
        }
        if let Some(record) = self.record().filter(|_| to.recorded) {
            let link = Link::with_context(to.context.clone());
            record.data.links.links.push(link);
        }
    }

    fn child(&self, name: &'static str, kind: Kind) -> Self {
        let Some(Live {
            tracing,
            trail,
            record,
        }) = self.0.as_deref()
        else {
            return Self::NONE;
        };
        match record {
            Some(_) => tracing.begin(name, kind, Some(&trail.context), trail.followed.clone()),
            None => tracing.passing(trail.clone()),
        }
    }

    fn record(&mut self) -> Option<&mut Record> {
        self.0.as_mut()?.record.as_mut()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(Record { mut data, began }) = self.record.take() else {
            return;
        };
        if let Some(outlet) = &self.tracing.outlet
            && self.trail.is_followed()
        {
            let (now, _) = (self.tracing.now)();
            data.end_time = data.start_time + now.saturating_duration_since(began);
            outlet.take(data);
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trail.fmt(f)
    }
}
