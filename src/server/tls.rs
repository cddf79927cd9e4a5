//! Hides how a connection's bytes become private, and who is at its other end.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::patience::Patience;
use crate::edge::certificates::Certificates;
use crate::edge::peer::Peer;
use crate::secret::Print;
use crate::telemetry::metrics::{Handshake, Metrics};

/// How a port's connections are opened.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    made_of: (Print, bool),
}

impl Tls {
    /// By these certificates, to speak HTTP/2 where that is wanted. The one there was, with the tickets that it gave out,
    /// where that would do the same.
    pub(super) fn new(certificates: &Certificates, http2: bool, before: Option<&Self>) -> Self {
        let made_of = (certificates.print(), http2);
        if let Some(before) = before.filter(|before| before.made_of == made_of) {
            return before.clone();
        }
        let protocols: &[&[u8]] = match http2 {
            true => &[b"h2", b"http/1.1"],
            false => &[b"http/1.1"],
        };
        Self {
            acceptor: Arc::new(certificates.server(protocols)).into(),
            made_of,
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<(Stream, Peer)> {
        let stream = Box::new(self.acceptor.accept(stream).await?);
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let peer = Peer::new(shown);
        Ok((Stream::Private(stream), peer))
    }
}

/// A connection ready for HTTP, and its other end where TLS is spoken; nothing if hands were not shaken, or not in time. Why not
/// is the other side's affair, and told to it.
pub(super) async fn open(
    tls: Option<Tls>,
    stream: TcpStream,
    metrics: Option<Arc<Metrics>>,
    patience: &mut Patience,
    closing: &CancellationToken,
) -> Option<(Stream, Option<Peer>)> {
    let Some(tls) = tls else {
        return Some((Stream::Clear(stream), None));
    };
    // What is boxed is large, and over before the first request.
    let shaken = tokio::select! {
        shaken = Box::pin(tls.shake_hands(stream)) => shaken,
        () = poll_fn(|cx| patience.poll(cx)) => Err(io::ErrorKind::TimedOut.into()),
        () = closing.cancelled() => return None,
    };
    let outcome = shaken.as_ref().map_or_else(meaning, |_| Handshake::Ok);
    if let Some(metrics) = metrics {
        metrics.handshake(outcome);
    }
    match shaken {
        Ok((stream, peer)) => Some((stream, Some(peer))),
        Err(error) => {
            debug!(outcome = outcome.name(), %error, "a handshake failed");
            None
        }
    }
}

/// Whose certificate it was, if it was for that.
fn meaning(error: &io::Error) -> Handshake {
    use rustls::AlertDescription as Alert;
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    match error {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
            Handshake::ClientCertificate
        }
        Some(Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            // What is signed by another of the authority's name.
            | Alert::DecryptError,
        )) => Handshake::ServerCertificate,
        Some(_) | None => Handshake::Failed,
    }
}

/// A connection's bytes, as they are read and written here.
pub(super) enum Stream {
    Clear(TcpStream),
    Private(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($stream:expr, $call:ident($($argument:expr),*)) => {
        match &mut *$stream {
            Stream::Clear(stream) => Pin::new(stream).$call($($argument),*),
            Stream::Private(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(cx))
    }
}
