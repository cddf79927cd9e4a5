//! Fresh, usable, old, gone: by the settings, and by what the vendor says instead.

use std::time::Duration;

use contacts_gateway::vendor::Behaviour;
use futures_util::future::join_all;

use super::{FRESH, IF_ERROR, USABLE, failing, secs, telling, with};
use crate::support::{World, eventually, saying};

/// Longer than a busy machine takes for a few requests.
const SLOW: Duration = Duration::from_secs(2);

/// What becomes of a page while the vendor fails: `hit; ttl=N`, `old` or `gone`.
async fn standing(world: &World, list: &str) -> String {
    let answer = world.get(list).await;
    match (answer.status.as_u16(), answer.cache_status()) {
        (200, "fwd=stale; detail=upstream-failed") => "old".into(),
        (200, hit) => hit.into(),
        _ => {
            answer.is_problem(502, "upstream-failed");
            "gone".into()
        }
    }
}

async fn calls(world: &World, n: u64) {
    let so_many = async || (world.vendor.calls() == n).then_some(());
    eventually("the call begins", so_many).await;
}

#[tokio::test]
async fn a_fresh_page_is_served_from_memory_and_its_time_runs_down() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    for (later, age) in [(0, 0), (1, 1), (18, 19), (40, 59)] {
        world.hand.forward(secs(later));
        let hit = world.get("cl-n6-a").await;
        assert_eq!(hit.cache_status(), format!("hit; ttl={}", FRESH - age));
        assert_eq!(hit.field("age"), age.to_string());
    }
    world.is_at_rest(true).await;
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn a_usable_page_is_served_at_once_and_refreshed_once_behind_all_who_ask_meanwhile() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(FRESH));
    world.vendor.behave(Behaviour {
        delay: SLOW,
        ..telling("new")
    });
    let meanwhile = join_all((0..50).map(|_| world.get("cl-n6-a"))).await;
    for answer in meanwhile {
        assert_eq!(
            (answer.cache_status(), answer.field("age")),
            ("hit; ttl=-1", "60")
        );
        assert_ne!(answer.json()["message"], "new");
    }
    world.is_at_rest(true).await;
    assert_eq!(world.vendor.calls(), 2);
    let refreshed = world.get("cl-n6-a").await;
    assert_eq!(refreshed.cache_status(), "hit; ttl=60");
    assert_eq!(refreshed.json()["message"], "new");
    for (series, want) in [
        (
            "upstream_calls_total{outcome=\"ok\",reason=\"refresh\"}",
            1.0,
        ),
        ("cache_requests_total{result=\"stale\"}", 50.0),
        ("cache_requests_total{result=\"hit\"}", 1.0),
    ] {
        let series = format!("contacts_gateway_{series}");
        assert_eq!(world.gateway.metric(&series).await, want, "{series}");
    }
}

#[tokio::test]
async fn who_insists_on_a_fetch_joins_the_refresh_that_is_under_way() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(FRESH));
    world.vendor.behave(Behaviour {
        delay: SLOW,
        ..telling("new")
    });
    world.get("cl-n6-a").await;
    calls(&world, 2).await;
    let insists = [("cache-control", "no-cache")];
    let joined = world.get_with("cl-n6-a", &insists).await;
    assert_eq!(joined.json()["message"], "new");
    assert_eq!(
        joined.cache_status(),
        "fwd=stale; fwd-status=200; stored; collapsed"
    );
    world.is_at_rest(true).await;
    assert_eq!(world.vendor.calls(), 2);
}

#[tokio::test]
async fn no_refresh_begins_while_somebody_waits_for_a_fetch() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(FRESH));
    world.vendor.behave(Behaviour {
        delay: SLOW,
        ..telling("new")
    });
    let insists = [("cache-control", "no-cache")];
    let meanwhile = async {
        calls(&world, 2).await;
        world.get("cl-n6-a").await
    };
    let (waited, served) = tokio::join!(world.get_with("cl-n6-a", &insists), meanwhile);
    assert_eq!(waited.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(served.cache_status(), "hit; ttl=-1");
    world.is_at_rest(true).await;
    assert_eq!(world.vendor.calls(), 2);
}

#[tokio::test]
async fn a_refresh_that_failed_is_made_again_for_the_next_who_asks() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(FRESH));
    world.vendor.behave(failing());
    for n in 2..5 {
        // Refreshes are paced.
        world.hand.forward(Duration::from_millis(50));
        assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=-1");
        world.is_at_rest(true).await;
        assert_eq!(world.vendor.calls(), n);
    }
}

#[tokio::test]
async fn past_usable_a_caller_waits_for_the_vendors_answer() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(secs(USABLE) - Duration::from_millis(1));
    world.vendor.behave(Behaviour {
        times: Some(1),
        ..failing()
    });
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=-3539");
    world.is_at_rest(true).await;
    world.hand.forward(Duration::from_millis(1));
    world.vendor.behave(telling("new"));
    let waited = world.get("cl-n6-a").await;
    assert_eq!(waited.json()["message"], "new");
    assert_eq!(waited.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(waited.field("age"), "0");
}

#[tokio::test]
async fn past_stale_if_error_a_failure_is_a_failure() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.vendor.behave(failing());
    world
        .hand
        .forward(secs(IF_ERROR) - Duration::from_millis(1));
    assert_eq!(standing(&world, "cl-n6-a").await, "old");
    world.hand.forward(Duration::from_millis(1));
    assert_eq!(standing(&world, "cl-n6-a").await, "gone");
}

/// That a page which the vendor gives with these fields passes through these ages, once the vendor fails.
async fn passes(settings: &str, said: Behaviour, ages: &[(u64, &str)]) {
    let fields = format!("{:?}", said.headers);
    // Each in a world of its own: after some failures the account is left alone for a while.
    for (at, want) in ages {
        let world = World::with(settings).await;
        world.vendor.behave(said.clone());
        let first = world.get("cl-n6-a").await;
        world.vendor.behave(failing());
        let age: u64 = first.field("age").parse().unwrap();
        world.hand.forward(secs(at - age));
        let is = standing(&world, "cl-n6-a").await;
        assert_eq!(is, *want, "at {at}s of {fields}");
    }
}

#[tokio::test]
async fn the_settings_are_ages_all_counted_from_when_the_vendor_gave_the_page() {
    let settings = "[cache]\nfresh_for = \"10s\"\nusable_for = \"20s\"\nstale_if_error = \"30s\"";
    let ages = [
        (9, "hit; ttl=1"),
        (10, "hit; ttl=-1"),
        (19, "hit; ttl=-9"),
        (20, "old"),
        (29, "old"),
        (30, "gone"),
    ];
    passes(settings, saying(&[]), &ages).await;
    passes(settings, saying(&[("age", "7")]), &ages).await;
}

#[tokio::test]
async fn the_vendors_own_word_wins_over_the_settings() {
    let rows: [(&'static str, &[(u64, &str)]); 13] = [
        (
            "max-age=300",
            &[
                (299, "hit; ttl=1"),
                (300, "hit; ttl=-1"),
                (3_599, "hit; ttl=-3299"),
                (3_600, "old"),
                (86_399, "old"),
                (86_400, "gone"),
            ],
        ),
        ("max-age=7200", &[(7_199, "hit; ttl=1"), (7_200, "old")]),
        ("max-age=0", &[(0, "hit; ttl=-1"), (3_600, "old")]),
        (
            "max-age=200000",
            &[(199_999, "hit; ttl=1"), (200_000, "gone")],
        ),
        (
            "s-maxage=10, max-age=300",
            &[(9, "hit; ttl=1"), (10, "gone")],
        ),
        (
            "max-age=10, must-revalidate",
            &[(9, "hit; ttl=1"), (10, "gone")],
        ),
        ("must-revalidate", &[(59, "hit; ttl=1"), (60, "gone")]),
        (
            "max-age=10, proxy-revalidate, stale-while-revalidate=9, stale-if-error=9",
            &[(9, "hit; ttl=1"), (10, "gone")],
        ),
        ("no-cache", &[(0, "gone")]),
        (
            "max-age=10, stale-while-revalidate=20",
            &[(29, "hit; ttl=-19"), (30, "old"), (86_399, "old")],
        ),
        (
            "max-age=10, stale-if-error=20",
            &[(29, "hit; ttl=-19"), (30, "gone")],
        ),
        (
            "max-age=10, stale-while-revalidate=5, stale-if-error=20",
            &[(14, "hit; ttl=-4"), (15, "old"), (29, "old"), (30, "gone")],
        ),
        ("stale-if-error=0", &[(59, "hit; ttl=1"), (60, "gone")]),
    ];
    join_all(rows.map(|(value, ages)| {
        // With a tag, so that what may not be served is kept all the same.
        let said = saying(&[("cache-control", value), ("etag", "\"1\"")]);
        passes("", said, ages)
    }))
    .await;
}

#[tokio::test]
async fn expires_is_a_freshness_of_the_vendors_own() {
    let world = World::new().await;
    let expires = world.gateway.parts.clock.wall() + secs(120);
    let expires = httpdate::fmt_http_date(expires);
    world
        .vendor
        .behave(with(Behaviour::default(), "expires", &expires));
    world.get("cl-n6-a").await;
    world.hand.forward(secs(119));
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=1");
    world.hand.forward(secs(1));
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=-1");
    passes("", saying(&[("expires", "0")]), &[(0, "hit; ttl=-1")]).await;
}
