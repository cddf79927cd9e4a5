//! What replicas share, so that many of them act as one gateway. Nothing else knows Redis.
//!
//! With `shared.url` set, replicas meet in a Redis or Valkey. Without it a [`Fleet`] is one process alone, asks nobody and
//! costs nothing. Whatever is asked of it may be answered with [`Away`]: then the replica goes on alone, at once with what it has.
//!
//! - What must be agreed on is decided by scripts (`fleet/scripts`), each atomic, by the store's clock; of an account all is
//!   in one slot of a cluster.
//! - Who begins to fetch gets a number that only rises, a fence. A page with a lower one never takes the place of one with a
//!   higher one, wherever the store was meanwhile: numbers are times where they can be.
//! - What is told may be missed: who waits looks again when the other's time is up, and what was forgotten is asked for with
//!   every beat. A connection that broke is thrown away, and with it the belief that everything was heard.
//! - Pages that the store was not there to take, it gets when it is back, each with the fence that its fetch had.
//! - Calls are told once each, by name, so that logs can be joined as often as need be. Those who are not there have their
//!   parts left free. One that is cut off begins to make its part when that is sure to be so, and not before: see `seats`.
//! - What it costs, and where it ends: [`limits`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::Clock;
use crate::contacts::ListKey;
use crate::telemetry::metrics::Metrics;

mod account;
mod address;
mod backlog;
mod entry;
mod forgets;
mod keys;
mod landings;
pub mod limits;
mod link;
mod names;
mod pages;
mod place;
mod script;
mod seats;
mod settings;
mod stay;
#[cfg(test)]
pub(crate) mod test_store;
mod wire;

pub use account::{
    Account, Decision, Ended, Grant, Known, Listener, News, Rules, View, Wish, is_guessed,
};
pub use address::{Address, Kind};
pub use backlog::Holds;
pub use entry::Copy;
pub use landings::{Landing, Landings};
pub use link::Away;
pub use pages::{Start, UNKEPT};
pub use seats::{Part, gap_of};
pub use settings::{Joining, Mistakes, Settings};

use account::Listeners;
use backlog::Backlog;
use forgets::Known as Forgotten;
use keys::Keys;
use link::Link;
use names::Names;
use script::Scripts;
use seats::Seats;
use wire::Dial;

/// The replicas, as one of them sees them. Clones share it.
#[derive(Clone, Default)]
pub struct Fleet(Option<Arc<Member>>);

/// One replica among others.
struct Member {
    shared: Arc<Shared>,
    /// Tells the others of forgets, whoever waits for it.
    telling: TaskTracker,
    /// Ends what goes on behind, with the last clone.
    _goes_on: DropGuard,
}

/// What goes on behind has this as well.
struct Shared {
    /// This process's name among the others.
    replica: String,
    /// What its seat is called.
    seat: String,
    link: Link,
    names: Names,
    keys: Keys,
    scripts: Scripts,
    clock: Clock,
    /// The store's time less ours, in microseconds since an instant of ours.
    offset: AtomicI64,
    /// The same at least, over the connection that there is.
    least: AtomicI64,
    began: Instant,
    metrics: Arc<Metrics>,
    seats: Mutex<Seats>,
    /// For how long the calls of a replica that is gone may still count: the allowance's window.
    memory: Duration,
    /// Whether it has connected and caught up.
    live: AtomicBool,
    known: Mutex<Forgotten>,
    forgets: Forgets,
    holds: Holds,
    sets_right: SetsRight,
    backlog: Backlog,
    /// Calls of this replica's that were given a name.
    members: AtomicU64,
    listeners: Mutex<Listeners>,
    landings: broadcast::Sender<Landing>,
}

/// Drops from memory the pages of all lists that are meant.
pub type Forgets = Box<dyn Fn(&dyn Fn(&ListKey) -> bool) + Send + Sync>;

/// Changes the versions of all pages in memory by so many microseconds: before the store's time was known they were of this
/// process's clock.
pub type SetsRight = Box<dyn Fn(i64) + Send + Sync>;

/// What a replica brings along.
pub struct Replica {
    /// An address that no other process has before this one has left; nothing: there is none.
    pub address: Option<SocketAddr>,
    /// For how long a call counts: the allowance's window.
    pub memory: Duration,
    /// Tells the time.
    pub clock: Clock,
    /// Counts what is asked of the store.
    pub metrics: Arc<Metrics>,
    /// What to do when another replica forgets.
    pub forgets: Forgets,
    /// Finds what is in memory.
    pub holds: Holds,
    /// What to do once the store's time is known.
    pub sets_right: SetsRight,
}

/// How the replicas stand, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether there is a `shared.url`.
    pub configured: bool,
    /// Whether the store can be asked.
    pub up: bool,
    /// Replicas that are there, this one included.
    pub replicas: u32,
}

/// Words of pages that wait to be heard here.
const WORDS: usize = 1_024;
/// A connection is made of a few questions and answers.
const QUESTIONS: u32 = 5;

impl Fleet {
    /// One process alone.
    pub fn alone() -> Self {
        Self(None)
    }

    /// Joins the others, if there is a place to meet. Waits for the first attempt to connect and no longer: whoever starts
    /// cold is to find what the others have, and starts all the same if the store is away.
    pub async fn join(joining: Joining, replica: Replica) -> Self {
        let Replica {
            address: called_at,
            memory,
            clock,
            metrics,
            forgets,
            holds,
            sets_right,
        } = replica;
        let Joining {
            settings,
            keys,
            password,
            roots,
        } = joining;
        let Some(address) = settings.url.clone() else {
            return Self::alone();
        };
        let names = Names::new(&settings.prefix, keys.for_names());
        let dial = Dial {
            address,
            username: settings.username,
            password,
            roots,
            limit: settings.timeout * QUESTIONS,
        };
        let (began, wall) = (clock.now(), clock.wall());
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Arc::new(Shared {
            replica: format!("{:012x}", Uuid::new_v4().as_u128() & 0xffff_ffff_ffff),
            seat: names.seat(&place::of(called_at)),
            link: Link::new(dial, settings.timeout, metrics.clone()),
            names,
            keys,
            scripts: Scripts::new(),
            clock,
            offset: AtomicI64::new(i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)),
            least: AtomicI64::new(0),
            began,
            metrics,
            seats: Mutex::default(),
            memory,
            live: AtomicBool::new(false),
            known: Mutex::default(),
            forgets,
            holds,
            sets_right,
            backlog: Backlog::default(),
            members: AtomicU64::new(0),
            listeners: Mutex::default(),
            landings: broadcast::channel(WORDS).0,
        });
        // It is not connected yet, and listens from the start.
        let _ = shared.link.listen(shared.channel()).await;
        let (tried, first) = oneshot::channel();
        let ended = CancellationToken::new();
        let (staying, behind) = (shared.clone().stay(tried), shared.clone().catch_up_pages());
        TaskTracker::new().spawn(ended.clone().run_until_cancelled_owned(staying));
        TaskTracker::new().spawn(ended.clone().run_until_cancelled_owned(behind));
        let _ = first.await;
        Self(Some(Arc::new(Member {
            shared,
            telling: TaskTracker::new(),
            _goes_on: ended.drop_guard(),
        })))
    }

    /// Whether there is nobody to share with, whatever happens.
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let shared = self.0.as_deref().map(|member| &member.shared);
        let up = shared.is_some_and(|shared| shared.live().is_some());
        Standing {
            configured: shared.is_some(),
            up,
            replicas: shared
                .filter(|_| up)
                .map_or(1, |shared| shared.seats().here().max(1)),
        }
    }

    /// Says that this replica leaves, so that the others need not wait for it. Alone it makes no call afterwards. What was
    /// forgotten here is told before, or not at all: a few of the store's answers are waited for.
    pub async fn leave(&self) {
        if let Some(member) = &self.0 {
            member.telling.close();
            member.telling.wait().await;
            member.shared.seats().leaves();
            let _ = member.shared.beat(0).await;
        }
    }
}

impl Shared {
    /// Something, once it has connected and caught up.
    fn live(&self) -> Option<()> {
        (self.live.load(Relaxed) && self.link.number().is_some()).then_some(())
    }

    fn known(&self) -> MutexGuard<'_, Forgotten> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's time then, in microseconds since 1970; before it was ever heard, ours.
    fn micros(&self, then: Instant) -> u64 {
        let since = then.saturating_duration_since(self.began);
        let micros = self
            .offset
            .load(Relaxed)
            .saturating_add(since.as_micros() as i64);
        micros.max(0).cast_unsigned()
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fleet")
            .field(&self.0.as_deref().map(|member| &member.shared))
            .finish()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            replica,
            link,
            keys,
            ..
        } = self;
        let mut shown = f.debug_struct("Shared");
        shown
            .field("replica", replica)
            .field("link", link)
            .field("keys", keys);
        shown.finish_non_exhaustive()
    }
}
