//! Hides how many events of a kind are written, and how those that are not are counted.
//!
//! Nothing here waits: who has an event to write finds its kind and has its answer by a few atomic operations.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tracing::Metadata;

/// Of a kind, this many are written ...
const MOST: usize = 10;
/// ... in any stretch this long.
pub(super) const STRETCH: Duration = Duration::from_secs(1);
/// More kinds than the code can make: a place in it that logs, with each of the names of problems.
const KINDS: usize = 256;

/// Events of one kind: what they have in common, and how many there were of late.
#[derive(Debug)]
pub(super) struct Kind {
    /// The place in the code that they come from.
    pub(super) meta: &'static Metadata<'static>,
    /// The problem that they tell of, or nothing.
    pub(super) problem: Box<str>,
    /// What the first of them said.
    pub(super) message: Box<str>,
    recent: Recent,
}

/// Every kind that there was. A kind is never forgotten: there are few.
#[derive(Debug)]
pub(super) struct Kinds {
    hasher: RandomState,
    /// A table with open addressing.
    table: Box<[OnceLock<Kind>]>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            table: (0..KINDS).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl Kinds {
    /// Whether an event is to be written, `now` being the time since the start. If so: how many of its kind were not, since
    /// the latest that was.
    pub(super) fn admit(
        &self,
        meta: &'static Metadata<'static>,
        problem: &str,
        message: impl FnOnce() -> String,
        now: Duration,
    ) -> Option<u64> {
        match self.kind(meta, problem, message) {
            Some(kind) => kind.recent.admit(now),
            // What is not known cannot be counted, and what is not counted must not be lost.
            None => Some(0),
        }
    }

    /// The kinds of which nothing was written for [`STRETCH`], with how many were not.
    pub(super) fn over(&self, now: Duration) -> impl Iterator<Item = (&Kind, u64)> {
        let kinds = self.table.iter().filter_map(OnceLock::get);
        kinds.filter_map(move |kind| Some((kind, kind.recent.over(now)?)))
    }

    /// Whether there is one of which some were not written.
    pub(super) fn owe(&self) -> bool {
        let mut kinds = self.table.iter().filter_map(OnceLock::get);
        kinds.any(|kind| kind.recent.suppressed.load(Relaxed) > 0)
    }

    fn kind(
        &self,
        meta: &'static Metadata<'static>,
        problem: &str,
        message: impl FnOnce() -> String,
    ) -> Option<&Kind> {
        let hash = self.hasher.hash_one((meta.callsite(), problem)) as usize;
        let mut message = Some(message);
        (0..KINDS).find_map(|step| {
            let kind = self.table[(hash.wrapping_add(step)) % KINDS].get_or_init(|| Kind {
                meta,
                problem: problem.into(),
                message: message.take().map_or_else(String::new, |m| m()).into(),
                recent: Recent::default(),
            });
            (kind.meta.callsite() == meta.callsite() && *kind.problem == *problem).then_some(kind)
        })
    }
}

/// When the latest few were written, and how many were not since.
#[derive(Debug, Default)]
struct Recent {
    /// Milliseconds, one more than they are; 0: never. A ring, of which `oldest` counts the turns.
    written: [AtomicU64; MOST],
    oldest: AtomicUsize,
    suppressed: AtomicU64,
}

impl Recent {
    /// Where two come at once for the last place, one gets it; and while it is being taken, all others are refused.
    fn admit(&self, now: Duration) -> Option<u64> {
        let now = 1 + now.as_millis() as u64;
        let oldest = self.oldest.load(Relaxed);
        let place = &self.written[oldest % MOST];
        let then = place.load(Relaxed);
        let free = then == 0 || now.saturating_sub(then) >= STRETCH.as_millis() as u64;
        if free && place.compare_exchange(then, now, Relaxed, Relaxed).is_ok() {
            self.oldest.store(oldest.wrapping_add(1), Relaxed);
            Some(self.suppressed.swap(0, Relaxed))
        } else {
            self.suppressed.fetch_add(1, Relaxed);
            None
        }
    }

    fn over(&self, now: Duration) -> Option<u64> {
        let now = 1 + now.as_millis() as u64;
        let latest = self.written.iter().map(|at| at.load(Relaxed)).max();
        let quiet = now.saturating_sub(latest.unwrap_or(0)) >= STRETCH.as_millis() as u64;
        let suppressed = quiet.then(|| self.suppressed.swap(0, Relaxed));
        suppressed.filter(|n| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn ten_in_any_second_are_written_and_the_rest_are_counted() {
        let recent = Recent::default();
        for at in 0..9 {
            assert_eq!(recent.admit(ms(at * 10)), Some(0), "the {at}th");
        }
        assert_eq!(recent.admit(ms(900)), Some(0), "the tenth");
        for at in [900, 950, 999] {
            assert_eq!(recent.admit(ms(at)), None, "{at} ms");
        }
        assert_eq!(
            recent.admit(ms(1_000)),
            Some(3),
            "the first is a second ago"
        );
        assert_eq!(recent.admit(ms(1_009)), None, "the second is not yet");
        assert_eq!(recent.admit(ms(1_010)), Some(1));
        assert_eq!(recent.admit(ms(9_000)), Some(0));
    }

    #[test]
    fn what_was_not_written_is_told_once_it_is_quiet() {
        let recent = Recent::default();
        assert_eq!(recent.over(ms(0)), None);
        for _ in 0..25 {
            recent.admit(ms(500));
        }
        assert_eq!(
            recent.over(ms(1_499)),
            None,
            "one more could be written yet"
        );
        assert_eq!(recent.over(ms(1_500)), Some(15));
        assert_eq!(recent.over(ms(1_500)), None, "told");
        assert_eq!(recent.admit(ms(1_500)), Some(0));
    }

    #[test]
    fn none_is_lost_between_threads() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let recent = Recent::default();
        let written = AtomicU64::new(0);
        let told = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for n in 0..EACH {
                        if let Some(suppressed) = recent.admit(ms(n / 4)) {
                            written.fetch_add(1, Relaxed);
                            told.fetch_add(suppressed, Relaxed);
                        }
                    }
                });
            }
        });
        let rest = recent.over(ms(EACH)).unwrap_or(0);
        let written = written.into_inner();
        assert_eq!(written + told.into_inner() + rest, THREADS * EACH);
        assert!((1..=60).contains(&written), "{written} in five seconds");
    }

    #[test]
    fn kinds_are_told_apart_by_place_and_problem() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let place = |n| {
                let one = tracing::span!(tracing::Level::ERROR, "one");
                let other = tracing::span!(tracing::Level::ERROR, "other");
                [one.metadata().unwrap(), other.metadata().unwrap()][n]
            };
            let kinds = Kinds::default();
            let admit = |n, problem| kinds.admit(place(n), problem, String::new, ms(0)).is_some();
            for _ in 0..MOST {
                assert!(admit(0, "a") && admit(0, "b") && admit(1, "a"));
            }
            assert!(!admit(0, "a") && !admit(0, "b") && !admit(1, "a"));
            assert!(admit(1, "b"));
            let told: Vec<_> = kinds
                .over(ms(1_000))
                .map(|(kind, n)| (kind.meta.name(), &*kind.problem, n))
                .collect();
            assert_eq!(told.len(), 3, "{told:?}");
            assert!(told.contains(&("other", "a", 1)));
        });
    }

    #[test]
    fn more_kinds_than_there_is_room_for_are_all_written() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let span = tracing::span!(tracing::Level::ERROR, "one");
            let kinds = Kinds::default();
            for n in 0..KINDS + 20 {
                let problem = n.to_string();
                let written = kinds.admit(span.metadata().unwrap(), &problem, String::new, ms(0));
                assert_eq!(written, Some(0));
            }
        });
    }
}
