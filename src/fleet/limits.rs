//! What the replicas ask of the store, where that ends, and what happens then. A calculation from measured costs.
//!
//! # An operation
//!
//! Counted by the store itself, for pages of 50 contacts; a test counts again in every run.
//!
//! | operation | commands | bytes to the store | and from it |
//! |---|---|---|---|
//! | hit in memory | 0 | 0 | 0 |
//! | page that another replica has | 1 (`GET`) | 100 | 2,500 |
//! | miss | 4 (look, decide, settle, keep) | 4,200 | 900 |
//! | refresh | 4 (look, decide, settle, keep) | 4,000 | 3,300 |
//! | refresh at another replica, of a page that is wanted here | 1 (`GET`) | 100 | 2,500 |
//! | forget | 2 (forget, drop) | 570 | 550 |
//! | a second of a replica that is there | 2 (beat) | 515 | 112 |
//! | an account of which a replica wants more than may go | about 1 a second (decide) | about 700 | about 250 |
//!
//! A call and its page are told to every replica that has the account: two messages of 50 bytes each,
//! and one more if a connection had to be made for it. A forget is told to all.
//!
//! # A fleet
//!
//! What one account asks whose replicas all want more than its 59 calls a minute, the worst there is; and how busy one
//! server is with it. Decisions were measured at 9,000 a second, beats at 12,000 (Redis 7.0, one core of a busy machine).
//!
//! | replicas | decisions a second | beats a second | messages a second | busy |
//! |---|---|---|---|---|
//! | 10 | 10 | 20 | 19 | 0 % |
//! | 1,000 | 967 | 1,000 | 1,934 | 19 % |
//! | 10,000 | 9,672 | 1,000 | 19,344 | 116 % |
//! | 100,000 | 96,721 | 1,000 | 193,443 | 1,083 % |
//!
//! - **It ends at about 7,000 replicas of one account on one server.** Beats are no part of that: beyond 500 replicas each
//!   says more seldom that it is there, so that the store hears no more than 1,000 a second.
//! - **Who is cut off makes its part** when the others are sure to know: eight beats after it last said that it is there, 4.1
//!   seconds up to 500 replicas, 8.1 at 1,000. From 60 replicas on that is no call, unless the account has more.
//! - **With many accounts a cluster goes on**: everything of an account is in one slot, so accounts spread over the nodes.
//!   100,000 replicas of 1,000 accounts are 97 decisions a second for each account, and 11 nodes. Messages are what is dearest
//!   then: each node hears all of them.
//! - **One account of 100,000 replicas is too much** for any of it, and 59 calls a minute are one call a day for each: share
//!   gateways before sharing a store.
//! - **Beyond its end** answers come late, then not in time, and replicas go on alone: from their own memory, with 59 / N calls
//!   each, which is none from 60 replicas on. Nothing fails that is in memory, and what is not waits for the store. A larger
//!   part for each cannot be had: all of them together would be refused.
//! - **A forget** of one list by a replica without it costs every other replica a keyed hash for each list in its memory, about
//!   a microsecond each.
//! - **A page that was refreshed** is taken by every replica that wants it: at most as many `GET`s as there are decisions.
//! - **After an outage** each replica gives the pages that it fetched meanwhile, up to 10,000 of them, 50 a second.
//! - **What a replica does not hear it asks for**: forgets within a beat, which is half a second up to 500 replicas and 100
//!   seconds at 100,000.

use super::seats::beat_of;

/// What a server can do in a second.
const DECISIONS: f64 = 9_000.0;
const BEATS_HEARD: f64 = 12_000.0;
/// Calls of an account in a second.
const CALLS: f64 = 59.0 / 61.0;
/// Messages of a call.
const MESSAGES: f64 = 2.0;

/// What replicas of one account ask of the store in a second.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Decisions.
    pub decisions: f64,
    /// That a replica is there.
    pub beats: f64,
    /// Messages that the store sends.
    pub messages: f64,
}

impl Load {
    /// Of so many replicas, each of which wants more than may go, so that it asks whenever a call may.
    pub fn of(replicas: u32) -> Self {
        let every = beat_of(replicas).as_secs_f64();
        let replicas = f64::from(replicas);
        Self {
            decisions: replicas * CALLS,
            beats: replicas / every,
            messages: replicas * CALLS * MESSAGES,
        }
    }

    /// How much of a server's time that takes.
    pub fn busy(&self) -> f64 {
        self.decisions / DECISIONS + self.beats / BEATS_HEARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As people write numbers.
    fn grouped(number: f64) -> String {
        let digits = format!("{number:.0}");
        let mut text = String::new();
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        text
    }

    #[test]
    fn the_table_is_what_the_calculation_says() {
        let documentation = include_str!("limits.rs");
        for replicas in [10, 1_000, 10_000, 100_000] {
            let load = Load::of(replicas);
            let cells = [
                f64::from(replicas),
                load.decisions,
                load.beats,
                load.messages,
            ]
            .map(grouped);
            let busy = grouped((load.busy() * 100.0).round());
            let row = format!("//! | {} | {busy} % |", cells.join(" | "));
            assert!(documentation.contains(&row), "{row}");
        }
        let end = (1..)
            .map(|n| n * 100)
            .find(|n| Load::of(*n).busy() > 0.85)
            .unwrap();
        assert!((6_500..7_500).contains(&end), "{end}");
    }
}
