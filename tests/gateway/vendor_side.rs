//! How the gateway treats the vendor: its connections, and what of its answers it takes.

mod line;
mod reset;
pub(crate) mod tls;

use std::collections::HashSet;

use contacts_gateway::vendor::{App, Behaviour};
use http::{StatusCode, Version};

use crate::support::{ACCOUNT, CLIENT_ID, STREAM, World};

pub(crate) fn told(json: &str) -> Behaviour {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[tokio::test]
async fn ten_misses_in_turn_take_one_connection() {
    let world = World::new().await;
    for list in 0..10 {
        // Some come at once, some in many parts.
        let contacts = if list % 2 == 0 { 6 } else { 1_000 };
        let answer = world.get(&format!("cl-n{contacts}-{list}")).await;
        assert_eq!(
            answer.cache_status(),
            "fwd=uri-miss; fwd-status=200; stored"
        );
    }
    let stats = world.vendor.stats();
    assert_eq!((stats.calls, stats.accepted_connections), (10, 1));
}

#[tokio::test]
async fn the_vendor_is_told_what_it_documents_and_nothing_else() {
    let world = World::new().await;
    let callers = [
        ("authorization", "Bearer x"),
        ("auth", "y"),
        ("cookie", "a=b"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("x-request-id", "mine"),
        ("accept-encoding", "gzip"),
        ("user-agent", "somebody"),
    ];
    world.get_with("cl-n6-a", &callers).await;
    let seen = world.vendor.requests().pop().unwrap();
    let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let documented = [
        "accept",
        "accept-encoding",
        "accountid",
        "auth",
        "host",
        "iid",
        "user-agent",
    ];
    assert_eq!(names, documented);
    assert_eq!(seen.headers["iid"], STREAM);
    assert_eq!(seen.headers["accountid"], ACCOUNT);
    assert_eq!(seen.headers["host"], world.vendor.address().to_string());
    assert_eq!(seen.headers["accept-encoding"], "identity");
    assert_eq!(
        (seen.version, seen.target.as_str()),
        (Version::HTTP_11, crate::support::path("cl-n6-a").as_str())
    );
}

#[tokio::test]
async fn a_kept_alive_connection_that_proves_dead_is_dialled_anew_once() {
    let jti = |settings: &mut contacts_gateway::vendor::Settings| {
        settings.apps = settings.apps.drain(..).map(App::enforcing_jti).collect();
    };
    let settings = credentials("jti = true");
    let world = World::with_vendor(&settings.0, jti).await;
    world.get("cl-n6-a").await;
    world.vendor.behave(told(r#"{"cut": "when_reused"}"#));
    let answer = world.get("cl-n6-b").await;
    assert_eq!(
        answer.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    let stats = world.vendor.stats();
    assert_eq!(
        (stats.calls, stats.dropped, stats.accepted_connections),
        (2, 1, 2)
    );
    let requests = world.vendor.requests();
    let tokens: HashSet<_> = requests
        .iter()
        .map(|seen| seen.headers["auth"].clone())
        .collect();
    assert_eq!(
        (requests.len(), tokens.len()),
        (3, 3),
        "each has a token of its own"
    );
    let series = |outcome| {
        format!("contacts_gateway_upstream_calls_total{{outcome={outcome:?},reason=\"miss\"}}")
    };
    assert_eq!(world.gateway.metric(&series("ok")).await, 2.0);
    assert_eq!(world.gateway.metric(&series("upstream-failed")).await, 1.0);
}

#[tokio::test]
async fn the_second_connection_has_no_third() {
    let world = World::new().await;
    world.get("cl-n6-a").await;
    world.vendor.behave(told(r#"{"cut": "before_head"}"#));
    world
        .get("cl-n6-b")
        .await
        .is_problem(502, "upstream-failed");
    assert_eq!(world.vendor.calls(), 3);
    world.is_at_rest(false).await;
    world.vendor.behave(Behaviour::default());
    assert_eq!(world.get("cl-n6-b").await.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_else_is_asked_twice() {
    let settings = "[upstream]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"";
    for (behaviour, on_a_fresh_connection) in [
        (r#"{"cut": "before_head"}"#, true),
        (r#"{"garbage": "HTTP/1.1 2"}"#, false),
        (r#"{"garbage": "nonsense"}"#, false),
        (r#"{"cut": "in_body"}"#, false),
        (r#"{"cut": "in_chunks"}"#, false),
        (r#"{"stall": "before_head"}"#, false),
        (r#"{"stall": "after_head"}"#, false),
        (r#"{"status": 500}"#, false),
        (
            r#"{"status": 503, "headers": [["retry-after", "0"]]}"#,
            false,
        ),
        (r#"{"status": 401}"#, false),
        (r#"{"status": 429}"#, false),
        (r#"{"hollow": "failure"}"#, false),
        (r#"{"status": 307, "headers": [["location", "/"]]}"#, false),
    ] {
        let world = World::with(settings).await;
        let mut calls = 1;
        if !on_a_fresh_connection {
            world.get("cl-n6-a").await;
            calls += 1;
        }
        world.vendor.behave(told(behaviour));
        assert!(
            world.get("cl-n6-b").await.status.is_server_error(),
            "{behaviour}"
        );
        world.is_at_rest(true).await;
        assert_eq!(world.vendor.calls(), calls, "{behaviour}");
    }
}

#[tokio::test]
async fn a_connection_that_the_vendor_ends_is_not_used_again() {
    let world = World::new().await;
    world
        .vendor
        .behave(told(r#"{"headers": [["connection", "close"]]}"#));
    for list in ["cl-n6-a", "cl-n6-b", "cl-n6-c"] {
        assert_eq!(world.get(list).await.status, StatusCode::OK);
    }
    let stats = world.vendor.stats();
    assert_eq!(
        (stats.calls, stats.dropped, stats.accepted_connections),
        (3, 0, 3)
    );
    world.is_at_rest(false).await;
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    let world = World::new().await;
    world
        .vendor
        .behave(told(r#"{"informational": [100, 102, 103]}"#));
    let answer = world.get("cl-n6-a").await;
    assert_eq!(
        answer.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    assert_eq!(answer.body, world.vendor_again().await.body);
    assert_eq!(answer.field("x-stand-in"), "");
    assert_eq!(world.get("cl-n6-b").await.status, StatusCode::OK);
    assert_eq!(
        world.vendor.stats().accepted_connections,
        2,
        "one is ours, one the test's"
    );
}

#[tokio::test]
async fn trailers_and_hop_by_hop_fields_end_here() {
    let world = World::new().await;
    world.vendor.behave(told(
        r#"{"trailers": [["x-sum", "1"], ["etag", "\"t\""]],
            "headers": [["x-hop", "1"], ["connection", "x-hop, etag"], ["etag", "\"h\""], ["set-cookie", "a=b"], ["keep-alive", "timeout=5"]]}"#,
    ));
    for _ in 0..2 {
        let answer = world.get("cl-n6-a").await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (StatusCode::OK, &"success".into())
        );
        for name in [
            "trailer",
            "x-sum",
            "x-hop",
            "set-cookie",
            "keep-alive",
            "transfer-encoding",
            "server",
        ] {
            assert_eq!(answer.field(name), "", "{name}");
        }
        assert!(
            !["", "\"t\"", "\"h\""].contains(&answer.field("etag")),
            "{}",
            answer.field("etag")
        );
    }
    world.is_at_rest(false).await;
}

#[tokio::test]
async fn bytes_after_an_answer_are_nobodys_answer() {
    let world = World::new().await;
    let page = |message| format!(r#"{{"status":"success","message":{message:?}}}"#);
    let answer = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    world.vendor.behave(Behaviour {
        garbage: Some(answer(&page("mine")) + &answer(&page("nobody's"))),
        times: Some(1),
        ..Behaviour::default()
    });
    assert_eq!(world.get("cl-n6-a").await.text(), page("mine"));
    assert_eq!(world.get("cl-n6-b").await.json()["data"]["totalResults"], 6);
    world.vendor.behave(Behaviour {
        garbage: Some("HTTP/1.1 200 OK\r\n\r\n".to_owned() + &page("until the end")),
        ..Behaviour::default()
    });
    assert_eq!(world.get("cl-n6-c").await.text(), page("until the end"));
}

/// The test app's entry with more settings, and the folder that its secret is in.
fn credentials(more: &str) -> (String, crate::support::Folder) {
    let folder = crate::support::Folder::new();
    let secret = folder.put("secret", crate::support::SECRET);
    let entry = format!(
        "[[credentials]]\nstream = {STREAM:?}\nclient_id = {CLIENT_ID:?}\nsecret_file = {secret:?}\n{more}\n"
    );
    (entry, folder)
}
