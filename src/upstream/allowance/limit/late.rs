//! From when a call counts: the vendor counts it when it gets there, which may be long after it was let go, where a name had to be
//! looked up and a connection to be made for it. Then the window ends later too.

use std::time::Instant;

use super::{Call, Limit, Sent};

impl Limit {
    /// A call counts from then, unless it counts from a later moment already. Not to be told of a moment that is yet to come.
    pub fn counts_from(&mut self, call: Call, from: Instant) {
        let place = self.place_of(call);
        let before = place.map_or(call.at, |place| self.log[place].at);
        if from <= before {
            return;
        }
        let behind = self.log.partition_point(|other| other.at <= from);
        match place {
            Some(place) => {
                let sent = &mut self.log[place];
                (sent.at, sent.guess) = (from, None);
                (place + 1..behind).for_each(|n| self.log.swap(n - 1, n));
            }
            // One that was out for longer than a window has left the log.
            None => {
                let sent = Sent {
                    at: from,
                    call: Some(call),
                    name: None,
                    guess: None,
                };
                self.log.insert(behind, sent);
            }
        }
        if let Some(place) = self.hour.iter().rposition(|at| *at == before) {
            self.hour.remove(place);
            let place = self.hour.partition_point(|at| *at <= from);
            self.hour.insert(place, from);
        }
    }

    /// Where a call stands in the log.
    pub(super) fn place_of(&self, call: Call) -> Option<usize> {
        // Not before it went: whatever is known better of when it counts from is later.
        let from = self.log.partition_point(|sent| sent.at < call.at);
        let mut behind = self.log.range(from..);
        let place = behind.position(|sent| sent.call == Some(call))?;
        Some(from + place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::tests::{seconds, settings};
    use super::super::{HOUR, Kind, Outcome};
    use super::*;
    use crate::clock::Clock;
    use crate::upstream::allowance::Settings;

    /// An account that nobody called for a while.
    fn idle(settings: Settings) -> (Limit, Instant) {
        let start = Clock::by_hand().0.now() + seconds(100_000.0);
        (Limit::new(settings, start), start + seconds(1_000.0))
    }

    fn all_at_once(limit: &mut Limit, now: Instant) -> Vec<Call> {
        (0..59).map(|_| limit.send(Kind::Miss, now)).collect()
    }

    fn is_in_order(limit: &Limit) -> bool {
        limit.log.iter().is_sorted_by_key(|sent| sent.at) && limit.hour.iter().is_sorted()
    }

    #[test]
    fn calls_that_come_late_and_those_after_them_are_never_too_many_where_they_arrive() {
        let mut dice = 59_u64;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Duration::from_millis((dice >> 33) % sides)
        };
        let (mut limit, start) = idle(settings());
        let (mut now, mut arrived) = (start, Vec::new());
        // When each is over, and when it came to the vendor.
        let mut under_way: Vec<(Instant, Call, Instant)> = Vec::new();
        while now < start + seconds(600.0) {
            under_way.sort_unstable_by_key(|(over, ..)| *over);
            let due = limit.slot(Kind::Miss, now).unwrap();
            match under_way.first().copied() {
                Some((over, call, arrives)) if over <= due => {
                    now = over;
                    under_way.remove(0);
                    limit.counts_from(call, arrives);
                    limit.ended(call, Outcome::Answered, now);
                    arrived.push(arrives);
                }
                _ => {
                    now = due;
                    let call = limit.send(Kind::Miss, now);
                    // Most find a connection; the others have to make one.
                    let late = if roll(3).is_zero() { 10_000 } else { 1 };
                    let arrives = now + roll(late);
                    under_way.push((arrives + roll(10_000), call, arrives));
                }
            }
            assert!(is_in_order(&limit));
        }
        arrived.sort_unstable();
        assert!(arrived.len() > 59 * 8, "{}", arrived.len());
        for calls in arrived.windows(60) {
            assert!(calls[59] - calls[0] >= seconds(61.0));
        }
    }

    #[test]
    fn the_window_and_the_hour_go_by_the_moment_that_is_told_and_by_none_before() {
        let hourly = Settings {
            hourly: 59,
            ..settings()
        };
        for (settings, for_) in [(settings(), seconds(61.0)), (hourly, HOUR)] {
            let (mut limit, now) = idle(settings);
            let calls = all_at_once(&mut limit, now);
            let (later, latest) = (now + seconds(2.0), now + seconds(3.0));
            for call in &calls {
                limit.counts_from(*call, latest);
                limit.counts_from(*call, later);
                limit.counts_from(*call, now - seconds(1.0));
            }
            let end = now + seconds(10.0);
            assert_eq!(limit.in_window(end), 59);
            assert_eq!(limit.slot(Kind::Miss, end), Some(latest + for_));
            assert!(is_in_order(&limit));
        }
    }

    #[test]
    fn a_call_that_came_late_is_the_same_call() {
        let (mut limit, now) = idle(settings());
        let calls = all_at_once(&mut limit, now);
        limit.name_latest("a.1".into());
        let later = now + seconds(2.0);
        limit.counts_from(calls[58], later);
        limit.mirror(&"a.1".into(), later - seconds(1.0));
        assert_eq!(limit.in_window(later), 59, "it has its name");
        limit.mirror(&"a.1".into(), later + seconds(1.0));
        limit.counts_from(calls[58], later);
        assert_eq!(limit.in_window(now + seconds(61.0)), 1);
        assert_eq!(limit.in_window(later + seconds(61.0)), 1, "as it was heard");
        limit.give_back(calls[58]);
        assert_eq!(limit.in_window(now + seconds(60.0)), 58);
    }

    #[test]
    fn a_call_that_was_out_for_longer_than_a_window_counts_again() {
        let (mut limit, now) = idle(settings());
        let calls = all_at_once(&mut limit, now);
        let later = now + seconds(100.0);
        limit.send(Kind::Miss, later);
        limit.counts_from(calls[0], later - seconds(10.0));
        assert_eq!(limit.in_window(later), 2);
        assert!(is_in_order(&limit));
    }

    #[test]
    fn what_the_others_knew_of_counts_once_however_late_it_came() {
        let (mut limit, now) = idle(settings());
        let calls = all_at_once(&mut limit, now);
        limit.go_alone(3, now + seconds(1.0), None, now + seconds(1.0));
        for call in calls {
            limit.counts_from(call, now + seconds(2.0));
        }
        assert_eq!(limit.in_window(now + seconds(3.0)), 59);
    }
}
