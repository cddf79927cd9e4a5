//! Pages in the shared store: behind each replica's memory, and before the vendor.

use std::time::{Duration, Instant};

use redis::{Value, cmd};

use super::backlog::Waiting;
use super::entry::{self, Copy, Head};
use super::names::Name;
use super::script::{Reply, arguments};
use super::{Away, Fleet, Shared};
use crate::contacts::{Forwarded, PageKey};

/// How far a fetch had come to know of others when it began. A page that it brings is as good as that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Who began later has a greater one.
    pub version: u64,
    /// The latest forget that was known.
    pub(super) stamp: u64,
}

/// Why a fetch has brought nothing for the others, where nothing went wrong.
pub const UNKEPT: &str = "unkept";

impl Fleet {
    /// A fetch begins that asks nobody.
    pub fn start(&self, now: Instant) -> Start {
        self.0.as_deref().map_or(Start::default(), |member| Start {
            version: member.shared.micros(now),
            stamp: member.shared.stamp(),
        })
    }

    /// The same as of a fetch that began then at the latest. One that asked nobody may have begun before the store's time was
    /// known, by a clock that is ahead.
    pub fn no_later(&self, start: Start, then: Instant) -> Start {
        self.0.as_deref().map_or(start, |member| Start {
            version: start.version.min(member.shared.micros(then)),
            ..start
        })
    }

    /// What the others have of a page. What cannot be read is nothing.
    pub async fn page(&self, key: &PageKey, sent: &Forwarded) -> Option<Copy> {
        self.0.as_deref()?.shared.page(key, sent).await
    }

    /// Gives a page to the others, for so long; later, if the store is away and the page is in memory then.
    pub async fn keep(&self, key: &PageKey, copy: Copy, start: Start, for_: Duration) {
        if let Some(member) = &self.0 {
            let shared = &member.shared;
            let (sent, authorized) = (copy.sent.clone(), copy.authorized);
            if shared.keep(key, copy, start, for_).await.is_err() {
                let waiting = Waiting {
                    authorized,
                    start,
                    refused: 0,
                };
                shared.backlog.put((key.clone(), sent), waiting);
            }
        }
    }

    /// A fetch has brought nothing for the others, for this reason; those who wait for it wait no longer. `gone`: what they
    /// have is no longer what the vendor says.
    pub async fn release(
        &self,
        key: &PageKey,
        sent: &Forwarded,
        start: Start,
        why: &str,
        gone: bool,
    ) {
        if let Some(member) = &self.0 {
            let _ = member.shared.release(key, sent, start, why, gone).await;
        }
    }
}

impl Shared {
    async fn page(&self, key: &PageKey, sent: &Forwarded) -> Option<Copy> {
        self.live()?;
        let name = self.names.page(key, sent);
        let place = self.names.of_account(&name.account, &name.page);
        let command = cmd("GET").arg(&place).to_owned();
        let entry = match self.link.send("get", &place, &command).await.ok()? {
            Value::BulkString(entry) => entry,
            _ => return None,
        };
        let stamp = entry::head(&entry).map_or(0, |head| head.stamp);
        if !self.allows(stamp, &key.list) {
            return None;
        }
        let now = self.micros(self.clock.now());
        let Some(copy) = entry::read(&entry, &name.clear, &self.keys, &self.clock, now) else {
            self.metrics.shared_error("decode");
            return None;
        };
        Some(copy)
    }

    pub(super) async fn keep(
        &self,
        key: &PageKey,
        copy: Copy,
        start: Start,
        for_: Duration,
    ) -> Result<(), Away> {
        self.live().ok_or(Away)?;
        let name = self.names.page(key, &copy.sent);
        if !self.allows(start.stamp, &key.list) {
            return self.release(key, &copy.sent, start, UNKEPT, false).await;
        }
        let head = Head {
            fence: start.version,
            stamp: start.stamp,
            arrived: self.micros(copy.page.received_at),
        };
        let Some(entry) = entry::write(&copy, head, &name.clear, &self.keys) else {
            return self.release(key, &copy.sent, start, UNKEPT, false).await;
        };
        let keys = [
            self.names.of_account(&name.account, &name.page),
            self.names.of_account(&name.account, &name.list),
            self.lease(&name),
        ];
        let mut arguments = arguments![start.version, for_.as_millis(), name.page];
        arguments.push(entry);
        arguments.append(&mut arguments![
            self.names.of_account(&name.account, "news")
        ]);
        let reply = self
            .link
            .run("keep", &self.scripts.keep, &keys, &arguments)
            .await?;
        if Reply::new(reply)
            .next::<String>()
            .is_some_and(|word| word == "late")
        {
            tracing::debug!(list.tag = %key.list.tag(), "a page came later than one that was fetched after it");
        }
        Ok(())
    }

    async fn release(
        &self,
        key: &PageKey,
        sent: &Forwarded,
        start: Start,
        why: &str,
        gone: bool,
    ) -> Result<(), Away> {
        self.live().ok_or(Away)?;
        let name = self.names.page(key, sent);
        let page = self.names.of_account(&name.account, &name.page);
        let keys = [self.lease(&name), page];
        let news = self.names.of_account(&name.account, "news");
        let arguments = arguments![start.version, name.page, news, why, u8::from(gone)];
        self.link
            .run("release", &self.scripts.release, &keys, &arguments)
            .await?;
        Ok(())
    }

    /// Who fetches a page.
    fn lease(&self, name: &Name) -> String {
        self.names
            .of_account(&name.account, &format!("lease:{}", name.page))
    }

    /// The latest forget that is known.
    fn stamp(&self) -> u64 {
        self.known().heard
    }
}
