//! A page as it is kept, with what may be done with it: one piece of memory, and the fewest that it needs beside it.

use std::hint::black_box;
use std::ops::Deref;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::cache::policy::{self, Rules, Terms};
use crate::cache::vary::Selection;
use crate::contacts::{Forwarded, Page, PageKey};
use crate::upstream::allowance::Debt;

/// What one entry costs beyond its texts, its values and its body. Measured, as what thousands of empty pages add to a
/// process: 900. Of that, in bytes as glibc's malloc would hand them out:
///
/// - 420 are moka's: the key, the places in the order of use and in the wheel of times, and what holds these together;
/// - 216 are the [`Entry`], without the values that are in it, and 8 its debt;
/// - 110 is the list's shelf on average, with one page on it;
/// - 32 count who has the body and the texts behind it;
/// - the rest is lost where these are rounded up, and between pieces of memory.
const OVERHEAD: usize = 900;

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
    /// what is counted, as clones are, is waited for one after the other: a hit there takes 2.7 µs more than one among thousands,
    /// not 3.3.
    pub(super) fn prefetch(&self) {
        let body = &self.page.body;
        let ends = (body.first().copied(), body.last().copied());
        black_box((self.debt.owed(), body.is_unique(), ends));
    }

    fn size(&self) -> usize {
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

/// The pages of one key: more than one where the vendor's answers vary by what callers send.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    One(Arc<Entry>),
    Several(Arc<[Arc<Entry>]>),
}

impl Kept {
    /// The one for a request with these fields. Of several it is one that is still of use: a newer one, which may be for
    /// more requests, does not hide an older one for longer than it lasts itself.
    pub(super) fn for_request(
        self,
        sent: &Forwarded,
        is_of_use: impl Fn(&Entry) -> bool,
    ) -> Option<Arc<Entry>> {
        let admits = |entry: &Arc<Entry>| entry.selection.admits(sent);
        match self {
            Self::One(entry) => Some(entry).filter(admits),
            Self::Several(entries) => {
                let mut those = entries.iter();
                those.find(|one| is_of_use(one) && admits(one)).cloned()
            }
        }
    }

    /// Memory that they take.
    pub(super) fn weight(&self, key: &PageKey) -> usize {
        let key = key.list.as_str().len() + key.extra.as_ref().map_or(0, |extra| extra.len());
        self.iter().map(|entry| key + entry.size()).sum()
    }
}

impl Deref for Kept {
    type Target = [Arc<Entry>];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(entry) => slice::from_ref(entry),
            Self::Several(entries) => entries,
        }
    }
}

impl FromIterator<Arc<Entry>> for Kept {
    fn from_iter<I: IntoIterator<Item = Arc<Entry>>>(entries: I) -> Self {
        let entries: Arc<[_]> = entries.into_iter().collect();
        match &*entries {
            [one] => Self::One(one.clone()),
            _ => Self::Several(entries),
        }
    }
}
