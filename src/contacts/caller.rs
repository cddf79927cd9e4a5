//! Who asks, as far as those need to know who answer: a name, a weight, and what may be spent.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tracing::info;

use crate::error::Error;
use crate::gcra::{Quota, Wait};

/// A caller, to the tiers behind the edge.
#[derive(Debug)]
pub struct Caller {
    /// As the settings name it, or "anonymous".
    pub name: Arc<str>,
    /// Its weight when callers compete for the vendor's allowance.
    pub share: NonZeroU32,
    /// Whether its wish for a newer page may cost a call.
    pub may_refresh: bool,
    /// How many of its reads may begin a fetch; nothing: all.
    pub fetches: Option<Allotment>,
}

impl Caller {
    /// To be called before a fetch is asked for because of this caller, whether it goes at once or later.
    ///
    /// # Errors
    /// Its quota is spent: [`Error::QuotaSpent`].
    pub fn take_fetch(&self, now: Instant) -> Result<(), Error> {
        self.fetches.as_ref().map_or(Ok(()), |f| f.take(now))
    }
}

/// What one caller may have of one thing, and how much of that is left.
#[derive(Debug)]
pub struct Allotment {
    caller: Arc<str>,
    kind: &'static str,
    per_minute: NonZeroU32,
    /// Shared with what took its place when the settings changed and this did not.
    quota: Arc<Quota>,
    refusals: IntCounter,
    dry_run: Option<DryRun>,
}

/// How an allotment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is of: "requests" or "fetches".
    pub kind: &'static str,
    /// How many a minute.
    pub per_minute: NonZeroU32,
    /// How many at once, now.
    pub left: u32,
    /// In how long it is one more.
    pub more_in: Duration,
}

impl Allotment {
    /// All of it. `refusals` counts what is refused, and in a dry run what would have been.
    pub fn new(
        caller: Arc<str>,
        kind: &'static str,
        per_minute: NonZeroU32,
        refusals: IntCounter,
        dry_run: bool,
        now: Instant,
    ) -> Self {
        Self {
            caller,
            kind,
            per_minute,
            quota: Arc::new(Quota::new(per_minute, now)),
            refusals,
            dry_run: dry_run.then(|| DryRun {
                lines: Quota::new(LINES_PER_MINUTE, now),
                unsaid: AtomicU64::new(0),
            }),
        }
    }

    /// The same with as much taken of it as of what it takes the place of.
    #[must_use]
    pub fn after(mut self, before: &Self, now: Instant) -> Self {
        self.quota = match self.per_minute == before.per_minute {
            true => before.quota.clone(),
            false => Arc::new(before.quota.resized(self.per_minute, now)),
        };
        self
    }

    /// Takes one.
    ///
    /// # Errors
    /// There is none, and this is no dry run: [`Error::QuotaSpent`].
    pub fn take(&self, now: Instant) -> Result<(), Error> {
        let Err(Wait(retry_after)) = self.quota.take(now) else {
            return Ok(());
        };
        self.refusals.inc();
        if let Some(dry_run) = &self.dry_run {
            if let Some(refusals) = dry_run.count(now) {
                // Named as `telemetry::logs::EACH` is: its lines are few already, and each has its own count.
                info!(
                    name: "each",
                    caller = &*self.caller,
                    quota.kind = self.kind,
                    quota.per_minute = self.per_minute,
                    refusals,
                    "a quota would have refused a caller, but for its dry_run"
                );
            }
            return Ok(());
        }
        Err(Error::QuotaSpent {
            kind: self.kind,
            per_minute: self.per_minute,
            retry_after,
        })
    }

    /// How it stands; nothing in a dry run, of which callers are not to know.
    pub fn standing(&self, now: Instant) -> Option<Standing> {
        let left = self.quota.left(now);
        self.dry_run.is_none().then_some(Standing {
            kind: self.kind,
            per_minute: self.per_minute,
            left: left.now,
            more_in: left.more_in,
        })
    }
}

/// Tells what would have been refused, a line a second.
#[derive(Debug)]
struct DryRun {
    lines: Quota,
    unsaid: AtomicU64,
}

impl DryRun {
    /// How many a line should tell of, if there should be one now.
    fn count(&self, now: Instant) -> Option<u64> {
        self.unsaid.fetch_add(1, Relaxed);
        self.lines.take(now).ok()?;
        Some(self.unsaid.swap(0, Relaxed)).filter(|unsaid| *unsaid > 0)
    }
}

const LINES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();
