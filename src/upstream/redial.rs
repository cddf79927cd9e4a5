//! One more call where a kept-alive connection had died before a byte of the answer came, or the vendor refused to begin
//! on the request over this one (HTTP/2's `REFUSED_STREAM`); nothing else is repeated.
//!
//! It stands above everything that makes up a call, because the second one is a call like the first: it has a token
//! of its own and is counted on its own. Where the allowance has no second one at once, there is none.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::util::ServiceExt;
use tower::{Layer, Service, layer};

use super::Fetch;
use crate::contacts::Page;
use crate::error::Error;

/// The rung.
pub fn layer<S>() -> impl Layer<S, Service = Redial<S>> + Clone {
    layer::layer_fn(|inner| Redial { inner })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Redial<S> {
    inner: S,
}

impl<S> Service<Fetch> for Redial<S>
where
    S: Service<Fetch, Response = Page, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Page;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Page, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, fetch: Fetch) -> Self::Future {
        let first = self.inner.call(fetch.clone());
        let inner = self.inner.clone();
        Box::pin(async move {
            let page = first.await;
            if fetch.redial || !matches!(page, Err(Error::ConnectionLost)) {
                return page;
            }
            // The vendor may have counted the first one, so this is a second.
            let Some(permit) = fetch.permit.another().await else {
                return page;
            };
            let again = Fetch {
                permit: Arc::new(permit),
                redial: true,
                ..fetch
            };
            inner.oneshot(again).await
        })
    }
}
