//! Collectors that are slow, refuse or are gone: callers never notice.

use std::fs;

use contacts_gateway::vendor::Behaviour;
use futures_util::future::join_all;
use http::{Method, StatusCode};

use super::{exporting, vendor};
use crate::support::collector::Collector;
use crate::support::process::{Program, Serving};
use crate::support::{World, answering, eventually, path};

/// So many spans fit into the queue, and leave it in such batches, soon.
const SMALL: [(&str, &str); 4] = [
    ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50"),
    ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
];

/// A gateway whose every request is traced, after the first one, which makes [`FIRST`] spans; and its vendor.
async fn before(collector: &str, env: &[(&str, &str)]) -> (World, Serving) {
    let world = vendor().await;
    let settings = exporting(collector, 1.0);
    let serving = Serving::with_env(&world.vendor.url(), &settings, env).await;
    let first = serving.get(&path("cl-n6-a")).await;
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    (world, serving)
}

const FIRST: usize = 4;

/// So many hits, at most ten at once, all of which are answered.
async fn hits(serving: &Serving, many: usize) {
    for _ in 0..many / 10 {
        let answers = join_all((0..10).map(|_| async { serving.get(&path("cl-n6-a")).await }));
        for answer in answers.await {
            assert_eq!(answer.status, StatusCode::OK);
        }
    }
}

async fn spans(serving: &Serving, outcome: &str) -> u64 {
    let text = serving.operate(Method::GET, "/metrics").await.text();
    let series = format!("contacts_gateway_spans_total{{outcome={outcome:?}}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_collector_that_refuses_costs_spans_and_nothing_else() {
    for status in [400, 500, 503, 429] {
        let collector = Collector::answering(status).await;
        let (_world, mut serving) = before(&collector.url, &SMALL).await;
        hits(&serving, 30).await;
        eventually("spans have failed", async || {
            (spans(&serving, "failed").await > 0).then_some(())
        })
        .await;
        assert_eq!(spans(&serving, "exported").await, 0);
        hits(&serving, 30).await;
        let line = serving.program.line("spans cannot be exported").await;
        assert!(line.contains(&status.to_string()), "{line}");
    }
}

#[tokio::test]
async fn spans_that_a_collector_takes_and_does_not_want_have_failed() {
    let collector = Collector::start().await;
    collector.rejects(3);
    let (_world, serving) = before(&collector.url, &SMALL).await;
    collector.has(FIRST).await;
    let requests = eventually("all are counted", async || {
        let counted = spans(&serving, "failed").await + spans(&serving, "exported").await;
        (counted == FIRST as u64).then(|| collector.requests())
    });
    // Of a request with fewer spans than that, all of them.
    let fewest = if requests.await == 1 { 3 } else { FIRST as u64 };
    assert!(spans(&serving, "failed").await >= fewest.min(3));
}

#[tokio::test]
async fn a_collector_that_is_gone_and_comes_back_is_used_again() {
    let collector = Collector::start().await;
    let url = collector.url.clone();
    let (_world, mut serving) = before(&url, &SMALL).await;
    hits(&serving, 30).await;
    collector.has(FIRST + 30).await;
    collector.ends().await;
    hits(&serving, 30).await;
    serving.program.line("spans cannot be exported").await;
    let again = Collector::at(&url).await;
    hits(&serving, 30).await;
    again.has(1).await;
    serving.program.line("spans are exported again").await;
}

#[tokio::test]
async fn a_collector_that_stalls_costs_no_more_memory_than_the_queue() {
    let stalled = Collector::answering(0).await;
    let (_world, serving) = before(&stalled.url, &SMALL).await;
    hits(&serving, 100).await;
    eventually("a request stalls", async || {
        (stalled.requests() > 0).then_some(())
    })
    .await;
    let before = serving.program.resident();
    hits(&serving, 3000).await;
    let ended = spans(&serving, "dropped").await + spans(&serving, "failed").await;
    // Each hit is a span. The rest wait.
    let waiting = FIRST as u64 + 3100 - ended;
    assert!(waiting <= 100, "{waiting} spans wait");
    assert!(spans(&serving, "dropped").await > 0);
    let grown = serving.program.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn the_last_spans_are_handed_over_before_the_program_ends() {
    let collector = Collector::start().await;
    // They would leave by themselves in an hour.
    let late = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let (_world, mut serving) = before(&collector.url, &late).await;
    hits(&serving, 10).await;
    assert!(collector.spans().is_empty());
    serving.program.signal("TERM");
    assert_eq!(serving.program.ended().await.code, Some(0));
    assert_eq!(collector.spans().len(), FIRST + 10);
}

#[tokio::test]
async fn a_collector_that_stalls_does_not_keep_the_program_from_ending() {
    let stalled = Collector::answering(0).await;
    let patient = [("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")];
    let (_world, mut serving) = before(&stalled.url, &patient).await;
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.err.contains("spans are lost"), "{}", ended.err);
}

#[tokio::test]
async fn what_is_logged_of_a_traced_request_names_its_span() {
    let collector = Collector::start().await;
    let (world, mut serving) = before(&collector.url, &SMALL).await;
    world.vendor.behave(answering(StatusCode::BAD_GATEWAY));
    serving
        .get(&path("cl-n6-b"))
        .await
        .is_problem(502, "upstream-failed");
    let spans = collector.has(2 * FIRST).await;
    let ids = |message: &str| {
        let log = serving.program.log();
        let line = log.lines().find(|line| line.contains(message)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = |name: &str| line[name].as_str().unwrap().to_owned();
        (id("trace_id"), id("span_id"))
    };
    for (message, name) in [
        ("a request failed", "GET /agentassist"),
        ("a call to the vendor failed", "fetch"),
    ] {
        let ids = ids(message);
        let named = spans.iter().find(|span| span.place() == ids);
        assert!(
            named.unwrap().name.starts_with(name),
            "{message}: {named:?}"
        );
    }
    // It is nobody's.
    let serves = serving.program.line("\"serving\"").await;
    assert!(!serves.contains("trace_id"), "{serves}");
}

#[tokio::test]
async fn what_is_logged_and_what_is_traced_do_not_mix() {
    let world = vendor().await;
    for log in ["info", "trace"] {
        let collector = Collector::start().await;
        let settings = exporting(&collector.url, 1.0) + &format!("log = {log:?}\n");
        let mut serving = Serving::before(&world.vendor.url(), &settings).await;
        serving.get(&path("cl-n6-a")).await;
        world.vendor.behave(answering(StatusCode::BAD_GATEWAY));
        serving.get(&path("cl-n6-b")).await;
        world.vendor.behave(Behaviour::default());
        serving.program.signal("TERM");
        let log = serving.program.ended().await.err;
        let spans = collector.spans();
        assert_eq!(spans.len(), 2 * FIRST, "{log}");
        assert!(
            spans.iter().all(|span| span.events.is_empty()),
            "{spans:#?}"
        );
        assert!(!log.contains("wait for the allowance"), "{log}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_a_collector_there_is_no_thread_for_one() {
    let threads = |program: &Program| {
        let tasks = fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        let names: Vec<_> = names.map(Result::unwrap).collect();
        names.iter().any(|name| name.starts_with("OpenTelemetry"))
    };
    let world = vendor().await;
    let collector = Collector::start().await;
    let without = Serving::before(&world.vendor.url(), "").await;
    assert!(!threads(&without.program));
    let settings = exporting(&collector.url, 1.0);
    let with = Serving::before(&world.vendor.url(), &settings).await;
    // It names itself, once it runs.
    eventually("a thread", async || threads(&with.program).then_some(())).await;
}
