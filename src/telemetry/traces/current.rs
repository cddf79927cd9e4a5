//! The span of what is under way: while work is done, OpenTelemetry's current context is its span's.

use std::time::SystemTime;

use futures_util::FutureExt as _;
use opentelemetry::trace::{FutureExt, TraceContextExt};
use opentelemetry::{Context, Value};

use super::sketch::Sketch;
use super::{Span, Trail, failed, layer, noted};

/// The names of where the current work is in its trace, as log lines carry them: hexadecimal, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// `trace_id`.
    pub trace_id: String,
    /// `span_id`.
    pub span_id: String,
}

/// Where the current work is in its trace; nothing if it is in none.
pub fn current_ids() -> Option<Ids> {
    of_current(|context| {
        let span = context.span();
        Ids {
            trace_id: span.span_context().trace_id().to_string(),
            span_id: span.span_context().span_id().to_string(),
        }
    })
}

/// Where the current work is in its trace, for what comes of it later.
pub fn current() -> Option<Trail> {
    of_current(|context| Trail(context.clone()))
}

/// Says something about the current work, if that is traced.
pub fn note<V: Into<Value>>(key: &'static str, value: impl FnOnce() -> V) {
    of_current(|context| noted(context, key, value()));
}

/// Says that the current work failed. See [`Span::fail`].
pub fn fail(error: impl Into<Value>) {
    of_current(|context| failed(context, error));
}

/// A part of the current work, which is described if that is traced.
pub fn child(describe: impl FnOnce() -> tracing::Span) -> Span {
    current().map_or(Span::NONE, |Trail(context)| Span::within(context, describe))
}

/// Whether somebody follows the current work.
pub fn is_followed() -> bool {
    current().is_some_and(|trail| trail.is_followed())
}

/// A part of the current work that began then, if somebody follows that by now. For work which nobody may ever follow: what
/// is made for nothing is as dear as what is made for somebody.
pub fn child_since(began: SystemTime, describe: impl FnOnce() -> tracing::Span) -> Span {
    match is_followed() {
        true => layer::at(began, || child(describe)),
        false => Span::NONE,
    }
}

fn of_current<T>(look: impl FnOnce(&Context) -> T) -> Option<T> {
    Context::map_current(|context| match context.has_active_span() {
        true => Some(look(context)),
        false => context
            .get::<Sketch>()?
            .made()
            .map(|Trail(context)| look(&context)),
    })
}

impl Span {
    /// What is done here and now, until what this returns is dropped, is a part of the work.
    pub fn enter(&self) -> Option<impl Drop + use<>> {
        self.trail().map(|Trail(context)| context.clone().attach())
    }

    /// The future is the work.
    pub fn around<F>(self, work: F) -> impl Future<Output = F::Output> + use<F>
    where
        F: Future,
    {
        let context = self.trail().map(|Trail(context)| context.clone());
        let mut span = Unfinished(self);
        // Not in an async block, which would have room for the work twice: before it begins, and while it is awaited.
        work.with_context(context.unwrap_or_default())
            .map(move |done| {
                // It ends here, not when somebody gets round to dropping the future.
                drop(std::mem::take(&mut span.0));
                done
            })
    }
}

/// The span of work that is not done.
struct Unfinished(Span);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Whoever waited for the work has gone. That is no failure.
        self.0.note("contacts_gateway.abandoned", true);
    }
}
