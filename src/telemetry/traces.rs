//! Which requests are traced, what their spans tell, and what goes on to a collector.
//!
//! A span is one of `tracing`'s, which the place in the code that does the work describes by a macro of `tracing`'s, and which
//! `tracing-opentelemetry` makes one of OpenTelemetry's. Its subscriber is each gateway's own: nothing of it is global, and
//! events, which go to the log, do not come by it. Two decisions are ours: whether a request is followed is decided before
//! anything is made for it, so that the others cost one random number; and a fetch, which belongs to nobody, is kept for the
//! collector if any of those who waited for it is followed, even one who came late: until then its span is not made (`sketch`).
//!
//! The span of what is under way is [`Span::around`] a future: while that is polled, whatever it calls can [`note`] something
//! on the span, make a [`child`] of it, or tell where it is ([`current()`], [`current_ids`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue, Value};
use tracing::dispatcher::{self, Dispatch};
use tracing::info_span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

mod context;
mod current;
mod export;
mod layer;
mod resource;
mod settings;
mod sketch;

pub use current::{Ids, child, child_since, current, current_ids, fail, is_followed, note};
pub use settings::{Endpoint, OpenTelemetry, Ratio};

use self::context::Parent;
use self::export::Outlet;
use self::settings::Sampler;
use self::sketch::Sketch;
use super::metrics::Metrics;
use super::{Now, Settings};

/// Makes spans. Clones share what happens to them; [`Traces::default`] makes none.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    sampler: Sampler,
    /// Whether the vendor is told.
    propagate: bool,
    /// Nothing where contexts pass through and that is all.
    exporting: Option<Exporting>,
}

struct Exporting {
    /// What a trace begins in: it holds the [`Dispatch`] that makes spans, and so does whatever comes of it.
    root: Context,
    outlet: Outlet,
    now: Now,
}

/// A piece of work, which ends when this is dropped. Most are none at all, and cost nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Live>);

#[derive(Debug)]
struct Live {
    trail: Trail,
    /// None where the caller's context only passes through.
    span: tracing::Span,
}

/// Where something is in a trace: what a child is a child of, and what a link leads to.
#[derive(Clone, Debug)]
pub struct Trail(Context);

/// Whether somebody wants to see a fetch that began for nobody who is followed. What comes of the fetch shares it.
#[derive(Debug, Default)]
struct Joined(AtomicBool);

impl Traces {
    /// Starts what the settings and OpenTelemetry's variables ask for, on the runtime that this is called from. Where that
    /// is no exporter, callers' contexts can still pass through to the vendor, if they are to be propagated.
    pub fn start(settings: &Settings, propagate: bool, now: Now, metrics: &Arc<Metrics>) -> Self {
        let plan = settings.traces();
        if plan.is_none() && !propagate {
            return Self(None);
        }
        let exporting = plan.map(|plan| {
            let outlet = Outlet::open(plan, metrics);
            let root = Context::new().with_value(layer::dispatch(outlet.clone(), now.clone()));
            Exporting { root, outlet, now }
        });
        Self(Some(Arc::new(Tracing {
            sampler: settings.sampler(),
            propagate,
            exporting,
        })))
    }

    /// The span of a caller's request, if it is followed. `told`: its header, where there is a `traceparent` in it.
    pub fn request(
        &self,
        told: Option<&HeaderMap>,
        describe: impl FnOnce() -> tracing::Span,
    ) -> Span {
        let Some(tracing) = &self.0 else {
            return Span::NONE;
        };
        let parent = told.and_then(|headers| Some((Parent::of(headers)?, headers)));
        let exporting = tracing.exporting.as_ref();
        match (
            exporting.filter(|_| {
                tracing
                    .sampler
                    .takes(parent.as_ref().map(|(parent, _)| parent))
            }),
            parent,
        ) {
            (Some(Exporting { root, .. }), None) => Span::within(root.clone(), describe),
            (Some(Exporting { root, .. }), Some((parent, told))) => {
                let within = root.with_remote_span_context(parent.context(told));
                Span::within(within, describe)
            }
            // Most callers who trace do not follow most of their requests: they are told from the others, and that is all.
            (None, Some((parent, told))) if tracing.propagate => {
                Span::passing(Context::new().with_remote_span_context(parent.context(told)))
            }
            (None, _) => Span::NONE,
        }
    }

    /// The span of a fetch, which is a child of what waits for it. Nobody waits for a refresh: it is a trace of its own,
    /// with a link to what caused it.
    pub fn fetch(&self, cause: Option<&Trail>, refresh: bool) -> Span {
        let Some(tracing) = &self.0 else {
            return Span::NONE;
        };
        let parent = cause.filter(|_| !refresh);
        let Some(Exporting { root, now, .. }) = &tracing.exporting else {
            return parent.map_or(Span::NONE, |trail| Span::passing(trail.0.clone()));
        };
        let followed = cause.is_some_and(Trail::is_followed);
        // The vendor is told of the fetch whether it is followed or not, so it needs its name.
        if !followed && !tracing.propagate {
            let sketch = Sketch::new(root.clone(), now().1);
            return Span::passing(Context::new().with_value(sketch));
        }
        let mut within = match parent {
            Some(trail) => root.with_remote_span_context(trail.place()),
            None => root.clone(),
        };
        if !followed {
            within = within.with_value(Joined::default());
        }
        let span = Span::within(within, || info_span!("fetch"));
        if let Some(cause) = cause.filter(|_| refresh) {
            span.link(cause);
        }
        span
    }

    /// Hands over what is left, for so long at most. What ends after this is lost.
    pub async fn close(&self, within: Duration) {
        let exporting = self
            .0
            .as_ref()
            .and_then(|tracing| tracing.exporting.as_ref());
        if let Some(Exporting { outlet, .. }) = exporting {
            let outlet = outlet.clone();
            // It blocks.
            let _ = tokio::task::spawn_blocking(move || outlet.close(within)).await;
        }
    }
}

impl Trail {
    /// Adds the fields that tell the next one where this is: never baggage.
    pub fn propagate(&self, headers: &mut HeaderMap) {
        context::inject(&self.place(), self.is_sampled(), headers);
    }

    /// Looks at the context that the span is in; not at all where it is not made.
    fn look<T>(&self, look: impl FnOnce(&Context) -> T) -> Option<T> {
        match self.0.get::<Sketch>() {
            Some(sketch) => sketch.made().map(|Trail(context)| look(&context)),
            None => Some(look(&self.0)),
        }
    }

    fn place(&self) -> SpanContext {
        self.0.span().span_context().clone()
    }

    /// Whether the span is one of ours.
    fn is_recorded(&self) -> bool {
        self.0.get::<Dispatch>().is_some()
    }

    fn is_sampled(&self) -> bool {
        match self.0.get::<Joined>() {
            Some(Joined(joined)) => joined.load(Relaxed),
            None => self.0.span().span_context().is_sampled(),
        }
    }

    fn is_followed(&self) -> bool {
        self.is_recorded() && self.is_sampled()
    }
}

impl Span {
    /// None at all.
    const NONE: Self = Self(None);

    /// A child of the context's span, if the context is one in which spans are recorded. It begins now.
    fn within(parent: Context, describe: impl FnOnce() -> tracing::Span) -> Self {
        let Some(dispatch) = parent.get::<Dispatch>() else {
            return Self::passing(parent);
        };
        // The context that is attached is the parent of a span to which no other is given.
        let attached = parent.clone().attach();
        let span = dispatcher::with_default(dispatch, describe);
        drop(attached);
        let trail = Trail(span.context());
        Self(Some(Live { trail, span }))
    }

    fn passing(through: Context) -> Self {
        let (trail, span) = (Trail(through), tracing::Span::none());
        Self(Some(Live { trail, span }))
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Where it is in its trace.
    pub fn trail(&self) -> Option<&Trail> {
        self.0.as_ref().map(|live| &live.trail)
    }

    /// Says something about the work.
    pub fn note(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(trail) = self.trail() {
            trail.look(|context| noted(context, key, value));
        }
    }

    /// Says that the work failed: OpenTelemetry's `error.type`, of which there are few.
    pub fn fail(&self, error: impl Into<Value>) {
        if let Some(trail) = self.trail() {
            trail.look(|context| failed(context, error));
        }
    }

    /// Says that the work hangs on another piece of work, which is in a place of its own. Who follows the one will want to
    /// see the other.
    pub fn link(&self, to: &Trail) {
        let Some(Live { trail, span }) = &self.0 else {
            return;
        };
        if trail.is_followed() {
            if let Some(Joined(joined)) = to.0.get() {
                joined.store(true, Relaxed);
            }
            if let Some(sketch) = to.0.get::<Sketch>() {
                sketch.make();
            }
        }
        to.look(|context| {
            let to = Trail(context.clone());
            if to.is_recorded() {
                span.add_link(to.place());
            }
        });
    }
}

fn noted(context: &Context, key: &'static str, value: impl Into<Value>) {
    context.span().set_attribute(KeyValue::new(key, value));
}

fn failed(context: &Context, error: impl Into<Value>) {
    context.span().set_status(Status::error(""));
    noted(context, "error.type", error);
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(sketch) = self.trail.0.get::<Sketch>() {
            return sketch.end();
        }
        // What nobody wants to see ends all the same, but out of the outlet's sight.
        let _unseen = (!self.trail.is_sampled()).then(Context::enter_telemetry_suppressed_scope);
        self.span = tracing::Span::none();
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}
