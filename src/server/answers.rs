//! Hides how a connection's requests are answered: by the settings of the moment in which each comes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use tower::Service as _;

use super::connection::Sides;
use super::live::{Latest, Serving};
use crate::edge::peer::Peer;
use crate::edge::{Body, Outcome, respond};
use crate::soon::Soon;

/// What a connection has of its own.
pub(super) struct Answers {
    serving: Serving,
    /// A copy of the service, because to make one for each request would take a box and a dozen counts of references. None
    /// while no requests come.
    latest: RefCell<Option<Latest>>,
    peer: Option<Peer>,
    sides: Arc<Sides>,
}

impl Answers {
    pub(super) fn new(serving: Serving, sides: Arc<Sides>) -> Self {
        Self {
            serving,
            latest: RefCell::default(),
            peer: None,
            sides,
        }
    }

    /// The requests are this one's.
    pub(super) fn of(self, peer: Peer) -> Self {
        Self {
            peer: Some(peer),
            ..self
        }
    }

    /// Whether callers who connect anew get to whoever takes over.
    pub(super) fn is_shut(&self) -> bool {
        self.serving.is_shut()
    }

    pub(super) fn sides(&self) -> &Arc<Sides> {
        &self.sides
    }

    /// Holds no more than the next request cannot do without.
    pub(super) fn rest(&mut self) {
        self.latest = RefCell::default();
    }
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Soon<Outcome>;

    fn call(&self, request: Request<Incoming>) -> Soon<Outcome> {
        let version = request.version();
        self.sides.progress.asked(version);
        let request = match &self.peer {
            None => request,
            Some(peer) => peer.clone().introduces(request),
        };
        // By the settings of this moment, to its end. No rung does work in `poll_ready`, so none has to be asked.
        let mut latest = self.latest.borrow_mut();
        let answer = match self.serving.renew(&mut latest).call(request) {
            later @ Soon::Later(_) => {
                let sides = self.sides.clone();
                later.then(move |answer| {
                    // Those who speak HTTP/1.0 do not know of it, and into HTTP/2 only hyper can write.
                    if let Ok(response) = &answer
                        && let Some(respond::Ahead(interims)) = response.extensions().get()
                        && version == Version::HTTP_11
                    {
                        sides.ahead.put(interims);
                    }
                    sides.progress.answered();
                    answer
                })
            }
            there => {
                // What is there at once is from memory, where nothing is kept that goes ahead.
                self.sides.progress.answered();
                there
            }
        };
        // Whoever takes over the port gets the next request. HTTP/2 says it once and to the whole connection: see `Http::part`.
        match self.serving.is_leaving() && version < Version::HTTP_2 {
            true => answer.then(|answer| {
                let close = HeaderValue::from_static("close");
                answer.map(|mut answer| {
                    answer.headers_mut().insert(CONNECTION, close);
                    answer
                })
            }),
            false => answer,
        }
    }
}
