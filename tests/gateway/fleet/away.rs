//! Without a store each replica goes on alone, and comes back by itself.

use super::*;
use crate::support::redis::{free_port, shared};

#[tokio::test]
async fn status_and_metrics_tell_how_the_replicas_stand() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &redis.shared()).await;
    replicas.see(2).await;
    let status = replicas.all[0].operate(Method::GET, "/status").await.json();
    assert_eq!(
        status["shared"],
        serde_json::json!({ "configured": true, "up": true, "replicas": 2 })
    );
    assert_eq!(
        replicas.all[0].metric("contacts_gateway_shared_up").await,
        1.0
    );
}

#[tokio::test]
async fn a_replica_that_leaves_in_order_is_not_waited_for() {
    let Some(redis) = Redis::start() else { return };
    let mut replicas = Replicas::start(3, &redis.shared()).await;
    replicas.see(3).await;
    let mut leaving = replicas.all.pop().unwrap();
    leaving.tell_to_leave();
    // Sooner than one that has died would be missed.
    eventually("it has no seat any more", async || {
        (redis.cli(&["zcard", "contacts-gateway:{fleet}:seats"]) == "2").then_some(())
    })
    .await;
    replicas.see(2).await;
}

#[tokio::test]
async fn a_gateway_whose_store_was_never_there_serves_and_tells_so() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let replicas = Replicas::start(1, &shared(&url)).await;
    assert_eq!(replicas.get(0, "cl-n6-a").await.status, StatusCode::OK);
    assert!(
        replicas
            .get(0, "cl-n6-a")
            .await
            .cache_status()
            .starts_with("hit")
    );
    let status = replicas.all[0].operate(Method::GET, "/status").await.json();
    assert_eq!(
        status["shared"],
        serde_json::json!({ "configured": true, "up": false, "replicas": 1 })
    );
    assert_eq!(
        replicas.all[0].operate(Method::GET, "/ready").await.status,
        StatusCode::OK
    );
    let errors = "contacts_gateway_shared_errors_total{operation=\"connect\"}";
    assert!(replicas.all[0].metric(errors).await >= 1.0);
}

#[tokio::test]
async fn a_store_that_hangs_or_dies_under_load_fails_no_request_and_is_used_again_by_itself() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let settings = redis.shared().replace("\"2s\"", "\"50ms\"")
        + "[allowance]\ncalls = 3000\nwindow = \"2s\"\nqueue_deadline = \"12s\"\n";
    let replicas = Replicas::before(3, &settings, |vendor| vendor.limit.calls = 100_000).await;
    replicas.see(3).await;
    for how in ["STOP", "KILL"] {
        let load = async |part: &str| load(&replicas, &format!("{how}-{part}")).await;
        load("before").await;
        tokio::join!(load("during"), async { redis.signal(how) });
        replicas.are(&[false; 3]).await;
        load("away").await;
        match how {
            "STOP" => redis.signal("CONT"),
            _ => redis.start_again(),
        }
        tokio::join!(load("returning"), replicas.are(&[true; 3]));
        load("after").await;
    }
    replicas.see(3).await;
}

#[tokio::test]
async fn a_fleet_that_has_just_started_answers_misses_though_its_store_dies_or_hangs() {
    for how in ["KILL", "STOP"] {
        let Some(redis) = Redis::start() else { return };
        let settings = redis.shared().replace("\"2s\"", "\"50ms\"");
        let replicas = Replicas::start(3, &settings).await;
        replicas.see(3).await;
        redis.signal(how);
        for (replica, list) in (0..3).flat_map(|n| [(n, "a"), (n, "b")]) {
            let answer = replicas
                .get(replica, &format!("cl-n6-{list}{replica}"))
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{how}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_store_that_has_died_for_all_is_not_waited_for() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared() + "[listen]\ndeadline = \"5s\"\n";
    let mut replicas = Replicas::start(1, &settings).await;
    // The time at which the others are sure to know never comes.
    let (clock, _hand) = Clock::by_hand();
    let url = replicas.vendor.url();
    replicas
        .all
        .push(Running::before(&url, &settings, clock).await);
    replicas.see(2).await;
    redis.signal("KILL");
    replicas.are(&[false; 2]).await;
    let answer = replicas.get(1, "cl-n6-a").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[tokio::test]
async fn nobody_is_refused_before_it_is_known_whether_the_store_has_died_for_all() {
    for _ in 0..5 {
        let Some(redis) = Redis::start() else { return };
        // Too short to wait until the others are sure to know that one is cut off alone.
        let settings = redis.shared() + "[allowance]\nqueue_deadline = \"2s\"\n";
        let replicas = Replicas::start(2, &settings).await;
        replicas.see(2).await;
        redis.signal("KILL");
        for (replica, list) in [(0, "a"), (1, "b"), (0, "c"), (1, "d")] {
            let answer = replicas.get(replica, &format!("cl-n6-{list}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{list}: {}", answer.text());
        }
    }
}

/// Three hundred requests for a hundred lists that nobody asked for before, all at once.
async fn load(replicas: &Replicas, part: &str) {
    let asks = (0..300).map(|n| async move {
        let list = format!("cl-n6-{part}-{}", n % 100);
        replicas.get(n % replicas.all.len(), &list).await
    });
    for answer in join_all(asks).await {
        assert_eq!(answer.status, StatusCode::OK, "{part}: {}", answer.text());
    }
}
