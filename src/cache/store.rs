//! Where pages live, what they weigh, which of them belong to a list, and that a forget beats a fetch.
//!
//! A fetch takes a [`Ticket`] before it begins. A forget of its list makes the ticket worthless, so that the page,
//! which was fetched before the forget, never comes back after it. Look-ups know nothing of this: they read moka alone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use equivalent::Equivalent;
use foldhash::HashMap;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::Settings;
use crate::clock::Clock;
use crate::contacts::{Forget, Forwarded, ListKey, Page, PageKey};
use crate::telemetry::metrics::Metrics;

mod entry;
mod run;
mod shelf;

pub use entry::Entry;

use run::{Kept, Place, Run, RunKey};
use shelf::Shelf;

/// The pages in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runs: Cache<RunKey, Run, foldhash::quality::RandomState>,
    settings: ArcSwap<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    shelves: Mutex<Shelves>,
    dropped: Dropped,
    /// How many pages there are.
    entries: Arc<AtomicU64>,
    /// Bytes.
    most_of_a_run: u64,
    /// See [`Store::puts`].
    puts: AtomicU64,
}

/// Runs that moka dropped of itself and that are still on their shelves. moka tells of them in the middle of its other work, when
/// the shelves may be locked.
type Dropped = Arc<Mutex<Vec<Arc<RunKey>>>>;

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
/// A run has no more of the memory than one part of so many, unless one page does.
const RUNS_AT_LEAST: u64 = 4;
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

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
        let dropped = Dropped::default();
        let entries = Arc::<AtomicU64>::default();
        let (drops, held, told) = (dropped.clone(), entries.clone(), metrics.clone());
        let runs = Cache::builder()
            .max_capacity(settings.max_bytes)
            .weigher(|key: &RunKey, run: &Run| {
                u32::try_from(key.size() as u64 + run.size()).unwrap_or(u32::MAX)
            })
            .expire_after(UntilTheLast)
            .eviction_listener(move |key, run: Run, cause| {
                let pages = run.len() as u64;
                held.fetch_sub(pages, Relaxed);
                let cause = match cause {
                    RemovalCause::Size => "size",
                    RemovalCause::Expired => "expired",
                    RemovalCause::Explicit => return told.evicted("explicit", pages),
                    RemovalCause::Replaced => return,
                };
                told.evicted(cause, pages);
                locked(&drops).push(key);
            })
            .build_with_hasher(foldhash::quality::RandomState::default());
        Self(Arc::new(Inner {
            runs,
            settings: ArcSwap::from_pointee(settings.clone()),
            clock,
            metrics,
            shelves: Mutex::default(),
            dropped,
            entries,
            most_of_a_run: settings.max_bytes / RUNS_AT_LEAST,
            puts: AtomicU64::new(0),
        }))
    }

    /// From now on keeps pages for as long as these settings say, those that are there too. Their memory stays as it was.
    pub fn keep_by(&self, settings: &Settings) {
        self.0.settings.store(Arc::new(settings.clone()));
        for key in self.0.runs.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            // Under the lock, or a page could come back that was replaced or forgotten meanwhile.
            let _shelves = locked(&self.0.shelves);
            if let Some(run) = self.0.runs.get(&key.place()) {
                let run = Run::of(run.to_vec(), |entry| self.end(entry));
                self.insert(RunKey::clone(&key), run);
            }
        }
        self.tidy();
    }

    /// What is in memory for a request with these fields, at this moment.
    pub fn find(&self, key: &PageKey, sent: &Forwarded, now: Instant) -> Found {
        let place = Place::of(key);
        let Some(run) = self.0.runs.get(&place) else {
            return Found::Nothing;
        };
        // Of several it is one that is still of use: a newer one, which may be for more requests, does not hide an older one for
        // longer than it lasts itself.
        let whole = run.is_whole(now);
        let mut those = run.at(place.nth).filter(|one| whole || now < self.end(one));
        if let Some(entry) = those.clone().find(|one| one.selection.admits(sent)) {
            entry.prefetch();
            return Found::Page(entry.clone());
        }
        match those.next() {
            Some(_) => Found::Others,
            None => Found::Nothing,
        }
    }

    /// The page that is in memory for a request with these fields.
    pub fn entry(&self, key: &PageKey, sent: &Forwarded) -> Option<Arc<Entry>> {
        self.find(key, sent, self.0.clock.now()).page()
    }

    /// How many pages were put into memory so far. Where none was since a look, another look finds no more.
    pub fn puts(&self) -> u64 {
        self.0.puts.load(Relaxed)
    }

    /// The outer bound of an entry's life, so that contacts are not kept without need. How old a page may be for whom is the
    /// policy's matter.
    fn end(&self, entry: &Entry) -> Instant {
        let Page {
            received_at,
            initial_age,
            ..
        } = entry.page;
        let kept_for = entry.terms.limits(&self.0.settings.load()).kept;
        let left = kept_for.saturating_sub(initial_age.into()).min(A_CENTURY);
        received_at + left
    }

    /// The page of this version, while it is of use, and for how much longer.
    pub fn page(
        &self,
        key: &PageKey,
        sent: &Forwarded,
        version: u64,
        now: Instant,
    ) -> Option<(Page, Duration)> {
        let entry = self.find(key, sent, now).page()?;
        let left = self.end(&entry).saturating_duration_since(now);
        (entry.version() == version && left.as_millis() > 0).then(|| (entry.page.clone(), left))
    }

    /// The clock that all versions are of was wrong by so many microseconds.
    pub fn set_right(&self, by: i64) {
        // Under the lock, or a page could be compared in between.
        let _shelves = locked(&self.0.shelves);
        let set_right = |kept: &Kept| kept.entry.set_right(by);
        let runs = self.0.runs.iter();
        runs.for_each(|(_, run)| run.iter().for_each(set_right));
    }

    /// To be taken before a fetch begins.
    pub fn ticket(&self, list: &ListKey) -> Ticket {
        let mut shelves = locked(&self.0.shelves);
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
        let now = self.0.clock.now();
        {
            let mut shelves = locked(&self.0.shelves);
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
                for key in shelf.clear() {
                    // Looked for first: what is past its time is no longer there for anybody, but moka would still
                    // hand it out as removed.
                    let run = self.0.runs.get(&key.place());
                    let of_use = |kept: &&Kept| now < self.end(&kept.entry);
                    forgotten += run.map_or(0, |run| run.iter().filter(of_use).count());
                    self.0.runs.invalidate(&key.place());
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
        let lists: Vec<_> = locked(&self.0.shelves).keys().cloned().collect();
        for list in lists.into_iter().filter(meant) {
            self.forget(&list.into());
        }
    }

    /// How many pages there are, and what they weigh in bytes.
    pub fn holds(&self) -> (u64, u64) {
        self.tidy();
        (self.0.entries.load(Relaxed), self.0.runs.weighted_size())
    }

    /// Does moka's bookkeeping, and takes off the shelves what moka dropped. Tells what that was.
    fn tidy(&self) -> Vec<Arc<RunKey>> {
        self.0.runs.run_pending_tasks();
        let dropped = std::mem::take(&mut *locked(&self.0.dropped));
        if dropped.is_empty() {
            return dropped;
        }
        let mut shelves = locked(&self.0.shelves);
        for key in &dropped {
            // It may have come back since. Nothing comes back while the shelves are locked.
            if !self.0.runs.contains_key(&key.place()) {
                unlist(&mut shelves, key);
            }
        }
        dropped
    }

    fn insert(&self, key: RunKey, run: Run) {
        self.0.entries.fetch_add(run.len() as u64, Relaxed);
        self.0.runs.insert(key, run);
    }

    /// A run with one more page; of those of its place the ones stay that `stays` says. Nothing is asked of the others, unless one
    /// of them may be past its time: the processor would have to wait for each.
    fn with(
        &self,
        run: Option<&Run>,
        nth: u8,
        entry: Arc<Entry>,
        now: Instant,
        stays: impl Fn(&Entry) -> bool,
    ) -> Run {
        let end = self.end(&entry);
        let whole = run.filter(|run| run.is_whole(now));
        let new = Kept::new(nth, entry);
        let (mut bytes, mut variants) = (new.bytes(), 1);
        let (mut expired, mut crowded) = (0, 0);
        let mut pages = Vec::with_capacity(1 + run.map_or(0, |run| run.len()));
        pages.push(new);
        for kept in run.into_iter().flat_map(|run| run.iter()) {
            if kept.nth == nth && !stays(&kept.entry) {
                continue;
            }
            if whole.is_none() && now >= self.end(&kept.entry) {
                expired += 1;
                continue;
            }
            variants += usize::from(kept.nth == nth);
            bytes += kept.bytes();
            if bytes > self.0.most_of_a_run {
                crowded += 1;
            } else if kept.nth != nth || variants <= MOST_VARIANTS {
                pages.push(kept.clone());
            }
        }
        self.0.metrics.evicted("expired", expired);
        self.0.metrics.evicted("size", crowded);
        match whole {
            Some(run) => run.with(pages, end),
            None => Run::of(pages, |entry| self.end(entry)),
        }
    }
}

impl Ticket {
    /// Whether the list has not been forgotten since.
    pub fn is_good(&self) -> bool {
        locked(&self.store.0.shelves)
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
        let store = &self.store;
        let (now, place) = (store.0.clock.now(), Place::of(key));
        let of_use = now < store.end(&entry);
        {
            let mut shelves = locked(&store.0.shelves);
            let Some(shelf) = shelves.get_mut(&self.list) else {
                return false;
            };
            if shelf.generation != self.generation {
                return false;
            }
            let run_key = place.run(&self.list);
            // What is in memory is on its shelf.
            let new = shelf.put(&run_key);
            let run = if new { None } else { store.0.runs.get(&place) };
            let is_newer = |one: &Arc<Entry>| {
                one.version() > entry.version()
                    && one.selection.admits(sent)
                    && now < store.end(one)
            };
            if run.iter().any(|run| run.at(place.nth).any(is_newer)) {
                return true;
            }
            let stays = |other: &Entry| {
                let replaced = old.is_some_and(|old| std::ptr::eq(&**old, other));
                !replaced && !other.selection.admits(sent)
            };
            let run = store.with(run.as_ref(), place.nth, entry, now, stays);
            store.insert(run_key, run);
            store.0.puts.fetch_add(1, Relaxed);
        }
        // After every fetch, of which there are few, so that memory never runs ahead of max_bytes.
        let dropped = store.tidy();
        let stays = || dropped.iter().all(|run| !place.equivalent(run));
        of_use && (stays() || store.0.runs.contains_key(&place))
    }

    /// Drops what a fetch with this ticket showed to be no longer what the vendor says. What is there of a list that
    /// was forgotten meanwhile is from a later fetch.
    pub fn discard(&self, key: &PageKey) {
        let store = &self.store;
        let mut shelves = locked(&store.0.shelves);
        let shelf = shelves.get(&self.list);
        if shelf.is_none_or(|shelf| shelf.generation != self.generation) {
            return;
        }
        let place = Place::of(key);
        let run_key = place.run(&self.list);
        let run = store.0.runs.get(&place);
        let run = run.as_deref().unwrap_or_default();
        let others = run.iter().filter(|kept| kept.nth != place.nth);
        let others: Vec<_> = others.cloned().collect();
        let gone = run.len() - others.len();
        if others.is_empty() {
            unlist(&mut shelves, &run_key);
            store.0.runs.invalidate(&place);
        } else if gone > 0 {
            store.0.metrics.evicted("explicit", gone as u64);
            store.insert(run_key, Run::of(others, |entry| store.end(entry)));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut shelves = locked(&self.store.0.shelves);
        if let Some(shelf) = shelves.get_mut(&self.list) {
            shelf.fetches -= 1;
            if !shelf.is_needed() {
                shelves.remove(&self.list);
            }
        }
    }
}

fn unlist(shelves: &mut Shelves, run: &RunKey) {
    if let Some(shelf) = shelves.get_mut(run.list()) {
        shelf.take(run);
        if !shelf.is_needed() {
            shelves.remove(run.list());
        }
    }
}

/// A run is kept for as long as the last of its pages is of use. What is past its time before is nothing that anybody finds, and is
/// dropped when the next page of the run comes.
struct UntilTheLast;

impl Expiry<RunKey, Run> for UntilTheLast {
    fn expire_after_create(&self, _: &RunKey, run: &Run, now: Instant) -> Option<Duration> {
        Some(run.lasts(now))
    }

    fn expire_after_update(
        &self,
        _: &RunKey,
        run: &Run,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(run.lasts(now))
    }
}

/// A panic while the lock was held would be a defect elsewhere; the map itself is whole between two statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
