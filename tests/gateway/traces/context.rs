//! Whose trace a request is in, and what of that goes on to the vendor.

use std::time::Duration;

use http::StatusCode;

use super::{FOLLOWED, NOT_FOLLOWED, PARENT, TRACE, Traced};
use crate::support::World;
use crate::support::collector::Kind;

const PROPAGATE: &str = "[upstream]\npropagate_trace = true\n";

#[tokio::test]
async fn whoever_is_followed_by_the_caller_is_followed_here() {
    let traced = Traced::at(0.0, "").await;
    let fields = [("traceparent", FOLLOWED), ("tracestate", "a=1,b=2")];
    traced.world.get_with("cl-n6-a", &fields).await;
    traced.get_in("cl-n6-b", NOT_FOLLOWED).await;
    traced.world.get("cl-n6-c").await;
    let spans = traced.spans().await;
    let request = spans.of(Kind::Server);
    assert_eq!((&*request.trace, &*request.parent), (TRACE, PARENT));
    assert_eq!(request.state, "a=1,b=2");
    assert!(spans.0.iter().all(|span| span.trace == TRACE));
}

#[tokio::test]
async fn whoever_is_not_followed_by_the_caller_is_not_followed_here() {
    let traced = Traced::at(1.0, "").await;
    traced.get_in("cl-n6-a", NOT_FOLLOWED).await;
    traced.get_in("cl-n6-a", NOT_FOLLOWED).await;
    assert!(traced.spans().await.0.is_empty());
}

#[tokio::test]
async fn a_malformed_traceparent_is_none_and_harms_nobody() {
    let malformed = [
        "",
        "what",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-zzf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ];
    let traced = Traced::new().await;
    for value in malformed {
        let answer = traced.get_in("cl-n6-a", value).await;
        assert_eq!(answer.status, StatusCode::OK, "{value}");
    }
    let twice = [("traceparent", FOLLOWED), ("traceparent", FOLLOWED)];
    traced.world.get_with("cl-n6-a", &twice).await;
    let spans = traced.spans().await;
    let requests = spans.requests();
    assert_eq!(requests.len(), malformed.len() + 1);
    for request in requests {
        assert_eq!(request.parent, "");
        assert_ne!(request.trace, TRACE);
    }
}

#[tokio::test]
async fn the_vendor_is_told_of_a_trace_only_where_the_settings_say_so() {
    let fields = [
        ("traceparent", FOLLOWED),
        ("tracestate", "a=1"),
        ("baggage", "b=2"),
    ];
    for (settings, told) in [("", false), (PROPAGATE, true)] {
        let traced = Traced::at(0.0, settings).await;
        traced.world.get_with("cl-n6-a", &fields).await;
        let seen = traced.world.vendor.requests().pop().unwrap().headers;
        let spans = traced.spans().await;
        assert!(!seen.contains_key("baggage"));
        let seen = ["traceparent", "tracestate"].map(|name| {
            let value = seen.get(name).map(|value| value.to_str().unwrap());
            value.map(str::to_owned)
        });
        if told {
            let call = &spans.of(Kind::Client).id;
            let parent = format!("00-{TRACE}-{call}-01");
            assert_eq!(seen, [Some(parent), Some("a=1".into())]);
        } else {
            assert_eq!(seen, [None, None]);
        }
    }
}

#[tokio::test]
async fn a_call_for_nobody_who_is_followed_says_that_too() {
    let traced = Traced::at(0.0, PROPAGATE).await;
    traced.get_in("cl-n6-a", NOT_FOLLOWED).await;
    traced.world.get("cl-n6-b").await;
    let seen = traced.world.vendor.requests();
    let [within, alone] = [0, 1].map(|n: usize| seen[n].headers["traceparent"].to_str().unwrap());
    assert!(within.starts_with(&format!("00-{TRACE}-")), "{within}");
    for told in [within, alone] {
        assert!(told.ends_with("-00"), "{told}");
    }
    assert!(traced.spans().await.0.is_empty());
}

#[tokio::test]
async fn gateways_of_one_program_keep_their_spans_apart() {
    let (one, other) = (Traced::new().await, Traced::new().await);
    one.get_in("cl-n6-a", FOLLOWED).await;
    other.world.get("cl-n6-a").await;
    one.get_in("cl-n6-a", FOLLOWED).await;
    let (one, other) = (one.spans().await, other.spans().await);
    assert_eq!((one.0.len(), other.0.len()), (5, 4));
    assert!(one.0.iter().all(|span| span.trace == TRACE));
    assert!(other.0.iter().all(|span| span.trace != TRACE));
}

#[tokio::test]
async fn without_a_collector_a_callers_trace_goes_through_as_it_came() {
    let world = World::with(PROPAGATE).await;
    world
        .get_with("cl-n6-a", &[("traceparent", FOLLOWED)])
        .await;
    world.get("cl-n6-b").await;
    // A refresh is in nobody's trace.
    world.hand.forward(Duration::from_secs(61));
    world
        .get_with("cl-n6-a", &[("traceparent", FOLLOWED)])
        .await;
    world.is_at_rest(true).await;
    let seen = world.vendor.requests();
    let seen: Vec<_> = seen
        .iter()
        .map(|seen| seen.headers.get("traceparent"))
        .collect();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].unwrap(), FOLLOWED);
    assert_eq!(seen[1..], [None, None]);
}
