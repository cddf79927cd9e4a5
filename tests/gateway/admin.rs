//! The operators' port.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::support::{SECRET, STREAM, World, answering, eventually, path};

/// A series of every metric, as it stands after one miss, one hit, a failure and a forget.
const SERIES: [&str; 30] = [
    "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/agentassist/api/v1/public/{streamId}/campaign/contactList/{contactListId}/getAllContacts\"} 2",
    "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_response_status_code=\"502\",http_route=\"/agentassist/api/v1/public/{streamId}/campaign/contactList/{contactListId}/getAllContacts\"} 1",
    "http_server_request_duration_seconds_count{http_request_method=\"PURGE\",http_response_status_code=\"200\",http_route=\"/agentassist/api/v1/public/{streamId}/campaign/contactList/{contactListId}/getAllContacts\"} 1",
    "http_server_request_duration_seconds_count{http_request_method=\"_OTHER\",http_response_status_code=\"404\",http_route=\"\"} 1",
    "http_server_active_requests 0",
    "http_client_request_duration_seconds_count{error_type=\"\",http_response_status_code=\"200\"} 1",
    "http_client_request_duration_seconds_count{error_type=\"upstream-failed\",http_response_status_code=\"500\"} 1",
    "contacts_gateway_cache_requests_total{result=\"hit\"} 1",
    "contacts_gateway_cache_requests_total{result=\"stale\"} 0",
    "contacts_gateway_cache_requests_total{result=\"miss\"} 1",
    "contacts_gateway_cache_requests_total{result=\"collapsed\"} 0",
    "contacts_gateway_cache_requests_total{result=\"revalidated\"} 0",
    "contacts_gateway_cache_requests_total{result=\"bypass\"} 0",
    "contacts_gateway_cache_entries 0",
    "contacts_gateway_cache_bytes 0",
    "contacts_gateway_cache_evictions_total{cause=\"explicit\"} 1",
    "contacts_gateway_cache_evictions_total{cause=\"expired\"} 0",
    "contacts_gateway_cache_evictions_total{cause=\"size\"} 0",
    "contacts_gateway_served_age_seconds_count 2",
    "contacts_gateway_served_age_seconds_sum 30",
    "contacts_gateway_served_age_seconds_bucket{le=\"0\"} 1",
    "contacts_gateway_served_age_seconds_bucket{le=\"+Inf\"} 2",
    "contacts_gateway_upstream_calls_total{outcome=\"ok\",reason=\"miss\"} 1",
    "contacts_gateway_upstream_calls_total{outcome=\"upstream-failed\",reason=\"miss\"} 1",
    "contacts_gateway_upstream_refusals_total 0",
    "contacts_gateway_tokens_minted_total{algorithm=\"HS256\"} 1",
    "contacts_gateway_problems_total{type=\"not-found\"} 1",
    "contacts_gateway_problems_total{type=\"upstream-failed\"} 1",
    "contacts_gateway_connections 1",
    concat!(
        "contacts_gateway_build_info{revision=\"unknown\",version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"} 1"
    ),
];

/// One of everything that callers do.
async fn busy() -> World {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.hand.forward(Duration::from_secs(30));
    world.get("cl-n6-a").await;
    let purge: Method = "PURGE".parse().unwrap();
    world.gateway.send(purge, &path("cl-n6-a"), &[]).await;
    world
        .vendor
        .behave(answering(StatusCode::INTERNAL_SERVER_ERROR));
    world
        .get("cl-n6-b")
        .await
        .is_problem(502, "upstream-failed");
    world.gateway.send(Method::OPTIONS, "/", &[]).await;
    world
}

/// Prometheus' text format 0.0.4, by its own page: the kind of every family, and the samples.
fn parsed(text: &str) -> (BTreeMap<&str, &str>, BTreeMap<&str, f64>) {
    let (mut kinds, mut samples, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.trim().is_empty() && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split_once('{').map_or(series, |(name, _)| name);
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| {
                    name.strip_suffix(end)
                        .filter(|name| kinds.contains_key(name))
                })
                .unwrap_or(name);
            assert!(kinds.contains_key(family), "{line}");
            assert!(
                kinds[family] != "counter" || name.ends_with("_total"),
                "{line}"
            );
            assert!(
                samples.insert(series, value.parse().unwrap()).is_none(),
                "{line}"
            );
        }
    }
    (kinds, samples)
}

#[tokio::test]
async fn the_process_is_alive_and_ready_whatever_the_vendor_does() {
    let mut world = World::new().await;
    let vendor = std::mem::replace(
        &mut world.vendor,
        contacts_gateway::vendor::Vendor::start(Default::default()).unwrap(),
    );
    vendor.shutdown().await;
    world
        .get("cl-n6-a")
        .await
        .is_problem(502, "upstream-failed");
    for path in ["/live", "/ready"] {
        let answer = world.gateway.operate(Method::GET, path).await;
        assert_eq!(answer.status, 200, "{path}");
        let head = world.gateway.operate(Method::HEAD, path).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
    }
}

#[tokio::test]
async fn who_is_about_to_leave_is_alive_and_not_ready_and_still_serves() {
    let mut world = World::with("[listen]\ndrain_delay = \"1h\"").await;
    world.gateway.tell_to_leave();
    let ready = async || world.gateway.operate(Method::GET, "/ready").await.status;
    eventually("not ready", async || (ready().await == 503).then_some(())).await;
    assert_eq!(
        world.gateway.operate(Method::GET, "/live").await.status,
        200
    );
    assert_eq!(world.get("cl-n6-a").await.status, 200);
}

#[tokio::test]
async fn metrics_tell_what_happened_under_the_names_of_the_contract() {
    let world = busy().await;
    let answer = world.gateway.operate(Method::GET, "/metrics").await;
    assert_eq!(
        answer.field("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = answer.text();
    for line in SERIES {
        assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
    }
}

#[tokio::test]
async fn a_stream_without_credentials_costs_no_call_and_counts_as_none() {
    let world = World::new().await;
    let unknown = path("cl-n6-a").replace(STREAM, "st-made-up");
    let answer = world.gateway.get(&unknown).await;
    answer.is_problem(404, "stream-unknown");
    assert_eq!(world.vendor.calls(), 0);
    let text = world.gateway.operate(Method::GET, "/metrics").await.text();
    for line in text.lines() {
        let counts = line.starts_with("contacts_gateway_upstream_calls_total{");
        assert!(!counts || line.ends_with(" 0"), "{line}");
        assert!(
            !line.starts_with("http_client_request_duration_seconds_count"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let world = busy().await;
    let text = world.gateway.operate(Method::GET, "/metrics").await.text();
    let (kinds, samples) = parsed(&text);
    for (name, kind) in kinds {
        let known = [
            "http_server_",
            "http_client_",
            "contacts_gateway_",
            "process_",
        ];
        assert!(known.iter().any(|start| name.starts_with(start)), "{name}");
        if kind == "histogram" {
            let buckets = samples
                .keys()
                .filter(|s| s.starts_with(&format!("{name}_bucket{{")));
            assert!(buckets.count() > 1, "{name}");
        }
    }
}

#[tokio::test]
async fn neither_metrics_nor_status_name_a_list_a_secret_or_a_number() {
    let world = busy().await;
    world
        .gateway
        .get(&path("cl-n6-a").replace(STREAM, "st-made-up"))
        .await;
    for page in ["/metrics", "/status"] {
        let text = world.gateway.operate(Method::GET, page).await.text();
        for private in [STREAM, "st-made-up", "cl-n6", SECRET, "9990000000", "eyJ"] {
            assert!(!text.contains(private), "{private} in {page}");
        }
    }
}

#[tokio::test]
async fn status_has_the_shape_of_the_contract() {
    fn keys(value: &Value) -> Vec<&str> {
        value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }
    let world = World::with("[cache]\nmax_bytes = \"1MiB\"").await;
    let page = world.get("cl-n6-a").await;
    world.hand.forward(Duration::from_millis(61_500));
    let answer = world.gateway.operate(Method::GET, "/status").await;
    assert_eq!(
        (answer.status.as_u16(), answer.field("content-type")),
        (200, "application/json")
    );
    let status = answer.json();
    assert_eq!(
        keys(&status),
        [
            "accounts",
            "cache",
            "settings",
            "shared",
            "uptime_seconds",
            "version"
        ]
    );
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["uptime_seconds"], 61);
    assert_eq!(keys(&status["cache"]), ["bytes", "entries", "max_bytes"]);
    assert_eq!(
        (&status["cache"]["entries"], &status["cache"]["max_bytes"]),
        (&1.into(), &1_048_576.into())
    );
    let bytes = status["cache"]["bytes"].as_u64().unwrap();
    assert!(
        (page.body.len() as u64..page.body.len() as u64 + 4_096).contains(&bytes),
        "{bytes}"
    );
    assert!(status["accounts"].is_object());
    let alone = serde_json::json!({"configured": false, "up": false, "replicas": 1});
    assert_eq!(status["shared"], alone);
    let settings = &status["settings"];
    assert_eq!(keys(settings), ["hash", "last_reload", "loaded_at"]);
    assert_eq!(settings["last_reload"], "ok");
    assert!(!settings["hash"].as_str().unwrap().is_empty());
    let loaded_at = settings["loaded_at"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(loaded_at).is_ok(), "{loaded_at}");
}

#[tokio::test]
async fn the_hash_of_the_settings_tells_settings_apart() {
    let hash = async |settings: &str| {
        let world = World::with(settings).await;
        let status = world.gateway.operate(Method::GET, "/status").await.json();
        status["settings"]["hash"].as_str().unwrap().to_owned()
    };
    let (one, other) = (hash("").await, hash("[cache]\nfresh_for = \"61s\"").await);
    assert_ne!(one, other);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones_and_a_wrong_path_is_not_found() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    for (method, path, status, allow) in [
        ("POST", "/live", 405, "GET, HEAD"),
        ("DELETE", "/ready", 405, "GET, HEAD"),
        ("PUT", "/metrics", 405, "GET, HEAD"),
        ("POST", "/status", 405, "GET, HEAD"),
        ("GET", "/cache", 405, "DELETE"),
        ("POST", "/cache?stream=st-1", 405, "DELETE"),
        ("PURGE", "/cache?stream=st-1", 405, "DELETE"),
        ("GET", "/", 404, ""),
        ("GET", "/live/", 404, ""),
        ("GET", "//live", 404, ""),
        ("GET", "/Live", 404, ""),
        ("DELETE", "/cache/", 404, ""),
        ("DELETE", "/", 404, ""),
    ] {
        let method: Method = method.parse().unwrap();
        let answer = world.gateway.operate(method.clone(), path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field("allow")),
            (status, allow),
            "{method} {path}"
        );
    }
    assert!(world.get("cl-n6-a").await.cache_status().starts_with("hit"));
}

#[tokio::test]
async fn neither_port_answers_for_the_other() {
    let world = World::new().await;
    let contacts = world.gateway.operate(Method::GET, &path("cl-n6-a")).await;
    assert_eq!(contacts.status, 404);
    for path in ["/live", "/ready", "/metrics", "/status"] {
        world.gateway.get(path).await.is_problem(404, "not-found");
    }
    let cache = world
        .gateway
        .send(Method::DELETE, "/cache?stream=st-1", &[])
        .await;
    cache.is_problem(404, "not-found");
    assert_eq!(world.vendor.calls(), 0);
}
