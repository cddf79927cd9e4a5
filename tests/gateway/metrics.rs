//! The metrics of the real program: what they are called, what their labels are, and that Prometheus likes them.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use contacts_gateway::clock::Clock;
use http::{Method, StatusCode};

use crate::support::callers::caller_by;
use crate::support::process::{Serving, ask};
use crate::support::{ACCOUNT, STREAM, World, answering, is_there, path, path_of};

/// A line a metric: name, type, labels. To rename one is to break dashboards and alerts, so it has to be done here too.
const GOLDEN: &str = include_str!("metrics.txt");

/// What the program shows after a miss, a hit, a failure, a refusal, a purge and a caller who insists.
async fn after_traffic() -> (World, Serving, String) {
    let world = World::with_vendor("", |vendor| vendor.clock = Clock::system()).await;
    let settings = "[allowance]\ncalls = 3000\n".to_owned()
        + &caller_by(
            "a-token",
            "a-caller",
            "requests_per_minute = 6000\nfetches_per_minute = 600\nmay_purge = true\nmay_refresh = true",
        );
    let serving = Serving::before(&world.vendor.url(), &settings).await;
    let send = async |method: &str, list: &str, field: (&str, &str)| {
        let url = format!("http://{}{}", serving.callers, path(list));
        let fields = [("authorization", "Bearer a-token"), field];
        ask(method.parse().unwrap(), &url, &fields).await.status
    };
    let none = ("x-request-id", "none");
    assert_eq!(send("GET", "cl-n6-a", none).await, 200);
    assert_eq!(send("GET", "cl-n6-a", none).await, 200);
    let insist = ("cache-control", "no-cache");
    assert_eq!(send("GET", "cl-n6-a", insist).await, 200);
    assert_eq!(send("PURGE", "cl-n6-a", none).await, 200);
    assert_eq!(send("PUT", "cl-n6-a", none).await, 405);
    world
        .vendor
        .behave(answering(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(send("GET", "cl-n6-b", none).await, 502);
    let text = serving.operate(Method::GET, "/metrics").await.text();
    (world, serving, text)
}

/// Name, type and labels of each metric of a text.
fn declared(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let declared = |line: &str| {
        let (name, kind) = line.split_once(' ').unwrap();
        let series = |line: &&str| {
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix("_count").or(Some(rest)))
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let series = text.lines().find(series);
        let series = series.unwrap_or_else(|| panic!("{name} has no series in\n{text}"));
        // No value of a label's holds what ends one.
        let labels = series.split_once('{').map_or("", |(_, labels)| labels);
        let labels = labels
            .split("\",")
            .filter_map(|label| label.split_once('='));
        let labels: Vec<_> = labels.map(|(label, _)| label).collect();
        format!("{name} {kind} {}", labels.join(","))
            .trim_end()
            .to_owned()
    };
    types.map(declared).collect()
}

#[tokio::test]
async fn names_types_and_labels_are_those_of_the_list() {
    let (_world, _serving, text) = after_traffic().await;
    let (shown, listed) = (declared(&text), GOLDEN.lines().map(str::to_owned).collect());
    let new: Vec<_> = shown.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&shown).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "not in metrics.txt: {new:#?}\nnot shown: {gone:#?}"
    );
}

#[tokio::test]
async fn promtool_has_nothing_to_say_of_the_metrics() {
    if !is_there("promtool") {
        return;
    }
    let (_world, _serving, text) = after_traffic().await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    assert_eq!(String::from_utf8(words).unwrap(), "");
    assert!(said.status.success());
}

#[tokio::test]
async fn what_may_go_wrong_is_at_0_before_it_does() {
    let world = World::new().await;
    let text = world.gateway.operate(Method::GET, "/metrics").await.text();
    for series in [
        "contacts_gateway_problems_total{type=\"credentials-refused\"} 0",
        "contacts_gateway_problems_total{type=\"internal\"} 0",
        "contacts_gateway_upstream_calls_total{outcome=\"credentials-refused\",reason=\"refresh\"} 0",
        "contacts_gateway_config_reloads_total{outcome=\"failed\"} 0",
    ] {
        assert!(text.lines().any(|l| l == series), "{series} in\n{text}");
    }
}

#[tokio::test]
async fn limits_of_the_settings_stand_beside_what_they_limit() {
    let settings =
        "[listen]\nmax_connections = 77\nmax_in_flight = 66\n[cache]\nmax_bytes = \"2MiB\"";
    let world = World::with(settings).await;
    for (name, value) in [
        ("contacts_gateway_max_connections", 77.0),
        ("contacts_gateway_max_in_flight", 66.0),
        ("contacts_gateway_cache_max_bytes", 2_097_152.0),
        ("contacts_gateway_config_last_reload_successful", 1.0),
    ] {
        assert_eq!(world.gateway.metric(name).await, value, "{name}");
    }
    assert!(
        world
            .gateway
            .metric("contacts_gateway_runtime_workers")
            .await
            >= 1.0
    );
    let at = "contacts_gateway_config_last_reload_success_timestamp_seconds";
    let at = world.gateway.metric(at).await;
    let now = world.gateway.parts.clock.wall();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(at, now.as_secs() as f64);
}

#[tokio::test]
async fn a_read_that_costs_a_call_for_the_callers_wish_alone_is_a_bypass() {
    let world = World::new().await;
    let bypassed = async || {
        let series = "contacts_gateway_cache_requests_total{result=\"bypass\"}";
        world.gateway.metric(series).await
    };
    let insist = [("cache-control", "no-cache")];
    world.get_with("cl-n6-a", &insist).await;
    assert_eq!(bypassed().await, 0.0, "there was no page to pass over");
    world.get_with("cl-n6-a", &insist).await;
    assert_eq!(bypassed().await, 1.0);
    world.get("cl-n6-a").await;
    assert_eq!(bypassed().await, 1.0, "a hit");
}

#[tokio::test]
async fn scrapes_at_once_all_show_every_account() {
    const ACCOUNTS: usize = 30;
    let world = World::new().await;
    for n in 0..ACCOUNTS {
        let path = path_of(STREAM, "cl-n6-a", &format!("{ACCOUNT}-{n}"));
        assert_eq!(world.gateway.get(&path).await.status, 200);
    }
    let scrapes = (0..20).map(|_| world.gateway.operate(Method::GET, "/metrics"));
    for scrape in futures_util::future::join_all(scrapes).await {
        let text = scrape.text();
        let shown = text.matches("contacts_gateway_allowance_wanted{").count();
        assert_eq!(shown, ACCOUNTS, "{text}");
    }
}
