//! What the log says, and how often.

use std::time::{Duration, SystemTime};

use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{Behaviour, Stall};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::support::process::{Serving, ask};
use crate::support::{ACCOUNT, SECRET, STREAM, World, answering, path, path_of};

mod unread;

const SETTINGS: &str = "[telemetry]\nlog_format = \"json\"\n[allowance]\ncalls = 3000\n";

/// The vendor goes by the machine's clock, as the program does.
async fn world() -> World {
    World::with_vendor("", |vendor| vendor.clock = Clock::system()).await
}

/// Sends a request that brings its own id.
async fn send(serving: &Serving, method: Method, path: &str, id: &str) -> StatusCode {
    let url = format!("http://{}{path}", serving.callers);
    ask(method, &url, &[("x-request-id", id)]).await.status
}

/// All that it says until it has ended, line by line.
async fn end(mut serving: Serving) -> Vec<Value> {
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    let lines = ended.err.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_request<'a>(lines: &'a [Value], id: &str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| line["request.id"] == id)
        .collect()
}

fn sum(lines: &[&Value], field: &str) -> u64 {
    lines.iter().filter_map(|line| line[field].as_u64()).sum()
}

#[tokio::test]
async fn a_failed_request_is_one_event_that_tells_who_asked_for_what_and_a_hit_is_none() {
    let world = world().await;
    let serving = Serving::before(&world.vendor.url(), SETTINGS).await;
    for id in ["a-miss", "a-hit", "another-hit"] {
        assert_eq!(send(&serving, Method::GET, &path("cl-n6-a"), id).await, 200);
    }
    world
        .vendor
        .behave(answering(StatusCode::INTERNAL_SERVER_ERROR));
    let failed = send(&serving, Method::GET, &path("cl-n6-b"), "a-failure").await;
    assert_eq!(failed, 502);
    let lines = end(serving).await;
    for id in ["a-miss", "a-hit", "another-hit"] {
        assert!(of_request(&lines, id).is_empty(), "{id}");
    }
    let [failure] = *of_request(&lines, "a-failure") else {
        panic!("one event in {lines:#?}")
    };
    for (field, value) in [
        ("level", "WARN"),
        ("message", "a request failed"),
        ("caller", "anonymous"),
        ("stream", STREAM),
        ("problem", "upstream-failed"),
    ] {
        assert_eq!(failure[field], value, "{field}");
    }
    assert_eq!(failure["status"], 502);
    assert!(failure["took_ms"].is_u64() && failure["detail"].is_string());
    let at = failure["timestamp"].as_str().unwrap();
    let at = humantime::parse_rfc3339(at).unwrap();
    let apart = Clock::system()
        .wall()
        .duration_since(at)
        .unwrap_or_default();
    assert!(apart < Duration::from_secs(60), "{failure}");
    let calls: Vec<_> = lines
        .iter()
        .filter(|line| line["reason"] == "miss" && line["took_ms"].is_u64())
        .collect();
    let [good, bad] = *calls else {
        panic!("an event a call in {lines:#?}")
    };
    assert_eq!(
        (&good["level"], &good["status"]),
        (&"INFO".into(), &200.into())
    );
    assert_eq!(
        (&bad["level"], &bad["status"]),
        (&"WARN".into(), &500.into())
    );
    assert_eq!(bad["list.tag"], failure["list.tag"]);
    assert_ne!(bad["list.tag"], good["list.tag"]);
}

#[tokio::test]
async fn a_slow_request_is_one_event_and_a_slow_one_that_failed_is_no_second() {
    let world = world().await;
    let settings = SETTINGS.to_owned() + "[upstream]\nconnect_timeout = \"2s\"\ntimeout = \"3s\"\n";
    let serving = Serving::before(&world.vendor.url(), &settings).await;
    world.vendor.behave(Behaviour {
        delay: Duration::from_millis(1_010),
        ..Behaviour::default()
    });
    assert_eq!(
        send(&serving, Method::GET, &path("cl-n6-a"), "slow").await,
        200
    );
    world.vendor.behave(Behaviour {
        stall: Some(Stall::BeforeHead),
        ..Behaviour::default()
    });
    assert_eq!(
        send(&serving, Method::GET, &path("cl-n6-b"), "timed-out").await,
        504
    );
    let lines = end(serving).await;
    let [slow] = *of_request(&lines, "slow") else {
        panic!("one event in {lines:#?}")
    };
    assert_eq!(slow["message"], "a request was slow");
    assert!(slow["took_ms"].as_u64().unwrap() >= 1_000, "{slow}");
    let status = slow["cache.status"].as_str().unwrap();
    assert!(status.contains("fwd=uri-miss"), "{slow}");
    let [timed_out] = *of_request(&lines, "timed-out") else {
        panic!("one event in {lines:#?}")
    };
    assert_eq!(timed_out["problem"], "upstream-timed-out");
}

#[tokio::test]
async fn of_a_kind_ten_a_second_are_written_and_none_is_lost_in_the_count() {
    const REFUSED: u64 = 60;
    let world = world().await;
    let mut serving = Serving::before(&world.vendor.url(), SETTINGS).await;
    for n in 0..REFUSED {
        let id = format!("n-{n}");
        assert_eq!(
            send(&serving, Method::PUT, &path("cl-n6-a"), &id).await,
            405
        );
    }
    // Of another kind, which has its own ten.
    assert_eq!(
        send(&serving, Method::GET, "/elsewhere", "other").await,
        404
    );
    serving.program.line("\"request.id\":\"other\"").await;
    // Nobody asks any more, and yet:
    serving.program.line("there were more of these").await;
    let lines = end(serving).await;
    assert_eq!(of_request(&lines, "other").len(), 1);
    let of_problem = lines
        .iter()
        .filter(|l| l["problem"] == "method-not-allowed");
    let of_problem: Vec<_> = of_problem.collect();
    let (written, closing): (Vec<&Value>, Vec<&Value>) = of_problem
        .iter()
        .partition(|line| line["message"] == "refused a request");
    assert_eq!(
        written.len() as u64 + sum(&written, "suppressed") + sum(&closing, "suppressed"),
        REFUSED
    );
    assert!(closing.iter().all(|line| line["of"] == "refused a request"));
    let times: Vec<SystemTime> = written
        .iter()
        .map(|line| humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap())
        .collect();
    for (first, eleventh) in times.iter().zip(times.iter().skip(10)) {
        let apart = eleventh.duration_since(*first).unwrap();
        // The count is in milliseconds.
        assert!(apart >= Duration::from_millis(999), "{apart:?}");
    }
}

#[tokio::test]
async fn every_call_to_the_vendor_is_an_event_however_many_there_are() {
    const CALLS: usize = 40;
    let world = World::with_vendor("", |vendor| {
        vendor.clock = Clock::system();
        vendor.limit.calls = 1000;
    })
    .await;
    let serving = Serving::before(&world.vendor.url(), SETTINGS).await;
    let paths: Vec<_> = (0..CALLS)
        .map(|n| path_of(STREAM, &format!("cl-n6-{n}"), &format!("{ACCOUNT}-{n}")))
        .collect();
    let reads = paths.iter().map(|path| serving.get(path));
    for answer in futures_util::future::join_all(reads).await {
        assert_eq!(answer.status, 200);
    }
    let lines = end(serving).await;
    let calls = lines.iter().filter(|l| l["message"] == "called the vendor");
    assert_eq!(calls.count(), CALLS);
}

#[tokio::test]
async fn refused_credentials_are_an_error_since_only_a_person_mends_them() {
    let world = world().await;
    let serving = Serving::before(&world.vendor.url(), SETTINGS).await;
    world.vendor.behave(answering(StatusCode::UNAUTHORIZED));
    assert_eq!(
        send(&serving, Method::GET, &path("cl-n6-a"), "one").await,
        502
    );
    let lines = end(serving).await;
    let mut errors = lines.iter().filter(|line| line["level"] == "ERROR");
    let error = errors.next().unwrap();
    assert_eq!(error["message"], "a call to the vendor failed");
    assert_eq!(error["problem"], "credentials-refused");
    assert_eq!(errors.next(), None);
}

#[tokio::test]
async fn an_outage_is_told_and_what_was_asked_for_is_not() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let vendor = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let serving = Serving::before(&vendor, "[telemetry]\nlog = \"trace\"\n").await;
    for n in 0..5 {
        let id = format!("n-{n}");
        let status = send(&serving, Method::GET, &path("cl-marked-list"), &id).await;
        assert!([502, 503].contains(&status.as_u16()), "{status}");
    }
    let lines = end(serving).await;
    assert_eq!(of_request(&lines, "n-0")[0]["problem"], "upstream-failed");
    assert_eq!(of_request(&lines, "n-4")[0]["problem"], "upstream-resting");
    for line in lines {
        for private in ["cl-marked-list", ACCOUNT, SECRET, "eyJ"] {
            assert!(!line.to_string().contains(private), "{private} in {line}");
        }
    }
}
