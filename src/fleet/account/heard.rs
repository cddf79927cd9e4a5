//! Who hears what is said of an account, and who is told of the store's comings and goings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Account, News, View};
use crate::fleet::Shared;
use crate::fleet::landings::Landing;

/// Who wants to hear of an account.
pub type Listener = Box<dyn Fn(News) + Send + Sync>;

/// Those who listen, by channel.
pub(in crate::fleet) type Listeners = HashMap<String, Arc<(Account, Listener)>>;

impl Account {
    /// From now on this listener is told what is heard, which may be nothing before [`Self::listen`].
    pub fn hear(&self, listener: Listener) {
        let channel = self.0.shared.names.of_account(&self.0.name, "news");
        let heard = (self.clone(), listener);
        self.0.shared.listeners().insert(channel, Arc::new(heard));
    }

    /// Nobody wants to hear of the account any more, unless somebody else has begun to since.
    pub fn hear_no_more(&self) {
        let channel = self.0.shared.names.of_account(&self.0.name, "news");
        let mut listeners = self.0.shared.listeners();
        let own = |heard: &Arc<(Self, Listener)>| Arc::ptr_eq(&heard.0.0, &self.0);
        let gone = listeners
            .get(&channel)
            .is_some_and(own)
            .then(|| listeners.remove(&channel));
        drop(listeners);
        drop(gone);
    }

    fn news(&self, said: &str) -> Option<News> {
        let (kind, rest) = said.split_once(' ')?;
        match kind {
            "s" => {
                self.0.said.fetch_add(1, Relaxed);
                // Of another record this replica knows nothing before it has joined. Earlier versions do not say of which.
                let epoch = rest.split(' ').nth(View::WORDS);
                epoch
                    .is_none_or(|epoch| *epoch == **self.epoch())
                    .then(|| View::read(rest))?
                    .map(News::View)
            }
            "c" => {
                let (member, at) = rest.split_once(' ')?;
                let offset = self.0.offset.load(Relaxed);
                // Before the first answer nobody knows when that was; the answer has it as well.
                let now = (offset != 0).then(|| self.millis() + offset)?;
                let ago = now.saturating_sub(at.parse().ok()?).max(0);
                Some(News::Call(
                    member.into(),
                    Duration::from_millis(ago.cast_unsigned()),
                ))
            }
            _ => None,
        }
    }
}

impl Shared {
    /// Has the store tell no more of accounts of which nobody wants to hear.
    pub(in crate::fleet) async fn listen_only(&self) {
        let own = self.channel();
        let wanted = |channel: &str| channel == own || self.listeners().contains_key(channel);
        self.link.listen_only(wanted).await;
    }

    /// The store is to be told of calls that went without it.
    pub(in crate::fleet) fn is_back(&self) {
        let untold = self.seats().untold();
        for name in untold {
            let channel = self.names.of_account(&name, "news");
            let listener = self.listeners().get(&channel).cloned();
            if let Some((_, listener)) = listener.as_deref() {
                listener(News::Back);
            }
        }
    }

    /// The store is away for all replicas.
    pub(in crate::fleet) fn is_gone(&self) {
        let all: Vec<_> = self.listeners().values().cloned().collect();
        for heard in all {
            (heard.1)(News::Gone);
        }
    }

    /// What was said in an account's channel.
    pub(in crate::fleet) fn said(&self, channel: &str, said: &str) {
        let mut words = said.splitn(3, ' ');
        match (words.next(), words.next()) {
            (Some(kind @ ("l" | "f")), Some(page)) => {
                let landing = Landing {
                    page: page.to_owned(),
                    problem: (kind == "f").then(|| words.next().unwrap_or_default().to_owned()),
                };
                // Nobody may be waiting for any.
                let _ = self.landings.send(landing);
                if kind == "l" {
                    self.tell_listener(channel, |_| Some(News::Landed(page.to_owned())));
                }
            }
            _ => self.tell_listener(channel, |account| account.news(said)),
        }
    }

    fn tell_listener(&self, channel: &str, news: impl FnOnce(&Account) -> Option<News>) {
        let listener = self.listeners().get(channel).cloned();
        if let Some((account, listener)) = listener.as_deref()
            && let Some(news) = news(account)
        {
            listener(news);
        }
    }
}
