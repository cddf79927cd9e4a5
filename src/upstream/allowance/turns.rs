//! Whose turn it is among callers who compete, and what each of them leaves to the others.
//!
//! Turns are stride scheduling: a caller's pass grows by 1 / share with each call that goes for it, and the lowest pass is
//! next. Who was away comes back no earlier than those who stayed, so that nobody saves turns up.
//!
//! Turns alone will not do where the window is empty: whoever asks for much then has all of its calls before the others
//! asked for their second. So each caller is due a part of the window, by max-min fairness: what it asks for, and of what
//! is scarce its share. Up to its part a caller goes whenever a call may; beyond it, only where the parts of the others
//! stay free. Who is alone is due everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;

use super::book::Asker;

/// The callers of an account.
#[derive(Debug)]
pub(super) struct Turns {
    window: Duration,
    callers: HashMap<Arc<str>, Caller>,
    /// The pass of the latest turn.
    now: f64,
}

#[derive(Debug)]
struct Caller {
    share: u32,
    pass: f64,
    /// How many of it wait.
    waiting: usize,
    /// For how many keys it was the first to.
    keys: usize,
    /// Calls that went for it in the window: when, and their numbers.
    calls: VecDeque<(Instant, u64)>,
    /// Keys asked for since `since`, which is less than a window ago.
    asks: u32,
    since: Instant,
    /// What is remembered of the windows before; nothing in the first.
    before: Option<u32>,
}

impl Turns {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            callers: HashMap::default(),
            now: 0.0,
        }
    }

    /// From now on a window is so long.
    pub(super) fn go_by(&mut self, window: Duration) {
        self.window = window;
    }

    /// A caller asks for a key that takes a call.
    pub(super) fn asked(&mut self, asker: &Asker, now: Instant) {
        let (window, pass) = (self.window, self.now);
        let caller = self
            .callers
            .entry(asker.caller.clone())
            .or_insert_with(|| Caller::new(pass, now));
        caller.share = asker.share.max(1);
        caller.roll(window, now);
        caller.asks = caller.asks.saturating_add(1);
    }

    /// Another of the caller's waits, perhaps as the first of a key.
    pub(super) fn waits(&mut self, asker: &Asker, first: bool, now: Instant) {
        let pass = self.now;
        let caller = self
            .callers
            .entry(asker.caller.clone())
            .or_insert_with(|| Caller::new(pass, now));
        caller.share = asker.share.max(1);
        if caller.waiting == 0 {
            caller.pass = caller.pass.max(pass);
        }
        caller.waiting += 1;
        caller.keys += usize::from(first);
    }

    /// One of the caller's waits no longer.
    pub(super) fn waits_no_more(&mut self, asker: &Asker, first: bool) {
        if let Some(caller) = self.callers.get_mut(&asker.caller) {
            caller.waiting = caller.waiting.saturating_sub(1);
            caller.keys = caller.keys.saturating_sub(usize::from(first));
        }
    }

    /// It is the first of a key now.
    pub(super) fn leads(&mut self, asker: &Asker) {
        if let Some(caller) = self.callers.get_mut(&asker.caller) {
            caller.keys += 1;
        }
    }

    /// How many calls go before one of this caller's would, with the turns as they are; and how many of its own.
    pub(super) fn before(&self, asker: &Asker) -> (usize, usize) {
        let own = self.callers.get(&asker.caller).map_or(0, |own| own.keys);
        let others = self
            .callers
            .iter()
            .filter(|(name, _)| **name != asker.caller);
        let others = others.map(|(_, other)| {
            let turns = (own + 1) * other.share as usize;
            other.keys.min(turns.div_ceil(asker.share.max(1) as usize))
        });
        (own + others.sum::<usize>(), own)
    }

    /// Of callers who wait and may have a call, the one whose turn it is. `spent` of the `limit` calls of the window went.
    pub(super) fn next(&self, spent: usize, limit: usize, now: Instant) -> Option<Arc<str>> {
        let due = self
            .callers
            .iter()
            .filter(|(name, caller)| caller.waiting > 0 && self.may_have(name, spent, limit, now));
        due.min_by(|(a, one), (b, other)| {
            one.pass
                .total_cmp(&other.pass)
                .then_with(|| one.calls.len().cmp(&other.calls.len()))
                .then_with(|| a.cmp(b))
        })
        .map(|(name, _)| name.clone())
    }

    /// A call goes for this caller.
    pub(super) fn took(&mut self, name: &Arc<str>, number: u64, now: Instant) {
        if let Some(caller) = self.callers.get_mut(name) {
            self.now = self.now.max(caller.pass);
            caller.pass += 1.0 / f64::from(caller.share);
            caller.calls.push_back((now, number));
        }
    }

    /// A call did not go after all.
    pub(super) fn give_back(&mut self, number: u64) {
        for caller in self.callers.values_mut() {
            caller.calls.retain(|(_, one)| *one != number);
        }
    }

    /// When a caller may have a call who has so many others before it, as far as that depends on the other callers.
    pub(super) fn slot(
        &self,
        name: &Arc<str>,
        before: usize,
        (spent, limit): (usize, usize),
        now: Instant,
    ) -> Instant {
        let Some(caller) = self.callers.get(name) else {
            return now;
        };
        if self.may_have(name, spent + before, limit, now) {
            return now;
        }
        let (calls, due) = (
            caller.in_window(self.window, now),
            self.due(name, limit, now),
        );
        // So many have to leave the window first.
        let leave = (calls.len() + before + 1).saturating_sub(due.max(1));
        match leave.checked_sub(1) {
            Some(nth) => {
                let nth = nth.min(calls.len().saturating_sub(1));
                let mut calls = calls;
                calls.nth(nth).map_or(now, |(at, _)| *at + self.window)
            }
            None => now,
        }
    }

    /// How many calls of the window are to be left free for the callers, while several are about.
    pub(super) fn room(&self, limit: usize, now: Instant) -> usize {
        self.room_beside(None, limit, now)
    }

    /// Nobody waits: whose turn it was does not matter any more.
    pub(super) fn clear(&mut self) {
        if self.now > 0.0 {
            self.now = 0.0;
            for caller in self.callers.values_mut() {
                caller.pass = 0.0;
            }
        }
    }

    /// Takes down which windows are over, and forgets callers who have not asked for long.
    pub(super) fn tidy(&mut self, now: Instant) {
        let window = self.window;
        self.callers.retain(|_, caller| {
            caller.roll(window, now);
            while caller
                .calls
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= window)
            {
                caller.calls.pop_front();
            }
            caller.waiting > 0 || !caller.calls.is_empty() || caller.wants(window, now) > 0.0
        });
    }

    fn may_have(&self, name: &Arc<str>, spent: usize, limit: usize, now: Instant) -> bool {
        if self.callers.len() < 2 {
            return true;
        }
        let Some(caller) = self.callers.get(name) else {
            return true;
        };
        let used = caller.in_window(self.window, now).len();
        used < self.due(name, limit, now)
            || spent + self.room_beside(Some(name), limit, now) < limit
    }

    fn room_beside(&self, asker: Option<&Arc<str>>, limit: usize, now: Instant) -> usize {
        if self.callers.len() < 2 {
            return 0;
        }
        let due = self.parts(asker, limit, now);
        let free = due.iter().filter(|(name, _)| Some(*name) != asker);
        free.map(|(name, due)| {
            let used = self.callers[*name].in_window(self.window, now).len();
            due.saturating_sub(used)
        })
        .sum()
    }

    /// The part of the window that is due to a caller who wants more.
    fn due(&self, name: &Arc<str>, limit: usize, now: Instant) -> usize {
        let parts = self.parts(Some(name), limit, now);
        let part = parts.iter().find(|(one, _)| *one == name);
        part.map_or(limit, |(_, part)| (*part).max(1))
    }

    /// What is due to each, if `asker` wants all it can get: the least wants first, each up to its share of what is left.
    fn parts<'a>(
        &'a self,
        asker: Option<&Arc<str>>,
        limit: usize,
        now: Instant,
    ) -> Vec<(&'a Arc<str>, usize)> {
        let mut wants: Vec<_> = self
            .callers
            .iter()
            .map(|(name, caller)| {
                let wants = match Some(name) == asker {
                    true => f64::INFINITY,
                    false => caller.wants(self.window, now),
                };
                (name, f64::from(caller.share), wants)
            })
            .collect();
        wants.sort_by(|(_, a, one), (_, b, other)| (one / a).total_cmp(&(other / b)));
        let mut shares: f64 = wants.iter().map(|(_, share, _)| share).sum();
        let mut left = limit as f64;
        let part = |(name, share, wants): (&'a Arc<str>, f64, f64)| {
            let part = wants.min(left * share / shares.max(share)).floor();
            (left, shares) = (left - part, shares - share);
            (name, part as usize)
        };
        wants.into_iter().map(part).collect()
    }
}

impl Caller {
    fn new(pass: f64, now: Instant) -> Self {
        Self {
            share: 1,
            pass,
            waiting: 0,
            keys: 0,
            calls: VecDeque::new(),
            asks: 0,
            since: now,
            before: None,
        }
    }

    /// What it will ask for in a window: as much as lately, and a little more. Who is new is taken to go on as it began.
    fn wants(&self, window: Duration, now: Instant) -> f64 {
        const SOON: f64 = 1.0;
        let (asks, gone) = (
            f64::from(self.asks),
            now.saturating_duration_since(self.since),
        );
        let wants = match self.before {
            None => asks * window.as_secs_f64() / gone.as_secs_f64().max(SOON),
            Some(before) => asks.max(f64::from(before)),
        };
        if wants < 1.0 {
            return 0.0;
        }
        (wants * 1.125).ceil() + 1.0
    }

    /// A window is over: what was asked for in it is remembered, and half of what was remembered.
    fn roll(&mut self, window: Duration, now: Instant) {
        while now.saturating_duration_since(self.since) >= window {
            self.before = Some(self.asks.max(self.before.unwrap_or(0) / 2));
            self.asks = 0;
            match self.before {
                Some(0) => self.since = now,
                _ => self.since += window,
            }
        }
    }

    fn in_window(
        &self,
        window: Duration,
        now: Instant,
    ) -> std::collections::vec_deque::Iter<'_, (Instant, u64)> {
        let gone = |call: &(Instant, u64)| now.saturating_duration_since(call.0) >= window;
        self.calls.range(self.calls.partition_point(gone)..)
    }
}
