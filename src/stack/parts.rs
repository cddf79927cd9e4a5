//! What outlives requests: some of it settings too, some of it not.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Upstream;
use crate::cache::coalesce::{Accounts, Ways};
use crate::cache::store::Store;
use crate::clock::Clock;
use crate::config::Config;
use crate::edge::admit::Places;
use crate::edge::callers::Callers;
use crate::fleet::Fleet;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::upstream::client::Client;
use crate::upstream::credentials::Credentials;

/// What outlives requests and settings.
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
    /// The other replicas.
    pub fleet: Fleet,
    /// How pages are fetched now.
    pub ways: Ways<Upstream>,
    /// Fetches, which outlive the requests that began them.
    pub tasks: TaskTracker,
    /// Set once no further request is to be taken.
    pub draining: CancellationToken,
}

/// What outlives requests and changes with the settings. Nobody holds it for longer than that, but requests that are
/// under way: there are secrets in it, and connections.
#[derive(Debug)]
pub struct Means {
    /// The secrets.
    pub credentials: Arc<Credentials>,
    /// The connections to the vendor.
    pub client: Client,
    /// Who may ask, and what they have spent of their quotas.
    pub callers: Arc<Callers>,
    /// A place for each request in flight.
    pub places: Arc<Places>,
}

impl Means {
    /// For the first settings.
    pub fn new(config: &Config, credentials: Credentials, client: Client, parts: &Parts) -> Self {
        let Parts { metrics, clock, .. } = parts;
        Self {
            credentials: Arc::new(credentials),
            client,
            callers: Arc::new(Callers::new(&config.callers, metrics, clock.now())),
            places: places(config),
        }
    }

    /// For other settings. What these do not touch is the same, and what was spent stays spent.
    #[must_use]
    pub fn changed(
        &self,
        (was, is): (&Config, &Config),
        credentials: Credentials,
        client: Client,
        parts: &Parts,
    ) -> Self {
        let now = parts.clock.now();
        Self {
            credentials: Arc::new(credentials.after(&self.credentials, now)),
            client: client.after(&self.client),
            callers: Arc::new(self.callers.changed(&is.callers, &parts.metrics, now)),
            places: match was.listen.max_in_flight == is.listen.max_in_flight {
                true => self.places.clone(),
                // Who is in flight keeps the place it has, which is none of these.
                false => places(is),
            },
        }
    }
}

fn places(config: &Config) -> Arc<Places> {
    Arc::new(Places::new(config.listen.max_in_flight))
}
