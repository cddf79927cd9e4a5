//! The words in which a replica and the store speak of an account. Hides how they are written.

use std::sync::Arc;
use std::time::Duration;

use crate::contacts::{Forwarded, PageKey};
use crate::fleet::landings::Landings;
use crate::fleet::pages::Start;

/// The rules of the account's allowance, as far as replicas have to agree.
#[derive(Clone, Debug)]
pub struct Rules {
    /// A call counts for so long.
    pub window: Duration,
    /// Calls in it at most.
    pub calls: u32,
    /// Of them, those for which somebody waits.
    pub reserve: u32,
    /// Calls in an hour at most; 0: any number.
    pub hourly: u32,
    /// Learning never goes below.
    pub floor: u32,
    /// The rest after a refusal.
    pub pause: Duration,
    /// For so long a refusal makes careful.
    pub careful: Duration,
    /// A call takes no longer than this.
    pub lease: Duration,
}

/// A call that somebody wants to make.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// For this page; nothing: for one that is this replica's already.
    pub page: Option<(&'a PageKey, &'a Forwarded)>,
    /// The version of the page that is known; 0: none.
    pub known: u64,
    /// Whether somebody waits for it.
    pub awaited: bool,
    /// What is owed for it since it was last said, in milliseconds.
    pub owed: u64,
    /// What the call would be called.
    pub member: Arc<str>,
}

/// What the store says of a wish.
#[derive(Debug)]
pub enum Decision {
    /// The call may go.
    Go(Grant),
    /// Not for so long.
    Wait(Duration),
    /// Another replica makes it, and has so long for it. How it ends is heard.
    Flying(Duration, Landings),
    /// Another replica has made it: there is a page of this version.
    Newer(u64),
    /// The store does not know what this replica knows: see [`super::Account::join`].
    Join,
}

/// The right to make one call.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What the page that it brings is as good as.
    pub start: Start,
    /// What the call is called.
    pub member: Arc<str>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was answered.
    Answered,
    /// It was refused for a minute's limit.
    Refused,
    /// It was refused for an hour's.
    RefusedForLong,
    /// It failed.
    Failed,
    /// Nothing is known of it.
    Lost,
    /// It was not made.
    Unsent,
}

/// How an account stands, for all replicas. Times are from now.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Calls in a window, as learnt.
    pub limit: f64,
    /// Where learning stops for now.
    pub ceiling: f64,
    /// Until a pause ends, and whether it is for failures.
    pub pause: Option<(Duration, bool)>,
    /// Until a call that is out to end a pause has to be back.
    pub probing: Duration,
    /// Since the latest refusal.
    pub refused: Option<Duration>,
    /// Since the latest refresh was due.
    pub refreshed: Option<Duration>,
    /// Calls that were refused.
    pub refusals: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Calls, and how long ago they went.
    pub calls: Vec<(Arc<str>, Duration)>,
    /// So often it had been said how the account stands before this was asked. See [`super::Account::is_overtaken`].
    pub said: u64,
}

/// What is said of an account.
pub enum News {
    /// A call went, so long ago.
    Call(Arc<str>, Duration),
    /// It stands like this.
    View(View),
    /// The store is away for all replicas.
    Gone,
    /// The store is back, and is to be told of calls that went meanwhile.
    Back,
    /// Another replica has fetched the page of this name, or this one has.
    Landed(String),
}

/// What a replica knows of an account that the store may not.
#[derive(Clone, Debug)]
pub struct Known {
    /// See [`View::limit`].
    pub limit: f64,
    /// See [`View::ceiling`].
    pub ceiling: f64,
    /// See [`View::refused`].
    pub refused: Option<Duration>,
    /// See [`View::refusals`].
    pub refusals: u64,
    /// See [`View::pause`].
    pub pause: Option<(Duration, bool)>,
    /// Calls that went, and how long ago.
    pub calls: Vec<(Arc<str>, Duration)>,
    /// Calls that may have gone before anybody counted, and how long ago.
    pub guessed: Vec<Duration>,
}

impl Ended {
    /// As the scripts have it.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Answered => "a",
            Self::Refused => "m",
            Self::RefusedForLong => "h",
            Self::Failed => "f",
            Self::Lost => "l",
            Self::Unsent => "u",
        }
    }
}

impl View {
    /// So many words is it told in.
    pub(super) const WORDS: usize = 9;

    /// Reads what a script tells.
    pub(super) fn read(told: &str) -> Option<Self> {
        let mut words = told.split(' ');
        let (limit, ceiling) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let until = words.next()?.parse().map(Duration::from_millis).ok()?;
        let cause = words.next()?;
        let probing = words.next()?.parse().map(Duration::from_millis).ok()?;
        let mut ago = || {
            let ago: i64 = words.next()?.parse().ok()?;
            Some(u64::try_from(ago).ok().map(Duration::from_millis))
        };
        let (refused, refreshed) = (ago()?, ago()?);
        Some(Self {
            limit,
            ceiling,
            pause: (cause != "-").then_some((until, cause == "f")),
            probing,
            refused,
            refreshed,
            refusals: words.next()?.parse().ok()?,
            failures: words.next()?.parse().ok()?,
            calls: Vec::new(),
            said: 0,
        })
    }
}
