//! Counts what callers see: how many requests are under way, how they are answered and how long that takes. Of those that
//! went wrong or were slow the log is told.
//!
//! Outside of everything that can refuse, so that refusals count.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use prometheus::Histogram;
use tower::{Layer, Service, layer};

use super::trace::{Inbound, Named};
use super::{Body, Outcome, Rung, report};
use crate::clock::Clock;
use crate::contacts::Api;
use crate::soon::Soon;
use crate::telemetry::metrics::Metrics;

/// The rung.
pub fn layer<S>(
    clock: Clock,
    metrics: Arc<Metrics>,
) -> impl Layer<S, Service = Measure<S>> + Clone {
    let tally = Arc::new(Tally {
        clock,
        metrics,
        frequent: Frequent::default(),
    });
    layer::layer_fn(move |inner| Measure {
        tally: tally.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Measure<S> {
    tally: Arc<Tally>,
    inner: S,
}

/// What it takes to count.
#[derive(Debug)]
struct Tally {
    clock: Clock,
    metrics: Arc<Metrics>,
    frequent: Frequent,
}

impl<'a, S, B> Service<&'a Inbound<B>> for Measure<S>
where
    S: Rung<&'a Inbound<B>, Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Soon<Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, inbound: &'a Inbound<B>) -> Self::Future {
        let tally = &self.tally;
        let note = Note {
            began: inbound.at,
            series: Series {
                method: Known::of(inbound.request.method()),
                api: inbound.named.api(),
            },
            named: inbound.named.clone(),
        };
        let mut answer = self.inner.call(inbound);
        // What is there at once is over before anybody could see it in flight.
        let active = answer.is_waited_for().then(|| tally.metrics.request());
        answer.edit_with(tally, move |tally, answer| {
            drop(active);
            if let Ok(response) = answer {
                note.take(tally, response);
            }
        });
        answer
    }
}

/// A request that is under way.
#[derive(Debug)]
struct Note {
    began: Instant,
    series: Series,
    named: Named,
}

impl Note {
    /// Counts the answer, and tells the log of it where it is news.
    fn take(self, tally: &Tally, response: &Response<Body>) {
        let took = tally.clock.now().saturating_duration_since(self.began);
        tally.count(self.series, response.status(), took);
        report::answered(&self.named, response, took);
    }
}

/// The requests that are counted together, but for their status.
#[derive(Clone, Copy, Debug)]
struct Series {
    method: Known,
    api: Option<Api>,
}

/// The method as a label of few values.
#[derive(Clone, Copy, Debug)]
enum Known {
    Get,
    Head,
    Purge,
    Other,
}

impl Known {
    fn of(method: &Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PURGE" => Self::Purge,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Purge => "PURGE",
            Self::Other => "_OTHER",
        }
    }
}

impl Tally {
    fn count(&self, series: Series, status: StatusCode, took: Duration) {
        let find = || {
            let route = series.api.map_or("", Api::route);
            self.metrics.served(series.method.name(), status, route)
        };
        let took = took.as_secs_f64();
        match self.frequent.place(series, status) {
            Some(place) => place.get_or_init(find).observe(took),
            None => find().observe(took),
        }
    }
}

/// The series that nearly all requests belong to, found once each: to find one is to hash its labels under a lock.
#[derive(Debug, Default)]
struct Frequent([[[OnceLock<Histogram>; 2]; 2]; 2]);

impl Frequent {
    fn place(&self, series: Series, status: StatusCode) -> Option<&OnceLock<Histogram>> {
        let method = match series.method {
            Known::Get => 0,
            Known::Head => 1,
            Known::Purge | Known::Other => return None,
        };
        let api = match series.api? {
            Api::V1 => 0,
            Api::V2 => 1,
        };
        let status = match status {
            StatusCode::OK => 0,
            StatusCode::NOT_MODIFIED => 1,
            _ => return None,
        };
        Some(&self.0[method][api][status])
    }
}
