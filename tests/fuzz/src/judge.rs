//! Whatever the vendor answers, what is passed on of it is what may be.
//!
//! The bytes are a status, fields and a body.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use contacts_gateway::clock::Clock;
use contacts_gateway::contacts::{Page, SharedPage};
use contacts_gateway::error::Error;
use contacts_gateway::upstream::judge::{Arrival, judged};
use futures_util::FutureExt;
use http::{HeaderName, StatusCode};
use serde_json::value::RawValue;

use super::message::Message;

/// The target.
pub fn fuzz(bytes: &[u8]) {
    let message = Message::read(bytes);
    let (status, body) = (message.status(), message.rest);
    for any_body in [false, true] {
        let Some(judged) = judge(&message, None, any_body) else {
            return;
        };
        let page = match judged {
            Ok(page) => page,
            Err(error) => {
                // The texts are ours, so that nothing of a person's is in them.
                assert!(error.to_string().is_ascii());
                continue;
            }
        };
        assert_eq!((page.status, &page.body[..]), (status, body));
        assert_ne!(status, StatusCode::TOO_MANY_REQUESTS);
        if !any_body {
            is_what_the_vendor_promises(&page);
        }
        for name in ["connection", "keep-alive", "transfer-encoding", "age"] {
            assert!(!has(&page, name), "{name} is passed on");
        }
        let known = SharedPage::from(page);
        still_holds(&message, known, any_body);
    }
}

/// A success that is one, or a no to the request itself. No refusal, and no cookies.
fn is_what_the_vendor_promises(page: &Page) {
    let text = String::from_utf8_lossy(&page.body).to_ascii_lowercase();
    let text = if page.status == StatusCode::OK {
        let body: HashMap<String, &RawValue> = serde_json::from_slice(&page.body).expect("JSON");
        let string = |name| serde_json::from_str::<String>(body.get(name)?.get()).ok();
        assert_eq!(string("status").as_deref(), Some("success"), "{body:?}");
        string("message").unwrap_or_default().to_ascii_lowercase()
    } else {
        assert!(page.status.is_client_error(), "{}", page.status);
        assert!(!matches!(page.status.as_u16(), 401 | 403 | 429));
        text
    };
    for refusal in [
        "exceeded the per-minute rate limit",
        "exceeded the hourly rate limit",
        "rate limit for this api has been reached",
    ] {
        let found = text.find(refusal);
        assert!(found.is_none_or(|at| at + refusal.len() > 16 * 1024));
    }
    assert!(!has(page, "set-cookie"));
}

fn has(page: &Page, name: &'static str) -> bool {
    page.fields.contains_key(HeaderName::from_static(name))
}

/// A 304 with the same fields says of a page that it holds, if the page has anything to know it by.
fn still_holds(message: &Message<'_>, known: SharedPage, any_body: bool) {
    let unchanged = Message {
        first: b"304",
        fields: message.fields.clone(),
        rest: b"",
    };
    let verifiable = matches!(known.validators(), (Some(_), _) | (_, Some(_)));
    match judge(&unchanged, Some(known.clone()), any_body) {
        Some(Ok(page)) => {
            assert!(verifiable && page.revalidated);
            assert_eq!((page.status, &page.body), (known.status, &known.body));
            let lost = |(name, _): (&HeaderName, _)| !page.fields.contains_key(name.clone());
            assert!(!known.fields.iter().any(lost), "{:?}", page.fields);
        }
        Some(Err(Error::UpstreamGarbled(_))) => assert!(!verifiable),
        other => panic!("{other:?}"),
    }
}

/// Nothing for a body that would be read beside a runtime, where there is none.
pub(crate) fn judge(
    message: &Message<'_>,
    known: Option<SharedPage>,
    any_body: bool,
) -> Option<Result<Page, Error>> {
    let at = Arrival {
        received_at: Clock::system().now(),
        // The start of 2024.
        date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200),
        took: Duration::ZERO,
    };
    const LARGE: usize = 256 * 1024;
    if message.rest.len() >= LARGE {
        return None;
    }
    judged(message.answer(), known, any_body, at).now_or_never()
}
