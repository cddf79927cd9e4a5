//! Hides how a connection's bytes become private, and who is at its other end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Version;
use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::piece;
use crate::edge::certificates::Certificates;
use crate::edge::peer::Peer;
use crate::secret::Print;
use crate::telemetry::metrics::{Handshake, Metrics};

/// Its name where two sides agree on it.
const HTTP_2: &[u8] = b"h2";

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
            true => &[HTTP_2, b"http/1.1"],
            false => &[b"http/1.1"],
        };
        Self {
            acceptor: Arc::new(certificates.server(protocols)).into(),
            made_of,
        }
    }

    /// Makes a connection private, and learns who is at its other end.
    pub(super) async fn shake_hands(self, stream: TcpStream) -> io::Result<(Stream, Peer)> {
        let stream = Box::new(self.acceptor.accept(stream).await?);
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let peer = Peer::new(shown);
        Ok((Stream::Private(stream), peer))
    }
}

/// Counts a handshake. Why one failed is the other side's affair, and was told to it.
pub(super) fn note<T>(shaken: &io::Result<T>, metrics: Option<&Metrics>) {
    let outcome = shaken.as_ref().map_or_else(meaning, |_| Handshake::Ok);
    if let Some(metrics) = metrics {
        metrics.handshake(outcome);
    }
    if let Err(error) = shaken {
        debug!(outcome = outcome.name(), %error, "a handshake failed");
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

impl Stream {
    /// Which version of HTTP the two sides agreed on (ALPN). Who does not say speaks HTTP/1.1.
    pub(super) fn agreed(&self) -> Version {
        match self {
            Self::Private(stream) if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) => {
                Version::HTTP_2
            }
            Self::Private(_) | Self::Clear(_) => Version::HTTP_11,
        }
    }
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
        match &mut *self {
            Self::Clear(stream) => piece::poll_write(stream, cx, bufs),
            // Here they are copied as they are made private.
            Self::Private(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
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
