//! Hides how a 1xx goes out before a response, which hyper's server cannot send: its bytes are put in front of hyper's.
//!
//! That is safe only between two responses, so it waits for the moment when hyper has flushed all of the last one; a
//! caller who sends the next request without waiting for that goes without. It costs a connection without any of them
//! one look at a flag for each write.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::connection::Sides;
use crate::contacts::Interim;

/// What is to go out ahead of a connection's next response.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    any: AtomicBool,
    bytes: Mutex<Vec<u8>>,
}

impl Ahead {
    /// Sends these before the response that comes next.
    pub(super) fn put(&self, interims: &[Interim]) {
        let mut bytes = Vec::new();
        for Interim { status, headers } in interims {
            let reason = status.canonical_reason().unwrap_or_default();
            let line = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16());
            bytes.extend(line.bytes());
            for (name, value) in headers {
                bytes.extend(name.as_str().bytes().chain(*b": "));
                bytes.extend(value.as_bytes());
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"\r\n");
        }
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        self.any.store(true, Relaxed);
    }

    fn take(&self) -> Option<Vec<u8>> {
        let any = self.any.load(Relaxed);
        any.then(|| {
            self.any.store(false, Relaxed);
            std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

/// A connection's place for them, in front of its writes.
#[derive(Debug, Default)]
pub(super) struct Front {
    leaving: Vec<u8>,
}

impl Front {
    /// To be asked before each write: ready once nothing has to go before it.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &Sides,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        if let Some(bytes) = sides.ahead.take().filter(|_| sides.progress.flushed()) {
            // There is an answer behind it, of which hyper may have all by now.
            sides.progress.writes();
            self.leaving = bytes;
        }
        while !self.leaving.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &self.leaving))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.leaving.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use http::{HeaderMap, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::server::wire::Wire;

    #[tokio::test]
    async fn what_goes_ahead_is_something_unsent_until_it_is_out() {
        let sides = Arc::<Sides>::default();
        let (mut caller, ours) = duplex(16);
        let mut wire = Wire::new(ours, sides.clone());
        sides.ahead.put(&[Interim {
            status: StatusCode::EARLY_HINTS,
            headers: HeaderMap::new(),
        }]);
        // The caller does not read, and the connection must not come to rest with an answer in hyper's hands.
        poll_fn(|cx| {
            let written = Pin::new(&mut wire).poll_write(cx, b"an answer");
            assert!(written.is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(!sides.progress.flushed());
        let answers = async {
            wire.write_all(b"an answer").await.unwrap();
            wire.flush().await.unwrap();
            drop(wire);
        };
        let mut came = String::new();
        let (_, read) = tokio::join!(answers, caller.read_to_string(&mut came));
        read.unwrap();
        assert_eq!(came, "HTTP/1.1 103 Early Hints\r\n\r\nan answer");
        assert!(sides.progress.flushed());
    }
}
