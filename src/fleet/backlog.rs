//! Pages that the store was not there to take. It gets them when it is back.
//!
//! Hides that only their names wait, and what each is as good as: a page that was forgotten, evicted or replaced meanwhile is
//! no longer in memory when its turn comes, and is passed over. They go one at a time, at a pace that leaves the store to what
//! callers want, and with the fence that their fetch had: it takes none that is older than what it has, and nobody takes one
//! that is older than a forget.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::pages::Start;
use super::{Away, Copy, Shared};
use crate::contacts::{Forwarded, Page, PageKey};

/// Finds in memory the page of this version, and for how long it will be of use.
pub type Holds = Box<dyn Fn(&PageKey, &Forwarded, u64) -> Option<(Page, Duration)> + Send + Sync>;

type Name = (PageKey, Forwarded);

/// See the module.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: Mutex<HashMap<Name, Waiting>>,
    stirred: Notify,
}

/// A page that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) authorized: bool,
    pub(super) start: Start,
    /// How often the store was there and did not take it.
    pub(super) refused: u8,
}

/// So many wait. The oldest goes when another comes.
const MOST: usize = 10_000;

/// A page is offered so often to a store that is there. It may be too large to be taken in time.
const OFFERS: u8 = 3;

/// Between two of them. A store that has just come back is asked for much by all replicas at once, and who gets no answer in
/// time goes on alone.
const PACE: Duration = Duration::from_millis(20);

impl Backlog {
    /// Has a page wait, in place of an older one of the same name.
    pub(super) fn put(&self, name: Name, page: Waiting) {
        {
            let mut waiting = self.waiting();
            let there = waiting.entry(name).or_insert(page);
            if there.start.version < page.start.version {
                *there = page;
            }
            if waiting.len() > MOST {
                let oldest = waiting.iter().min_by_key(|(_, page)| page.start.version);
                let oldest = oldest.map(|(name, _)| name.clone());
                oldest.and_then(|name| waiting.remove(&name));
            }
        }
        self.stir();
    }

    /// The clock that all versions are of was wrong by so many microseconds.
    pub(super) fn set_right(&self, by: i64) {
        for page in self.waiting().values_mut() {
            page.start.version = page.start.version.saturating_add_signed(by);
        }
    }

    /// There may be something to do.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// All that wait, the oldest first.
    fn take(&self) -> Vec<(Name, Waiting)> {
        let mut all: Vec<_> = std::mem::take(&mut *self.waiting()).into_iter().collect();
        all.sort_unstable_by_key(|(_, page)| page.start.version);
        all
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Name, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Gives the store what it was not there to take, whenever it is there; for ever.
    pub(super) async fn catch_up_pages(self: Arc<Self>) {
        loop {
            self.backlog.stirred.notified().await;
            // Who comes back has heard of every forget that the store knows before it counts as live.
            if self.live().is_none() {
                continue;
            }
            let mut all = self.backlog.take().into_iter();
            while let Some((name, mut page)) = all.next() {
                tokio::time::sleep(PACE).await;
                if self.give(&name, page).await.is_ok() {
                    continue;
                }
                page.refused += u8::from(self.live().is_some());
                let again = (page.refused < OFFERS).then_some((name, page));
                for (name, page) in again.into_iter().chain(all) {
                    self.backlog.put(name, page);
                }
                let beat = self.seats().beat();
                tokio::time::sleep(beat).await;
                break;
            }
        }
    }

    async fn give(&self, (key, sent): &Name, page: Waiting) -> Result<(), Away> {
        let Waiting {
            authorized, start, ..
        } = page;
        let Some((page, left)) = (self.holds)(key, sent, start.version) else {
            return Ok(());
        };
        // A fence is a time of the store's. A replica that had not heard that yet went by its own clock, and one that is ahead
        // would keep newer pages out.
        let version = start.version.min(self.micros(page.received_at));
        let copy = Copy {
            page,
            sent: sent.clone(),
            authorized,
            version,
        };
        self.keep(key, copy, Start { version, ..start }, left).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contacts::{Api, ListKey};

    fn name(skip: u64) -> Name {
        let key = PageKey {
            list: ListKey::new("st-1", "cl-1", "a").unwrap(),
            api: Api::V1,
            skip,
            limit: None,
            extra: None,
        };
        (key, Forwarded::default())
    }

    fn of_version(version: u64) -> Waiting {
        let start = Start { version, stamp: 0 };
        Waiting {
            authorized: false,
            start,
            refused: 0,
        }
    }

    #[test]
    fn of_a_page_the_newest_copy_waits() {
        let backlog = Backlog::default();
        for version in [2, 3, 1] {
            backlog.put(name(0), of_version(version));
        }
        assert_eq!(backlog.take(), [(name(0), of_version(3))]);
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn of_too_many_pages_the_oldest_goes_and_the_others_come_in_the_order_of_their_fetches() {
        let backlog = Backlog::default();
        let pages = 0..=MOST as u64;
        for page in pages.clone() {
            backlog.put(name(page), of_version(page + 1));
        }
        let taken: Vec<_> = backlog.take().into_iter().map(|(name, _)| name).collect();
        assert_eq!(taken, pages.skip(1).map(name).collect::<Vec<_>>());
    }
}
