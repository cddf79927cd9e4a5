//! An account that replicas share: whether a call may go now, and that nobody else fetches the same page.
//!
//! Each decision is one atomic script by the store's clock. What it says of the account comes back with every answer, and
//! is told to those who listen, so that a replica asks only when it has reason to think that a call may go.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::landings::Landings;
use super::pages::Start;
use super::script::{Reply, Script, arguments};
use super::seats::{Part, gap_of};
use super::{Away, Fleet, Shared};
use crate::contacts::{Forwarded, PageKey};

mod heard;
mod words;

pub use heard::Listener;
pub(super) use heard::Listeners;
pub use words::{Decision, Ended, Grant, Known, News, Rules, View, Wish};

/// One account among replicas. Clones share it.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    name: String,
    rules: Mutex<Rules>,
    /// What the store's record of it is called: another one if the store has lost the first.
    epoch: Mutex<String>,
    /// The calls that went before are known.
    since: AtomicU64,
    /// The store's time less ours, in milliseconds, where the account's record is.
    offset: AtomicI64,
    /// How often it was said how the account stands.
    said: AtomicU64,
}

/// At the end of what a call is called of which nobody knows whether it went.
const GUESSED: char = '?';

/// Whether a call of this name may not have gone.
pub fn is_guessed(member: &str) -> bool {
    member.ends_with(GUESSED)
}

impl Fleet {
    /// An account, if there are other replicas. Whoever listens hears what is said of it.
    pub fn account(&self, account: &str, rules: Rules) -> Option<Account> {
        let shared = self.0.as_deref()?.shared.clone();
        let inner = Inner {
            name: shared.names.account(account),
            shared,
            rules: Mutex::new(rules),
            epoch: Mutex::default(),
            since: AtomicU64::new(0),
            offset: AtomicI64::new(0),
            said: AtomicU64::new(0),
        };
        Some(Account(Arc::new(inner)))
    }
}

impl Account {
    /// The number of the connection to the store, while it can be asked.
    pub fn link(&self) -> Option<u64> {
        self.0.shared.live()?;
        self.0.shared.link.number()
    }

    /// Whether it was said meanwhile how the account stands, perhaps later than this answer: what is said and what is answered
    /// come in one order and are heard in another.
    pub fn is_overtaken(&self, answer: &View) -> bool {
        self.0.said.load(Relaxed) != answer.said
    }

    /// From now on goes by these rules.
    pub fn go_by(&self, rules: Rules) {
        *self.0.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn rules(&self) -> Rules {
        let rules = self.0.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    /// What this replica may make without asking. `joined`: the number of the connection over which the account was joined.
    pub fn part(&self, joined: u64, now: Instant) -> Part {
        let Inner { shared, name, .. } = &*self.0;
        let mut part = shared.seats().part(name, now);
        if let Part::Of { heard, .. } = &mut part
            && !shared.link.has_told_all(joined)
        {
            *heard = None;
        }
        part
    }

    /// The store may not know of all that it has to.
    pub fn has_to_tell(&self, now: Instant) {
        self.0.shared.seats().has_to_tell(&self.0.name, now);
    }

    /// The store knows of all calls that went.
    pub fn has_told(&self) {
        self.0.shared.seats().has_told(&self.0.name);
    }

    /// What a page is called in what is said of it.
    pub fn name_of(&self, (key, sent): (&PageKey, &Forwarded)) -> Box<str> {
        self.0.shared.names.page(key, sent).page.into()
    }

    /// What another call of this replica's is called.
    pub fn member(&self) -> Arc<str> {
        let shared = &self.0.shared;
        format!(
            "{}.{}",
            shared.replica,
            shared.members.fetch_add(1, Relaxed)
        )
        .into()
    }

    /// Hears what is said of the account from now on.
    ///
    /// # Errors
    /// Not before the store is back.
    pub async fn listen(&self) -> Result<(), Away> {
        let Inner { shared, name, .. } = &*self.0;
        shared
            .link
            .listen(shared.names.of_account(name, "news"))
            .await
    }

    /// Tells what this replica knows of the account.
    ///
    /// # Errors
    /// The store is away.
    pub async fn join(&self, known: &Known) -> Result<View, Away> {
        let Inner { shared, since, .. } = &*self.0;
        since.store(0, Relaxed);
        let ago = known.refused.map_or(-1, |ago| ago.as_millis() as i64);
        let (left, cause) = known.pause.map_or((Duration::ZERO, "-"), |(left, rests)| {
            (left, if rests { "f" } else { "r" })
        });
        let mut more = arguments![
            self.member(),
            known.limit,
            known.ceiling,
            ago,
            known.refusals,
            left.as_millis(),
            cause,
            known.guessed.len()
        ];
        for (member, ago) in &known.calls {
            more.append(&mut arguments![member, ago.as_millis()]);
        }
        for ago in &known.guessed {
            let member = format!("{}{GUESSED}", self.member());
            more.append(&mut arguments![member, ago.as_millis()]);
        }
        let (_, _, view, joined) = self
            .run("join", &shared.scripts.join, Vec::new(), more)
            .await?;
        *self.epoch() = joined;
        Ok(view)
    }

    /// Whether a call may go.
    ///
    /// # Errors
    /// The store is away, or did not answer in time, or it is not known who is there. It may have let the call go all the same: who asks again by the same
    /// name is not counted twice.
    pub async fn ask(&self, wish: &Wish<'_>) -> Result<(Decision, View), Away> {
        let (Inner { shared, name, .. }, rules) = (&*self.0, self.rules());
        // Somebody may be cut off by now and make its part.
        let sight = shared.seats().sight();
        sight
            .filter(|sight| shared.clock.now() <= *sight)
            .ok_or(Away)?;
        let start = shared.known().heard;
        let page = wish
            .page
            .map(|(key, sent)| (shared.names.page(key, sent), shared.horizon(&key.list)));
        let (page, horizon) = page.unzip();
        let page_name = page.as_ref().map_or("", |page| &page.page);
        let keys = vec![
            shared.names.of_account(name, &format!("lease:{page_name}")),
            shared.names.of_account(name, page_name),
        ];
        let more = arguments![
            if wish.awaited { "m" } else { "r" },
            wish.member,
            rules.lease.as_millis(),
            horizon.unwrap_or(0),
            wish.known,
            page_name,
            wish.owed,
            start,
            shared.replica,
        ];
        // Before the question: how a fetch ends may be heard before the answer that there is one.
        let landings = Landings::of(shared, page_name.to_owned());
        let (word, value, view, _) = self
            .run("decide", &shared.scripts.decide, keys, more)
            .await?;
        let time = Duration::from_millis(value);
        let decision = match word.as_str() {
            "go" => Decision::Go(Grant {
                start: Start {
                    version: value,
                    stamp: start,
                },
                member: wish.member.clone(),
            }),
            "wait" => Decision::Wait(time),
            "flying" => Decision::Flying(time, landings),
            "newer" => Decision::Newer(value),
            _ => Decision::Join,
        };
        Ok((decision, view))
    }

    /// A call has ended. `went`: it counts from then, if that is later than it was let go. Nothing: the store does not know
    /// what this replica knows.
    ///
    /// # Errors
    /// The store is away.
    pub async fn settle(
        &self,
        member: &str,
        ended: Ended,
        went: Option<Instant>,
    ) -> Result<Option<View>, Away> {
        let (Inner { shared, .. }, rules) = (&*self.0, self.rules());
        let now = shared.clock.now();
        let ago = went.map_or(-1, |went| {
            now.saturating_duration_since(went).as_millis() as i64
        });
        let more = arguments![
            member,
            ended.letter(),
            rules.floor,
            rules.pause.as_millis(),
            ago
        ];
        let (word, _, view, _) = self
            .run("settle", &shared.scripts.settle, Vec::new(), more)
            .await?;
        Ok((word != "join").then_some(view))
    }

    /// Runs one of the account's scripts: its word, its number, how the account stands, and the epoch.
    async fn run(
        &self,
        operation: &'static str,
        script: &Script,
        more_keys: Vec<String>,
        mut more: Vec<Vec<u8>>,
    ) -> Result<(String, u64, View, String), Away> {
        let (Inner { shared, name, .. }, rules) = (&*self.0, self.rules());
        self.link().ok_or(Away)?;
        let mut keys: Vec<_> = ["calls", "hour", "state", "debts"]
            .map(|what| shared.names.of_account(name, what))
            .into();
        keys.extend(more_keys);
        let (size, here, sight) = {
            let seats = shared.seats();
            (seats.size(), seats.here(), seats.sight())
        };
        // By the store's time, and no later.
        let sight = sight.map_or(0, |sight| {
            self.millis_at(sight) + self.0.offset.load(Relaxed) - 1
        });
        let mut arguments = arguments![
            self.epoch(),
            rules.window.as_millis(),
            rules.calls,
            rules.reserve,
            rules.hourly,
            rules.careful.as_millis(),
            size,
            size.saturating_sub(here),
            self.0.since.load(Relaxed),
            shared.names.of_account(name, "news"),
            sight,
            gap_of(size).as_millis(),
        ];
        arguments.append(&mut more);
        let said = self.0.said.load(Relaxed);
        let mut reply = Reply::new(
            shared
                .link
                .run(operation, script, &keys, &arguments)
                .await?,
        );
        let (word, value, epoch) = (reply.next::<String>(), reply.next(), reply.next());
        let (told, now) = (reply.next::<String>(), reply.next::<u64>());
        let ((Some(word), Some(value)), (Some(told), Some(now))) = ((word, value), (told, now))
        else {
            shared.metrics.shared_error(operation);
            return Err(Away);
        };
        self.0.since.store(now.saturating_sub(1), Relaxed);
        self.0.offset.store(now as i64 - self.millis(), Relaxed);
        let mut view = View {
            said,
            ..View::read(&told).ok_or(Away)?
        };
        while let (Some(member), Some(at)) = (reply.next::<String>(), reply.next::<f64>()) {
            let ago = Duration::from_millis(now.saturating_sub(at as u64));
            view.calls.push((member.into(), ago));
        }
        Ok((word, value, view, epoch.unwrap_or_default()))
    }

    fn epoch(&self) -> MutexGuard<'_, String> {
        self.0.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> i64 {
        self.millis_at(self.0.shared.clock.now())
    }

    fn millis_at(&self, then: Instant) -> i64 {
        then.saturating_duration_since(self.0.shared.began)
            .as_millis() as i64
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.0.name).finish()
    }
}
