//! Answers a caller: from memory while the policy lets it, else from below, and with an old page rather than a failure.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;
use tower::util::ServiceExt;
use tower::{BoxError, Layer, Service, layer};

use super::coalesce::Fetches;
use super::policy::{self, Limits, Rules, Verdict};
use super::store::{Entry, Found, Store};
use super::{Answer, Fetched, How, Served, Wanted};
use crate::clock::Clock;
use crate::contacts::{Ask, Forget, Page, Read, SharedPage};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::soon::Soon;
use crate::telemetry::metrics::{Metrics, ReadBy};
use crate::telemetry::traces;
use crate::upstream::{Fetch, Reason};

/// The rung. `fetches` are asked for refreshes; callers who wait go through what is below.
pub fn layer<S, U>(
    memory: Memory,
    fetches: Fetches<U>,
) -> impl Layer<S, Service = Serve<S, U>> + Clone {
    let memory = Arc::new(memory);
    layer::layer_fn(move |inner| Serve {
        memory: memory.clone(),
        fetches: fetches.clone(),
        inner,
    })
}

/// What it takes to answer from memory.
#[derive(Debug)]
pub struct Memory {
    /// For how long they do.
    pub rules: Arc<Rules>,
    /// The pages.
    pub store: Store,
    /// The other replicas, which forget what is forgotten here.
    pub fleet: Fleet,
    /// Tells how old they are.
    pub clock: Clock,
    /// Counts what answered.
    pub metrics: Arc<Metrics>,
}

impl Memory {
    /// Forgets here and everywhere. Tells how many pages there were: most of those here are in the shared store too.
    pub async fn forget(&self, what: &Forget) -> u64 {
        let here = self.store.forget(what);
        here.max(self.fleet.forget(what).await)
    }
}

/// See [`layer()`].
#[derive(Debug)]
pub struct Serve<S, U> {
    memory: Arc<Memory>,
    fetches: Fetches<U>,
    inner: S,
}

impl<S: Clone, U> Clone for Serve<S, U> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            fetches: self.fetches.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S, U> Service<Ask> for Serve<S, U>
where
    U: Service<Fetch, Response = Page, Error = Error> + Clone + Send + Sync + 'static,
    U::Future: Send,
    S: Service<Wanted, Response = Fetched, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Error;
    /// A hit is ready at once and allocates nothing.
    type Future = Soon<Result<Answer, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        let read = match ask {
            Ask::Read(read) => read,
            Ask::Purge(list) => {
                let (memory, what) = (self.memory.clone(), list.into());
                let forget = async move { Ok(Answer::Forgotten(memory.forget(&what).await)) };
                return Soon::Later(Box::pin(forget));
            }
        };
        let seen = self.memory.store.puts();
        let entry = match self.memory.store.find(&read.key, &read.forwarded, read.at) {
            Found::Page(entry) => entry,
            none => return Soon::Later(Box::pin(self.clone().fetch(read, none, seen))),
        };
        let age = entry.page.age(read.at);
        let limits = self.limits(&entry);
        let answer = match policy::verdict(age, &limits, &read.directives) {
            Verdict::Serve => Ok(self.hit(&read, entry, &limits, age)),
            Verdict::ServeAndRefresh => Ok(self.hit_and_refresh(&read, entry, &limits, age)),
            Verdict::Fetch => {
                let there = Found::Page(entry);
                return Soon::Later(Box::pin(self.clone().fetch(read, there, seen)));
            }
            Verdict::Refuse => Err(Error::NotCached),
        };
        Soon::Now(answer)
    }
}

impl<S, U> Serve<S, U>
where
    U: Service<Fetch, Response = Page, Error = Error> + Clone + Send + Sync + 'static,
    U::Future: Send,
    S: Service<Wanted, Response = Fetched, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    /// At which age a page is what: by the settings of the request, whenever the page was stored.
    fn limits(&self, entry: &Entry) -> Limits {
        entry.terms.limits(&self.memory.rules.settings)
    }

    fn is_fresh(&self, entry: &Entry, now: Instant) -> bool {
        entry.page.age(now) < self.limits(entry).fresh
    }

    fn hit(&self, read: &Read, entry: Arc<Entry>, limits: &Limits, age: Duration) -> Answer {
        // As far as a refresh can mend it. Pages that come old from the vendor, out of a cache of its own, would go first
        // for ever otherwise.
        let here = age.saturating_sub(entry.page.initial_age.into());
        entry.debt.add(here, read.caller.share.get());
        let fresh = age < limits.fresh;
        let how = How::Hit {
            ttl: ttl(limits, age),
        };
        let by = if fresh { ReadBy::Hit } else { ReadBy::Stale };
        self.answer(entry.into(), age, how, by)
    }

    fn hit_and_refresh(
        &self,
        read: &Read,
        entry: Arc<Entry>,
        limits: &Limits,
        age: Duration,
    ) -> Answer {
        if entry.debt.want() {
            self.fetches.refresh(&lasting(read), &entry);
        }
        self.hit(read, entry, limits, age)
    }

    /// Looks for what other replicas have, and waits for a fetch where that will not do. If it fails, a page that is there by
    /// then will do, or the old one, for as long as the policy says.
    async fn fetch(self, read: Read, mut there: Found, seen: u64) -> Result<Answer, Error> {
        if let Some(found) = self.fetches.look(&read, there.as_page()).await {
            let age = found.page.age(self.memory.clock.now());
            let limits = self.limits(&found);
            match policy::verdict(age, &limits, &read.directives) {
                Verdict::Serve => return Ok(self.hit(&read, found, &limits, age)),
                Verdict::ServeAndRefresh => {
                    return Ok(self.hit_and_refresh(&read, found, &limits, age));
                }
                Verdict::Fetch | Verdict::Refuse => there = Found::Page(found),
            }
        }
        if read.directives.only_if_cached {
            return Err(Error::NotCached);
        }
        // The second: whether it is the caller's wish alone that costs a call.
        let (fwd, insisted) = match &there {
            Found::Others => ("vary-miss", false),
            Found::Nothing => ("uri-miss", false),
            Found::Page(old) => {
                let (age, limits) = (old.page.age(self.memory.clock.now()), self.limits(old));
                // RFC 9211 section 2.2: a page that is no longer fresh is reason enough by itself.
                let fwd = match age < limits.fresh {
                    true => "request",
                    false => "stale",
                };
                let sparing = read.directives.sparing();
                let insisted = policy::verdict(age, &limits, &sparing) != Verdict::Fetch;
                (fwd, insisted)
            }
        };
        let old = there.page();
        let wanted = Wanted::of(&lasting(&read), Reason::Miss, old.clone(), seen);
        let fetched = self.inner.clone().oneshot(wanted).await;
        let mut fetched = fetched.map_err(Error::from_tower);
        let now = self.memory.clock.now();
        let failure = match &fetched {
            // Only of an upstream that is not known does this come as a page.
            Ok(fetched) if fetched.page.status.is_server_error() => "upstream-failed",
            Ok(_) => "",
            Err(failure) => failure.name(),
        };
        if !failure.is_empty() {
            // Meanwhile another fetch may have brought a page that is for this caller too.
            let there = self.memory.store.entry(&read.key, &read.forwarded);
            let came =
                there.filter(|there| !old.as_ref().is_some_and(|old| Arc::ptr_eq(old, there)));
            if let Some(came) = came.clone().filter(|came| self.is_fresh(came, now)) {
                // Nothing about it is stale: to the caller it is as if that fetch had been waited for.
                fetched = Ok(Fetched {
                    page: came.into(),
                    stored: true,
                    collapsed: true,
                });
            } else {
                let mut those = [came, old].into_iter().flatten();
                let will_do = those.find_map(|page| {
                    let age = page.page.age(now);
                    (age < self.limits(&page).if_error).then_some((page, age))
                });
                if let Some((page, age)) = will_do {
                    traces::note("contacts_gateway.stale_after", || failure);
                    let how = How::OldAfter(failure);
                    return Ok(self.answer(page.into(), age, how, ReadBy::Stale));
                }
            }
        }
        let Fetched {
            page,
            stored,
            collapsed,
        } = fetched?;
        let (status, by) = match (page.revalidated, collapsed) {
            (true, false) if insisted => (StatusCode::NOT_MODIFIED, ReadBy::Bypass),
            (true, false) => (StatusCode::NOT_MODIFIED, ReadBy::Revalidated),
            (true, true) => (StatusCode::NOT_MODIFIED, ReadBy::Collapsed),
            (false, true) => (page.status, ReadBy::Collapsed),
            (false, false) if insisted => (page.status, ReadBy::Bypass),
            (false, false) => (page.status, ReadBy::Miss),
        };
        let how = How::Fetched {
            fwd,
            status,
            stored,
            collapsed,
        };
        let age = page.age(now);
        Ok(self.answer(page, age, how, by))
    }

    fn answer(&self, page: SharedPage, age: Duration, how: How, by: ReadBy) -> Answer {
        self.memory.metrics.read(by, age);
        traces::note("cache.result", || by.name());
        traces::note("contacts_gateway.served_age", || age.as_secs_f64());
        Answer::Page(Served { page, age, how })
    }
}

/// What is wanted may be wanted for longer than the request is there.
fn lasting(read: &Read) -> Read {
    Read {
        forwarded: read.forwarded.kept(),
        ..read.clone()
    }
}

/// How long the page stays fresh, in seconds: what its `Age` leaves of it. Once it is not, less than nothing, from the
/// first moment on.
fn ttl(limits: &Limits, age: Duration) -> i64 {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    let left = seconds(limits.fresh) - seconds(age);
    if age < limits.fresh {
        left
    } else {
        left.min(-1)
    }
}
