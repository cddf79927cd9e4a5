//! What is let in is what the vendor may be asked, and nothing else.
//!
//! The bytes are a method and a target, fields, and perhaps a body.

use bytes::Bytes;
use contacts_gateway::cache::Answer;
use contacts_gateway::contacts::{Ask, ListKey, PageKey};
use contacts_gateway::error::Error;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;

use super::edge::{FORWARDED, ask};
use super::message::Message;

/// The target.
pub fn fuzz(bytes: &[u8]) {
    let message = Message::read(bytes);
    let mut words = message.first.splitn(2, |b| *b == b' ');
    let method = Method::from_bytes(words.next().unwrap_or_default());
    let target = words.next().unwrap_or_default();
    let target = Uri::try_from(target);
    let (Ok(method), Ok(target)) = (method, target) else {
        return;
    };
    let body = Bytes::copy_from_slice(message.rest);
    let asked = asked(method.clone(), target, message.fields, body);
    match asked {
        Ok(Ask::Read(read)) => {
            assert!(matches!(method, Method::GET | Method::HEAD), "{method}");
            assert!(message.rest.is_empty(), "a body is let in");
            is_path_safe(&read.key.list);
            let foreign = |(name, _): &(http::HeaderName, _)| !FORWARDED.contains(&name.as_str());
            assert!(!read.forwarded.iter().any(foreign));
            is_read_back(&read.key);
        }
        Ok(Ask::Purge(list)) => {
            assert_eq!((method.as_str(), message.rest.len()), ("PURGE", 0));
            is_path_safe(&list);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 300, "{text}");
            assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text:?}");
        }
    }
}

fn asked(method: Method, target: Uri, fields: HeaderMap, body: Bytes) -> Result<Ask, Error> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = fields;
    let (ask, answer) = ask(request, |_| Answer::Forgotten(0));
    answer.map(|_| ask.expect("there is an answer, so there was an ask"))
}

fn is_path_safe(list: &ListKey) {
    let ids = [list.stream(), list.list(), list.account()];
    for id in ids {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'_' || b == b'-';
        assert!(id.bytes().all(safe), "{id:?}");
        assert!(!matches!(id, "" | "." | "..") && id.len() <= 128, "{id:?}");
    }
}

/// The target for the vendor is one, and asked for here it names the same page.
fn is_read_back(key: &PageKey) {
    let target = key.target();
    let graphic = |b: u8| (b'!'..=b'~').contains(&b);
    assert!(target.bytes().all(graphic), "{target:?}");
    let uri: Uri = target.parse().expect("a target");
    assert_eq!(uri.path_and_query().map(|t| t.as_str()), Some(&*target));
    let host = [(http::header::HOST, http::HeaderValue::from_static("a"))];
    match asked(Method::GET, uri, host.into_iter().collect(), Bytes::new()) {
        Ok(Ask::Read(again)) => assert_eq!(again.key, *key, "{target}"),
        other => panic!("{target}: {other:?}"),
    }
}
