//! One fetch per key at a time, whoever asks and whoever hangs up.
//!
//! A fetch is a task of its own and belongs to nobody's connection: the first caller may leave, and the call is already
//! paid for. All who come while it is under way wait for its result, a failure included, which is not repeated for
//! each of them. Only who comes after a forget of the list starts another.
//!
//! When a fetch begins is the account's to say: callers wait for their turn at its desk, and refreshes for theirs.
//!
//! In a trace a fetch is a span of its own. It is a child of the request that began it, where the call to the vendor is
//! looked for first; the others who wait have a link to it. A refresh, for which nobody waits, is a trace of its own.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, ready};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tower::Service;
use tower::util::ServiceExt;

use super::policy::Rules;
use super::store::{Entry, Store, Ticket};
use super::{Fetched, Wanted};
use crate::clock::Clock;
use crate::contacts::{Forwarded, Page, PageKey, Read};
use crate::error::Error;
use crate::telemetry::traces::{self, Kind, Span, Traces, Trail};
use crate::upstream::allowance::{self, Allowances, Call, Launch, Permit};
use crate::upstream::credentials::By;
use crate::upstream::{Fetch, Reason};

/// What identifies a fetch: all that reaches the vendor.
type Name = (PageKey, Forwarded);

/// What a fetch came to: the page, and whether it is in memory now.
type Landing = Result<(Arc<Page>, bool), Error>;

/// The accounts, with the fetches under way.
pub type Accounts = Allowances<Name, Flight>;
type Desk = Arc<allowance::Desk<Name, Flight>>;

/// A fetch under way.
#[derive(Clone, Debug)]
pub struct Flight {
    ticket: Arc<Ticket>,
    landing: Shared<oneshot::Receiver<Landing>>,
    trail: Option<Trail>,
}

/// The innermost part of the cache: makes fetches, and keeps what they bring. A clone costs next to nothing, since every
/// hit makes some.
#[derive(Debug)]
pub struct Fetches<S>(Arc<Source<S>>);

/// How pages are fetched that are fetched from now on. A fetch goes by what holds when it begins, which may be long after
/// it was asked for; so this outlives each set of settings, and whoever waits for a turn holds nothing older.
#[derive(Debug)]
pub struct Ways<S>(Arc<ArcSwapOption<Way<S>>>);

/// How a page is fetched: both parts are of the same settings.
#[derive(Debug)]
pub struct Way<S> {
    /// What is kept, and for how long.
    pub rules: Arc<Rules>,
    /// Where fetches go.
    pub upstream: S,
}

impl<S> Ways<S> {
    /// From now on this way.
    pub fn turn(&self, way: Way<S>) {
        self.0.store(Some(Arc::new(way)));
    }
}

/// None at first.
impl<S> Default for Ways<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S> Clone for Ways<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What it takes to fetch.
#[derive(Debug)]
pub struct Source<S> {
    /// Where to, and what is kept.
    pub ways: Ways<S>,
    /// Where it is kept.
    pub store: Store,
    /// Whose turn it is.
    pub accounts: Accounts,
    /// Tells the time.
    pub clock: Clock,
    /// Fetches, which outlive the requests that began them.
    pub tasks: TaskTracker,
    /// Follows some of them.
    pub traces: Traces,
}

impl<S> From<Source<S>> for Fetches<S> {
    fn from(source: Source<S>) -> Self {
        Self(Arc::new(source))
    }
}

impl<S> Clone for Fetches<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Service<Wanted> for Fetches<S>
where
    S: Service<Fetch, Response = Page, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Fetched;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Fetched, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// For a caller who waits.
    fn call(&mut self, wanted: Wanted) -> Self::Future {
        let name = wanted.name();
        let desk = self.0.accounts.desk(&name.0.list.account);
        let mut book = desk.book();
        if let Some(flight) = book.flight(&name).filter(|flight| flight.ticket.is_good()) {
            return flight.clone().land(true).boxed();
        }
        // Between the caller's look-up and this one a fetch may have landed.
        let known = wanted.known.as_ref();
        let found = self.0.store.entry(&name.0, &name.1);
        if let Some(found) =
            found.filter(|found| !known.is_some_and(|known| Arc::ptr_eq(known, found)))
        {
            let fetched = Fetched {
                page: found.page.clone(),
                stored: true,
                collapsed: true,
            };
            return ready(Ok(fetched)).boxed();
        }
        let (caller, asker, now) = (wanted.caller.clone(), wanted.asker(), self.0.clock.now());
        let joins = book.awaits(&name);
        let launch = self.launch(&desk, move || Some(wanted));
        let mut asked = book.ask(&name, asker, launch, now);
        // The one who begins a fetch pays for it; who joins does not, and a refresh is for all.
        if let Ok((id, _)) = asked
            && !joins
            && let Err(spent) = caller.take_fetch(now)
        {
            book.leave(&name, id);
            asked = Err(spent);
        }
        drop(book);
        desk.pump();
        match asked {
            Ok((id, told)) => {
                let place = Place {
                    desk,
                    name,
                    id,
                    told,
                    span: traces::child("wait for the allowance", Kind::Internal),
                };
                place.wait().boxed()
            }
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }
}

impl Flight {
    /// Waits for it. Whoever did not begin it is `collapsed`.
    async fn land(self, collapsed: bool) -> Result<Fetched, Error> {
        let mut span = match collapsed {
            true => traces::child("wait for a fetch", Kind::Internal),
            // The fetch itself shows how long that takes.
            false => Span::default(),
        };
        if let Some(trail) = &self.trail {
            span.link(trail);
        }
        // The sender is dropped unused only if the fetch panicked.
        let landing = self.landing.await.unwrap_or(Err(Error::Internal));
        let (page, stored) = landing.inspect_err(|failure| span.fail(failure.name()))?;
        Ok(Fetched {
            page,
            stored,
            collapsed,
        })
    }
}

/// A caller's place in the queue. Who hangs up leaves it.
struct Place {
    desk: Desk,
    name: Name,
    id: u64,
    told: oneshot::Receiver<Result<(Flight, bool), Error>>,
    span: Span,
}

impl Place {
    async fn wait(mut self) -> Result<Fetched, Error> {
        let told = (&mut self.told).await;
        // The other end is dropped unused only if the fetch could not begin.
        let told = told.unwrap_or(Err(Error::Internal));
        let mut span = std::mem::take(&mut self.span);
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

impl<S> Fetches<S>
where
    S: Service<Fetch, Response = Page, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    /// Has a page refreshed that was served although it is no longer fresh, when its turn comes.
    pub fn refresh(&self, read: &Read, entry: &Arc<Entry>) {
        let desk = self.0.accounts.desk(&read.key.list.account);
        let known: Weak<Entry> = Arc::downgrade(entry);
        let read = read.clone();
        let name = (read.key.clone(), read.forwarded.clone());
        // By then the page may be gone, and with it the wish.
        let launch = self.launch(&desk, move || {
            let entry = known.upgrade()?;
            Some(Wanted::of(&read, Reason::Refresh, Some(entry)))
        });
        desk.book().want(&name, &entry.debt, launch);
        desk.pump();
    }

    /// What begins a fetch once a call may go.
    fn launch(
        &self,
        desk: &Desk,
        wanted: impl FnOnce() -> Option<Wanted> + Send + 'static,
    ) -> Launch<Flight> {
        let (this, desk) = (self.clone(), desk.clone());
        // Where whoever asks is in its trace. When the fetch begins, somebody else may be under way here.
        let cause = traces::current();
        Box::new(move |call, id| {
            let (wanted, way) = (wanted()?, this.0.ways.0.load_full()?);
            let (land, landing) = oneshot::channel();
            let ticket = Arc::new(this.0.store.ticket(&wanted.key.list));
            let refresh = wanted.reason == Reason::Refresh;
            let span = this.0.traces.fetch(cause.as_ref(), refresh);
            let flight = Flight {
                ticket: ticket.clone(),
                landing: landing.shared(),
                trail: span.trail().cloned(),
            };
            let tasks = this.0.tasks.clone();
            tasks.spawn(span.around(this.fly(way, wanted, desk, (call, id), ticket, land)));
            Some(flight)
        })
    }

    async fn fly(
        self,
        way: Arc<Way<S>>,
        wanted: Wanted,
        desk: Desk,
        (call, id): (Call, u64),
        ticket: Arc<Ticket>,
        land: oneshot::Sender<Landing>,
    ) {
        let permit = Arc::new(Permit::new(&desk, call));
        let (key, sent) = wanted.name();
        // Ends the flight when this is dropped, after the page is stored: whoever finds no flight finds the page.
        let mut aloft = Aloft {
            desk: &desk,
            name: &(key.clone(), sent.clone()),
            id,
            known: wanted.known.as_deref(),
            fetched: false,
        };
        let fetch = Fetch {
            key: key.clone(),
            forwarded: sent.clone(),
            reason: wanted.reason,
            known: wanted.known.as_ref().map(|entry| entry.page.clone()),
            by: By::default(),
            spare: false,
            redial: false,
            permit,
        };
        traces::note("contacts_gateway.reason", || fetch.reason());
        let landing = way.upstream.clone().oneshot(fetch).await.map(|page| {
            let page = Arc::new(page);
            let debt = desk.open_debt();
            let kept = Entry::of(page.clone(), &sent, wanted.authorized, &way.rules, debt);
            let stored = match kept.filter(|_| !wanted.no_store) {
                Some(kept) => ticket.store(&key, kept, &sent, wanted.known.as_ref()),
                // Neither a failure nor a caller's wish says anything about the page that is in memory.
                None if page.status.is_server_error() || wanted.no_store => false,
                None => {
                    ticket.discard(&key);
                    false
                }
            };
            (page, stored)
        });
        if let Err(failure) = &landing {
            traces::fail(failure.name());
        }
        aloft.fetched = landing.is_ok();
        let refused = matches!(landing, Err(Error::UpstreamRefused { .. }));
        drop(aloft);
        if refused && wanted.known.is_none() && wanted.reason == Reason::Miss {
            self.once_more(&desk, wanted);
        }
        // Nobody may be left to hear of it.
        let _ = land.send(landing);
    }

    /// The vendor refused it. It is tried once more when the account's pause is over, whether somebody waits or not.
    fn once_more(&self, desk: &Desk, wanted: Wanted) {
        let (name, asker) = (wanted.name(), wanted.asker());
        let wanted = Wanted {
            reason: Reason::Refresh,
            ..wanted
        };
        let launch = self.launch(desk, move || Some(wanted));
        desk.book().stays_wanted(&name, &asker, launch);
        desk.pump();
    }
}

/// A flight that is to be taken off the book, however it ends.
struct Aloft<'a> {
    desk: &'a Desk,
    name: &'a Name,
    id: u64,
    known: Option<&'a Entry>,
    fetched: bool,
}

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        let debt = self.known.map(|entry| &*entry.debt);
        let mut book = self.desk.book();
        book.landed(self.name, self.id, self.fetched, debt);
    }
}

#[cfg(test)]
mod tests;
