//! Which call goes next, as far as that is this replica's to say, and how it begins.

use std::cmp::Reverse;
use std::hash::Hash;
use std::time::Instant;

use super::{Asker, Book, Go, LOOK_AGAIN, Launch, Waiting, Wish, Wishes};
use crate::fleet::{Grant, Landings};
use crate::upstream::allowance::limit::Kind;

impl<K: Clone + Eq + Hash, L: Clone> Book<K, L> {
    /// Lets go what may go, and tells those for whom nothing will in time.
    pub fn pump(&mut self, now: Instant) {
        // First of all, since refreshes have the room of those who ask no longer.
        self.turns.tidy(now);
        while !self.waiting.is_empty() && self.may_go(Kind::Miss, now) {
            if !self.launch_a_miss(now) {
                break;
            }
        }
        self.turn_away_the_late(now);
        while !self.wanted.is_empty() && self.may_go(Kind::Refresh, now) {
            if !self.launch_a_refresh(now) {
                break;
            }
        }
        if self.waiting.is_empty() {
            self.turns.clear();
        }
    }

    /// When to pump again, if nothing happens before.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let miss = (!self.waiting.is_empty()).then(|| self.slot(Kind::Miss, now));
        let refresh = (!self.wanted.is_empty()).then(|| self.slot(Kind::Refresh, now));
        // What could go and did not leaves room for others. That changes when calls leave the window, and by itself.
        let held = |slot: Instant| match slot > now {
            true => slot,
            false => {
                let leaves = self.limit.next_leaves(now).unwrap_or(now + LOOK_AGAIN);
                leaves.min(now + LOOK_AGAIN)
            }
        };
        let end = self.ends.front().map(|(until, ..)| *until);
        [miss.flatten().map(held), refresh.flatten().map(held), end]
            .into_iter()
            .flatten()
            .min()
    }

    /// The earliest moment when a call may go, as far as is known here.
    pub(super) fn slot(&self, kind: Kind, now: Instant) -> Option<Instant> {
        let slot = self.limit.slot(kind, now)?;
        Some(self.held[kind as usize].map_or(slot, |held| slot.max(held)))
    }

    fn may_go(&self, kind: Kind, now: Instant) -> bool {
        let free = self.slot(kind, now).is_some_and(|slot| slot <= now);
        free && match kind {
            Kind::Miss => true,
            Kind::Refresh => {
                let limit = self.limit.whole();
                let room = self.turns.room(limit, now);
                room == 0 || self.limit.in_window(now) + room < self.limit.cap(kind)
            }
        }
    }

    /// When a call may go for a caller, if so many others go before those that wait.
    pub(super) fn slot_for(&self, asker: &Asker, further: usize, now: Instant) -> Option<Instant> {
        let (before, own) = self.turns.before(asker);
        let mut slot = self.limit.slot_after(before + further, now)?;
        if let Some(held) = self.held[Kind::Miss as usize] {
            slot = slot.max(held);
        }
        let spent = (self.limit.in_window(now), self.limit.whole());
        Some(slot.max(self.turns.slot(&asker.caller, own + further, spent, now)))
    }

    /// Tells whether there was one to launch.
    fn launch_a_miss(&mut self, now: Instant) -> bool {
        match self.next_miss(now) {
            Some(wish) => {
                self.go(&wish, None, now);
                true
            }
            None => false,
        }
    }

    /// The key that would be fetched next of those that callers wait for.
    fn next_miss(&self, now: Instant) -> Option<Wish<K>> {
        let (spent, limit) = (self.limit.in_window(now), self.limit.whole());
        let caller = self.turns.next(spent, limit, now)?;
        let penalty = self.penalty.as_millis() as u64;
        let debt = |key: &K, waiting: &Waiting<L>| {
            let cold = self.cold.get(key).map_or(0, |debt| debt.owed());
            let debt = cold.saturating_add(waiting.shares.saturating_mul(penalty));
            // Among equals who came first.
            (debt, Reverse(waiting.callers.first().map(|w| w.id)))
        };
        let its = |waiting: &Waiting<L>| waiting.callers.iter().any(|w| w.asker.caller == caller);
        let (key, waiting) = self
            .waiting
            .iter()
            .filter(|(_, waiting)| its(waiting))
            .max_by_key(|(key, waiting)| debt(key, waiting))?;
        Some(Wish {
            key: key.clone(),
            kind: Kind::Miss,
            known: waiting.known,
            debt: None,
            caller: Some(caller),
        })
    }

    /// Tells whether there was one to launch.
    fn launch_a_refresh(&mut self, now: Instant) -> bool {
        match self.next_refresh() {
            Some(wish) => {
                self.go(&wish, None, now);
                true
            }
            None => false,
        }
    }

    /// The key that would be refreshed next.
    fn next_refresh(&mut self) -> Option<Wish<K>> {
        loop {
            let Some(place) = self.ledger.greatest() else {
                // What is left belongs to pages that are gone.
                self.wanted.retain(|_, want| want.owing.strong_count() > 0);
                return None;
            };
            // If there is none, whoever served the page is on its way here with the rest.
            let want = self.wanted.get(&place)?;
            let Some(owing) = want.owing.upgrade() else {
                self.wanted.remove(&place);
                continue;
            };
            if self.is_on_its_way(&want.key) {
                (*owing).as_ref().release();
                self.wanted.remove(&place);
                continue;
            }
            return Some(Wish {
                key: want.key.clone(),
                kind: Kind::Refresh,
                known: want.known,
                debt: Some((place, (*owing).as_ref().owed())),
                caller: None,
            });
        }
    }

    /// Whether a key is fetched, or is about to be for callers who wait: then no refresh of it is needed.
    pub(super) fn is_on_its_way(&self, key: &K) -> bool {
        self.waiting.contains_key(key) || self.flights.contains_key(key)
    }

    /// The call that would go next, if one may as far as is known here. Those for whom none will in time are told.
    pub(in super::super) fn next_wish(&mut self, now: Instant) -> Option<Wish<K>> {
        self.turns.tidy(now);
        self.turn_away_the_late(now);
        if self.waiting.is_empty() {
            self.turns.clear();
        } else if self.may_go(Kind::Miss, now)
            && let Some(wish) = self.next_miss(now)
        {
            return Some(wish);
        }
        if !self.wanted.is_empty() && self.may_go(Kind::Refresh, now) {
            return self.next_refresh();
        }
        None
    }

    /// A call goes, with the right to it where the other replicas know of it. Tells whether it was still wanted.
    pub(in super::super) fn go(
        &mut self,
        wish: &Wish<K>,
        grant: Option<Grant>,
        now: Instant,
    ) -> bool {
        let call = self.limit.send(wish.kind, now);
        if let Some(grant) = &grant {
            self.limit.name_latest(grant.member.clone());
        }
        let began = self.begin(wish, Go::Call(call, grant));
        match &wish.caller {
            Some(caller) if began => self.turns.took(caller, call.number, now),
            Some(_) | None => {}
        }
        if !began {
            self.limit.give_back(call);
        }
        began
    }

    /// Another replica makes the call, or has made it: see [`Go::Elsewhere`].
    pub(in super::super) fn is_elsewhere(
        &mut self,
        wish: &Wish<K>,
        flying: Option<(Instant, Landings)>,
    ) {
        self.begin(wish, Go::Elsewhere(flying));
    }

    /// No call of this kind goes before.
    pub(in super::super) fn hold(&mut self, kind: Kind, until: Instant) {
        self.held[kind as usize] = Some(until);
    }

    /// Whatever held calls back may be over.
    pub(in super::super) fn hold_no_more(&mut self) {
        self.held = [None; 2];
    }

    /// A flight begins. Tells whether it was still wanted.
    fn begin(&mut self, wish: &Wish<K>, go: Go) -> bool {
        match wish.debt {
            None => {
                let Some(waiting) = self.waiting.remove(&wish.key) else {
                    return false;
                };
                for (n, waiter) in waiting.callers.iter().enumerate() {
                    self.turns.waits_no_more(&waiter.asker, n == 0);
                }
                let wishes = waiting.callers.iter().map(|waiter| waiter.asker.wishes);
                let wishes = wishes.reduce(Wishes::and).unwrap_or_default();
                let Some(flight) = self.launch(&wish.key, waiting.launch, go, wishes) else {
                    return false;
                };
                for (n, waiter) in waiting.callers.into_iter().enumerate() {
                    let _ = waiter.tell.send(Ok((flight.clone(), n == 0)));
                }
                true
            }
            Some((place, _)) => {
                let wanted = self.wanted.get(&place);
                if wanted.is_none_or(|want| want.key != wish.key) {
                    return false;
                }
                let Some((want, owing)) = self.wanted.remove(&place).and_then(|want| {
                    let owing = want.owing.upgrade()?;
                    Some((want, owing))
                }) else {
                    return false;
                };
                let debt = (*owing).as_ref();
                // A caller may have come for it since it was chosen.
                if self.is_on_its_way(&wish.key) {
                    debt.release();
                    return false;
                }
                debt.claim();
                let nobody_s = Wishes::default();
                let began = self.launch(&wish.key, want.launch, go, nobody_s).is_some();
                if !began {
                    debt.release();
                }
                began
            }
        }
    }

    fn launch(&mut self, key: &K, launch: Launch<L>, go: Go, wishes: Wishes) -> Option<L> {
        self.last_id += 1;
        let id = self.last_id;
        let flight = launch(go, id, wishes)?;
        self.flights.insert(key.clone(), (id, flight.clone()));
        Some(flight)
    }
}
