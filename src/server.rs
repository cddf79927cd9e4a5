//! Binds the two ports, gives every connection to hyper, and leaves in order when told to.
//!
//! The order: readiness turns 503; for `drain_delay` requests are served as before, while those who route them here learn
//! of it, and answers tell callers to connect anew; then no connection is taken any more, which callers who speak HTTP/2 are
//! told; a moment later no request is, those in flight are answered, idle connections are closed; what is left after
//! `drain_for` is cut off.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::Ready;
use crate::cache::coalesce::{Name, Ways};
use crate::cache::store::Store;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::sources::{Loaded, Ports, Sources, Unusable};
use crate::config::watch::Watch;
use crate::contacts::{Forwarded, ListKey, PageKey};
use crate::edge::certificates::Certificates;
use crate::fleet::{Fleet, Replica};
use crate::secret::Print;
use crate::stack::{Means, Parts};
use crate::telemetry::Logs;
use crate::telemetry::logs::EACH;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::upstream::allowance::{Allowances, Sharing};

mod ahead;
mod answers;
mod connection;
mod http;
mod inherited;
mod live;
mod patience;
mod piece;
mod tls;
mod wire;

use inherited::Inherited;
use live::{Live, Serving};

/// How long the last spans may take to reach the collector, once nobody is left to be answered.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// The gateway, bound and not yet serving.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    print: Print,
    certificates: Ports<Option<Certificates>>,
    means: Means,
    parts: Parts,
    watch: Option<(Watch, Option<Logs>)>,
    callers: TcpListener,
    operators: TcpListener,
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What the settings name cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A port cannot be had.
    #[error("{key} {address}: cannot be listened on: {error}")]
    Bind {
        /// The setting that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// The system tells of no signals.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// Metrics cannot be declared: a defect.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Requests that were still in flight when `drain_for` was over.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("connections cut off after drain_for: {0}")]
pub struct CutOff(pub usize);

impl Gateway {
    /// Reads the secrets and binds both ports.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config, clock: Clock) -> Result<Self, StartError> {
        let loaded = Loaded::of(config)?;
        let print = loaded.print();
        let Loaded {
            config,
            credentials,
            client,
            shared,
            certificates,
        } = loaded;
        for warning in credentials.warnings() {
            warn!(name: EACH, %warning, "loaded, and perhaps not meant so");
        }
        let metrics = Metrics::new()?;
        metrics.loaded(clock.wall());
        for warning in &config.telemetry.open_telemetry.warnings {
            warn!("{warning}");
        }
        let mut inherited = Inherited::take();
        let callers = listen("listen.address", config.listen.address, &mut inherited).await?;
        let is_handed_on = inherited.has(config.admin.address);
        let operators = listen("admin.address", config.admin.address, &mut inherited).await?;
        drop(inherited);
        let tasks = TaskTracker::new();
        let propagate = config.upstream.propagate_trace;
        let time = clock.clone();
        let now = Arc::new(move || time.both());
        let traces = Traces::start(&config.telemetry, propagate, now, &metrics);
        // Up to this age a page would have been served at once to whoever is turned away.
        let penalty = config.cache.usable_for;
        let allowance = config.allowance.clone();
        let store = Store::new(&config.cache, metrics.clone(), clock.clone());
        let forgets = {
            let store = store.clone();
            Box::new(move |meant: &dyn Fn(&ListKey) -> bool| store.forget_those(meant))
        };
        let holds = {
            let (store, clock) = (store.clone(), clock.clone());
            Box::new(move |key: &PageKey, sent: &Forwarded, version| {
                store.page(key, sent, version, clock.now())
            })
        };
        let sets_right = {
            let store = store.clone();
            Box::new(move |by| store.set_right(by))
        };
        let replica = Replica {
            // It is open until the replica has left. A process that takes over does so while this one still runs.
            address: operators.local_addr().ok().filter(|_| !is_handed_on),
            memory: allowance.window,
            clock: clock.clone(),
            metrics: metrics.clone(),
            forgets,
            holds,
            sets_right,
        };
        let fleet = Fleet::join(shared, replica).await;
        let parts = Parts {
            // Whoever waits for a call to be free is no fetch yet.
            accounts: Allowances::among(
                allowance,
                penalty,
                clock.clone(),
                TaskTracker::new(),
                fleet.standing().configured.then(|| Sharing {
                    fleet: fleet.clone(),
                    page: |(key, sent): &Name| (key, sent),
                    lease: lease(&config),
                }),
            ),
            store,
            ways: Ways::default(),
            traces,
            fleet,
            tasks,
            draining: CancellationToken::new(),
            clock,
            metrics,
        };
        let means = Means::new(&config, credentials, client, &parts);
        Ok(Self {
            config,
            print,
            certificates,
            means,
            parts,
            watch: None,
            callers,
            operators,
        })
    }

    /// While it runs, reads these sources, which its settings are from, again whenever they change and on SIGHUP, and
    /// goes by what is there.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn following(mut self, sources: Sources, logs: Option<Logs>) -> Result<Self, StartError> {
        let watch = Watch::new(sources, self.print).map_err(StartError::Signals)?;
        self.watch = Some((watch, logs));
        Ok(self)
    }

    /// Where callers connect.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.callers.local_addr()
    }

    /// Where operators connect.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.operators.local_addr()
    }

    /// What outlives requests, for those who look at it from outside.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Serves until `leave` comes, then drains.
    ///
    /// # Errors
    /// Requests had to be cut off after `drain_for`.
    pub async fn run(self, leave: impl Future<Output = ()>) -> Result<(), CutOff> {
        let Self {
            config,
            print,
            certificates,
            means,
            parts,
            watch,
            callers,
            operators,
        } = self;
        let max_connections = config.listen.max_connections.get();
        let ready = Ready::default();
        let settings = (config, print);
        let mut live = Live::new(settings, &certificates, means, parts.clone(), ready.clone());
        let (address, admin_address) = (callers.local_addr(), operators.local_addr());
        let admin_closing = CancellationToken::new();
        let operators = Port {
            listener: operators,
            serving: live.serving.operators.clone(),
            metrics: None,
            max_connections: 256,
            shut: admin_closing.clone(),
            closing: admin_closing.clone(),
        };
        let callers = Port {
            listener: callers,
            serving: live.serving.callers.clone(),
            metrics: Some(parts.metrics.clone()),
            max_connections,
            shut: CancellationToken::new(),
            closing: parts.draining.clone(),
        };
        let shut = callers.shut.clone();
        let (at_admin, at_work) = (TaskTracker::new(), TaskTracker::new());
        at_admin.spawn(operators.serve(at_admin.clone()));
        at_work.spawn(callers.serve(at_work.clone()));
        ready.set(true);
        // As bound, which the settings do not tell where they say port 0.
        info!(
            version = env!("CARGO_PKG_VERSION"),
            listen.address = address.ok().map(tracing::field::display),
            admin.address = admin_address.ok().map(tracing::field::display),
            "serving"
        );

        let following = async {
            match watch {
                Some((watch, logs)) => live.follow(watch, logs).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leave => {}
            () = following => {}
        }
        let listen = &live.config.listen;
        live.serving.callers.leave();
        ready.set(false);
        info!(delay = ?listen.drain_delay, "leaving: unready, still serving");
        tokio::time::sleep(listen.drain_delay).await;
        // Whoever has just connected has a request on its way, and so has whoever speaks HTTP/2. Without a delay nobody is
        // waited for.
        let on_its_way = ON_ITS_WAY.min(listen.drain_delay).min(listen.drain_for);
        if !on_its_way.is_zero() {
            live.serving.callers.shut();
            shut.cancel();
            tokio::time::sleep(on_its_way).await;
        }
        live.close();
        live.serving.callers.close();
        shut.cancel();
        parts.draining.cancel();
        at_work.close();
        info!(connections = parts.metrics.open_connections(), "draining");
        let left = listen.drain_for - on_its_way;
        let drained = tokio::time::timeout(left, at_work.wait()).await;
        parts.fleet.leave().await;
        live.serving.operators.close();
        admin_closing.cancel();
        at_admin.close();
        let ended = match drained {
            Ok(()) => {
                info!("drained");
                Ok(())
            }
            Err(_) => Err(CutOff(at_work.len())),
        };
        parts.traces.close(LAST_SPANS).await;
        ended
    }
}

/// For the first part of `drain_for` no connection is taken, and those that were still bring their requests.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// For how long a replica that makes a call is waited for: a little longer than the call may take.
fn lease(config: &Config) -> Duration {
    const MARGIN: Duration = Duration::from_secs(1);
    config.upstream.timeout + MARGIN
}

async fn listen(
    key: &'static str,
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<TcpListener, StartError> {
    if let Some(socket) = inherited.at(address) {
        return Ok(socket);
    }
    TcpListener::bind(address)
        .await
        .map_err(|error| StartError::Bind {
            key,
            address,
            error,
        })
}

/// A listening port and what is served on it.
struct Port {
    listener: TcpListener,
    serving: Serving,
    metrics: Option<Arc<Metrics>>,
    max_connections: usize,
    /// Set once the port takes no more connections.
    shut: CancellationToken,
    /// Set once those it has are to end.
    closing: CancellationToken,
}

impl Port {
    /// Accepts connections, each a task among `tasks`, until the port closes.
    async fn serve(self, tasks: TaskTracker) {
        // More than that there never are.
        let places = self.max_connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        let accept = async {
            loop {
                // A place first: who finds none waits in the system's queue and not in our memory.
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        tasks.spawn(connection::serve(&self, stream, place));
                    }
                    Err(error) => {
                        // Most likely out of file descriptors: some have to be closed first.
                        warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        let mut accept = pin!(accept);
        tokio::select! {
            () = self.shut.cancelled() => {}
            () = self.closing.cancelled() => {}
            () = accept.as_mut() => {}
        }
    }
}
