//! The spans of a request: what hangs on what, and what they say.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Cut};
use futures_util::future::join_all;
use http::{Method, StatusCode};

use super::{FOLLOWED, NOT_FOLLOWED, ROUTE, Traced, slow};
use crate::support::callers::caller;
use crate::support::collector::Kind;
use crate::support::{ACCOUNT, CLIENT_ID, SECRET, STREAM, answering, eventually, path, saying};

#[tokio::test]
async fn beneath_a_request_that_is_fetched_for_stands_the_call_to_the_vendor() {
    let traced = Traced::new().await;
    let port = traced.world.vendor.address().port().to_string();
    assert_eq!(traced.world.get("cl-n6-a").await.status, StatusCode::OK);
    let spans = traced.spans().await;
    let (request, fetch, call) = (
        spans.of(Kind::Server),
        spans.the("fetch"),
        spans.of(Kind::Client),
    );
    let wait = spans.the("wait for the allowance");
    assert_eq!(spans.0.len(), 4, "{spans:#?}");
    assert_eq!(request.name, format!("GET {ROUTE}"));
    assert_eq!(request.parent, "");
    assert_eq!(wait.parent, request.id);
    assert_eq!(fetch.parent, request.id);
    assert_eq!(call.parent, fetch.id);
    assert_eq!(call.name, "GET");
    for span in &spans.0 {
        assert_eq!(span.trace, request.trace);
        assert!(!span.failed && span.links.is_empty(), "{span:?}");
        assert_eq!(span.resource["service.name"], "contacts-gateway");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert!(!span.resource["service.instance.id"].is_empty());
    }
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("http.route", ROUTE),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("cache.result", "miss"),
        ("contacts_gateway.served_age", "0"),
        ("contacts_gateway.caller", "anonymous"),
        ("error.type", ""),
        ("contacts_gateway.keep", ""),
    ] {
        assert_eq!(request.says(key), value, "{key}");
    }
    for (key, value) in [
        ("http.request.method", "GET"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", ""),
    ] {
        assert_eq!(call.says(key), value, "{key}");
    }
    assert_eq!(fetch.says("contacts_gateway.reason"), "miss");
}

#[tokio::test]
async fn a_hit_is_one_span() {
    let traced = Traced::new().await;
    traced.world.get("cl-n6-a").await;
    traced.world.hand.forward(Duration::from_secs(7));
    traced.world.get("cl-n6-a").await;
    let spans = traced.spans().await;
    let [_, hit] = spans.requests()[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(hit.says("cache.result"), "hit");
    assert_eq!(hit.says("contacts_gateway.served_age"), "7");
    assert!(spans.0.iter().all(|span| span.parent != hit.id));
}

#[tokio::test]
async fn whoever_joins_a_fetch_links_to_it() {
    let traced = Traced::new().await;
    traced.world.vendor.behave(slow());
    join_all((0..5).map(|_| traced.world.get("cl-n6-a"))).await;
    let spans = traced.spans().await;
    let (fetch, waits) = (spans.the("fetch"), spans.named("wait for a fetch"));
    assert_eq!(spans.requests().len(), 5);
    assert_eq!(
        spans.named("wait for the allowance").len(),
        5 - waits_at_once(&spans)
    );
    assert_eq!(waits.len(), 4);
    for wait in waits {
        assert_eq!(wait.links, [fetch.place()]);
        assert_ne!(wait.trace, fetch.trace);
        let request = spans.requests().into_iter();
        let its = request.filter(|request| request.id == wait.parent);
        let its: Vec<_> = its.map(|request| request.says("cache.result")).collect();
        assert_eq!(its, ["collapsed"]);
    }
}

/// Those who found a fetch under way and had to wait for no allowance.
fn waits_at_once(spans: &super::Spans) -> usize {
    let waited = spans.named("wait for the allowance");
    let request = spans.requests().into_iter();
    let at_once = request.filter(|request| waited.iter().all(|wait| wait.parent != request.id));
    at_once.count()
}

#[tokio::test]
async fn whoever_is_followed_sees_the_fetch_even_of_somebody_who_is_not() {
    let traced = Traced::at(0.0, "").await;
    traced.world.vendor.behave(slow());
    let first = traced.get_in("cl-n6-a", NOT_FOLLOWED);
    let second = async {
        eventually("the call has begun", async || {
            (traced.world.vendor.calls() == 1).then_some(())
        })
        .await;
        traced.world.hand.forward(Duration::from_secs(2));
        let other = "00-11111111111111111111111111111111-2222222222222222-01";
        traced.get_in("cl-n6-a", other).await
    };
    futures_util::future::join(first, second).await;
    let spans = traced.spans().await;
    let (fetch, call) = (spans.the("fetch"), spans.of(Kind::Client));
    let wait = spans.the("wait for a fetch");
    assert_eq!(wait.links, [fetch.place()]);
    assert_eq!(call.parent, fetch.id);
    assert_eq!(fetch.parent, "", "nobody above it is seen");
    assert_eq!(fetch.says("contacts_gateway.reason"), "miss");
    assert_eq!(call.says("http.response.status_code"), "200");
    let took = [fetch, call, wait].map(|span| span.nanoseconds / 1_000_000_000);
    assert_eq!(took, [2, 2, 0], "from when they began, seen or not");
    assert_eq!(spans.requests().len(), 1);
}

#[tokio::test]
async fn a_refresh_is_a_trace_of_its_own_with_a_link_to_what_caused_it() {
    let traced = Traced::new().await;
    traced.world.get("cl-n6-a").await;
    traced.world.hand.forward(Duration::from_secs(61));
    let stale = traced.world.get("cl-n6-a").await;
    assert!(stale.cache_status().starts_with("hit; ttl=-"), "{stale:?}");
    let spans = traced.spans().await;
    let requests = spans.requests();
    let stale = requests
        .iter()
        .find(|one| one.says("cache.result") == "stale");
    let stale = stale.unwrap();
    let fetches = spans.named("fetch");
    let refresh = fetches
        .iter()
        .find(|fetch| fetch.trace != requests[0].trace);
    let refresh = refresh.unwrap();
    assert_eq!(fetches.len(), 2);
    assert_eq!(refresh.parent, "");
    assert_ne!(refresh.trace, stale.trace);
    assert_eq!(refresh.links, [stale.place()]);
    let reason = refresh.says("contacts_gateway.reason");
    assert!(["refresh", "revalidate"].contains(&reason), "{reason}");
    let calls = spans.named("GET").into_iter();
    assert_eq!(calls.filter(|call| call.parent == refresh.id).count(), 1);
}

#[tokio::test]
async fn the_wait_for_the_allowance_is_as_long_as_it_was() {
    let traced =
        Traced::with("[allowance]\ncalls = 2\nfloor = 1\nqueue_deadline = \"60s\"\n").await;
    let world = &traced.world;
    let _ = world.gateway.parts.accounts.desk(ACCOUNT);
    world.hand.forward(Duration::from_secs(61));
    for list in ["cl-n6-a", "cl-n6-b"] {
        assert_eq!(world.get(list).await.status, StatusCode::OK);
        world.hand.forward(Duration::from_secs(20));
    }
    let later = async {
        eventually("somebody waits", async || {
            let status = world.gateway.operate(Method::GET, "/status").await.json();
            (status["accounts"][ACCOUNT]["waiting"] == 1).then_some(())
        })
        .await;
        world.hand.forward(Duration::from_secs(30));
    };
    let (third, ()) = futures_util::future::join(world.get("cl-n6-c"), later).await;
    assert_eq!(third.status, StatusCode::OK);
    let spans = traced.spans().await;
    let waits = spans.named("wait for the allowance");
    let waited: Vec<_> = waits
        .iter()
        .map(|wait| wait.nanoseconds / 1_000_000_000)
        .collect();
    assert_eq!(waited, [0, 0, 30]);
    let request = spans.requests()[2];
    assert_eq!(request.id, waits[2].parent);
    assert_eq!(request.says("contacts_gateway.keep"), "slow");
}

#[tokio::test]
async fn a_second_dial_is_a_second_call_and_says_so() {
    let traced = Traced::new().await;
    traced.world.get("cl-n6-a").await;
    traced.world.vendor.behave(Behaviour {
        cut: Some(Cut::WhenReused),
        times: Some(1),
        ..Behaviour::default()
    });
    assert_eq!(traced.world.get("cl-n6-b").await.status, StatusCode::OK);
    let spans = traced.spans().await;
    let fetch = spans.named("fetch")[1];
    let calls = spans.named("GET").into_iter();
    let calls: Vec<_> = calls.filter(|call| call.parent == fetch.id).collect();
    let [lost, again] = calls[..] else {
        panic!("{spans:#?}");
    };
    assert!(lost.failed && !again.failed && !fetch.failed);
    assert_eq!(lost.says("http.request.resend_count"), "");
    assert_eq!(again.says("http.request.resend_count"), "1");
    assert_ne!(lost.says("error.type"), "");
}

#[tokio::test]
async fn a_failure_is_one_on_every_span_and_marked_to_be_kept() {
    let traced = Traced::new().await;
    let unavailable = answering(StatusCode::SERVICE_UNAVAILABLE);
    traced.world.vendor.behave(unavailable);
    let answer = traced.world.get("cl-n6-a").await;
    answer.is_problem(502, "upstream-failed");
    let spans = traced.spans().await;
    let request = spans.of(Kind::Server);
    for (span, kind) in [
        (request, "upstream-failed"),
        (spans.the("fetch"), "upstream-failed"),
        (spans.of(Kind::Client), "503"),
    ] {
        assert!(span.failed, "{span:?}");
        assert_eq!(span.says("error.type"), kind);
    }
    assert_eq!(request.says("contacts_gateway.problem"), "upstream-failed");
    assert_eq!(request.says("contacts_gateway.keep"), "failure");
    assert_eq!(request.says("http.response.status_code"), "502");
}

#[tokio::test]
async fn an_old_page_after_a_failure_says_which() {
    let traced = Traced::with("[cache]\nusable_for = \"60s\"\n").await;
    traced.world.get("cl-n6-a").await;
    traced.world.hand.forward(Duration::from_secs(61));
    traced
        .world
        .vendor
        .behave(answering(StatusCode::BAD_GATEWAY));
    assert_eq!(traced.world.get("cl-n6-a").await.status, StatusCode::OK);
    let spans = traced.spans().await;
    let request = spans.requests()[1];
    assert_eq!(
        request.says("contacts_gateway.stale_after"),
        "upstream-failed"
    );
    assert!(!request.failed);
}

#[tokio::test]
async fn what_is_the_callers_doing_is_no_failure_of_the_request() {
    let traced = Traced::new().await;
    let world = &traced.world;
    assert_eq!(world.get("cl-missing-a").await.status, 404);
    let bad = world.gateway.get(&(path("cl-n6-a") + "&what=1")).await;
    bad.is_problem(400, "bad-request");
    let odd = Method::from_bytes(b"MARKED-METHOD").unwrap();
    let odd = world.gateway.send(odd, &path("cl-n6-a"), &[]).await;
    odd.is_problem(405, "method-not-allowed");
    world
        .gateway
        .get("/marked-path")
        .await
        .is_problem(404, "not-found");
    let spans = traced.spans().await;
    let requests = spans.requests();
    let seen = requests.iter().map(|one| {
        let status = one.says("http.response.status_code");
        (one.name.as_str(), one.says("http.request.method"), status)
    });
    let get = &*format!("GET {ROUTE}");
    let other = &*format!("HTTP {ROUTE}");
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            (get, "GET", "404"),
            (get, "GET", "400"),
            (other, "_OTHER", "405"),
            ("GET", "GET", "404")
        ]
    );
    for request in requests {
        assert!(!request.failed, "{request:?}");
        assert_eq!(request.says("error.type"), "");
    }
    // To the one who called, it is.
    let call = spans.of(Kind::Client);
    assert!(call.failed);
    assert_eq!(call.says("error.type"), "404");
}

#[tokio::test]
async fn whoever_hangs_up_is_no_failure_and_the_fetch_goes_on() {
    let traced = Traced::new().await;
    traced.world.vendor.behave(slow());
    {
        let first = traced.world.get("cl-n6-a");
        tokio::pin!(first);
        tokio::select! {
            _ = &mut first => panic!("answered before the vendor was"),
            () = eventually("the call has begun", async || (traced.world.vendor.calls() == 1).then_some(())) => {}
        }
    }
    let spans = traced.spans().await;
    let (request, fetch) = (spans.of(Kind::Server), spans.the("fetch"));
    assert_eq!(request.says("contacts_gateway.abandoned"), "true");
    assert!(!request.failed && !fetch.failed);
    assert_eq!(fetch.says("contacts_gateway.abandoned"), "");
    assert_eq!(fetch.parent, request.id);
    assert!(spans.of(Kind::Client).says("http.response.status_code") == "200");
}

#[tokio::test]
async fn spans_tell_who_asked_and_no_secret_id_or_number() {
    let marked = saying(&[("x-marked", "marked-field"), ("etag", "\"marked-tag\"")]);
    let traced = Traced::with(&caller("campaign", "")).await;
    traced.world.vendor.behave(marked);
    let fields = [
        ("baggage", "marked-baggage=1"),
        ("x-request-id", "marked-request"),
        ("cookie", "marked-cookie"),
        ("traceparent", FOLLOWED),
    ];
    let get = path("cl-n6-marked-list");
    let answer = traced.world.send_as("campaign", Method::GET, &get, &fields);
    assert!(answer.await.text().contains("9990000000"), "a phone number");
    traced
        .world
        .get("cl-n6-marked-list")
        .await
        .is_problem(401, "caller-unknown");
    let collector = traced.collector.url.clone();
    let Traced {
        mut world,
        collector: kept,
    } = traced;
    world.is_at_rest(true).await;
    world.gateway.leaves().await;
    let requests = kept.named(Kind::Server, "GET");
    let callers: Vec<_> = requests
        .iter()
        .map(|one| one.says("contacts_gateway.caller"))
        .collect();
    assert_eq!(callers, ["campaign", ""]);
    let bytes = String::from_utf8_lossy(&kept.bytes()).into_owned();
    assert!(bytes.contains("campaign") && bytes.contains("getAllContacts"));
    let mut never = vec![
        SECRET, CLIENT_ID, STREAM, ACCOUNT, "marked", "token-of", "eyJ",
    ];
    never.extend(["9990000000", "accountId", &collector]);
    for secret in never {
        assert!(!bytes.contains(secret), "{secret} in {bytes}");
    }
}
