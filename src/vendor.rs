//! The stand-in vendor: a server that answers as the vendor's documentation says, refusals included.
//!
//! It is not the vendor, and says so: every answer carries `server: contacts-gateway-stand-in-vendor`, its contacts
//! are made up from the list's id, and their phone numbers begin with 999, a country code that nobody has. `demo`,
//! `vendor`, the integration tests and the benchmarks use it, in process or over HTTP.
//!
//! It is strict where the documentation is: all three headers, the token's signature and claims, a `jti` once only,
//! 60 calls a minute. Where the documentation is silent (statuses of refusals), the settings decide. It can be told to
//! misbehave: [`Vendor::behave`], or `PUT /_stand-in/behaviour`. The other paths of that kind are
//! `GET /_stand-in/behaviour`, `GET /_stand-in/stats` and `POST /_stand-in/reset`.

mod answer;
mod app;
mod behaviour;
mod book;
mod jwe;
mod limit;
mod lists;
mod misbehave;
mod pour;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use app::{App, BadKey, Credentials};
pub use behaviour::{Behaviour, Cut, Drip, Hollow, Stall};
pub use book::{Seen, Stats};
pub use limit::{Limit, Message};

use crate::clock::Clock;
use crate::contacts::AccountId;
use book::State;

/// What every answer's `server` field says.
pub const SERVER: &str = "contacts-gateway-stand-in-vendor";

/// How a stand-in vendor is set up. The default is what the documentation says, on a free loopback port, without apps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Speak TLS. Where this names no ALPN protocols, h2 and http/1.1 are offered.
    pub tls: Option<Arc<ServerConfig>>,
    /// The apps whose tokens are accepted. One that is there twice has two keys, as while its secret is being changed.
    pub apps: Vec<App>,
    /// Calls an account may make.
    pub limit: Limit,
    /// Contacts a page at most, and where the caller names no `limit`.
    pub largest_limit: NonZeroU64,
    /// How far a token's times may be off.
    pub leeway: Duration,
    /// What the time is.
    pub clock: Clock,
    /// How far the vendor's wall clock is off from `clock`.
    pub skew: Skew,
    /// How long pages take to be answered: one call after the other, and from the beginning again. Empty: not at all.
    pub delays: Arc<[Duration]>,
    /// Say in each page's message which call made it: `Contacts retrieved successfully (call 17)`, as [`Seen::call`]
    /// counts.
    pub numbered: bool,
}

/// How far one clock is off from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skew {
    /// Not at all.
    #[default]
    None,
    /// It shows a later time.
    Ahead(Duration),
    /// It shows an earlier time.
    Behind(Duration),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            apps: Vec::new(),
            limit: Limit::default(),
            largest_limit: NonZeroU64::MIN.saturating_add(49),
            leeway: Duration::ZERO,
            clock: Clock::system(),
            skew: Skew::None,
            delays: Arc::default(),
            numbered: false,
        }
    }
}

impl Settings {
    /// The default with one fresh app, and that app's credentials, to be printed for the person who tries it out.
    ///
    /// # Errors
    /// The system has no random bytes to give.
    pub fn demo() -> io::Result<(Self, Credentials)> {
        let credentials = Credentials::fresh()?;
        let app = App::hs256(
            credentials.stream.clone(),
            &credentials.client_id,
            credentials.secret.as_bytes(),
        );
        let settings = Self {
            apps: vec![app],
            ..Self::default()
        };
        Ok((settings, credentials))
    }

    /// The date as the vendor sees it.
    fn wall(&self) -> SystemTime {
        let wall = self.clock.wall();
        match self.skew {
            Skew::None => wall,
            Skew::Ahead(by) => wall.checked_add(by).unwrap_or(wall),
            Skew::Behind(by) => wall.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

/// A stand-in vendor at work. It stops when this is dropped.
pub struct Vendor {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Vendor {
    /// Binds and serves. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let socket = if settings.address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(settings.address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let tls = settings.tls.clone().map(offering_both);
        let vendor = Self {
            address,
            scheme: if tls.is_some() { "https" } else { "http" },
            state: Arc::new(State::new(settings)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let spawner = wire::Spawner {
            state: vendor.state.clone(),
            stop: vendor.stop.clone(),
            tasks: vendor.tasks.clone(),
        };
        vendor
            .tasks
            .spawn(accept(listener, tls.map(TlsAcceptor::from), spawner));
        Ok(vendor)
    }

    /// Scheme, host and port, for example `http://127.0.0.1:41234`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls to the contact paths that reached it, refused ones included.
    pub fn calls(&self) -> u64 {
        self.state.book().stats.calls
    }

    /// From now on accepts the tokens of these apps, and of no others.
    pub fn accept(&self, apps: Vec<App>) {
        *self.state.apps() = apps;
    }

    /// From now on misbehave like this; `Behaviour::default()` is to behave.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.book().behaviour = behaviour;
    }

    /// Counts calls of an account that somebody else made: they use the window up as its own would. Tells how many of
    /// them were over the limit.
    pub fn spend_elsewhere(&self, account: &AccountId, calls: u32) -> u32 {
        let now = self.state.settings.clock.now();
        let limit = &self.state.settings.limit;
        let mut book = self.state.book();
        let admitted = (0..calls).filter(|_| book.windows.admit(limit, account.as_str(), now));
        calls - admitted.count() as u32
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// The latest requests to the contact paths, oldest first; the 4096 latest are kept.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.book().requests.iter().cloned().collect()
    }

    /// Connections open right now.
    pub fn open_connections(&self) -> u64 {
        self.stats().open_connections
    }

    /// Behave again, and forget all calls, windows, requests and token ids. Open connections stay.
    pub fn reset(&self) {
        self.state.reset();
    }

    /// Closes the port and every connection, and waits until all of it is gone.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vendor")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, spawner: wire::Spawner) {
    let stop = spawner.stop.clone();
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => spawner.connection(stream, tls.clone()),
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

fn offering_both(mut config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    config
}

const BACKLOG: u32 = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
