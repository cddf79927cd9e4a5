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
