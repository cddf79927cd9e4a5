//! Counts what callers see: how many requests are under way, how they are answered and how long that takes.
//!
//! Outside of everything that can refuse, so that refusals count.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use tower::{Layer, Service, layer};

use super::Body;
use super::trace::Named;
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

/// The rung.
pub fn layer<S>(
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Layer<S, Service = Measure<S>> + Clone {
    layer::layer_fn(move |inner| Measure {
        clock: clock.clone(),
        metrics: metrics.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Measure<S> {
    clock: Clock,
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Measure<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        let began = clock.now();
        let active = metrics.request();
        let method = method(request.method());
        let route = request.extensions().get().map_or("", Named::route);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            drop(active);
            let took = clock.now().saturating_duration_since(began);
            metrics.served(method, response.status(), route, took);
            Ok(response)
        })
    }
}

/// The method as a label of few values.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PURGE" => "PURGE",
        _ => "_OTHER",
    }
}
