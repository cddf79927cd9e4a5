//! The settings in use, and how others take their place while everything goes on: what of them can change does so at
//! once for all requests to come, the rest is named.

use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use crate::admin::{self, InUse, Ready};
use crate::config::Config;
use crate::config::sources::{Loaded, Ports, Unusable};
use crate::config::watch::Watch;
use crate::edge::certificates::Certificates;
use crate::secret::Print;
use crate::stack::{self, Edge, Means, Parts};
use crate::telemetry::Logs;
use crate::telemetry::logs::EACH;
use crate::telemetry::metrics::{Limits, Reload};

use super::http::Versions;
use super::lease;
use super::tls::Tls;

/// How a port serves now. Requests ask for the service, connections for the rest.
#[derive(Clone)]
pub(super) struct Serving(Arc<Turns>);

struct Turns {
    now: ArcSwap<Served>,
    /// Rises whenever another takes the place of that.
    turn: AtomicUsize,
    stage: AtomicU8,
}

/// A port serves.
const SERVING: u8 = 0;
/// It still does, and callers had better go elsewhere.
const LEAVING: u8 = 1;
/// It takes no more connections, so that they do.
const SHUT: u8 = 2;
/// Its connections end.
const CLOSING: u8 = 3;

/// A copy of a port's service, of some turn. There are no secrets of the gateway's in it, for it may be kept for as long as a
/// connection is.
pub(super) struct Latest {
    turn: usize,
    service: Edge,
}

impl Serving {
    fn new(first: Served) -> Self {
        Self(Arc::new(Turns {
            now: ArcSwap::from_pointee(first),
            turn: AtomicUsize::new(0),
            stage: AtomicU8::new(SERVING),
        }))
    }

    pub(super) fn now(&self) -> impl Deref<Target = Arc<Served>> + use<> {
        self.0.now.load()
    }

    fn turn(&self, next: Served) {
        self.0.now.store(Arc::new(next));
        self.0.turn.fetch_add(1, Release);
    }

    /// From now on each answer says that its connection is the last one's.
    pub(super) fn leave(&self) {
        self.0.stage.store(LEAVING, Release);
    }

    /// To be called before connections hear of it, which look here whether there is something to hear.
    pub(super) fn shut(&self) {
        self.0.stage.store(SHUT, Release);
    }

    /// The same once they are to end.
    pub(super) fn close(&self) {
        self.0.stage.store(CLOSING, Release);
    }

    /// Whether callers had better go elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        self.0.stage.load(Acquire) != SERVING
    }

    /// Whether whoever connects anew gets elsewhere.
    pub(super) fn is_shut(&self) -> bool {
        self.0.stage.load(Acquire) >= SHUT
    }

    /// Whether connections are to end.
    pub(super) fn is_closing(&self) -> bool {
        self.0.stage.load(Acquire) == CLOSING
    }

    /// The copy, which is made anew if there is none, or none of this turn.
    pub(super) fn renew<'a>(&self, copy: &'a mut Option<Latest>) -> &'a mut Edge {
        // The turn first: a copy may be newer than it says, and is then made once more, but never older.
        let turn = self.0.turn.load(Acquire);
        if copy.as_ref().is_some_and(|copy| copy.turn != turn) {
            *copy = None;
        }
        let latest = copy.get_or_insert_with(|| Latest {
            turn,
            service: self.now().service.clone(),
        });
        &mut latest.service
    }
}

/// How a port serves, all of it by the same settings.
pub(super) struct Served {
    pub(super) service: Edge,
    /// None: cleartext.
    pub(super) tls: Option<Tls>,
    pub(super) versions: Arc<Versions>,
    pub(super) header_timeout: Duration,
}

impl Served {
    fn new(service: Edge, tls: Option<Tls>, http2: bool, header_timeout: Duration) -> Self {
        Self {
            service,
            tls,
            versions: Arc::new(Versions::new(http2)),
            header_timeout,
        }
    }

    /// Requests, by the whole path.
    fn callers(config: &Config, means: &Means, parts: &Parts, tls: Option<Tls>) -> Self {
        let listen = &config.listen;
        let service = stack::stack(config, means, parts);
        parts.metrics.limits(&Limits {
            connections: listen.max_connections.get(),
            in_flight: listen.max_in_flight.get(),
            cache_bytes: config.cache.max_bytes,
        });
        Self::new(service, tls, listen.http2, listen.header_timeout)
    }

    /// What operators ask.
    fn operators(service: Edge, tls: Option<Tls>) -> Self {
        const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
        Self::new(service, tls, false, HEADER_TIMEOUT)
    }
}

/// The settings in use, and all that goes by them.
pub(super) struct Live {
    pub(super) config: Config,
    pub(super) serving: Ports<Serving>,
    in_use: InUse,
    means: Means,
    parts: Parts,
}

impl Live {
    pub(super) fn new(
        (config, print): (Config, Print),
        certificates: &Ports<Option<Certificates>>,
        means: Means,
        parts: Parts,
        ready: Ready,
    ) -> Self {
        let in_use = InUse::new(name(&config, print), parts.clock.wall());
        let admin = admin::service(&config, &parts, ready, in_use.clone());
        let tls = tls(certificates, &config, None);
        let callers = Served::callers(&config, &means, &parts, tls.callers);
        let operators = Served::operators(admin, tls.operators);
        Self {
            serving: Ports {
                callers: Serving::new(callers),
                operators: Serving::new(operators),
            },
            in_use,
            config,
            means,
            parts,
        }
    }

    /// Takes over whatever settings come, and never ends.
    pub(super) async fn follow(&mut self, mut watch: Watch, logs: Option<Logs>) {
        loop {
            let read = {
                let mut next = pin!(watch.next());
                loop {
                    tokio::select! {
                        read = &mut next => break read,
                        () = self.overlap() => {}
                    }
                }
            };
            match read {
                Ok(loaded) => {
                    self.take_over(loaded);
                    if let Some(logs) = &logs {
                        logs.set_level(self.config.telemetry.log);
                    }
                    // Last: who sees it counted finds all of it in effect.
                    let Parts { metrics, clock, .. } = &self.parts;
                    metrics.reloaded(Reload::Ok, clock.wall());
                }
                Err(unusable) => self.stay(&unusable),
            }
        }
    }

    /// Waits until the time of a secret is over that another took the place of, and wipes it.
    async fn overlap(&self) {
        let (clock, credentials) = (&self.parts.clock, &self.means.credentials);
        match credentials.overlap() {
            Some(until) => clock.sleep_until(until).await,
            None => std::future::pending().await,
        }
        credentials.forget_former(clock.now());
    }

    /// No further request is taken.
    pub(super) fn close(&self) {
        self.means.places.close();
    }

    fn take_over(&mut self, loaded: Loaded) {
        for warning in loaded.credentials.warnings() {
            warn!(name: EACH, "{warning}");
        }
        let print = loaded.print();
        let (config, differ) = loaded.config.while_running(&self.config);
        let Parts {
            store,
            accounts,
            clock,
            tasks,
            ..
        } = &self.parts;
        let (was, parts) = (&self.config, &self.parts);
        let (credentials, client) = (loaded.credentials, loaded.client);
        let means = self
            .means
            .changed((was, &config), credentials, client, parts);
        accounts.go_by(&config.allowance, config.cache.usable_for, lease(&config));
        let Ports { callers, operators } = &self.serving;
        let tls = tls(&loaded.certificates, &config, Some(&self.serving));
        let admin = operators.now().service.clone();
        callers.turn(Served::callers(&config, &means, parts, tls.callers));
        operators.turn(Served::operators(admin, tls.operators));
        if config.cache != was.cache {
            // What is served, and how, has changed already. This goes through all of the memory.
            let (store, settings) = (store.clone(), config.cache.clone());
            tasks.spawn_blocking(move || store.keep_by(&settings));
        }
        let now = clock.wall();
        let hash = name(&config, print);
        info!(
            settings.hash = hash,
            "settings and secrets were read again, and are in use"
        );
        if !differ.is_empty() {
            warn!("needs a restart: {}", differ.join(", "));
        }
        self.in_use.set(hash, now);
        (self.config, self.means) = (config, means);
    }

    fn stay(&self, unusable: &Unusable) {
        let mistakes = unusable.mistakes();
        error!(
            mistakes = mistakes.len(),
            error = mistakes.join("; "),
            "settings or secrets cannot be used, so nothing changes"
        );
        let Parts { clock, metrics, .. } = &self.parts;
        metrics.reloaded(Reload::Failed, clock.wall());
        let more = match mistakes.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more, see the log)", n - 1),
        };
        let first = mistakes.first().map_or("", String::as_str);
        self.in_use.failed(&format!("{first}{more}"));
    }
}

/// How both ports' connections are opened from now on.
fn tls(
    certificates: &Ports<Option<Certificates>>,
    config: &Config,
    before: Option<&Ports<Serving>>,
) -> Ports<Option<Tls>> {
    let tls = |certificates: &Option<Certificates>, http2, before: Option<&Serving>| {
        let before = before.map(Serving::now);
        let before = before.as_ref().and_then(|before| before.tls.as_ref());
        let certificates = certificates.as_ref();
        certificates.map(|certificates| Tls::new(certificates, http2, before))
    };
    let callers = before.map(|before| &before.callers);
    let operators = before.map(|before| &before.operators);
    Ports {
        callers: tls(&certificates.callers, config.listen.http2, callers),
        operators: tls(&certificates.operators, false, operators),
    }
}

/// A short name of settings and secrets: of the settings the same in every process that has the same ones, of the secrets
/// one that says nothing outside of this process.
fn name(config: &Config, print: Print) -> String {
    format!("{}-{}", config.hash(), print.tag())
}
