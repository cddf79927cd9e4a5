//! What every page is owed: the sum of the ages it was served at since it was fetched, in milliseconds.
//!
//! Debts lie side by side, apart from their pages, so that a hit is one atomic add and choosing among a hundred thousand
//! is one walk over memory. Two low bits of a debt say how its page's refresh stands: wanted, or on its way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Few, since most accounts have few pages, and whoever makes accounts up has one of each. To walk over is no slower for it.
const CHUNK: usize = 16;
/// The lowest bit, by which [`Ledger::greatest`] multiplies.
const WANTED: u64 = 1;
const FLYING: u64 = 2;
const BITS: u32 = 2;

/// The debts of one account's pages.
#[derive(Debug, Default)]
pub struct Ledger {
    chunks: Vec<Arc<Chunk>>,
    free: Arc<Free>,
}

/// Places that nobody has.
type Free = Mutex<Vec<usize>>;

/// Debts side by side. It knows what all of them have in common, since there are as many debts as pages.
#[derive(Debug)]
struct Chunk {
    cells: [AtomicU64; CHUNK],
    /// The place of the first.
    start: usize,
    free: Arc<Free>,
}

/// A page's debt. Its place is given back when this is dropped.
#[derive(Debug)]
pub struct Debt {
    chunk: Arc<Chunk>,
    index: u32,
}

impl Ledger {
    /// A place for another page, which owes nothing yet.
    pub fn open(&mut self) -> Debt {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            let start = self.chunks.len() * CHUNK;
            free.extend((start..start + CHUNK).rev());
            self.chunks.push(Arc::new(Chunk {
                cells: std::array::from_fn(|_| AtomicU64::new(0)),
                start,
                free: self.free.clone(),
            }));
        }
        // There is one: see above.
        let place = free.pop().unwrap_or_default();
        Debt {
            chunk: self.chunks[place / CHUNK].clone(),
            index: (place % CHUNK) as u32,
        }
    }

    /// The place of the greatest debt among the pages that are wanted.
    pub fn greatest(&self) -> Option<usize> {
        // The greatest of each chunk without a branch, which is most of the work; then where it is, or has grown to be.
        let wanted = |cell: &AtomicU64| {
            let debt = cell.load(Relaxed);
            debt * (debt & WANTED)
        };
        let greatest_in = |chunk: &Arc<Chunk>| chunk.cells.iter().map(wanted).fold(0, u64::max);
        let chunks = self.chunks.iter().enumerate();
        let (debt, n) = chunks.map(|(n, chunk)| (greatest_in(chunk), n)).max()?;
        let at = self.chunks[n]
            .cells
            .iter()
            .position(|cell| wanted(cell) >= debt)?;
        (debt > 0).then_some(n * CHUNK + at)
    }

    /// Whether no page has a place.
    pub(super) fn is_empty(&self) -> bool {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.len() == self.chunks.len() * CHUNK
    }
}

impl Debt {
    /// The page was served at this age, to a caller of this weight.
    pub fn add(&self, age: Duration, share: u32) {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX >> 24);
        self.cell()
            .fetch_add((age * u64::from(share)) << BITS, Relaxed);
    }

    /// A refresh is wanted. Tells whether none was, and none is on its way.
    pub fn want(&self) -> bool {
        let idle = |debt| (debt & (WANTED | FLYING) == 0).then_some(debt | WANTED);
        self.cell().fetch_update(Relaxed, Relaxed, idle).is_ok()
    }

    /// A refresh is on its way.
    pub(super) fn claim(&self) {
        self.cell().fetch_or(FLYING, Relaxed);
        self.cell().fetch_and(!WANTED, Relaxed);
    }

    /// No refresh is on its way, and none is wanted.
    pub fn release(&self) {
        self.cell().fetch_and(!(WANTED | FLYING), Relaxed);
    }

    /// What is owed, in milliseconds.
    pub fn owed(&self) -> u64 {
        self.cell().load(Relaxed) >> BITS
    }

    /// The place in the ledger.
    pub(super) fn place(&self) -> usize {
        self.chunk.start + self.index as usize
    }

    fn cell(&self) -> &AtomicU64 {
        &self.chunk.cells[self.index as usize]
    }
}

impl AsRef<Self> for Debt {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A debt that is in nobody's ledger.
impl Default for Debt {
    fn default() -> Self {
        Ledger::default().open()
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.cell().store(0, Relaxed);
        let free = &self.chunk.free;
        let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(self.place());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_page_that_owes_most_comes_first() {
        let mut ledger = Ledger::default();
        let debts: Vec<_> = (0..3_000).map(|_| ledger.open()).collect();
        assert_eq!(ledger.greatest(), None);
        debts[2_500].add(Duration::from_secs(9), 1);
        debts[7].add(Duration::from_secs(4), 2);
        debts[8].add(Duration::from_secs(7), 1);
        assert_eq!(ledger.greatest(), None, "nobody wants any");
        assert!(debts[7].want() && debts[8].want() && !debts[8].want());
        assert_eq!(ledger.greatest(), Some(debts[7].place()));
        assert!(debts[2_500].want());
        assert_eq!(ledger.greatest(), Some(debts[2_500].place()));
        debts[2_500].claim();
        assert!(!debts[2_500].want(), "it is on its way");
        assert_eq!(ledger.greatest(), Some(debts[7].place()));
        assert_eq!(debts[2_500].owed(), 9_000);
    }

    #[test]
    fn whoever_has_one_page_has_no_room_for_hundreds() {
        let mut ledger = Ledger::default();
        let _debt = ledger.open();
        let free = ledger.free.lock().unwrap().capacity();
        assert!(size_of::<Chunk>() + free * size_of::<usize>() <= 512);
    }

    #[test]
    fn a_place_is_used_again_and_owes_nothing() {
        let mut ledger = Ledger::default();
        let first = ledger.open();
        first.add(Duration::from_secs(1), 1);
        first.want();
        let place = first.place();
        drop(first);
        let again = ledger.open();
        assert_eq!((again.place(), again.owed()), (place, 0));
        assert_eq!(ledger.greatest(), None);
    }
}
