//! Hides how hyper is driven, and that it is there only while requests come: its buffers are most of what a connection
//! costs, and most connections wait.

use std::error::Error;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::Version;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::answers::Answers;
use super::tls::{self, Stream, Tls};
use super::wire::Wire;
use crate::edge::peer::Peer;
use crate::telemetry::metrics::Metrics;

/// How each version of HTTP is spoken.
pub(super) struct Versions {
    one: http1::Builder,
    two: http2::Builder<TokioExecutor>,
    /// Whether the other is spoken by those who begin with it.
    both: bool,
}

impl Versions {
    pub(super) fn new(both: bool) -> Self {
        let (mut one, mut two) = (
            http1::Builder::new(),
            http2::Builder::new(TokioExecutor::new()),
        );
        // Ours is kept by `Patience`; hyper's would close idle connections too.
        one.header_read_timeout(None);
        two.timer(TokioTimer::new()).max_header_list_size(16 * 1024);
        Self { one, two, both }
    }
}

/// What became of a connection.
pub(super) type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// HTTP on a connection.
pub(super) struct Http {
    versions: Arc<Versions>,
    state: State,
}

enum State {
    /// Hands are being shaken. What is boxed is large, and over before the first request.
    Opening(Shaking, Answers, Option<Arc<Metrics>>),
    /// Nothing comes, for now.
    Quiet(Wire<Stream>, Answers, Option<Version>),
    One(Box<http1::Connection<TokioIo<Wire<Stream>>, Answers>>),
    Two(Box<http2::Connection<TokioIo<Wire<Stream>>, Answers, TokioExecutor>>),
    /// Nothing will come.
    Leaving(Wire<Stream>),
    Gone,
}

type Shaking = BoxFuture<'static, io::Result<(Stream, Peer)>>;

impl Http {
    /// In the clear.
    pub(super) fn clear(versions: Arc<Versions>, stream: TcpStream, answers: Answers) -> Self {
        let known = (!versions.both).then_some(Version::HTTP_11);
        let wire = Wire::new(Stream::Clear(stream), answers.sides().clone());
        let state = State::Quiet(wire, answers, known);
        Self { versions, state }
    }

    /// Over TLS.
    pub(super) fn private(
        versions: Arc<Versions>,
        stream: TcpStream,
        answers: Answers,
        tls: Tls,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        let shaking = Box::pin(tls.shake_hands(stream));
        let state = State::Opening(shaking, answers, metrics);
        Self { versions, state }
    }

    /// Ready once the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            match &mut self.state {
                State::One(connection) => {
                    return Pin::new(&mut **connection).poll(cx).map_err(Into::into);
                }
                State::Two(connection) => {
                    return Pin::new(&mut **connection).poll(cx).map_err(Into::into);
                }
                State::Opening(shaking, _, metrics) => {
                    let shaken = ready!(shaking.as_mut().poll(cx));
                    tls::note(&shaken, metrics.as_deref());
                    match shaken {
                        Ok((stream, peer)) => self.opened(stream, peer),
                        Err(_) => self.state = State::Gone,
                    }
                }
                State::Quiet(wire, _, known) => match ready!(wire.poll_version(cx, *known))? {
                    Some(version) => self.begin(version),
                    None => self.leave(),
                },
                State::Leaving(wire) => {
                    return Pin::new(wire).poll_shutdown(cx).map_err(Into::into);
                }
                State::Gone => return Poll::Ready(Ok(())),
            }
        }
    }

    fn opened(&mut self, stream: Stream, peer: Peer) {
        if let State::Opening(_, answers, _) = mem::replace(&mut self.state, State::Gone) {
            let agreed = stream.agreed();
            let wire = Wire::new(stream, answers.sides().clone());
            self.state = State::Quiet(wire, answers.of(peer), Some(agreed));
        }
    }

    fn begin(&mut self, version: Version) {
        self.state = match mem::replace(&mut self.state, State::Gone) {
            State::Quiet(wire, answers, _) if version == Version::HTTP_2 => {
                let late = answers.is_shut();
                let two = &self.versions.two;
                let connection = two.serve_connection(TokioIo::new(wire), answers);
                let mut connection = Box::new(connection);
                if late {
                    Pin::new(&mut *connection).graceful_shutdown();
                }
                State::Two(connection)
            }
            State::Quiet(wire, answers, _) => {
                let connection = self
                    .versions
                    .one
                    .serve_connection(TokioIo::new(wire), answers);
                State::One(Box::new(connection))
            }
            other => other,
        };
    }

    /// Does without hyper until more comes. Only between two requests of HTTP/1, when the last answer has gone.
    pub(super) fn rest(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Gone) {
            State::One(connection) => {
                let http1::Parts {
                    io,
                    read_buf,
                    service,
                    ..
                } = connection.into_parts();
                let (mut wire, mut answers) = (io.into_inner(), service);
                answers.rest();
                wire.rest(&read_buf);
                State::Quiet(wire, answers, Some(Version::HTTP_11))
            }
            other => other,
        };
    }

    /// Has those who speak HTTP/2 open no more streams here, and answers those that cross that. Answers of HTTP/1 say it
    /// themselves.
    pub(super) fn part(&mut self) {
        if let State::Two(_) = self.state {
            self.leave();
        }
    }

    /// Takes no more requests, and ends when those it has are answered.
    pub(super) fn leave(&mut self) {
        match &mut self.state {
            State::One(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            State::Two(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            State::Quiet(..) => {
                if let State::Quiet(wire, ..) = mem::replace(&mut self.state, State::Gone) {
                    self.state = State::Leaving(wire);
                }
            }
            State::Opening(..) => self.state = State::Gone,
            State::Leaving(_) | State::Gone => {}
        }
    }

    /// It is not waited for any longer.
    pub(super) fn give_up(&mut self) {
        if let State::Opening(_, _, metrics) = &self.state {
            let late: io::Result<()> = Err(io::ErrorKind::TimedOut.into());
            tls::note(&late, metrics.as_deref());
        }
        self.state = State::Gone;
    }
}
