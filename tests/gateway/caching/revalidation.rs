//! Asking the vendor whether a page still holds: RFC 9111 sections 4.3.1 and 4.3.4.

use contacts_gateway::vendor::Behaviour;
use http::StatusCode;

use super::{FRESH, USABLE, kept, secs, telling, with};
use crate::support::{World, answering, saying};

const MODIFIED: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
const LATER: &str = "Tue, 02 Jan 2024 00:00:00 GMT";
const REVALIDATED: &str = "fwd=stale; fwd-status=304; stored";
const GARBLED: &str = "fwd=stale; detail=upstream-garbled";

/// A vendor to whom nothing has changed, and who says this.
fn unchanged(fields: &[(&'static str, &'static str)]) -> Behaviour {
    Behaviour {
        status: Some(StatusCode::NOT_MODIFIED),
        ..saying(fields)
    }
}

/// The conditions of the latest call: `If-None-Match` and `If-Modified-Since`.
fn conditions(world: &World) -> [String; 2] {
    let seen = world.vendor.requests().pop().unwrap();
    ["if-none-match", "if-modified-since"].map(|name| {
        let lines: Vec<_> = seen.headers.get_all(name).iter().collect();
        let lines = lines.iter().map(|line| line.to_str().unwrap());
        lines.collect::<Vec<_>>().join(" and ")
    })
}

#[tokio::test]
async fn the_vendors_own_validators_are_sent_and_no_tag_that_was_made_here() {
    for (said, want) in [
        (&[][..], ["", ""]),
        (&[("etag", "\"v,1\"")], ["\"v,1\"", ""]),
        (&[("etag", "W/\"1\"")], ["W/\"1\"", ""]),
        (&[("last-modified", MODIFIED)], ["", MODIFIED]),
        (
            &[("etag", "\"1\""), ("last-modified", MODIFIED)],
            ["\"1\"", MODIFIED],
        ),
    ] {
        for later in [FRESH, USABLE] {
            let world = World::new().await;
            world.vendor.behave(saying(said));
            world.get("cl-n6-a").await;
            assert_eq!(conditions(&world), ["", ""], "of a page that is not there");
            world.hand.forward(secs(later));
            let own = [("if-none-match", "\"a-callers\"")];
            world.get_with("cl-n6-a", &own).await;
            world.is_at_rest(true).await;
            assert_eq!(world.vendor.calls(), 2);
            assert_eq!(conditions(&world), want, "{said:?} after {later}s");
        }
    }
}

#[tokio::test]
async fn a_304_makes_the_page_young_again_and_says_what_is_new_of_it() {
    let world = World::new().await;
    let said = [
        ("etag", "\"1\""),
        ("cache-control", "max-age=60, odd"),
        ("content-language", "de"),
        ("last-modified", MODIFIED),
    ];
    world.vendor.behave(saying(&said));
    let first = world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(unchanged(&[
        ("etag", "\"1\""),
        ("cache-control", "max-age=120"),
        ("content-type", "text/html"),
        ("content-encoding", "gzip"),
        ("last-modified", LATER),
        ("set-cookie", "session=1"),
    ]));
    let answer = world.get("cl-n6-a").await;
    assert_eq!(answer.cache_status(), REVALIDATED);
    let hit = world.get("cl-n6-a").await;
    assert_eq!(hit.cache_status(), "hit; ttl=120");
    let date = httpdate::fmt_http_date(world.gateway.parts.clock.wall());
    for answer in [&answer, &hit] {
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &first.body));
        for (name, want) in [
            ("age", "0"),
            ("cache-control", "max-age=120"),
            ("content-encoding", ""),
            ("content-language", "de"),
            ("content-type", first.field("content-type")),
            ("date", &date),
            ("etag", "\"1\""),
            ("last-modified", LATER),
            ("set-cookie", ""),
        ] {
            assert_eq!(answer.field(name), want, "{name}");
        }
    }
    for series in [
        "upstream_calls_total{outcome=\"ok\",reason=\"revalidate\"}",
        "cache_requests_total{result=\"revalidated\"}",
    ] {
        let series = format!("contacts_gateway_{series}");
        assert_eq!(world.gateway.metric(&series).await, 1.0, "{series}");
    }
}

#[tokio::test]
async fn a_304_refreshes_a_page_behind_its_readers_too() {
    let world = World::new().await;
    world.vendor.behave(with(telling("kept"), "etag", "\"1\""));
    world.get("cl-n6-a").await;
    world.vendor.behave(unchanged(&[("etag", "\"1\"")]));
    for _ in 0..3 {
        world.hand.forward(secs(FRESH));
        assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=-1");
        world.is_at_rest(true).await;
        let hit = world.get("cl-n6-a").await;
        assert_eq!((hit.cache_status(), hit.field("age")), ("hit; ttl=60", "0"));
        assert_eq!(hit.json()["message"], "kept");
        assert_eq!(conditions(&world), ["\"1\"", ""]);
    }
    let series = "contacts_gateway_upstream_calls_total{outcome=\"ok\",reason=\"revalidate\"}";
    assert_eq!(world.gateway.metric(series).await, 3.0);
}

#[tokio::test]
async fn a_tag_is_the_same_however_weak_it_is_called() {
    for (stored, told, same) in [
        ("\"1\"", "\"1\"", true),
        ("\"1\"", "W/\"1\"", true),
        ("W/\"1\"", "W/\"1\"", true),
        ("W/\"1\"", "\"1\"", true),
        ("\"1\"", "\"2\"", false),
        ("W/\"1\"", "W/\"2\"", false),
    ] {
        let world = World::new().await;
        world.vendor.behave(saying(&[("etag", stored)]));
        world.get("cl-n6-a").await;
        world.hand.forward(secs(USABLE));
        world.vendor.behave(unchanged(&[("etag", told)]));
        let want = if same { REVALIDATED } else { GARBLED };
        let answer = world.get("cl-n6-a").await;
        assert_eq!(answer.cache_status(), want, "{stored}, then {told}");
        let tag = if same { told } else { stored };
        assert_eq!(answer.field("etag"), tag);
    }
}

#[tokio::test]
async fn a_304_without_validators_is_about_the_page_that_was_asked_about() {
    for said in [("etag", "\"1\""), ("last-modified", MODIFIED)] {
        let world = World::new().await;
        world.vendor.behave(saying(&[said]));
        let tag = world.get("cl-n6-a").await.field("etag").to_owned();
        world.vendor.behave(unchanged(&[]));
        for _ in 0..2 {
            world.hand.forward(secs(USABLE));
            let answer = world.get("cl-n6-a").await;
            assert_eq!(answer.cache_status(), REVALIDATED);
            assert_eq!(answer.field(said.0), said.1);
            assert_eq!(answer.field("etag"), tag);
        }
    }
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_garbled() {
    let world = World::new().await;
    world.vendor.behave(unchanged(&[("etag", "\"1\"")]));
    world
        .get("cl-n6-a")
        .await
        .is_problem(502, "upstream-garbled");
    world.vendor.behave(Behaviour::default());
    let page = world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    for fields in [&[][..], &[("etag", "\"1\"")]] {
        world.vendor.behave(unchanged(fields));
        let old = world.get("cl-n6-a").await;
        assert_eq!(old.cache_status(), GARBLED);
        assert_eq!((old.field("age"), &old.body), ("3600", &page.body));
    }
}

#[tokio::test]
async fn a_200_replaces_the_page_and_what_it_is_known_by() {
    let world = World::new().await;
    let page = |text, tag| with(telling(text), "etag", tag);
    world
        .vendor
        .behave(with(page("one", "\"1\""), "last-modified", MODIFIED));
    world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(page("two", "\"2\""));
    let two = world.get("cl-n6-a").await;
    assert_eq!(two.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(two.json()["message"], "two");
    assert_eq!(
        (two.field("etag"), two.field("last-modified")),
        ("\"2\"", "")
    );
    world.hand.forward(secs(USABLE));
    world.get("cl-n6-a").await;
    assert_eq!(conditions(&world), ["\"2\"", ""]);
}

#[tokio::test]
async fn what_must_not_be_used_unasked_is_asked_about_every_time() {
    let world = World::new().await;
    let said = [("cache-control", "no-cache"), ("etag", "\"1\"")];
    world.vendor.behave(saying(&said));
    let first = world.get("cl-n6-a").await;
    world.vendor.behave(unchanged(&said));
    for n in 2..5 {
        let again = world.get("cl-n6-a").await;
        assert_eq!(again.cache_status(), REVALIDATED);
        assert_eq!((world.vendor.calls(), &again.body), (n, &first.body));
    }
}

#[tokio::test]
async fn a_304_that_forbids_keeping_the_page_ends_its_keeping() {
    let world = World::new().await;
    world.vendor.behave(saying(&[("etag", "\"1\"")]));
    let first = world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    let forbidding = [("etag", "\"1\""), ("cache-control", "no-store")];
    world.vendor.behave(unchanged(&forbidding));
    let last = world.get("cl-n6-a").await;
    assert_eq!(last.cache_status(), "fwd=stale; fwd-status=304");
    assert_eq!((last.status.as_u16(), &last.body), (200, &first.body));
    assert_eq!(kept(&world, "cl-n6-a").await, None);
}

#[tokio::test]
async fn a_failure_changes_nothing_of_what_a_page_is_known_by() {
    let world = World::new().await;
    world.vendor.behave(saying(&[("etag", "\"1\"")]));
    world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE));
    world.vendor.behave(with(
        answering(StatusCode::SERVICE_UNAVAILABLE),
        "etag",
        "\"2\"",
    ));
    for _ in 0..2 {
        assert_eq!(world.get("cl-n6-a").await.field("etag"), "\"1\"");
        assert_eq!(conditions(&world), ["\"1\"", ""]);
    }
}
