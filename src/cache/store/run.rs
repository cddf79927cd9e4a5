//! Pages that follow one another in a list, kept as one: a run.
//!
//! Hides where in its run a page is. What moka and the shelves know of something takes 570 bytes, twice what a page takes beyond
//! its texts and its body; the pages of a run share them. So pages that are next to one another go together where memory
//! is short, as they mostly came.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use equivalent::Equivalent;

use super::entry::Entry;
use crate::contacts::{ListKey, PageKey};

/// Pages of a run; with further ones for other callers' fields there may be more. With what counts its holders a whole run takes 384
/// bytes, which is what an allocator hands out.
const LENGTH: u64 = 23;
/// Contacts of a page, where its caller names no limit.
const USUAL: u64 = 50;

/// What one run costs beyond its pages and the texts of its key, measured as an [`Entry`]'s own: moka's key and values, its places in
/// the order of use and in the wheel of times, and what holds these together, 420; the key on the list's shelf; and the list's share
/// of the shelves, where it has one run.
const OVERHEAD: u64 = 570;

/// What identifies a run: the key of its first page.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RunKey(PageKey);

impl RunKey {
    pub(super) fn list(&self) -> &ListKey {
        &self.0.list
    }

    /// Where its first page is, and with it the run.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            key: &self.0,
            first: self.0.skip,
            nth: 0,
        }
    }

    /// How many bytes its texts take.
    pub(super) fn size(&self) -> usize {
        self.0.list.as_str().len() + self.0.extra.as_ref().map_or(0, |extra| extra.len())
    }
}

impl Hash for RunKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl fmt::Debug for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a page is kept: in which run, and where in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    key: &'a PageKey,
    /// Contacts that the run's first page passes over.
    first: u64,
    /// Among the pages of the run.
    pub(super) nth: u8,
}

impl<'a> Place<'a> {
    pub(super) fn of(key: &'a PageKey) -> Self {
        let width = key.limit.map_or(USUAL, NonZeroU64::get);
        let nth = key.skip / width % LENGTH;
        Self {
            key,
            first: key.skip - nth * width,
            nth: nth as u8,
        }
    }

    /// The key of the run, for a page of this list: the same, which others may have too.
    pub(super) fn run(self, list: &ListKey) -> RunKey {
        RunKey(PageKey {
            list: list.clone(),
            skip: self.first,
            ..self.key.clone()
        })
    }
}

/// What tells a run from others: all of its first page's key.
fn parts(key: &PageKey, first: u64) -> impl Hash + PartialEq {
    let PageKey {
        list,
        api,
        skip: _,
        limit,
        extra,
    } = key;
    (first, api, limit, list, extra)
}

/// Of the run alone, so that a page's run is found without a key being made for it.
impl Hash for Place<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        parts(self.key, self.first).hash(state);
    }
}

impl Equivalent<RunKey> for Place<'_> {
    fn equivalent(&self, RunKey(other): &RunKey) -> bool {
        parts(self.key, self.first) == parts(other, other.skip)
    }
}

/// The pages of a run that are in memory, the one that came last first. It never changes: another one takes its place.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pages: Arc<[Kept]>,
    /// No page of it is past its time before.
    soonest: Option<Instant>,
    /// All are from then on.
    latest: Option<Instant>,
}

/// A page of a run.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) entry: Arc<Entry>,
    /// Memory that it takes: not asked of the page, which the processor would have to wait for.
    bytes: u32,
    /// Which.
    pub(super) nth: u8,
}

impl Kept {
    pub(super) fn new(nth: u8, entry: Arc<Entry>) -> Self {
        Self {
            bytes: u32::try_from(entry.size()).unwrap_or(u32::MAX),
            entry,
            nth,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.into()
    }
}

impl Run {
    /// A run of these pages. `end` says from when on a page is past its time.
    pub(super) fn of(pages: Vec<Kept>, end: impl Fn(&Entry) -> Instant) -> Self {
        let ends = || pages.iter().map(|kept| end(&kept.entry));
        let (soonest, latest) = (ends().min(), ends().max());
        Self {
            soonest,
            latest,
            pages: pages.into(),
        }
    }

    /// These pages, all of this run but for one, which is past its time from `end` on.
    pub(super) fn with(&self, pages: Vec<Kept>, end: Instant) -> Self {
        Self {
            pages: pages.into(),
            soonest: self.soonest.min(Some(end)),
            latest: self.latest.max(Some(end)),
        }
    }

    /// Those of one place in it.
    pub(super) fn at(&self, nth: u8) -> impl Iterator<Item = &Arc<Entry>> + Clone {
        let those = self.pages.iter().filter(move |kept| kept.nth == nth);
        those.map(|kept| &kept.entry)
    }

    /// Whether none of it may be past its time yet.
    pub(super) fn is_whole(&self, now: Instant) -> bool {
        self.soonest.is_some_and(|soonest| now < soonest)
    }

    /// For how much longer there is something of use in it.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        let latest = self.latest.unwrap_or(now);
        latest.saturating_duration_since(now)
    }

    /// Memory that they take.
    pub(super) fn size(&self) -> u64 {
        OVERHEAD + self.iter().map(Kept::bytes).sum::<u64>()
    }
}

impl Deref for Run {
    type Target = [Kept];

    fn deref(&self) -> &[Kept] {
        &self.pages
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::test_pages::{self, cases};
    use crate::contacts::{Api, Forwarded};
    use crate::upstream::allowance::Debt;

    fn page(skip: u64, limit: Option<u64>) -> PageKey {
        PageKey {
            skip,
            limit: limit.and_then(NonZeroU64::new),
            ..test_pages::key("cl-1")
        }
    }

    fn run(key: &PageKey) -> RunKey {
        Place::of(key).run(&key.list)
    }

    #[test]
    fn pages_are_of_one_run_that_follow_one_another() {
        for (limit, width) in [(None, USUAL), (Some(50), 50), (Some(7), 7), (Some(1), 1)] {
            let first = run(&page(0, limit));
            for nth in 0..LENGTH {
                let key = page(nth * width, limit);
                assert_eq!(run(&key), first, "{key:?}");
                assert_eq!(Place::of(&key).nth, nth as u8);
            }
            assert_ne!(run(&page(LENGTH * width, limit)), first);
            let next = page(LENGTH * width, limit);
            assert_eq!(run(&page((2 * LENGTH - 1) * width, limit)), run(&next));
        }
        let one = page(0, Some(50));
        for other in [
            page(1, Some(50)),
            page(0, Some(49)),
            page(0, None),
            PageKey {
                api: Api::V2,
                ..one.clone()
            },
            PageKey {
                extra: Some("a=1".into()),
                ..one.clone()
            },
            test_pages::key("cl-2"),
        ] {
            assert_ne!(run(&other), run(&one), "{other:?}");
        }
    }

    #[test]
    fn a_run_lasts_as_long_as_the_last_of_its_pages_and_is_whole_until_the_first_ends() {
        let page = test_pages::page("x", &[]);
        let (now, sent) = (page.received_at, Forwarded::default());
        let debt = Debt::default();
        let entry = Entry::of(&page, &sent, false, &test_pages::rules(), debt).unwrap();
        let kept = Kept::new(0, Arc::new(entry));
        let second = Duration::from_secs(1);
        let pages = |number| vec![kept.clone(); number];
        for (first, second) in [(second, 5 * second), (5 * second, second)] {
            let run = Run::of(pages(1), |_| now + first);
            let both = run.with(pages(2), now + second);
            let (soonest, latest) = (first.min(second), first.max(second));
            assert_eq!((run.lasts(now), both.lasts(now)), (first, latest));
            assert!(both.is_whole(now + soonest - Duration::from_nanos(1)));
            assert!(!both.is_whole(now + soonest));
            assert_eq!(both.lasts(now + latest), Duration::ZERO);
        }
    }

    proptest! {
        #![proptest_config(cases(256, "tests/regressions/run.txt"))]

        #[test]
        fn each_page_has_a_place_of_its_own_and_is_found_there(
            skip in prop_oneof![0..3_000_u64, any::<u64>()],
            other in 0..3_000_u64,
            limit in prop_oneof![Just(None), (1..60_u64).prop_map(Some), any::<u64>().prop_map(Some)],
        ) {
            let (one, other) = (page(skip, limit), page(other, limit));
            let (place, others) = (Place::of(&one), Place::of(&other));
            prop_assert!(u64::from(place.nth) < LENGTH);
            let hasher = foldhash::quality::RandomState::default();
            let same = run(&one) == run(&other);
            prop_assert_eq!(place.equivalent(&run(&other)), same);
            if same {
                prop_assert_eq!(hasher.hash_one(place), hasher.hash_one(run(&other)));
                prop_assert_eq!(place.nth == others.nth, one == other);
            }
            let first = run(&one);
            prop_assert_eq!(hasher.hash_one(place), hasher.hash_one(first.place()));
            prop_assert!(first.place().equivalent(&first));
        }
    }
}
