//! Whatever the vendor does, a caller gets the right problem in time, or an old page, and nothing is left behind.

mod garbled;

use std::time::Duration;

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{Behaviour, Message};
use futures_util::future::join_all;
use http::StatusCode;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{Running, World, eventually, path};

/// Time-outs that a test can wait for.
const IMPATIENT: &str = "[upstream]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"";

/// What the vendor is told to do, as JSON, and whether its connection is good for another call after that.
type Told<'a> = (&'a str, bool);

/// A connection that goes on, and one that has to end.
const KEPT: bool = true;
const ENDED: bool = false;

fn told(json: &str) -> Behaviour {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// That each of these is this problem, at first and with an old page at hand, and that all is well again after it.
async fn each_is(status: u16, name: &str, settings: &str, rows: &[Told<'_>]) {
    join_all(rows.iter().map(|row| is(status, name, settings, *row))).await;
}

async fn is(status: u16, name: &str, settings: &str, (behaviour, kept): Told<'_>) {
    let world = World::with(settings).await;
    world.vendor.behave(told(behaviour));
    let failed = world.get("cl-n6-a").await;
    assert_eq!(failed.status, status, "{behaviour}: {}", failed.text());
    failed.is_problem(status, name);
    world.is_at_rest(kept).await;

    world.vendor.behave(Behaviour::default());
    world.hand.forward(Duration::from_secs(600));
    let page = world.get("cl-n6-a").await;
    assert_eq!(page.status, StatusCode::OK, "{behaviour}: a later call");
    let fetched = "fwd=uri-miss; fwd-status=200; stored";
    match page.cache_status() {
        // What the vendor refused stays wanted, and is fetched when the pause is over.
        "hit; ttl=60" if name == "upstream-refused" => {}
        status if name == "upstream-refused" => assert!(status.starts_with(fetched)),
        status => assert_eq!(status, fetched, "{behaviour}"),
    }

    world.hand.forward(Duration::from_secs(7200));
    world.vendor.behave(told(behaviour));
    let old = world.get("cl-n6-a").await;
    assert_eq!(old.status, StatusCode::OK, "{behaviour}: {}", old.text());
    assert_eq!(old.cache_status(), format!("fwd=stale; detail={name}"));
    assert_eq!((&old.body, old.field("age")), (&page.body, "7200"));
    world.is_at_rest(kept).await;
}

#[tokio::test]
async fn a_refused_token_is_a_matter_of_credentials() {
    let rows = [
        (r#"{"status": 401}"#, KEPT),
        (r#"{"status": 403}"#, KEPT),
        (r#"{"status": 401, "body": ""}"#, KEPT),
    ];
    each_is(502, "credentials-refused", "", &rows).await;
}

#[tokio::test]
async fn a_spent_rate_limit_is_known_by_status_or_by_message() {
    let rows = [
        (r#"{"status": 429}"#, KEPT),
        (r#"{"status": 429, "body": ""}"#, KEPT),
        (r#"{"refuse": "per_minute"}"#, KEPT),
        (r#"{"refuse": "older", "status": 200}"#, KEPT),
        (
            r#"{"body": "{\"status\":\"success\",\"message\":\"You've exceeded the hourly rate limit.\"}"}"#,
            KEPT,
        ),
    ];
    each_is(503, "upstream-refused", "", &rows).await;
}

#[tokio::test]
async fn each_documented_message_is_a_refusal_under_any_status_and_tells_when_to_come_back() {
    for (message, wait) in [
        (Message::PerMinute, "60"),
        (Message::Hourly, "300"),
        (Message::Older, "60"),
    ] {
        for status in [200, 400, 403, 404, 429, 500, 503] {
            let world = World::new().await;
            world.vendor.behave(Behaviour {
                refuse: Some(message),
                status: StatusCode::from_u16(status).ok(),
                ..Behaviour::default()
            });
            let refused = world.get("cl-n6-a").await;
            refused.is_problem(503, "upstream-refused");
            assert_eq!(refused.field("retry-after"), wait, "{message:?}, {status}");
            assert_eq!(world.vendor.calls(), 1);
        }
    }
}

#[tokio::test]
async fn contacts_may_say_anything_without_being_taken_for_a_refusal() {
    let world = World::new().await;
    let body = format!(
        r#"{{"status":"success","message":"Contacts retrieved successfully","data":{{"results":[{{"note":{:?}}}]}}}}"#,
        Message::PerMinute.text()
    );
    world.vendor.behave(Behaviour {
        body: Some(body.clone()),
        ..Behaviour::default()
    });
    let answer = world.get("cl-n6-a").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, body));
}

#[tokio::test]
async fn the_vendors_own_failures_are_told_as_such_and_never_kept() {
    let behaviours =
        [500, 501, 502, 503, 504, 599].map(|status| format!(r#"{{"status": {status}}}"#));
    let rows: Vec<_> = behaviours.iter().map(|b| (b.as_str(), KEPT)).collect();
    each_is(502, "upstream-failed", "", &rows).await;
    for (behaviour, _) in rows {
        let world = World::new().await;
        let lasting = r#""headers": [["cache-control", "max-age=3600"]]"#;
        world
            .vendor
            .behave(told(&behaviour.replace('}', &format!(", {lasting}}}"))));
        for calls in 1..3 {
            world
                .get("cl-n6-a")
                .await
                .is_problem(502, "upstream-failed");
            assert_eq!(world.vendor.calls(), calls, "{behaviour}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_a_failure() {
    let rows = [(r#"{"cut": "before_head"}"#, ENDED)];
    each_is(502, "upstream-failed", "", &rows).await;
}

#[tokio::test]
async fn a_vendor_that_cannot_be_reached_has_failed() {
    // Bound and not listening: nobody else can have the port, and it refuses.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refusing = format!("http://{}", socket.local_addr().unwrap());
    let world = World::new().await;
    let plain = world.vendor.url().replace("http://", "https://");
    // No resolver asks anybody for a label of more than 63.
    let nameless = format!("http://{}.example", "x".repeat(64));
    for upstream in [refusing, plain, nameless] {
        let gateway = Running::before(&upstream, "", Clock::system()).await;
        let failed = gateway.get(&path("cl-n6-a")).await;
        assert_eq!(failed.status, StatusCode::BAD_GATEWAY, "{upstream}");
        failed.is_problem(502, "upstream-failed");
        assert!(gateway.parts.tasks.is_empty());
    }
    world.is_at_rest(ENDED).await;
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let rows = [
        (r#"{"stall": "before_head"}"#, ENDED),
        (r#"{"stall": "after_head"}"#, ENDED),
        (r#"{"stall": "after_head", "chunked": true}"#, ENDED),
        (r#"{"drip": {"bytes": 1, "every": "100ms"}}"#, ENDED),
        (r#"{"delay": "1h"}"#, ENDED),
    ];
    each_is(504, "upstream-timed-out", IMPATIENT, &rows).await;
}

#[tokio::test]
async fn connecting_is_given_up_after_connect_timeout() {
    // The system accepts, but nobody will ever shake hands.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let mut waiting = Vec::new();
    let until_full = Duration::from_millis(500);
    while let Ok(one) =
        tokio::time::timeout(until_full, TcpStream::connect(full.local_addr().unwrap())).await
    {
        waiting.push(one.unwrap());
    }
    for upstream in [
        format!("https://{}", mute.local_addr().unwrap()),
        format!("http://{}", full.local_addr().unwrap()),
    ] {
        let settings = "[upstream]\nconnect_timeout = \"500ms\"\ntimeout = \"1h\"\n[listen]\ndeadline = \"1h\"";
        let gateway = Running::before(&upstream, settings, Clock::system()).await;
        let failed = gateway.get(&path("cl-n6-a")).await;
        assert_eq!(failed.status, StatusCode::GATEWAY_TIMEOUT, "{upstream}");
        failed.is_problem(504, "upstream-timed-out");
        assert!(gateway.parts.tasks.is_empty());
    }
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_its_deadline_and_the_call_no_longer_than_its_own() {
    let settings =
        "[upstream]\ntimeout = \"2s\"\nconnect_timeout = \"2s\"\n[listen]\ndeadline = \"500ms\"";
    let rows = [
        (r#"{"stall": "before_head"}"#, ENDED),
        (r#"{"stall": "after_head"}"#, ENDED),
    ];
    each_is(504, "upstream-timed-out", settings, &rows).await;

    let world = World::with("[listen]\ndeadline = \"500ms\"").await;
    world.vendor.behave(told(r#"{"delay": "2s"}"#));
    world
        .get("cl-n6-a")
        .await
        .is_problem(504, "upstream-timed-out");
    world.is_at_rest(KEPT).await;
    let hit = world.get("cl-n6-a").await;
    assert_eq!(
        hit.cache_status(),
        "hit; ttl=60",
        "what was paid for is kept"
    );
}

#[tokio::test]
async fn a_refresh_that_fails_harms_nobody() {
    for behaviour in [
        r#"{"status": 503}"#,
        r#"{"refuse": "per_minute"}"#,
        r#"{"cut": "in_body"}"#,
    ] {
        let world = World::new().await;
        let page = world.get("cl-n6-a").await;
        world.vendor.behave(told(behaviour));
        world.hand.forward(Duration::from_secs(100));
        let stale = world.get("cl-n6-a").await;
        assert_eq!(
            (stale.status, stale.cache_status()),
            (StatusCode::OK, "hit; ttl=-40")
        );
        assert_eq!(stale.body, page.body);
        eventually("the refresh has failed", async || {
            (world.vendor.calls() == 2).then_some(())
        })
        .await;
        world.is_at_rest(KEPT).await;
    }
}

#[tokio::test]
async fn one_request_too_many_is_turned_away_at_once_even_from_memory() {
    let world = World::with(&format!("{IMPATIENT}\n[listen]\nmax_in_flight = 1")).await;
    world.get("cl-n6-a").await;
    world.vendor.behave(told(r#"{"stall": "before_head"}"#));
    let (stalled, ()) = tokio::join!(world.get("cl-n6-b"), async {
        eventually("the call is under way", async || {
            (world.vendor.calls() == 2).then_some(())
        })
        .await;
        for list in ["cl-n6-a", "cl-n6-b", "cl-n6-c"] {
            let refused = world.get(list).await;
            refused.is_problem(503, "overloaded");
            assert_eq!(refused.field("retry-after"), "1");
        }
        assert_eq!(world.vendor.calls(), 2);
    });
    stalled.is_problem(504, "upstream-timed-out");
    world.is_at_rest(ENDED).await;
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn only_if_cached_never_costs_a_call() {
    let world = World::new().await;
    let only = [("cache-control", "only-if-cached")];
    world
        .get_with("cl-n6-a", &only)
        .await
        .is_problem(504, "not-cached");
    assert_eq!(world.vendor.calls(), 0);
    world.get("cl-n6-a").await;
    for (later, want) in [(0, "hit; ttl=60"), (100, "hit; ttl=-40")] {
        world.hand.forward(Duration::from_secs(later));
        assert_eq!(world.get_with("cl-n6-a", &only).await.cache_status(), want);
    }
    world.hand.forward(Duration::from_secs(7200));
    world
        .get_with("cl-n6-a", &only)
        .await
        .is_problem(504, "not-cached");
    world.is_at_rest(KEPT).await;
    assert_eq!(world.vendor.calls(), 1);
}
