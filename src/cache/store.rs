//! Where pages live, what they weigh, which of them belong to a list, and that a forget beats a fetch.
//!
//! A fetch takes a [`Ticket`] before it begins. A forget of its list makes the ticket worthless, so that the page,
//! which was fetched before the forget, never comes back after it. Look-ups know nothing of this: they read moka alone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::Settings;
use crate::clock::Clock;
use crate::contacts::{Forget, Forwarded, ListKey, Page, PageKey};
use crate::telemetry::metrics::Metrics;

mod entry;
mod shelf;

pub use entry::Entry;

use entry::Kept;
use shelf::Shelf;

/// The pages in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct Store {
    pages: Cache<PageKey, Kept, foldhash::quality::RandomState>,
    settings: Arc<ArcSwap<Settings>>,
    clock: Clock,
    shelves: Arc<Mutex<Shelves>>,
    /// Keys that moka dropped of itself and that are still on their shelves. moka tells of them in the middle of its
    /// other work, when the shelves may be locked.
    dropped: Arc<Mutex<Vec<PageKey>>>,
    /// See [`Self::puts`].
    puts: Arc<AtomicU64>,
}

type Shelves = HashMap<ListKey, Shelf>;

/// What is in memory of a key.
#[derive(Debug)]
pub enum Found {
    /// A page for the request.
    Page(Arc<Entry>),
    /// Pages for others.
    Others,
    /// No page.
    Nothing,
}

impl Found {
    /// The page, where there is one for the request.
    pub fn page(self) -> Option<Arc<Entry>> {
        match self {
            Self::Page(entry) => Some(entry),
            Self::Others | Self::Nothing => None,
        }
    }

    /// The same, to be looked at.
    pub fn as_page(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Page(entry) => Some(entry),
            Self::Others | Self::Nothing => None,
        }
    }
}

/// Of one key. The oldest goes when another comes.
const MOST_VARIANTS: usize = 8;

/// The right to store what a fetch brings, until its list is forgotten.
#[derive(Debug)]
pub struct Ticket {
    store: Store,
    list: ListKey,
    generation: u32,
}

impl Store {
    /// An empty store that holds `max_bytes` of whole entries.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(settings.clone()));
        let dropped = Arc::<Mutex<Vec<PageKey>>>::default();
        let drops = Arc::clone(&dropped);
        let pages = Cache::builder()
            .max_capacity(settings.load().max_bytes)
            .weigher(|key, kept: &Kept| u32::try_from(kept.weight(key)).unwrap_or(u32::MAX))
            .expire_after(KeepFor(settings.clone()))
            .eviction_listener(move |key: Arc<PageKey>, _, cause| {
                let cause = match cause {
                    RemovalCause::Size => "size",
                    RemovalCause::Expired => "expired",
                    RemovalCause::Explicit => return metrics.evicted("explicit"),
                    RemovalCause::Replaced => return,
                };
                metrics.evicted(cause);
                locked(&drops).push(PageKey::clone(&key));
            })
            .build_with_hasher(foldhash::quality::RandomState::default());
        Self {
            pages,
            settings,
            clock,
            shelves: Arc::default(),
            dropped,
            puts: Arc::default(),
        }
    }

    /// From now on keeps pages for as long as these settings say, those that are there too. Their memory stays as it was.
    pub fn keep_by(&self, settings: &Settings) {
        self.settings.store(Arc::new(settings.clone()));
        for key in self.pages.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            // Under the lock, or a page could come back that was replaced or forgotten meanwhile.
            let _shelves = locked(&self.shelves);
            if let Some(kept) = self.pages.get(&*key) {
                self.pages.insert(PageKey::clone(&key), kept);
            }
        }
        self.tidy();
    }

    /// What is in memory for a request with these fields.
    pub fn find(&self, key: &PageKey, sent: &Forwarded) -> Found {
        let Some(kept) = self.pages.get(key) else {
            return Found::Nothing;
        };
        // moka keeps the pages of a key for as long as the last of them is of use.
        match kept.for_request(sent, |entry| self.is_of_use(entry)) {
            Some(entry) => {
                entry.prefetch();
                Found::Page(entry)
            }
            None => Found::Others,
        }
    }

    /// The page that is in memory for a request with these fields.
    pub fn entry(&self, key: &PageKey, sent: &Forwarded) -> Option<Arc<Entry>> {
        self.find(key, sent).page()
    }

    /// How many pages were put into memory so far. Where none was since a look, another look finds no more.
    pub fn puts(&self) -> u64 {
        self.puts.load(Relaxed)
    }

    fn is_of_use(&self, entry: &Entry) -> bool {
        !left(entry, &self.settings.load(), self.clock.now()).is_zero()
    }

    /// The page of this version, while it is of use, and for how much longer.
    pub fn page(
        &self,
        key: &PageKey,
        sent: &Forwarded,
        version: u64,
        now: Instant,
    ) -> Option<(Page, Duration)> {
        let entry = self.entry(key, sent)?;
        let left = left(&entry, &self.settings.load(), now);
        (entry.version() == version && left.as_millis() > 0).then(|| (entry.page.clone(), left))
    }

    /// The clock that all versions are of was wrong by so many microseconds.
    pub fn set_right(&self, by: i64) {
        // Under the lock, or a page could be compared in between.
        let _shelves = locked(&self.shelves);
        let pages = self.pages.iter();
        pages.for_each(|(_, kept)| kept.iter().for_each(|entry| entry.set_right(by)));
    }

    /// To be taken before a fetch begins.
    pub fn ticket(&self, list: &ListKey) -> Ticket {
        let mut shelves = locked(&self.shelves);
        let shelf = shelves.entry(list.clone());
        // As the shelf has it, so that all pages of a list share one text.
        let list = shelf.key().clone();
        let shelf = shelf.or_default();
        shelf.fetches += 1;
        Ticket {
            store: self.clone(),
            list,
            generation: shelf.generation,
        }
    }

    /// Drops the pages of every list that is meant, and makes worthless what is being fetched of them. Tells how many
    /// pages there were.
    pub fn forget(&self, what: &Forget) -> u64 {
        let mut forgotten = 0;
        {
            let mut shelves = locked(&self.shelves);
            let lists = match what.one_list() {
                Some(list) => vec![list],
                None => shelves
                    .keys()
                    .filter(|list| what.means(list))
                    .cloned()
                    .collect(),
            };
            for list in lists {
                let Some(shelf) = shelves.get_mut(&list) else {
                    continue;
                };
                shelf.generation = shelf.generation.wrapping_add(1);
                // Under the lock, or a fetch that begins after this forget could lose its page to it.
                for key in shelf.clear(&list) {
                    // Looked for first: what is past its time is no longer there for anybody, but moka would still
                    // hand it out as removed.
                    forgotten += self.pages.get(&key).map_or(0, |kept| kept.len());
                    self.pages.invalidate(&key);
                }
                if !shelf.is_needed() {
                    shelves.remove(&list);
                }
            }
        }
        self.tidy();
        forgotten as u64
    }

    /// The same for all lists that are meant, where that is not easily said: nobody waits meanwhile.
    pub fn forget_those(&self, meant: &dyn Fn(&ListKey) -> bool) {
        let lists: Vec<_> = locked(&self.shelves).keys().cloned().collect();
        for list in lists.into_iter().filter(meant) {
            self.forget(&list.into());
        }
    }

    /// How many pages there are, and what they weigh in bytes.
    pub fn holds(&self) -> (u64, u64) {
        self.tidy();
        (self.pages.entry_count(), self.pages.weighted_size())
    }

    /// Does moka's bookkeeping, and takes off the shelves what moka dropped.
    fn tidy(&self) {
        self.pages.run_pending_tasks();
        let dropped = std::mem::take(&mut *locked(&self.dropped));
        if dropped.is_empty() {
            return;
        }
        let mut shelves = locked(&self.shelves);
        for key in dropped {
            // It may have come back since. Nothing comes back while the shelves are locked.
            if !self.pages.contains_key(&key) {
                unlist(&mut shelves, &key);
            }
        }
    }
}

impl Ticket {
    /// Whether the list has not been forgotten since.
    pub fn is_good(&self) -> bool {
        locked(&self.store.shelves)
            .get(&self.list)
            .is_some_and(|shelf| shelf.generation == self.generation)
    }

    /// Stores a page that was fetched with this ticket, unless its list was forgotten meanwhile or there is no room.
    /// Tells whether it did, or has a newer one. It takes the place of `old`, and of those that the same requests would get.
    pub fn store(
        &self,
        key: &PageKey,
        entry: Arc<Entry>,
        sent: &Forwarded,
        old: Option<&Arc<Entry>>,
    ) -> bool {
        {
            let mut shelves = locked(&self.store.shelves);
            let Some(shelf) = shelves.get_mut(&self.list) else {
                return false;
            };
            if shelf.generation != self.generation {
                return false;
            }
            // What is in memory is on its shelf.
            let new = shelf.put(key);
            let before = if new { None } else { self.store.pages.get(key) };
            let those = before.iter().flat_map(|kept| kept.iter());
            let those = those.filter(|one| self.store.is_of_use(one));
            let is_newer =
                |one: &Arc<Entry>| one.selection.admits(sent) && one.version() > entry.version();
            if those.clone().any(is_newer) {
                return true;
            }
            let others = those.filter(|other| {
                let replaced = old.is_some_and(|old| Arc::ptr_eq(old, other));
                !replaced && !other.selection.admits(sent)
            });
            let kept = std::iter::once(entry).chain(others.cloned());
            let kept = kept.take(MOST_VARIANTS).collect();
            let mut key = key.clone();
            key.list = self.list.clone();
            self.store.pages.insert(key, kept);
            self.store.puts.fetch_add(1, Relaxed);
        }
        // After every fetch, of which there are few, so that memory never runs ahead of max_bytes.
        self.store.tidy();
        self.store.pages.contains_key(key)
    }

    /// Drops what a fetch with this ticket showed to be no longer what the vendor says. What is there of a list that
    /// was forgotten meanwhile is from a later fetch.
    pub fn discard(&self, key: &PageKey) {
        let mut shelves = locked(&self.store.shelves);
        let shelf = shelves.get(&self.list);
        if shelf.is_some_and(|shelf| shelf.generation == self.generation) {
            unlist(&mut shelves, key);
            self.store.pages.invalidate(key);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut shelves = locked(&self.store.shelves);
        if let Some(shelf) = shelves.get_mut(&self.list) {
            shelf.fetches -= 1;
            if !shelf.is_needed() {
                shelves.remove(&self.list);
            }
        }
    }
}

fn unlist(shelves: &mut Shelves, key: &PageKey) {
    if let Some(shelf) = shelves.get_mut(&key.list) {
        shelf.take(key);
        if !shelf.is_needed() {
            shelves.remove(&key.list);
        }
    }
}

/// The outer bound of an entry's life, so that contacts are not kept without need. How old a page may be for whom is the
/// policy's matter.
struct KeepFor(Arc<ArcSwap<Settings>>);

impl KeepFor {
    fn longest(&self, kept: &Kept, now: Instant) -> Option<Duration> {
        let settings = self.0.load();
        kept.iter().map(|entry| left(entry, &settings, now)).max()
    }
}

fn left(entry: &Entry, settings: &Settings, now: Instant) -> Duration {
    let kept_for = entry.terms.limits(settings).kept;
    kept_for.saturating_sub(entry.page.age(now))
}

impl Expiry<PageKey, Kept> for KeepFor {
    fn expire_after_create(&self, _: &PageKey, kept: &Kept, now: Instant) -> Option<Duration> {
        self.longest(kept, now)
    }

    fn expire_after_update(
        &self,
        _: &PageKey,
        kept: &Kept,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.longest(kept, now)
    }
}

/// A panic while the lock was held would be a defect elsewhere; the map itself is whole between two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
