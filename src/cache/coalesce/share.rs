//! What a fetch came to, for the other replicas.

use std::time::Duration;

use super::{Fetches, Name};
use crate::contacts::{Page, SharedPage};
use crate::fleet::{Copy, Start, UNKEPT};

/// What they are told.
pub(super) enum Share {
    /// Nothing, and why.
    Nothing(&'static str),
    /// A page, and up to which age it is kept.
    Page(SharedPage, Duration),
    /// What they have is no longer what the vendor says.
    Gone,
}

impl<S> Fetches<S> {
    /// Tells the other replicas what came of a fetch, after those who wait here.
    pub(super) async fn share(&self, name: Name, authorized: bool, what: Share, start: Start) {
        if !self.0.lookups.fleet.is_alone() {
            Box::pin(self.share_with_others(name, authorized, what, start)).await;
        }
    }

    async fn share_with_others(
        &self,
        (key, sent): Name,
        authorized: bool,
        what: Share,
        start: Start,
    ) {
        let fleet = &self.0.lookups.fleet;
        match what {
            Share::Nothing(why) => fleet.release(&key, &sent, start, why, false).await,
            Share::Gone => fleet.release(&key, &sent, start, UNKEPT, true).await,
            Share::Page(page, kept) => {
                let left = kept.saturating_sub(page.age(self.0.lookups.clock.now()));
                let copy = Copy {
                    page: Page::clone(&page),
                    sent,
                    authorized,
                    version: start.version,
                };
                fleet.keep(&key, copy, start, left).await;
            }
        }
    }
}
