//! What is kept for a moment, and what not at all: the vendor's no, `no-store`, `private`.

use contacts_gateway::vendor::Behaviour;
use http::StatusCode;

use super::{FRESH, USABLE, failing, kept, secs, telling, with};
use crate::support::{World, answering, saying};

const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;

#[tokio::test]
async fn a_list_that_vanishes_is_gone_once_the_vendor_has_said_so() {
    for later in [FRESH, USABLE] {
        let world = World::new().await;
        world.get("cl-n6-a").await;
        world.hand.forward(secs(later));
        world.vendor.behave(answering(NOT_FOUND));
        let first = world.get("cl-n6-a").await;
        let want = match later {
            FRESH => (200, "hit; ttl=-1"),
            _ => (404, "fwd=stale; fwd-status=404; stored"),
        };
        assert_eq!((first.status.as_u16(), first.cache_status()), want);
        world.is_at_rest(true).await;
        let second = world.get("cl-n6-a").await;
        assert_eq!(
            (second.status, second.cache_status()),
            (NOT_FOUND, "hit; ttl=10")
        );
        assert_eq!(world.vendor.calls(), 2);
    }
}

#[tokio::test]
async fn a_success_takes_the_place_of_a_no_at_once() {
    for status in [NOT_FOUND, StatusCode::BAD_REQUEST] {
        let world = World::new().await;
        world.vendor.behave(answering(status));
        assert_eq!(world.get("cl-n6-a").await.status, status);
        world.vendor.behave(Behaviour::default());
        assert_eq!(world.get("cl-n6-a").await.status, status, "remembered");
        let insists = [("cache-control", "no-cache")];
        assert_eq!(world.get_with("cl-n6-a", &insists).await.status, 200);
        let hit = world.get("cl-n6-a").await;
        assert_eq!(
            (hit.status.as_u16(), hit.cache_status()),
            (200, "hit; ttl=60")
        );
    }
}

#[tokio::test]
async fn a_no_is_forgotten_after_negative_for_even_if_the_vendor_fails() {
    let world = World::with("[cache]\nnegative_for = \"5s\"").await;
    assert_eq!(world.get("cl-missing").await.status, NOT_FOUND);
    world.vendor.behave(failing());
    world.hand.forward(secs(4));
    assert_eq!(world.get("cl-missing").await.cache_status(), "hit; ttl=1");
    world.hand.forward(secs(1));
    world
        .get("cl-missing")
        .await
        .is_problem(502, "upstream-failed");
}

#[tokio::test]
async fn with_negative_for_0_no_no_is_remembered() {
    let world = World::with("[cache]\nnegative_for = \"0s\"").await;
    for n in 1..4 {
        let answer = world.get("cl-missing").await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=404");
        assert_eq!(world.vendor.calls(), n);
    }
}

#[tokio::test]
async fn a_no_is_never_remembered_for_longer_than_the_vendor_says() {
    for (value, want) in [
        ("no-store", None),
        ("private", None),
        ("no-cache", None),
        ("max-age=0", None),
        ("max-age=3", Some(3)),
        ("s-maxage=3, max-age=60", Some(3)),
        ("max-age=60", Some(10)),
    ] {
        let world = World::new().await;
        world.vendor.behave(saying(&[("cache-control", value)]));
        world.get("cl-missing").await;
        let again = world.get("cl-missing").await;
        let ttl = want.map_or("fwd=uri-miss; fwd-status=404".to_owned(), |ttl| {
            format!("hit; ttl={ttl}")
        });
        assert_eq!(again.cache_status(), ttl, "{value}");
    }
}

const NEVER: [&str; 4] = [
    "no-store",
    "No-Store, max-age=60",
    "private",
    "private, s-maxage=60",
];

#[tokio::test]
async fn what_the_vendor_keeps_for_itself_is_never_kept() {
    for value in NEVER {
        let world = World::new().await;
        world
            .vendor
            .behave(saying(&[("cache-control", value), ("etag", "\"1\"")]));
        for n in 1..4 {
            let answer = world.get("cl-n6-a").await;
            assert_eq!(
                answer.cache_status(),
                "fwd=uri-miss; fwd-status=200",
                "{value}"
            );
            assert_eq!(
                (answer.field("cache-control"), answer.field("age")),
                (value, "0")
            );
            assert_eq!(world.vendor.calls(), n);
        }
        assert_eq!(kept(&world, "cl-n6-a").await, None);
    }
}

#[tokio::test]
async fn after_that_an_older_copy_is_not_used_either() {
    for value in NEVER {
        for later in [FRESH, USABLE] {
            let world = World::new().await;
            world.get("cl-n6-a").await;
            world.hand.forward(secs(later));
            world.vendor.behave(saying(&[("cache-control", value)]));
            assert_eq!(world.get("cl-n6-a").await.status, 200);
            world.is_at_rest(true).await;
            assert_eq!(
                (world.vendor.calls(), kept(&world, "cl-n6-a").await),
                (2, None)
            );
            world.vendor.behave(failing());
            world
                .get("cl-n6-a")
                .await
                .is_problem(502, "upstream-failed");
        }
    }
}

#[tokio::test]
async fn fields_that_are_named_private_are_for_who_asked_and_kept_for_nobody() {
    for value in [
        "private=\"Last-Modified, content-language\"",
        "no-cache=\"content-language\", private=Last-Modified",
    ] {
        let world = World::new().await;
        world.vendor.behave(saying(&[
            ("cache-control", value),
            ("content-language", "de"),
            ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
            ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ]));
        let (first, hit) = (world.get("cl-n6-a").await, world.get("cl-n6-a").await);
        assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
        assert!(hit.cache_status().starts_with("hit; "), "{value}");
        for name in ["content-language", "last-modified"] {
            assert_ne!(first.field(name), "", "{name}");
            assert!(!hit.headers.contains_key(name), "{name}");
        }
        assert_eq!(hit.field("expires"), first.field("expires"));
        assert_eq!(hit.body, first.body);
    }
}

#[tokio::test]
async fn a_caller_who_wants_nothing_kept_leaves_nothing_behind_and_takes_nothing_away() {
    let world = World::new().await;
    let no_store = [("cache-control", "no-store")];
    let answer = world.get_with("cl-n6-a", &no_store).await;
    assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=200");
    assert_eq!(kept(&world, "cl-n6-a").await, None);

    world.vendor.behave(telling("kept"));
    world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(telling("not kept"));
    let answer = world.get_with("cl-n6-a", &no_store).await;
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=200");
    assert_eq!(answer.json()["message"], "not kept");
    let left = kept(&world, "cl-n6-a").await.unwrap();
    assert!(left.contains("\"kept\""), "{left}");
}

#[tokio::test]
async fn a_refresh_is_kept_whoever_it_is_made_behind() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(FRESH));
    let no_store = [("cache-control", "no-store")];
    for want in ["hit; ttl=-1", "hit; ttl=60", "hit; ttl=60"] {
        let answer = world.get_with("cl-n6-a", &no_store).await;
        assert_eq!(answer.cache_status(), want);
        world.is_at_rest(true).await;
    }
    assert_eq!(world.vendor.calls(), 2);
}

#[tokio::test]
async fn what_one_caller_wants_not_kept_another_may_still_wait_for() {
    let world = World::new().await;
    world.vendor.behave(Behaviour {
        delay: secs(2),
        ..with(telling("once"), "etag", "\"1\"")
    });
    let no_store = [("cache-control", "no-store")];
    let (one, other) = tokio::join!(world.get_with("cl-n6-a", &no_store), world.get("cl-n6-a"));
    assert_eq!((one.status, &one.body), (other.status, &other.body));
    assert_eq!(world.vendor.calls(), 1);
}
