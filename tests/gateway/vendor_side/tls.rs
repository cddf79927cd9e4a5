//! The vendor over TLS.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use contacts_gateway::clock::Clock;
use contacts_gateway::vendor::{self, Behaviour};
use futures_util::future::join_all;
use http::{StatusCode, Version};
use rcgen::{KeyPair, date_time_ymd};

use super::line::Line;
use super::told;
use crate::support::authority::{Authority, named};
use crate::support::{Folder, Running, World, path, program};

/// Both ways to speak to a vendor over TLS.
const PROTOCOLS: [(&str, Version); 2] = [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)];

/// A vendor that speaks one protocol over TLS, and a gateway that trusts it.
async fn trusted(protocol: &str, settings: &str) -> (World, Folder) {
    let (authority, folder) = (Authority::new(), Folder::new());
    let settings = format!(
        "[upstream]\nca_file = {:?}\n{settings}",
        authority.file(&folder)
    );
    let tls = authority.server(named("127.0.0.1"), &[protocol]);
    let world = World::with_vendor(&settings, |vendor| vendor.tls = tls).await;
    (world, folder)
}

/// Time-outs that a test can wait for, and a quarter of which is long enough for a sign of life.
const IMPATIENT: &str = "timeout = \"3s\"\nconnect_timeout = \"3s\"";

#[tokio::test]
async fn the_vendor_is_asked_by_the_best_http_it_speaks_over_one_connection() {
    for (protocol, version) in PROTOCOLS {
        let (world, _folder) = trusted(protocol, "").await;
        for list in 0..10 {
            let answer = world.get(&format!("cl-n6-{list}")).await;
            assert_eq!(
                answer.cache_status(),
                "fwd=uri-miss; fwd-status=200; stored"
            );
        }
        assert!(
            world
                .vendor
                .requests()
                .iter()
                .all(|seen| seen.version == version)
        );
        let stats = world.vendor.stats();
        assert_eq!(
            (stats.calls, stats.accepted_connections),
            (10, 1),
            "{protocol}"
        );
    }
    let (world, _folder) = trusted("h2", "").await;
    world.get("cl-n6-a").await;
    let seen = world.vendor.requests().pop().unwrap();
    assert!(!seen.headers.contains_key("host"), "{:?}", seen.headers);
}

#[tokio::test]
async fn over_tls_too_a_dead_connection_is_dialled_anew_once() {
    for (protocol, _) in PROTOCOLS {
        let (world, _folder) = trusted(protocol, "").await;
        world.get("cl-n6-a").await;
        world.vendor.behave(told(r#"{"cut": "when_reused"}"#));
        let answer = world.get("cl-n6-b").await;
        assert_eq!(
            answer.cache_status(),
            "fwd=uri-miss; fwd-status=200; stored",
            "{protocol}"
        );
        let stats = world.vendor.stats();
        assert_eq!((stats.calls, stats.dropped), (2, 1), "{protocol}");
        world.vendor.behave(Behaviour::default());
        world.get("cl-n6-c").await;
        world.vendor.behave(told(r#"{"cut": "before_head"}"#));
        world
            .get("cl-n6-d")
            .await
            .is_problem(502, "upstream-failed");
        assert_eq!(world.vendor.calls(), 5, "{protocol}");
    }
}

#[tokio::test]
async fn over_tls_too_failures_have_their_names_and_are_not_repeated() {
    let rows = [
        (r#"{"cut": "in_body"}"#, 502, "upstream-garbled"),
        (r#"{"cut": "in_chunks"}"#, 502, "upstream-garbled"),
        (r#"{"pad_to": 17000000}"#, 502, "upstream-garbled"),
        (r#"{"status": 500}"#, 502, "upstream-failed"),
        (r#"{"stall": "before_head"}"#, 504, "upstream-timed-out"),
        (r#"{"stall": "after_head"}"#, 504, "upstream-timed-out"),
    ];
    let each = async |protocol, (behaviour, status, name)| {
        // Only who waits for nothing has to be quick.
        let patience = if status == 504 { IMPATIENT } else { "" };
        let (world, _folder) = trusted(protocol, patience).await;
        world.get("cl-n6-a").await;
        world.vendor.behave(told(behaviour));
        world.get("cl-n6-b").await.is_problem(status, name);
        world.is_at_rest(true).await;
        assert_eq!(world.vendor.calls(), 2, "{protocol}: {behaviour}");
        world.vendor.behave(Behaviour::default());
        let later = world.get("cl-n6-b").await;
        assert_eq!(later.status, StatusCode::OK, "{protocol}: {behaviour}");
    };
    join_all(
        PROTOCOLS
            .iter()
            .flat_map(|(protocol, _)| rows.map(|row| Box::pin(each(protocol, row)))),
    )
    .await;
}

#[tokio::test]
async fn a_head_is_taken_or_called_garbled_by_its_size_whichever_http_brings_it() {
    for (protocol, _) in PROTOCOLS {
        let (world, _folder) = trusted(protocol, "").await;
        world.get("cl-n6-a").await;
        let padded = |bytes| {
            let pad = "x".repeat(bytes);
            told(&format!(r#"{{"headers": [["x-pad", "{pad}"]]}}"#))
        };
        world.vendor.behave(padded(20_000));
        let large = world.get("cl-n6-b").await;
        assert_eq!(large.status, StatusCode::OK, "{protocol}: {}", large.text());
        world.vendor.behave(padded(500_000));
        world
            .get("cl-n6-c")
            .await
            .is_problem(502, "upstream-garbled");
        assert_eq!(world.vendor.calls(), 3, "{protocol}");
        world.vendor.behave(Behaviour::default());
        assert_eq!(world.get("cl-n6-d").await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_vendor_that_cannot_prove_who_it_is_gets_no_token() {
    let (authority, other, folder) = (Authority::new(), Authority::new(), Folder::new());
    let mut expired = named("127.0.0.1");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let trust = format!("[upstream]\nca_file = {:?}", authority.file(&folder));
    for (settings, tls) in [
        ("", authority.server(named("127.0.0.1"), &[])),
        (&trust, other.server(named("127.0.0.1"), &[])),
        (&trust, authority.server(named("127.0.0.2"), &[])),
        (&trust, authority.server(named("vendor.example"), &[])),
        (&trust, authority.server(expired, &[])),
    ] {
        let world = World::with_vendor(settings, |vendor| vendor.tls = tls).await;
        let failed = world.get("cl-n6-a").await;
        failed.is_problem(502, "upstream-failed");
        assert!(failed.text().contains("TLS"), "{}", failed.text());
        world.is_at_rest(false).await;
        assert_eq!(world.vendor.stats().calls, 0);
    }
}

#[tokio::test]
async fn a_line_that_goes_dead_costs_no_more_than_the_calls_it_carries() {
    for (protocol, version) in PROTOCOLS {
        let (authority, folder, clock) = (Authority::new(), Folder::new(), Clock::system());
        let vendor = World::with_vendor("", |vendor: &mut vendor::Settings| {
            vendor.tls = authority.server(named("127.0.0.1"), &[protocol]);
        })
        .await;
        let line = Line::to(vendor.vendor.address()).await;
        let settings = format!(
            "[upstream]\n{IMPATIENT}\nca_file = {:?}",
            authority.file(&folder)
        );
        let gateway = Running::before(&format!("https://{}", line.address), &settings, clock).await;
        assert_eq!(gateway.get(&path("cl-n6-a")).await.status, 200);
        line.goes_dead();
        gateway.get(&path("cl-n6-b")).await;
        assert_eq!(
            gateway.get(&path("cl-n6-c")).await.status,
            200,
            "{version:?}"
        );
    }
}

#[test]
fn a_ca_file_that_cannot_be_used_is_named_before_anything_is_served() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap();
    let key = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(key.serialize_der())
    );
    for (name, text) in [
        ("missing.pem", None),
        ("empty.pem", Some("")),
        ("text.pem", Some("no PEM at all")),
        ("key.pem", Some(key.as_str())),
        (
            "damaged.pem",
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
    ] {
        let file = folder.path().join(name);
        if let Some(text) = text {
            folder.put(name, text);
        }
        let settings = folder.put(
            "gateway.toml",
            &format!("[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[upstream]\nca_file = {file:?}\n"),
        );
        for command in ["serve", "check"] {
            let ended = program(&["--config", settings.to_str().unwrap(), command])
                .output()
                .unwrap();
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(78), "{command} {name}: {said}");
            assert!(
                said.contains(file.to_str().unwrap()),
                "{command} {name}: {said}"
            );
            assert_eq!(said.lines().count(), 1, "{command} {name}: {said}");
        }
    }
}
