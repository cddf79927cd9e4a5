//! One connection, from its first byte until either side ends it or its port closes: hides how hyper is driven.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tower::Service;
use tracing::debug;

use super::ahead::Ahead;
use super::live::{Latest, Serving};
use super::patience::{Patience, Progress};
use super::wire::Wire;
use super::{Port, tls};
use crate::edge::peer::Peer;
use crate::edge::soon::Soon;
use crate::edge::{Outcome, respond};
use crate::telemetry::metrics::Metrics;

/// Serves it.
pub(super) fn serve(
    port: &Port,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send + use<> {
    let (serving, closing) = (port.serving.clone(), port.closing.clone());
    let metrics = port.metrics.clone();
    let open = metrics.as_ref().map(Metrics::connection);
    let progress = Progress::default();
    let served = serving.now();
    let (tls, http) = (served.tls.clone(), served.http.clone());
    let mut patience = Patience::new(progress.clone(), served.header_timeout);
    async move {
        let _held = (place, open);
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection was gone before it began");
            return;
        }
        let opened = tls::open(tls, stream, metrics, &mut patience, &closing).await;
        let Some((stream, peer)) = opened else { return };
        let ahead = Ahead::default();
        let io = TokioIo::new(Wire::new(stream, progress.clone(), ahead.clone()));
        let own = Own {
            latest: RefCell::new(serving.latest()),
            serving,
            peer,
            progress: progress.clone(),
            ahead,
        };
        let mut connection = pin!(http.serve_connection(io, service_fn(move |r| own.answer(r))));
        let mut closing = pin!(closing.cancelled());
        let mut told = false;
        let turn = poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    note(ended);
                    return Poll::Ready(());
                }
                if patience.poll(cx).is_ready() {
                    debug!("a connection brought no request in time");
                    return Poll::Ready(());
                }
                // hyper would drop the part of a head that it has; its sender gets an answer first.
                if told || progress.mid_head() || closing.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                connection.as_mut().graceful_shutdown();
                told = true;
            }
        });
        turn.await;
    }
}

/// What a connection has of its own.
struct Own {
    serving: Serving,
    /// A copy of the service, because to make one for each request would take a box and a dozen counts of references.
    latest: RefCell<Latest>,
    peer: Option<Peer>,
    progress: Progress,
    ahead: Ahead,
}

impl Own {
    fn answer(&self, request: Request<Incoming>) -> Soon<Outcome> {
        let version = request.version();
        self.progress.asked(version);
        let request = match &self.peer {
            None => request,
            Some(peer) => peer.clone().introduces(request),
        };
        // By the settings of this moment, to its end. No rung does work in `poll_ready`, so none has to be asked.
        let mut latest = self.latest.borrow_mut();
        match Soon::of(self.serving.renew(&mut latest).call(request)) {
            Soon::Later(answer) => {
                let (progress, ahead) = (self.progress.clone(), self.ahead.clone());
                Soon::Later(answer).then(move |answer| {
                    // Those who speak HTTP/1.0 do not know of it, and into HTTP/2 only hyper can write.
                    if let Ok(response) = &answer
                        && let Some(respond::Ahead(interims)) = response.extensions().get()
                        && version == Version::HTTP_11
                    {
                        ahead.put(interims);
                    }
                    progress.answered();
                    answer
                })
            }
            there => {
                // What is there at once is from memory, where nothing is kept that goes ahead.
                self.progress.answered();
                there
            }
        }
    }
}

/// That a connection broke is the other side's affair, and seldom news.
fn note(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        debug!(error, "a connection broke");
    }
}
