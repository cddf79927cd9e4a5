//! The request path: three tiers, each read from top to bottom, outermost first.
//!
//! A request narrows on its way in, each time into a type: `http::Request` → `edge` → [`Ask`] → `cache` →
//! [`Fetch`] (a page's key) → `upstream` → `http::Request` to the vendor. The answer widens on its way out: vendor's
//! response → [`Page`] → [`Answer`] → `http::Response`.

mod parts;

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceBuilder;
use tower::util::BoxCloneSyncService;

use crate::cache::coalesce::{Fetches, Source, Way};
use crate::cache::lookup::Lookups;
use crate::cache::policy::{Kind, Rules};
use crate::cache::{Answer, serve};
use crate::config::Config;
use crate::contacts::{Ask, Page};
use crate::edge::{Body, admit, identify, measure, quota, rescue, respond, route, trace};
use crate::error::Error;
use crate::soon::Closed;
use crate::upstream::{Fetch, exchange, redial, rotate, sign};

pub use parts::{Means, Parts};

/// The outermost tier, closed: HTTP in, HTTP out, never an error out.
pub type Edge = Closed<Request<Incoming>, Response<Body>, Infallible>;
/// The middle tier, closed.
pub type Cache = Closed<Ask, Answer, Error>;
/// The innermost tier, closed.
pub type Upstream = BoxCloneSyncService<Fetch, Page, Error>;

/// The whole path for requests by these settings. Every fetch that begins from now on goes by them too, whoever asked
/// for it and when.
pub fn stack(config: &Config, means: &Means, parts: &Parts) -> Edge {
    let cache = cache(config, parts, upstream(config, means, parts));
    edge(config, means, parts, cache)
}

/// HTTP in, HTTP out.
fn edge(config: &Config, means: &Means, parts: &Parts, cache: Cache) -> Edge {
    let Parts { clock, metrics, .. } = parts;
    let path = ServiceBuilder::new()
        .layer(trace::layer(clock.clone(), parts.traces.clone())) // names the request, so that refusals below have names too
        .layer(measure::layer(clock.clone(), metrics.clone())) // counts what the caller sees
        .layer(rescue::layer(metrics.clone())) // above: always a response; below: perhaps an error
        .layer(admit::layer(means.places.clone())) // full means "no" at once, never a queue
        .layer(identify::layer(means.callers.clone())) // who calls: nobody further in asks again
        .layer(quota::layer(clock.clone())) // all requests of a caller count, so before anything is looked up
        .layer(route::layer(
            &config.listen,
            &config.upstream,
            means.credentials.streams(),
        )) // from here inwards: an Ask, no longer HTTP
        .layer(respond::layer()) // and on the way out: an Answer becomes HTTP
        .service(cache);
    Closed::new(path)
}

/// An ask in, an answer out.
fn cache(config: &Config, parts: &Parts, upstream: Upstream) -> Cache {
    let (clock, store, fleet) = (&parts.clock, &parts.store, &parts.fleet);
    let rules = Arc::new(Rules {
        settings: config.cache.clone(),
        upstream: match config.upstream.accept_any_body {
            true => Kind::Any,
            false => Kind::Vendor,
        },
    });
    let memory = serve::Memory {
        rules: rules.clone(),
        store: store.clone(),
        fleet: fleet.clone(),
        clock: clock.clone(),
        metrics: parts.metrics.clone(),
    };
    parts.ways.turn(Way { rules, upstream });
    let lookups = Lookups::new(
        store.clone(),
        fleet.clone(),
        parts.accounts.clone(),
        clock.clone(),
        config.allowance.queue_deadline,
    );
    let fetches = Fetches::from(Source {
        ways: parts.ways.clone(),
        lookups: Arc::new(lookups),
        tasks: parts.tasks.clone(),
        traces: parts.traces.clone(),
    });
    let path = ServiceBuilder::new()
        // From memory where it may; a purge ends here. Its errors are the ones that callers see.
        .layer(serve::layer(memory, fetches.clone()))
        // Below here a caller waits, and for no longer than this. Not further out: a hit needs no timer, and when
        // time is up an old page can still be served.
        .timeout(config.listen.deadline)
        // One fetch per key, when the account's turn comes, whoever asks and whoever hangs up. By then the settings may
        // be others, and it goes by those.
        .service(fetches);
    Closed::new(path)
}

/// A page's key in, a page out.
fn upstream(config: &Config, means: &Means, parts: &Parts) -> Upstream {
    let Parts { clock, metrics, .. } = parts;
    let settings = Arc::new(config.upstream.clone());
    let credentials = means.credentials.clone();
    let path = ServiceBuilder::new()
        .layer(rotate::layer(credentials.clone(), clock.clone())) // a second call where secrets have just changed
        .layer(redial::layer()) // and where a kept-alive connection was dead; all below is one call
        .layer(exchange::layer(settings, clock.clone(), metrics.clone())) // key → request, response → page
        .layer(sign::layer(credentials, clock.clone(), metrics.clone())) // a token for this very call
        .service(means.client.service(clock.clone()));
    BoxCloneSyncService::new(path)
}
