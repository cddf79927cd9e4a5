//! Those for whom no call goes in time: they are told when one may, and what they wanted stays wanted.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Asker, Book, LOOK_AGAIN, Launch, Waiting};
use crate::error::Error;
use crate::upstream::allowance::limit::{Cause, Kind};

/// Keys that are not in memory and wanted at most.
const MOST_COLD: usize = 4_096;

impl<K: Clone + Eq + Hash, L: Clone> Book<K, L> {
    /// Whose end comes first has to go first.
    pub(super) fn turn_away_the_late(&mut self, now: Instant) {
        let slot = self.slot(Kind::Miss, now);
        let unsure = self.limit.is_unsure();
        let mut gone = 0;
        while let Some((until, id, key)) = self.ends.pop_front() {
            let waits = |waiting: &Waiting<L>| {
                let found = waiting
                    .callers
                    .binary_search_by_key(&id, |waiter| waiter.id);
                found.is_ok()
            };
            if !self.waiting.get(&key).is_some_and(waits) {
                continue;
            }
            if until > now && (unsure || slot.is_none_or(|slot| slot <= until)) {
                self.ends.push_front((until, id, key));
                break;
            }
            let Some((waiter, launch)) = self.take(&key, id) else {
                continue;
            };
            // Those who go now may come back one after the other.
            let slot = self.slot_for(&waiter.asker, gone, now);
            gone += usize::from(launch.is_some());
            let refused = self.refusal(slot, now);
            self.turned_away(&key, &waiter.asker, launch);
            let _ = waiter.tell.send(Err(refused));
        }
    }

    /// The caller goes, its interest stays.
    pub(super) fn turned_away(&mut self, key: &K, asker: &Asker, launch: Option<Launch<L>>) {
        if self.cold.len() >= MOST_COLD && !self.cold.contains_key(key) {
            return;
        }
        let ledger = &mut self.ledger;
        let debt = self
            .cold
            .entry(key.clone())
            .or_insert_with(|| Arc::new(ledger.open()));
        debt.add(self.penalty, asker.share);
        if let Some(launch) = launch
            && debt.want()
        {
            let debt = debt.clone();
            self.want(key, &debt, launch);
        }
    }

    pub(super) fn refusal(&self, slot: Option<Instant>, now: Instant) -> Error {
        // While a probe is out nobody knows when; nor, to the moment, while room is left for others.
        let slot = slot.unwrap_or(now + self.queue_deadline);
        let retry_after = match slot.saturating_duration_since(now) {
            Duration::ZERO => LOOK_AGAIN,
            wait => wait,
        };
        match self.limit.pause().map(|pause| pause.cause) {
            Some(Cause::Resting) => Error::UpstreamResting { retry_after },
            _ => Error::AllowanceSpent { retry_after },
        }
    }
}
