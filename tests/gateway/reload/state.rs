//! What outlives a change of settings.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Message};
use futures_util::future::join_all;
use http::{Method, StatusCode};

use crate::support::callers::caller;
use crate::support::connection::{Connection, request};
use crate::support::living::{Living, app};
use crate::support::redis::Redis;
use crate::support::{ACCOUNT, STREAM, eventually, path_of};

const NEXT: &str = "canary-secret-of-tomorrow-4f6d8c3b1a0f9e8d7c6b";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Settings under which so many calls are allowed and nobody waits for one.
fn calls(calls: u32) -> String {
    format!("[allowance]\ncalls = {calls}\nfloor = 1\nreserve = 0\nqueue_deadline = \"0s\"")
}

impl Living {
    /// Asks for lists that nobody asked for before until it is refused a call, which comes after so many in all. Among
    /// them can be one for whoever was refused before.
    async fn is_spent_at(&self, calls: u64) {
        let vendor = &self.world.vendor;
        for n in 0.. {
            let list = format!("cl-n1-{calls}-{n}");
            let answer = self.world.get(&list).await;
            if answer.status != StatusCode::OK {
                answer.is_problem(503, "allowance-spent");
                break;
            }
        }
        eventually(&format!("{calls} calls"), async || {
            (vendor.calls() == calls).then_some(())
        })
        .await;
        let next = self.account().await["next_call_in_seconds"].as_f64();
        assert!(next > Some(0.0), "{next:?}");
    }

    async fn account(&self) -> serde_json::Value {
        let status = self.world.gateway.operate(Method::GET, "/status").await;
        status.json()["accounts"][ACCOUNT].clone()
    }
}

#[tokio::test]
async fn calls_that_were_made_count_under_every_allowance_that_follows() {
    let living = Living::with(&calls(3)).await;
    let _ = living.world.gateway.parts.accounts.desk(ACCOUNT);
    living.world.hand.forward(seconds(61));
    living.is_spent_at(3).await;
    living.settings(&calls(2)).await;
    living.is_spent_at(3).await;
    living.settings(&calls(5)).await;
    living.is_spent_at(5).await;
    living.settings(&calls(4)).await;
    living.is_spent_at(5).await;
    living.world.hand.forward(seconds(61));
    living.is_spent_at(9).await;
    // Of what was before the window nothing is known, so it counts as full.
    living.settings(&(calls(4) + "\nwindow = \"122s\"")).await;
    living.world.hand.forward(seconds(61));
    living.is_spent_at(9).await;
    living.world.hand.forward(seconds(61));
    living.is_spent_at(13).await;
}

#[tokio::test]
async fn other_replicas_leave_a_fetch_alone_for_as_long_as_calls_may_take_now() {
    let Some(redis) = Redis::start() else { return };
    let living = Living::with(&redis.shared()).await;
    living.world.get("cl-n6-a").await;
    let longer = redis.shared() + "[upstream]\ntimeout = \"60s\"\n";
    living.settings(&longer).await;
    living.world.vendor.behave(Behaviour {
        delay: seconds(60),
        ..Behaviour::default()
    });
    for account in [ACCOUNT, "67777ce93e25326494e90002"] {
        let path = path_of(STREAM, "cl-n6-b", account);
        let left = eventually("it is fetched", async || {
            let mut keys = redis.keys().into_iter();
            let lease = keys.find(|key| key.contains("lease:"))?;
            redis.cli(&["pttl", &lease]).parse::<i64>().ok()
        });
        let left = tokio::select! {
            _ = living.world.gateway.get(&path) => panic!("answered"),
            left = left => left,
        };
        assert!((50_000..=61_000).contains(&left), "{left} ms");
        redis.cli(&["flushall"]);
    }
}

#[tokio::test]
async fn what_was_learnt_from_a_refusal_is_kept_and_so_is_the_pause() {
    let living = Living::with("[allowance]\ncalls = 59").await;
    let _ = living.world.gateway.parts.accounts.desk(ACCOUNT);
    living.world.hand.forward(seconds(61));
    living.world.vendor.behave(Behaviour {
        refuse: Some(Message::PerMinute),
        times: Some(1),
        ..Behaviour::default()
    });
    let refused = living.world.get("cl-n6-a").await;
    refused.is_problem(503, "upstream-refused");
    let learnt = living.account().await["limit"].as_u64().unwrap();
    assert!(learnt < 59, "{learnt}");
    living.settings("[allowance]\ncalls = 80").await;
    let account = living.account().await;
    assert_eq!(account["limit"], learnt);
    assert_eq!(account["paused_for_seconds"], 60.0);
    living.settings("[allowance]\ncalls = 21").await;
    assert_eq!(living.account().await["limit"], 21);
}

#[tokio::test]
async fn a_caller_who_waits_goes_on_waiting_and_its_call_is_by_the_new_settings() {
    let living = Living::with_vendor("[allowance]\n", |vendor, _| vendor.apps.push(app(NEXT)));
    let living = living.await;
    let world = &living.world;
    let lists: Vec<_> = (0..19).map(|n| format!("cl-n1-{n}")).collect();
    join_all(lists.iter().map(|list| world.get(list))).await;
    let (answer, ()) = tokio::join!(world.get("cl-n6-a"), async {
        eventually("it waits", async || {
            (living.account().await["waiting"] == 1).then_some(())
        })
        .await;
        living.secret(NEXT).await;
        living
            .settings("[allowance]\nqueue_deadline = \"1s\"\n[cache]\nfresh_for = \"7s\"")
            .await;
        world.vendor.accept(vec![app(NEXT)]);
        assert_eq!(living.account().await["waiting"], 1);
        world.hand.forward(seconds(2));
    });
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.vendor.calls(), 20, "the new secret was used at once");
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=7");
}

#[tokio::test]
async fn a_caller_has_spent_of_its_quota_what_it_had_spent() {
    let quota =
        |kind: &str, per_minute: u32| caller("a", &format!("{kind}_per_minute = {per_minute}"));
    for kind in ["requests", "fetches"] {
        let living = Living::with(&quota(kind, 60)).await;
        let mut asked = 0;
        let mut left = async || {
            for n in 0.. {
                asked += 1;
                let answer = living.world.get_as("a", &format!("cl-n1-{asked}")).await;
                if answer.status != StatusCode::OK {
                    answer.is_problem(429, "quota-spent");
                    return n;
                }
            }
            unreachable!()
        };
        assert_eq!(left().await, 10);
        living
            .settings(&("cache.fresh_for = \"10s\"\n".to_owned() + &quota(kind, 60)))
            .await;
        assert_eq!(left().await, 0, "the quota is the same");
        living.settings(&quota(kind, 120)).await;
        assert_eq!(left().await, 10, "of 20 at once 10 are taken");
        living.settings(&quota(kind, 6)).await;
        assert_eq!(left().await, 0);
        living.world.hand.forward(seconds(10));
        assert_eq!(left().await, 1);
    }
}

#[tokio::test]
async fn pages_stay_and_a_fetch_that_is_under_way_lands_and_is_kept() {
    let living = Living::with("").await;
    let world = &living.world;
    world.get("cl-n6-a").await;
    world.vendor.behave(Behaviour {
        delay: Duration::from_secs(1),
        ..Behaviour::default()
    });
    let (answer, ()) = tokio::join!(world.get("cl-n6-b"), async {
        eventually("it is called", async || {
            (world.vendor.calls() == 2).then_some(())
        })
        .await;
        living
            .settings("cache.fresh_for = \"30s\"\nupstream.timeout = \"9s\"")
            .await;
    });
    assert_eq!(
        answer.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    for list in ["cl-n6-a", "cl-n6-b"] {
        assert_eq!(world.get(list).await.cache_status(), "hit; ttl=30");
    }
    assert_eq!(world.vendor.calls(), 2);
}

#[tokio::test]
async fn a_connection_stays_open_and_goes_by_the_new_settings_from_its_next_request_on() {
    let living = Living::with("").await;
    let mut connection = Connection::to(&living.world.gateway.url).await;
    let short = "cache.fresh_for = \"7s\"";
    let hosts = "listen.allowed_hosts = [\"other\"]";
    for (settings, status) in [(short, "200"), (hosts, "421"), (short, "200")] {
        living.settings(settings).await;
        connection.send(request("cl-n6-a")).await;
        let answer = connection.answer().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    assert_eq!(
        living
            .world
            .gateway
            .metric("contacts_gateway_connections")
            .await,
        1.0
    );
}
