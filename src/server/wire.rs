//! Hides what is done with a caller's bytes beside passing them: they are noted as they come and go, and a 1xx goes before
//! a response.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ahead::{Ahead, Front};
use super::patience::Progress;

/// Up to here it costs less to copy header and body into one piece than to have the kernel write two: CPU time of a hit with
/// 50 contacts as bare hyper's share of it, 0.82 instead of 0.77.
const SHORT: usize = 16 * 1024;

thread_local! {
    /// A thread's, so that connections need no room of their own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SHORT));
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    progress: Progress,
    front: Front,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, progress: Progress, ahead: Ahead) -> Self {
        Self {
            stream,
            progress,
            front: Front::new(ahead),
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.progress.wrote();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.front.poll(cx, &mut this.stream))?;
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.front.poll(cx, &mut this.stream))?;
        let written = match bufs.iter().map(|buf| buf.len()).sum::<usize>() {
            0..=SHORT if bufs.len() > 1 => SCRATCH.with_borrow_mut(|piece| {
                piece.clear();
                bufs.iter().for_each(|buf| piece.extend_from_slice(buf));
                Pin::new(&mut this.stream).poll_write(cx, piece)
            }),
            _ => Pin::new(&mut this.stream).poll_write_vectored(cx, bufs),
        };
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.front.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
