//! Signs calls to the vendor: puts the token of the app that `iid` names into `auth`.
//!
//! It stands right above the connection, so that a token is minted for the call it goes with and for no other.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::HeaderName;
use tower::{Layer, Service, layer};

use super::client::Call;
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

/// A call that has no token yet.
#[derive(Debug)]
pub struct Unsigned {
    /// The call.
    pub call: Call,
    /// The list it is about, and so the app that it is made for.
    pub list: ListKey,
    /// Which of the app's secrets speaks for it.
    pub by: By,
}

impl<S> Service<Unsigned> for Sign<S>
where
    S: Service<Call, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Error;
    type Future = BoxFuture<'static, Result<S::Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, unsigned: Unsigned) -> Self::Future {
        let Unsigned { mut call, list, by } = unsigned;
        let credential = self.credentials.find(list.stream());
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        // The one that is ready goes along.
        let spare = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, spare);
        Box::pin(async move {
            let credential = credential.ok_or(Error::StreamUnknown)?;
            let token = credential.token(by, &clock).await?;
            if token.fresh {
                metrics.tokens_minted(credential.algorithm().name());
            }
            call.request.headers_mut().insert(AUTH, token.value);
            inner.call(call).await
        })
    }
}
