//! Forgets: one replica's is every replica's.
//!
//! Each forget has a number, which only rises. The store keeps the latest of each list, and tells those who listen; who did
//! not hear one asks for all since the last it heard. A page tells which forget was known when its fetch began, so
//! whoever knows of a later one of its list does not take it, wherever it comes from.
//!
//! A forget that was made while the store was away is told when it is back. A store that lost what it knew is told again
//! by each of those who know. It shows by the latest that a replica heard: the store knows of no such forget, or says that
//! the one before a later one was an earlier one.

use std::collections::{BTreeSet, HashMap, HashSet};

use redis::cmd;

use super::names::Names;
use super::script::{Reply, arguments};
use super::{Away, Fleet, Shared};
use crate::contacts::{Forget, ListKey};

/// What a forget is about, in names: stream, list, account; one that is not named stands for all.
pub(super) type What = (String, Option<String>, Option<String>);

/// The forgets that are known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The number of the latest of each kind.
    latest: HashMap<What, u64>,
    /// All up to this one were heard from the store.
    pub(super) heard: u64,
    /// What that one is about.
    last: Option<What>,
    /// Of those before this one not all are known any more.
    floor: u64,
    /// Made while the store was away.
    untold: BTreeSet<What>,
    /// The store has lost some.
    lost: bool,
}

/// So many are remembered.
const MOST: usize = 10_000;
/// So many are asked for or told at once.
const SOME: usize = 500;

impl Known {
    /// Whether a page of this list may be used whose fetch began when `stamp` was the latest forget.
    fn allows(&self, stamp: u64, list: &[String; 3]) -> bool {
        stamp >= self.horizon(list)
    }

    /// What the stamp of a page of this list has to be.
    fn horizon(&self, [stream, list, account]: &[String; 3]) -> u64 {
        let of = |list: Option<&String>, account: Option<&String>| {
            let what = (stream.clone(), list.cloned(), account.cloned());
            self.latest.get(&what).copied().unwrap_or(0)
        };
        let latest = of(Some(list), Some(account)).max(of(Some(list), None));
        let latest = latest.max(of(None, Some(account))).max(of(None, None));
        latest.max(self.floor)
    }

    /// The store said that a forget came after another. Tells whether none that came before was missed.
    fn follows(&mut self, previous: u64, number: u64, what: &What) -> bool {
        if previous > self.heard {
            return false;
        }
        if number > self.heard {
            self.lost |= previous < self.heard;
            (self.heard, self.last) = (number, Some(what.clone()));
        }
        true
    }

    /// Takes a forget down. Tells whether it is news.
    fn note(&mut self, what: What, number: u64) -> bool {
        let latest = self.latest.entry(what).or_default();
        let news = number > *latest;
        *latest = number.max(*latest);
        if self.latest.len() > MOST + SOME {
            let mut numbers: Vec<_> = self.latest.values().copied().collect();
            numbers.sort_unstable();
            let floor = numbers[numbers.len() - MOST];
            self.latest.retain(|_, number| *number >= floor);
            self.floor = self.floor.max(floor);
        }
        news
    }
}

impl Fleet {
    /// Has the other replicas forget. Tells how many pages the store had of one list of one account.
    pub async fn forget(&self, what: &Forget) -> u64 {
        let Some(member) = &self.0 else { return 0 };
        let (shared, named) = (member.shared.clone(), member.shared.has_forgotten(what));
        let list = what.one_list();
        // A task of its own: whoever asked may hang up, and the others are to forget all the same.
        let telling = async move { shared.has_others_forget(named, list).await };
        member.telling.spawn(telling).await.unwrap_or(0)
    }
}

impl Shared {
    /// Whether a page of this list may be used whose fetch began when `stamp` was the latest forget.
    pub(super) fn allows(&self, stamp: u64, list: &ListKey) -> bool {
        self.known().allows(stamp, &parts(&self.names, list))
    }

    /// What the stamp of a page of this list has to be.
    pub(super) fn horizon(&self, list: &ListKey) -> u64 {
        self.known().horizon(&parts(&self.names, list))
    }

    /// At once for what this replica takes from the store, whether the store hears of it or not.
    fn has_forgotten(&self, what: &Forget) -> What {
        let named = named(&self.names, what);
        let now = self.micros(self.clock.now());
        let mut known = self.known();
        let number = now.max(known.heard + 1);
        known.note(named.clone(), number);
        named
    }

    async fn has_others_forget(&self, named: What, list: Option<ListKey>) -> u64 {
        let told = match self.live() {
            Some(()) => self.tell(&named).await,
            None => Err(Away),
        };
        if told.is_err() {
            self.known().untold.insert(named);
        }
        match list {
            Some(list) => self.drop_pages(&list).await.unwrap_or(0),
            None => 0,
        }
    }

    /// Tells the store of a forget, and by it the others.
    async fn tell(&self, what: &What) -> Result<(), Away> {
        let keys = ["fleet", "forgets"].map(|what| self.names.ours(what));
        let known = self.known().latest.values().copied().max().unwrap_or(0);
        let arguments = arguments![known, written(what), MOST, self.channel()];
        let reply = self
            .link
            .run("forget", &self.scripts.forget, &keys, &arguments)
            .await?;
        let mut reply = Reply::new(reply);
        if let (Some(number), Some(previous)) = (reply.next(), reply.next::<u64>()) {
            let mut known = self.known();
            known.note(what.clone(), number);
            // What was missed in between the next beat brings.
            known.follows(previous, number, what);
        }
        Ok(())
    }

    /// What is forgotten does not stay in the store either, where it is known what that is.
    async fn drop_pages(&self, list: &ListKey) -> Option<u64> {
        self.live()?;
        let account = self.names.account(list.account());
        let key = self.names.of_account(&account, &self.names.list(list));
        let arguments = arguments![self.names.of_account(&account, "")];
        let dropped = self
            .link
            .run("drop", &self.scripts.drop, &[key], &arguments)
            .await;
        Reply::new(dropped.ok()?).next()
    }

    /// What was said in the channel: `PREVIOUS NUMBER WHAT`. Tells whether nothing was missed.
    pub(super) fn heard(&self, said: &str) -> bool {
        let Some((previous, number, what)) = said_is(said) else {
            return true;
        };
        let news = {
            let mut known = self.known();
            if !known.follows(previous, number, &what) {
                return false;
            }
            known.note(what.clone(), number)
        };
        if news {
            self.obey(&HashSet::from([what]));
        }
        true
    }

    /// Hears what it has missed, tells what nobody heard, and where the store knows less than this replica, all it knows.
    pub(super) async fn catch_up(&self, (latest, floor): (u64, u64)) -> Result<(), Away> {
        let before = {
            let mut known = self.known();
            known.floor = known.floor.max(floor);
            known.lost |= latest < known.heard;
            known.heard
        };
        if latest > before {
            self.hear_since(before, latest).await?;
        }
        // What this replica last heard is no longer all there: nothing that it has can be checked.
        if before > 0 && before < floor {
            (self.forgets)(&|_| true);
        }
        loop {
            // Out of the set first: it may be forgotten again meanwhile.
            let Some(what) = self.known().untold.pop_first() else {
                break;
            };
            if self.tell(&what).await.is_err() {
                self.known().untold.insert(what);
                return Err(Away);
            }
        }
        // Any of that may have shown it.
        let lost = std::mem::take(&mut self.known().lost);
        if lost && self.tell_all().await.is_err() {
            self.known().lost = true;
            return Err(Away);
        }
        Ok(())
    }

    async fn hear_since(&self, mut since: u64, latest: u64) -> Result<(), Away> {
        let key = self.names.ours("forgets");
        let mut news = HashSet::new();
        // With the last that was heard, which is there still or came again.
        let mut from = since.to_string();
        let (mut missing, mut last) = (self.known().last.clone(), None);
        loop {
            let mut command = cmd("ZRANGE");
            command.arg(&key).arg(&from).arg("+inf").arg("BYSCORE");
            command.arg("LIMIT").arg(0).arg(SOME).arg("WITHSCORES");
            let reply = self.link.send("forgets", &key, &command).await?;
            let some: Vec<(String, f64)> = redis::from_redis_value(reply).map_err(|_| Away)?;
            let mut known = self.known();
            for (what, number) in &some {
                since = since.max(*number as u64);
                let Some(what) = what_is(what) else { continue };
                missing.take_if(|last| *last == what);
                if known.note(what.clone(), *number as u64) {
                    news.insert(what.clone());
                }
                last = Some(what);
            }
            from = format!("({since}");
            if some.len() < SOME {
                known.lost |= missing.is_some() && known.heard >= known.floor;
                for (number, what) in [(since, last), (latest, None)] {
                    if number > known.heard {
                        (known.heard, known.last) = (number, what);
                    }
                }
                break;
            }
        }
        if !news.is_empty() {
            self.obey(&news);
        }
        Ok(())
    }

    /// The store has lost what it knew.
    async fn tell_all(&self) -> Result<(), Away> {
        let keys = ["fleet", "forgets"].map(|what| self.names.ours(what));
        let all: Vec<_> = {
            let known = self.known();
            let all = known
                .latest
                .iter()
                .map(|(what, number)| (written(what), *number));
            all.collect()
        };
        for some in all.chunks(SOME) {
            let mut arguments = arguments![self.channel()];
            for (what, number) in some {
                arguments.append(&mut arguments![number, what]);
            }
            self.link
                .run("forget", &self.scripts.remember, &keys, &arguments)
                .await?;
        }
        Ok(())
    }

    /// Drops from memory what these are about.
    fn obey(&self, news: &HashSet<What>) {
        (self.forgets)(&|list| {
            let [stream, id, account] = parts(&self.names, list);
            let means = |list: Option<&String>, account: Option<&String>| {
                news.contains(&(stream.clone(), list.cloned(), account.cloned()))
            };
            means(Some(&id), Some(&account))
                || means(Some(&id), None)
                || means(None, Some(&account))
                || means(None, None)
        });
    }

    /// Where forgets are told.
    pub(super) fn channel(&self) -> String {
        self.names.ours("forget")
    }
}

fn parts(names: &Names, list: &ListKey) -> [String; 3] {
    [
        names.part(b's', list.stream()),
        names.part(b'i', list.list()),
        names.part(b'a', list.account()),
    ]
}

fn named(names: &Names, what: &Forget) -> What {
    let Forget {
        stream,
        list,
        account,
    } = what;
    (
        names.part(b's', stream.as_str()),
        list.as_ref().map(|list| names.part(b'i', list.as_str())),
        account
            .as_ref()
            .map(|account| names.part(b'a', account.as_str())),
    )
}

/// `STREAM LIST ACCOUNT`, with a star for all.
fn written((stream, list, account): &What) -> String {
    let or_all = |part: &Option<String>| part.as_deref().unwrap_or("*").to_owned();
    format!("{stream} {} {}", or_all(list), or_all(account))
}

fn what_is(written: &str) -> Option<What> {
    let mut parts = written.split(' ');
    let stream = parts.next()?.to_owned();
    let mut part = || Some(parts.next()?.to_owned()).map(|part| (part != "*").then_some(part));
    Some((stream, part()?, part()?))
}

fn said_is(said: &str) -> Option<(u64, u64, What)> {
    let (previous, rest) = said.split_once(' ')?;
    let (number, what) = rest.split_once(' ')?;
    Some((previous.parse().ok()?, number.parse().ok()?, what_is(what)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_page_that_was_fetched_before_a_forget_of_its_list_is_not_used() {
        let list = ["s", "l", "a"].map(str::to_owned);
        for (what, meant) in [
            (("s".into(), part("l"), part("a")), true),
            (("s".into(), part("l"), None), true),
            (("s".into(), None, part("a")), true),
            (("s".into(), None, None), true),
            (("s".into(), part("m"), part("a")), false),
            (("s".into(), part("l"), part("b")), false),
            (("t".into(), None, None), false),
        ] {
            let mut known = Known::default();
            assert!(known.note(what.clone(), 10));
            assert_eq!(known.allows(9, &list), !meant, "{what:?}");
            assert!(known.allows(10, &list));
            assert!(!known.note(what.clone(), 9), "it is no news");
            assert_eq!(what_is(&written(&what)), Some(what));
        }
    }

    #[test]
    fn of_very_many_forgets_the_first_are_no_longer_known_and_what_is_older_is_not_used() {
        let mut known = Known::default();
        let list = ["s", "l", "a"].map(str::to_owned);
        for number in 1..=(MOST + SOME + 1) as u64 {
            known.note((format!("s{number}"), None, None), number);
        }
        assert_eq!(known.latest.len(), MOST);
        let floor = (SOME + 2) as u64;
        assert!(!known.allows(floor - 1, &list) && known.allows(floor, &list));
    }
}
