//! What is learnt of how a call ended: when to rest, for how long, and how much of the vendor's allowance is really ours.

use std::time::{Duration, Instant};

use super::{Call, Cause, Limit, Outcome, Pause};
use crate::upstream::refusal::Refusal;

/// How much of the limit is left after a refusal.
const SHRINK: f64 = 0.9;
/// However few calls were ours when a refusal came, the limit does not fall below this part of itself: after a lull the
/// count says little.
const TRUST: f64 = 0.8;
/// How much the limit grows in a window in which it was reached, far from the last refusal's level and near it.
const STEPS: (f64, f64) = (2.0, 0.5);
/// Near: within so many calls.
const NEAR: f64 = 3.0;
/// While we are careful the limit stays so many calls below what was refused: filling the window to the last call means
/// that a millisecond decides whether the other one's calls are refused, and nobody tells us of those.
const LEFT_TO_OTHERS: f64 = 1.0;
/// The rest after failures.
const REST: Duration = Duration::from_secs(10);
const FAILURES: u32 = 3;
/// A pause after an hourly refusal, and the longest that doubling makes of it.
const HOURLY_PAUSES: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(1_800));
/// The other pause is doubled twice and no more.
const LONGEST: u32 = 4;

impl Limit {
    /// A call ended.
    pub fn ended(&mut self, call: Call, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Answered => self.answered(call, now),
            Outcome::Refused(refusal) => self.refused(call, refusal, now),
            Outcome::Failed => self.failed(call, now),
            // The next call is the probe.
            Outcome::Lost if self.is_the_probe(call) => self.probing = false,
            Outcome::Lost => {}
        }
    }

    /// Whether it is for this call that no other goes.
    pub(super) fn is_the_probe(&self, call: Call) -> bool {
        self.probing && call.probe == Some(self.pauses)
    }

    fn answered(&mut self, call: Call, now: Instant) {
        self.failures = 0;
        if self.is_the_probe(call) {
            (self.probing, self.pause, self.refused) = (false, None, None);
        }
        if now.duration_since(self.grown_at) < self.settings.window {
            return;
        }
        let (most, step) = if self.is_careful(now) {
            let most = self.limit.max(self.ceiling - LEFT_TO_OTHERS);
            let near = self.limit >= self.ceiling - NEAR;
            (most, if near { STEPS.1 } else { STEPS.0 })
        } else {
            self.ceiling = f64::from(self.settings.calls.get());
            (self.ceiling, STEPS.0)
        };
        if self.reached {
            self.limit = most.min(self.limit + step);
        }
        (self.grown_at, self.reached) = (now, false);
    }

    fn refused(&mut self, call: Call, refusal: Refusal, now: Instant) {
        self.refusals += 1;
        let probe = self.is_the_probe(call);
        let paused = self.pause.is_some_and(|p| p.cause == Cause::Refused);
        if paused && !probe {
            // Of the same moment as the one that began the pause: one event, not many.
            return;
        }
        let before = self.refused.filter(|_| probe);
        if before.is_none() {
            self.learn(now);
        }
        let times = match before {
            Some((kind, times)) if kind == refusal => times.saturating_mul(2),
            _ => 1,
        };
        let (length, times) = match refusal {
            Refusal::Minute => {
                let times = times.min(LONGEST);
                (self.settings.pause * times, times)
            }
            Refusal::Hour => {
                let most = HOURLY_PAUSES
                    .1
                    .as_secs()
                    .div_ceil(HOURLY_PAUSES.0.as_secs());
                let times = times.min(most as u32);
                ((HOURLY_PAUSES.0 * times).min(HOURLY_PAUSES.1), times)
            }
        };
        self.refused = Some((refusal, times));
        (self.reached, self.grown_at) = (false, now);
        self.refused_at = Some(now);
        self.rest(Cause::Refused, now + length);
    }

    /// Somebody else has spent what we did not.
    fn learn(&mut self, now: Instant) {
        let ours = self.in_window(now).saturating_sub(1) as f64;
        let floor = f64::from(self.settings.floor.get());
        let had = ours.max(TRUST * self.limit).min(self.limit);
        self.ceiling = had.max(floor);
        self.limit = (SHRINK * self.ceiling).max(floor);
    }

    fn failed(&mut self, call: Call, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let due = self.failures >= FAILURES && self.pause.is_none();
        if self.is_the_probe(call) || due {
            self.rest(Cause::Resting, now + REST);
        }
    }

    fn rest(&mut self, cause: Cause, until: Instant) {
        self.pauses += 1;
        self.probing = false;
        self.pause = Some(Pause { cause, until });
    }
}
