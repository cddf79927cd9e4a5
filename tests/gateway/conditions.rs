//! What callers say about the copy they have, and about how old a page may be.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::support::{Answer, World, answering, path, saying};

const MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

async fn asking(world: &World, list: &str, cache_control: &str) -> Answer {
    world
        .get_with(list, &[("cache-control", cache_control)])
        .await
}

#[tokio::test]
async fn a_caller_who_has_the_page_is_told_so() {
    let world = World::new().await;
    world
        .vendor
        .behave(saying(&[("etag", "\"v-1\""), ("last-modified", MODIFIED)]));
    world.get("cl-n6-a").await;
    for (name, value, want) in [
        ("if-none-match", "\"v-1\"", 304),
        ("if-none-match", "W/\"v-1\"", 304),
        ("if-none-match", "\"x\", \"v-1\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"v-2\"", 200),
        ("if-none-match", "v-1", 200),
        ("if-modified-since", MODIFIED, 304),
        ("if-modified-since", "Tue, 02 Jan 2024 00:00:00 GMT", 304),
        ("if-modified-since", "Sun, 31 Dec 2023 23:59:59 GMT", 200),
        ("if-modified-since", "yesterday", 200),
    ] {
        let answer = world.get_with("cl-n6-a", &[(name, value)]).await;
        assert_eq!(answer.status, want, "{name}: {value}");
        assert_eq!(answer.body.is_empty(), want == 304);
    }
    let both = [
        ("if-none-match", "\"v-2\""),
        ("if-modified-since", MODIFIED),
    ];
    assert_eq!(
        world.get_with("cl-n6-a", &both).await.status,
        200,
        "the tag decides"
    );
    let two = [("if-none-match", "\"v-2\""), ("if-none-match", "\"v-1\"")];
    assert_eq!(
        world.get_with("cl-n6-a", &two).await.status,
        304,
        "one list"
    );
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn a_304_says_what_the_page_would_have_said_and_has_no_body_and_no_length() {
    let world = World::new().await;
    // The vendor's date is not the one that hyper would write.
    world.hand.forward(Duration::from_secs(5_000));
    let said = [
        ("cache-control", "max-age=60"),
        ("etag", "\"v-1\""),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("last-modified", MODIFIED),
    ];
    world.vendor.behave(saying(&said));
    let tag = [("if-none-match", "\"v-1\"")];
    let miss = world.get_with("cl-n6-a", &tag).await;
    assert_eq!(miss.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    let full = world.get("cl-n6-a").await;
    let hit = world.get_with("cl-n6-a", &tag).await;
    let head = world
        .gateway
        .send(Method::HEAD, &path("cl-n6-a"), &tag)
        .await;
    for answer in [&miss, &hit, &head] {
        assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
        for name in ["cache-control", "date", "etag", "expires"] {
            assert_eq!(answer.field(name), full.field(name), "{name}");
        }
        for name in ["age", "cache-status", "x-request-id"] {
            assert!(answer.headers.contains_key(name), "{name}");
        }
        for name in ["content-length", "content-type"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn a_page_without_tag_or_date_of_change_is_known_by_the_ones_it_was_served_with() {
    let world = World::new().await;
    let first = world.get("cl-n6-a").await;
    for (name, value) in [
        ("if-none-match", first.field("etag")),
        ("if-modified-since", first.field("date")),
    ] {
        let answer = world.get_with("cl-n6-a", &[(name, value)]).await;
        assert_eq!(answer.status, 304, "{name}: {value}");
    }
    world.hand.forward(Duration::from_secs(2 * 3_600));
    let since = [("if-modified-since", first.field("date"))];
    assert_eq!(
        world.get_with("cl-n6-a", &since).await.status,
        200,
        "fetched since"
    );
    let tag = [("if-none-match", first.field("etag"))];
    assert_eq!(
        world.get_with("cl-n6-a", &tag).await.status,
        304,
        "the same bytes"
    );
}

#[tokio::test]
async fn a_condition_holds_nothing_back_but_a_page() {
    let world = World::new().await;
    for any in [
        ("if-none-match", "*"),
        ("if-modified-since", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ] {
        assert_eq!(world.get_with("cl-missing", &[any]).await.status, 404);
        world
            .get_with("..", &[any])
            .await
            .is_problem(400, "bad-request");
    }
}

#[tokio::test]
async fn only_if_cached_never_costs_a_call() {
    let world = World::new().await;
    asking(&world, "cl-n6-a", "only-if-cached")
        .await
        .is_problem(504, "not-cached");
    assert_eq!(world.vendor.calls(), 0);
    world.get("cl-n6-a").await;
    for (forward, asked, want) in [
        (0, "only-if-cached", "hit; ttl=60"),
        (59, "Only-If-Cached", "hit; ttl=1"),
        (1, "only-if-cached", "hit; ttl=-1"),
        (3_539, "only-if-cached, max-stale=0", "hit; ttl=-3539"),
        (1, "only-if-cached", ""),
        (0, "only-if-cached, max-stale=3539", ""),
        (0, "only-if-cached, max-stale=3540", "hit; ttl=-3540"),
        (0, "only-if-cached, max-stale", "hit; ttl=-3540"),
        (0, "only-if-cached, no-cache", ""),
        (0, "only-if-cached, max-stale, max-age=10", ""),
    ] {
        world.hand.forward(Duration::from_secs(forward));
        let answer = asking(&world, "cl-n6-a", asked).await;
        if want.is_empty() {
            answer.is_problem(504, "not-cached");
        } else {
            assert_eq!(
                (answer.status.as_u16(), answer.cache_status()),
                (200, want),
                "{asked}"
            );
        }
    }
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn max_stale_takes_an_old_page_instead_of_a_call() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(Duration::from_secs(7_200));
    for asked in [
        "max-stale",
        "max-stale=7140",
        "max-stale=99999999999999999999",
    ] {
        let answer = asking(&world, "cl-n6-a", asked).await;
        assert_eq!(answer.cache_status(), "hit; ttl=-7140", "{asked}");
    }
    assert_eq!(world.vendor.calls(), 1);
    let fetched = asking(&world, "cl-n6-a", "max-stale=7139").await;
    assert_eq!(fetched.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(world.vendor.calls(), 2);
}

#[tokio::test]
async fn a_caller_who_may_refresh_gets_a_page_as_young_as_asked_for() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(Duration::from_secs(20));
    for (asked, calls) in [
        ("max-age=20", 1),
        ("min-fresh=40", 1),
        ("max-age=x", 1),
        ("max-age=19", 2),
        ("max-age=0", 2),
        ("no-cache", 3),
        ("No-Cache, max-stale", 4),
        ("min-fresh=61", 5),
    ] {
        let answer = asking(&world, "cl-n6-a", asked).await;
        assert_eq!(
            (answer.status.as_u16(), world.vendor.calls()),
            (200, calls),
            "{asked}"
        );
    }
    world.get_with("cl-n6-a", &[("pragma", "no-cache")]).await;
    assert_eq!(world.vendor.calls(), 6);
}

#[tokio::test]
async fn only_of_a_page_that_was_fresh_is_the_callers_wish_told_as_the_reason() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    for (later, asked, fwd) in [
        (59, "no-cache", "request"),
        (59, "max-age=0", "request"),
        (1, "min-fresh=61", "request"),
        (60, "no-cache", "stale"),
    ] {
        world.hand.forward(Duration::from_secs(later));
        let answer = asking(&world, "cl-n6-a", asked).await;
        let want = format!("fwd={fwd}; fwd-status=200; stored");
        assert_eq!(answer.cache_status(), want, "{asked}");
    }
}

#[tokio::test]
async fn a_caller_who_insists_gets_the_page_marked_where_the_fetch_fails() {
    let world = World::new().await;
    let first = world.get("cl-n6-a").await;
    world
        .vendor
        .behave(answering(StatusCode::INTERNAL_SERVER_ERROR));
    for asked in ["no-cache", "min-fresh=100"] {
        let answer = asking(&world, "cl-n6-a", asked).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &first.body));
        assert_eq!(answer.cache_status(), "fwd=stale; detail=upstream-failed");
    }
    let hit = world.get("cl-n6-a").await;
    assert_eq!(
        hit.cache_status(),
        "hit; ttl=60",
        "and nobody else is worse off"
    );
}
