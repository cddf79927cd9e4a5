//! What a behaviour makes of an answer, on its way out.

use std::fmt::Write as _;
use std::future::pending;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http::{Response, StatusCode};

use super::answer::{Broken, Plain};
use super::pour::{End, Gone, Pour};
use super::wire::Link;
use super::{Behaviour, Cut, Stall};

/// Who is answered.
#[derive(Clone, Copy)]
pub(super) struct To {
    /// Whether the request is `HEAD`.
    pub(super) head: bool,
    /// Whether it came by HTTP/1.
    pub(super) http1: bool,
}

/// Sends an answer, as well as the behaviour lets it.
pub(super) async fn send(
    mut plain: Plain,
    behaviour: Behaviour,
    link: &Link,
    to: To,
) -> Result<Response<Pour>, Broken> {
    if !behaviour.delay.is_zero() {
        tokio::time::sleep(behaviour.delay).await;
    }
    if behaviour.stall == Some(Stall::BeforeHead) {
        pending::<()>().await;
    }
    if behaviour.cut == Some(Cut::BeforeHead) {
        return Err(hang_up(link));
    }
    change(&mut plain, &behaviour)?;

    let mut aside = Vec::new();
    if to.http1 {
        for status in &behaviour.informational {
            aside.extend_from_slice(informational(*status).as_bytes());
        }
    }
    let in_place = match &behaviour.garbage {
        Some(garbage) => Some(garbage.clone().into_bytes()),
        // By hand, because hyper sends no trailers to a client that did not ask for them.
        None if to.http1 && !to.head && !behaviour.trailers.is_empty() => {
            Some(with_trailers(&plain, &behaviour))
        }
        None => None,
    };
    if let Some(bytes) = in_place {
        aside.extend_from_slice(&bytes);
        link.say(aside.into(), true);
        return Ok(Response::new(Pour::whole(Bytes::from_static(
            b"never written",
        ))));
    }
    if !aside.is_empty() {
        link.say(aside.into(), false);
    }
    Ok(response(plain, behaviour, to))
}

/// Closes a connection without another byte: both HTTP versions do, whatever hyper has still to write.
pub(super) fn hang_up(link: &Link) -> Broken {
    link.say(Bytes::new(), true);
    Gone.into()
}

/// Status, body and fields.
fn change(plain: &mut Plain, behaviour: &Behaviour) -> Result<(), Broken> {
    if let Some(status) = behaviour.status {
        // A refusal keeps its text under any status.
        if !status.is_success() && behaviour.refuse.is_none() {
            plain.body = Plain::error(status, "The stand-in was told to answer so")?.body;
        }
        plain.status = status;
    }
    if let Some(hollow) = behaviour.hollow {
        plain.body = hollow.body().into();
    }
    if let Some(body) = &behaviour.body {
        plain.body = body.clone().into();
    }
    if behaviour.gzip {
        let gzip = HeaderValue::from_static("gzip");
        plain.headers.insert(CONTENT_ENCODING, gzip);
    }
    // The first of a name replaces what was there.
    plain.headers.extend(behaviour.headers.clone());
    Ok(())
}

fn response(plain: Plain, behaviour: Behaviour, to: To) -> Response<Pour> {
    let Plain {
        status,
        mut headers,
        body,
    } = plain;
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if to.head || bodiless {
        if to.head && !bodiless && !behaviour.chunked {
            headers
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from(body.len()));
        }
        Pour::whole(Bytes::new())
    } else {
        pour(body.into(), behaviour, headers.contains_key(CONTENT_LENGTH))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn pour(body: Bytes, behaviour: Behaviour, length_is_a_lie: bool) -> Pour {
    let (all, half) = (body.len(), body.len() / 2);
    let mut pour = Pour::whole(body);
    if behaviour.chunked || length_is_a_lie || !behaviour.trailers.is_empty() {
        pour = pour.undeclared();
    }
    if let Some(drip) = behaviour.drip {
        pour = pour.dripping(drip);
    }
    match (behaviour.stall, behaviour.cut) {
        (Some(Stall::AfterHead), _) => pour.ending(0, End::Stall),
        (_, Some(Cut::InBody)) => pour.ending(half, End::Cut),
        (_, Some(Cut::InChunks)) => pour.undeclared().ending(half, End::Cut),
        _ if !behaviour.trailers.is_empty() => pour.ending(all, End::Trailers(behaviour.trailers)),
        _ => pour,
    }
}

fn informational(status: u16) -> String {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Informational");
    format!("HTTP/1.1 {status} {reason}\r\nx-stand-in: informational\r\n\r\n")
}

/// A whole HTTP/1.1 answer in one chunk with trailers, closing its connection.
fn with_trailers(plain: &Plain, behaviour: &Behaviour) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", plain.status);
    // Writing to a String cannot fail.
    for (name, value) in &plain.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = write!(head, "{name}: {value}\r\n");
    }
    for name in behaviour.trailers.keys() {
        let _ = write!(head, "trailer: {name}\r\n");
    }
    head.push_str("transfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    if !plain.body.is_empty() {
        let _ = write!(head, "{:x}\r\n", plain.body.len());
    }
    let mut answer = head.into_bytes();
    if !plain.body.is_empty() {
        answer.extend_from_slice(&plain.body);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n");
    for (name, value) in &behaviour.trailers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer
}
