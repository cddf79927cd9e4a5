//! What other replicas have fetched: looked for in the shared store when memory has nothing that will do, and taken into memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::coalesce::{Accounts, Name};
use super::policy::Rules;
use super::store::{Entry, Store};
use crate::clock::Clock;
use crate::fleet::{Copy, Fleet};

type Look = Shared<BoxFuture<'static, Option<Arc<Entry>>>>;

/// Looks things up. One look for a page at a time, whoever waits for it.
pub struct Lookups {
    /// The pages in memory.
    pub store: Store,
    /// The other replicas.
    pub fleet: Fleet,
    /// Where pages have their debts.
    pub accounts: Accounts,
    /// Tells how old a page is.
    pub clock: Clock,
    /// For so long a caller waits for its turn.
    pub patience: Duration,
    under_way: Mutex<HashMap<Name, Look>>,
}

impl Lookups {
    /// Nobody has looked for anything yet.
    pub fn new(
        store: Store,
        fleet: Fleet,
        accounts: Accounts,
        clock: Clock,
        patience: Duration,
    ) -> Self {
        Self {
            store,
            fleet,
            accounts,
            clock,
            patience,
            under_way: Mutex::default(),
        }
    }

    /// A page that is newer than the one in memory, which it takes the place of.
    pub async fn look(
        self: &Arc<Self>,
        name: &Name,
        known: Option<&Arc<Entry>>,
        rules: &Arc<Rules>,
    ) -> Option<Arc<Entry>> {
        if !self.fleet.standing().up {
            return None;
        }
        // Whoever hangs up last takes the look away, or names that nobody asks for again would stay for ever.
        let _waits = Waits(self, name);
        let look = {
            let this = self.clone();
            let (own, rules) = (name.clone(), rules.clone());
            let look = || {
                async move {
                    let found = this.take(&own, &rules).await;
                    this.under_way().remove(&own);
                    found
                }
                .boxed()
                .shared()
            };
            self.under_way()
                .entry(name.clone())
                .or_insert_with(look)
                .clone()
        };
        let found = look.await?;
        known
            .is_none_or(|known| found.version() > known.version())
            .then_some(found)
    }

    async fn take(&self, (key, sent): &Name, rules: &Rules) -> Option<Arc<Entry>> {
        let ticket = self.store.ticket(&key.list);
        let Copy {
            page,
            sent: asked_with,
            authorized,
            version,
        } = self.fleet.page(key, sent).await?;
        // What is there already keeps what it is owed.
        let own = self.store.entry(key, sent);
        if own.as_ref().is_some_and(|own| own.version() >= version) {
            return own;
        }
        let debt = self.accounts.desk(key.list.account()).open_debt();
        let entry = Entry::of(&page, &asked_with, authorized, rules, debt)?;
        let entry = Arc::new(entry.of_version(version));
        if entry.page.age(self.clock.now()) >= entry.terms.limits(&rules.settings).kept {
            return None;
        }
        ticket.store(key, entry, sent, None);
        self.store.entry(key, sent)
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Name, Look>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits for a look.
struct Waits<'a>(&'a Lookups, &'a Name);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Self(lookups, name) = self;
        let mut under_way = lookups.under_way();
        let nobody_waits = |look: &Look| look.strong_count().is_none_or(|holders| holders == 1);
        if under_way.get(*name).is_some_and(nobody_waits) {
            under_way.remove(*name);
        }
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookups")
    }
}
