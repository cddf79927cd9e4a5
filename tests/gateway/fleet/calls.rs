//! One allowance and one fetch for all replicas.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use contacts_gateway::contacts::{Api, Forwarded, ListKey, PageKey};
use contacts_gateway::stack::Parts;
use contacts_gateway::vendor::Behaviour;

use super::pages::stored;
use super::*;
use crate::support::process::Serving;

/// The vendor's minute is six seconds, as everything else is ten times faster.
const TEN_TIMES_FASTER: &str = r#"
[allowance]
calls = 59
window = "6100ms"
reserve = 1
queue_deadline = "500ms"
pause = "6s"
[cache]
fresh_for = "1s"
usable_for = "360s"
[upstream]
timeout = "1s"
connect_timeout = "1s"
"#;

/// The same where there is a second for jitter, as there is by default: whatever else happens, what was let go in time must
/// not come too late because the machine is busy.
pub(super) fn with_a_second_for_jitter() -> String {
    TEN_TIMES_FASTER.replace("6100ms", "7s")
}

/// Calls that take two seconds at most, of which there are plenty.
const SHORT_CALLS: &str = r#"
[upstream]
timeout = "2s"
connect_timeout = "1s"
[allowance]
calls = 3000
window = "1s"
"#;

pub(super) fn six_seconds(vendor: &mut vendor::Settings) {
    vendor.limit.window = Duration::from_secs(6);
    vendor.delays = [5, 25, 60, 15].map(Duration::from_millis).into();
}

// On one thread the thousand would keep the replicas from saying that they are there for longer than a seat lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_replicas_with_a_hundred_cold_callers_each_cost_one_call() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(10, &redis.shared()).await;
    replicas.vendor.behave(slow(200));
    let asks = (0..1_000).map(|n| replicas.get(n % 10, "cl-n6-a"));
    for answer in join_all(asks).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(call_of(&answer), 1);
    }
    assert_eq!(replicas.vendor.calls(), 1);
}

// As above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_fetch_answers_those_who_wait_at_every_replica_once() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(5, &redis.shared()).await;
    replicas.vendor.behave(Behaviour {
        status: Some(StatusCode::INTERNAL_SERVER_ERROR),
        // Who comes after it does not wait for it: on a busy machine a hundred take long to come.
        ..slow(3_000)
    });
    let asks = (0..100).map(|n| replicas.get(n % 5, "cl-n6-a"));
    for answer in join_all(asks).await {
        answer.is_problem(502, "upstream-failed");
    }
    assert_eq!(replicas.vendor.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_replicas_that_want_more_never_overrun_the_allowance_and_leave_none_of_it() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared() + TEN_TIMES_FASTER;
    let replicas = Replicas::before(5, &settings, six_seconds).await;
    replicas.see(5).await;
    wanting(&replicas, Duration::from_secs(7)).await;
    let before = replicas.vendor.calls();
    // Two windows, so that it does not matter whether calls come evenly.
    wanting(&replicas, Duration::from_millis(12_200)).await;
    let made = replicas.vendor.calls() - before;
    let stats = replicas.vendor.stats();
    assert_eq!(stats.over_limit, 0, "{stats:?}");
    assert!(made * 100 >= 95 * 118, "{made} calls of 118");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_loses_everything_hangs_or_dies_overruns_no_allowance() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let settings = redis.shared().replace("\"2s\"", "\"50ms\"") + &with_a_second_for_jitter();
    let replicas = Replicas::before(3, &settings, six_seconds).await;
    replicas.see(3).await;
    wanting(&replicas, Duration::from_secs(7)).await;
    redis.cli(&["flushall"]);
    wanting(&replicas, Duration::from_secs(3)).await;
    redis.signal("STOP");
    wanting(&replicas, Duration::from_secs(4)).await;
    redis.signal("CONT");
    wanting(&replicas, Duration::from_secs(4)).await;
    redis.kill();
    wanting(&replicas, Duration::from_secs(7)).await;
    redis.start_again();
    wanting(&replicas, Duration::from_secs(7)).await;
    replicas.see(3).await;
    let stats = replicas.vendor.stats();
    assert_eq!(stats.over_limit, 0, "{stats:?}");
}

/// Twenty callers who ask for more pages than can be fetched, for so long. All that is answered is right.
pub(super) async fn wanting(replicas: &Replicas, for_: Duration) {
    let clock = Clock::system();
    let end = clock.now() + for_;
    let firsts = Mutex::new(HashMap::<String, String>::new());
    let ask = async |caller: usize| {
        let mut turn = caller;
        while clock.now() < end {
            turn = (turn * 21 + 13) % 400;
            let list = format!("cl-n6-{turn}");
            let answer = replicas.get(turn % replicas.all.len(), &list).await;
            match answer.status {
                StatusCode::OK => {
                    let first = answer.json()["data"]["results"][0]["_id"]
                        .as_str()
                        .unwrap()
                        .to_owned();
                    let seen = firsts
                        .lock()
                        .unwrap()
                        .entry(list)
                        .or_insert(first.clone())
                        .clone();
                    assert_eq!(first, seen, "the contacts of another list");
                    assert!(answer.field("age").parse::<u64>().unwrap() < 360);
                }
                _ => answer.is_problem(503, "allowance-spent"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    join_all((0..20).map(ask)).await;
    let firsts = firsts.into_inner().unwrap();
    let different: HashSet<_> = firsts.values().collect();
    assert_eq!(
        different.len(),
        firsts.len(),
        "two lists with the same contacts"
    );
}

#[tokio::test]
async fn a_pause_after_a_refusal_is_everybodys() {
    let Some(redis) = Redis::start() else { return };
    let replicas = Replicas::start(3, &(redis.shared() + "[allowance]\npause = \"30s\"\n")).await;
    replicas.get(0, "cl-n6-a").await;
    replicas.get(1, "cl-n6-b").await;
    replicas
        .vendor
        .spend_elsewhere(&ACCOUNT.parse().unwrap(), 60);
    replicas
        .get(0, "cl-n6-c")
        .await
        .is_problem(503, "upstream-refused");
    eventually("the others hear of it", async || {
        let status = replicas.all[1].operate(Method::GET, "/status").await.json();
        let account = &status["accounts"][ACCOUNT];
        (account["paused_for_seconds"].as_f64()? > 20.0 && account["refusals"] == 1).then_some(())
    })
    .await;
    replicas
        .get(1, "cl-n6-d")
        .await
        .is_problem(503, "allowance-spent");
    replicas
        .get(2, "cl-n6-e")
        .await
        .is_problem(503, "allowance-spent");
    assert_eq!(replicas.vendor.calls(), 3);
}

#[tokio::test]
async fn a_replica_that_dies_while_it_fetches_delays_the_others_no_longer_than_its_call_might_take()
{
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared() + SHORT_CALLS;
    let replicas = Replicas::start(1, &settings).await;
    let doomed = Serving::before(&replicas.vendor.url(), &settings).await;
    replicas.see(2).await;
    replicas.vendor.behave(Behaviour {
        times: Some(1),
        ..slow(60_000)
    });
    let list = path("cl-n6-a");
    let asks = async {
        tokio::select! {
            _ = doomed.get(&list) => panic!("answered"),
            () = eventually("it fetches", async || (replicas.vendor.calls() == 1).then_some(())) => {}
        }
    };
    asks.await;
    let (answer, ()) = tokio::join!(replicas.get(0, "cl-n6-a"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        doomed.program.signal("KILL");
    });
    // In time for its deadline, then; without an end of the lease it would be 504.
    assert_eq!((answer.status, call_of(&answer)), (StatusCode::OK, 2));
}

#[tokio::test]
async fn a_page_that_comes_late_does_not_take_the_place_of_one_that_was_fetched_after_it() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared() + SHORT_CALLS;
    let replicas = Replicas::start(1, &settings).await;
    let late = Serving::before(&replicas.vendor.url(), &settings).await;
    replicas.see(2).await;
    replicas.vendor.behave(Behaviour {
        times: Some(1),
        ..slow(500)
    });
    let list = path("cl-n6-a");
    let (first, second) = tokio::join!(late.get(&list), async {
        eventually("it fetches", async || {
            (replicas.vendor.calls() == 1).then_some(())
        })
        .await;
        late.program.signal("STOP");
        let second = replicas.get(0, "cl-n6-a").await;
        assert_eq!(second.status, StatusCode::OK, "{}", second.text());
        stored(&redis, 1).await;
        late.program.signal("CONT");
        second
    });
    assert_eq!(call_of(&second), 2);
    // Whether its caller still has an answer is a matter of moments. Whatever it brings, and whenever, it began before.
    drop(first);
    let Parts { fleet, clock, .. } = &replicas.all[0].parts;
    let (key, sent) = key("cl-n6-a");
    let there = fleet.page(&key, &sent).await.unwrap();
    let mut earlier = fleet.start(clock.now());
    earlier.version = there.version - 1;
    let mut late = there.clone();
    late.page.body = "late".into();
    fleet
        .keep(&key, late.clone(), earlier, Duration::from_secs(60))
        .await;
    assert_eq!(
        fleet.page(&key, &sent).await.unwrap().page.body,
        second.body
    );
    let later = fleet.start(clock.now());
    fleet.keep(&key, late, later, Duration::from_secs(60)).await;
    assert_eq!(
        fleet.page(&key, &sent).await.unwrap().page.body,
        "late",
        "this one began after it"
    );
}

/// The page of a list, as [`path`] asks for it.
fn key(list: &str) -> (PageKey, Forwarded) {
    let list = ListKey::new(STREAM, list, ACCOUNT).unwrap();
    let key = PageKey {
        list,
        api: Api::V1,
        skip: 0,
        limit: None,
        extra: None,
    };
    (key, Forwarded::default())
}

#[tokio::test]
async fn a_refresh_at_one_replica_is_every_replicas() {
    let Some(redis) = Redis::start() else { return };
    let settings = redis.shared()
        + "[cache]\nfresh_for = \"100ms\"\n[allowance]\nwindow = \"1s\"\nfloor = 1\n";
    let replicas = Replicas::before(4, &settings, |vendor| vendor.limit.calls = 1_000).await;
    for n in 0..4 {
        replicas.get(n, "cl-n6-a").await;
    }
    let before = replicas.vendor.calls();
    assert_eq!(before, 1);
    eventually("all serve a later page", async || {
        for n in 0..4 {
            if call_of(&replicas.get(n, "cl-n6-a").await) == 1 {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_page_that_another_replica_has_refreshed_is_taken_though_no_refresh_may_go() {
    let Some(redis) = Redis::start() else { return };
    // Two thirds of the calls count as made, and the rest is for callers who wait.
    let settings = redis.shared()
        + "[cache]\nfresh_for = \"100ms\"\n[allowance]\ncalls = 30\nreserve = 15\nwindow = \"1h\"\n";
    let replicas = Replicas::start(2, &settings).await;
    for list in ["cl-n6-wanted", "cl-n6-not-wanted"] {
        let path = path(list);
        let first = call_of(&replicas.get(0, list).await);
        eventually("the other has it", async || {
            let other =
                replicas.all[1].send(Method::GET, &path, &[("cache-control", "only-if-cached")]);
            (other.await.status == StatusCode::OK).then_some(())
        })
        .await;
        if list == "cl-n6-wanted" {
            eventually("it is no longer fresh there", async || {
                let other = replicas.get(1, list).await;
                other.cache_status().starts_with("hit; ttl=-").then_some(())
            })
            .await;
        }
        let no_cache = [("cache-control", "no-cache")];
        let insisted = replicas.all[0].send(Method::GET, &path, &no_cache);
        let second = call_of(&insisted.await);
        assert_eq!(second, first + 1);
        eventually("the other takes it", async || {
            (call_of(&replicas.get(1, list).await) == second).then_some(())
        })
        .await;
    }
    assert_eq!(replicas.vendor.calls(), 4);
}

fn slow(millis: u64) -> Behaviour {
    Behaviour {
        delay: Duration::from_millis(millis),
        ..Behaviour::default()
    }
}
