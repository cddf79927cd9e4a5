//! Dials within `connect_timeout`, TLS included, and keeps track of what each connection has been through.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
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
    pub(super) multiplexed: bool,
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

/// What came of dialling instead of a connection.
pub(super) type Error = Box<dyn StdError + Send + Sync>;

/// The connection was not there in time.
#[derive(Debug, thiserror::Error)]
#[error("connecting took too long")]
pub(super) struct TookTooLong;

/// Dials one origin.
#[derive(Debug)]
pub(super) struct Dial {
    inner: HttpsConnector<HttpConnector>,
    origin: Uri,
    timeout: Duration,
}

impl Dial {
    pub(super) fn new(
        inner: HttpsConnector<HttpConnector>,
        origin: Uri,
        timeout: Duration,
    ) -> Self {
        Self {
            inner,
            origin,
            timeout,
        }
    }

    /// A new connection, and what it will have been through.
    pub(super) async fn dial(&self) -> Result<(TokioIo<Watched>, Arc<Wire>), Error> {
        let dialling = self.inner.clone().oneshot(self.origin.clone());
        let stream = tokio::time::timeout(self.timeout, dialling).await;
        let stream = stream.map_err(|_| TookTooLong)??;
        let wire = Arc::new(Wire {
            multiplexed: stream.connected().is_negotiated_h2(),
            ..Wire::default()
        });
        let watched = Watched {
            stream: TokioIo::new(stream),
            wire: wire.clone(),
        };
        Ok((TokioIo::new(watched), wire))
    }
}

/// A connection that knows what it has been through. It watches from above TLS, where every byte is HTTP's.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    wire: Arc<Wire>,
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
