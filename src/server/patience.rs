//! Hides how it is known that a caller lets us wait for a request: from the bytes that come and go.
//!
//! hyper has a limit of its own, but counts from the last answer on, which closes idle connections under callers that
//! mean to use them again. Here the time counts from a head's first byte, and for the first one from the connection's
//! start. An idle connection costs nothing and waits for as long as it likes.
//!
//! Bytes that came together with an earlier request are not seen as the start of a head; a caller who stops in the
//! middle of one like that is taken for idle.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Version;
use tokio::time::Sleep;

use super::connection::Sides;

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

    /// The number of the request that is awaited, if one is.
    fn awaited(&self) -> Option<u32> {
        let awaited = matches!(self.stage.load(Relaxed), OPENING | HEAD);
        awaited.then(|| self.requests.load(Relaxed))
    }

    fn step(&self, from: u8, to: u8) {
        if self.stage.load(Relaxed) == from {
            self.stage.store(to, Relaxed);
        }
    }
}

/// Runs out once a head has taken too long.
#[derive(Debug)]
pub(super) struct Patience {
    sides: Arc<Sides>,
    limit: Duration,
    /// For which request it runs. Most heads come in one piece and never need it.
    timer: Option<(u32, Pin<Box<Sleep>>)>,
}

impl Patience {
    pub(super) fn new(sides: Arc<Sides>, limit: Duration) -> Self {
        Self {
            sides,
            limit,
            timer: None,
        }
    }

    /// To be asked after each of the connection's turns.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(request) = self.sides.progress.awaited() else {
            self.timer = None;
            return Poll::Pending;
        };
        if self.timer.as_ref().is_none_or(|(of, _)| *of != request) {
            self.timer = Some((request, Box::pin(tokio::time::sleep(self.limit))));
        }
        match &mut self.timer {
            Some((_, timer)) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_awaited_from_its_first_byte_to_its_last() {
        let progress = Progress::default();
        let at = |what: &str, awaited| assert_eq!(progress.awaited(), awaited, "{what}");
        at("before the first head", Some(0));
        progress.read();
        at("within it", Some(0));
        progress.asked(Version::HTTP_11);
        progress.read();
        at("while it is answered, whatever else comes", None);
        progress.answered();
        progress.wrote();
        at("idle", None);
        progress.read();
        at("within the next head", Some(1));
        progress.wrote();
        at("behind an answer that is still being sent", None);
        progress.read();
        progress.asked(Version::HTTP_2);
        progress.answered();
        progress.read();
        at("whatever HTTP/2 brings", None);
    }
}
