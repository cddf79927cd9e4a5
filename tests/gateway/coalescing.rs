//! One fetch per key at a time, whoever asks and whoever hangs up.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Stall};
use futures_util::future::join_all;
use http::StatusCode;

use crate::support::{World, eventually};

fn slow(delay: Duration) -> Behaviour {
    Behaviour {
        delay,
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn fifty_callers_at_once_cost_one_call() {
    let world = World::new().await;
    world.vendor.behave(slow(Duration::from_millis(200)));
    let answers = join_all((0..50).map(|_| world.get("cl-n6-a"))).await;
    assert_eq!(world.vendor.calls(), 1);
    assert!(
        answers
            .iter()
            .all(|a| a.status == StatusCode::OK && a.body == answers[0].body)
    );
    let leaders = answers
        .iter()
        .filter(|a| a.cache_status() == "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(leaders.count(), 1);
    let followers = answers
        .iter()
        .filter(|a| a.cache_status() == "fwd=uri-miss; fwd-status=200; stored; collapsed");
    assert_eq!(followers.count(), 49);
}

#[tokio::test]
async fn the_first_caller_hanging_up_harms_nobody() {
    let world = World::new().await;
    world.vendor.behave(slow(Duration::from_millis(300)));
    {
        let first = world.get("cl-n6-a");
        tokio::pin!(first);
        tokio::select! {
            _ = &mut first => panic!("answered before the vendor was"),
            () = eventually("the call has begun", async || (world.vendor.calls() == 1).then_some(())) => {}
        }
    }
    let second = world.get("cl-n6-a").await;
    assert_eq!(second.status, StatusCode::OK);
    assert_eq!(
        second.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored; collapsed"
    );
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn a_failed_fetch_answers_all_who_waited_once() {
    let world = World::with("[upstream]\ntimeout = \"300ms\"\nconnect_timeout = \"300ms\"").await;
    world.vendor.behave(Behaviour {
        stall: Some(Stall::BeforeHead),
        ..Behaviour::default()
    });
    let answers = join_all((0..20).map(|_| world.get("cl-n6-a"))).await;
    for answer in answers {
        answer.is_problem(504, "upstream-timed-out");
    }
    assert_eq!(world.vendor.calls(), 1);
}
