//! Answers a caller: from memory while the policy lets it, else from below, and with an old page rather than a failure.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use tokio_util::task::TaskTracker;
use tower::util::ServiceExt;
use tower::{BoxError, Layer, Service, layer};

use super::policy::{self, Limits, Verdict};
use super::store::Store;
use super::{Answer, Fetched, How, Served, Settings, Wanted};
use crate::clock::Clock;
use crate::contacts::{Ask, Page, Read};
use crate::error::Error;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Fetch, Reason};

/// The rung.
pub fn layer<S>(memory: Memory) -> impl Layer<S, Service = Serve<S>> + Clone {
    layer::layer_fn(move |inner| Serve {
        memory: memory.clone(),
        inner,
    })
}

/// What it takes to answer from memory.
#[derive(Clone, Debug)]
pub struct Memory {
    /// For how long pages are served.
    pub settings: Arc<Settings>,
    /// The pages.
    pub store: Store,
    /// Tells how old they are.
    pub clock: Clock,
    /// Refreshes, which belong to no request.
    pub tasks: TaskTracker,
    /// Counts what answered.
    pub metrics: Arc<Metrics>,
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Serve<S> {
    memory: Memory,
    inner: S,
}

impl<S> Service<Ask> for Serve<S>
where
    S: Service<Wanted, Response = Fetched, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Error;
    /// A hit is ready at once and allocates nothing.
    type Future = Either<Ready<Result<Answer, Error>>, BoxFuture<'static, Result<Answer, Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        let read = match ask {
            Ask::Read(read) => read,
            Ask::Purge(list) => {
                let forgotten = self.memory.store.forget(&list.into());
                return Either::Left(ready(Ok(Answer::Forgotten(forgotten))));
            }
        };
        let now = self.memory.clock.now();
        let Some(old) = self.known(&read, now) else {
            return if read.directives.only_if_cached {
                Either::Left(ready(Err(Error::NotCached)))
            } else {
                Either::Right(self.clone().fetch(read, None, false).boxed())
            };
        };
        match policy::verdict(old.age, &old.limits, &read.directives) {
            Verdict::Serve => {}
            Verdict::ServeAndRefresh => self.refresh(read, &old.page),
            Verdict::Fetch { or_old } => {
                return Either::Right(self.clone().fetch(read, Some(old), or_old).boxed());
            }
            Verdict::Refuse => return Either::Left(ready(Err(Error::NotCached))),
        }
        let result = if old.age < old.limits.fresh {
            "hit"
        } else {
            "stale"
        };
        Either::Left(ready(Ok(self.answer(
            old.page,
            old.age,
            How::Hit {
                ttl: ttl(&old.limits, old.age),
            },
            result,
        ))))
    }
}

/// A page in memory, and how it stands now.
struct Known {
    page: Arc<Page>,
    age: Duration,
    limits: Limits,
}

impl<S> Serve<S>
where
    S: Service<Wanted, Response = Fetched, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    fn known(&self, read: &Read, now: Instant) -> Option<Known> {
        let page = self.memory.store.page(&read.key)?;
        let limits = policy::limits(&page, &self.memory.settings)?;
        let age = page.age(now);
        Some(Known { page, age, limits })
    }

    /// Waits for a fetch. If it fails, an old page will do where the policy says so.
    async fn fetch(self, read: Read, old: Option<Known>, or_old: bool) -> Result<Answer, Error> {
        let wanted = Wanted {
            fetch: fetch(&read, Reason::Miss),
            seen: old.as_ref().map(|old| old.page.clone()),
        };
        let fwd = if old.is_some() { "stale" } else { "uri-miss" };
        let failure = match self.inner.clone().oneshot(wanted).await {
            Ok(fetched) => {
                let age = fetched.page.age(self.memory.clock.now());
                let result = if fetched.collapsed {
                    "collapsed"
                } else {
                    "miss"
                };
                let how = How::Fetched {
                    fwd,
                    stored: fetched.stored,
                    collapsed: fetched.collapsed,
                };
                return Ok(self.answer(fetched.page, age, how, result));
            }
            Err(failure) => Error::from_tower(failure),
        };
        match old.filter(|_| or_old) {
            Some(old) => {
                let age = old.page.age(self.memory.clock.now());
                let how = How::OldAfter(failure.name());
                Ok(self.answer(old.page, age, how, "stale"))
            }
            None => Err(failure),
        }
    }

    /// Fetches behind the callers' backs. A failure is told by the call's own event; the page stays as it is.
    fn refresh(&self, read: Read, page: &Arc<Page>) {
        let wanted = Wanted {
            fetch: fetch(&read, Reason::Refresh),
            seen: Some(page.clone()),
        };
        self.memory.tasks.spawn(self.inner.clone().oneshot(wanted));
    }

    fn answer(&self, page: Arc<Page>, age: Duration, how: How, result: &'static str) -> Answer {
        self.memory.metrics.read(result, age);
        Answer::Page(Served { page, age, how })
    }
}

fn fetch(read: &Read, reason: Reason) -> Fetch {
    Fetch {
        key: read.key.clone(),
        forwarded: read.forwarded.clone(),
        reason,
        redial: false,
    }
}

/// How long the page stays fresh, in seconds; less than nothing once it is not.
fn ttl(limits: &Limits, age: Duration) -> i64 {
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    seconds(limits.fresh) - seconds(age)
}
