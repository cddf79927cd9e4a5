//! From here inwards a request is an ask and no longer HTTP: every rule for requests is kept here, or broken here.
//!
//! What it refuses: hosts that are not ours, paths and methods that are not the vendor's, bodies, ids that are none,
//! an account that is missing or contradicts itself, parameters that nobody allowed, fields that are too long to be sent
//! on, what the caller has no right to,
//! streams without credentials. What it lets through is complete: nothing below looks at the request again.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, Method, Request, Response, Version};
use tower::{Layer, Service, layer};

use super::failure::{About, Failure};
use super::identify::Call;
use super::present::Present;
use super::respond::{Asked, Conditions};
use super::trace::Inbound;
use super::{Attempt, Body, Rung};
use crate::contacts::control::Directives;
use crate::contacts::{Ask, Forwarded, ListKey, PageKey, Reach, Read, StreamId, cut};
use crate::error::Error;
use crate::setting::{ForwardedHeader, Host};
use crate::soon::Soon;
use crate::{edge, upstream};

/// The rung.
pub fn layer<S>(
    edge: &edge::Settings,
    upstream: &upstream::Settings,
    streams: Reach<StreamId>,
) -> impl Layer<S, Service = Route<S>> + Clone {
    let rules = Arc::new(Rules {
        streams,
        hosts: edge.allowed_hosts.clone(),
        forward_headers: upstream.forward_headers.clone(),
        extra_query: upstream.extra_query.clone(),
    });
    layer::layer_fn(move |inner| Route {
        rules: rules.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Route<S> {
    rules: Arc<Rules>,
    inner: S,
}

/// What the settings allow.
#[derive(Debug)]
struct Rules {
    streams: Reach<StreamId>,
    hosts: Vec<Host>,
    forward_headers: Vec<ForwardedHeader>,
    extra_query: Vec<crate::setting::ExtraParameter>,
}

impl<'a, S, B> Service<Call<'a, B>> for Route<S>
where
    S: Rung<Asked, Failure>,
    B: http_body::Body,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Soon<Attempt>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<'a, B>) -> Self::Future {
        match self.rules.asked(&call) {
            Ok(asked) => {
                let list = asked.ask.list().clone();
                match self.inner.call(asked) {
                    hit @ Soon::Now(Ok(_)) => hit,
                    other => {
                        let about = About::of(call.caller, Some(list));
                        other.then(|answer| about.go_with(answer))
                    }
                }
            }
            Err(refusal) => Soon::Now(Err(About::of(call.caller, None).failed(refusal))),
        }
    }
}

impl Rules {
    fn asked<B: http_body::Body>(&self, call: &Call<'_, B>) -> Result<Asked, Error> {
        let Call { caller, inbound } = *call;
        let Inbound {
            named,
            at,
            present,
            request,
        } = inbound;
        let headers = request.headers();
        self.host(request, present)?;
        let split = named.split.ok_or(Error::NotFound)?;
        let (stream, list) = split.ids(request.uri().path());
        let purge = match *request.method() {
            Method::GET | Method::HEAD => false,
            ref method if method.as_str() == "PURGE" => true,
            _ => return Err(Error::MethodNotAllowed),
        };
        if !request.body().is_end_stream() {
            return Err(Error::UnexpectedBody);
        }
        let query = self.query(request.uri().query().unwrap_or_default())?;
        let list = ListKey::new(stream, list, account(query.account, headers, present)?)?;
        if present.iid && headers.get_all("iid").iter().any(|iid| iid != stream) {
            return Err(Error::BadRequest(
                "the header iid differs from the stream in the path: send the same, or none".into(),
            ));
        }
        // Both before memory is looked at: what is there of others is not for this caller, and what is there of a
        // stream ends with its credentials.
        caller.may(&list, purge)?;
        if !self.streams.covers(list.stream()) {
            return Err(Error::StreamUnknown);
        }
        if purge {
            return Ok(Asked {
                ask: Ask::Purge(list),
                conditions: Conditions::default(),
            });
        }
        let directives = match present.control {
            true => Directives::of(headers),
            false => Directives::default(),
        };
        let read = Read {
            caller: caller.identity.clone(),
            at: *at,
            key: PageKey {
                list,
                api: split.api,
                skip: query.skip,
                limit: query.limit,
                extra: query.extra,
            },
            forwarded: self.forwarded(headers)?,
            directives: match caller.identity.may_refresh {
                true => directives,
                false => directives.sparing(),
            },
            // The one that the gateway knows its callers by ends here, and no answer can depend on it.
            authorized: !caller.by_token && present.authorization,
        };
        Ok(Asked {
            ask: Ask::Read(read),
            conditions: match present.condition {
                true => Conditions::of(headers),
                false => Conditions::default(),
            },
        })
    }

    /// RFC 9112 section 3.2: HTTP/1.1 names its host, once. Both where both are sent: RFC 9112 section 3.2.2 lets the target's authority win, but a request that names two
    /// hosts should pass for neither.
    fn host<B>(&self, request: &Request<B>, present: &Present) -> Result<(), Error> {
        if !self.hosts.is_empty() {
            let target = request.uri().authority().map(|a| a.as_str().as_bytes());
            let fields = request.headers().get_all(HOST).iter();
            let named = target.into_iter().chain(fields.map(|host| host.as_bytes()));
            let mut named = named.peekable();
            if named.peek().is_none() || !named.all(|host| self.allows(host)) {
                return Err(Error::Misdirected);
            }
        }
        if request.version() == Version::HTTP_11 && present.hosts != 1 {
            return Err(Error::BadRequest(
                "HTTP/1.1 asks for one Host field: send it, and send it once".into(),
            ));
        }
        Ok(())
    }

    fn allows(&self, host: &[u8]) -> bool {
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        // What follows the last colon is a port only if it is a number: an IPv6 address has colons of its own, and
        // `name:x@elsewhere` is somebody else's.
        let without_port = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host.as_str(), |(name, _)| name);
        let mut allowed = self.hosts.iter().map(Host::as_str);
        allowed.any(|allowed| allowed == host || allowed == without_port)
    }

    fn query<'a>(&self, query: &'a str) -> Result<Query<'a>, Error> {
        let mut found = Query::default();
        // Whether skip and limit were given.
        let (mut skip, mut limit) = (false, false);
        let mut extra: Vec<&str> = Vec::new();
        let mut rest = query;
        while !rest.is_empty() {
            let parameter;
            (parameter, rest) = cut(rest, b'&').unwrap_or((rest, ""));
            if parameter.is_empty() {
                continue;
            }
            let (name, value) = cut(parameter, b'=').unwrap_or((parameter, ""));
            let again = match name {
                "accountId" => found.account.is_some(),
                "skip" => std::mem::replace(&mut skip, true),
                "limit" => std::mem::replace(&mut limit, true),
                _ => extra.iter().any(|other| name_of(other) == name),
            };
            if again {
                return Err(bad_parameter(name, "is given twice: give it once"));
            }
            match name {
                "accountId" => found.account = Some(value),
                "skip" => found.skip = number(name, value)?,
                "limit" => {
                    let limit = NonZeroU64::new(number(name, value)?);
                    found.limit =
                        Some(limit.ok_or_else(|| bad_parameter(name, "must be at least 1"))?);
                }
                _ if !self
                    .extra_query
                    .iter()
                    .any(|allowed| allowed.name() == name) =>
                {
                    return Err(bad_parameter(
                        name,
                        "is not known here: leave it out, or have it listed in upstream.extra_query",
                    ));
                }
                // RFC 3986 section 2: a target is ASCII, and so must be the vendor's.
                _ if !parameter.is_ascii() => {
                    return Err(bad_parameter(name, "is not ASCII: percent-encode it"));
                }
                _ if parameter.len() > 512 => {
                    return Err(bad_parameter(name, "is longer than 512 bytes"));
                }
                _ => extra.push(parameter),
            }
        }
        if !extra.is_empty() {
            extra.sort_unstable();
            found.extra = Some(extra.join("&").into());
        }
        Ok(found)
    }

    fn forwarded(&self, headers: &HeaderMap) -> Result<Forwarded, Error> {
        self.forward_headers
            .iter()
            .map(ForwardedHeader::name)
            .flat_map(|name| {
                let mut room = longest(name);
                let values = headers.get_all(name).iter();
                values.map(move |value| {
                    room = room
                        .checked_sub(value.len())
                        .ok_or_else(|| too_long(name))?;
                    Ok((name.clone(), value.clone()))
                })
            })
            .collect()
    }
}

/// How many bytes a field may have that is sent on, in all its lines. It is a part of what names the page: for as long as
/// somebody wants that it stays in memory, and every look-up of a page that varies compares it.
fn longest(name: &HeaderName) -> usize {
    // Of what is sent on credentials alone are longer in earnest.
    if *name == AUTHORIZATION { 8192 } else { 1024 }
}

fn too_long(name: &HeaderName) -> Error {
    let most = longest(name);
    Error::BadRequest(
        format!("the header {name} is longer than {most} bytes: send less, or leave it out").into(),
    )
}

fn name_of(parameter: &str) -> &str {
    cut(parameter, b'=').map_or(parameter, |(name, _)| name)
}

/// What the query says.
#[derive(Default)]
struct Query<'a> {
    account: Option<&'a str>,
    skip: u64,
    limit: Option<NonZeroU64>,
    extra: Option<Arc<str>>,
}

/// The account, which may stand in the query, in the header, or in both if they agree.
fn account<'a>(
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    present: &Present,
) -> Result<&'a str, Error> {
    let mut account = query;
    let named = present.account.then(|| headers.get_all("accountid").iter());
    for value in named.into_iter().flatten() {
        // What is not ASCII is no id either.
        let named = value.to_str().unwrap_or_default();
        if *account.get_or_insert(named) != named {
            return Err(Error::BadRequest(
                "accountId is given with different values: query and header must agree".into(),
            ));
        }
    }
    account.ok_or(Error::BadRequest(
        "accountId is missing: give it in the query or as a header".into(),
    ))
}

/// A decimal integer. Leading zeros say nothing.
fn number(name: &str, text: &str) -> Result<u64, Error> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| bad_parameter(name, "must be a decimal integer below 2^64"))
}

/// The name is the caller's text: shown short, and without anything a terminal would obey.
fn bad_parameter(name: &str, what: &str) -> Error {
    let mut shown: String = name.chars().take(64).collect();
    shown.retain(|c| c.is_ascii_graphic());
    Error::BadRequest(format!("the query parameter {shown} {what}").into())
}
