//! The account's allowance: every call to the vendor passes here, whoever caused it, and waits for its turn.
//!
//! That holds by type: a [`Fetch`](super::Fetch) has a [`Permit`], and only this module makes one. The decisions are
//! pure and stand in [`limit`], [`book`], [`ledger`] and `turns`; what is left here is a lock, a clock and a task that
//! wakes when the next call may go.
//!
//! Where replicas share an account, the book says which call this replica would make next, and the others have their say
//! before it goes: see `together`. While they cannot be asked, each makes its part, once that is left free: see `mirror`.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::contacts::AccountId;
use crate::fleet::{Away, Grant};
use crate::setting;

pub mod book;
pub mod ledger;
pub mod limit;
mod mirror;
#[cfg(test)]
mod study;
#[cfg(test)]
mod tests;
mod together;
mod turns;

pub use book::{Asker, Book, Go, Launch, Wishes};
pub use ledger::Debt;
pub use limit::{Call, Kind, Outcome};
pub use together::Sharing;

use together::Together;

/// `[allowance]`: how many calls the vendor allows an account.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// At most this many calls in any stretch as long as `window`.
    #[schemars(range(max = Self::MOST_CALLS))]
    pub calls: NonZeroU32,
    /// The vendor's minute, and a second for jitter.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub window: Duration,
    /// Of the calls, those kept back for callers who wait for a page that is not cached: fewer than `calls`.
    pub reserve: u32,
    /// How long such a caller waits for its turn before it is told when to come back.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub queue_deadline: Duration,
    /// How long an account rests after a refusal by the vendor.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub pause: Duration,
    /// Learning from refusals never goes below this many calls: at most `calls`, as it is where it is not written.
    pub floor: NonZeroU32,
    /// A second limit, of calls in an hour, where the vendor has one: at least `calls`. 0: none.
    pub hourly: u32,
    /// Replicas to share with while the shared store is away and was never reached.
    pub fleet_size: NonZeroU32,
}

impl Settings {
    /// No window may have more `calls`: each that may still count takes some bytes, from an account's first request on.
    pub const MOST_CALLS: u32 = 1_000_000;
}

/// The accounts. Clones share them. `K` names a page, `L` is what whoever waits gets of a flight.
pub struct Allowances<K, L>(Arc<Inner<K, L>>);

struct Inner<K, L> {
    clock: Clock,
    tasks: TaskTracker,
    sharing: Option<Sharing<K>>,
    desks: Mutex<Desks<K, L>>,
}

struct Desks<K, L> {
    settings: Settings,
    penalty: Duration,
    lease: Duration,
    open: HashMap<AccountId, Arc<Desk<K, L>>>,
    tidied_at: Instant,
}

/// One account's calls, and who waits for them.
pub struct Desk<K, L> {
    book: Mutex<Book<K, L>>,
    clock: Clock,
    tasks: TaskTracker,
    changed: Notify,
    together: Option<Together<K>>,
}

/// How an account stands, for operators.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Calls in a window, as learnt.
    pub limit: usize,
    /// Calls in the window now.
    pub calls_in_window: usize,
    /// Until a call may go for a caller who waits.
    pub next_call_in: Duration,
    /// Until a pause ends; nothing where there is none.
    pub paused_for: Duration,
    /// Callers who wait.
    pub waiting: usize,
    /// Pages that are wanted fresh.
    pub wanted: usize,
    /// Calls that the vendor refused.
    pub refusals: u64,
    /// What explains the rest, for a person.
    pub why: String,
}

impl<K, L> Allowances<K, L>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    L: Clone + Send + 'static,
{
    /// No account is known yet, and there are no other replicas. `penalty`: what a caller who is turned away adds to a key's
    /// debt.
    pub fn new(settings: Settings, penalty: Duration, clock: Clock, tasks: TaskTracker) -> Self {
        Self::among(settings, penalty, clock, tasks, None)
    }

    /// The same among other replicas.
    pub fn among(
        settings: Settings,
        penalty: Duration,
        clock: Clock,
        tasks: TaskTracker,
        sharing: Option<Sharing<K>>,
    ) -> Self {
        let desks = Desks {
            settings,
            penalty,
            lease: sharing
                .as_ref()
                .map_or(Duration::ZERO, |sharing| sharing.lease),
            open: HashMap::default(),
            tidied_at: clock.now(),
        };
        Self(Arc::new(Inner {
            clock,
            tasks,
            sharing,
            desks: Mutex::new(desks),
        }))
    }

    /// From now on goes by these settings. What was spent stays spent, what was learnt stays learnt as far as it can, and
    /// who waits goes on waiting. `lease`: no call takes longer.
    pub fn go_by(&self, settings: &Settings, penalty: Duration, lease: Duration) {
        let inner = &*self.0;
        let open: Vec<_> = {
            let mut desks = locked(&inner.desks);
            (desks.settings, desks.penalty) = (settings.clone(), penalty);
            desks.lease = lease;
            desks.open.values().cloned().collect()
        };
        for desk in open {
            desk.book().go_by(settings, penalty, inner.clock.now());
            if let Some(together) = &desk.together {
                together.go_by(settings, lease);
            }
            // There may be more calls now than before.
            desk.pump();
        }
    }

    /// An account's desk.
    pub fn desk(&self, account: &str) -> Arc<Desk<K, L>> {
        let inner = &*self.0;
        let now = inner.clock.now();
        let mut desks = locked(&inner.desks);
        let desks = &mut *desks;
        if now.duration_since(desks.tidied_at) > desks.settings.window {
            desks.tidied_at = now;
            desks
                .open
                .retain(|_, desk| Arc::strong_count(desk) > 1 || !desk.book().is_forgettable(now));
        }
        let (settings, penalty, lease) = (&desks.settings, desks.penalty, desks.lease);
        let open = || {
            let together = inner.sharing.as_ref();
            Arc::new(Desk {
                together: together.and_then(|sharing| sharing.together(account, settings, lease)),
                book: Mutex::new(Book::new(settings, penalty, now)),
                clock: inner.clock.clone(),
                tasks: inner.tasks.clone(),
                changed: Notify::new(),
            })
        };
        if let Some(desk) = desks.open.get(account) {
            return desk.clone();
        }
        let desk = open();
        desks.open.insert(AccountId::known(account), desk.clone());
        desk
    }

    /// How each account stands.
    pub fn standings(&self) -> Vec<(AccountId, Standing)> {
        // Found first and looked at afterwards, so that nobody who wants a desk waits for all of them.
        let desks: Vec<_> = {
            let desks = locked(&self.0.desks);
            let desk = |(account, desk): (&AccountId, &Arc<_>)| (account.clone(), Arc::clone(desk));
            desks.open.iter().map(desk).collect()
        };
        let now = self.0.clock.now();
        let standing = |(account, desk): (AccountId, Arc<Desk<K, L>>)| {
            let standing = desk.book().standing(now);
            (account, standing)
        };
        desks.into_iter().map(standing).collect()
    }
}

impl<K, L> Desk<K, L>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    L: Clone + Send + 'static,
{
    /// The book, to look up and write in. Whoever wrote in it pumps.
    pub fn book(&self) -> MutexGuard<'_, Book<K, L>> {
        locked(&self.book)
    }

    /// A place for a page's debt.
    pub fn open_debt(&self) -> Debt {
        self.book().open_debt()
    }

    /// For how long the account makes no call.
    pub fn paused_for(&self, now: Instant) -> Duration {
        let pause = self.book().limit.pause();
        pause.map_or(Duration::ZERO, |pause| {
            pause.until.saturating_duration_since(now)
        })
    }

    /// Lets go what may go now, and sees to it that somebody wakes when the next call may.
    pub fn pump(self: &Arc<Self>) {
        let mut book = self.book();
        let now = self.clock.now();
        if !self.is_together() {
            self.pump_alone(&mut book, now);
        }
        if book.wake(now).is_none() {
            return;
        }
        if std::mem::replace(&mut book.driven, true) {
            self.changed.notify_one();
        } else {
            self.tasks.spawn(self.clone().drive());
        }
    }

    async fn drive(self: Arc<Self>) {
        loop {
            let together = self.pump_together().await;
            let wake = {
                let mut book = self.book();
                let now = self.clock.now();
                if !together {
                    self.pump_alone(&mut book, now);
                }
                let Some(wake) = book.wake(now) else {
                    book.driven = false;
                    return;
                };
                // What could have gone by now waits for somebody who is about to write in the book.
                let wake = wake.max(now + Duration::from_millis(1));
                match self.together.is_some() && !together {
                    true => wake.min(now + LOOK_AGAIN),
                    false => wake,
                }
            };
            tokio::select! {
                () = self.clock.sleep_until(wake) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// While other replicas cannot be asked, whether they can is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The right to make one call. It says how the call ended, or gives it back when it is dropped without a word.
pub struct Permit {
    call: Mutex<Option<(Call, Option<Grant>)>>,
    account: Arc<dyn Account>,
}

/// What a permit knows of its desk.
trait Account: Send + Sync {
    fn ended(
        self: Arc<Self>,
        call: Call,
        grant: Option<Grant>,
        how: Option<(Outcome, Option<Instant>)>,
    ) -> Duration;
    fn another(self: Arc<Self>) -> BoxFuture<'static, Option<(Call, Option<Grant>)>>;
}

impl Permit {
    /// For a call that the book let go, and the other replicas where they know of it.
    pub fn new<K, L>(desk: &Arc<Desk<K, L>>, call: Call, grant: Option<Grant>) -> Self
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        L: Clone + Send + 'static,
    {
        Self {
            call: Mutex::new(Some((call, grant))),
            account: desk.clone(),
        }
    }

    /// The call ended. `went`: when it was on its way to the vendor, over a connection that was there, and no later; nothing
    /// where that is not known. Tells for how long the account makes none now.
    pub fn ended(&self, outcome: Outcome, went: Option<Instant>) -> Duration {
        let how = Some((outcome, went));
        match locked(&self.call).take() {
            Some((call, grant)) => self.account.clone().ended(call, grant, how),
            None => Duration::ZERO,
        }
    }

    /// One for another call, if it may go at once.
    pub async fn another(&self) -> Option<Self> {
        let another = self.account.clone().another().await?;
        Some(Self {
            call: Mutex::new(Some(another)),
            account: self.account.clone(),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((call, grant)) = locked(&self.call).take() {
            self.account.clone().ended(call, grant, None);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

impl<K, L> Account for Desk<K, L>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    L: Clone + Send + 'static,
{
    fn ended(
        self: Arc<Self>,
        call: Call,
        grant: Option<Grant>,
        how: Option<(Outcome, Option<Instant>)>,
    ) -> Duration {
        let mut book = self.book();
        let now = self.clock.now();
        // It is not known to have reached the vendor before its end.
        let how = how.map(|(outcome, went)| (outcome, went.unwrap_or(now).min(now)));
        match how {
            Some((outcome, went)) => {
                book.limit.counts_from(call, went);
                book.limit.ended(call, outcome, now);
            }
            None => book.give_back(call),
        }
        let pause = book.limit.pause();
        let paused_for = pause.map_or(Duration::ZERO, |p| p.until.saturating_duration_since(now));
        drop(book);
        if let Some(grant) = grant {
            self.tasks.spawn(self.clone().settle(grant, how));
        }
        self.pump();
        paused_for
    }

    fn another(self: Arc<Self>) -> BoxFuture<'static, Option<(Call, Option<Grant>)>> {
        Box::pin(async move {
            match self.ask_for_another().await {
                Ok(another) => another,
                Err(Away) => Some((self.another_alone()?, None)),
            }
        })
    }
}

impl<K: Clone + Eq + Hash, L: Clone> Book<K, L> {
    fn standing(&self, now: Instant) -> Standing {
        let until =
            |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        Standing {
            limit: self.limit.whole(),
            calls_in_window: self.limit.in_window(now),
            next_call_in: until(self.limit.slot(Kind::Miss, now)),
            paused_for: until(self.limit.pause().map(|pause| pause.until)),
            waiting: self.waiting(),
            wanted: self.wanted(),
            refusals: self.limit.refusals(),
            why: self.limit.why(now),
        }
    }
}

impl<K, L> Clone for Allowances<K, L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, L> fmt::Debug for Allowances<K, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Allowances")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
