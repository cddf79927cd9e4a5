//! One request, one answer: first what the documentation says, then what the behaviour makes of it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::header::{ALLOW, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, SERVER};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;

use super::book::{Book, State};
use super::pour::Pour;
use super::wire::Link;
use super::{Behaviour, Cut, lists, misbehave};
use crate::contacts::Split;

/// Why hyper is to close a connection instead.
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// An answer before anything is done to it.
pub(super) struct Plain {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Answers a request.
pub(super) async fn answer(
    state: Arc<State>,
    link: Arc<Link>,
    request: Request<Incoming>,
) -> Result<Response<Pour>, Broken> {
    let to = misbehave::To {
        head: request.method() == Method::HEAD,
        http1: request.version() < Version::HTTP_2,
    };
    let (mut plain, behaviour) = if request.uri().path().starts_with("/_stand-in/") {
        (control(&state, request).await?, Behaviour::default())
    } else {
        contacts(&state, &link, &request)?
    };
    let date = httpdate::fmt_http_date(state.settings.wall());
    plain
        .headers
        .insert(SERVER, HeaderValue::from_static(super::SERVER));
    plain.headers.insert(DATE, HeaderValue::try_from(date)?);
    misbehave::send(plain, behaviour, &link, to).await
}

/// The vendor's own two paths.
fn contacts(
    state: &State,
    link: &Link,
    request: &Request<Incoming>,
) -> Result<(Plain, Behaviour), Broken> {
    let path = request.uri().path();
    let Some((stream, list)) = Split::of(path).map(|split| split.ids(path)) else {
        let refusal = Refusal(StatusCode::NOT_FOUND, "There is no such path");
        return Ok((refusal.plain()?, Behaviour::default()));
    };
    let mut book = state.book();
    let call = book.record(request, state.settings.clock.now());
    let reused = link.reused();
    if book.behaviour.cut == Some(Cut::WhenReused) && reused && book.behaviour.take(list).is_some()
    {
        book.stats.dropped += 1;
        return Err(misbehave::hang_up(link));
    }
    book.stats.calls += 1;
    let query = Query::of(request.uri().query());
    if let Ok(account) = query.account {
        *book.stats.accounts.entry(account.to_owned()).or_default() += 1;
    }
    let asked = match checked(state, &mut book, request, stream, &query) {
        Ok(asked) => asked,
        Err(refusal) => {
            book.stats.refused += 1;
            return Ok((refusal.plain()?, Behaviour::default()));
        }
    };
    let (mut behaviour, refusal) = admitted(state, &mut book, list, asked.account);
    if let Some(refusal) = refusal {
        book.stats.refused += 1;
        book.stats.over_limit += 1;
        book.refuse_latest();
        return Ok((refusal.plain()?, behaviour));
    }
    let delays = &state.settings.delays;
    if !delays.is_empty() {
        behaviour.delay += delays[book.stats.answered as usize % delays.len()];
    }
    book.stats.answered += 1;
    // A large page takes its time to make: others need the book meanwhile.
    drop(book);
    let plain = match lists::page(list, asked.skip, asked.limit) {
        Some(mut page) => {
            if state.settings.numbered {
                page.message += &format!(" (call {call})");
            }
            Plain::page(page, behaviour.pad_to)?
        }
        None => Refusal(StatusCode::NOT_FOUND, "Contact list not found").plain()?,
    };
    Ok((plain, behaviour))
}

/// A refusal, in the vendor's words or the like of them.
struct Refusal(StatusCode, &'static str);

/// What a call that passed the checks is for.
struct Asked<'a> {
    account: &'a str,
    skip: u64,
    limit: NonZeroU64,
}

/// The documentation's demands, apart from the limit: parts that are there and agree, and a good token.
fn checked<'a>(
    state: &State,
    book: &mut Book,
    request: &Request<Incoming>,
    stream: &str,
    query: &Query<'a>,
) -> Result<Asked<'a>, Refusal> {
    let bad = |message| Refusal(StatusCode::BAD_REQUEST, message);
    let unauthorized = |message| Refusal(StatusCode::UNAUTHORIZED, message);
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "Use GET"));
    }
    let account = query.account.map_err(bad)?;
    let headers = request.headers();
    if only(headers, "iid").map_err(|()| bad("Header iid is missing"))? != stream {
        return Err(bad("Header iid is not the path's streamId"));
    }
    if only(headers, "accountid").map_err(|()| bad("Header accountId is missing"))? != account {
        return Err(bad("Header accountId is not the query's accountId"));
    }
    let settings = &state.settings;
    let limit = query.limit.map_err(bad)?.unwrap_or(settings.largest_limit);
    let skip = query.skip.map_err(bad)?;

    let token = only(headers, "auth").map_err(|()| unauthorized("Header auth is missing"))?;
    let now = settings
        .wall()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let mut once = Err("There is no such app");
    for app in state.apps().iter() {
        if app.stream.as_str() == stream && once.is_err() {
            once = app.check(token, now, settings.leeway.as_secs_f64());
        }
    }
    let once = once.map_err(unauthorized)?;
    if once.is_some_and(|once| !book.first_use(once, now)) {
        return Err(unauthorized("jti of the JWT token has been used before"));
    }
    Ok(Asked {
        account,
        skip,
        limit: limit.min(settings.largest_limit),
    })
}

/// Counts the call in its account's window, or refuses it; and what to do to its answer.
fn admitted(
    state: &State,
    book: &mut Book,
    list: &str,
    account: &str,
) -> (Behaviour, Option<Refusal>) {
    let limit = &state.settings.limit;
    if let Some(message) = book.behaviour.refuse
        && let Some(behaviour) = book.behaviour.take(list)
    {
        let status = behaviour.status.unwrap_or(limit.status);
        return (behaviour, Some(Refusal(status, message.text())));
    }
    if !book
        .windows
        .admit(limit, account, state.settings.clock.now())
    {
        let refusal = Refusal(limit.status, limit.message.text());
        return (Behaviour::default(), Some(refusal));
    }
    let aside = book.behaviour.refuse.is_some() || book.behaviour.cut == Some(Cut::WhenReused);
    let behaviour = if aside {
        None
    } else {
        book.behaviour.take(list)
    };
    (behaviour.unwrap_or_default(), None)
}

/// The query's documented parameters, and the two that the answer implies. Others are passed over.
struct Query<'a> {
    account: Result<&'a str, &'static str>,
    skip: Result<u64, &'static str>,
    limit: Result<Option<NonZeroU64>, &'static str>,
}

impl<'a> Query<'a> {
    fn of(query: Option<&'a str>) -> Self {
        let value = |wanted: &str| {
            query
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value)
        };
        Self {
            account: value("accountId")
                .filter(|account| !account.is_empty())
                .ok_or("Query parameter accountId is missing"),
            skip: value("skip").map_or(Ok(0), |text| {
                text.parse()
                    .map_err(|_| "Query parameter skip is no number")
            }),
            limit: value("limit")
                .map(|text| {
                    text.parse()
                        .map_err(|_| "Query parameter limit is no number")
                })
                .transpose(),
        }
    }
}

/// The field's value, if there is one and no other.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, ()> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    match (value, values.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value),
        _ => Err(()),
    }
}

/// The paths that tell the stand-in what to do.
async fn control(state: &State, request: Request<Incoming>) -> Result<Plain, Broken> {
    let (head, body) = request.into_parts();
    let path = head
        .uri
        .path()
        .strip_prefix("/_stand-in/")
        .unwrap_or_default();
    match (head.method.as_str(), path) {
        ("GET", "behaviour") => {}
        ("PUT", "behaviour") => {
            let told = Limited::new(body, LARGEST_BEHAVIOUR).collect().await?;
            match serde_json::from_slice(&told.to_bytes()) {
                Ok(behaviour) => state.book().behaviour = behaviour,
                Err(error) => return Plain::error(StatusCode::BAD_REQUEST, &error.to_string()),
            }
        }
        ("GET", "stats") => return Plain::json(StatusCode::OK, &state.stats()),
        ("POST", "reset") => {
            state.reset();
            return Plain::json(StatusCode::OK, &state.stats());
        }
        _ => return Plain::error(StatusCode::NOT_FOUND, "The stand-in has no such path"),
    }
    let behaviour = state.book().behaviour.clone();
    Plain::json(StatusCode::OK, &behaviour)
}

impl Refusal {
    fn plain(self) -> Result<Plain, Broken> {
        let mut plain = Plain::error(self.0, self.1)?;
        if self.0 == StatusCode::METHOD_NOT_ALLOWED {
            plain
                .headers
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        Ok(plain)
    }
}

impl Plain {
    /// A page, its message lengthened until the body has `pad_to` bytes.
    fn page(mut page: lists::Answer, pad_to: Option<usize>) -> Result<Self, Broken> {
        let plain = Self::json(StatusCode::OK, &page)?;
        let missing = pad_to.unwrap_or_default().saturating_sub(plain.body.len());
        if missing == 0 {
            return Ok(plain);
        }
        page.message.extend(std::iter::repeat_n('.', missing));
        Self::json(StatusCode::OK, &page)
    }

    /// An error in the platform's shape.
    pub(super) fn error(status: StatusCode, message: &str) -> Result<Self, Broken> {
        let body = json!({"errors": [{"msg": message, "code": status.as_u16()}]});
        Self::json(status, &body)
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, Broken> {
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        Ok(Self {
            status,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
            body: serde_json::to_vec(body)?,
        })
    }
}

const LARGEST_BEHAVIOUR: usize = 32 << 20;
