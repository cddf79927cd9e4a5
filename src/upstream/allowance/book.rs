//! Who waits for which key of an account, which pages are wanted fresh, and whose turn it is when a call may go.
//!
//! Misses go before refreshes. Among misses the callers take turns by their shares, and of one caller's keys the one with
//! the greatest debt goes; among refreshes the greatest debt. Pure decisions: `now` is an argument, and a call goes by
//! a closure that whoever asks brings along.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Settings;
use super::ledger::{Debt, Ledger};
use super::limit::{Call, Cause, Kind, Limit, Outcome};
use super::turns::Turns;
use crate::error::Error;

/// Makes a call, which is a flight from then on; nothing if it is no longer wanted. It is told the flight's number.
pub type Launch<L> = Box<dyn FnOnce(Call, u64) -> Option<L> + Send>;

/// What a caller who waits is told in the end: the flight, and whether it is the first of those who waited for it.
pub type Told<L> = Result<(L, bool), Error>;

/// A caller who is to wait.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whose turn is taken.
    pub caller: Arc<str>,
    /// Its weight.
    pub share: u32,
}

/// The waiting and the wanting of one account. `K` names a page, `L` is what whoever waits gets of a flight.
pub struct Book<K, L> {
    pub(super) limit: Limit,
    pub(super) ledger: Ledger,
    queue_deadline: Duration,
    /// What a caller who is turned away adds to a key's debt: the greatest age at which it would have been served.
    penalty: Duration,
    waiting: HashMap<K, Waiting<L>>,
    wanted: HashMap<usize, Want<K, L>>,
    /// Debts of keys that are not in memory: their callers were turned away.
    cold: HashMap<K, Arc<Debt>>,
    flights: HashMap<K, (u64, L)>,
    turns: Turns<Arc<str>>,
    last_id: u64,
    /// Somebody wakes up when the next call may go.
    pub(super) driven: bool,
}

struct Waiting<L> {
    callers: Vec<Waiter<L>>,
    launch: Launch<L>,
}

struct Waiter<L> {
    id: u64,
    asker: Asker,
    until: Instant,
    tell: oneshot::Sender<Told<L>>,
}

struct Want<K, L> {
    key: K,
    debt: Weak<Debt>,
    launch: Launch<L>,
}

/// Keys that are not in memory and wanted at most.
const MOST_COLD: usize = 4_096;

impl<K: Clone + Eq + Hash, L: Clone> Book<K, L> {
    pub(super) fn new(settings: &Settings, penalty: Duration, now: Instant) -> Self {
        Self {
            limit: Limit::new(settings.clone(), now),
            ledger: Ledger::default(),
            queue_deadline: settings.queue_deadline,
            penalty,
            waiting: HashMap::new(),
            wanted: HashMap::new(),
            cold: HashMap::new(),
            flights: HashMap::new(),
            turns: Turns::default(),
            last_id: 0,
            driven: false,
        }
    }

    /// A place for a page's debt.
    pub fn open_debt(&mut self) -> Arc<Debt> {
        Arc::new(self.ledger.open())
    }

    /// The flight of a key, if it is under way.
    pub fn flight(&self, key: &K) -> Option<&L> {
        self.flights.get(key).map(|(_, flight)| flight)
    }

    /// Whether callers wait for a key already.
    pub fn awaits(&self, key: &K) -> bool {
        self.waiting.contains_key(key)
    }

    /// A caller wants a key that has to be fetched. It is told of the flight, or that there is none; dropping what it
    /// listens at without a word leaves its place, which [`Self::leave`] clears.
    ///
    /// # Errors
    /// No call may go in time. The key stays wanted.
    pub fn ask(
        &mut self,
        key: &K,
        asker: Asker,
        launch: Launch<L>,
        now: Instant,
    ) -> Result<(u64, oneshot::Receiver<Told<L>>), Error> {
        let until = now + self.queue_deadline;
        if !self.waiting.contains_key(key) {
            let slot = self.limit.slot_after(self.before(&asker), now);
            if slot.is_some_and(|slot| slot > until) {
                let refused = self.refusal(slot, now);
                self.turned_away(key, &asker, Some(launch));
                return Err(refused);
            }
            self.unwant(key);
            let callers = Vec::new();
            self.waiting
                .insert(key.clone(), Waiting { callers, launch });
        }
        self.last_id += 1;
        let (tell, told) = oneshot::channel();
        let id = self.last_id;
        let waiter = Waiter {
            id,
            asker,
            until,
            tell,
        };
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.callers.push(waiter);
        }
        Ok((id, told))
    }

    /// A caller hung up.
    pub fn leave(&mut self, key: &K, id: u64) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.callers.retain(|waiter| waiter.id != id);
            if waiting.callers.is_empty() {
                self.waiting.remove(key);
            }
        }
    }

    /// A page was served that is no longer fresh.
    pub fn want(&mut self, key: &K, debt: &Arc<Debt>, launch: Launch<L>) {
        if self.waiting.contains_key(key) || self.flights.contains_key(key) {
            debt.release();
            return;
        }
        let want = Want {
            key: key.clone(),
            debt: Arc::downgrade(debt),
            launch,
        };
        self.wanted.insert(debt.place(), want);
    }

    /// A flight is over. `debt`: of the page that was in memory before.
    pub fn landed(&mut self, key: &K, id: u64, fetched: bool, debt: Option<&Debt>) {
        if let Some(debt) = debt {
            self.wanted.remove(&debt.place());
            debt.release();
        }
        if self
            .flights
            .get(key)
            .is_some_and(|(flight, _)| *flight == id)
        {
            self.flights.remove(key);
        }
        if fetched {
            self.cold.remove(key);
        }
    }

    /// A call ended.
    pub fn ended(&mut self, call: Call, outcome: Outcome, now: Instant) {
        self.limit.ended(call, outcome, now);
    }

    /// Lets go what may go, and tells those for whom nothing will in time.
    pub fn pump(&mut self, now: Instant) {
        self.turn_away_the_late(now);
        while !self.waiting.is_empty() && self.may_go(Kind::Miss, now) {
            self.launch_a_miss(now);
        }
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
        let miss = (!self.waiting.is_empty()).then(|| self.limit.slot(Kind::Miss, now));
        let refresh = (!self.wanted.is_empty()).then(|| self.limit.slot(Kind::Refresh, now));
        let callers = self.waiting.values().flat_map(|waiting| &waiting.callers);
        let deadline = callers.map(|waiter| waiter.until).min();
        [miss.flatten(), refresh.flatten(), deadline]
            .into_iter()
            .flatten()
            .min()
    }

    /// Callers who wait.
    pub fn waiting(&self) -> usize {
        self.waiting
            .values()
            .map(|waiting| waiting.callers.len())
            .sum()
    }

    /// Keys that are wanted fresh.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Whether nothing is going on and nothing is remembered.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let idle = self.waiting.is_empty() && self.wanted.is_empty() && self.flights.is_empty();
        idle && self.cold.is_empty() && self.ledger.is_empty() && self.limit.is_forgettable(now)
    }

    fn may_go(&self, kind: Kind, now: Instant) -> bool {
        self.limit.slot(kind, now).is_some_and(|slot| slot <= now)
    }

    /// How many calls go before one of this caller's would, with the turns as they are.
    fn before(&self, asker: &Asker) -> usize {
        let mut keys: HashMap<&str, (usize, u32)> = HashMap::new();
        for waiting in self.waiting.values() {
            if let Some(first) = waiting.callers.first() {
                let keys = keys
                    .entry(&first.asker.caller)
                    .or_insert((0, first.asker.share));
                keys.0 += 1;
            }
        }
        let own = keys.remove(&*asker.caller).map_or(0, |(keys, _)| keys);
        let others = keys.values().map(|(keys, share)| {
            let turns = (own + 1) * *share as usize;
            (*keys).min(turns.div_ceil(asker.share.max(1) as usize))
        });
        own + others.sum::<usize>()
    }

    fn launch_a_miss(&mut self, now: Instant) {
        let callers = self.waiting.values().flat_map(|waiting| &waiting.callers);
        let Some(caller) = self
            .turns
            .next(callers.map(|waiter| &waiter.asker.caller))
            .cloned()
        else {
            return;
        };
        let penalty = self.penalty.as_millis() as u64;
        let debt = |key: &K, waiting: &Waiting<L>| {
            let cold = self.cold.get(key).map_or(0, |debt| debt.owed());
            let callers = waiting
                .callers
                .iter()
                .map(|w| u64::from(w.asker.share) * penalty);
            cold.saturating_add(callers.sum())
        };
        let its = self.waiting.iter().filter(|(_, waiting)| {
            waiting
                .callers
                .iter()
                .any(|waiter| waiter.asker.caller == caller)
        });
        let Some(key) = its
            .max_by_key(|(key, waiting)| debt(key, waiting))
            .map(|(key, _)| key.clone())
        else {
            return;
        };
        let Some(Waiting { callers, launch }) = self.waiting.remove(&key) else {
            return;
        };
        let share = callers
            .iter()
            .find(|w| w.asker.caller == caller)
            .map_or(1, |w| w.asker.share);
        self.turns.took(&caller, share);
        if let Some(flight) = self.launch(&key, launch, Kind::Miss, now) {
            for (n, waiter) in callers.into_iter().enumerate() {
                let _ = waiter.tell.send(Ok((flight.clone(), n == 0)));
            }
        }
    }

    /// Tells whether there was one to launch.
    fn launch_a_refresh(&mut self, now: Instant) -> bool {
        let Some(place) = self.ledger.greatest() else {
            // What is left belongs to pages that are gone.
            self.wanted.retain(|_, want| want.debt.strong_count() > 0);
            return false;
        };
        let Some(want) = self.wanted.remove(&place) else {
            // Whoever served the page is on its way here with the rest.
            return false;
        };
        if let Some(debt) = want.debt.upgrade() {
            debt.claim();
            if self
                .launch(&want.key, want.launch, Kind::Refresh, now)
                .is_none()
            {
                debt.release();
            }
        }
        true
    }

    fn launch(&mut self, key: &K, launch: Launch<L>, kind: Kind, now: Instant) -> Option<L> {
        self.last_id += 1;
        let id = self.last_id;
        let call = self.limit.send(kind, now);
        let flight = launch(call, id);
        match &flight {
            Some(flight) => {
                self.flights.insert(key.clone(), (id, flight.clone()));
            }
            None => self.limit.give_back(call),
        }
        flight
    }

    fn turn_away_the_late(&mut self, now: Instant) {
        let slot = self.limit.slot(Kind::Miss, now);
        let late = |waiter: &Waiter<L>| {
            waiter.until <= now || slot.is_some_and(|slot| slot > waiter.until)
        };
        let keys: Vec<K> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.callers.iter().any(late))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            let Some(mut waiting) = self.waiting.remove(&key) else {
                continue;
            };
            let (gone, left): (Vec<_>, Vec<_>) = waiting.callers.into_iter().partition(late);
            let mut launch = None;
            if left.is_empty() {
                launch = Some(waiting.launch);
            } else {
                waiting.callers = left;
                self.waiting.insert(key.clone(), waiting);
            }
            for waiter in gone {
                self.turned_away(&key, &waiter.asker, launch.take());
                let _ = waiter.tell.send(Err(self.refusal(slot, now)));
            }
        }
    }

    /// The caller goes, its interest stays.
    fn turned_away(&mut self, key: &K, asker: &Asker, launch: Option<Launch<L>>) {
        if self.cold.len() >= MOST_COLD && !self.cold.contains_key(key) {
            return;
        }
        let ledger = &mut self.ledger;
        let debt = self
            .cold
            .entry(key.clone())
            .or_insert_with(|| Arc::new(ledger.open()));
        debt.add(self.penalty, asker.share);
        let debt = debt.clone();
        if let Some(launch) = launch
            && debt.want()
        {
            self.want(key, &debt, launch);
        }
    }

    fn unwant(&mut self, key: &K) {
        if let Some(debt) = self.cold.get(key) {
            debt.release();
            self.wanted.remove(&debt.place());
        }
    }

    fn refusal(&self, slot: Option<Instant>, now: Instant) -> Error {
        // While a probe is out nobody knows; it will be back by then.
        let slot = slot.unwrap_or(now + self.queue_deadline);
        let retry_after = slot.saturating_duration_since(now);
        match self.limit.pause().map(|pause| pause.cause) {
            Some(Cause::Resting) => Error::UpstreamResting { retry_after },
            _ => Error::AllowanceSpent { retry_after },
        }
    }
}
