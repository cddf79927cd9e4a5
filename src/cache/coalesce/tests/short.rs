//! What becomes of callers, and of what they wanted, while calls are short.

use super::super::super::test_pages::page;
use super::super::*;
use std::num::NonZeroU32;
use std::time::Duration;

use prometheus::IntCounter;

use super::bench::{Bench, got, settle, told, unkept, wanted};
use crate::clock::Hand;
use crate::contacts::{Allotment, Caller};

/// Somebody else made all calls of the window, and no more can go for most of it.
async fn spent() -> (Bench, Hand) {
    let (bench, hand) = Bench::short(CALLS as u32);
    for call in 0..CALLS {
        drop(bench.asks(&format!("cl-other-{call}")));
        bench.lands(call, Ok(page("other", &[]))).await;
    }
    (bench, hand)
}

async fn passes(hand: &Hand, seconds: u64) {
    hand.forward(Duration::from_secs(seconds));
    settle().await;
}

/// A caller who may begin one fetch a minute.
fn batch(bench: &Bench) -> Arc<Caller> {
    let name: Arc<str> = "batch".into();
    let refusals = IntCounter::new("refusals", "of its quota").unwrap();
    let (one, now) = (NonZeroU32::MIN, bench.now());
    Arc::new(Caller {
        name: name.clone(),
        share: one,
        may_refresh: false,
        fetches: Some(Allotment::new(name, "fetches", one, refusals, false, now)),
    })
}

fn by(caller: &Arc<Caller>, list: &str) -> Wanted {
    Wanted {
        caller: caller.clone(),
        ..wanted(list, None)
    }
}

/// Why a caller has got nothing.
async fn refused(caller: BoxFuture<'static, Result<Fetched, Error>>) -> &'static str {
    told(caller).await.unwrap_err().name()
}

const CALLS: usize = 10;

#[tokio::test]
async fn what_stays_wanted_is_fetched_though_who_came_back_for_it_hangs_up() {
    let (bench, hand) = spent().await;
    assert_eq!(refused(bench.asks("cl-1")).await, "allowance-spent");
    assert_eq!(bench.wanted(), 1);
    passes(&hand, 57).await;
    let mut again = bench.asks("cl-1");
    assert!((&mut again).now_or_never().is_none(), "its turn is near");
    drop(again);
    assert_eq!(bench.wanted(), 1);
    passes(&hand, 5).await;
    bench.lands(CALLS, Ok(page("one", &[]))).await;
    assert_eq!(told(bench.asks("cl-1")).await, got("one", true, true));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn what_is_fetched_later_for_a_caller_who_was_turned_away_is_of_its_quota() {
    let (bench, hand) = spent().await;
    let batch = batch(&bench);
    let paid = || bench.wants(by(&batch, "cl-paid"));
    assert_eq!(refused(paid()).await, "allowance-spent");
    for list in 0..20 {
        let more = bench.wants(by(&batch, &format!("cl-{list}")));
        assert_eq!(refused(more).await, "quota-spent");
    }
    assert_eq!(bench.wanted(), 1);
    assert_eq!(refused(paid()).await, "allowance-spent", "it is paid once");
    // Until no room is left for what the callers asked for in this one.
    for _window in 0..6 {
        passes(&hand, 61).await;
    }
    bench.lands(CALLS, Ok(page("paid", &[]))).await;
    assert_eq!(bench.calls().await, CALLS + 1);
    assert_eq!(told(paid()).await, got("paid", true, true));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn no_room_is_left_for_a_caller_who_has_no_fetches_left() {
    let (bench, hand) = Bench::short(CALLS as u32);
    for (call, list) in ["cl-1", "cl-2"].into_iter().enumerate() {
        drop(bench.asks(list));
        bench.lands(call, Ok(page("one", &[]))).await;
    }
    let batch = batch(&bench);
    drop(bench.wants(by(&batch, "cl-paid")));
    bench.lands(2, Ok(page("paid", &[]))).await;
    for list in 0..20 {
        let more = bench.wants(by(&batch, &format!("cl-more-{list}")));
        assert_eq!(refused(more).await, "quota-spent");
    }
    passes(&hand, 61).await;
    bench.serves("cl-1");
    bench.lands(3, Ok(page("fresh", &[]))).await;
    assert_eq!(bench.kept("cl-1").as_deref(), Some("fresh"));
}

#[tokio::test]
async fn who_has_no_fetches_left_waits_with_others_and_takes_nothing_from_them() {
    let (bench, hand) = spent().await;
    assert_eq!(refused(bench.asks("cl-1")).await, "allowance-spent");
    passes(&hand, 57).await;
    let batch = batch(&bench);
    batch.take_fetch(bench.now()).unwrap();
    let joined = bench.wants(by(&batch, "cl-1"));
    passes(&hand, 5).await;
    bench.lands(CALLS, Ok(page("one", &[]))).await;
    assert_eq!(told(joined).await, got("one", true, false));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_page_is_kept_unless_all_who_wait_for_it_want_nothing_kept() {
    for (second, kept) in [(unkept("cl-1"), None), (wanted("cl-1", None), Some("one"))] {
        // Whether both wait for their turn, or the second joins a fetch.
        for waits in [true, false] {
            let (bench, hand) = spent().await;
            passes(&hand, if waits { 57 } else { 61 }).await;
            let both = (bench.wants(unkept("cl-1")), bench.wants(second.clone()));
            passes(&hand, 5).await;
            bench.lands(CALLS, Ok(page("one", &[]))).await;
            let stored = kept.is_some();
            assert_eq!(told(both.0).await, got("one", stored, false), "{waits}");
            assert_eq!(told(both.1).await, got("one", stored, true), "{waits}");
            assert_eq!(bench.kept("cl-1").as_deref(), kept, "waits: {waits}");
            bench.is_at_rest().await;
        }
    }
}

#[tokio::test]
async fn what_is_fetched_when_nobody_waits_is_kept_whoever_wanted_it() {
    let (bench, hand) = spent().await;
    assert_eq!(
        refused(bench.wants(unkept("cl-1"))).await,
        "allowance-spent"
    );
    passes(&hand, 61).await;
    bench.lands(CALLS, Ok(page("one", &[]))).await;
    assert_eq!(bench.kept("cl-1").as_deref(), Some("one"));

    let first = bench.wants(unkept("cl-2"));
    let refusal = Error::UpstreamRefused {
        retry_after: Duration::from_secs(60),
        hourly: false,
    };
    bench.lands(CALLS + 1, Err(refusal)).await;
    assert_eq!(refused(first).await, "upstream-refused");
    passes(&hand, 61).await;
    bench.lands(CALLS + 2, Ok(page("two", &[]))).await;
    assert_eq!(bench.kept("cl-2").as_deref(), Some("two"));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_page_that_came_while_a_caller_waited_for_its_turn_costs_no_call() {
    let (bench, hand) = spent().await;
    assert_eq!(refused(bench.asks("cl-2")).await, "allowance-spent");
    passes(&hand, 57).await;
    let waits = bench.asks("cl-1");
    // By way of others: of what another replica has, or of a fetch with other fields.
    for list in ["cl-1", "cl-2"] {
        bench.keeps(list, &page("one", &[]));
    }
    passes(&hand, 5).await;
    assert_eq!(told(waits).await, got("one", true, true));
    // Those of the window are all there still.
    for call in CALLS..2 * CALLS {
        drop(bench.asks(&format!("cl-more-{call}")));
        bench.lands(call, Ok(page("more", &[]))).await;
    }
    for _window in 0..6 {
        passes(&hand, 61).await;
    }
    assert_eq!(bench.calls().await, 2 * CALLS);
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_page_that_came_and_will_not_do_for_all_who_wait_costs_one() {
    let (bench, hand) = spent().await;
    passes(&hand, 57).await;
    let waits = bench.asks("cl-1");
    let came = bench.keeps("cl-1", &page("one", &[]));
    let insists = bench.wants(wanted("cl-1", Some(came)));
    passes(&hand, 5).await;
    bench.lands(CALLS, Ok(page("two", &[]))).await;
    assert_eq!(told(waits).await, got("two", true, false));
    assert_eq!(told(insists).await, got("two", true, true));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_page_that_came_is_not_waited_for_although_another_replica_fetches_it_anew() {
    let (bench, _hand) = spent().await;
    bench.keeps("cl-1", &page("one", &[]));
    let flight = bench.is_elsewhere(wanted("cl-1", None));
    let waits = flight.land(false).boxed();
    assert_eq!(told(waits).await, got("one", true, true));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn who_passed_over_a_page_does_not_join_a_fetch_that_lands_with_it() {
    let (bench, hand) = spent().await;
    passes(&hand, 57).await;
    let waits = bench.asks("cl-1");
    let came = bench.keeps("cl-1", &page("one", &[]));
    hand.forward(Duration::from_secs(5));
    // It lets the first one's fetch go, which has not landed yet.
    let _other = bench.asks("cl-2");
    let insists = bench.wants(wanted("cl-1", Some(came)));
    bench.lands(CALLS + 1, Ok(page("two", &[]))).await;
    assert_eq!(told(waits).await, got("one", true, true));
    assert_eq!(told(insists).await, got("two", true, false));
}
