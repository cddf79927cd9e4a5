//! Signs calls to the vendor: puts the token of the app that `iid` names into `auth`.
//!
//! It stands right above the connection, so that a token is minted for the call it goes with and for no other.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{HeaderName, Request};
use tower::util::ServiceExt;
use tower::{Layer, Service, layer};

use super::credentials::{By, Credentials};
use crate::clock::Clock;
use crate::contacts::ListKey;
use crate::error::Error;
use crate::telemetry::metrics::Metrics;

/// The vendor's header for tokens: no `Authorization`, no `Bearer`.
const AUTH: HeaderName = HeaderName::from_static("auth");

/// The rung.
pub fn layer<S>(
    credentials: Arc<Credentials>,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Layer<S, Service = Sign<S>> + Clone {
    layer::layer_fn(move |inner| Sign {
        credentials: credentials.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Sign<S> {
    credentials: Arc<Credentials>,
    clock: Clock,
    metrics: Arc<Metrics>,
    inner: S,
}

/// The app a call is made for and which of its secrets, beside the request that is sent.
#[derive(Clone, Debug)]
pub(crate) struct For(pub(crate) ListKey, pub(crate) By);

impl<S, B> Service<Request<B>> for Sign<S>
where
    S: Service<Request<B>, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = Error;
    type Future = BoxFuture<'static, Result<S::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Self {
            credentials,
            clock,
            metrics,
            inner,
        } = self.clone();
        Box::pin(async move {
            let app = request.extensions().get::<For>();
            let (credential, by) = app
                .and_then(|For(list, by)| Some((credentials.find(list.stream())?, *by)))
                .ok_or(Error::StreamUnknown)?;
            let token = credential.token(by, &clock).await?;
            if token.fresh {
                metrics.tokens_minted(credential.algorithm().name());
            }
            request.headers_mut().insert(AUTH, token.value);
            inner.oneshot(request).await
        })
    }
}
