//! The pooled connections to the vendor: HTTP/1.1 and HTTP/2, TLS by rustls, and what their errors mean.
//!
//! Nothing is repeated here. Where a kept-alive connection had died before a byte of the answer came, or the vendor
//! refused to begin on the request over this one, the error says so ([`Error::ConnectionLost`]) and whoever counts calls
//! may make another, on a connection dialled for it.

mod dial;

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Reason;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use self::dial::{Dial, TookTooLong, Wire};
use super::Settings;
use crate::error::Error;

/// How long an unused connection is kept. Shorter than what servers and load balancers commonly allow, so that it is
/// we who close it.
const IDLE: Duration = Duration::from_secs(50);

/// The largest head of an answer: what hyper takes by HTTP/1.
const LARGEST_HEAD: u32 = 408 * 1024;

/// A request that wants a connection of its own, because the pool's last one was dead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialAnew;

/// Sends requests to the vendor. Clones share the pool, and cost next to nothing, since each call makes several.
#[derive(Clone, Debug)]
pub struct Client(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    pooled: Pool<Dial, Empty<Bytes>>,
    unpooled: Pool<Dial, Empty<Bytes>>,
    made_of: MadeOf,
}

/// All that connections depend on.
#[derive(Debug, PartialEq, Eq)]
struct MadeOf {
    roots: Vec<TrustAnchor<'static>>,
    connect_timeout: Duration,
    timeout: Duration,
}

impl Client {
    /// A client for the vendor that the settings name. Connects when it is first used.
    ///
    /// # Errors
    /// `upstream.ca_file` cannot be read or holds no certificate; the text names the file.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let roots = roots(&settings.ca_file)?;
        let made_of = MadeOf {
            roots: roots.roots.clone(),
            connect_timeout: settings.connect_timeout,
            timeout: settings.timeout,
        };
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(tls(roots)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let dial = Dial::new(tls, settings.connect_timeout);
        let mut pool = Pool::builder(TokioExecutor::new());
        // A call that times out takes its HTTP/1 connection with it. By HTTP/2 the next ones would go the same dead way
        // for as long as the system goes on sending; so a connection that is silent while calls wait is asked for a
        // sign of life, and given up if none comes, in time for the call to go by another.
        pool.pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(settings.timeout / 4)
            .http2_keep_alive_timeout(settings.timeout / 4)
            .http2_max_header_list_size(LARGEST_HEAD)
            .retry_canceled_requests(false);
        Ok(Self(Arc::new(Pools {
            pooled: pool.build(dial.clone()),
            unpooled: pool.pool_max_idle_per_host(0).build(dial),
            made_of,
        })))
    }

    /// This one in place of another: the other, with the connections that it has, where it would make the same ones.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        match self.0.made_of == before.0.made_of {
            true => before.clone(),
            false => self,
        }
    }

    /// Adds to a digest what this one trusts.
    pub fn trusts(&self, digest: &mut digest::Context) {
        for root in &self.0.made_of.roots {
            digest.update(root.subject.as_ref());
            digest.update(root.subject_public_key_info.as_ref());
        }
    }
}

impl Service<Request<Empty<Bytes>>> for Client {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let anew = request.extensions().get::<DialAnew>().is_some();
        let Pools {
            pooled, unpooled, ..
        } = &*self.0;
        let answer = if anew { unpooled } else { pooled }.request(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => {
                    if let Some(wire) = response.extensions().get::<Arc<Wire>>() {
                        wire.answered();
                    }
                    Ok(response)
                }
                Err(error) => {
                    let wire = error.connect_info().and_then(|connected| {
                        let mut extras = http::Extensions::new();
                        connected.get_extras(&mut extras);
                        extras.remove::<Arc<Wire>>()
                    });
                    Err(meaning(&error, wire.as_deref()))
                }
            }
        })
    }
}

/// The system's roots, and those of `ca_file` beside them.
fn roots(ca_file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // A machine without roots can still reach a vendor whose authority is in ca_file, or one without TLS.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if !ca_file.as_os_str().is_empty() {
        let file = ca_file.display();
        let mut found = 0;
        let certificates = CertificateDer::pem_file_iter(ca_file)
            .map_err(|error| format!("upstream.ca_file {file}: cannot be read: {error}"))?;
        for certificate in certificates {
            certificate
                .map_err(|error| error.to_string())
                .and_then(|der| roots.add(der).map_err(|error| error.to_string()))
                .map_err(|error| format!("upstream.ca_file {file}: {error}"))?;
            found += 1;
        }
        if found == 0 {
            return Err(format!(
                "upstream.ca_file {file}: holds no certificate: it should be PEM, with BEGIN CERTIFICATE"
            ));
        }
    }
    Ok(roots)
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// What an error of the pool's is to a caller.
fn meaning(error: &legacy::Error, wire: Option<&Wire>) -> Error {
    if cause::<TookTooLong>(error).is_some() {
        return Error::UpstreamTimedOut;
    }
    if error.is_connect() {
        let mut io = causes(error).filter_map(|e| e.downcast_ref::<io::Error>());
        return if cause::<rustls::Error>(error).is_some() {
            Error::UpstreamFailed("the TLS handshake failed".into())
        } else if io.clone().any(|e| e.kind() == io::ErrorKind::TimedOut) {
            Error::UpstreamTimedOut
        } else if io.any(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            Error::UpstreamFailed("it refused the connection".into())
        } else {
            Error::UpstreamFailed("it could not be reached, or its name not resolved".into())
        };
    }
    let hyper = cause::<hyper::Error>(error);
    if hyper.is_some_and(|e| e.is_parse() || e.is_parse_too_large()) {
        return Error::UpstreamGarbled("it is not HTTP".into());
    }
    let h2 = cause::<h2::Error>(error);
    // It is we who end the request then, or all of the connection.
    if h2.is_some_and(h2::Error::is_library) {
        return Error::UpstreamGarbled("it is not HTTP, or its head is too large".into());
    }
    let reset = h2.filter(|e| e.is_reset() && e.is_remote());
    match wire {
        // RFC 9113 section 8.7: nothing has been done for it.
        _ if reset.and_then(h2::Error::reason) == Some(Reason::REFUSED_STREAM) => {
            Error::ConnectionLost
        }
        // The connection lives, and the vendor may have begun on the request.
        _ if reset.is_some() => Error::UpstreamFailed("it reset the request".into()),
        Some(wire) if wire.heard() => Error::UpstreamGarbled("it was cut off".into()),
        Some(wire) if wire.was_kept_alive() => Error::ConnectionLost,
        _ if hyper.is_some_and(hyper::Error::is_timeout) => Error::UpstreamTimedOut,
        _ => Error::UpstreamFailed("it closed the connection without an answer".into()),
    }
}

/// The first error of a type in the chain of causes.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    causes(error).find_map(|e| e.downcast_ref())
}

/// The chain of causes. An I/O error is silent about the one that it was made of, and TLS makes two of each.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> + Clone {
    std::iter::successors(Some(error), |&e| {
        match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        }
    })
}
