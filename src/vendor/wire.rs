//! Connections: each in a task of its own, with a way to put bytes past hyper onto the wire.

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer;
use super::book::State;

/// Starts tasks that end with the stand-in, and writes down the panics of those that panic.
#[derive(Clone)]
pub(super) struct Spawner {
    pub(super) state: Arc<State>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Spawner {
    /// Serves a connection.
    pub(super) fn connection(&self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        self.state.book().stats.accepted_connections += 1;
        let open = Open::new(self.state.clone());
        let spawner = self.clone();
        self.execute(async move {
            let _open = open;
            // A failure costs no more than a little speed.
            let _ = stream.set_nodelay(true);
            match tls {
                None => serve(stream, spawner).await,
                Some(tls) => {
                    // A client that does not shake hands has seen the end of the connection.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, spawner).await;
                    }
                }
            }
        });
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let Self { state, stop, .. } = self.clone();
        self.tasks.spawn(async move {
            // No shared state is left half changed: the book's lock recovers, everything else dies with the task.
            let watched = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(panic)) = stop.run_until_cancelled(watched).await {
                state.book().stats.panics.push(text(&*panic));
            }
        });
    }
}

async fn serve<T>(stream: T, spawner: Spawner)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let link = Arc::new(Link::default());
    let wire = Wire {
        inner: stream,
        link: link.clone(),
    };
    let state = spawner.state.clone();
    let service = service_fn(move |request| answer::answer(state.clone(), link.clone(), request));
    // What fails here is the client's doing, or was asked for.
    let _ = auto::Builder::new(spawner)
        .serve_connection(TokioIo::new(wire), service)
        .await;
}

/// What a connection's service and its wire share.
#[derive(Default)]
pub(super) struct Link {
    used: AtomicBool,
    aside: Mutex<Aside>,
}

/// Bytes that go onto the wire before the next that hyper writes.
#[derive(Default)]
struct Aside {
    bytes: Bytes,
    then_close: bool,
}

impl Link {
    /// Whether a call came by this connection before. The next one is told so.
    pub(super) fn reused(&self) -> bool {
        self.used.swap(true, Ordering::Relaxed)
    }

    /// Puts bytes before the next answer, or in place of it and all that follow.
    pub(super) fn say(&self, bytes: Bytes, then_close: bool) {
        *self.aside() = Aside { bytes, then_close };
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that writes what the link says before what hyper says.
struct Wire<T> {
    inner: T,
    link: Arc<Link>,
}

impl<T: AsyncWrite + Unpin> Wire<T> {
    fn aside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut aside = self.link.aside();
        while !aside.bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &aside.bytes))?;
            aside.bytes.advance(written);
        }
        if aside.then_close {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.aside(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.aside(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Counts a connection as open for as long as it is.
struct Open(Arc<State>);

impl Open {
    fn new(state: Arc<State>) -> Self {
        state.open.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without a text".into())
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[tokio::test]
    async fn a_panic_is_written_down() {
        let spawner = Spawner {
            state: Arc::new(State::new(Settings::default())),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        spawner.execute(async { panic!("broken: {}", 1) });
        spawner.tasks.close();
        spawner.tasks.wait().await;
        assert_eq!(spawner.state.stats().panics, ["broken: 1"]);
    }
}
