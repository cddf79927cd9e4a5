//! The request path: three tiers, each read from top to bottom, outermost first.
//!
//! A request narrows on its way in, each time into a type: `http::Request` → `edge` → [`Ask`] → `cache` →
//! [`Fetch`] (a page's key) → `upstream` → `http::Request` to the vendor. The answer widens on its way out: vendor's
//! response → [`Page`] → [`Answer`] → `http::Response`.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use crate::cache::coalesce::{Accounts, Fetches, Source};
use crate::cache::policy::{Kind, Rules};
use crate::cache::store::Store;
use crate::cache::{Answer, serve};
use crate::clock::Clock;
use crate::config::Config;
use crate::contacts::{Ask, Page};
use crate::edge::callers::Callers;
use crate::edge::{Body, admit, identify, measure, quota, rescue, respond, route, trace};
use crate::error::Error;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::upstream::client::Client;
use crate::upstream::credentials::Credentials;
use crate::upstream::{Fetch, exchange, redial, sign};

/// The outermost tier, closed: HTTP in, HTTP out, never an error out.
pub type Edge = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;
/// The middle tier, closed.
pub type Cache = BoxCloneSyncService<Ask, Answer, Error>;
/// The innermost tier, closed.
pub type Upstream = BoxCloneSyncService<Fetch, Page, Error>;

/// What outlives requests, and what tests put in place of the real thing.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Tells the time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Follows some of what happens.
    pub traces: Traces,
    /// The pages in memory.
    pub store: Store,
    /// The accounts' allowances, and who waits for them.
    pub accounts: Accounts,
    /// The secrets.
    pub credentials: Arc<Credentials>,
    /// The connections to the vendor.
    pub client: Client,
    /// Fetches, which outlive the requests that began them.
    pub tasks: TaskTracker,
    /// Set once no further request is to be taken.
    pub draining: CancellationToken,
}

/// The whole path.
pub fn stack(config: &Config, parts: &Parts) -> Edge {
    edge(config, parts, cache(config, parts, upstream(config, parts)))
}

/// HTTP in, HTTP out.
fn edge(config: &Config, parts: &Parts, cache: Cache) -> Edge {
    let Parts { clock, metrics, .. } = parts;
    let callers = Callers::new(&config.callers, metrics, clock.now());
    let path = ServiceBuilder::new()
        .layer(trace::layer(clock.clone(), parts.traces.clone())) // names the request, so that refusals below have names too
        .layer(measure::layer(clock.clone(), metrics.clone())) // counts what the caller sees
        .layer(rescue::layer(metrics.clone())) // above: always a response; below: perhaps an error
        .layer(admit::layer(parts.draining.clone())) // on its way out the gateway takes nothing more in
        .load_shed() // full means "no" at once, never a queue
        .concurrency_limit(config.listen.max_in_flight.get())
        .layer(identify::layer(callers)) // who calls: nobody further in asks again
        .layer(quota::layer(clock.clone())) // all requests of a caller count, so before anything is looked up
        .layer(route::layer(
            &config.listen,
            &config.upstream,
            parts.credentials.clone(),
        )) // from here inwards: an Ask, no longer HTTP
        .layer(respond::layer()) // and on the way out: an Answer becomes HTTP
        .service(cache);
    BoxCloneSyncService::new(path)
}

/// An ask in, an answer out.
fn cache(config: &Config, parts: &Parts, upstream: Upstream) -> Cache {
    let Parts {
        clock,
        metrics,
        store,
        tasks,
        ..
    } = parts;
    let rules = Arc::new(Rules {
        settings: config.cache.clone(),
        upstream: match config.upstream.accept_any_body {
            true => Kind::Any,
            false => Kind::Vendor,
        },
    });
    let memory = serve::Memory {
        store: store.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let fetches = Fetches::from(Source {
        rules,
        store: store.clone(),
        accounts: parts.accounts.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        traces: parts.traces.clone(),
        upstream,
    });
    let path = ServiceBuilder::new()
        // From memory where it may; a purge ends here. Its errors are the ones that callers see.
        .layer(serve::layer(memory, fetches.clone()))
        // Below here a caller waits, and for no longer than this. Not further out: a hit needs no timer, and when
        // time is up an old page can still be served.
        .timeout(config.listen.deadline)
        .service(fetches); // one fetch per key, when the account's turn comes, whoever asks and whoever hangs up
    BoxCloneSyncService::new(path)
}

/// A page's key in, a page out.
fn upstream(config: &Config, parts: &Parts) -> Upstream {
    let Parts { clock, metrics, .. } = parts;
    let settings = Arc::new(config.upstream.clone());
    let credentials = parts.credentials.clone();
    let path = ServiceBuilder::new()
        .layer(redial::layer()) // a second call where a kept-alive connection was dead; all below is one call
        .layer(exchange::layer(settings, clock.clone(), metrics.clone())) // key → request, response → page
        .layer(sign::layer(credentials, clock.clone(), metrics.clone())) // a token for this very call
        .service(parts.client.clone());
    BoxCloneSyncService::new(path)
}
