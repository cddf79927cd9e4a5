//! A purge at one replica is every replica's.

use contacts_gateway::vendor::Behaviour;

use super::pages::{page_keys, stored};
use super::*;
use crate::support::Folder;
use crate::support::connection::{Connection, request};

pub(super) async fn purge(replica: &Running, list: &str) -> u64 {
    let purge = Method::from_bytes(b"PURGE").unwrap();
    let answer = replica.send(purge, &path(list), &[]).await;
    answer.json()["forgotten"].as_u64().unwrap()
}

#[tokio::test]
async fn a_purge_at_one_replica_is_seen_by_all() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(3, &redis.shared()).await;
    replicas.get(0, "cl-n6-other").await;
    for n in 0..3 {
        replicas.get(n, "cl-n6-a").await;
        stored(&redis, 2).await;
    }
    assert_eq!(replicas.vendor.calls(), 2);
    assert_eq!(purge(&replicas.all[0], "cl-n6-a").await, 1);
    assert_eq!(page_keys(&redis).len(), 1, "it does not stay in the store");
    for n in [1, 2, 0] {
        eventually("a replica hears of it", async || {
            (replicas.all[n].parts.store.holds().0 <= 1).then_some(())
        })
        .await;
        assert_eq!(call_of(&replicas.get(n, "cl-n6-a").await), 3, "replica {n}");
        stored(&redis, 2).await;
    }
    let other = replicas.get(1, "cl-n6-other").await;
    assert_eq!(call_of(&other), 1, "nothing else is forgotten");
}

#[tokio::test]
async fn a_replica_that_has_nothing_tells_how_much_there_was() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &redis.shared()).await;
    replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    assert_eq!(purge(&replicas.all[1], "cl-n6-a").await, 1);
    assert_eq!(purge(&replicas.all[1], "cl-n6-a").await, 0);
}

#[tokio::test]
async fn operators_forget_a_whole_stream_or_account_everywhere() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &redis.shared()).await;
    for (n, what) in [
        format!("stream={STREAM}"),
        format!("stream={STREAM}&account={ACCOUNT}"),
        format!("stream={STREAM}&list=cl-n6-a"),
    ]
    .iter()
    .enumerate()
    {
        let before = call_of(&replicas.get(0, "cl-n6-a").await);
        assert_eq!(before, n as u64 + 1);
        stored(&redis, 1).await;
        assert_eq!(call_of(&replicas.get(1, "cl-n6-a").await), before);
        replicas.all[1]
            .operate(Method::DELETE, &format!("/cache?{what}"))
            .await;
        eventually("the other forgets", async || {
            (replicas.all[0].parts.store.holds().0 == 0).then_some(())
        })
        .await;
    }
    assert_eq!(call_of(&replicas.get(0, "cl-n6-a").await), 4);
}

#[tokio::test]
async fn a_purge_that_a_replica_missed_holds_there_once_it_is_back() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &redis.shared()).await;
    replicas.see(2).await;
    assert_eq!(call_of(&replicas.get(0, "cl-n6-a").await), 1);
    stored(&redis, 1).await;
    assert_eq!(call_of(&replicas.get(1, "cl-n6-a").await), 1);
    // One of the two is cut off, and the purge is over before it can be back.
    let clients = redis.cli(&["client", "list", "type", "pubsub"]);
    let cut = clients.lines().next().unwrap();
    let id = cut.split([' ', '=']).nth(1).unwrap();
    redis.cli(&["client", "pause", "400", "write"]);
    redis.cli(&["client", "kill", "id", id]);
    let cut = eventually("one is cut off", async || {
        replicas
            .all
            .iter()
            .position(|replica| !replica.parts.fleet.standing().up)
    })
    .await;
    purge(&replicas.all[1 - cut], "cl-n6-a").await;
    replicas.see(2).await;
    assert_eq!(replicas.all[cut].parts.store.holds().0, 0);
    assert_eq!(call_of(&replicas.get(cut, "cl-n6-a").await), 2);
}

#[tokio::test]
async fn a_purge_while_the_store_is_away_is_everybodys_once_it_is_back_though_it_lost_everything() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let replicas = Replicas::start(2, &redis.shared()).await;
    replicas.see(2).await;
    replicas.get(0, "cl-n6-a").await;
    stored(&redis, 1).await;
    replicas.get(1, "cl-n6-a").await;
    redis.kill();
    replicas.are(&[false; 2]).await;
    assert_eq!(purge(&replicas.all[0], "cl-n6-a").await, 1);
    assert_eq!(
        call_of(&replicas.get(1, "cl-n6-a").await),
        1,
        "it cannot know"
    );
    redis.start_again();
    replicas.see(2).await;
    eventually("it knows", async || {
        (replicas.all[1].parts.store.holds().0 == 0).then_some(())
    })
    .await;
    assert_eq!(call_of(&replicas.get(1, "cl-n6-a").await), 2);
}

#[tokio::test]
async fn a_purge_whose_caller_hangs_up_while_the_store_stalls_is_everybodys() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(2, &redis.shared()).await;
    purged_while_it_stalls(&replicas, &redis).await;
    redis.signal("CONT");
    eventually("the other forgets", async || {
        (replicas.all[1].parts.store.holds().0 == 0).then_some(())
    })
    .await;
    eventually("it does not stay in the store", async || {
        page_keys(&redis).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_does_not_end_before_it_has_told_of_a_purge() {
    let Some(redis) = Redis::start() else { return };
    let mut replicas = Replicas::start(2, &redis.shared()).await;
    purged_while_it_stalls(&replicas, &redis).await;
    replicas.all[0].tell_to_leave();
    redis.signal("CONT");
    replicas.all[0].has_left().await;
    assert_eq!(page_keys(&redis), [""; 0]);
}

/// The caller of the first replica, whose store stalls, hangs up. Both had the page.
async fn purged_while_it_stalls(replicas: &Replicas, redis: &Redis) {
    replicas.see(2).await;
    for n in 0..2 {
        replicas.get(n, "cl-n6-a").await;
        stored(redis, 1).await;
    }
    let one = &replicas.all[0];
    redis.signal("STOP");
    let mut caller = Connection::to(&one.url).await;
    caller
        .send(request("cl-n6-a").replace("GET", "PURGE"))
        .await;
    eventually("it has begun", async || {
        (one.parts.store.holds().0 == 0).then_some(())
    })
    .await;
    drop(caller);
    eventually("nobody waits for it", async || {
        (one.metric("http_server_active_requests").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_store_that_was_emptied_is_told_again_what_was_forgotten() {
    let Some(redis) = Redis::start() else { return };
    let mut replicas = Replicas::start(1, &redis.shared()).await;
    purge(&replicas.all[0], "cl-n6-a").await;
    redis.cli(&["flushall"]);
    let forgets = "contacts-gateway:{fleet}:forgets";
    eventually("it is told", async || {
        (redis.cli(&["zcard", forgets]) == "1").then_some(())
    })
    .await;
    replicas.add(&redis.shared()).await;
    replicas.see(2).await;
    assert_eq!(call_of(&replicas.get(1, "cl-n6-a").await), 1);
}

const FORGETS: &str = "contacts-gateway:{fleet}:forgets";

/// From now on this user of the store's may do everything there.
pub(super) fn lets_in(redis: &Redis, user: &str) {
    let may = ["on", "nopass", "allkeys", "allchannels", "+@all"];
    redis.cli(&[&["acl", "setuser", user], &may[..]].concat());
}

fn keeps_out(redis: &Redis, user: &str) {
    redis.cli(&["acl", "setuser", user, "off"]);
    redis.cli(&["client", "kill", "user", user]);
}

/// Settings of a replica that is this user of the store's.
pub(super) fn by(redis: &Redis, folder: &Folder, user: &str) -> String {
    let password = folder.put("password", "any");
    redis.shared() + &format!("username = {user:?}\npassword_file = {password:?}\n")
}

/// Waits until a replica has so many pages in memory.
async fn holds(replica: &Running, pages: u64) {
    eventually(&format!("it holds {pages} pages"), async || {
        (replica.parts.store.holds().0 == pages).then_some(())
    })
    .await;
}

/// Waits until the store knows so many forgets.
async fn knows(redis: &Redis, forgets: u64) {
    eventually(&format!("the store knows {forgets} forgets"), async || {
        (redis.cli(&["zcard", FORGETS]) == forgets.to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_emptied_store_is_told_all_though_it_hears_of_a_new_purge_first() {
    let Some(redis) = Redis::start() else { return };
    let folder = Folder::new();
    lets_in(&redis, "late");
    let mut replicas = Replicas::start(1, &by(&redis, &folder, "late")).await;
    replicas.add(&redis.shared()).await;
    replicas.see(2).await;
    for list in ["cl-n6-a", "cl-n6-b"] {
        replicas.get(0, list).await;
    }
    purge(&replicas.all[1], "cl-n6-b").await;
    holds(&replicas.all[0], 1).await;
    keeps_out(&redis, "late");
    replicas.are(&[false, true]).await;
    purge(&replicas.all[1], "cl-n6-a").await;
    redis.cli(&["flushall"]);
    purge(&replicas.all[1], "cl-n6-c").await;
    knows(&redis, 3).await;
    lets_in(&redis, "late");
    replicas.see(2).await;
    holds(&replicas.all[0], 0).await;
    assert_eq!(call_of(&replicas.get(0, "cl-n6-a").await), 3);
}

#[tokio::test]
async fn an_empty_store_is_told_all_though_one_who_knows_of_nothing_is_back_first() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let folder = Folder::new();
    for user in ["late", "later"] {
        lets_in(&redis, user);
    }
    let mut replicas = Replicas::start(1, &by(&redis, &folder, "later")).await;
    replicas.add(&by(&redis, &folder, "late")).await;
    replicas.see(2).await;
    for list in ["cl-n6-a", "cl-n6-b"] {
        replicas.get(0, list).await;
    }
    purge(&replicas.all[1], "cl-n6-b").await;
    holds(&replicas.all[0], 1).await;
    keeps_out(&redis, "later");
    replicas.are(&[false, true]).await;
    purge(&replicas.all[1], "cl-n6-a").await;
    redis.kill();
    replicas.add(&redis.shared()).await;
    purge(&replicas.all[2], "cl-n6-c").await;
    redis.start_again();
    knows(&redis, 1).await;
    for user in ["late", "later"] {
        lets_in(&redis, user);
        knows(&redis, 3).await;
    }
    replicas.see(3).await;
    holds(&replicas.all[0], 0).await;
    assert_eq!(call_of(&replicas.get(0, "cl-n6-a").await), 3);
}

#[tokio::test]
async fn a_list_that_was_purged_often_while_the_store_was_away_is_told_once() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let replicas = Replicas::start(1, &redis.shared()).await;
    redis.kill();
    replicas.are(&[false]).await;
    for _ in 0..20 {
        purge(&replicas.all[0], "cl-n6-a").await;
    }
    redis.start_again();
    replicas.see(1).await;
    let commands = redis.cli(&["info", "commandstats"]);
    assert!(commands.contains("cmdstat_publish:calls=1,"), "{commands}");
}

#[tokio::test]
async fn nobody_waits_for_a_page_that_was_forgotten_while_another_replica_fetched_it() {
    let Some(redis) = Redis::start() else { return };
    // For longer than a caller has time for, nobody else fetches what one replica fetches.
    let settings = redis.shared() + "[upstream]\ntimeout = \"60s\"\n";
    let replicas = Replicas::start(2, &settings).await;
    replicas.see(2).await;
    replicas.vendor.behave(Behaviour {
        delay: Duration::from_secs(1),
        times: Some(1),
        ..Behaviour::default()
    });
    let is_under_way = async |replica: usize| {
        let tasks = &replicas.all[replica].parts.tasks;
        eventually("it asks", async || (!tasks.is_empty()).then_some(())).await;
    };
    let called = async || {
        eventually("it is fetched", async || {
            (replicas.vendor.calls() == 1).then_some(())
        })
        .await;
    };
    let second = async {
        called().await;
        replicas.get(1, "cl-n6-a").await
    };
    let purged = async {
        called().await;
        is_under_way(1).await;
        purge(&replicas.all[0], "cl-n6-a").await
    };
    let (first, second, _) = tokio::join!(replicas.get(0, "cl-n6-a"), second, purged);
    assert_eq!(
        (first.status, second.status),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!(replicas.vendor.calls(), 2);
}
