//! The pooled connections to the vendor: HTTP/1.1 and HTTP/2, TLS by rustls, and what their errors mean.
//!
//! Nothing is repeated here. Where a kept-alive connection had died before a byte of the answer came, or the vendor
//! refused to begin on the request over this one, the error says so ([`Error::ConnectionLost`]) and whoever counts calls
//! may make another, on a connection dialled for it.

mod dial;
mod pool;

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::Reason;
use http::header::HOST;
use http::uri::{self, PathAndQuery};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

use self::dial::{Dial, TookTooLong, Wire};
use self::pool::{NoLine, Pool};
use super::Settings;
use crate::clock::Clock;
use crate::error::Error;
use crate::setting::Origin;

/// The largest head of an answer: what hyper takes by HTTP/1.
const LARGEST_HEAD: u32 = 408 * 1024;

/// A request as it goes out. Its URI is its path and query: the rest of it is the client's.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub request: Request<Empty<Bytes>>,
    /// Whether it wants a connection of its own, because the pool's last one was dead.
    pub anew: bool,
}

/// What came of a [`Call`].
#[derive(Debug)]
pub struct Answered {
    /// The answer, of which the body is yet to be read.
    pub response: Response<Incoming>,
    /// When the request went, over a connection that was there.
    pub went: Instant,
}

/// The connections to the vendor. Clones share them.
#[derive(Clone, Debug)]
pub struct Client(Arc<Connections>);

#[derive(Debug)]
struct Connections {
    pool: Arc<Pool>,
    /// For HTTP/1.
    host: HeaderValue,
    /// For HTTP/2.
    origin: Uri,
    made_of: MadeOf,
}

/// All that connections depend on.
#[derive(Debug, PartialEq, Eq)]
struct MadeOf {
    origin: Origin,
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
            origin: settings.url.clone(),
            roots: roots.roots.clone(),
            connect_timeout: settings.connect_timeout,
            timeout: settings.timeout,
        };
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(tls(roots)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        // A call that times out takes its HTTP/1 connection with it. By HTTP/2 the next ones would go the same dead way
        // for as long as the system goes on sending; so a connection that is silent while calls wait is asked for a
        // sign of life, and given up if none comes, in time for the call to go by another.
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(settings.timeout / 4)
            .keep_alive_timeout(settings.timeout / 4)
            .max_header_list_size(LARGEST_HEAD);
        let origin = uri(&settings.url);
        let dial = Dial::new(tls, origin.clone(), settings.connect_timeout);
        Ok(Self(Arc::new(Connections {
            pool: Arc::new(Pool::new(dial, http2)),
            // An authority is of an alphabet that fields may hold.
            host: HeaderValue::from_str(settings.url.host_field())
                .map_err(|error| format!("upstream.url: {error}"))?,
            origin,
            made_of,
        })))
    }

    /// The service that sends requests over them.
    pub fn service(&self, clock: Clock) -> Sending {
        Sending {
            client: self.clone(),
            clock,
        }
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

/// Sends requests to the vendor.
#[derive(Clone, Debug)]
pub struct Sending {
    client: Client,
    clock: Clock,
}

impl Service<Call> for Sending {
    type Response = Answered;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Answered, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { client, clock } = self.clone();
        Box::pin(async move {
            let Call { mut request, anew } = call;
            let Connections { pool, .. } = &*client.0;
            let line = pool.line(anew).await.map_err(|none| meaning_of(&none))?;
            client.0.complete(&mut request, line.wire.multiplexed);
            let went = clock.now();
            match pool.send(line, request).await {
                Ok(response) => Ok(Answered { response, went }),
                Err((error, wire)) => Err(meaning(&error, &wire)),
            }
        })
    }
}

impl Connections {
    /// Adds to a request what its version of HTTP says of the origin.
    fn complete(&self, request: &mut Request<Empty<Bytes>>, by_http2: bool) {
        if !by_http2 {
            request.headers_mut().insert(HOST, self.host.clone());
            return;
        }
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        // It has all three parts.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// The origin, with a path for want of none.
fn uri(origin: &Origin) -> Uri {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(origin.scheme().clone());
    parts.authority = Some(origin.authority().clone());
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
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

/// What it is to a caller that there is no connection.
fn meaning_of(none: &NoLine) -> Error {
    let error: &(dyn StdError + 'static) = match none {
        NoLine::Unreachable(error) => &**error,
        NoLine::Ended(error, wire) => return meaning(error, wire),
    };
    let mut io = causes(error).filter_map(|e| e.downcast_ref::<io::Error>());
    let timed_out = io.clone().any(|e| e.kind() == io::ErrorKind::TimedOut);
    if cause::<rustls::Error>(error).is_some() {
        Error::UpstreamFailed("the TLS handshake failed".into())
    } else if timed_out || cause::<TookTooLong>(error).is_some() {
        Error::UpstreamTimedOut
    } else if io.any(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        Error::UpstreamFailed("it refused the connection".into())
    } else {
        Error::UpstreamFailed("it could not be reached, or its name not resolved".into())
    }
}

/// What it is to a caller that a request had no answer.
fn meaning(error: &hyper::Error, wire: &Wire) -> Error {
    if error.is_parse() || error.is_parse_too_large() {
        return Error::UpstreamGarbled("it is not HTTP".into());
    }
    let h2 = cause::<h2::Error>(error);
    // It is we who end the request then, or all of the connection.
    if h2.is_some_and(h2::Error::is_library) {
        return Error::UpstreamGarbled("it is not HTTP, or its head is too large".into());
    }
    let reset = h2.filter(|e| e.is_reset() && e.is_remote());
    // RFC 9113 section 8.7: nothing has been done for it.
    if reset.and_then(h2::Error::reason) == Some(Reason::REFUSED_STREAM) {
        Error::ConnectionLost
    } else if reset.is_some() {
        // The connection lives, and the vendor may have begun on the request.
        Error::UpstreamFailed("it reset the request".into())
    } else if wire.heard() {
        Error::UpstreamGarbled("it was cut off".into())
    } else if wire.was_kept_alive() {
        Error::ConnectionLost
    } else if error.is_timeout() {
        Error::UpstreamTimedOut
    } else {
        Error::UpstreamFailed("it closed the connection without an answer".into())
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
