//! One more call where the vendor refused the credentials straight after they changed, with the other of the two secrets.
//!
//! It stands above everything that makes up a call, because the second one is a call like the first, and is counted on
//! its own. Where the allowance has no second one at once, there is none, and the next call begins with the other secret.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, ready};
use tower::util::ServiceExt;
use tower::{Layer, Service, layer};
use tracing::warn;

use super::Fetch;
use super::credentials::{By, Credentials};
use crate::clock::Clock;
use crate::contacts::Page;
use crate::error::Error;

/// The rung.
pub fn layer<S>(
    credentials: Arc<Credentials>,
    clock: Clock,
) -> impl Layer<S, Service = Rotate<S>> + Clone {
    layer::layer_fn(move |inner| Rotate {
        credentials: credentials.clone(),
        clock: clock.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Rotate<S> {
    credentials: Arc<Credentials>,
    clock: Clock,
    inner: S,
}

impl<S> Service<Fetch> for Rotate<S>
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

    fn call(&mut self, mut fetch: Fetch) -> Self::Future {
        let Some(credential) = self.credentials.find(fetch.key.list.stream()) else {
            return Box::pin(ready(Err(Error::StreamUnknown)));
        };
        let now = self.clock.now();
        fetch.by = credential.first(now);
        fetch.spare = credential.has_spare(fetch.by, now);
        let first = self.inner.call(fetch.clone());
        let (clock, inner) = (self.clock.clone(), self.inner.clone());
        Box::pin(async move {
            let page = first.await;
            if page.is_ok() {
                credential.taken();
            }
            if !matches!(page, Err(Error::CredentialsRefused)) {
                return page;
            }
            // The change may have come while the call was under way.
            let Some(by) = credential.second(fetch.by, clock.now()) else {
                return page;
            };
            let Some(permit) = fetch.permit.another().await else {
                credential.refused(fetch.by);
                return page;
            };
            let list = fetch.key.list.clone();
            let second = Fetch {
                by,
                spare: false,
                redial: false,
                permit: Arc::new(permit),
                ..fetch
            };
            let page = inner.oneshot(second).await;
            if page.is_ok() {
                credential.taken();
                credential.goes_first(by);
                let taken = match by {
                    By::Own => "new",
                    By::Other => "other",
                };
                warn!(
                    stream = list.stream(),
                    taken,
                    "of two secrets, one of which took the other's place, the vendor takes this one"
                );
            }
            page
        })
    }
}
