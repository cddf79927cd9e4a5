//! Whatever fields an answer and a request have: what is kept, and what is done with it.
//!
//! The bytes are an answer (status, fields) and, after an empty line, a request (a line that says nothing, fields).

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use contacts_gateway::cache::policy::{Kind, Limits, Rules, Verdict, limits, verdict, withheld};
use contacts_gateway::cache::store::{Entry, Store};
use contacts_gateway::cache::{self, Answer, How, Served};
use contacts_gateway::clock::Clock;
use contacts_gateway::contacts::control::{Directives, cache_control};
use contacts_gateway::contacts::{Ask, Page, SharedPage};
use contacts_gateway::telemetry::metrics::Metrics;
use contacts_gateway::upstream::allowance::Debt;
use http::header::{CACHE_CONTROL, ETAG, HOST, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Full;

use super::edge::ask;
use super::judge::judge;
use super::message::Message;

/// The target.
pub fn fuzz(bytes: &[u8]) {
    let mut answer = Message::read(bytes);
    let request = Message::read(answer.rest);
    answer.rest = b"{\"status\":\"success\"}";
    for fields in [&answer.fields, &request.fields] {
        is_the_same_when_printed(fields);
    }
    for kind in [Kind::Vendor, Kind::Any] {
        let any_body = kind == Kind::Any;
        let Some(Ok(page)) = judge(&answer, None, any_body) else {
            continue;
        };
        let page = SharedPage::from(page);
        for authorized in [false, true] {
            let rules = default_rules(kind);
            if let Some(limits) = limits(&page, authorized, &rules) {
                are_in_order(&limits, &page);
                is_decided(&limits, &Directives::of(&request.fields));
            }
            is_kept_for_its_own_request(&page, &request.fields, authorized, &rules);
        }
        is_held_back_from_who_has_it(&page);
        // Any conditions and any 304 do no harm.
        let _ = asked_for(&page, request.fields.clone());
        let unchanged = Message {
            first: b"304",
            fields: request.fields.clone(),
            rest: b"",
        };
        let _ = judge(&unchanged, Some(page), any_body);
    }
}

/// The default settings.
fn default_rules(kind: Kind) -> Rules {
    Rules {
        settings: cache::Settings {
            max_bytes: 1 << 20,
            fresh_for: Duration::from_secs(60),
            usable_for: Duration::from_secs(3_600),
            stale_if_error: Duration::from_secs(86_400),
            negative_for: Duration::from_secs(10),
        },
        upstream: kind,
    }
}

fn is_the_same_when_printed(fields: &HeaderMap) {
    let told = |fields: &HeaderMap| {
        let lines = fields.get_all(CACHE_CONTROL);
        cache_control(lines.iter().map(HeaderValue::as_bytes)).collect::<Vec<_>>()
    };
    let directives = told(fields);
    let printed = HeaderValue::try_from(printed(&directives)).expect("a field's value");
    let mut again = fields.clone();
    if again.contains_key(CACHE_CONTROL) {
        again.insert(CACHE_CONTROL, printed);
    }
    assert_eq!(told(&again), directives, "{again:?}");
    assert_eq!(Directives::of(&again), Directives::of(fields), "{again:?}");
}

/// RFC 9110 section 5.6: names as tokens, arguments as quoted strings.
fn printed(directives: &[(String, Option<String>)]) -> Vec<u8> {
    let one = |(name, argument): &(String, Option<String>)| match argument {
        Some(text) => {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name}=\"{text}\"")
        }
        None => name.clone(),
    };
    let printed: Vec<_> = directives.iter().map(one).collect();
    printed.join(", ").into_bytes()
}

/// Each age ends after the one before it, and what forbids keeping is obeyed.
fn are_in_order(limits: &Limits, page: &Page) {
    let Limits {
        fresh,
        usable,
        if_error,
        kept,
    } = *limits;
    assert!(fresh <= usable && usable <= if_error && if_error <= kept);
    assert!(!kept.is_zero());
    let told = |name| {
        cache_control(page.fields.get_all(CACHE_CONTROL))
            .any(|(told, text)| told == name && text.is_none())
    };
    assert!(!told("private"));
    assert!(!told("no-store") || told("must-understand"));
    assert!(!told("no-cache") || fresh.is_zero() || page.status != StatusCode::OK);
    if told("must-revalidate") && page.status == StatusCode::OK {
        assert_eq!(if_error, fresh);
    }
    let _ = page.age(page.received_at);
}

/// Nothing is served that is too old, or against a caller's word.
fn is_decided(limits: &Limits, asked: &Directives) {
    let tick = Duration::from_nanos(1);
    let ages = [limits.fresh, limits.usable, limits.if_error, limits.kept];
    let around = ages.map(|age| [age.saturating_sub(tick), age, age + tick]);
    for age in around
        .into_iter()
        .flatten()
        .chain([Duration::ZERO, Duration::MAX])
    {
        let verdict = verdict(age, limits, asked);
        let served = matches!(verdict, Verdict::Serve | Verdict::ServeAndRefresh);
        let calls = matches!(verdict, Verdict::ServeAndRefresh | Verdict::Fetch);
        assert!(!(served && age >= limits.if_error.max(limits.usable)));
        assert!(!(served && asked.no_cache));
        assert!(!(served && asked.max_age.is_some_and(|most| age > most)));
        assert!(!(calls && asked.only_if_cached));
        assert!(served || verdict != Verdict::Refuse || asked.only_if_cached);
        if verdict == Verdict::ServeAndRefresh {
            assert!(age >= limits.fresh || asked.min_fresh.is_some());
        }
    }
}

/// What is kept answers the very request that it was fetched for, without the fields that must not be kept.
fn is_kept_for_its_own_request(
    page: &SharedPage,
    fields: &HeaderMap,
    authorized: bool,
    rules: &Rules,
) {
    static STORE: LazyLock<Store> = LazyLock::new(|| {
        let settings = default_rules(Kind::Vendor).settings;
        Store::new(&settings, Metrics::new().expect("metrics"), Clock::system())
    });
    let (asked, _) = asked_for(page, fields.clone());
    let Some(Ask::Read(read)) = asked else {
        return;
    };
    let Some(entry) = Entry::of(page, &read.forwarded, authorized, rules, Debt::default()) else {
        return;
    };
    assert!(limits(page, authorized, rules).is_some());
    let ticket = STORE.ticket(&read.key.list);
    if ticket.store(&read.key, Arc::new(entry), &read.forwarded, None) {
        let found = STORE.entry(&read.key, &read.forwarded);
        // A page that is past its last age may be gone by now.
        if let Some(found) = found {
            for name in withheld(page) {
                assert!(
                    !found.page.fields.contains_key(name.clone()),
                    "{name} is kept"
                );
            }
            assert_eq!(found.page.body, page.body);
        }
    }
    ticket.discard(&read.key);
    assert!(STORE.entry(&read.key, &read.forwarded).is_none());
}

/// RFC 9110 section 13.1.2: a well-formed tag, sent back, is known again.
fn is_held_back_from_who_has_it(page: &SharedPage) {
    let Some(tag) = page.fields.get(ETAG) else {
        return;
    };
    let opaque = tag.strip_prefix(b"W/").unwrap_or(tag);
    let well_formed = opaque.len() >= 2
        && opaque.starts_with(b"\"")
        && opaque.iter().position(|b| *b == b'"') == Some(0)
        && opaque[1..].iter().position(|b| *b == b'"') == Some(opaque.len() - 2)
        && !opaque.iter().any(u8::is_ascii_whitespace);
    if !well_formed || page.status != StatusCode::OK {
        return;
    }
    for before in ["", "W/", "\"x,\", ", "W/\"\" , "] {
        let mut list = before.as_bytes().to_vec();
        list.extend_from_slice(if before == "W/" { opaque } else { tag });
        let list = HeaderValue::from_bytes(&list).expect("a field's value");
        let fields = [(IF_NONE_MATCH, list.clone())].into_iter().collect();
        let (_, status) = asked_for(page, fields);
        assert_eq!(status, Some(StatusCode::NOT_MODIFIED), "{list:?}");
    }
}

/// What a request with these fields becomes, and the status that it gets if the cache has this page.
fn asked_for(page: &SharedPage, mut fields: HeaderMap) -> (Option<Ask>, Option<StatusCode>) {
    const TARGET: &str =
        "/campaign/api/v2/public/st-1/campaign/contactList/cl-1/getAllContacts?accountId=a";
    fields.insert(HOST, HeaderValue::from_static("a"));
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = http::Uri::from_static(TARGET);
    *request.headers_mut() = fields;
    let (asked, response) = ask(request, |_| {
        Answer::Page(Served {
            page: page.clone(),
            age: Duration::ZERO,
            how: How::Hit { ttl: 0 },
        })
    });
    (asked, response.ok().map(|response| response.status()))
}
