//! How many calls of one account may go, and when the next one may. Pure decisions: `now` is an argument.
//!
//! The vendor counts the calls of everybody who has the account, and tells nobody how many are left. So the calls that
//! went from here are kept in an exact log, and never are there more than `limit` of them in any stretch as long as the
//! window. A refusal says that somebody else spends too: the account rests, is tried with a single call, and the limit
//! learns how much is really ours.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Settings;
use super::mirror::Alone;
use crate::upstream::refusal::Refusal;

mod late;
mod learn;
mod why;

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
    /// It says nothing of the vendor's health: a connection that had been kept alive was dead. The vendor may have counted
    /// the call.
    Lost,
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
    /// When it was let go.
    pub(super) at: Instant,
    pub(super) kind: Kind,
    /// The pause that it is to end.
    probe: Option<u64>,
    /// Tells it from others of the same moment.
    pub(super) number: u64,
}

/// A call that went.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// It counts from then.
    pub(super) at: Instant,
    /// Where it went from here.
    pub(super) call: Option<Call>,
    /// What the other replicas know it by.
    pub(super) name: Option<Arc<str>>,
    /// Nobody knows whether it went.
    pub(super) guess: Option<Guess>,
}

/// When a call may have gone of which nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// Before the start.
    Before,
    /// At another replica, after this one was cut off.
    Meanwhile,
}

/// One account's calls.
#[derive(Clone, Debug)]
pub struct Limit {
    pub(super) settings: Settings,
    pub(super) limit: f64,
    pub(super) ceiling: f64,
    /// Calls, the latest last. What is older than the window is dropped when the next one goes.
    pub(super) log: VecDeque<Sent>,
    pub(super) hour: VecDeque<Instant>,
    pub(super) pause: Option<Pause>,
    /// Pauses so far. A probe ends the one it was sent in, and no later one.
    pauses: u64,
    /// The call that ends the pause is out.
    pub(super) probing: bool,
    /// What was refused since a call was last answered after a pause, and how often the pause was doubled, as a factor.
    refused: Option<(Refusal, u32)>,
    began_at: Instant,
    sent: u64,
    /// When the latest refresh was due.
    pub(super) last_refresh: Option<Instant>,
    grown_at: Instant,
    pub(super) refused_at: Option<Instant>,
    pub(super) refusals: u64,
    /// The limit was reached since it last grew, which is the only evidence that more would be used.
    reached: bool,
    pub(super) failures: u32,
    /// While nothing is heard of the other replicas.
    pub(super) alone: Option<Alone>,
}

/// For so long a refusal makes us careful.
pub(super) const CAREFUL: Duration = Duration::from_secs(600);
/// Of the calls of a window, so many are taken to have been made before the start by whoever was here before.
const SPENT_BEFORE: (u32, u32) = (40, 59);
/// The longer of the vendor's windows, and a second for jitter.
const HOUR: Duration = Duration::from_secs(3_601);

impl Sent {
    pub(super) fn guessed(at: Instant, guess: Guess) -> Self {
        Self {
            at,
            call: None,
            name: None,
            guess: Some(guess),
        }
    }
}

impl Limit {
    /// An account of which nothing is known: as if most of a window's calls had been made already.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let calls = settings.calls.get();
        // Never more than `calls`.
        let spent = u64::from(calls) * u64::from(SPENT_BEFORE.0) / u64::from(SPENT_BEFORE.1);
        let spent = u32::try_from(spent).unwrap_or(calls);
        let apart = settings.window / spent.max(1);
        let log = (0..spent)
            .rev()
            .filter_map(|n| now.checked_sub(apart * n + apart / 2))
            .map(|at| Sent::guessed(at, Guess::Before));
        Self {
            limit: f64::from(calls),
            ceiling: f64::from(calls),
            log: log.collect(),
            hour: VecDeque::new(),
            pause: None,
            pauses: 0,
            probing: false,
            refused: None,
            began_at: now,
            sent: 0,
            last_refresh: None,
            grown_at: now,
            refused_at: None,
            refusals: 0,
            reached: false,
            failures: 0,
            alone: None,
            settings,
        }
    }

    /// From now on goes by these settings. Never are there more calls in a window for it than the new ones allow: those
    /// that went before count. What was learnt from a refusal holds on; a limit that was as configured is so again.
    pub fn go_by(&mut self, settings: Settings, now: Instant) {
        let before = std::mem::replace(&mut self.settings, settings);
        let (calls, floor) = (self.settings.calls.get(), self.settings.floor.get());
        for learnt in [&mut self.limit, &mut self.ceiling] {
            *learnt = match *learnt >= f64::from(before.calls.get()) {
                true => f64::from(calls),
                false => learnt.clamp(f64::from(floor), f64::from(calls)),
            };
        }
        // Of the calls that the window now reaches back to nothing is remembered, so there are as many as there may be.
        let forgotten = now.checked_sub(before.window);
        if let Some(at) = forgotten.filter(|_| self.settings.window > before.window) {
            let place = self.log.partition_point(|one| one.at <= at);
            for _ in 0..calls {
                self.log.insert(place, Sent::guessed(at, Guess::Before));
            }
        }
        match (before.hourly, self.settings.hourly) {
            (_, 0) => self.hour.clear(),
            (0, _) => self.hour = self.log.iter().map(|sent| sent.at).collect(),
            (_, _) => {}
        }
    }

    /// The earliest moment when a call may go; nothing while that depends on a probe that is out.
    pub fn slot(&self, kind: Kind, now: Instant) -> Option<Instant> {
        if self.probing {
            return None;
        }
        let mut slot = self.pause.map_or(now, |pause| pause.until.max(now));
        slot = self.alone.map_or(slot, |alone| slot.max(alone.from));
        slot = slot.max(self.room(self.cap(kind), now));
        if self.settings.hourly > 0 {
            let most = self.less_reserve(self.settings.hourly as usize, kind) / self.replicas();
            let most = most.max(1);
            let nth = self.hour.len().checked_sub(most);
            slot = nth.map_or(slot, |nth| slot.max(self.hour[nth] + HOUR));
        }
        // While somebody else spends there are no bursts, of misses neither. At other times only refreshes are paced.
        let before = match kind {
            _ if self.is_careful(now) => self.log.back().map(|sent| sent.at),
            Kind::Refresh => self.last_refresh,
            Kind::Miss => None,
        };
        Some(before.map_or(slot, |before| slot.max(before + self.pace())))
    }

    /// When a miss may go that has so many others before it, if nothing else goes; nothing where that cannot be said.
    pub fn slot_after(&self, before: usize, now: Instant) -> Option<Instant> {
        let mut slot = self.slot(Kind::Miss, now)?;
        if before > 0 {
            // Played through: how calls leave the window depends on when they went.
            let mut then = self.clone();
            then.pause = None;
            for _ in 0..before {
                then.send(Kind::Miss, slot);
                slot = then.slot(Kind::Miss, slot)?;
            }
        }
        Some(slot)
    }

    /// A call goes.
    pub fn send(&mut self, kind: Kind, now: Instant) -> Call {
        let window = self.settings.window;
        while self
            .log
            .front()
            .is_some_and(|sent| now.duration_since(sent.at) >= window)
        {
            self.log.pop_front();
        }
        self.sent += 1;
        let call = Call {
            at: now,
            kind,
            probe: self.pause.map(|_| self.pauses),
            number: self.sent,
        };
        self.log.push_back(Sent {
            at: now,
            call: Some(call),
            name: None,
            guess: None,
        });
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
        call
    }

    /// A call did not go after all.
    pub fn give_back(&mut self, call: Call) {
        let at = self.place_of(call).and_then(|place| self.log.remove(place));
        let at = at.map_or(call.at, |sent| sent.at);
        if let Some(place) = self.hour.iter().rposition(|hours| *hours == at) {
            self.hour.remove(place);
        }
        if call.kind == Kind::Refresh && self.last_refresh == Some(call.at) {
            // The one before went long enough ago, or this one would not have been let go.
            self.last_refresh = None;
        }
        if self.is_the_probe(call) {
            self.probing = false;
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
        let in_window = self.log.range(self.first_in_window(now)..);
        match self.alone {
            None => in_window.len(),
            Some(_) => in_window.map(|sent| self.weight(sent)).sum(),
        }
    }

    pub(super) fn first_in_window(&self, now: Instant) -> usize {
        let window = self.settings.window;
        let gone = |sent: &Sent| now.saturating_duration_since(sent.at) >= window;
        // From the front in longer and longer steps: what left before the latest was sent is no longer there.
        let mut step = 1;
        while self.log.get(step - 1).is_some_and(gone) {
            step *= 2;
        }
        let (mut low, mut high) = (step / 2, step.min(self.log.len()));
        while low < high {
            let middle = low.midpoint(high);
            match gone(&self.log[middle]) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// When the first of the calls in the window leaves it.
    pub(super) fn next_leaves(&self, now: Instant) -> Option<Instant> {
        let first = self.log.get(self.first_in_window(now))?;
        Some(first.at + self.settings.window)
    }

    /// Calls that were refused.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Whether nothing is remembered that a new account would not be taken to have done.
    pub fn is_forgettable(&self, now: Instant) -> bool {
        let past = |at: Option<&Instant>, for_: Duration| {
            at.is_none_or(|at| now.saturating_duration_since(*at) >= for_)
        };
        let over = self.pause.map(|pause| pause.until);
        past(self.log.back().map(|sent| &sent.at), self.settings.window)
            && past(self.hour.back(), HOUR)
            && past(over.as_ref(), CAREFUL)
            && !self.probing
            && !self.is_careful(now)
    }

    fn is_careful(&self, now: Instant) -> bool {
        self.refused_at
            .is_some_and(|at| now.duration_since(at) < CAREFUL)
    }

    fn pace(&self) -> Duration {
        let weight = self.replicas().min(self.settings.calls.get() as usize);
        self.settings.window * weight as u32 / self.whole() as u32
    }

    /// Those who make no more than their part.
    fn replicas(&self) -> usize {
        self.alone.map_or(1, |alone| alone.replicas as usize)
    }

    /// When a refresh that goes now was due: whoever is to wake wakes a little late, and that is not to add up.
    fn due(&self, now: Instant) -> Instant {
        let due = self.last_refresh.map(|last| last + self.pace());
        due.filter(|due| now.saturating_duration_since(*due) < self.pace())
            .map_or(now, |due| due.min(now))
    }

    pub(super) fn cap(&self, kind: Kind) -> usize {
        self.less_reserve(self.whole(), kind)
    }

    /// What of so many calls may be made for this.
    fn less_reserve(&self, calls: usize, kind: Kind) -> usize {
        let reserve = match kind {
            Kind::Miss => 0,
            Kind::Refresh => (self.settings.reserve as usize).min(calls / 3),
        };
        (calls - reserve).max(1)
    }

    /// When there is room for another call among so many. Where there is never any: not for a window.
    fn room(&self, cap: usize, now: Instant) -> Instant {
        let window = self.settings.window;
        let Some(alone) = self.alone else {
            let first = self.log.len().checked_sub(cap);
            return first.map_or(now, |first| self.log[first].at + window);
        };
        let mut taken = alone.replicas as usize;
        if taken > cap {
            return now + window;
        }
        // The latest that has to leave.
        let leaves = self.log.iter().rev().find(|sent| {
            taken += self.weight(sent);
            taken > cap
        });
        leaves.map_or(now, |sent| sent.at + window)
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
            fleet_size: std::num::NonZeroU32::MIN,
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
