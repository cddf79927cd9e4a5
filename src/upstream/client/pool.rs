//! Hides which connection a request goes over: one that lies idle, one that others use too (HTTP/2), or a new one.
//!
//! There is one origin, so there are no names to look connections up by. Where none is free, one is dialled, and whichever
//! comes first is taken: that one, or one that another request is done with.

use std::collections::VecDeque;
use std::mem::replace;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use tokio::sync::oneshot;

use super::dial::{self, Dial, Wire};

/// How long an unused connection is kept, at most. Shorter than what servers and load balancers commonly allow, so that it
/// is we who close it.
const IDLE: Duration = Duration::from_secs(50);

/// The connections to one origin.
#[derive(Debug)]
pub(super) struct Pool {
    dial: Dial,
    http2: http2::Builder<TokioExecutor>,
    lines: Mutex<Lines>,
}

/// Those that can be had at once, and who waits for one.
#[derive(Debug, Default)]
struct Lines {
    /// The last one to come is the first to go, so that the others grow old.
    idle: Vec<Line>,
    shared: Option<Line>,
    waiting: VecDeque<oneshot::Sender<Line>>,
    /// Somebody closes those that nobody uses.
    tended: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) wire: Arc<Wire>,
    sender: Sender,
    /// Nobody has used it since it was last looked at.
    rested: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLine {
    /// It could not be made.
    Unreachable(dial::Error),
    /// It was made, and ended before HTTP began.
    Ended(hyper::Error, Arc<Wire>),
}

impl Pool {
    pub(super) fn new(dial: Dial, http2: http2::Builder<TokioExecutor>) -> Self {
        Self {
            dial,
            http2,
            lines: Mutex::default(),
        }
    }

    /// One that is free, or comes first: one that is dialled, or another. `anew`: it is to be a new one.
    pub(super) async fn line(self: &Arc<Self>, anew: bool) -> Result<Line, NoLine> {
        if anew {
            // In a box, since it is large and few need it: every call would have room for it.
            return Box::pin(self.dialled()).await;
        }
        let mut given = match self.lines().wait() {
            Ok(line) => return Ok(line),
            Err(given) => given,
        };
        let pool = self.clone();
        let mut dialled = Box::pin(async move { pool.dialled().await });
        tokio::select! {
            biased;
            Ok(line) = &mut given => {
                // The other will be of use to somebody.
                let pool = self.clone();
                beside(async move {
                    if let Ok(line) = dialled.await {
                        pool.put(line);
                    }
                });
                Ok(line)
            }
            line = &mut dialled => line,
        }
    }

    async fn dialled(self: &Arc<Self>) -> Result<Line, NoLine> {
        let (stream, wire) = self.dial.dial().await.map_err(NoLine::Unreachable)?;
        let ended = |error| NoLine::Ended(error, wire.clone());
        let sender = if wire.multiplexed {
            let (sender, runs) = self.http2.handshake(stream).await.map_err(ended)?;
            beside(runs);
            Sender::Http2(sender)
        } else {
            let (sender, runs) = http1::handshake(stream).await.map_err(ended)?;
            beside(runs);
            Sender::Http1(sender)
        };
        let line = Line {
            wire,
            sender,
            rested: false,
        };
        if let Some(shared) = line.shared() {
            self.put(shared);
        }
        Ok(line)
    }

    /// Sends a request. The connection is free for another once the answer has been read.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut line: Line,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, (hyper::Error, Arc<Wire>)> {
        let answer = match &mut line.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        match answer {
            Ok(answer) => {
                line.wire.answered();
                self.take_back(line);
                Ok(answer)
            }
            Err(error) => Err((error, line.wire)),
        }
    }

    fn take_back(self: &Arc<Self>, mut line: Line) {
        match &mut line.sender {
            Sender::Http2(_) => {}
            // Short bodies come with the head.
            Sender::Http1(sender) if sender.is_ready() => self.put(line),
            Sender::Http1(_) => {
                let pool = Arc::downgrade(self);
                beside(async move {
                    if line.is_free().await
                        && let Some(pool) = pool.upgrade()
                    {
                        pool.put(line);
                    }
                });
            }
        }
    }

    /// Gives a connection to who waits for one, or keeps it.
    fn put(self: &Arc<Self>, line: Line) {
        let mut lines = self.lines();
        lines.put(line);
        if !replace(&mut lines.tended, true) {
            beside(tend(Arc::downgrade(self)));
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody waits for these: what is under way on a connection is waited for by whoever asked.
fn beside<F>(future: F)
where
    F: Future<Output: Send> + Send + 'static,
{
    TokioExecutor::new().execute(future);
}

/// Closes connections that lie idle, while there are any.
async fn tend(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.lines().tend() {
            return;
        }
    }
}

impl Lines {
    fn free(&mut self) -> Option<Line> {
        self.shared.take_if(|line| !line.is_open());
        if let Some(line) = &mut self.shared {
            line.rested = false;
            return line.shared();
        }
        while let Some(line) = self.idle.pop() {
            if line.is_open() {
                return Some(line);
            }
        }
        None
    }

    /// Closes those that nobody used since this was last done. Tells whether any are left.
    fn tend(&mut self) -> bool {
        self.idle.retain_mut(Line::may_stay);
        self.shared.take_if(|line| !line.may_stay());
        self.tended = !self.idle.is_empty() || self.shared.is_some();
        self.tended
    }

    /// One that is free by now, or where one will come.
    fn wait(&mut self) -> Result<Line, oneshot::Receiver<Line>> {
        if let Some(line) = self.free() {
            return Ok(line);
        }
        let (gives, given) = oneshot::channel();
        self.waiting.retain(|gives| !gives.is_closed());
        self.waiting.push_back(gives);
        Err(given)
    }

    fn put(&mut self, mut line: Line) {
        line.rested = false;
        if let Sender::Http2(_) = line.sender {
            // One is enough. Others were dialled before it was there.
            if !self.shared.as_ref().is_some_and(Line::is_open) {
                let shares = std::iter::from_fn(|| line.shared());
                let those = self.waiting.drain(..).zip(shares);
                those.for_each(|(gives, shared)| drop(gives.send(shared)));
                self.shared = Some(line);
            }
            return;
        }
        while let Some(gives) = self.waiting.pop_front() {
            match gives.send(line) {
                Ok(()) => return,
                // It was dialled for by then, or hung up.
                Err(again) => line = again,
            }
        }
        self.idle.push(line);
    }
}

impl Line {
    /// The same connection once more, where that can be.
    fn shared(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                wire: self.wire.clone(),
                sender: Sender::Http2(sender.clone()),
                rested: false,
            }),
        }
    }

    /// Waits until another request may go over it; false: none may.
    async fn is_free(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Whether it was used since this was last asked.
    fn may_stay(&mut self) -> bool {
        !replace(&mut self.rested, true) && self.is_open()
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::DuplexStream;

    use super::*;

    /// A connection, and its other end.
    async fn line(http2: bool) -> (Line, DuplexStream) {
        let (near, far) = tokio::io::duplex(4096);
        let near = TokioIo::new(near);
        let sender = if http2 {
            let handshake = http2::handshake(TokioExecutor::new(), near);
            let (sender, runs) = handshake.await.unwrap();
            beside(runs);
            Sender::Http2(sender)
        } else {
            let (mut sender, runs) = http1::handshake(near).await.unwrap();
            beside(runs);
            sender.ready().await.unwrap();
            Sender::Http1(sender)
        };
        let line = Line {
            wire: Arc::default(),
            sender,
            rested: false,
        };
        (line, far)
    }

    #[tokio::test]
    async fn a_connection_goes_to_who_has_waited_longest_and_still_waits() {
        let mut lines = Lines::default();
        let mut waiting = [(); 3].map(|()| lines.wait().unwrap_err());
        waiting[0].close();
        let (one, _far) = line(false).await;
        let wire = one.wire.clone();
        lines.put(one);
        assert!(Arc::ptr_eq(&waiting[1].try_recv().unwrap().wire, &wire));
        assert!(waiting[2].try_recv().is_err(), "there was one");
        assert!(lines.free().is_none());
    }

    #[tokio::test]
    async fn one_of_http2_goes_to_all_and_stays() {
        let mut lines = Lines::default();
        let mut waiting = [(); 2].map(|()| lines.wait().unwrap_err());
        let (one, far) = line(true).await;
        let Sender::Http2(mut sender) = one.shared().unwrap().sender else {
            panic!("it is of HTTP/2");
        };
        let wire = one.wire.clone();
        lines.put(one);
        assert!(waiting.iter_mut().all(|given| given.try_recv().is_ok()));
        let (another, _far) = line(true).await;
        lines.put(another);
        for _ in 0..2 {
            assert!(Arc::ptr_eq(&lines.free().unwrap().wire, &wire));
        }
        drop(far);
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(lines.free().is_none(), "it has ended");
    }

    #[tokio::test]
    async fn a_connection_that_nobody_uses_is_closed_and_others_are_not() {
        let mut lines = Lines::default();
        let (old, _far) = line(false).await;
        let (new, _far) = line(false).await;
        let (shared, _far) = line(true).await;
        let wire = new.wire.clone();
        lines.put(old);
        lines.put(new);
        assert!(lines.tend(), "they may be used until the next time");
        for _ in 0..3 {
            let used = lines.free().unwrap();
            assert!(Arc::ptr_eq(&used.wire, &wire), "the last one goes first");
            lines.put(used);
            assert!(lines.tend());
            assert_eq!(lines.idle.len(), 1);
        }
        assert!(!lines.tend() && lines.idle.is_empty());
        lines.put(shared);
        assert!(lines.tend() && lines.free().is_some() && lines.tend());
        assert!(!lines.tend() && lines.shared.is_none());
    }

    #[tokio::test]
    async fn a_connection_that_ended_while_it_lay_idle_is_not_taken() {
        let mut lines = Lines::default();
        let (ended, far) = line(false).await;
        let (open, _far) = line(false).await;
        let wire = open.wire.clone();
        lines.put(open);
        lines.put(ended);
        drop(far);
        while lines.idle[1].is_open() {
            tokio::task::yield_now().await;
        }
        assert!(Arc::ptr_eq(&lines.free().unwrap().wire, &wire));
        assert!(lines.free().is_none());
    }
}
