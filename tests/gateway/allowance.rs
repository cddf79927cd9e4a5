//! Sixty calls a minute, shared by everybody: what callers and operators see of it.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Message};
use futures_util::future::join_all;
use http::{Method, StatusCode};

use crate::support::{ACCOUNT, STREAM, World, eventually, path, path_of};

mod late;

/// The defaults.
const PLAIN: &str = "[allowance]\n";
/// Whoever would have to wait is turned away.
const AT_ONCE: &str = "[allowance]\nqueue_deadline = \"0s\"\n";
const OTHER: &str = "67777ce93e25326494e90002";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Nothing was asked for, for so long that the calls before the start do not count any more.
async fn idle(settings: &str) -> World {
    let world = World::with(settings).await;
    let _ = world.gateway.parts.accounts.desk(ACCOUNT);
    world.hand.forward(seconds(61));
    world
}

fn refusing(times: Option<u32>, message: Message) -> Behaviour {
    Behaviour {
        refuse: Some(message),
        times,
        ..Behaviour::default()
    }
}

impl World {
    async fn spend(&self, calls: usize) {
        let lists = (0..calls).map(|n| format!("cl-n1-spent{n}"));
        let lists: Vec<_> = lists.collect();
        let answers = join_all(lists.iter().map(|list| self.get(list))).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    }

    async fn calls_become(&self, calls: u64) {
        eventually(&format!("{calls} calls"), async || {
            (self.vendor.calls() == calls).then_some(())
        })
        .await;
    }

    async fn account(&self, account: &str) -> serde_json::Value {
        let status = self.gateway.operate(Method::GET, "/status").await.json();
        status["accounts"][account].clone()
    }

    /// That it is refused, and when to come back.
    async fn is_spent(&self, list: &str, retry_after: &str) {
        let refused = self.get(list).await;
        refused.is_problem(503, "allowance-spent");
        assert_eq!(refused.field("retry-after"), retry_after);
    }
}

#[tokio::test]
async fn a_start_is_careful_and_who_comes_back_when_told_is_answered() {
    let world = World::with(AT_ONCE).await;
    world.spend(19).await;
    world.is_spent("cl-n6-a", "1").await;
    assert_eq!(world.vendor.calls(), 19);
    world.hand.forward(seconds(1));
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_caller_waits_for_its_turn_and_who_hangs_up_waits_no_more() {
    let world = World::with(PLAIN).await;
    world.spend(19).await;
    {
        let gone = world.get("cl-n6-b");
        tokio::pin!(gone);
        tokio::select! {
            _ = &mut gone => panic!("answered without a call"),
            () = eventually("it waits", async || (world.account(ACCOUNT).await["waiting"] == 1).then_some(())) => {}
        }
    }
    eventually("nobody waits", async || {
        (world.account(ACCOUNT).await["waiting"] == 0).then_some(())
    })
    .await;
    let (answer, ()) = tokio::join!(world.get("cl-n6-a"), async {
        eventually("it waits", async || {
            (world.account(ACCOUNT).await["waiting"] == 1).then_some(())
        })
        .await;
        world.hand.forward(seconds(1));
    });
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.vendor.calls(), 20, "none for who hung up");
}

#[tokio::test]
async fn old_pages_are_served_at_once_while_calls_are_short_and_too_old_ones_after_a_no() {
    let world = idle("[allowance]\ncalls = 3\nfloor = 1\nqueue_deadline = \"0s\"").await;
    world.get("cl-n6-a").await;
    world.hand.forward(seconds(100));
    world.spend(3).await;
    let stale = world.get("cl-n6-a").await;
    assert_eq!(stale.cache_status(), "hit; ttl=-40");
    world.hand.forward(seconds(7_200));
    world.calls_become(5).await;
    world.is_at_rest(true).await;
    world.hand.forward(seconds(7_200));
    let lists = ["cl-n1-x", "cl-n1-y", "cl-n1-z"];
    for list in lists {
        assert_eq!(world.get(list).await.status, StatusCode::OK);
    }
    let old = world.get("cl-n6-a").await;
    assert_eq!(old.status, StatusCode::OK);
    assert_eq!(old.cache_status(), "fwd=stale; detail=allowance-spent");
    world.is_spent("cl-n6-b", "61").await;
}

#[tokio::test]
async fn a_refusal_pauses_the_account_for_everybody_and_one_call_ends_the_pause() {
    let world = idle(AT_ONCE).await;
    world.vendor.behave(refusing(Some(1), Message::PerMinute));
    let refused = world.get("cl-n6-a").await;
    refused.is_problem(503, "upstream-refused");
    assert_eq!(refused.field("retry-after"), "60");
    for (later, retry_after) in [(0, "60"), (59, "1")] {
        world.hand.forward(seconds(later));
        world.is_spent("cl-n6-b", retry_after).await;
        world.is_spent("cl-n6-c", retry_after).await;
    }
    let account = world.account(ACCOUNT).await;
    assert_eq!(
        (&account["limit"], &account["refusals"]),
        (&42.into(), &1.into())
    );
    assert_eq!(account["paused_for_seconds"], 1.0);
    assert_eq!(account["why"], "paused by a refusal 59 s ago");
    let elsewhere = world.gateway.get(&path_of(STREAM, "cl-n6-a", OTHER)).await;
    assert_eq!(elsewhere.status, StatusCode::OK, "another account");
    assert_eq!(world.vendor.calls(), 2);
    world.vendor.behave(Behaviour {
        delay: Duration::from_millis(500),
        ..Behaviour::default()
    });
    world.hand.forward(seconds(1));
    world.calls_become(3).await;
    for list in ["cl-n6-x", "cl-n6-y"] {
        world.get(list).await.is_problem(503, "allowance-spent");
    }
    assert_eq!(world.vendor.calls(), 3, "exactly one call is out");
    eventually("the pause is over", async || {
        let account = world.account(ACCOUNT).await;
        (account["why"] == "learnt from a refusal 60 s ago").then_some(())
    })
    .await;
    let other = world.account(OTHER).await;
    assert_eq!(
        (&other["limit"], &other["refusals"]),
        (&59.into(), &0.into())
    );
}

#[tokio::test]
async fn a_refused_probe_doubles_the_pause_to_four_minutes_and_no_more() {
    for (message, pauses) in [
        (Message::PerMinute, [60_u16, 120, 240, 240]),
        (Message::Hourly, [300, 600, 1_200, 1_800]),
    ] {
        let world = idle(AT_ONCE).await;
        world.vendor.behave(refusing(None, message));
        world
            .get("cl-n6-a")
            .await
            .is_problem(503, "upstream-refused");
        for (calls, pause) in (1..).zip(pauses.map(u32::from)) {
            eventually("the pause has begun", async || {
                let paused_for = &world.account(ACCOUNT).await["paused_for_seconds"];
                (*paused_for == f64::from(pause)).then_some(())
            })
            .await;
            world.is_spent("cl-n6-b", &pause.to_string()).await;
            world.hand.forward(seconds(u64::from(pause) - 1));
            world.is_spent("cl-n6-b", "1").await;
            assert_eq!(world.vendor.calls(), calls);
            world.hand.forward(seconds(1));
            world.calls_become(calls + 1).await;
        }
    }
}

#[tokio::test]
async fn three_failures_in_a_row_are_a_rest_and_old_pages_are_served_meanwhile() {
    let world = idle(AT_ONCE).await;
    world.get("cl-n6-old").await;
    world.hand.forward(seconds(7_200));
    world.vendor.behave(Behaviour {
        status: Some(StatusCode::INTERNAL_SERVER_ERROR),
        ..Behaviour::default()
    });
    for list in ["cl-n6-a", "cl-n6-b", "cl-n6-c"] {
        world.get(list).await.is_problem(502, "upstream-failed");
    }
    let resting = world.get("cl-n6-d").await;
    resting.is_problem(503, "upstream-resting");
    assert_eq!(resting.field("retry-after"), "10");
    let old = world.get("cl-n6-old").await;
    assert_eq!(old.cache_status(), "fwd=stale; detail=upstream-resting");
    assert_eq!(world.vendor.calls(), 4);
    let account = world.account(ACCOUNT).await;
    assert_eq!(account["why"], "resting after 3 failures in a row");
    let paused = format!("contacts_gateway_allowance_paused{{account=\"{ACCOUNT}\"}}");
    assert_eq!(world.gateway.metric(&paused).await, 1.0);
    world.vendor.behave(Behaviour::default());
    world.hand.forward(seconds(10));
    world.calls_become(5).await;
    eventually("the rest is over", async || {
        (world.gateway.metric(&paused).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn operators_see_how_each_account_stands_and_quiet_ones_are_given_back() {
    let world = idle(PLAIN).await;
    world.spend(3).await;
    let account = world.account(ACCOUNT).await;
    let want = serde_json::json!({
        "limit": 59, "calls_in_window": 3, "next_call_in_seconds": 0.0, "paused_for_seconds": 0.0,
        "waiting": 0, "wanted": 0, "refusals": 0, "why": "as configured",
    });
    assert_eq!(account, want);
    for (gauge, value) in [("remaining", 56.0), ("limit", 59.0), ("paused", 0.0)] {
        let series = format!("contacts_gateway_allowance_{gauge}{{account=\"{ACCOUNT}\"}}");
        assert_eq!(world.gateway.metric(&series).await, value, "{gauge}");
    }
    world.is_at_rest(true).await;
    let purge = format!("/cache?stream={STREAM}");
    world.gateway.operate(Method::DELETE, &purge).await;
    world.hand.forward(seconds(122));
    world.gateway.get(&path_of(STREAM, "cl-n6-a", OTHER)).await;
    let status = world.gateway.operate(Method::GET, "/status").await.json();
    let accounts = status["accounts"].as_object().unwrap();
    assert_eq!(accounts.keys().collect::<Vec<_>>(), [OTHER]);
}

#[tokio::test]
async fn accounts_beyond_the_busiest_hundred_are_one_in_metrics() {
    let world = World::with(PLAIN).await;
    for n in 0..103 {
        let _ = world.gateway.parts.accounts.desk(&format!("a{n:03}"));
    }
    let series = |account| format!("contacts_gateway_allowance_limit{{account=\"{account}\"}}");
    assert_eq!(world.gateway.metric(&series("a099")).await, 59.0);
    assert_eq!(world.gateway.metric(&series("a100")).await, 0.0);
    assert_eq!(world.gateway.metric(&series("other")).await, 3.0 * 59.0);
}

#[tokio::test]
async fn misses_go_before_refreshes() {
    let world =
        idle("[allowance]\ncalls = 2\nreserve = 0\nfloor = 1\nqueue_deadline = \"30s\"").await;
    world.get("cl-n6-a").await;
    world.hand.forward(seconds(61));
    world.spend(2).await;
    world.get("cl-n6-a").await;
    let wanted = world.account(ACCOUNT).await;
    assert_eq!(wanted["wanted"], 1);
    world.hand.forward(seconds(40));
    let (miss, ()) = tokio::join!(world.get("cl-n6-b"), async {
        eventually("it waits", async || {
            (world.account(ACCOUNT).await["waiting"] == 1).then_some(())
        })
        .await;
        world.hand.forward(seconds(21));
    });
    assert_eq!(miss.status, StatusCode::OK);
    world.calls_become(5).await;
    let targets: Vec<_> = world
        .vendor
        .requests()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(targets[3..], [path("cl-n6-b"), path("cl-n6-a")]);
}

#[tokio::test]
async fn a_page_that_came_old_from_the_vendor_does_not_go_first_for_that() {
    let world =
        idle("[allowance]\ncalls = 2\nreserve = 0\nfloor = 1\nqueue_deadline = \"30s\"").await;
    let age = (http::header::AGE, http::HeaderValue::from(1_800));
    world.vendor.behave(Behaviour {
        headers: [age].into_iter().collect(),
        times: Some(1),
        ..Behaviour::default()
    });
    world.get("cl-n6-old").await;
    world.get("cl-n6-new").await;
    world.hand.forward(seconds(61));
    world.spend(2).await;
    for list in ["cl-n6-old", "cl-n6-new", "cl-n6-new"] {
        world.get(list).await;
    }
    assert_eq!(world.account(ACCOUNT).await["wanted"], 2);
    world.hand.forward(seconds(61));
    world.calls_become(5).await;
    assert_eq!(world.vendor.requests()[4].target, path("cl-n6-new"));
}

#[tokio::test]
async fn hits_do_not_wait_for_the_book() {
    let world = idle(PLAIN).await;
    world.get("cl-n6-a").await;
    let desk = world.gateway.parts.accounts.desk(ACCOUNT);
    world.is_at_rest(true).await;
    // Held by another thread, for as long as it takes.
    let (held, holding) = std::sync::mpsc::channel();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let book = desk.book();
        held.send(()).unwrap();
        let _ = over.recv_timeout(Duration::from_secs(10));
        drop(book);
    });
    holding.recv().unwrap();
    for _ in 0..10 {
        let hit = tokio::time::timeout(Duration::from_secs(5), world.get("cl-n6-a")).await;
        assert_eq!(hit.unwrap().cache_status(), "hit; ttl=60");
    }
    done.send(()).unwrap();
    holder.join().unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_dialled_again_only_where_a_call_is_free_for_it() {
    for (calls, problem) in [(2, true), (3, false)] {
        let settings = format!(
            "[allowance]\ncalls = {calls}\nreserve = 0\nfloor = 1\nqueue_deadline = \"0s\""
        );
        let world = idle(&settings).await;
        world.get("cl-n6-a").await;
        world
            .vendor
            .behave(serde_json::from_str(r#"{"cut": "when_reused"}"#).unwrap());
        let answer = world.get("cl-n6-b").await;
        if problem {
            answer.is_problem(502, "upstream-failed");
        } else {
            assert_eq!(answer.status, StatusCode::OK);
        }
        assert_eq!(world.account(ACCOUNT).await["calls_in_window"], calls);
        assert_eq!(world.account(ACCOUNT).await["limit"], calls);
    }
}
