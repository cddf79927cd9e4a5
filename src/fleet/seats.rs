//! Who is there, and what a replica may do that hears nothing any more. Pure decisions: `now` is an argument.
//!
//! A replica says again and again that it is there (a beat), and has a seat in the store for [`LAPSE`] from when it *said* so.
//! Those without a seat have their part of the calls left free by the others. From that follows when a replica that is cut
//! off, perhaps alone, may begin to make its part:
//!
//! - Its seat lapses [`LAPSE`] after the latest beat that may have been recorded, answered or not. It says none unless an
//!   answer is younger than [`SIGHT`], and by the store's time at the earliest that it can be: so the seat lapses no later
//!   than it thinks, however late the beat arrives.
//! - The others know it [`SIGHT`] later at the latest: who has not been told for longer who is there is not let go. The store
//!   sees to that too, for a question that arrives late.
//! - From then on they leave its part free. What they have spent until then it knows only up to its latest answer, which is
//!   no longer ago than [`GAP`]. The rest counts as much as it can be: see [`Part`].
//! - None of that is so where the store's machine refuses a new connection right after the old one ended: then the store has
//!   died for all, and each makes its part at once.
//! - When it is back, calls that it made alone are told first, and only then has it a seat again.
//!
//! Whoever starts again in the place of one that died has its seat: see `place`. That is exact as long as no more replicas are there than when it was cut off, for as long as a seat is remembered
//! ([`KEPT`] windows). Whoever has no answer for longer counts as gone: the others take its part, and if it is there all the
//! same, what it spends is to them what a stranger spends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often a replica says that it is there, while there are not very many.
pub(super) const BEAT: Duration = Duration::from_millis(500);
/// The store hears no more than this a second: of very many replicas each says so less often.
pub(super) const BEATS: u32 = 1_000;
/// So many beats after it was said a seat lapses.
pub(super) const LAPSE: u32 = 6;
/// What was heard so many beats ago says nothing any more of who is there.
const SIGHT: u32 = 2;
/// From the latest that a replica heard of the others until it makes its part, at most, in beats: its seat is said for the
/// last time, lapses, and that is known.
const GAP: u32 = SIGHT + LAPSE + SIGHT;
/// Clocks that go at different speeds, and what is cut off by counting milliseconds.
const DRIFT: Duration = Duration::from_millis(100);
/// So many windows after it lapsed a seat is forgotten.
pub(super) const KEPT: u32 = 10;

/// What a replica may spend of an account without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It was never one of them, and nobody leaves anything free for it: it goes by what is configured.
    Unknown,
    /// As one of so many, at once: the store is away for all of them.
    Each {
        /// How many there were.
        replicas: u32,
    },
    /// As one of so many.
    Of {
        /// How many there were.
        replicas: u32,
        /// It makes no call before: only then the others are sure to leave its part free.
        from: Instant,
        /// Until then the others' calls are known; nothing where it is not known for sure since when not.
        heard: Option<Instant>,
        /// Whether the store may have died for all: the first attempt to connect again is to tell.
        unsure: bool,
    },
    /// Nothing: the others were told that it leaves, or do not know of it yet.
    Nothing,
}

/// The seats, as one replica knows them.
#[derive(Debug, Default)]
pub(super) struct Seats {
    /// With those that were here of late.
    size: u32,
    /// Without.
    here: u32,
    /// When the latest beat was said that was answered.
    heard: Option<Instant>,
    /// The same over the connection that there is.
    told: Option<Instant>,
    /// When this replica's seat has lapsed, and everybody who is let go knows that; nothing: it never had one.
    lapsed: Option<Instant>,
    left: bool,
    /// Since the latest connection another attempt came to nothing.
    tried: bool,
    /// Nobody has the store any more.
    gone: bool,
    /// Accounts of which the store may not have been told all calls, and when the latest may have gone.
    untold: HashMap<String, Instant>,
}

/// How often each of so many says that it is there.
pub(super) fn beat_of(replicas: u32) -> Duration {
    let most = BEAT.as_secs_f64() * f64::from(BEATS);
    BEAT.mul_f64((f64::from(replicas) / most).max(1.0))
}

/// From the latest that a replica heard of the others until it makes its part, at most.
pub fn gap_of(replicas: u32) -> Duration {
    beat_of(replicas) * GAP + DRIFT
}

impl Seats {
    /// With those that were here of late, this one included.
    pub(super) fn size(&self) -> u32 {
        self.size.max(1)
    }

    /// Those that are here.
    pub(super) fn here(&self) -> u32 {
        self.here
    }

    /// Whether the store ever told.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.is_some()
    }

    pub(super) fn beat(&self) -> Duration {
        beat_of(self.size())
    }

    /// Until then it is known who is there.
    pub(super) fn sight(&self) -> Option<Instant> {
        self.told.map(|told| told + self.beat() * SIGHT)
    }

    /// A new connection: nothing was heard over it.
    pub(super) fn connected(&mut self) {
        (self.told, self.tried, self.gone) = (None, false, false);
    }

    /// An attempt to connect came to nothing.
    pub(super) fn tried(&mut self) {
        self.tried = true;
    }

    /// The machine of the store says that nothing listens there. Tells whether that is news: nobody else has a store then,
    /// unless it was heard for the last time so long ago that others may have had it meanwhile.
    pub(super) fn is_refused(&mut self, now: Instant) -> bool {
        let heard = self.sight().is_some_and(|sight| now <= sight);
        heard && !std::mem::replace(&mut self.gone, true)
    }

    /// This replica leaves.
    pub(super) fn leaves(&mut self) {
        self.left = true;
    }

    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// A beat is said. Tells whether it asks for a seat; else it only asks who is there. `window`: for so long a call counts.
    pub(super) fn says(&mut self, now: Instant, window: Duration) -> bool {
        self.untold
            .retain(|_, at| now.saturating_duration_since(*at) < window);
        // Who hears nothing asks until it does: what it says may be recorded, or not.
        let hears = self.sight().is_some_and(|sight| now <= sight);
        let sits = hears && !self.left && self.untold.is_empty();
        if sits {
            let beat = self.beat();
            self.lapsed = self.lapsed.max(Some(now + beat * (LAPSE + SIGHT) + DRIFT));
        }
        sits
    }

    /// A beat that was said then was answered.
    pub(super) fn told(&mut self, said: Instant, size: u32, here: u32) {
        (self.size, self.here) = (size, here);
        (self.heard, self.told) = (Some(said), Some(said));
    }

    /// What this replica may make alone. If that is something, the store is to be told before it has a seat again.
    pub(super) fn part(&mut self, account: &str, now: Instant) -> Part {
        let part = match (self.left, self.lapsed) {
            (true, _) => Part::Nothing,
            (_, Some(_)) if self.gone => Part::Each {
                replicas: self.size(),
            },
            (_, Some(from)) => Part::Of {
                replicas: self.size(),
                from,
                heard: self.told,
                unsure: !self.tried,
            },
            (_, None) if self.here > 0 => Part::Nothing,
            (_, None) => Part::Unknown,
        };
        let may_go = match part {
            Part::Unknown | Part::Each { .. } => true,
            Part::Of { from, .. } => from <= now,
            Part::Nothing => false,
        };
        if may_go {
            self.has_to_tell(account, now);
        }
        part
    }

    /// The store may not know all of an account.
    pub(super) fn has_to_tell(&mut self, account: &str, now: Instant) {
        self.untold.insert(account.to_owned(), now);
    }

    /// The store knows of all calls of an account.
    pub(super) fn has_told(&mut self, account: &str) {
        self.untold.remove(account);
    }

    /// The accounts of which the store may not have been told all.
    pub(super) fn untold(&self) -> Vec<String> {
        self.untold.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const WINDOW: Duration = Duration::from_secs(61);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One of three replicas, that was told so at this moment.
    fn seated() -> (Seats, Instant) {
        let now = Clock::by_hand().0.now();
        let mut seats = Seats::default();
        assert!(!seats.says(now, WINDOW), "the store's time is not known");
        seats.told(now, 3, 2);
        assert!(seats.says(now, WINDOW));
        seats.told(now, 3, 3);
        (seats, now)
    }

    fn part(seats: &mut Seats, now: Instant) -> (u32, Instant) {
        match seats.part("a", now) {
            Part::Of { replicas, from, .. } => (replicas, from),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_part_begins_when_the_seat_has_lapsed_and_everybody_knows() {
        let (mut seats, now) = seated();
        assert_eq!(part(&mut seats, now), (3, now + millis(4_100)));
        // Whether it is answered or not.
        assert!(seats.says(now + millis(700), WINDOW));
        assert_eq!(part(&mut seats, now).1, now + millis(4_800));
        assert!(!seats.says(now + millis(1_001), WINDOW), "it only asks");
        assert_eq!(part(&mut seats, now).1, now + millis(4_800));
        assert!(now + millis(4_800) <= now + gap_of(3));
    }

    #[test]
    fn whoever_is_refused_right_after_the_end_knows_that_the_store_is_away_for_all() {
        let (mut seats, now) = seated();
        assert!(seats.is_refused(now + millis(1_000)));
        assert!(!seats.is_refused(now + millis(1_000)), "it is known");
        assert_eq!(seats.part("a", now), Part::Each { replicas: 3 });
        assert_eq!(seats.untold(), ["a"]);
        seats.connected();
        assert_eq!(part(&mut seats, now).1, now + millis(4_100));
        // Others may have heard of the store since, and of this one's absence not yet.
        let (mut seats, now) = seated();
        assert!(!seats.is_refused(now + millis(1_001)));
        assert_eq!(part(&mut seats, now).1, now + millis(4_100));
    }

    #[test]
    fn whether_the_store_has_died_for_all_is_not_known_before_the_first_attempt_to_connect() {
        let (mut seats, now) = seated();
        let unsure = |seats: &mut Seats| {
            let part = seats.part("a", now);
            matches!(part, Part::Of { unsure: true, .. })
        };
        assert!(unsure(&mut seats));
        seats.tried();
        assert!(!unsure(&mut seats));
        seats.connected();
        assert!(unsure(&mut seats));
    }

    #[test]
    fn a_seat_is_had_again_once_the_store_knows_what_went_alone() {
        let (mut seats, now) = seated();
        let later = now + millis(10_000);
        part(&mut seats, later);
        seats.connected();
        seats.told(later, 3, 2);
        assert!(!seats.says(later, WINDOW));
        assert_eq!(seats.untold(), ["a"]);
        seats.has_told("a");
        assert!(seats.says(later, WINDOW));
        assert_eq!(part(&mut seats, later).1, later + millis(4_100));
        // Nothing went, so there is nothing to tell.
        assert!(seats.untold().is_empty());
    }

    #[test]
    fn what_nobody_tells_is_of_no_matter_a_window_later() {
        let (mut seats, now) = seated();
        let later = now + millis(10_000);
        part(&mut seats, later);
        for (after, sits) in [(60_999, false), (61_000, true)] {
            let then = later + millis(after);
            seats.told(then, 3, 2);
            assert_eq!(seats.says(then, WINDOW), sits, "{after}");
        }
    }

    #[test]
    fn whoever_was_never_there_or_has_left_has_no_part() {
        let now = Clock::by_hand().0.now();
        let mut seats = Seats::default();
        assert_eq!(seats.part("a", now), Part::Unknown);
        seats.told(now, 3, 2);
        assert_eq!(seats.part("a", now), Part::Nothing, "two do not know of it");
        let (mut seats, now) = seated();
        seats.leaves();
        assert!(!seats.says(now, WINDOW));
        assert_eq!(seats.part("a", now + millis(60_000)), Part::Nothing);
    }

    #[test]
    fn of_very_many_each_says_so_more_seldom() {
        for (replicas, beat, gap) in [(1, 500, 5_100), (500, 500, 5_100), (1_000, 1_000, 10_100)] {
            assert_eq!(beat_of(replicas), millis(beat));
            assert_eq!(gap_of(replicas), millis(gap));
        }
    }
}
