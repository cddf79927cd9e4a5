//! An ask in, a page out: from memory while it may, from upstream when it must.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use self::store::Entry;
use crate::contacts::{Caller, Forwarded, PageKey, Read, SharedPage};
use crate::setting;
use crate::upstream::Reason;
use crate::upstream::allowance::{Asker, Wishes};

pub mod coalesce;
mod elsewhere;
pub mod lookup;
pub mod policy;
pub mod serve;
pub mod store;
#[cfg(test)]
mod test_pages;
mod vary;

/// `[cache]`: how long pages are kept and served, and how much memory they may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Memory for whole entries: key, header, body and overhead. For example "64MiB".
    #[serde(with = "setting::size")]
    #[schemars(with = "setting::SizeText")]
    pub max_bytes: u64,
    /// How old a page may be and count as fresh, where the vendor names no freshness.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub fresh_for: Duration,
    /// How old a page may be and still be served at once, while a refresh goes on behind it.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub usable_for: Duration,
    /// How old a page may be and still be served where a fetch failed.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub stale_if_error: Duration,
    /// How long the vendor's 400 and 404 are remembered.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub negative_for: Duration,
}

/// What the cache has for the edge.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a read.
    Page(Served),
    /// To a purge: how many pages were dropped.
    Forgotten(u64),
}

/// A page, and how it comes to be served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The page.
    pub page: SharedPage,
    /// How old it is.
    pub age: Duration,
    /// Where it is from.
    pub how: How,
}

/// Where a page is from: what `Cache-Status` tells (RFC 9211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// From memory, without waiting for the vendor.
    Hit {
        /// Seconds for which it stays fresh; negative once it is not.
        ttl: i64,
    },
    /// From the vendor.
    Fetched {
        /// Why memory would not do.
        fwd: &'static str,
        /// What the vendor answered with; a page of 200 can come of a 304.
        status: StatusCode,
        /// Whether it is in memory now.
        stored: bool,
        /// Whether somebody else's fetch brought it.
        collapsed: bool,
    },
    /// From memory, because a fetch failed: the failure's name.
    OldAfter(&'static str),
}

/// What [`serve`] wants of what is below it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The page to fetch, unless that is being done.
    pub key: PageKey,
    /// What of the caller's header goes to the vendor with it.
    pub forwarded: Forwarded,
    /// Why.
    pub reason: Reason,
    /// What was in memory and would not do.
    pub known: Option<Arc<Entry>>,
    /// What there were of [`Store::puts`](store::Store::puts) before that was looked for; 0: it was longer ago.
    pub seen: u64,
    /// Whether the caller sent an `Authorization`.
    pub authorized: bool,
    /// Whether nothing of the answer is to be kept for the caller's sake.
    pub no_store: bool,
    /// On whose behalf.
    pub caller: Arc<Caller>,
}

impl Wanted {
    fn of(read: &Read, reason: Reason, known: Option<Arc<Entry>>, seen: u64) -> Self {
        Self {
            key: read.key.clone(),
            forwarded: read.forwarded.clone(),
            reason,
            known,
            seen,
            authorized: read.authorized,
            no_store: read.directives.no_store,
            caller: read.caller.clone(),
        }
    }

    /// Whose turn it takes.
    fn asker(&self) -> Asker {
        Asker {
            caller: self.caller.name.clone(),
            share: self.caller.share.get(),
            wishes: Wishes {
                no_store: self.no_store,
                another: self.known.is_some(),
            },
        }
    }

    /// Of what was in memory; 0: nothing was.
    fn version(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.version())
    }

    fn name(&self) -> (PageKey, Forwarded) {
        (self.key.clone(), self.forwarded.clone())
    }
}

/// What a fetch brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The page.
    pub page: SharedPage,
    /// Whether it is in memory now.
    pub stored: bool,
    /// Whether it was somebody else's fetch.
    pub collapsed: bool,
}
