//! A fetch under way, and those who wait for it or for their turn. Hides that all of them are told how it ended, and that it
//! is taken off the book, whatever becomes of whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::{SetOnce, oneshot};
use tracing::info_span;

use super::{Desk, Name};
use crate::cache::Fetched;
use crate::cache::store::{Entry, Ticket};
use crate::contacts::SharedPage;
use crate::error::Error;
use crate::telemetry::traces::{self, Span, Trail};

/// What a fetch came to.
pub(in crate::cache) type Landing = Result<Landed, Error>;

/// A page that a fetch brought.
#[derive(Clone, Debug)]
pub(in crate::cache) struct Landed {
    pub(in crate::cache) page: SharedPage,
    /// Whether it is in memory now.
    pub(in crate::cache) stored: bool,
    /// Whether another replica made the call.
    pub(in crate::cache) elsewhere: bool,
}

/// A fetch under way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub(super) ticket: Arc<Ticket>,
    pub(super) landing: Arc<SetOnce<Landing>>,
    pub(super) trail: Option<Trail>,
    /// Nobody waits for it but callers who want nothing kept.
    pub(super) no_store: Arc<AtomicBool>,
    /// The page that makes it needless: it lands with this one.
    pub(super) came: Option<Arc<Entry>>,
}

impl Flight {
    /// Another waits for it, who may want nothing kept.
    pub(super) fn join(&self, no_store: bool) {
        self.no_store.fetch_and(no_store, Relaxed);
    }

    /// Whether it brings nothing but what is known already.
    pub(super) fn lands_with(&self, known: Option<&Arc<Entry>>) -> bool {
        let came = self.came.as_ref();
        came.zip(known)
            .is_some_and(|(came, known)| Arc::ptr_eq(came, known))
    }

    /// Waits for it. Whoever did not begin it is `collapsed`.
    pub(super) async fn land(self, collapsed: bool) -> Result<Fetched, Error> {
        let span = match collapsed {
            true => traces::child(|| info_span!("wait for a fetch")),
            // The fetch itself shows how long that takes.
            false => Span::default(),
        };
        if let Some(trail) = &self.trail {
            span.link(trail);
        }
        let landing = self.landing.wait().await.clone();
        let landed = landing.inspect_err(|failure| span.fail(failure.name()))?;
        Ok(Fetched {
            page: landed.page,
            stored: landed.stored,
            collapsed: collapsed || landed.elsewhere,
        })
    }
}

/// Tells all who wait for a fetch what it came to.
pub(super) struct Land(pub(super) Arc<SetOnce<Landing>>);

impl Land {
    pub(super) fn tell(self, landing: Landing) {
        let _ = self.0.set(landing);
    }
}

impl Drop for Land {
    fn drop(&mut self) {
        // It was told, unless the fetch panicked.
        let _ = self.0.set(Err(Error::Internal));
    }
}

/// A caller's place in the queue. Who hangs up leaves it.
pub(super) struct Place {
    pub(super) desk: Desk,
    pub(super) name: Name,
    pub(super) id: u64,
    pub(super) told: oneshot::Receiver<Result<(Flight, bool), Error>>,
    pub(super) span: Span,
}

impl Place {
    pub(super) async fn wait(mut self) -> Result<Fetched, Error> {
        let told = (&mut self.told).await;
        // The other end is dropped unused only if the fetch could not begin.
        let told = told.unwrap_or(Err(Error::Internal));
        let span = std::mem::take(&mut self.span);
        let (flight, first) = told.inspect_err(|refused| span.fail(refused.name()))?;
        drop(span);
        flight.land(!first).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.book().leave(&self.name, self.id);
    }
}

/// A flight that is to be taken off the book, however it ends.
pub(super) struct Aloft<'a> {
    pub(super) desk: &'a Desk,
    pub(super) name: &'a Name,
    pub(super) id: u64,
    pub(super) known: Option<&'a Entry>,
    pub(super) fetched: bool,
}

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        let debt = self.known.map(|entry| &entry.debt);
        let mut book = self.desk.book();
        book.landed(self.name, self.id, self.fetched, debt);
    }
}
