//! What becomes of callers, and of what they wanted, while calls are short.

use super::super::super::test_pages::page;
use super::super::*;
use super::bench::{Bench, got, settle, told};
use crate::clock::Hand;

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

fn is_turned_away(told: &Result<(String, bool, bool), Error>) -> bool {
    matches!(told, Err(Error::AllowanceSpent { .. }))
}

const CALLS: usize = 10;

#[tokio::test]
async fn what_stays_wanted_is_fetched_though_who_came_back_for_it_hangs_up() {
    let (bench, hand) = spent().await;
    assert!(is_turned_away(&told(bench.asks("cl-1")).await));
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
