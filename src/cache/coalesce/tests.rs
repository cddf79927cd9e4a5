//! The races of fetches, callers and forgets, each in the order that a test gives it.

mod bench;
mod short;

use http::StatusCode;

use self::bench::{Bench, Lands, got, told, wanted};
use super::super::test_pages::{key, page, sent};
use super::*;

#[tokio::test]
async fn all_who_ask_while_a_fetch_is_under_way_share_it() {
    let bench = Bench::new();
    let early: Vec<_> = (0..20).map(|_| bench.asks("cl-1")).collect();
    assert_eq!(bench.calls().await, 1);
    let late: Vec<_> = (0..20).map(|_| bench.asks("cl-1")).collect();
    bench.lands(0, Ok(page("one", &[]))).await;
    for (n, caller) in early.into_iter().chain(late).enumerate() {
        assert_eq!(told(caller).await, got("one", true, n > 0));
    }
    assert_eq!(bench.calls().await, 1);
    bench.is_at_rest().await;
}

#[tokio::test]
async fn what_another_wants_is_fetched_apart() {
    let bench = Bench::new();
    let plain = bench.asks("cl-1");
    let other = bench.asks("cl-2");
    let mut german = wanted("cl-1", None);
    german.forwarded = sent("accept-language", "de");
    let german = bench.wants(german);
    for (call, body) in ["plain", "other", "german"].into_iter().enumerate() {
        bench.lands(call, Ok(page(body, &[]))).await;
    }
    assert_eq!(told(plain).await, got("plain", true, false));
    assert_eq!(told(other).await, got("other", true, false));
    assert_eq!(told(german).await, got("german", true, false));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn whoever_hangs_up_and_whenever_the_call_is_made_once_and_answers_the_others() {
    for when in [
        "at once",
        "before the call",
        "during the call",
        "after it landed",
    ] {
        let bench = Bench::new();
        let mut first = Some(bench.asks("cl-1"));
        first.take_if(|_| when == "at once");
        let second = bench.asks("cl-1");
        if let Some(waiting) = &mut first {
            assert!(waiting.now_or_never().is_none());
        }
        first.take_if(|_| when == "before the call");
        assert_eq!(bench.calls().await, 1, "{when}");
        first.take_if(|_| when == "during the call");
        bench.lands(0, Ok(page("one", &[]))).await;
        drop(first);
        assert_eq!(told(second).await, got("one", true, true), "{when}");
        assert_eq!(bench.calls().await, 1, "{when}");
        bench.is_at_rest().await;
    }
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_any_more_is_kept_all_the_same() {
    let bench = Bench::new();
    drop(bench.asks("cl-1"));
    assert_eq!(bench.calls().await, 1);
    // Who ends the process waits for it.
    bench.tasks.close();
    assert!(bench.tasks.wait().now_or_never().is_none());
    bench.lands(0, Ok(page("one", &[]))).await;
    assert!(bench.tasks.wait().now_or_never().is_some());
    assert_eq!(bench.kept("cl-1").as_deref(), Some("one"));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_failure_answers_all_who_wait_once_and_the_next_starts_anew() {
    let bench = Bench::new();
    let waiting: Vec<_> = (0..20).map(|_| bench.asks("cl-1")).collect();
    bench.lands(0, Err(Error::UpstreamTimedOut)).await;
    for caller in waiting {
        assert_eq!(told(caller).await, Err(Error::UpstreamTimedOut));
    }
    assert_eq!(bench.calls().await, 1);
    bench.is_at_rest().await;
    let next = bench.asks("cl-1");
    bench.lands(1, Ok(page("two", &[]))).await;
    assert_eq!(told(next).await, got("two", true, false));
}

#[tokio::test]
async fn a_panic_answers_all_who_wait_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let waiting: Vec<_> = (0..20).map(|_| bench.asks("cl-1")).collect();
    bench.panics(0).await;
    for caller in waiting {
        assert_eq!(told(caller).await, Err(Error::Internal));
    }
    bench.is_at_rest().await;
    let next = bench.asks("cl-1");
    bench.lands(1, Ok(page("two", &[]))).await;
    assert_eq!(told(next).await, got("two", true, false));
    assert_eq!(bench.forget("cl-1"), 1);
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_forget_before_a_fetch_or_after_it_is_no_race() {
    let bench = Bench::new();
    assert_eq!(bench.forget("cl-1"), 0);
    let first = bench.asks("cl-1");
    bench.lands(0, Ok(page("one", &[]))).await;
    assert_eq!(told(first).await, got("one", true, false));
    assert_eq!(bench.forget("cl-1"), 1);
    assert_eq!(bench.kept("cl-1"), None);
    let second = bench.asks("cl-1");
    bench.lands(1, Ok(page("two", &[]))).await;
    assert_eq!(told(second).await, got("two", true, false));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn what_was_fetched_before_a_forget_reaches_those_who_waited_and_nobody_else() {
    let bench = Bench::new();
    let first = bench.asks("cl-1");
    assert_eq!(bench.calls().await, 1);
    assert_eq!(bench.forget("cl-1"), 0);
    let second = bench.asks("cl-1");
    assert_eq!(
        bench.calls().await,
        2,
        "who asks after a forget does not join"
    );
    bench.lands(0, Ok(page("one", &[]))).await;
    assert_eq!(told(first).await, got("one", false, false));
    assert_eq!(bench.kept("cl-1"), None, "it does not refill");
    let third = bench.asks("cl-1");
    assert_eq!(bench.calls().await, 2, "the second is still to be joined");
    bench.lands(1, Ok(page("two", &[]))).await;
    assert_eq!(told(second).await, got("two", true, false));
    assert_eq!(told(third).await, got("two", true, true));
    assert_eq!(bench.kept("cl-1").as_deref(), Some("two"));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn however_late_and_in_whatever_way_a_forgotten_fetch_ends_the_second_ones_page_stays() {
    type End = fn() -> Option<Lands>;
    let ends: [(&str, End); 5] = [
        ("a page", || Some(Ok(page("one", &[])))),
        ("a page not to be kept", || {
            Some(Ok(page("one", &[("cache-control", "no-store")])))
        }),
        ("the vendor's 5xx", || {
            let mut failed = page("one", &[]);
            failed.status = StatusCode::BAD_GATEWAY;
            Some(Ok(failed))
        }),
        ("a failure", || Some(Err(Error::UpstreamTimedOut))),
        ("a panic", || None),
    ];
    for (name, end) in ends {
        let bench = Bench::new();
        let first = bench.asks("cl-1");
        assert_eq!(bench.calls().await, 1);
        bench.forget("cl-1");
        let second = bench.asks("cl-1");
        bench.lands(1, Ok(page("two", &[]))).await;
        assert_eq!(told(second).await, got("two", true, false), "{name}");
        match end() {
            Some(end) => bench.lands(0, end).await,
            None => bench.panics(0).await,
        }
        assert!(told(first).await.map_or(true, |(_, stored, _)| !stored));
        assert_eq!(bench.kept("cl-1").as_deref(), Some("two"), "{name}");
        assert_eq!(bench.forget("cl-1"), 1, "{name}");
        bench.is_at_rest().await;
    }
}

#[tokio::test]
async fn each_forget_divides_those_who_asked_before_from_those_who_ask_after() {
    let bench = Bench::new();
    let mut waiting = Vec::new();
    for round in 1..=4 {
        waiting.push((bench.asks("cl-1"), bench.asks("cl-1")));
        assert_eq!(bench.calls().await, round);
        if round < 4 {
            bench.forget("cl-1");
        }
    }
    // The latest in the middle: only its page may be in memory, before and after.
    for call in [1, 3, 0, 2] {
        bench.lands(call, Ok(page(&call.to_string(), &[]))).await;
    }
    for (call, (own, joined)) in waiting.into_iter().enumerate() {
        let (body, stored) = (call.to_string(), call == 3);
        assert_eq!(told(own).await, got(&body, stored, false));
        assert_eq!(told(joined).await, got(&body, stored, true));
    }
    assert_eq!(bench.kept("cl-1").as_deref(), Some("3"));
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_fetch_that_landed_since_the_look_up_costs_no_second_call() {
    let bench = Bench::new();
    let first = bench.asks("cl-1");
    bench.lands(0, Ok(page("one", &[]))).await;
    drop(first);
    let one = bench.entry("cl-1");
    // This caller had looked when there was nothing.
    assert_eq!(told(bench.asks("cl-1")).await, got("one", true, true));
    assert_eq!(bench.calls().await, 1);
    // These had found the page, which would not do: only the first of them makes a call.
    let second = bench.wants(wanted("cl-1", one.clone()));
    bench.lands(1, Ok(page("two", &[]))).await;
    assert_eq!(told(second).await, got("two", true, false));
    let third = bench.wants(wanted("cl-1", one));
    assert_eq!(told(third).await, got("two", true, true));
    assert_eq!(bench.calls().await, 2);
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_page_that_goes_while_it_is_being_renewed_is_replaced_all_the_same() {
    let bench = Bench::new();
    let first = bench.asks("cl-1");
    bench.lands(0, Ok(page("one", &[]))).await;
    drop(first);
    let one = bench.entry("cl-1");
    let renewing = bench.wants(wanted("cl-1", one));
    assert_eq!(bench.calls().await, 2);
    bench.store.evict(&key("cl-1"));
    assert_eq!(bench.kept("cl-1"), None);
    let other = bench.asks("cl-1");
    bench.lands(1, Ok(page("two", &[]))).await;
    assert_eq!(told(renewing).await, got("two", true, false));
    assert_eq!(told(other).await, got("two", true, true));
    assert_eq!(bench.kept("cl-1").as_deref(), Some("two"));
    assert_eq!(bench.forget("cl-1"), 1);
    bench.is_at_rest().await;
}

#[tokio::test]
async fn a_page_in_memory_gives_way_to_what_the_vendor_says_now_and_to_nothing_else() {
    let failed = StatusCode::SERVICE_UNAVAILABLE;
    let rows: [(&str, bool, StatusCode, &[_], Option<&str>); 5] = [
        ("a new page", false, StatusCode::OK, &[], Some("two")),
        (
            "a page not to be kept",
            false,
            StatusCode::OK,
            &[("cache-control", "private")],
            None,
        ),
        ("a failure", false, failed, &[], Some("one")),
        (
            "a failure that may be kept",
            false,
            failed,
            &[("cache-control", "max-age=5")],
            Some("one"),
        ),
        (
            "a caller's no-store",
            true,
            StatusCode::OK,
            &[],
            Some("one"),
        ),
    ];
    for (what, no_store, status, fields, kept) in rows {
        let bench = Bench::new();
        let first = bench.asks("cl-1");
        bench.lands(0, Ok(page("one", &[]))).await;
        drop(first);
        let known = bench.entry("cl-1");
        let next = bench.wants(Wanted {
            no_store,
            ..wanted("cl-1", known)
        });
        let two = Page {
            status,
            ..page("two", fields)
        };
        bench.lands(1, Ok(two)).await;
        let stored = kept == Some("two");
        assert_eq!(told(next).await, got("two", stored, false), "{what}");
        assert_eq!(bench.kept("cl-1").as_deref(), kept, "{what}");
        bench.is_at_rest().await;
    }
}
