//! A page as it is kept, with what may be done with it: one piece of memory, and the fewest that it needs beside it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cache::policy::{self, Rules, Terms};
use crate::cache::vary::Selection;
use crate::contacts::{Forwarded, Page};
use crate::upstream::allowance::Debt;

/// What one entry costs beyond its texts and its body. Measured, as what hundreds of thousands of pages add to a process, beside
/// what runs take ([`Run`](super::run::Run)): 300. Of that, in bytes as jemalloc hands them out:
///
/// - 192 are the [`Entry`] with what counts its holders, and 8 its debt;
/// - 32 count who has the body and the texts behind it;
/// - 16 is its place in the run;
/// - the rest is lost where these and the body are rounded up, and between pieces of memory.
const OVERHEAD: usize = 300;

/// A page, and what may be done with it.
#[derive(Debug)]
pub struct Entry {
    /// The page.
    pub page: Page,
    /// At which age it is what, as far as that is the vendor's to say.
    pub terms: Terms,
    /// What callers were served of its age, and whether a refresh is wanted or on its way.
    pub debt: Debt,
    /// See [`Self::version`].
    version: AtomicU64,
    pub(super) selection: Selection,
}

impl Entry {
    /// The entry for a page that answered a request with these fields; nothing where a page must not be kept.
    pub fn of(
        page: &Page,
        sent: &Forwarded,
        authorized: bool,
        rules: &Rules,
        debt: Debt,
    ) -> Option<Self> {
        let terms = Terms::of(page, authorized, rules.upstream)?;
        let selection = Selection::of(page, sent)?;
        if terms.limits(&rules.settings).kept.is_zero() {
            return None;
        }
        Some(Self {
            page: kept(page),
            terms,
            debt,
            version: AtomicU64::new(0),
            selection,
        })
    }

    /// The same, of this version.
    pub fn of_version(self, version: u64) -> Self {
        Self {
            version: version.into(),
            ..self
        }
    }

    /// Of two copies the one with the greater version is the newer. Without a shared store all are the same.
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// The clock that its version is of was wrong by so many microseconds.
    pub(super) fn set_right(&self, by: i64) {
        self.version
            .store(self.version().saturating_add_signed(by), Relaxed);
    }

    /// Asks memory at once for all that an answer is made of. Among a million pages the processor's caches hold none of it, and
    /// what is counted, as clones are, is waited for one after the other. When it was measured, a hit there took 2.7 µs more than
    /// one among thousands, and without this 3.3.
    pub(super) fn prefetch(&self) {
        let body = &self.page.body;
        let ends = (body.first().copied(), body.last().copied());
        black_box((self.debt.owed(), body.is_unique(), ends));
    }

    /// Memory that it takes.
    pub(super) fn size(&self) -> usize {
        OVERHEAD + self.page.fields.size() + self.page.body.len() + self.selection.size()
    }
}

/// The page as it may be kept.
fn kept(page: &Page) -> Page {
    let mut page = page.clone();
    page.ahead = Box::default();
    let withheld = policy::withheld(&page);
    if !withheld.is_empty() {
        let mut fields = page.fields.to_map();
        for name in withheld {
            fields.remove(name);
        }
        page.fields = fields.into();
    }
    page
}

impl AsRef<Page> for Entry {
    fn as_ref(&self) -> &Page {
        &self.page
    }
}

impl AsRef<Debt> for Entry {
    fn as_ref(&self) -> &Debt {
        &self.debt
    }
}
