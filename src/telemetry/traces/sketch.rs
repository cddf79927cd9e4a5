//! A fetch's span that is made once somebody wants to see it. Of most fetches nobody ever does, and a span that is made for
//! nothing is as dear as any other.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use opentelemetry::Context;
use tracing::info_span;

use super::{Span, Trail, layer};

/// What it takes to make the span, as if it had been there from the beginning. A value of the context that the fetch is in.
#[derive(Debug)]
pub(super) struct Sketch {
    root: Context,
    began: SystemTime,
    span: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Unmade,
    Made(Span),
    Over,
}

impl Sketch {
    /// Of a fetch that began then, and is in nobody's trace.
    pub(super) fn new(root: Context, began: SystemTime) -> Self {
        Self {
            root,
            began,
            span: Mutex::new(State::Unmade),
        }
    }

    /// Makes the span, unless it is there. Nothing where the fetch is over.
    pub(super) fn make(&self) -> Option<Trail> {
        let mut span = self.span();
        if matches!(*span, State::Unmade) {
            let make = || Span::within(self.root.clone(), || info_span!("fetch"));
            *span = State::Made(layer::at(self.began, make));
        }
        span.trail()
    }

    /// Where the span is, if it was made.
    pub(super) fn made(&self) -> Option<Trail> {
        self.span().trail()
    }

    /// The fetch is over.
    pub(super) fn end(&self) {
        let over = mem::replace(&mut *self.span(), State::Over);
        drop(over);
    }

    fn span(&self) -> MutexGuard<'_, State> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn trail(&self) -> Option<Trail> {
        match self {
            Self::Made(span) => span.trail().cloned(),
            Self::Unmade | Self::Over => None,
        }
    }
}
