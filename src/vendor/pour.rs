//! An answer's body: whole, slow, stuck, cut, or with trailers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::Drip;

/// A body, piece by piece.
pub(super) struct Pour {
    left: Bytes,
    declared: Option<u64>,
    pace: Option<(Drip, Pin<Box<Sleep>>)>,
    end: End,
}

/// What comes after a body's last byte.
#[derive(Debug, Default)]
pub(super) enum End {
    #[default]
    Clean,
    Trailers(HeaderMap),
    /// Nothing, ever.
    Stall,
    /// The connection's end, once what came before has been handed on.
    Cut,
    CutNow,
}

/// The reason that hyper is given to close a connection.
#[derive(Debug)]
pub(super) struct Gone;

impl Pour {
    /// A body of a declared length.
    pub(super) fn whole(body: Bytes) -> Self {
        Self {
            declared: Some(body.len() as u64),
            left: body,
            pace: None,
            end: End::Clean,
        }
    }

    /// The same without telling its length.
    pub(super) fn undeclared(self) -> Self {
        Self {
            declared: None,
            ..self
        }
    }

    /// The same, but slowly: the first piece at once, the others in their time.
    pub(super) fn dripping(self, drip: Drip) -> Self {
        Self {
            pace: Some((drip, Box::pin(sleep(std::time::Duration::ZERO)))),
            ..self
        }
    }

    /// Only the first `bytes` of it, and then something else than its end. What was declared stays declared.
    pub(super) fn ending(mut self, bytes: usize, end: End) -> Self {
        self.left.truncate(bytes);
        Self { end, ..self }
    }
}

impl Body for Pour {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        if !self.left.is_empty() {
            let mut piece = self.left.len();
            if let Some((drip, sleep)) = &mut self.pace {
                ready!(sleep.as_mut().poll(cx));
                let next = sleep.deadline() + drip.every;
                sleep.as_mut().reset(next);
                piece = piece.min(drip.bytes.max(1));
            }
            let piece = self.left.split_to(piece);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match std::mem::take(&mut self.end) {
            End::Clean => Poll::Ready(None),
            End::Trailers(fields) => Poll::Ready(Some(Ok(Frame::trailers(fields)))),
            End::Stall => {
                self.end = End::Stall;
                // Nothing wakes this: the connection's end drops it.
                Poll::Pending
            }
            End::Cut => {
                self.end = End::CutNow;
                // hyper sends what it has buffered when the body makes it wait, and throws it away at an error.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::CutNow => Poll::Ready(Some(Err(Gone))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && matches!(self.end, End::Clean)
    }

    fn size_hint(&self) -> SizeHint {
        self.declared
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stand-in vendor was told to cut the connection")
    }
}

impl std::error::Error for Gone {}
