//! Who waits for which key of an account, which pages are wanted fresh, and whose turn it is when a call may go.
//!
//! Misses go before refreshes. Among misses the callers take turns by their shares, and of one caller's keys the one with
//! the greatest debt goes; among refreshes the greatest debt. Pure decisions: `now` is an argument, and a call goes by
//! a closure that whoever asks brings along.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use tokio::sync::oneshot;

use super::Settings;
use super::ledger::{Debt, Ledger};
use super::limit::{Call, Kind, Limit, Outcome};
use super::turns::Turns;
use crate::error::Error;
use crate::fleet::{Grant, Landings};

mod late;
mod next;

/// Begins a flight; nothing if it is no longer wanted. It is told the flight's number, and what those who wait want of it.
pub type Launch<L> = Box<dyn FnOnce(Go, u64, Wishes) -> Option<L> + Send>;

/// What those want who wait for a flight; where nobody waits, nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// All of them: that what it brings is not kept.
    pub no_store: bool,
    /// Some of them: another page than what they found in memory.
    pub another: bool,
}

impl Wishes {
    /// What two want.
    fn and(self, other: Self) -> Self {
        Self {
            no_store: self.no_store && other.no_store,
            another: self.another || other.another,
        }
    }
}

/// How a flight begins.
#[derive(Debug)]
pub enum Go {
    /// With a call, and the right to it where the other replicas know of it.
    Call(Call, Option<Grant>),
    /// Without: another replica makes the call, has until then, and is heard when it has; nothing: it has made it.
    Elsewhere(Option<(Instant, Landings)>),
}

impl Go {
    /// The call, where there is one.
    pub fn call(&self) -> Option<Call> {
        match self {
            Self::Call(call, _) => Some(*call),
            Self::Elsewhere(_) => None,
        }
    }
}

/// A call that would go, if the other replicas have nothing against it.
#[derive(Clone, Debug)]
pub(super) struct Wish<K> {
    pub(super) key: K,
    pub(super) kind: Kind,
    /// Whose turn it is.
    caller: Option<Arc<str>>,
    /// The version of the page that is in memory.
    pub(super) known: u64,
    /// The place of its debt in the ledger, and what is owed.
    pub(super) debt: Option<(usize, u64)>,
}

/// What a caller who waits is told in the end: the flight, and whether it is the first of those who waited for it.
pub type Told<L> = Result<(L, bool), Error>;

/// A caller who is to wait.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whose turn is taken.
    pub caller: Arc<str>,
    /// Its weight.
    pub share: u32,
    /// What it wants of the flight.
    pub wishes: Wishes,
}

/// The waiting and the wanting of one account. `K` names a page, `L` is what whoever waits gets of a flight.
pub struct Book<K, L> {
    pub(super) limit: Limit,
    pub(super) ledger: Ledger,
    queue_deadline: Duration,
    /// What a caller who is turned away adds to a key's debt: the greatest age at which it would have been served.
    penalty: Duration,
    waiting: HashMap<K, Waiting<L>>,
    /// Until when each of them waits, the next end first. Some have gone since.
    ends: VecDeque<(Instant, u64, K)>,
    wanted: HashMap<usize, Want<K, L>>,
    /// Debts of keys that are not in memory: their callers were turned away.
    cold: HashMap<K, Arc<Debt>>,
    flights: HashMap<K, (u64, L)>,
    turns: Turns,
    /// The other replicas let no call of these kinds go before.
    held: [Option<Instant>; 2],
    last_id: u64,
    /// Somebody wakes up when the next call may go.
    pub(super) driven: bool,
}

struct Waiting<L> {
    /// In the order they came, which is that of their numbers.
    callers: Vec<Waiter<L>>,
    /// The sum of their shares.
    shares: u64,
    /// The version of the page that is in memory and will not do.
    known: u64,
    launch: Launch<L>,
}

struct Waiter<L> {
    id: u64,
    asker: Asker,
    tell: oneshot::Sender<Told<L>>,
}

type Owing = dyn AsRef<Debt> + Send + Sync;

struct Want<K, L> {
    key: K,
    /// What has the debt: gone once the page is.
    owing: Weak<Owing>,
    known: u64,
    /// Its name among the replicas.
    called: Option<Box<str>>,
    launch: Launch<L>,
}

/// While room is left for others, who may have it is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl<K: Clone + Eq + Hash, L: Clone> Book<K, L> {
    pub(super) fn new(settings: &Settings, penalty: Duration, now: Instant) -> Self {
        Self {
            limit: Limit::new(settings.clone(), now),
            ledger: Ledger::default(),
            queue_deadline: settings.queue_deadline,
            penalty,
            waiting: HashMap::default(),
            ends: VecDeque::new(),
            wanted: HashMap::default(),
            cold: HashMap::default(),
            flights: HashMap::default(),
            turns: Turns::new(settings.window),
            held: [None; 2],
            last_id: 0,
            driven: false,
        }
    }

    /// From now on goes by these settings. Who waits already waits for as long as it was to.
    pub(super) fn go_by(&mut self, settings: &Settings, penalty: Duration, now: Instant) {
        self.limit.go_by(settings.clone(), now);
        self.turns.go_by(settings.window);
        (self.queue_deadline, self.penalty) = (settings.queue_deadline, penalty);
    }

    /// A place for a page's debt.
    pub fn open_debt(&mut self) -> Debt {
        self.ledger.open()
    }

    /// The flight of a key, if it is under way.
    pub fn flight(&self, key: &K) -> Option<&L> {
        self.flights.get(key).map(|(_, flight)| flight)
    }

    /// Whether callers have asked for a key already that has not been fetched yet: they wait, or were turned away and it
    /// stays wanted.
    pub fn is_asked(&self, key: &K) -> bool {
        self.waiting.contains_key(key) || self.cold.contains_key(key)
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
        let first = !self.waiting.contains_key(key);
        if first {
            self.turns.asked(&asker, now);
            let slot = self.slot_for(&asker, 0, now);
            if !self.limit.is_unsure() && slot.is_some_and(|slot| slot > until) {
                let refused = self.refusal(slot, now);
                self.turned_away(key, &asker, Some(launch));
                return Err(refused);
            }
            self.unwant(key);
            let waiting = Waiting {
                callers: Vec::new(),
                shares: 0,
                known: 0,
                launch,
            };
            self.waiting.insert(key.clone(), waiting);
        }
        self.last_id += 1;
        let (tell, told) = oneshot::channel();
        let id = self.last_id;
        if let Some(waiting) = self.waiting.get_mut(key) {
            self.turns.waits(&asker, first, now);
            // At the back, unless those before were to wait for longer than callers are now.
            let place = self.ends.partition_point(|(end, ..)| *end <= until);
            self.ends.insert(place, (until, id, key.clone()));
            waiting.shares += u64::from(asker.share);
            waiting.callers.push(Waiter { id, asker, tell });
        }
        Ok((id, told))
    }

    /// A caller hung up. A key that stayed wanted before it came still is.
    pub fn leave(&mut self, key: &K, id: u64) {
        if let Some((_, Some(launch))) = self.take(key, id)
            && let Some(debt) = self.cold.get(key).cloned()
            && debt.want()
        {
            self.want(key, &debt, launch);
        }
    }

    /// Takes a waiter out of the queue, and what was to launch its call where it was the last.
    fn take(&mut self, key: &K, id: u64) -> Option<(Waiter<L>, Option<Launch<L>>)> {
        let waiting = self.waiting.get_mut(key)?;
        let callers = &mut waiting.callers;
        let at = callers.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        let waiter = callers.remove(at);
        waiting.shares -= u64::from(waiter.asker.share);
        self.turns.waits_no_more(&waiter.asker, at == 0);
        let mut launch = None;
        match callers.first() {
            Some(next) if at == 0 => self.turns.leads(&next.asker),
            Some(_) => {}
            None => launch = self.waiting.remove(key).map(|waiting| waiting.launch),
        }
        Some((waiter, launch))
    }

    /// A page was served that is no longer fresh. `owing`: what has its debt.
    pub fn want<T>(&mut self, key: &K, owing: &Arc<T>, launch: Launch<L>)
    where
        T: AsRef<Debt> + Send + Sync + 'static,
    {
        let debt = (**owing).as_ref();
        if self.is_on_its_way(key) {
            debt.release();
            return;
        }
        let want = Want {
            key: key.clone(),
            owing: Arc::<T>::downgrade(owing),
            known: 0,
            called: None,
            launch,
        };
        self.wanted.insert(debt.place(), want);
    }

    /// Of a key that is waited for, or wanted by this debt, the page of this version is in memory.
    pub fn knows(&mut self, key: &K, debt: Option<&Debt>, version: u64) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.known = version;
        }
        if let Some(want) = debt.and_then(|debt| self.wanted.get_mut(&debt.place())) {
            want.known = version;
        }
    }

    /// What was wanted by this debt is there.
    pub fn wants_no_more(&mut self, debt: &Debt) {
        self.wanted.remove(&debt.place());
        debt.release();
    }

    /// A key that is wanted by this debt is called so among the replicas.
    pub fn is_called(&mut self, debt: &Debt, name: Option<Box<str>>) {
        if let Some(want) = self.wanted.get_mut(&debt.place()) {
            want.called = name;
        }
    }

    /// Another replica has fetched what is called so. It is taken from there, if it is wanted.
    pub(super) fn landed_elsewhere(&mut self, name: &str) {
        let mut wanted = self.wanted.iter();
        let found = wanted.find(|(_, want)| want.called.as_deref() == Some(name));
        let wish = found.map(|(place, want)| Wish {
            key: want.key.clone(),
            kind: Kind::Refresh,
            caller: None,
            known: want.known,
            debt: Some((*place, 0)),
        });
        if let Some(wish) = wish {
            self.is_elsewhere(&wish, None);
        }
    }

    /// A flight is over. `debt`: of the page that was in memory before. A key that is not in memory is no longer wanted if
    /// its call failed, unless somebody asks again.
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
            self.uncold(key);
        }
        if fetched {
            self.uncold(key);
        }
    }

    /// The vendor refused the call for a key that is not in memory. The callers go, the key stays wanted.
    pub fn stays_wanted(&mut self, key: &K, asker: &Asker, launch: Launch<L>) {
        if !self.waiting.contains_key(key) && !self.flights.contains_key(key) {
            self.turned_away(key, asker, Some(launch));
        }
    }

    fn uncold(&mut self, key: &K) {
        // To take something out of an empty map costs a hash all the same.
        if self.cold.is_empty() {
            return;
        }
        if let Some(debt) = self.cold.remove(key) {
            self.wanted.remove(&debt.place());
        }
    }

    /// A call ended.
    pub fn ended(&mut self, call: Call, outcome: Outcome, now: Instant) {
        self.limit.ended(call, outcome, now);
    }

    /// A call did not go after all.
    pub fn give_back(&mut self, call: Call) {
        self.limit.give_back(call);
        self.turns.give_back(call.number);
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

    fn unwant(&mut self, key: &K) {
        if let Some(debt) = self.cold.get(key) {
            debt.release();
            self.wanted.remove(&debt.place());
        }
    }
}
