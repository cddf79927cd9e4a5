//! What of a caller's request reaches the vendor: what the page's key names, and the fields that the settings name.

use std::collections::BTreeSet;

use http::Method;

use crate::support::{ACCOUNT, STREAM, World, path};

/// Every field of a call to the vendor, by HTTP/1.1.
const SENT: [&str; 7] = [
    "accept",
    "accept-encoding",
    "accountid",
    "auth",
    "host",
    "iid",
    "user-agent",
];

#[tokio::test]
async fn nothing_of_a_callers_header_reaches_the_vendor() {
    let world = World::new().await;
    let said = [
        ("auth", "a-token"),
        ("authorization", "Bearer a-token"),
        ("proxy-authorization", "Basic eDp5"),
        ("cookie", "session=1"),
        ("iid", STREAM),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-host", "elsewhere.example"),
        ("forwarded", "for=203.0.113.7"),
        ("via", "1.1 elsewhere"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "de"),
        ("user-agent", "a-service/1"),
        ("referer", "https://elsewhere.example/"),
        ("origin", "https://elsewhere.example"),
        ("range", "bytes=0-9"),
        ("if-none-match", "\"x\""),
        ("cache-control", "max-age=60"),
        ("x-request-id", "mine"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/elsewhere"),
        ("te", "trailers"),
        ("connection", "x-private, iid"),
        ("x-private", "1"),
    ];
    let answer = world.get_with("cl-n6-a", &said).await;
    assert_eq!(answer.status, 200);
    let seen = &world.vendor.requests()[0];
    assert_eq!(seen.target, path("cl-n6-a"));
    assert_eq!(seen.method, Method::GET);
    let names: BTreeSet<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, SENT.into());
    assert_eq!(seen.headers.len(), SENT.len(), "each once");
    let own = concat!("contacts-gateway/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("accountid", ACCOUNT),
        ("host", world.vendor.url().trim_start_matches("http://")),
        ("iid", STREAM),
        ("user-agent", own),
    ] {
        assert_eq!(seen.headers[name], value, "{name}");
    }
    assert_ne!(seen.headers["auth"], "a-token");
}

#[tokio::test]
async fn only_the_fields_that_the_settings_name_are_sent_on() {
    let settings =
        "[upstream]\nforward_headers = [\"Accept-Language\", \"X-Tenant\", \"X-Absent\"]";
    let world = World::with(settings).await;
    let said = [
        ("accept-language", "de"),
        ("accept-language", "en;q=0.5"),
        ("x-tenant", "blue"),
        ("x-other", "1"),
        ("cookie", "session=1"),
    ];
    assert_eq!(world.get_with("cl-n6-a", &said).await.status, 200);
    let seen = &world.vendor.requests()[0];
    let names: BTreeSet<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    let want = SENT.into_iter().chain(["accept-language", "x-tenant"]);
    assert_eq!(names, want.collect());
    let languages: Vec<_> = seen.headers.get_all("accept-language").iter().collect();
    assert_eq!(languages, ["de", "en;q=0.5"]);
    assert_eq!(seen.headers["x-tenant"], "blue");
}

#[tokio::test]
async fn a_field_that_is_sent_on_has_a_length_and_whoever_exceeds_it_is_told_which_one() {
    let settings = "[upstream]\nforward_headers = [\"Accept-Language\", \"X-Tenant\", \"Authorization\"]\n\
                    accept_any_body = true";
    let world = World::with(settings).await;
    let text = |length: usize| "x".repeat(length);
    let (half, most, credentials) = (text(512), text(1024), text(8192));
    let (half, most, credentials) = (half.as_str(), most.as_str(), credentials.as_str());
    let more = [most, "y"].concat();
    for (n, (fields, too_long)) in [
        (&[("x-tenant", most)][..], ""),
        (&[("x-tenant", most), ("accept-language", most)], ""),
        (&[("x-tenant", half), ("x-tenant", half)], ""),
        (&[("authorization", credentials)], ""),
        (&[("x-other", credentials)], ""),
        (&[("x-tenant", &more)], "x-tenant"),
        (&[("x-tenant", most), ("x-tenant", "z")], "x-tenant"),
        (
            &[("x-tenant", "a"), ("accept-language", &more)],
            "accept-language",
        ),
        (
            &[("authorization", &[credentials, "y"].concat())],
            "authorization",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = world.get_with(&format!("cl-n6-{n}"), fields).await;
        if too_long.is_empty() {
            assert_eq!(answer.status, 200, "{n}");
            continue;
        }
        answer.is_problem(400, "bad-request");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(&format!("the header {too_long} ")),
            "{detail}"
        );
        assert!(!detail.contains("xx"), "{detail}");
    }
    assert_eq!(world.vendor.calls(), 5);
}
