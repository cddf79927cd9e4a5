//! Dials within `connect_timeout`, TLS included, and keeps track of what each connection has been through.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Service;
use tower::util::ServiceExt;

/// What has happened on a connection. Together it tells a kept-alive connection that died while it lay idle from one
/// that broke while the vendor was answering.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// An answer has come over it, so it is a kept-alive one by now.
    used: AtomicBool,
    /// Something has been read since something was last written.
    heard: AtomicBool,
    /// HTTP/2: bytes belong to no one request, and an answer's head arrives whole or not at all.
    multiplexed: bool,
}

impl Wire {
    pub(super) fn answered(&self) {
        self.used.store(true, Relaxed);
    }

    pub(super) fn was_kept_alive(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Whether a part of the answer had come.
    pub(super) fn heard(&self) -> bool {
        !self.multiplexed && self.heard.load(Relaxed)
    }
}

/// The connection was not there in time.
#[derive(Debug, thiserror::Error)]
#[error("connecting took too long")]
pub(super) struct TookTooLong;

/// The connector. Each call clones it, whether it dials or not.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    inner: Arc<HttpsConnector<HttpConnector>>,
    timeout: Duration,
}

impl Dial {
    pub(super) fn new(inner: HttpsConnector<HttpConnector>, timeout: Duration) -> Self {
        Self {
            inner: Arc::new(inner),
            timeout,
        }
    }
}

impl Service<Uri> for Dial {
    type Response = Dialled;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = BoxFuture<'static, Result<Dialled, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = HttpsConnector::clone(&self.inner);
        let dialling = tokio::time::timeout(self.timeout, connector.oneshot(uri));
        Box::pin(async move {
            let stream = dialling.await.map_err(|_| TookTooLong)??;
            let wire = Arc::new(Wire {
                multiplexed: stream.connected().is_negotiated_h2(),
                ..Wire::default()
            });
            let stream = TokioIo::new(stream);
            Ok(TokioIo::new(Watched { stream, wire }))
        })
    }
}

/// A connection that knows what it has been through.
pub(super) type Dialled = TokioIo<Watched>;

/// Watches from above TLS, where every byte is HTTP's.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    wire: Arc<Wire>,
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        // All that is told of it goes with each answer, so no more than is asked for.
        let connected = Connected::new().extra(self.wire.clone());
        match self.stream.inner().connected().is_negotiated_h2() {
            true => connected.negotiated_h2(),
            false => connected,
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.wire.heard.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire.heard.store(false, Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
