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

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio_util::task::TaskTracker;
use tower::Service;
use tower::util::ServiceExt;
use tracing::info_span;

use super::elsewhere::landed;
use super::lookup::Lookups;
use super::policy::Rules;
use super::store::Entry;
use super::{Fetched, Wanted};
use crate::contacts::{Forwarded, Page, PageKey, Read, SharedPage};
use crate::error::Error;
use crate::fleet::UNKEPT;
use crate::telemetry::traces::{self, Traces};
use crate::upstream::allowance::{self, Allowances, Go, Launch, Permit, Wishes};
use crate::upstream::credentials::By;
use crate::upstream::{Fetch, Reason};

mod flight;
mod share;
mod ways;

pub use flight::Flight;
pub(super) use flight::{Landed, Landing};
pub use ways::{Way, Ways};

use flight::{Aloft, Land, Place};
use share::Share;

/// What identifies a fetch: all that reaches the vendor.
pub type Name = (PageKey, Forwarded);

/// The accounts, with the fetches under way.
pub type Accounts = Allowances<Name, Flight>;
pub(super) type Desk = Arc<allowance::Desk<Name, Flight>>;

/// The innermost part of the cache: makes fetches, and keeps what they bring.
#[derive(Debug)]
pub struct Fetches<S>(Arc<Source<S>>);

/// What it takes to fetch.
#[derive(Debug)]
pub struct Source<S> {
    /// Where to, and what is kept.
    pub ways: Ways<S>,
    /// What is in memory, and what the others have.
    pub lookups: Arc<Lookups>,
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
        let desk = self.0.lookups.accounts.desk(name.0.list.account());
        let mut book = desk.book();
        let known = wanted.known.as_ref();
        let mut flight = book.flight(&name);
        flight = flight.filter(|flight| flight.ticket.is_good() && !flight.lands_with(known));
        if let Some(flight) = flight {
            flight.join(wanted.no_store);
            return flight.clone().land(true).boxed();
        }
        // Since the caller's look-up a fetch may have landed. One that is landing is still in the book.
        let store = &self.0.lookups.store;
        let seen = store.puts();
        let found = match seen == wanted.seen {
            true => None,
            false => store.entry(&name.0, &name.1),
        };
        if let Some(found) =
            found.filter(|found| !known.is_some_and(|known| Arc::ptr_eq(known, found)))
        {
            let fetched = Fetched {
                page: found.into(),
                stored: true,
                collapsed: true,
            };
            return ready(Ok(fetched)).boxed();
        }
        let now = self.0.lookups.clock.now();
        // The one who begins a fetch pays for it, and before the book knows: who is turned away has it made later. Who joins
        // does not, and a refresh is for all.
        if !book.is_asked(&name)
            && let Err(spent) = wanted.caller.take_fetch(now)
        {
            return ready(Err(spent)).boxed();
        }
        let (asker, version) = (wanted.asker(), wanted.version());
        let launch = self.launch(&desk, seen, move || Some(wanted));
        let asked = book.ask(&name, asker, launch, now);
        book.knows(&name, None, version);
        drop(book);
        desk.pump();
        match asked {
            Ok((id, told)) => {
                let place = Place {
                    desk,
                    name,
                    id,
                    told,
                    span: traces::child(|| info_span!("wait for the allowance")),
                };
                place.wait().boxed()
            }
            Err(refused) => ready(Err(refused)).boxed(),
        }
    }
}

impl<S> Fetches<S>
where
    S: Service<Fetch, Response = Page, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    pub(super) fn lookups(&self) -> &Arc<Lookups> {
        &self.0.lookups
    }

    /// A page that another replica has fetched, newer than the one in memory.
    pub async fn look(&self, read: &Read, known: Option<&Arc<Entry>>) -> Option<Arc<Entry>> {
        if self.0.lookups.fleet.is_alone() {
            return None;
        }
        let name = (read.key.clone(), read.forwarded.clone());
        let way = self.0.ways.now()?;
        self.0.lookups.look(&name, known, &way.rules).await
    }

    /// Has a page refreshed that was served although it is no longer fresh, when its turn comes; at once, if another replica
    /// has done it already.
    pub fn refresh(&self, read: &Read, entry: &Arc<Entry>) {
        // Before the look, or what lands between the two would be missed.
        self.want(read, entry);
        if self.0.lookups.fleet.is_alone() {
            return;
        }
        let (this, read, entry) = (self.clone(), read.clone(), entry.clone());
        self.0.tasks.spawn(Box::pin(async move {
            if this.look(&read, Some(&entry)).await.is_some() {
                let desk = this.0.lookups.accounts.desk(read.key.list.account());
                desk.book().wants_no_more(&entry.debt);
            }
        }));
    }

    fn want(&self, read: &Read, entry: &Arc<Entry>) {
        let desk = self.0.lookups.accounts.desk(read.key.list.account());
        let known: Weak<Entry> = Arc::downgrade(entry);
        let read = read.clone();
        let name = (read.key.clone(), read.forwarded.clone());
        let called = desk.called(&name);
        // By then the page may be gone, and with it the wish.
        let launch = self.launch(&desk, 0, move || {
            let entry = known.upgrade()?;
            Some(Wanted::of(&read, Reason::Refresh, Some(entry), 0))
        });
        let mut book = desk.book();
        book.want(&name, entry, launch);
        book.knows(&name, Some(&entry.debt), entry.version());
        book.is_called(&entry.debt, called);
        drop(book);
        desk.pump();
    }

    /// What begins a fetch once a call may go. `seen`: what there were of [`Store::puts`](super::store::Store::puts) when it was
    /// last looked for what is wanted; 0: longer ago.
    fn launch(
        &self,
        desk: &Desk,
        seen: u64,
        wanted: impl FnOnce() -> Option<Wanted> + Send + 'static,
    ) -> Launch<Flight> {
        let (this, desk) = (self.clone(), desk.clone());
        // Where whoever asks is in its trace. When the fetch begins, somebody else may be under way here.
        let cause = traces::current();
        Box::new(move |go, id, wishes| {
            let (wanted, way) = (wanted()?, this.0.ways.now()?);
            let landing = Arc::default();
            let land = Land(Arc::clone(&landing));
            let refresh = wanted.reason == Reason::Refresh;
            let span = this.0.traces.fetch(cause.as_ref(), refresh);
            // Before the look at what came, or a page that was forgotten since could land.
            let ticket = Arc::new(this.0.lookups.store.ticket(&wanted.key.list));
            let came = match this.0.lookups.store.puts() == seen {
                true => None,
                false => this.came(&way, &wanted, wishes),
            };
            let flight = Flight {
                ticket,
                landing,
                trail: span.trail().cloned(),
                // A fetch for which nobody waits is the gateway's own: the call would be made for nothing.
                no_store: Arc::new(wishes.no_store.into()),
                came: came.clone(),
            };
            let tasks = this.0.tasks.clone();
            let flying = this.fly(way, wanted, desk, (go, id, came), flight.clone(), land);
            let flying = span.around(flying);
            // In memory of its own. As a part of the task, which has to lie at a multiple of 128, it would leave holes that an
            // allocator does not use again: measured with glibc's as 650 bytes for each page that is kept.
            tasks.spawn(Box::pin(flying));
            Some(flight)
        })
    }

    /// A page that came into memory since a fetch was asked for, and makes it needless: it does for all who wait.
    fn came(&self, way: &Way<S>, wanted: &Wanted, wishes: Wishes) -> Option<Arc<Entry>> {
        let lookups = &self.0.lookups;
        let found = lookups.store.entry(&wanted.key, &wanted.forwarded)?;
        let known = wanted.known.as_ref();
        let is_news = !wishes.another && !known.is_some_and(|known| Arc::ptr_eq(known, &found));
        let usable = found.terms.limits(&way.rules.settings).usable;
        let is_of_use = found.page.age(lookups.clock.now()) < usable;
        (is_news && is_of_use).then_some(found)
    }

    /// Whether there is a page in memory that goes before a failure.
    fn has_better(&self, (key, sent): &Name, rules: &Rules) -> bool {
        let lookups = &self.0.lookups;
        let is_better = |page: Arc<Entry>| {
            let usable = page.terms.limits(&rules.settings).if_error;
            !page.page.status.is_server_error() && page.page.age(lookups.clock.now()) < usable
        };
        lookups.store.entry(key, sent).is_some_and(is_better)
    }

    async fn fly(
        self,
        way: Arc<Way<S>>,
        wanted: Wanted,
        desk: Desk,
        (go, id, came): (Go, u64, Option<Arc<Entry>>),
        flight: Flight,
        land: Land,
    ) {
        let name = wanted.name();
        let (key, sent) = &name;
        // Ends the flight when this is dropped, after the page is stored: whoever finds no flight finds the page.
        let mut aloft = Aloft {
            desk: &desk,
            name: &name,
            id,
            known: wanted.known.as_deref(),
            fetched: false,
        };
        let own = match (go, &came) {
            (Go::Call(call, grant), _) => Ok((call, grant)),
            // Nothing was granted, so nothing is given back.
            (Go::Elsewhere(_), Some(found)) => Err(Ok(landed(found.clone()))),
            // What has to do with other replicas is boxed: it is far larger than the rest of a fetch, all of which is moved
            // several times before it begins.
            (go, None) => Box::pin(self.own_call(&way.rules, &wanted, &desk, go)).await,
        };
        let (call, grant) = match own {
            Ok(call) => call,
            // It was for another replica to make.
            Err(landing) => {
                aloft.fetched = landing.is_ok();
                drop(aloft);
                land.tell(landing);
                return;
            }
        };
        let fleet = &self.0.lookups.fleet;
        let (mut start, alone) = match &grant {
            Some(grant) => (grant.start, false),
            None => (fleet.start(self.0.lookups.clock.now()), true),
        };
        let permit = Arc::new(Permit::new(&desk, call, grant));
        if let Some(found) = came {
            // The call is given back, and whoever waits elsewhere may make it.
            drop(permit);
            aloft.fetched = true;
            drop(aloft);
            land.tell(Ok(landed(found)));
            self.share(name, wanted.authorized, Share::Nothing(UNKEPT), start)
                .await;
            return;
        }
        let fetch = Fetch {
            key: key.clone(),
            forwarded: sent.clone(),
            reason: wanted.reason,
            known: wanted.known.clone().map(SharedPage::from),
            by: By::default(),
            spare: false,
            redial: false,
            permit,
        };
        let reason = fetch.reason();
        let mut share = Share::Nothing(UNKEPT);
        let answer = way.upstream.clone().oneshot(fetch).await;
        // Not before: only then is it known whether somebody joined who is followed.
        traces::note("contacts_gateway.reason", || reason);
        let landing = answer.map(|page| {
            if alone {
                start = fleet.no_later(start, page.received_at);
            }
            let debt = desk.open_debt();
            let authorized = wanted.authorized;
            let kept = Entry::of(&page, sent, authorized, &way.rules, debt);
            let no_store = flight.no_store.load(Relaxed);
            let spoils = page.status.is_server_error() && self.has_better(&name, &way.rules);
            let stored = match kept.filter(|_| !no_store && !spoils) {
                Some(kept) => {
                    let kept = Arc::new(kept.of_version(start.version));
                    let kept_for = kept.terms.limits(&way.rules.settings).kept;
                    share = Share::Page(kept.clone().into(), kept_for);
                    flight.ticket.store(key, kept, sent, wanted.known.as_ref())
                }
                // Neither a failure nor a caller's wish says anything about the page that is in memory.
                None if page.status.is_server_error() || no_store => false,
                None => {
                    share = Share::Gone;
                    flight.ticket.discard(key);
                    false
                }
            };
            Landed {
                page: page.into(),
                stored,
                elsewhere: false,
            }
        });
        if let Err(failure) = &landing {
            traces::fail(failure.name());
            share = Share::Nothing(failure.name());
        }
        aloft.fetched = landing.is_ok();
        let authorized = wanted.authorized;
        let refused = matches!(landing, Err(Error::UpstreamRefused { .. }));
        drop(aloft);
        if refused && wanted.known.is_none() && wanted.reason == Reason::Miss {
            self.once_more(&desk, wanted);
        }
        land.tell(landing);
        self.share(name, authorized, share, start).await;
    }

    /// The vendor refused it. It is tried once more when the account's pause is over, whether somebody waits or not.
    fn once_more(&self, desk: &Desk, wanted: Wanted) {
        let (name, asker) = (wanted.name(), wanted.asker());
        let wanted = Wanted {
            reason: Reason::Refresh,
            ..wanted
        };
        let launch = self.launch(desk, 0, move || Some(wanted));
        desk.book().stays_wanted(&name, &asker, launch);
        desk.pump();
    }
}

#[cfg(test)]
mod tests;
