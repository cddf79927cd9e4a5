//! HTTP in, HTTP out, never an error out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use schemars::JsonSchema;
use serde::Deserialize;
use tower::Service;

use self::failure::Failure;
use crate::setting;
use crate::soon::Soon;

pub mod admit;
pub mod callers;
pub mod certificates;
pub mod failure;
pub mod identify;
pub mod measure;
pub mod peer;
mod present;
pub mod quota;
mod report;
pub mod rescue;
pub mod respond;
pub mod route;
mod seconds;
pub mod trace;

/// What callers get: whole bodies, never copied.
pub type Body = Full<Bytes>;

/// What a caller's request comes to.
pub type Outcome = Result<Response<Body>, Infallible>;

/// The same below [`rescue`].
pub type Attempt = Result<Response<Body>, Failure>;

/// A service that answers soon.
pub trait Rung<R, E>:
    Service<R, Response = Response<Body>, Error = E, Future = Soon<Result<Response<Body>, E>>>
{
}

impl<S, R, E> Rung<R, E> for S where
    S: Service<R, Response = Response<Body>, Error = E, Future = Soon<Result<Response<Body>, E>>>
{
}

/// `[listen]`: the callers' port, and what their requests must keep to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address and port, for example "127.0.0.1:8080".
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// What TLS needs, where the port speaks it.
    pub tls: certificates::Settings,
    /// Open connections at most; further ones wait in the system's queue.
    pub max_connections: NonZeroUsize,
    /// Requests in flight at most; further ones are refused at once.
    pub max_in_flight: NonZeroUsize,
    /// The hosts that requests may be addressed to, with or without a port; empty: any.
    pub allowed_hosts: Vec<setting::Host>,
    /// Whether HTTP/2 (by ALPN, in cleartext by prior knowledge) is spoken beside HTTP/1.1.
    pub http2: bool,
    /// How long a request's header may take, and a connection to bring its first one, TLS handshake included.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub header_timeout: Duration,
    /// How long one request may wait, all told, before it is answered with a failure.
    #[serde(with = "setting::positive_duration")]
    #[schemars(with = "setting::DurationText")]
    pub deadline: Duration,
    /// How long to keep serving, unready, before draining: "0s" as a sidecar, "5s" behind a Service.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub drain_delay: Duration,
    /// How long requests in flight may take to end once draining began.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub drain_for: Duration,
}
