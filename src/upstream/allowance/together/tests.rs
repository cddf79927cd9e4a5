//! Over a real Redis.

use futures_util::poll;
use tokio_util::task::TaskTracker;

use super::super::tests::{seconds, settings};
use super::super::{Allowances, Permit};
use super::*;
use crate::clock::Clock;
use crate::contacts::{Api, ListKey};
use crate::fleet::Replica;
use crate::fleet::test_store::Store;
use crate::telemetry::metrics::Metrics;

type Name = (PageKey, Forwarded);

async fn desk(store: &Store) -> Arc<Desk<Name, ()>> {
    let shared = fleet::Settings {
        url: Some(format!("redis://127.0.0.1:{}", store.port).parse().unwrap()),
        username: String::new(),
        password_file: "".into(),
        ca_file: "".into(),
        encryption_key_file: "".into(),
        prefix: "gateway".into(),
        timeout: seconds(10.0),
    };
    let replica = Replica {
        address: None,
        memory: settings().window,
        clock: Clock::system(),
        metrics: Metrics::new().unwrap(),
        forgets: Box::new(|_| {}),
        holds: Box::new(|_, _, _| None),
        sets_right: Box::new(|_| {}),
    };
    let sharing = Sharing {
        fleet: Fleet::join(shared.read().unwrap(), replica).await,
        page: (|(key, sent): &Name| (key, sent)) as fn(&Name) -> (&PageKey, &Forwarded),
        lease: seconds(11.0),
    };
    let (clock, tasks) = (Clock::system(), TaskTracker::new());
    Allowances::among(settings(), seconds(3_600.0), clock, tasks, Some(sharing)).desk("a")
}

fn page(list: &str) -> Name {
    let key = PageKey {
        list: ListKey::new("st-1", list, "a").unwrap(),
        api: Api::V1,
        skip: 0,
        limit: None,
        extra: None,
    };
    (key, Forwarded::default())
}

/// A call that the store has let go.
async fn call(desk: &Arc<Desk<Name, ()>>, list: &str) -> (Call, Grant) {
    loop {
        match desk.ask_again(&page(list), true, 0).await {
            Ok(Decision::Go(grant)) => match desk.goes(true, grant) {
                Go::Call(call, Some(grant)) => return (call, grant),
                other => panic!("{other:?}"),
            },
            Ok(Decision::Join | Decision::Wait(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_is_told_that_another_fetches_a_page_hears_how_that_ends() {
    let Some(store) = Store::start() else { return };
    let (here, there) = (desk(&store).await, desk(&store).await);
    let (_, grant) = call(&here, "cl-1").await;
    let flying = loop {
        match there.ask_again(&page("cl-1"), true, 0).await {
            Ok(Decision::Flying(left, landings)) => break (left, landings),
            Ok(Decision::Join) => {}
            other => panic!("{other:?}"),
        }
    };
    let (left, mut landings) = flying;
    assert!(left <= seconds(11.0) && left > seconds(1.0), "{left:?}");
    let (key, sent) = page("cl-1");
    let fleet = &here.together.as_ref().unwrap().fleet;
    let released = fleet.release(&key, &sent, grant.start, "upstream-failed", false);
    released.await;
    let landing = landings.next().await.unwrap();
    assert_eq!(landing.problem.as_deref(), Some("upstream-failed"));
}

/// The vendor has refused a call, and the store did not hear of it, though it is there.
async fn refused_unheard(desk: &Arc<Desk<Name, ()>>) {
    let (call, _) = call(desk, "cl-refused").await;
    let now = desk.clock.now();
    let refused = Outcome::Refused(Refusal::Minute);
    desk.book().limit.ended(call, refused, now);
    let together = desk.together.as_ref().unwrap();
    together.joined.store(0, Relaxed);
}

#[tokio::test]
async fn the_end_of_another_call_takes_nothing_away_that_the_store_was_not_told() {
    let Some(store) = Store::start() else { return };
    let desk = desk(&store).await;
    let (_, grant) = call(&desk, "cl-other").await;
    refused_unheard(&desk).await;
    let answered = (Outcome::Answered, desk.clock.now());
    desk.clone().settle(grant, Some(answered)).await;
    assert!(desk.book().limit.pause().is_some(), "it is paused");
    assert_eq!(desk.book().limit.refusals(), 1);
}

#[tokio::test]
async fn whoever_asks_has_told_the_store_of_a_refusal() {
    let Some(store) = Store::start() else { return };
    let desk = desk(&store).await;
    let (other, grant) = call(&desk, "cl-other").await;
    let permit = Permit::new(&desk, other, Some(grant));
    refused_unheard(&desk).await;
    let asked = desk.ask_again(&page("cl-new"), true, 0).await;
    assert!(matches!(asked, Ok(Decision::Wait(_))), "{asked:?}");
    desk.together.as_ref().unwrap().joined.store(0, Relaxed);
    assert!(permit.another().await.is_none());
    assert!(desk.book().limit.pause().is_some(), "it is paused");
}

#[tokio::test]
async fn an_answer_takes_nothing_away_that_was_said_after_it_and_heard_before_it() {
    let Some(store) = Store::start() else { return };
    let (one, other) = (desk(&store).await, desk(&store).await);
    let together = one.together.as_ref().unwrap();
    let older = answered(&one).await;
    refused(&other).await;
    while one.book().limit.pause().is_none() {
        one.changed.notified().await;
    }
    together.take_over(&mut one.book(), &older, one.clock.now());
    assert!(one.book().limit.pause().is_some(), "it is paused");
}

#[tokio::test]
async fn whoever_joins_while_something_is_said_joins_again() {
    let Some(store) = Store::start() else { return };
    let (one, other) = (desk(&store).await, desk(&store).await);
    let together = one.together.as_ref().unwrap();
    let older = answered(&one).await;
    together.joined.store(0, Relaxed);
    let link = together.account.link().unwrap();
    let mut joining = Box::pin(one.join(together, link));
    assert!(poll!(&mut joining).is_pending());
    refused(&other).await;
    // Its answer has come before that, and is looked at after it.
    while !together.account.is_overtaken(&older) {
        tokio::task::yield_now().await;
    }
    joining.await.unwrap();
    assert!(one.book().limit.pause().is_some(), "it is paused");
}

/// What the store says once a call of this replica's was answered.
async fn answered(desk: &Arc<Desk<Name, ()>>) -> fleet::View {
    let (_, grant) = call(desk, "cl-answered").await;
    let account = &desk.together.as_ref().unwrap().account;
    let settled = account.settle(&grant.member, Ended::Answered, None).await;
    settled.unwrap().unwrap()
}

/// The vendor has refused a call of this replica's, and all hear of it.
async fn refused(desk: &Arc<Desk<Name, ()>>) {
    let (_, grant) = call(desk, "cl-refused").await;
    let refused = (Outcome::Refused(Refusal::Minute), desk.clock.now());
    desk.clone().settle(grant, Some(refused)).await;
}
