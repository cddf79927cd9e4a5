//! How much callers may ask: requests, and fetches for them.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Stall};
use futures_util::future::join_all;
use http::{Method, StatusCode};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::support::callers::caller;
use crate::support::process::{Serving, ask};
use crate::support::{Answer, World, answering, eventually, path};

const REFUSED_REQUESTS: &str =
    "contacts_gateway_quota_refusals_total{caller=\"a\",kind=\"requests\"}";
const REFUSED_FETCHES: &str =
    "contacts_gateway_quota_refusals_total{caller=\"a\",kind=\"fetches\"}";

/// A field's members, each with its parameters' numbers.
fn members(answer: &Answer, field: &str) -> Vec<(String, Vec<(String, i64)>)> {
    let list: List = Parser::new(answer.field(field)).parse().unwrap();
    let members = list.into_iter().map(|member| {
        let ListEntry::Item(item) = member else {
            panic!("{field} has an inner list")
        };
        let BareItem::String(name) = item.bare_item else {
            panic!("{field} has a member that is no string")
        };
        let parameters = item.params.into_iter().map(|(name, value)| {
            let number = value.as_integer().expect("an integer").into();
            (name.to_string(), number)
        });
        (name.to_string(), parameters.collect())
    });
    members.collect()
}

fn told(name: &str, numbers: &[(&str, i64)]) -> (String, Vec<(String, i64)>) {
    let numbers = numbers.iter().map(|(name, n)| ((*name).to_owned(), *n));
    (name.to_owned(), numbers.collect())
}

fn has_no_limits(answer: &Answer) {
    for field in ["ratelimit", "ratelimit-policy"] {
        assert!(!answer.headers.contains_key(field), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_burst_of_requests_is_ten_seconds_worth_and_hits_count() {
    for (per_minute, burst) in [(60, 10), (6, 1), (1, 1), (100, 16)] {
        let settings = caller("a", &format!("requests_per_minute = {per_minute}"));
        let world = World::with(&settings).await;
        for n in 0..burst {
            let answer = world.get_as("a", "cl-n6-a").await;
            assert_eq!(answer.status, 200, "{n} of {burst}");
        }
        let refused = world.get_as("a", "cl-n6-a").await;
        refused.is_problem(429, "quota-spent");
        assert!(refused.text().contains("requests"), "{}", refused.text());
        assert_eq!(world.vendor.calls(), 1);
    }
}

#[tokio::test]
async fn who_waits_as_long_as_told_is_answered_and_who_waits_a_second_less_is_not() {
    for (kind, per_minute, wait) in [
        ("requests", 60, 1),
        ("requests", 7, 9),
        ("requests", 1, 60),
        ("fetches", 6, 10),
        ("fetches", 1, 60),
    ] {
        let settings = caller("a", &format!("{kind}_per_minute = {per_minute}"));
        let world = World::with(&settings).await;
        let mut lists = (0..).map(|n| format!("cl-n6-{n}"));
        let mut ask = async || world.get_as("a", &lists.next().unwrap()).await;
        let refused = loop {
            let answer = ask().await;
            if answer.status != 200 {
                break answer;
            }
        };
        refused.is_problem(429, "quota-spent");
        assert_eq!(refused.field("retry-after"), wait.to_string());
        world.hand.forward(Duration::from_secs(wait - 1));
        ask().await.is_problem(429, "quota-spent");
        world.hand.forward(Duration::from_secs(1));
        assert_eq!(ask().await.status, 200, "{per_minute} {kind}");
    }
}

#[tokio::test]
async fn no_edge_of_a_minute_lets_two_bursts_through() {
    let world = World::with(&caller("a", "requests_per_minute = 60")).await;
    let mut answered = 0;
    for second in [59, 1, 1] {
        world.hand.forward(Duration::from_secs(second));
        for _ in 0..12 {
            answered += u32::from(world.get_as("a", "cl-n6-a").await.status == 200);
        }
    }
    assert_eq!(answered, 10 + 1 + 1);
}

#[tokio::test]
async fn whatever_comes_of_a_request_it_counts_and_a_refusal_does_not() {
    let world = World::with(&caller("a", "requests_per_minute = 30")).await;
    let only_cached = [("cache-control", "only-if-cached")];
    for (method, target, fields, status) in [
        (Method::GET, path(".."), &[][..], 400),
        (Method::GET, "/".to_owned(), &[], 404),
        (Method::POST, path("cl-n6-a"), &[], 405),
        (Method::GET, path("cl-n6-a"), &only_cached, 504),
        ("PURGE".parse().unwrap(), path("cl-n6-a"), &[], 403),
    ] {
        let answer = world.send_as("a", method, &target, fields).await;
        assert_eq!(answer.status, status, "{target}");
    }
    for _ in 0..20 {
        let answer = world.get_as("a", "cl-n6-a").await;
        answer.is_problem(429, "quota-spent");
        assert_eq!(answer.field("retry-after"), "2");
    }
    assert_eq!(world.gateway.metric(REFUSED_REQUESTS).await, 20.0);
    assert_eq!(world.gateway.metric(REFUSED_FETCHES).await, 0.0);
}

#[tokio::test]
async fn quotas_are_told_on_refusals_and_misses_and_not_on_hits() {
    let settings = caller("a", "requests_per_minute = 18\nfetches_per_minute = 12");
    let world = World::with(&settings).await;
    let policies = [
        told("requests", &[("q", 18), ("w", 60)]),
        told("fetches", &[("q", 12), ("w", 60)]),
    ];
    let miss = world.get_as("a", "cl-n6-a").await;
    assert_eq!(members(&miss, "ratelimit-policy"), policies);
    assert_eq!(
        members(&miss, "ratelimit"),
        [
            told("requests", &[("r", 2), ("t", 4)]),
            told("fetches", &[("r", 1), ("t", 5)]),
        ]
    );
    let hit = world.get_as("a", "cl-n6-a").await;
    assert!(hit.cache_status().starts_with("hit"));
    has_no_limits(&hit);
    let none = world.get_as("a", "cl-missing").await;
    assert_eq!(none.status, 404, "the vendor's own no");
    assert_eq!(
        members(&none, "ratelimit"),
        [
            told("requests", &[("r", 0), ("t", 4)]),
            told("fetches", &[("r", 0), ("t", 5)]),
        ]
    );
    let refused = world.get_as("a", "cl-n6-a").await;
    refused.is_problem(429, "quota-spent");
    assert_eq!(members(&refused, "ratelimit-policy"), policies[..1]);
    let requests = told("requests", &[("r", 0), ("t", 4)]);
    assert_eq!(members(&refused, "ratelimit"), [requests]);
    world.hand.forward(Duration::from_secs(4));
    let refused = world.get_as("a", "cl-n6-b").await;
    refused.is_problem(429, "quota-spent");
    assert_eq!(members(&refused, "ratelimit-policy"), policies[1..]);
    let fetches = told("fetches", &[("r", 0), ("t", 1)]);
    assert_eq!(members(&refused, "ratelimit"), [fetches]);
    assert_eq!(refused.field("retry-after"), "1");
}

#[tokio::test]
async fn who_has_no_quota_is_told_of_none() {
    let world = World::with(&(caller("a", "") + &caller("b", "fetches_per_minute = 6"))).await;
    has_no_limits(&world.get_as("a", "cl-n6-a").await);
    has_no_limits(&world.get_as("b", "cl-n6-a").await);
    let miss = world.get_as("b", "cl-n6-b").await;
    assert_eq!(members(&miss, "ratelimit-policy").len(), 1);
}

#[tokio::test]
async fn a_fetch_is_what_begins_a_call_and_hits_are_none() {
    let world = World::with(&caller("a", "fetches_per_minute = 6")).await;
    for _ in 0..20 {
        assert_eq!(world.get_as("a", "cl-n6-a").await.status, 200);
    }
    let refused = world.get_as("a", "cl-n6-b").await;
    refused.is_problem(429, "quota-spent");
    assert!(refused.text().contains("fetches"), "{}", refused.text());
    assert_eq!(world.gateway.metric(REFUSED_FETCHES).await, 1.0);
    assert_eq!(world.gateway.metric(REFUSED_REQUESTS).await, 0.0);
    let problems = "contacts_gateway_problems_total{type=\"quota-spent\"}";
    assert_eq!(world.gateway.metric(problems).await, 1.0);
    let hit = world.get_as("a", "cl-n6-a").await;
    assert_eq!(
        hit.cache_status(),
        "hit; ttl=60",
        "still gets what is cached"
    );
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn joining_a_fetch_that_is_under_way_is_none() {
    let settings = caller("a", "fetches_per_minute = 6") + &caller("b", "fetches_per_minute = 6");
    let world = World::with(&settings).await;
    world.vendor.behave(Behaviour {
        delay: Duration::from_millis(200),
        ..Behaviour::default()
    });
    let first = join_all((0..20).map(|_| world.get_as("a", "cl-n6-a")));
    let others = async {
        eventually("the call has begun", async || {
            (world.vendor.calls() == 1).then_some(())
        })
        .await;
        join_all((0..20).map(|_| world.get_as("b", "cl-n6-a"))).await
    };
    let (first, others) = tokio::join!(first, others);
    assert!(
        first
            .iter()
            .chain(&others)
            .all(|answer| answer.status == 200)
    );
    assert_eq!(world.vendor.calls(), 1);
    assert_eq!(world.get_as("b", "cl-n6-b").await.status, 200);
    let refused = world.get_as("a", "cl-n6-c").await;
    refused.is_problem(429, "quota-spent");
}

#[tokio::test]
async fn a_refresh_behind_a_callers_back_is_none() {
    let world = World::with(&caller("a", "fetches_per_minute = 6")).await;
    world.get_as("a", "cl-n6-a").await;
    world.hand.forward(Duration::from_secs(100));
    let stale = world.get_as("a", "cl-n6-a").await;
    assert_eq!(stale.cache_status(), "hit; ttl=-40");
    eventually("the refresh", async || {
        (world.vendor.calls() == 2).then_some(())
    })
    .await;
    assert_eq!(world.get_as("a", "cl-n6-b").await.status, 200);
    let refused = world.get_as("a", "cl-n6-c").await;
    refused.is_problem(429, "quota-spent");
}

#[tokio::test]
async fn a_fetch_counts_whoever_hangs_up_and_however_it_ends() {
    let world = World::with(&caller("a", "fetches_per_minute = 12")).await;
    world.vendor.behave(Behaviour {
        stall: Some(Stall::BeforeHead),
        ..Behaviour::default()
    });
    {
        let left = world.get_as("a", "cl-n6-a");
        tokio::pin!(left);
        tokio::select! {
            _ = &mut left => panic!("answered before the vendor was"),
            () = eventually("the call has begun", async || (world.vendor.calls() == 1).then_some(())) => {}
        }
    }
    world.vendor.behave(answering(StatusCode::BAD_GATEWAY));
    let failed = world.get_as("a", "cl-n6-b").await;
    failed.is_problem(502, "upstream-failed");
    world
        .get_as("a", "cl-n6-c")
        .await
        .is_problem(429, "quota-spent");
}

#[tokio::test]
async fn an_old_page_is_served_where_no_fetch_is_left_for_a_newer_one() {
    let settings = caller("a", "fetches_per_minute = 6\nmay_refresh = true");
    let world = World::with(&settings).await;
    let first = world.get_as("a", "cl-n6-a").await;
    world.hand.forward(Duration::from_secs(2 * 3_600));
    world.get_as("a", "cl-n6-b").await;
    let old = world.get_as("a", "cl-n6-a").await;
    assert_eq!((old.status.as_u16(), &old.body), (200, &first.body));
    assert_eq!(old.cache_status(), "fwd=stale; detail=quota-spent");
    assert_eq!(old.field("age"), "7200");
    has_no_limits(&old);
    let no_cache = [("cache-control", "no-cache")];
    let wished = world
        .send_as("a", Method::GET, &path("cl-n6-b"), &no_cache)
        .await;
    assert_eq!(wished.cache_status(), "fwd=stale; detail=quota-spent");
    assert_eq!(wished.status, 200);
    assert_eq!(world.vendor.calls(), 2);
    assert_eq!(world.gateway.metric(REFUSED_FETCHES).await, 2.0);
    world.hand.forward(Duration::from_secs(10));
    let new = world.get_as("a", "cl-n6-a").await;
    assert_eq!(new.cache_status(), "fwd=stale; fwd-status=200; stored");
}

#[tokio::test]
async fn a_dry_run_refuses_nothing_and_counts_what_it_would_have() {
    let quotas = "requests_per_minute = 60\nfetches_per_minute = 6\ndry_run = true";
    let world = World::with(&caller("a", quotas)).await;
    for n in 0..30 {
        let answer = world.get_as("a", &format!("cl-n6-{n}")).await;
        assert_eq!(answer.status, 200);
        has_no_limits(&answer);
    }
    assert_eq!(world.gateway.metric(REFUSED_REQUESTS).await, 20.0);
    assert_eq!(world.gateway.metric(REFUSED_FETCHES).await, 29.0);
    assert_eq!(world.vendor.calls(), 30);
}

#[tokio::test]
async fn a_dry_run_is_logged_now_and_then_with_how_much_it_would_have_refused() {
    let world = World::new().await;
    let settings = "[telemetry]\nlog_format = \"json\"\n".to_owned()
        + &caller("a", "requests_per_minute = 6\ndry_run = true");
    let mut serving = Serving::before(&world.vendor.url(), &settings).await;
    let url = format!("http://{}{}", serving.callers, path("cl-n6-a"));
    let bearer = [("authorization", "Bearer token-of-a")];
    for _ in 0..40 {
        assert_eq!(ask(Method::GET, &url, &bearer).await.status, 200);
    }
    let line = serving.program.line("would have refused").await;
    for part in [
        "\"caller\":\"a\"",
        "\"quota.kind\":\"requests\"",
        "\"refusals\":1",
    ] {
        assert!(line.contains(part), "{line}");
    }
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    let lines = ended.err.matches("would have refused").count();
    assert!(lines < 30, "{lines} lines");
}

#[tokio::test]
async fn two_callers_quotas_are_independent() {
    let quotas = "requests_per_minute = 12\nfetches_per_minute = 6";
    let world = World::with(&(caller("a", quotas) + &caller("b", quotas))).await;
    for (name, list) in [("a", "cl-n6-a"), ("b", "cl-n6-b")] {
        assert_eq!(world.get_as(name, list).await.status, 200);
        let refused = world.get_as(name, "cl-n6-c").await;
        refused.is_problem(429, "quota-spent");
        assert!(refused.text().contains("fetches"), "{name}");
        let refused = world.get_as(name, list).await;
        refused.is_problem(429, "quota-spent");
        assert!(refused.text().contains("requests"), "{name}");
    }
    for name in ["a", "b"] {
        for kind in ["requests", "fetches"] {
            let series =
                format!("contacts_gateway_quota_refusals_total{{caller={name:?},kind={kind:?}}}");
            assert_eq!(world.gateway.metric(&series).await, 1.0, "{series}");
        }
    }
}

#[tokio::test]
async fn somebody_unknown_spends_nobodys_quota() {
    let world = World::with(&caller("a", "requests_per_minute = 6")).await;
    for _ in 0..20 {
        world.get("cl-n6-a").await.is_problem(401, "caller-unknown");
    }
    assert_eq!(world.get_as("a", "cl-n6-a").await.status, 200);
}
