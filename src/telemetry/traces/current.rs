//! The span of what is under way: while a future is polled, its span is the current one of the thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use opentelemetry::Value;

use super::{Kind, Span, Trail};

/// The names of where the current work is in its trace, as log lines carry them: hexadecimal, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// `trace_id`.
    pub trace_id: String,
    /// `span_id`.
    pub span_id: String,
}

thread_local! {
    /// The span of what is being polled.
    static CURRENT: RefCell<Span> = const { RefCell::new(Span::NONE) };
}

/// Where the current work is in its trace; nothing if it is in none.
pub fn current_ids() -> Option<Ids> {
    CURRENT.with_borrow(|span| {
        let context = &span.trail()?.context;
        Some(Ids {
            trace_id: context.trace_id().to_string(),
            span_id: context.span_id().to_string(),
        })
    })
}

/// Where the current work is in its trace, for what comes of it later.
pub fn current() -> Option<Trail> {
    CURRENT.with_borrow(|span| span.trail().cloned())
}

/// Says something about the current work, if that is traced.
pub fn note<V: Into<Value>>(key: &'static str, value: impl FnOnce() -> V) {
    CURRENT.with_borrow_mut(|span| {
        if !span.is_none() {
            span.note(key, value());
        }
    });
}

/// Says that the current work failed. See [`Span::fail`].
pub fn fail(error: impl Into<Value>) {
    CURRENT.with_borrow_mut(|span| span.fail(error));
}

/// A part of the current work.
pub fn child(name: &'static str, kind: Kind) -> Span {
    CURRENT.with_borrow(|span| span.child(name, kind))
}

impl Span {
    /// What is done here and now is a part of the work.
    pub fn during<T>(&mut self, part: impl FnOnce() -> T) -> T {
        let _within = Within::enter(self);
        part()
    }

    /// The future is the work.
    pub fn around<F: Future + Send + 'static>(self, work: F) -> Around<F::Output> {
        Around {
            work: Box::pin(work),
            span: self,
        }
    }
}

/// A future, and the span of it. See [`Span::around`].
pub struct Around<T> {
    work: BoxFuture<'static, T>,
    span: Span,
}

impl<T> Future for Around<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { work, span } = &mut *self;
        let within = Within::enter(span);
        let polled = work.as_mut().poll(cx);
        drop(within);
        if polled.is_ready() {
            // It ends here, not when somebody gets round to dropping the future.
            *span = Span::NONE;
        }
        polled
    }
}

impl<T> Drop for Around<T> {
    fn drop(&mut self) {
        // Whoever waited for the work has gone. That is no failure.
        self.span.note("contacts_gateway.abandoned", true);
    }
}

/// Makes a span the current one, and the one before it again in the end, even if that is a panic.
struct Within<'a> {
    span: &'a mut Span,
    outer: Span,
}

impl<'a> Within<'a> {
    fn enter(span: &'a mut Span) -> Self {
        let outer = CURRENT.replace(std::mem::take(span));
        Self { span, outer }
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        *self.span = CURRENT.replace(std::mem::take(&mut self.outer));
    }
}
