//! What replicas fetched while the store was away is everybody's once it is back.

use contacts_gateway::vendor::Behaviour;

use super::forgets::{by, lets_in, purge};
use super::pages::{page_keys, stored};
use super::*;
use crate::support::Folder;

#[tokio::test]
async fn a_page_that_was_fetched_while_the_store_was_away_is_there_for_all_when_it_is_back() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let settings = redis.shared()
        + "[cache]\nfresh_for = \"10s\"\nusable_for = \"20s\"\nstale_if_error = \"30s\"\n";
    let replicas = Replicas::start(2, &settings).await;
    replicas.see(2).await;
    redis.kill();
    replicas.are(&[false; 2]).await;
    let first = replicas.get(0, "cl-n6-a").await;
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    redis.start_again();
    replicas.see(2).await;
    stored(&redis, 1).await;
    let left: u64 = redis.cli(&["pttl", &page_keys(&redis)[0]]).parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left}");
    let other = replicas.get(1, "cl-n6-a").await;
    assert!(
        other.cache_status().starts_with("hit; ttl="),
        "{}",
        other.cache_status()
    );
    assert_eq!(other.body, first.body);
    assert_eq!(replicas.vendor.calls(), 1);
}

#[tokio::test]
async fn what_was_forgotten_while_the_store_was_away_does_not_come_back_with_it() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let replicas = Replicas::start(2, &redis.shared()).await;
    replicas.see(2).await;
    redis.kill();
    replicas.are(&[false; 2]).await;
    // One is forgotten where it was fetched, one where nobody knows of it; the third is fetched last.
    for (list, call) in [("cl-n6-a", 1), ("cl-n6-b", 2), ("cl-n6-c", 3)] {
        assert_eq!(call_of(&replicas.get(0, list).await), call);
    }
    assert_eq!(purge(&replicas.all[0], "cl-n6-a").await, 1);
    assert_eq!(purge(&replicas.all[1], "cl-n6-b").await, 0);
    redis.start_again();
    replicas.see(2).await;
    eventually("the others' forget is heard", async || {
        (replicas.all[0].parts.store.holds().0 == 1).then_some(())
    })
    .await;
    eventually("the store has the third", async || {
        let (path, only) = (path("cl-n6-c"), ("cache-control", "only-if-cached"));
        let last = replicas.all[1].send(Method::GET, &path, &[only]).await;
        (last.status == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(replicas.vendor.calls(), 3);
    assert_eq!(call_of(&replicas.get(1, "cl-n6-a").await), 4);
    assert_eq!(call_of(&replicas.get(1, "cl-n6-b").await), 5);
}

#[tokio::test]
async fn of_two_copies_the_newer_wins_whoever_comes_later() {
    let Some(redis) = Redis::start() else { return };
    let folder = Folder::new();
    let mut replicas = Replicas::start(1, &by(&redis, &folder, "late")).await;
    replicas.add(&redis.shared()).await;
    replicas.are(&[false, true]).await;
    for (replica, list, call) in [
        (0, "cl-n6-a", 1),
        (1, "cl-n6-a", 2),
        (1, "cl-n6-b", 3),
        (0, "cl-n6-b", 4),
        // Given after those.
        (0, "cl-n6-c", 5),
    ] {
        assert_eq!(call_of(&replicas.get(replica, list).await), call);
    }
    stored(&redis, 2).await;
    lets_in(&redis, "late");
    replicas.see(2).await;
    stored(&redis, 3).await;
    replicas.add(&redis.shared()).await;
    assert_eq!(call_of(&replicas.get(2, "cl-n6-a").await), 2);
    assert_eq!(call_of(&replicas.get(2, "cl-n6-b").await), 4);
    assert_eq!(replicas.vendor.calls(), 5);
}

#[tokio::test]
async fn what_was_fetched_by_a_clock_that_is_ahead_gives_way_once_the_stores_is_known() {
    let Some(redis) = Redis::start() else { return };
    let folder = Folder::new();
    let mut replicas = Replicas::start(0, "").await;
    let (clock, hand) = Clock::by_hand();
    hand.forward(Duration::from_secs(20));
    let settings = by(&redis, &folder, "late");
    let ahead = Running::before(&replicas.vendor.url(), &settings, clock).await;
    replicas.all.push(ahead);
    replicas.add(&redis.shared()).await;
    replicas.are(&[false, true]).await;
    assert_eq!(call_of(&replicas.get(0, "cl-n6-a").await), 1);
    // One more is under way when the store comes.
    replicas.vendor.behave(Behaviour {
        delay: Duration::from_millis(500),
        times: Some(1),
        ..Behaviour::default()
    });
    let (late, ()) = tokio::join!(replicas.get(0, "cl-n6-b"), async {
        eventually("it is under way", async || {
            (replicas.vendor.calls() == 2).then_some(())
        })
        .await;
        lets_in(&redis, "late");
    });
    assert_eq!(call_of(&late), 2);
    replicas.see(2).await;
    stored(&redis, 2).await;
    // From here on its clock goes: the store may have it wait for some milliseconds.
    let goes = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            hand.forward(ticks.period());
        }
    };
    tokio::select! {
        () = goes => {}
        () = each_is_newer(&replicas) => {}
    }
}

async fn each_is_newer(replicas: &Replicas) {
    for (list, first) in [("cl-n6-a", 1), ("cl-n6-b", 2)] {
        assert_eq!(call_of(&replicas.get(1, list).await), first);
        // Each is newer than the one before, whoever fetches it.
        for replica in [0, 1, 0] {
            let (path, calls) = (path(list), replicas.vendor.calls());
            let no_cache = [("cache-control", "no-cache")];
            let insisted = replicas.all[replica].send(Method::GET, &path, &no_cache);
            assert_eq!(call_of(&insisted.await), calls + 1);
            let after = replicas.get(replica, list).await;
            assert_eq!(call_of(&after), calls + 1, "{list} {replica}");
        }
    }
}
