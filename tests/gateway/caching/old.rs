//! An old page is served in place of every failure, for as long as it may be and no longer.

use contacts_gateway::vendor::{self, Behaviour, Vendor};
use futures_util::future::join_all;

use super::{IF_ERROR, USABLE, failing, secs};
use crate::support::{World, saying};

const IMPATIENT: &str = "[upstream]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"";
const HASTY: &str = "[listen]\ndeadline = \"1s\"";

/// Settings, what the vendor does (JSON), and the problem that it is.
const FAILURES: [(&str, &str, u16, &str); 13] = [
    ("", r#"{"status": 429}"#, 503, "upstream-refused"),
    (
        "",
        r#"{"status": 200, "refuse": "per_minute"}"#,
        503,
        "upstream-refused",
    ),
    ("", r#"{"status": 500}"#, 502, "upstream-failed"),
    ("", r#"{"status": 503}"#, 502, "upstream-failed"),
    ("", r#"{"cut": "before_head"}"#, 502, "upstream-failed"),
    ("", r#"{"status": 401}"#, 502, "credentials-refused"),
    ("", r#"{"hollow": "failure"}"#, 502, "upstream-garbled"),
    ("", r#"{"garbage": "no HTTP"}"#, 502, "upstream-garbled"),
    ("", r#"{"cut": "in_body"}"#, 502, "upstream-garbled"),
    ("", r#"{"cut": "in_chunks"}"#, 502, "upstream-garbled"),
    (
        IMPATIENT,
        r#"{"stall": "before_head"}"#,
        504,
        "upstream-timed-out",
    ),
    (
        IMPATIENT,
        r#"{"stall": "after_head"}"#,
        504,
        "upstream-timed-out",
    ),
    (
        HASTY,
        r#"{"delay": "2s", "status": 500}"#,
        504,
        "upstream-timed-out",
    ),
];

fn told(json: &str) -> Behaviour {
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn an_old_page_is_served_on_every_failure_up_to_its_limit_and_not_beyond() {
    join_all(
        FAILURES.map(|(settings, behaviour, status, name)| async move {
            // Each in a world of its own: after a failure the account may be left alone for a while.
            for at in [USABLE, IF_ERROR - 1, IF_ERROR] {
                let world = World::with(settings).await;
                let page = world.get("cl-n6-a").await;
                world.vendor.behave(told(behaviour));
                world.hand.forward(secs(at));
                let old = world.get("cl-n6-a").await;
                if at == IF_ERROR {
                    old.is_problem(status, name);
                    continue;
                }
                assert_eq!((old.status.as_u16(), &old.body), (200, &page.body));
                assert_eq!(old.cache_status(), format!("fwd=stale; detail={name}"));
                assert_eq!(old.field("age"), at.to_string(), "{behaviour}");
                assert_eq!(old.field("etag"), page.field("etag"));
                world.is_at_rest(true).await;
            }
        }),
    )
    .await;
}

#[tokio::test]
async fn no_failure_is_covered_up_with_a_page_that_has_to_be_revalidated() {
    for value in [
        "max-age=10, must-revalidate",
        "max-age=10, proxy-revalidate",
        "s-maxage=10",
        "no-cache",
    ] {
        join_all(
            FAILURES.map(|(settings, behaviour, status, name)| async move {
                let world = World::with(settings).await;
                world
                    .vendor
                    .behave(saying(&[("cache-control", value), ("etag", "\"1\"")]));
                assert_eq!(world.get("cl-n6-a").await.status, 200);
                world.vendor.behave(told(behaviour));
                world.hand.forward(secs(10));
                world.get("cl-n6-a").await.is_problem(status, name);
            }),
        )
        .await;
    }
}

#[tokio::test]
async fn an_old_page_is_served_while_the_vendor_is_gone() {
    let mut world = World::new().await;
    let page = world.get("cl-n6-a").await;
    let another = Vendor::start(vendor::Settings::default()).unwrap();
    std::mem::replace(&mut world.vendor, another)
        .shutdown()
        .await;
    for (later, want) in [
        (100, "hit; ttl=-40"),
        (USABLE, "fwd=stale; detail=upstream-failed"),
        (IF_ERROR - USABLE - 101, "fwd=stale; detail=upstream-failed"),
    ] {
        world.hand.forward(secs(later));
        let old = world.get("cl-n6-a").await;
        assert_eq!((old.cache_status(), &old.body), (want, &page.body));
    }
    // That was the third failure in a row: it is tried again after a rest.
    world.hand.forward(secs(10));
    world
        .get("cl-n6-a")
        .await
        .is_problem(502, "upstream-failed");
}

#[tokio::test]
async fn no_failure_takes_its_place_that_may_be_kept() {
    let world = World::with("[upstream]\naccept_any_body = true").await;
    let page = world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(told(
        r#"{"status": 503, "headers": [["cache-control", "max-age=60"]]}"#,
    ));
    for _ in 0..2 {
        let old = world.get("cl-n6-a").await;
        let want = "fwd=stale; detail=upstream-failed";
        assert_eq!((old.cache_status(), &old.body), (want, &page.body));
    }
}

#[tokio::test]
async fn the_first_success_ends_it() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(Behaviour {
        times: Some(2),
        ..failing()
    });
    for want in [
        "fwd=stale; detail=upstream-failed",
        "fwd=stale; detail=upstream-failed",
        "fwd=stale; fwd-status=200; stored",
        "hit; ttl=60",
    ] {
        assert_eq!(world.get("cl-n6-a").await.cache_status(), want);
    }
    let stale = "contacts_gateway_cache_requests_total{result=\"stale\"}";
    assert_eq!(world.gateway.metric(stale).await, 2.0);
}

#[tokio::test]
async fn everybody_who_waited_for_a_fetch_that_failed_gets_the_old_page() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(Behaviour {
        delay: secs(2),
        ..failing()
    });
    for answer in join_all((0..20).map(|_| world.get("cl-n6-a"))).await {
        assert_eq!(answer.cache_status(), "fwd=stale; detail=upstream-failed");
    }
    assert_eq!(world.vendor.calls(), 2);
}
