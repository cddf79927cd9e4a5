//! Hides what is done with a caller's bytes beside passing them: they are noted as they come and go, the first ones tell
//! which version of HTTP is spoken, and a 1xx goes before a response.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ahead::Front;
use super::connection::Sides;

/// What every connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// More than a head has, in most cases, so that it is read at once.
const FIRST: usize = 4096;

/// A connection's bytes.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    sides: Arc<Sides>,
    front: Front,
    /// What came and nobody has read yet.
    kept: Vec<u8>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, sides: Arc<Sides>) -> Self {
        Self {
            stream,
            sides,
            front: Front::default(),
            kept: Vec::new(),
        }
    }

    /// Nobody reads until more comes. What was read in vain is to be read again.
    pub(super) fn rest(&mut self, unused: &[u8]) {
        self.sides.progress.rest(!unused.is_empty());
        self.kept.splice(..0, unused.iter().copied());
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.sides.progress.wrote();
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Waits until something comes, and then for as much of it as tells which version is spoken, unless that is known.
    /// None: the other side has nothing to say. All that came is still there to be read.
    pub(super) fn poll_version(
        &mut self,
        cx: &mut Context<'_>,
        known: Option<Version>,
    ) -> Poll<io::Result<Option<Version>>> {
        loop {
            if !self.kept.is_empty()
                && let Some(version) = known.or_else(|| version(&self.kept))
            {
                return Poll::Ready(Ok(Some(version)));
            }
            // Not a connection's own, for most of them wait here.
            let mut space = [MaybeUninit::uninit(); FIRST];
            let mut buf = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                let half = (!self.kept.is_empty()).then_some(Version::HTTP_11);
                return Poll::Ready(Ok(half));
            }
            self.sides.progress.read();
            self.kept.extend_from_slice(buf.filled());
        }
    }
}

/// Which version begins like that, once it can be told.
fn version(bytes: &[u8]) -> Option<Version> {
    let both = bytes.len().min(PREFACE.len());
    if bytes[..both] != PREFACE[..both] {
        return Some(Version::HTTP_11);
    }
    (both == PREFACE.len()).then_some(Version::HTTP_2)
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() {
            let n = buf.remaining().min(self.kept.len());
            buf.put_slice(&self.kept[..n]);
            self.kept.drain(..n);
            if self.kept.is_empty() {
                self.kept = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.sides.progress.read();
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
        ready!(this.front.poll(cx, &this.sides, &mut this.stream))?;
        this.sides.progress.writes();
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
        ready!(this.front.poll(cx, &this.sides, &mut this.stream))?;
        this.sides.progress.writes();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.sides.progress.flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sides.progress.writes();
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
