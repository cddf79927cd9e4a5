//! That there are two secrets for a while after one of them took the other's place, of which the vendor takes one.
//!
//! A secret changes in two places, at the vendor and here, and never at the same moment. New tokens are made with the
//! new one at once; where the vendor refuses that, the other is tried at once, or by the next call, and goes first from then on.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::upstream::token::Minter;

/// How long a secret is kept that another took the place of: what it takes until a change has reached every place.
/// After that the vendor is shown no token of it, and it is wiped.
pub(super) const OVERLAP: Duration = Duration::from_secs(5 * 60);

/// Which of the two secrets a token is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The entry's own.
    #[default]
    Own,
    /// The one before it; or the one after it, for a call that began before the change.
    Other,
}

/// One entry's secret, and the one before or after it.
pub(super) struct Rotation {
    own: Arc<Minter>,
    former: Mutex<Option<Former>>,
    /// Not kept alive by calls that began before it was there.
    next: OnceLock<Weak<Minter>>,
}

struct Former {
    minter: Arc<Minter>,
    until: Instant,
    /// The vendor refused the new one, and not this one since.
    first: bool,
    /// The vendor refused this one of the two last, and has taken neither since.
    refused: Option<By>,
}

impl Rotation {
    pub(super) fn new(minter: Minter) -> Self {
        Self {
            own: Arc::new(minter),
            former: Mutex::default(),
            next: OnceLock::new(),
        }
    }

    /// Takes the place of another.
    pub(super) fn follow(&self, before: &Self, now: Instant) {
        let _ = before.next.set(Arc::downgrade(&self.own));
        // Of the two there the one that the vendor did not refuse last.
        let minter = before.minter(before.first(now), now);
        *self.former() = Some(Former {
            minter,
            until: now + OVERLAP,
            first: false,
            refused: None,
        });
    }

    pub(super) fn first(&self, now: Instant) -> By {
        self.forget(now);
        let former = self.former();
        match former.as_ref().is_some_and(|former| former.first) {
            true => By::Other,
            false => By::Own,
        }
    }

    pub(super) fn second(&self, refused: By, now: Instant) -> Option<By> {
        match refused {
            By::Own => self.other(now).map(|_| By::Other),
            By::Other => Some(By::Own),
        }
    }

    /// Whether there is one that the vendor may take where it refuses this one.
    pub(super) fn is_spare(&self, by: By, now: Instant) -> bool {
        let other = self.second(by, now);
        let refused = self.former().as_ref().and_then(|former| former.refused);
        other.is_some() && other != refused
    }

    pub(super) fn refused(&self, by: By) {
        if let Some(former) = self.former().as_mut() {
            (former.first, former.refused) = (by == By::Own, Some(by));
        }
    }

    pub(super) fn taken(&self) {
        if let Some(former) = self.former().as_mut() {
            former.refused = None;
        }
    }

    pub(super) fn goes_first(&self, by: By) {
        if let Some(former) = self.former().as_mut() {
            former.first = by == By::Other;
        }
    }

    /// What mints with one of the two. Its own where there is no other, or no more.
    pub(super) fn minter(&self, by: By, now: Instant) -> Arc<Minter> {
        let other = match by {
            By::Own => None,
            By::Other => self.other(now),
        };
        other.unwrap_or_else(|| self.own.clone())
    }

    fn other(&self, now: Instant) -> Option<Arc<Minter>> {
        self.forget(now);
        let next = self.next.get().and_then(Weak::upgrade);
        next.or_else(|| Some(self.former().as_ref()?.minter.clone()))
    }

    /// Wipes the one before it, if its time is over.
    pub(super) fn forget(&self, now: Instant) {
        self.former().take_if(|former| former.until <= now);
    }

    /// Until when there is one before it.
    pub(super) fn until(&self) -> Option<Instant> {
        self.former().as_ref().map(|former| former.until)
    }

    fn former(&self) -> MutexGuard<'_, Option<Former>> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
