//! One fetch per key at a time, whoever asks and whoever hangs up.
//!
//! A fetch is a task of its own and belongs to nobody's connection: the first caller may leave, and the call is already
//! paid for. All who come while it is under way wait for its result, a failure included, which is not repeated for
//! each of them. Only who comes after a forget of the list starts another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, ready};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tower::util::ServiceExt;
use tower::{Layer, Service, layer};

use super::policy::Rules;
use super::store::{Entry as Kept, Store, Ticket};
use super::{Fetched, Wanted};
use crate::contacts::{Forwarded, Page, PageKey};
use crate::error::Error;
use crate::upstream::Fetch;

/// The rung. `tasks` are waited for when the process ends.
pub fn layer<S>(
    rules: Arc<Rules>,
    store: Store,
    tasks: TaskTracker,
) -> impl Layer<S, Service = Coalesce<S>> + Clone {
    let flights = Flights::default();
    layer::layer_fn(move |inner| Coalesce {
        rules: rules.clone(),
        store: store.clone(),
        flights: flights.clone(),
        tasks: tasks.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Coalesce<S> {
    rules: Arc<Rules>,
    store: Store,
    flights: Flights,
    tasks: TaskTracker,
    inner: S,
}

/// What a fetch came to: the page, and whether it is in memory now.
type Landing = Result<(Arc<Page>, bool), Error>;

/// The fetches under way.
#[derive(Clone, Debug, Default)]
struct Flights(Arc<Mutex<HashMap<(PageKey, Forwarded), Flight>>>);

#[derive(Clone, Debug)]
struct Flight {
    ticket: Arc<Ticket>,
    landing: Shared<oneshot::Receiver<Landing>>,
}

impl<S> Service<Wanted> for Coalesce<S>
where
    S: Service<Fetch, Response = Page, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Fetched;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Fetched, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, wanted: Wanted) -> Self::Future {
        let name = (wanted.fetch.key.clone(), wanted.fetch.forwarded.clone());
        let mut flights = self.flights.lock();
        let under_way = flights.get(&name).filter(|flight| flight.ticket.is_good());
        let (landing, collapsed) = if let Some(flight) = under_way {
            (flight.landing.clone(), true)
        } else {
            // Between the caller's look-up and this one a fetch may have landed.
            let found = self.store.entry(&name.0, &name.1);
            let landed = found.map(|entry| entry.page.clone()).filter(|page| {
                let known = wanted.fetch.known.as_ref();
                !known.is_some_and(|known| Arc::ptr_eq(known, page))
            });
            if let Some(page) = landed {
                let fetched = Fetched {
                    page,
                    stored: true,
                    collapsed: true,
                };
                return ready(Ok(fetched)).boxed();
            }
            let (land, landing) = oneshot::channel();
            let flight = Flight {
                ticket: Arc::new(self.store.ticket(&wanted.fetch.key.list)),
                landing: landing.shared(),
            };
            flights.insert(name, flight.clone());
            self.tasks
                .spawn(self.clone().fly(wanted, flight.ticket, land));
            (flight.landing, false)
        };
        drop(flights);
        async move {
            // The sender is dropped unused only if the fetch panicked.
            let (page, stored) = landing.await.unwrap_or(Err(Error::Internal))?;
            Ok(Fetched {
                page,
                stored,
                collapsed,
            })
        }
        .boxed()
    }
}

impl<S> Coalesce<S>
where
    S: Service<Fetch, Response = Page, Error = Error>,
{
    async fn fly(self, wanted: Wanted, ticket: Arc<Ticket>, land: oneshot::Sender<Landing>) {
        let name = (wanted.fetch.key.clone(), wanted.fetch.forwarded.clone());
        let known = wanted.fetch.known.clone();
        // Ends the flight when this is dropped, after the page is stored: whoever finds no flight finds the page.
        let _aloft = Aloft {
            flights: self.flights,
            ticket: ticket.clone(),
            name: &name,
        };
        let landing = self.inner.oneshot(wanted.fetch).await.map(|page| {
            let (key, sent) = &name;
            let page = Arc::new(page);
            let kept = Kept::of(page.clone(), sent, wanted.authorized, &self.rules);
            let stored = match kept.filter(|_| !wanted.no_store) {
                Some(kept) => ticket.store(key, kept, sent, known.as_ref()),
                // Neither a failure nor a caller's wish says anything about the page that is in memory.
                None if page.status.is_server_error() || wanted.no_store => false,
                None => {
                    ticket.discard(key);
                    false
                }
            };
            (page, stored)
        });
        // Nobody may be left to hear of it.
        let _ = land.send(landing);
    }
}

/// A flight that is to be taken off the list, however it ends.
struct Aloft<'a> {
    flights: Flights,
    ticket: Arc<Ticket>,
    name: &'a (PageKey, Forwarded),
}

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // After a forget another flight may have this name.
        if let Entry::Occupied(flight) = flights.entry(self.name.clone())
            && Arc::ptr_eq(&flight.get().ticket, &self.ticket)
        {
            flight.remove();
        }
    }
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<(PageKey, Forwarded), Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
