//! Hides how it is known that a caller lets us wait for a request: from the bytes that come and go.
//!
//! hyper has a limit of its own, but counts from the last answer on, which closes idle connections under callers that
//! mean to use them again. Here the time counts from a head's first byte, and for the first one from the connection's
//! start. An idle connection waits for as long as it likes, and after a while rests, so that it costs next to nothing.
//!
//! Bytes that came together with an earlier request are not seen as the start of a head; those of a caller who stops in
//! the middle of one like that are found when the connection is to rest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Version;
use tokio::time::Sleep;

use super::connection::Sides;

/// A connection on which nothing is said for so long, or for up to twice as long, rests. A request after that takes a few
/// thousand instructions more.
const REST: Duration = Duration::from_secs(1);

/// Where a connection stands. Its bytes and its requests say so; all of it happens in the connection's one task.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    requests: AtomicU32,
    /// Something that hyper wrote may not have gone out.
    unsent: AtomicBool,
}

/// No request came yet.
const OPENING: u8 = 0;
/// One is being answered.
const ASKED: u8 = 1;
/// The answer is on its way out, or gone: what is read from now on begins a head.
const ANSWERED: u8 = 2;
/// A head began and is not complete.
const HEAD: u8 = 3;
/// It speaks HTTP/2, whose frames tell nothing here.
const STREAMS: u8 = 4;
/// Nothing was said for a while.
const RESTING: u8 = 5;

/// What a connection waits for, by the number of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// All of its head.
    Head(u32),
    /// Its first byte.
    Word(u32),
}

impl Progress {
    /// A head is complete.
    pub(super) fn asked(&self, version: Version) {
        let stage = if version < Version::HTTP_2 {
            ASKED
        } else {
            STREAMS
        };
        self.stage.store(stage, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// The answer to it is decided.
    pub(super) fn answered(&self) {
        self.step(ASKED, ANSWERED);
    }

    /// Whether the caller is in the middle of a request's head, other than the connection's first.
    pub(super) fn mid_head(&self) -> bool {
        self.stage.load(Relaxed) == HEAD
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        self.step(ANSWERED, HEAD);
        self.step(RESTING, HEAD);
    }

    /// Some are to go.
    pub(super) fn writes(&self) {
        self.unsent.store(true, Relaxed);
    }

    /// What came while an answer was still being sent can be whole requests, which have to wait for that.
    pub(super) fn wrote(&self) {
        self.step(HEAD, ANSWERED);
    }

    /// All that was written is out.
    pub(super) fn flush(&self) {
        self.unsent.store(false, Relaxed);
    }

    /// Whether it is.
    pub(super) fn flushed(&self) -> bool {
        !self.unsent.load(Relaxed)
    }

    /// Nothing was said for a while, or only the beginning of a head, which did not look like one when it came.
    pub(super) fn rest(&self, began: bool) {
        self.step(ANSWERED, if began { HEAD } else { RESTING });
    }

    fn awaited(&self) -> Option<Awaited> {
        let request = self.requests.load(Relaxed);
        match self.stage.load(Relaxed) {
            OPENING | HEAD => Some(Awaited::Head(request)),
            ANSWERED if self.flushed() => Some(Awaited::Word(request)),
            _ => None,
        }
    }

    fn step(&self, from: u8, to: u8) {
        if self.stage.load(Relaxed) == from {
            self.stage.store(to, Relaxed);
        }
    }
}

/// Runs out once a head has taken too long, or nothing was said for a while.
#[derive(Debug)]
pub(super) struct Patience {
    sides: Arc<Sides>,
    limit: Duration,
    timer: Option<(Awaited, Pin<Box<Sleep>>)>,
}

impl Patience {
    pub(super) fn new(sides: Arc<Sides>, limit: Duration) -> Self {
        Self {
            sides,
            limit,
            timer: None,
        }
    }

    /// To be asked after each of the connection's turns. Says what was awaited in vain.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Awaited> {
        let Some(awaited) = self.sides.progress.awaited() else {
            // A timer that is there may be of use again, most often soon.
            return Poll::Pending;
        };
        let limit = match awaited {
            Awaited::Head(_) => self.limit,
            Awaited::Word(_) => REST,
        };
        let (of, timer) = self.timer.get_or_insert_with(|| {
            let timer = Box::pin(tokio::time::sleep(limit));
            (awaited, timer)
        });
        if *of != awaited {
            // Where requests follow one another, one timer does for many: it begins again when it has run out.
            if matches!((*of, awaited), (Awaited::Word(_), Awaited::Word(_))) && !timer.is_elapsed()
            {
                return Poll::Pending;
            }
            *of = awaited;
            timer.set(tokio::time::sleep(limit));
        }
        let over = timer.as_mut().poll(cx).map(|()| awaited);
        if over.is_ready() {
            self.timer = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Awaited::{Head, Word};

    #[test]
    fn a_head_is_awaited_from_its_first_byte_to_its_last() {
        let progress = Progress::default();
        let at = |what: &str, awaited| assert_eq!(progress.awaited(), awaited, "{what}");
        at("before the first head", Some(Head(0)));
        progress.read();
        at("within it", Some(Head(0)));
        progress.asked(Version::HTTP_11);
        progress.read();
        at("while it is answered, whatever else comes", None);
        progress.answered();
        progress.writes();
        progress.wrote();
        at("while the answer is not all out", None);
        progress.flush();
        at("idle", Some(Word(1)));
        progress.read();
        at("within the next head", Some(Head(1)));
        progress.wrote();
        at("behind an answer that is still being sent", Some(Word(1)));
        progress.rest(true);
        at("within a head that came with an earlier one", Some(Head(1)));
        progress.asked(Version::HTTP_11);
        progress.answered();
        progress.rest(false);
        at("at rest", None);
        progress.read();
        at("after it", Some(Head(2)));
        progress.asked(Version::HTTP_2);
        progress.answered();
        progress.read();
        at("whatever HTTP/2 brings", None);
    }
}
