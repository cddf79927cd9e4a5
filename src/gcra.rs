//! So many a minute, evenly: the generic cell rate algorithm, with `now` as an argument.
//!
//! A quota counts nothing by the minute. It knows one moment: when it will be whole again. Each one that is taken
//! moves that moment on by an interval, and it may not lie further ahead than the burst is worth. So there is no edge
//! of a window at which twice the burst would pass, and how long to wait is known exactly.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// So many a minute, and ten seconds' worth of them at once.
#[derive(Debug)]
pub struct Quota {
    /// Nanoseconds for each one.
    interval: u64,
    /// How many at once.
    burst: u32,
    start: Instant,
    /// When the quota is whole again, in nanoseconds since `start`.
    whole_at: AtomicU64,
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How many may be taken at once.
    pub now: u32,
    /// In how long it is one more; zero where it cannot be more.
    pub more_in: Duration,
}

/// Nothing is left. Whoever comes back after exactly this long gets one, unless somebody else was faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl Quota {
    /// A whole quota. Times before `start` count as `start`.
    pub fn new(per_minute: NonZeroU32, start: Instant) -> Self {
        Self {
            // Rounded up: never more than was promised.
            interval: A_MINUTE.div_ceil(u64::from(per_minute.get())),
            burst: (per_minute.get() / 6).max(1),
            start,
            whole_at: AtomicU64::new(0),
        }
    }

    /// A quota of another size, of which as many are taken as are taken of this one: all of it, if those are more.
    pub fn resized(&self, per_minute: NonZeroU32, now: Instant) -> Self {
        let resized = Self::new(per_minute, now);
        let taken = self
            .whole_at
            .load(Relaxed)
            .saturating_sub(self.since_start(now));
        let taken = u128::from(taken) * u128::from(resized.interval) / u128::from(self.interval);
        let taken = u64::try_from(taken)
            .unwrap_or(u64::MAX)
            .min(resized.ahead());
        resized.whole_at.store(taken, Relaxed);
        resized
    }

    /// Takes one, if there is one. It costs nothing to be refused.
    ///
    /// # Errors
    /// There is none: how long to wait for one.
    pub fn take(&self, now: Instant) -> Result<Left, Wait> {
        let now = self.since_start(now);
        let mut whole_at = self.whole_at.load(Relaxed);
        loop {
            let then = whole_at.max(now) + self.interval;
            let latest = now + self.ahead();
            if then > latest {
                return Err(Wait(Duration::from_nanos(then - latest)));
            }
            // Nothing else is published with it, so the order of other memory does not matter.
            match self
                .whole_at
                .compare_exchange_weak(whole_at, then, Relaxed, Relaxed)
            {
                Ok(_) => return Ok(self.left_at(then, now)),
                Err(meanwhile) => whole_at = meanwhile,
            }
        }
    }

    /// What is left, without taking any.
    pub fn left(&self, now: Instant) -> Left {
        self.left_at(self.whole_at.load(Relaxed), self.since_start(now))
    }

    fn left_at(&self, whole_at: u64, now: u64) -> Left {
        let taken = whole_at.saturating_sub(now);
        // Of two threads the one with the earlier `now` may see more taken than there was for it.
        let left = self.ahead().saturating_sub(taken);
        let whole = left / self.interval;
        let more_in = match taken {
            0 => 0,
            taken => taken - (self.ahead() - (whole + 1) * self.interval),
        };
        Left {
            // No more than the burst, which is of this type.
            now: u32::try_from(whole).unwrap_or(self.burst),
            more_in: Duration::from_nanos(more_in),
        }
    }

    /// How far ahead of now the quota may be whole again, in nanoseconds.
    fn ahead(&self) -> u64 {
        u64::from(self.burst) * self.interval
    }

    fn since_start(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start).as_nanos();
        // Enough for 290 years, and room to add to it.
        u64::try_from(since)
            .unwrap_or(u64::MAX / 2)
            .min(u64::MAX / 2)
    }
}

const A_MINUTE: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn quota(per_minute: u32) -> (Quota, Instant) {
        let start = Instant::now();
        let per_minute = NonZeroU32::new(per_minute).unwrap();
        (Quota::new(per_minute, start), start)
    }

    /// How many are to be had at once.
    fn drain(quota: &Quota, now: Instant) -> u32 {
        (0..).take_while(|_| quota.take(now).is_ok()).count() as u32
    }

    #[test]
    fn a_burst_is_ten_seconds_worth_and_at_least_one() {
        for (per_minute, burst) in [
            (1, 1),
            (5, 1),
            (6, 1),
            (11, 1),
            (12, 2),
            (60, 10),
            (6000, 1000),
        ] {
            let (quota, start) = quota(per_minute);
            assert_eq!(drain(&quota, start), burst, "of {per_minute} a minute");
        }
    }

    #[test]
    fn no_moment_lets_two_bursts_through() {
        let (quota, start) = quota(60);
        for second in [59, 60, 61] {
            let taken = drain(&quota, start + Duration::from_secs(second));
            assert_eq!(taken, if second == 59 { 10 } else { 1 }, "at {second}s");
        }
    }

    #[test]
    fn what_is_left_and_when_there_is_more_is_exact() {
        let (quota, start) = quota(60);
        let left = |now, more_in| Left {
            now,
            more_in: Duration::from_millis(more_in),
        };
        assert_eq!(quota.left(start), left(10, 0), "whole");
        assert_eq!(quota.take(start), Ok(left(9, 1000)));
        assert_eq!(quota.take(start), Ok(left(8, 1000)));
        let later = start + Duration::from_millis(700);
        assert_eq!(quota.left(later), left(8, 300));
        assert_eq!(drain(&quota, later), 8);
        assert_eq!(quota.left(later), left(0, 300));
        assert_eq!(quota.take(later), Err(Wait(Duration::from_millis(300))));
        assert_eq!(quota.left(start + Duration::from_secs(60)), left(10, 0));
    }

    #[test]
    fn a_resized_quota_is_taken_as_far_as_it_was() {
        for (from, taken, to, left) in [
            (60, 0, 600, 100),
            (60, 4, 600, 96),
            (60, 10, 120, 10),
            (600, 30, 60, 0),
            (600, 4, 60, 6),
            (60, 3, 60, 7),
        ] {
            let (quota, start) = quota(from);
            let later = start + Duration::from_secs(3600);
            for _ in 0..taken {
                quota.take(later).unwrap();
            }
            let to = NonZeroU32::new(to).unwrap();
            assert_eq!(
                drain(&quota.resized(to, later), later),
                left,
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn threads_share_one_quota() {
        let (quota, start) = quota(6000);
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| quota.take(start).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(taken, 1000);
    }

    proptest! {
        /// In any stretch of time, not only in those that begin with a minute.
        #[test]
        fn never_more_than_the_rate_and_a_burst(
            per_minute in 1..20_000_u32,
            gaps in prop::collection::vec(prop_oneof![Just(0_u64), 0..20_000_000_000_u64], 1..200),
        ) {
            let (quota, start) = quota(per_minute);
            let mut now = start;
            let mut taken: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_nanos(gap);
                if quota.take(now).is_ok() {
                    taken.push(now);
                }
            }
            let burst = f64::from((per_minute / 6).max(1));
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let stretch = (*to - *from).as_secs_f64();
                    let most = stretch * f64::from(per_minute) / 60.0 + burst;
                    prop_assert!((j - i + 1) as f64 <= most + 1e-6, "{} in {stretch}s", j - i + 1);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_gets_one_and_who_waits_less_does_not(
            per_minute in 1..60_000_u32,
            gaps in prop::collection::vec(0..100_000_000_u64, 0..50),
        ) {
            let (quota, start) = quota(per_minute);
            let mut now = start;
            for gap in gaps {
                now += Duration::from_nanos(gap);
                let _ = quota.take(now);
            }
            let wait = loop {
                match quota.take(now) {
                    Ok(left) if left.now == 0 => {
                        let Err(Wait(wait)) = quota.take(now) else {
                            return Err(TestCaseError::fail("one more than was left"));
                        };
                        prop_assert_eq!(left.more_in, wait, "both say the same");
                        break wait;
                    }
                    // Nothing more than the burst, so this ends.
                    Ok(_) => {}
                    Err(Wait(wait)) => break wait,
                }
            };
            prop_assert!(!wait.is_zero());
            prop_assert!(quota.take(now + wait - Duration::from_nanos(1)).is_err());
            prop_assert!(quota.take(now + wait).is_ok());
        }
    }
}
