//! How many calls of one account may go, and when the next one may. Pure decisions: `now` is an argument.
//!
//! The vendor counts the calls of everybody who has the account, and tells nobody how many are left. So the calls that
//! went from here are kept in an exact log, and never are there more than `limit` of them in any stretch as long as the
//! window. A refusal says that somebody else spends too: the account rests, is tried with a single call, and the limit
//! learns how much is really ours.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Settings;
use crate::upstream::refusal::Refusal;

/// What a call is for. Who waits for a page comes before whoever has an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Callers wait for it.
    Miss,
    /// Nobody does.
    Refresh,
}

/// How a call ended, as far as the allowance is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor answered, whatever it said of the list.
    Answered,
    /// The vendor refused it for a rate limit.
    Refused(Refusal),
    /// No connection, no answer in time, a 5xx, garbage, or no to our credentials.
    Failed,
}

/// Why no call goes at present, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What it is for.
    pub cause: Cause,
    /// Its end. Then one call goes, and no other until it is back.
    pub until: Instant,
}

/// What a pause is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The vendor refused a call.
    Refused,
    /// Three calls failed in a row.
    Resting,
}

/// A call that may go. Whoever has it says how the call ended, or gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    at: Instant,
    kind: Kind,
    probe: bool,
}

/// One account's calls.
#[derive(Debug)]
pub struct Limit {
    settings: Settings,
    limit: f64,
    ceiling: f64,
    /// When calls went, the latest last. What is older than the window is dropped when the next one goes.
    log: VecDeque<Instant>,
    hour: VecDeque<Instant>,
    pause: Option<Pause>,
    /// The call that ends the pause is out.
    probing: bool,
    /// How often the pause was doubled, as a factor.
    longer: u32,
    /// When the latest refresh was due.
    last_refresh: Option<Instant>,
    grown_at: Instant,
    refused_at: Option<Instant>,
    refusals: u64,
    /// The limit was reached since it last grew, which is the only evidence that more would be used.
    reached: bool,
    failures: u32,
}

/// For so long a refusal makes us careful.
const CAREFUL: Duration = Duration::from_secs(600);
/// How much of the limit is left after a refusal.
const SHRINK: f64 = 0.9;
/// However few calls were ours when a refusal came, the limit does not fall below this part of itself: after a lull the
/// count says little.
const TRUST: f64 = 0.8;
/// How much the limit grows in a window in which it was reached, far from the last refusal's level and near it.
const STEPS: (f64, f64) = (2.0, 0.5);
/// Near: within so many calls.
const NEAR: f64 = 3.0;
/// Of the calls of a window, so many are taken to have been made before the start by whoever was here before.
const SPENT_BEFORE: (u32, u32) = (40, 59);
/// The rest after failures.
const REST: Duration = Duration::from_secs(10);
const FAILURES: u32 = 3;
/// The longer of the vendor's windows, and a second for jitter.
const HOUR: Duration = Duration::from_secs(3_601);
/// A pause after an hourly refusal, and the longest that doubling makes of it.
const HOURLY_PAUSES: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(1_800));

impl Limit {
    /// An account of which nothing is known: as if most of a window's calls had been made already.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let calls = settings.calls.get();
        let spent = calls * SPENT_BEFORE.0 / SPENT_BEFORE.1;
        let apart = settings.window / spent.max(1);
        let log = (0..spent).rev().map(|n| now.checked_sub(apart * (n + 1)));
        Self {
            limit: f64::from(calls),
            ceiling: f64::from(calls),
            log: log.flatten().collect(),
            hour: VecDeque::new(),
            pause: None,
            probing: false,
            longer: 1,
            last_refresh: None,
            grown_at: now,
            refused_at: None,
            refusals: 0,
            reached: false,
            failures: 0,
            settings,
        }
    }

    /// The earliest moment when a call may go; nothing while that depends on a probe that is out.
    pub fn slot(&self, kind: Kind, now: Instant) -> Option<Instant> {
        if self.probing {
            return None;
        }
        let mut slot = self.pause.map_or(now, |pause| pause.until.max(now));
        if let Some(first) = self.first_of(self.cap(kind)) {
            slot = slot.max(first + self.settings.window);
        }
        let hourly = self.settings.hourly as usize;
        if hourly > 0 && self.hour.len() >= hourly {
            slot = slot.max(self.hour[self.hour.len() - hourly] + HOUR);
        }
        // While somebody else spends there are no bursts, of misses neither. At other times only refreshes are paced.
        let before = match kind {
            _ if self.is_careful(now) => self.log.back().copied(),
            Kind::Refresh => self.last_refresh,
            Kind::Miss => None,
        };
        Some(before.map_or(slot, |before| slot.max(before + self.pace())))
    }

    /// When a miss may go that has so many others before it; nothing where that cannot be said.
    pub fn slot_after(&self, before: usize, now: Instant) -> Option<Instant> {
        let first = self.slot(Kind::Miss, now)?;
        let (cap, window) = (self.cap(Kind::Miss), self.settings.window);
        let recent = self
            .log
            .iter()
            .filter(|at| now.duration_since(**at) < window);
        let recent: Vec<_> = recent.collect();
        let free = cap.saturating_sub(recent.len());
        if before < free {
            return Some(
                first
                    + if self.is_careful(now) {
                        self.pace() * before as u32
                    } else {
                        Duration::ZERO
                    },
            );
        }
        let nth = before - free + recent.len().saturating_sub(cap);
        // Beyond the calls that are in the log, each window brings as many again.
        let (windows, nth) = (nth / recent.len().max(1), nth % recent.len().max(1));
        let at = recent.get(nth).map_or(now, |at| **at);
        Some(first.max(at + window * (windows as u32 + 1)))
    }

    /// A call goes.
    pub fn send(&mut self, kind: Kind, now: Instant) -> Call {
        let window = self.settings.window;
        while self
            .log
            .front()
            .is_some_and(|at| now.duration_since(*at) >= window)
        {
            self.log.pop_front();
        }
        self.log.push_back(now);
        if self.settings.hourly > 0 {
            while self
                .hour
                .front()
                .is_some_and(|at| now.duration_since(*at) >= HOUR)
            {
                self.hour.pop_front();
            }
            self.hour.push_back(now);
        }
        let reserve = self.settings.reserve as usize;
        self.reached |= self.log.len() + reserve + 1 >= self.whole();
        if kind == Kind::Refresh {
            self.last_refresh = Some(self.due(now));
        }
        self.probing = self.pause.is_some();
        Call {
            at: now,
            kind,
            probe: self.probing,
        }
    }

    /// A call did not go after all.
    pub fn give_back(&mut self, call: Call) {
        for log in [&mut self.log, &mut self.hour] {
            if let Some(place) = log.iter().rposition(|at| *at == call.at) {
                log.remove(place);
            }
        }
        if call.probe {
            self.probing = false;
        }
    }

    /// A call ended.
    pub fn ended(&mut self, call: Call, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Answered => self.answered(call, now),
            Outcome::Refused(refusal) => self.refused(call, refusal, now),
            Outcome::Failed => self.failed(call, now),
        }
    }

    fn answered(&mut self, call: Call, now: Instant) {
        self.failures = 0;
        if call.probe {
            (self.probing, self.pause) = (false, None);
        }
        if now.duration_since(self.grown_at) < self.settings.window {
            return;
        }
        let top = f64::from(self.settings.calls.get());
        if !self.is_careful(now) {
            self.ceiling = top;
        }
        if self.reached {
            let near = self.limit >= self.ceiling - NEAR && self.ceiling < top;
            let step = if near { STEPS.1 } else { STEPS.0 };
            self.limit = top.min(self.limit + step);
        }
        (self.grown_at, self.reached) = (now, false);
    }

    fn refused(&mut self, call: Call, refusal: Refusal, now: Instant) {
        self.refusals += 1;
        if self
            .pause
            .is_some_and(|pause| pause.cause == Cause::Refused)
            && !call.probe
        {
            // Of the same moment as the one that began the pause: one event, not many.
            return;
        }
        self.longer = if call.probe {
            4.min(self.longer * 2)
        } else {
            1
        };
        if !call.probe {
            let window = self.settings.window;
            let recent = self
                .log
                .iter()
                .filter(|at| now.duration_since(**at) < window);
            let ours = recent.count().saturating_sub(1) as f64;
            let floor = f64::from(self.settings.floor.get());
            let had = ours.max(TRUST * self.limit).min(self.limit);
            self.ceiling = had.max(floor);
            self.limit = (SHRINK * self.ceiling).max(floor);
        }
        let length = match refusal {
            Refusal::Minute => self.settings.pause * self.longer,
            Refusal::Hour => (HOURLY_PAUSES.0 * self.longer).min(HOURLY_PAUSES.1),
        };
        (self.probing, self.reached, self.grown_at) = (false, false, now);
        self.refused_at = Some(now);
        self.pause = Some(Pause {
            cause: Cause::Refused,
            until: now + length,
        });
    }

    fn failed(&mut self, call: Call, now: Instant) {
        self.failures += 1;
        let rested = self.pause.is_some() && !call.probe;
        if (call.probe || self.failures >= FAILURES) && !rested {
            self.probing = false;
            self.pause = Some(Pause {
                cause: Cause::Resting,
                until: now + REST,
            });
        }
    }

    /// Why no call goes, while none does.
    pub fn pause(&self) -> Option<Pause> {
        self.pause
    }

    /// Whether the call that ends a pause is out.
    pub fn is_probing(&self) -> bool {
        self.probing
    }

    /// Calls in a window at most, as learnt.
    pub fn whole(&self) -> usize {
        (self.limit as usize).max(1)
    }

    /// Calls in the window now.
    pub fn in_window(&self, now: Instant) -> usize {
        let window = self.settings.window;
        self.log
            .iter()
            .filter(|at| now.duration_since(**at) < window)
            .count()
    }

    /// Calls that were refused.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Whether nothing is remembered that a new account would not be taken to have done.
    pub fn is_forgettable(&self, now: Instant) -> bool {
        let quiet = self
            .log
            .back()
            .is_none_or(|at| now.duration_since(*at) >= self.settings.window);
        quiet && self.pause.is_none() && self.hour.is_empty() && !self.is_careful(now)
    }

    fn is_careful(&self, now: Instant) -> bool {
        self.refused_at
            .is_some_and(|at| now.duration_since(at) < CAREFUL)
    }

    fn pace(&self) -> Duration {
        self.settings.window / self.whole() as u32
    }

    /// When a refresh that goes now was due: whoever is to wake wakes a little late, and that is not to add up.
    fn due(&self, now: Instant) -> Instant {
        let due = self.last_refresh.map(|last| last + self.pace());
        due.filter(|due| now.saturating_duration_since(*due) < self.pace())
            .map_or(now, |due| due.min(now))
    }

    fn cap(&self, kind: Kind) -> usize {
        let whole = self.whole();
        let reserve = match kind {
            Kind::Miss => 0,
            Kind::Refresh => (self.settings.reserve as usize).min(whole / 3),
        };
        (whole - reserve).max(1)
    }

    /// The first of the latest `n` calls.
    fn first_of(&self, n: usize) -> Option<Instant> {
        self.log.len().checked_sub(n).map(|at| self.log[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn refreshes_that_go_late_do_not_slow_those_after_them() {
        let settings = Settings {
            calls: 59.try_into().unwrap(),
            window: Duration::from_millis(6_100),
            reserve: 1,
            queue_deadline: Duration::from_millis(500),
            pause: Duration::from_secs(6),
            floor: 20.try_into().unwrap(),
            hourly: 0,
        };
        let start = Clock::system().now();
        let mut limit = Limit::new(settings, start);
        let (mut now, mut went) = (start, Vec::new());
        while now < start + Duration::from_secs(72) {
            now = limit.slot(Kind::Refresh, now).unwrap() + Duration::from_millis(5);
            let call = limit.send(Kind::Refresh, now);
            limit.ended(call, Outcome::Answered, now);
            went.push(now);
        }
        let minute = went
            .iter()
            .filter(|at| **at >= start + Duration::from_secs(12));
        assert!(minute.count() >= 565, "58 in 6.1 s are 570 a minute");
        for calls in went.windows(59) {
            assert!(calls[58] - calls[0] >= Duration::from_millis(6_100));
        }
    }
}
