//! What replicas share, so that many of them act as one gateway. Nothing else knows Redis.
//!
//! With `shared.url` set, replicas meet in a Redis or Valkey. Without it a [`Fleet`] is one process alone, asks nobody and
//! costs nothing. Whatever is asked of it may be answered with [`Away`]: then the replica goes on alone, at once.
//!
//! - What must be agreed on is decided by scripts (`fleet/scripts`), each atomic, by the store's clock; of an account all is
//!   in one slot of a cluster.
//! - Who begins to fetch gets a number that only rises, a fence. A page with a lower one never takes the place of one with a
//!   higher one, wherever the store was meanwhile: numbers are times where they can be.
//! - What is told may be missed: who waits looks again when the other's time is up, and what was forgotten is asked for with
//!   every beat. A connection that broke is thrown away, and with it the belief that everything was heard.
//! - Pages that the store was not there to take, it gets when it is back, each with the fence that its fetch had.
//! - Calls are told once each, by name, so that logs can be joined as often as need be. Those who are not there have their
//!   parts left free, so far as it is known that they are not: one that is cut off while the others are not, makes its part
//!   from the first moment, and they leave it free three beats later. In between the account may be overrun by that part.
//! - What it costs, and where it ends: [`limits`].

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use redis::{Msg, PushInfo, PushKind};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
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
mod script;
mod settings;
mod wire;

pub use account::{Account, Decision, Ended, Grant, Known, Listener, News, Rules, View, Wish};
pub use address::{Address, Kind};
pub use backlog::Holds;
pub use entry::Copy;
pub use landings::{Landing, Landings};
pub use link::Away;
pub use pages::Start;
pub use settings::{Joining, Mistakes, Settings};

use account::Listeners;
use backlog::Backlog;
use forgets::Known as Forgotten;
use keys::Keys;
use link::Link;
use names::Names;
use script::{Reply, Scripts, arguments};
use wire::Dial;

/// The replicas, as one of them sees them. Clones share it.
#[derive(Clone, Default)]
pub struct Fleet(Option<Arc<Member>>);

/// One replica among others.
struct Member {
    shared: Arc<Shared>,
    /// Ends what goes on behind, with the last clone.
    _goes_on: DropGuard,
}

/// What goes on behind has this as well.
struct Shared {
    /// This replica's name among the others.
    replica: String,
    link: Link,
    names: Names,
    keys: Keys,
    scripts: Scripts,
    clock: Clock,
    /// The store's time less ours, in microseconds since an instant of ours.
    offset: AtomicI64,
    began: Instant,
    metrics: Arc<Metrics>,
    seats: Mutex<Seats>,
    /// For how long the calls of a replica that is gone may still count: the allowance's window.
    memory: Duration,
    /// Whether it has connected and caught up.
    live: AtomicBool,
    /// Whether it has said that it leaves.
    left: AtomicBool,
    known: Mutex<Forgotten>,
    forgets: Forgets,
    holds: Holds,
    backlog: Backlog,
    /// Calls of this replica's that were given a name.
    members: AtomicU64,
    listeners: Mutex<Listeners>,
    landings: broadcast::Sender<Landing>,
}

/// Drops from memory the pages of all lists that are meant.
pub type Forgets = Box<dyn Fn(&dyn Fn(&ListKey) -> bool) + Send + Sync>;

/// How many replicas there are.
#[derive(Clone, Copy, Debug)]
struct Seats {
    /// With those that were here of late.
    size: u32,
    /// Without.
    here: u32,
    /// Whether the store ever told.
    heard: bool,
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

/// How often a replica says that it is there, while there are not very many.
const BEAT: Duration = Duration::from_secs(1);
/// Of more replicas than this each says so less often, so that the store hears no more of it than this a second.
const BEATS: u32 = 1_000;
/// So many times the beat unheard of, and a replica counts as away.
const LAPSE: u32 = 3;
/// Between two attempts to connect, at first and at most. Each wait is cut by up to a half, so that replicas do not all come
/// back at once.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
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
    /// cold is to find what the others have, and starts all the same if the store is away. `memory`: for how long a call
    /// counts. `forgets`: what to do when another replica forgets. `holds`: finds what is in memory.
    pub async fn join(
        joining: Joining,
        clock: Clock,
        metrics: Arc<Metrics>,
        memory: Duration,
        forgets: Forgets,
        holds: Holds,
    ) -> Self {
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
        let (began, wall) = clock.both();
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Arc::new(Shared {
            replica: format!("{:012x}", Uuid::new_v4().as_u128() & 0xffff_ffff_ffff),
            link: Link::new(dial, settings.timeout, metrics.clone()),
            names,
            keys,
            scripts: Scripts::new(),
            clock,
            offset: AtomicI64::new(i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)),
            began,
            metrics,
            seats: Mutex::new(Seats {
                size: 1,
                here: 1,
                heard: false,
            }),
            memory,
            live: AtomicBool::new(false),
            left: AtomicBool::new(false),
            known: Mutex::default(),
            forgets,
            holds,
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
                .map_or(1, |shared| shared.seats().here),
        }
    }

    /// Says that this replica leaves, so that the others need not wait for it.
    pub async fn leave(&self) {
        if let Some(member) = &self.0 {
            member.shared.left.store(true, Relaxed);
            let _ = member.shared.beat(0).await;
        }
    }
}

impl Shared {
    /// Connects, says again and again that it is there, and hears the others; for ever.
    async fn stay(self: Arc<Self>, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut wait = WAITS.0;
        let mut told_away = false;
        loop {
            match self.arrive().await {
                Ok(pushes) => {
                    self.live.store(true, Relaxed);
                    info!(
                        shared.replicas = self.seats().here,
                        shared.backlog = self.backlog.len(),
                        "the shared store is there"
                    );
                    self.backlog.stir();
                    (wait, told_away) = (WAITS.0, false);
                    self.metrics.shared_up(true);
                    if let Some(first) = first.take() {
                        let _ = first.send(());
                    }
                    self.hear(pushes).await;
                    self.live.store(false, Relaxed);
                    self.link.close();
                    self.metrics.shared_up(false);
                    warn!("the shared store is away: going on alone");
                }
                Err(why) => {
                    self.metrics.shared_error("connect");
                    if !std::mem::replace(&mut told_away, true) {
                        warn!(why, "the shared store cannot be reached: going on alone");
                    }
                    if let Some(first) = first.take() {
                        let _ = first.send(());
                    }
                }
            }
            tokio::time::sleep(wait.mul_f64(1.0 - self.dice() / 2.0)).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// Connects and says that it is there.
    async fn arrive(&self) -> Result<UnboundedReceiver<PushInfo>, String> {
        let (wire, pushes) = self
            .link
            .connect()
            .await
            .map_err(|error| error.to_string())?;
        self.link.open(wire);
        let seats = self.seats();
        let knew = if seats.heard { seats.size } else { 0 };
        let beat = match self.beat(knew).await {
            // Before anybody is told that the store is there.
            Ok(Some(forgot)) => self.catch_up(forgot).await.map(|()| true),
            Ok(None) => Ok(false),
            Err(Away) => Err(Away),
        };
        match beat {
            Ok(true) => Ok(pushes),
            Ok(false) => {
                self.link.close();
                Err("replicas with another last key in shared.encryption_key_file are there".into())
            }
            Err(Away) => {
                self.link.close();
                Err("it did not answer".into())
            }
        }
    }

    /// Says that it is there from time to time, and hears the others, until the connection is given up.
    async fn hear(&self, mut pushes: UnboundedReceiver<PushInfo>) {
        loop {
            let next = tokio::time::sleep(self.beat_every());
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = self.link.broken() => return,
                    () = &mut next => break,
                    push = pushes.recv() => match push {
                        None => return,
                        Some(push) if push.kind == PushKind::Disconnection => return,
                        Some(push) => match self.told(push) {
                            true => {}
                            false => break,
                        },
                    },
                }
            }
            // One that is late is one that is late: the link counts them.
            match self.beat(0).await {
                Ok(Some(forgot)) if self.catch_up(forgot).await.is_ok() => {}
                Ok(None) => return,
                Ok(Some(_)) | Err(Away) => {}
            }
        }
    }

    /// What the store says by itself. Tells whether nothing was missed.
    fn told(&self, push: PushInfo) -> bool {
        let Some(message) = Msg::from_push_info(push) else {
            return true;
        };
        let said = String::from_utf8_lossy(message.get_payload_bytes());
        let channel = message.get_channel_name();
        if channel == self.channel() {
            return self.heard(&said);
        }
        self.said(channel, &said);
        true
    }

    /// Says that it is there. `knew`: how many replicas there were before it was away. Tells which forgets the store knows;
    /// nothing where the others name things in another way.
    async fn beat(&self, knew: u32) -> Result<Option<(u64, u64)>, Away> {
        let keys = ["seats", "fleet"].map(|what| self.names.ours(what));
        let arguments = arguments![
            self.replica,
            (self.beat_every() * LAPSE).as_millis(),
            self.memory.as_millis(),
            knew,
            self.names.check(),
            u8::from(self.left.load(Relaxed)),
            if self.seats().heard && self.live().is_some() {
                self.micros(self.clock.now()) / 1_000
            } else {
                0
            },
        ];
        let asked = self.clock.now();
        let reply = self
            .link
            .run("beat", &self.scripts.beat, &keys, &arguments)
            .await?;
        let heard = self.clock.now();
        let mut reply = Reply::new(reply);
        if reply.next::<String>().is_none_or(|word| word != "here") {
            return Ok(None);
        }
        if let Some(time) = reply.next::<i64>() {
            let ours =
                (asked + heard.saturating_duration_since(asked) / 2).duration_since(self.began);
            self.offset.store(time - ours.as_micros() as i64, Relaxed);
        }
        if let (Some(size), Some(here)) = (reply.next(), reply.next()) {
            *self.seats.lock().unwrap_or_else(PoisonError::into_inner) = Seats {
                size,
                here,
                heard: true,
            };
        }
        Ok(reply.next().zip(reply.next()))
    }

    fn beat_every(&self) -> Duration {
        BEAT.mul_f64((f64::from(self.seats().size) / f64::from(BEATS)).max(1.0))
    }

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

    fn seats(&self) -> Seats {
        *self.seats.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// From 0 to 1, never the same.
    fn dice(&self) -> f64 {
        let bits = Uuid::new_v4().as_u64_pair().1;
        (bits & 0xffff_ffff) as f64 / f64::from(u32::MAX)
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
