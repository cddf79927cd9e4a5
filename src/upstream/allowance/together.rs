//! Before a call goes, the other replicas are asked; what they say is taken down in the book.
//!
//! The book picks the call that this replica would make next, by its callers' turns and its pages' debts, and when it is
//! worth asking. Whether the call goes is for all replicas together to say, in one place: see [`crate::fleet::Account`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::book::{Book, Go, Wish};
use super::limit::{CAREFUL, Call, Kind, Outcome};
use super::{Desk, Settings, locked};
use crate::contacts::{Forwarded, PageKey};
use crate::fleet::{self, Away, Decision, Ended, Fleet, Grant, News, Part, Rules, UNKEPT};
use crate::upstream::refusal::Refusal;

/// With whom the accounts are shared, and what a key is called among them.
#[derive(Clone, Debug)]
pub struct Sharing<K> {
    /// The replicas.
    pub fleet: Fleet,
    /// The page that a key stands for.
    pub page: fn(&K) -> (&PageKey, &Forwarded),
    /// No call takes longer, to begin with.
    pub lease: Duration,
}

/// One account among replicas.
pub(super) struct Together<K> {
    fleet: Fleet,
    account: fleet::Account,
    page: fn(&K) -> (&PageKey, &Forwarded),
    /// How many replicas there are where nobody has ever told.
    replicas: u32,
    /// The connection over which the account was joined; 0: none.
    joined: AtomicU64,
    /// Whether somebody is there who hears what is said of it.
    hears: AtomicBool,
    /// What the next call is called. One that was asked for and not answered may have been let go by its name.
    member: Mutex<Option<Arc<str>>>,
    /// What was said to be owed, by place in the ledger.
    said: Mutex<HashMap<usize, u64>>,
}

/// After an answer that did not come in time, the next question waits so long.
const BREATH: Duration = Duration::from_millis(50);
/// So often in a row is a store told that is there and does not answer in time. Then the connection is given up.
const ATTEMPTS: u32 = 3;

/// What replicas have to agree on.
fn rules(settings: &Settings, lease: Duration) -> Rules {
    Rules {
        window: settings.window,
        calls: settings.calls.get(),
        reserve: settings.reserve,
        hourly: settings.hourly,
        floor: settings.floor.get(),
        pause: settings.pause,
        careful: CAREFUL,
        lease,
    }
}

impl<K> Sharing<K> {
    /// An account, if there are other replicas.
    pub(super) fn together(
        &self,
        account: &str,
        settings: &Settings,
        lease: Duration,
    ) -> Option<Together<K>> {
        Some(Together {
            fleet: self.fleet.clone(),
            account: self.fleet.account(account, rules(settings, lease))?,
            page: self.page,
            replicas: settings.fleet_size.get(),
            joined: AtomicU64::new(0),
            hears: AtomicBool::new(false),
            member: Mutex::default(),
            said: Mutex::default(),
        })
    }
}

impl<K, L> Desk<K, L>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    L: Clone + Send + 'static,
{
    /// Whether the other replicas can be asked.
    pub(super) fn is_together(&self) -> bool {
        self.together
            .as_ref()
            .is_some_and(|together| together.account.link().is_some())
    }

    /// Lets go what may go without asking anybody: this replica's part, where there are others.
    pub(super) fn pump_alone(self: &Arc<Self>, book: &mut Book<K, L>, now: Instant) {
        self.is_alone(book, now);
        book.pump(now);
    }

    /// Before a call goes without asking anybody: there may be other replicas.
    fn is_alone(self: &Arc<Self>, book: &mut Book<K, L>, now: Instant) {
        if let Some(together) = &self.together {
            // Once the store is back it is told of what went.
            self.hears_of(together);
            let joined = together.joined.swap(0, Relaxed);
            let part = together.account.part(joined, now);
            let unsure = matches!(part, Part::Of { unsure: true, .. });
            let part = match part {
                Part::Unknown => (together.replicas, now, None),
                Part::Each { replicas } => (replicas, now, None),
                Part::Of {
                    replicas,
                    from,
                    heard,
                    ..
                } => (replicas, from, Some(heard)),
                Part::Nothing => (u32::MAX, now, None),
            };
            book.limit.go_alone(part.0, part.1, part.2, now);
            book.limit.may_soon_know(unsure);
            book.hold_no_more();
        }
    }

    /// A call in the place of one that was lost, that nobody was asked about, if one may go at once.
    pub(super) fn another_alone(self: &Arc<Self>) -> Option<Call> {
        let mut book = self.book();
        let now = self.clock.now();
        if self.is_together() {
            return None;
        }
        self.is_alone(&mut book, now);
        let slot = book.limit.slot(Kind::Miss, now)?;
        (slot <= now).then(|| book.limit.send(Kind::Miss, now))
    }

    /// Lets go what the others have nothing against. Tells whether they could be asked.
    pub(super) async fn pump_together(self: &Arc<Self>) -> bool {
        let Some(together) = &self.together else {
            return false;
        };
        while let Some(link) = together.account.link() {
            if self.tell(together, link).await == Err(Away) {
                self.breathe();
                return together.account.link().is_some();
            }
            let wish = self.book().next_wish(self.clock.now());
            let Some(wish) = wish else { return true };
            let page = (together.page)(&wish.key);
            let asked = together.ask(&wish, Some(page)).await;
            let now = self.clock.now();
            let Ok((decision, view)) = asked else {
                self.breathe();
                return together.account.link().is_some();
            };
            let mut book = self.book();
            book.hold_no_more();
            together.take_down(&mut book, &decision, &view, now);
            match decision {
                Decision::Go(grant) => {
                    if !book.go(&wish, Some(grant.clone()), now) {
                        drop(book);
                        self.tasks.spawn(self.clone().give_back(wish.key, grant));
                    }
                }
                Decision::Wait(time) => book.hold(wish.kind, now + time),
                Decision::Flying(time, landings) => {
                    book.is_elsewhere(&wish, Some((now + time, landings)));
                }
                Decision::Newer(_) => book.is_elsewhere(&wish, None),
                Decision::Join => {}
            }
        }
        false
    }

    /// Asks the others for a key that a flight of this replica's is for. What it says is not in the book yet.
    pub async fn ask_again(
        self: &Arc<Self>,
        key: &K,
        awaited: bool,
        known: u64,
    ) -> Result<Decision, Away> {
        let together = self.together.as_ref().ok_or(Away)?;
        let page = Some((together.page)(key));
        let kind = if awaited { Kind::Miss } else { Kind::Refresh };
        let link = together.account.link().ok_or(Away)?;
        self.tell(together, link).await?;
        let (decision, view) = together.ask_for(page, kind, known, 0).await?;
        together.take_down(&mut self.book(), &decision, &view, self.clock.now());
        if matches!(decision, Decision::Join) {
            self.join_again(together).await;
        }
        Ok(decision)
    }

    /// A call goes that the others know of.
    pub fn goes(&self, awaited: bool, grant: Grant) -> Go {
        let kind = if awaited { Kind::Miss } else { Kind::Refresh };
        let mut book = self.book();
        let call = book.limit.send(kind, self.clock.now());
        book.limit.name_latest(grant.member.clone());
        Go::Call(call, Some(grant))
    }

    /// A call goes that nobody was asked about, if one may while they cannot be asked; else when to look again.
    pub fn goes_alone(self: &Arc<Self>, awaited: bool) -> Result<Go, Option<Instant>> {
        let kind = if awaited { Kind::Miss } else { Kind::Refresh };
        let mut book = self.book();
        let now = self.clock.now();
        if self.is_together() {
            return Err(Some(now + BREATH));
        }
        self.is_alone(&mut book, now);
        match book.limit.slot(kind, now) {
            Some(slot) if slot <= now => Ok(Go::Call(book.limit.send(kind, now), None)),
            slot => Err(slot),
        }
    }

    /// For a call in the place of one that was lost.
    pub(super) async fn ask_for_another(
        self: &Arc<Self>,
    ) -> Result<Option<(Call, Option<Grant>)>, Away> {
        let together = self.together.as_ref().ok_or(Away)?;
        let link = together.account.link().ok_or(Away)?;
        self.tell(together, link).await?;
        let (decision, view) = together.ask_for(None, Kind::Miss, 0, 0).await?;
        let now = self.clock.now();
        let mut book = self.book();
        together.take_down(&mut book, &decision, &view, now);
        let Decision::Go(grant) = decision else {
            return Ok(None);
        };
        let call = book.limit.send(Kind::Miss, now);
        book.limit.name_latest(grant.member.clone());
        Ok(Some((call, Some(grant))))
    }

    /// Tells the others how a call ended, and from when it counts; nothing: it was not made.
    pub(super) async fn settle(self: Arc<Self>, grant: Grant, how: Option<(Outcome, Instant)>) {
        let Some(together) = &self.together else {
            return;
        };
        let (outcome, went) = how.unzip();
        let ended = match outcome {
            Some(Outcome::Answered) => Ended::Answered,
            Some(Outcome::Refused(Refusal::Minute)) => Ended::Refused,
            Some(Outcome::Refused(Refusal::Hour)) => Ended::RefusedForLong,
            Some(Outcome::Failed) => Ended::Failed,
            Some(Outcome::Lost) => Ended::Lost,
            None => Ended::Unsent,
        };
        match together.account.settle(&grant.member, ended, went).await {
            Ok(Some(view)) => {
                let mut book = self.book();
                together.take_over(&mut book, &view, self.clock.now());
                book.hold_no_more();
            }
            // It is told of a pause with the rest.
            Ok(None) => self.join_again(together).await,
            Err(Away) if matches!(outcome, Some(Outcome::Refused(_))) => {
                self.join_again(together).await;
            }
            Err(Away) => return,
        }
        self.pump();
    }

    /// Tells the store what it has lost or did not hear: at once, or when it is back.
    async fn join_again(self: &Arc<Self>, together: &Together<K>) {
        together.joined.store(0, Relaxed);
        together.account.has_to_tell(self.clock.now());
        for _ in 0..ATTEMPTS {
            let Some(link) = together.account.link() else {
                return;
            };
            if self.join(together, link).await.is_ok() {
                return;
            }
        }
    }

    /// What the others let go is no longer wanted here: whoever waits for its page waits no longer.
    async fn give_back(self: Arc<Self>, key: K, grant: Grant) {
        let start = grant.start;
        self.clone().settle(grant, None).await;
        if let Some(together) = &self.together {
            let (key, sent) = (together.page)(&key);
            let released = together.fleet.release(key, sent, start, UNKEPT, false);
            released.await;
        }
    }

    /// Hears what is said of the account from now on.
    fn hears_of(self: &Arc<Self>, together: &Together<K>) {
        if together.hears.swap(true, Relaxed) {
            return;
        }
        let desk = Arc::downgrade(self);
        together.account.hear(Box::new(move |news| {
            if let Some(desk) = desk.upgrade() {
                desk.hears(news);
            }
        }));
    }

    /// Before the store is asked it is told what it may not know, over each connection once.
    async fn tell(self: &Arc<Self>, together: &Together<K>, link: u64) -> Result<(), Away> {
        match together.joined.load(Relaxed) == link {
            true => Ok(()),
            false => self.join(together, link).await,
        }
    }

    async fn join(self: &Arc<Self>, together: &Together<K>, link: u64) -> Result<(), Away> {
        self.hears_of(together);
        together.account.listen().await?;
        let mut attempts = ATTEMPTS;
        let (view, mut book) = loop {
            let now = self.clock.now();
            let member = || together.account.member();
            let known = self.book().limit.known(now, member);
            let view = together.account.join(&known).await?;
            let book = self.book();
            attempts -= 1;
            // What was said meanwhile was not taken over. Often it is this answer: then one more has nothing new in it.
            if attempts == 0 || !together.account.is_overtaken(&view) {
                break (view, book);
            }
        };
        book.limit.adopt(&view, self.clock.now());
        book.hold_no_more();
        // While the book is held nothing goes.
        if !book.limit.has_untold(self.clock.now()) {
            together.joined.store(link, Relaxed);
            together.account.has_told();
        }
        Ok(())
    }

    /// Something is said of the account.
    fn hears(self: Arc<Self>, news: News) {
        if matches!(news, News::Back) {
            self.tasks.spawn(self.clone().is_back());
            return;
        }
        let now = self.clock.now();
        let mut book = self.book();
        match news {
            News::Call(name, ago) => book
                .limit
                .mirror(&name, now.checked_sub(ago).unwrap_or(now)),
            // Before the store is told what went alone, it says nothing of that.
            News::View(view) if self.together.as_ref().is_some_and(Together::has_joined) => {
                book.limit.adopt(&view, now);
                book.hold_no_more();
                self.changed.notify_one();
            }
            News::Landed(name) => book.landed_elsewhere(&name),
            News::Gone => {
                drop(book);
                self.pump();
                self.changed.notify_one();
            }
            News::View(_) | News::Back => {}
        }
    }

    /// The store is back. Whoever wants something asks it; it is told what went in any case.
    async fn is_back(self: Arc<Self>) {
        if let Some(together) = &self.together
            && let Some(link) = together.account.link()
        {
            // Else with the next question.
            let _ = self.tell(together, link).await;
        }
        self.pump();
        self.changed.notify_one();
    }

    /// What a key is called among the replicas, if there are any.
    pub fn called(&self, key: &K) -> Option<Box<str>> {
        let together = self.together.as_ref()?;
        Some(together.account.name_of((together.page)(key)))
    }

    fn breathe(&self) {
        let until = self.clock.now() + BREATH;
        let mut book = self.book();
        book.hold(Kind::Miss, until);
        book.hold(Kind::Refresh, until);
    }
}

impl<K> Drop for Together<K> {
    fn drop(&mut self) {
        self.account.hear_no_more();
    }
}

impl<K> Together<K> {
    /// From now on goes by these settings.
    pub(super) fn go_by(&self, settings: &Settings, lease: Duration) {
        self.account.go_by(rules(settings, lease));
    }

    /// What the store says of an account is taken down; but not that it knows nothing.
    fn take_down<L>(
        &self,
        book: &mut Book<K, L>,
        decision: &Decision,
        view: &fleet::View,
        now: Instant,
    ) {
        match decision {
            Decision::Join => self.joined.store(0, Relaxed),
            Decision::Go(_) | Decision::Wait(_) | Decision::Flying(..) | Decision::Newer(_) => {
                self.take_over(book, view, now);
            }
        }
    }

    /// Before the store is told what went alone, and what was learnt, it says nothing of that: then its calls count alone. So
    /// they do where something was said meanwhile, which was all that matters beside them.
    fn take_over<L>(&self, book: &mut Book<K, L>, view: &fleet::View, now: Instant) {
        match self.has_joined() && !self.account.is_overtaken(view) {
            true => book.limit.adopt(view, now),
            false => book.limit.mirror_all(view, now),
        }
    }

    fn has_joined(&self) -> bool {
        self.joined.load(Relaxed) != 0
    }

    async fn ask(
        &self,
        wish: &Wish<K>,
        page: Option<(&PageKey, &Forwarded)>,
    ) -> Result<(Decision, fleet::View), Away> {
        let owed = wish.debt.map_or(0, |(place, owed)| {
            let mut said = locked(&self.said);
            let before = said.insert(place, owed).unwrap_or(0);
            // A place that owes less than was said is another page's.
            if owed < before { owed } else { owed - before }
        });
        self.ask_for(page, wish.kind, wish.known, owed).await
    }

    async fn ask_for(
        &self,
        page: Option<(&PageKey, &Forwarded)>,
        kind: Kind,
        known: u64,
        owed: u64,
    ) -> Result<(Decision, fleet::View), Away> {
        let member = locked(&self.member)
            .take()
            .unwrap_or_else(|| self.account.member());
        let wish = fleet::Wish {
            page,
            known,
            awaited: kind == Kind::Miss,
            owed,
            member: member.clone(),
        };
        let asked = self.account.ask(&wish).await;
        // Whoever was let go has used the name up.
        if !matches!(asked, Ok((Decision::Go(_), _))) {
            *locked(&self.member) = Some(member);
        }
        asked
    }
}

#[cfg(test)]
mod tests;
