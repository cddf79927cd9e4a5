//! HTTP itself: methods, hosts, bodies, and the two versions on one port.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use crate::support::connection::{Connection, PREFACE, SETTINGS};
use crate::support::{World, path};

const HOSTS: &str =
    "[listen]\nallowed_hosts = [\"gateway.local\", \"Named.Local:8080\", \"[::1]\", \"10.0.0.1\"]";

/// A request as bytes, keeping its connection open.
fn request(method: &str, list: &str, fields: &str) -> String {
    format!(
        "{method} {} HTTP/1.1\r\nhost: x\r\n{fields}\r\n",
        path(list)
    )
}

/// One that closes it.
fn last(list: &str) -> String {
    request("GET", list, "connection: close\r\n")
}

fn h2(method: &str, url: &str) -> http::request::Builder {
    Request::builder().method(method).uri(url)
}

#[tokio::test]
async fn a_method_that_is_not_served_is_refused_and_told_which_are() {
    let world = World::new().await;
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BAN", "get", "Purge", "GETS",
    ] {
        let method: Method = method.parse().unwrap();
        let list = path("cl-n6-a");
        let answer = world.gateway.send(method.clone(), &list, &[]).await;
        answer.is_problem(405, "method-not-allowed");
        assert_eq!(answer.field("allow"), "GET, HEAD, PURGE", "{method}");
        let answer = world.gateway.send(method, "/", &[]).await;
        answer.is_problem(404, "not-found");
    }
    let other = world
        .gateway
        .raw("OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(other.await.statuses(), [404]);
    let other = world
        .gateway
        .raw("CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\nconnection: close\r\n\r\n");
    assert_eq!(other.await.statuses(), [404]);
    assert_eq!(world.vendor.calls(), 0);
}

#[tokio::test]
async fn a_body_is_refused_and_its_bytes_are_never_taken_for_a_request() {
    let world = World::new().await;
    assert_eq!(world.get("cl-n6-hit").await.status, 200);
    let inner = request("GET", "cl-n6-smuggled", "");
    let length = inner.len();
    let chunked = format!("{length:x}\r\n{inner}\r\n0\r\n\r\n");
    for list in ["cl-n6-hit", "cl-n6-miss"] {
        for method in ["GET", "HEAD", "PURGE"] {
            for (fields, body) in [
                (format!("content-length: {length}\r\n"), &inner),
                ("transfer-encoding: chunked\r\n".to_owned(), &chunked),
                (
                    "transfer-encoding: chunked\r\nconnection: keep-alive\r\n".to_owned(),
                    &chunked,
                ),
                // More is promised than comes: nobody waits for it.
                (format!("content-length: {}\r\n", length + 1_000), &inner),
                (
                    format!("expect: 100-continue\r\ncontent-length: {length}\r\n"),
                    &inner,
                ),
            ] {
                let bytes = request(method, list, &fields) + body + &last("cl-n6-next");
                let answers = world.gateway.raw(&bytes).await;
                assert_eq!(answers.statuses(), [400], "{method} {list} {fields}");
                assert!(answers.says("connection: close"), "{answers:?}");
                assert!(method == "HEAD" || answers.says("urn:contacts-gateway:bad-request"));
            }
        }
    }
    assert_eq!(world.vendor.calls(), 1);
    assert!(
        world
            .get("cl-n6-hit")
            .await
            .cache_status()
            .starts_with("hit"),
        "nothing was purged"
    );
}

#[tokio::test]
async fn framing_that_can_be_read_in_two_ways_is_refused() {
    let world = World::new().await;
    for fields in [
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "content-length: 0\r\ncontent-length: 5\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
        "x: 1\r\n folded: 2\r\n",
    ] {
        let bytes = request("GET", "cl-n6-a", fields) + "0\r\n\r\n" + &last("cl-n6-next");
        let answers = world.gateway.raw(&bytes).await;
        assert_eq!(answers.statuses(), [400], "{fields}");
    }
    assert_eq!(world.vendor.calls(), 0);
}

#[tokio::test]
async fn a_body_of_another_methods_is_not_taken_for_a_request_either() {
    let world = World::new().await;
    let inner = request("GET", "cl-n6-smuggled", "");
    let length = format!("content-length: {}\r\n", inner.len());
    let bytes = request("POST", "cl-n6-a", &length) + &inner + &last("cl-n6-next");
    let answers = world.gateway.raw(&bytes).await.statuses();
    assert!(answers == [405] || answers == [405, 200], "{answers:?}");
    let requests = world.vendor.requests();
    assert!(
        requests
            .iter()
            .all(|seen| !seen.target.contains("smuggled"))
    );
}

#[tokio::test]
async fn an_empty_body_is_none_and_the_connection_goes_on() {
    let world = World::new().await;
    let bytes = request("GET", "cl-n6-a", "content-length: 0\r\n") + &last("cl-n6-a");
    let answers = world.gateway.raw(&bytes).await;
    assert_eq!(answers.statuses(), [200, 200]);
}

#[tokio::test]
async fn a_body_is_refused_by_http2_too_and_hits_are_no_exception() {
    let world = World::new().await;
    assert_eq!(world.get("cl-n6-hit").await.status, 200);
    for list in ["cl-n6-hit", "cl-n6-miss"] {
        for method in ["GET", "HEAD", "PURGE"] {
            let url = format!("{}{}", world.gateway.url, path(list));
            let request = h2(method, &url).body(Full::from("x=1")).unwrap();
            let answer = world.gateway.by_http2(request).await.unwrap();
            assert_eq!(answer.status, 400, "{method} {list}");
            assert_eq!(answer.body.is_empty(), method == "HEAD");
        }
    }
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn a_request_for_a_host_that_is_not_allowed_is_misdirected() {
    let world = World::with(HOSTS).await;
    for (target, host, want) in [
        ("", "gateway.local", 200),
        ("", "gateway.local:80", 200),
        ("", "GATEWAY.Local:12345", 200),
        ("", "named.local:8080", 200),
        ("", "named.local", 421),
        ("", "named.local:8081", 421),
        ("", "[::1]", 200),
        ("", "[::1]:8080", 200),
        ("", "[::2]:8080", 421),
        ("", "::1", 421),
        ("", "10.0.0.1:8080", 200),
        ("", "10.0.0.10", 421),
        ("", "", 421),
        ("", ":80", 421),
        ("", "gateway.local.evil.example", 421),
        ("", "evil.example", 421),
        ("", "gateway.local:evil.example", 421),
        ("", "gateway.local, evil.example", 421),
        ("", "evil@gateway.local", 421),
        ("", "gateway.local/", 421),
        ("http://gateway.local", "gateway.local", 200),
        ("http://gateway.local:80", "gateway.local", 200),
        ("http://gateway.local", "evil.example", 421),
        ("http://evil.example", "gateway.local", 421),
        ("http://gateway.local:x@evil.example", "gateway.local", 421),
        ("http://evil@gateway.local", "gateway.local", 421),
    ] {
        let path = path("cl-n6-a");
        let bytes =
            format!("GET {target}{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = world.gateway.raw(&bytes).await;
        assert_eq!(answer.statuses(), [want], "{target} {host}");
        assert!(want == 200 || answer.says("urn:contacts-gateway:misdirected"));
    }
}

#[tokio::test]
async fn two_hosts_or_none_pass_for_neither() {
    let world = World::with(HOSTS).await;
    let path = path("cl-n6-a");
    for fields in [
        "HTTP/1.1\r\nhost: gateway.local\r\nhost: evil.example\r\n",
        "HTTP/1.1\r\nhost: evil.example\r\nhost: gateway.local\r\n",
        "HTTP/1.1\r\n",
        "HTTP/1.0\r\n",
    ] {
        let bytes = format!("GET {path} {fields}connection: close\r\n\r\n");
        let answer = world.gateway.raw(&bytes).await;
        assert_eq!(answer.statuses(), [421], "{fields}");
    }
    let hit = format!("GET {path} HTTP/1.0\r\nhost: gateway.local\r\n\r\n");
    assert_eq!(world.gateway.raw(&hit).await.statuses(), [200]);
    let other = hit.replace("gateway.local", "evil.example");
    assert_eq!(world.gateway.raw(&other).await.statuses(), [421], "a hit");
}

#[tokio::test]
async fn the_host_is_looked_at_before_anything_else_and_by_http2_too() {
    let world = World::with(HOSTS).await;
    let path = path("cl-n6-a");
    for (method, url, want) in [
        ("GET", format!("http://gateway.local:8080{path}"), 200),
        ("GET", format!("http://evil.example{path}"), 421),
        ("PURGE", format!("http://evil.example{path}"), 421),
        ("POST", format!("http://evil.example{path}"), 421),
        ("GET", "http://evil.example/".to_owned(), 421),
    ] {
        let request = h2(method, &url).body(Full::default()).unwrap();
        let answer = world.gateway.by_http2(request).await.unwrap();
        assert_eq!(answer.status, want, "{method} {url}");
    }
    let both = h2("GET", &format!("http://gateway.local{path}"))
        .header("host", "evil.example")
        .body(Full::default())
        .unwrap();
    // hyper or we: nobody lets it pass.
    let answer = world.gateway.by_http2(both).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 421));
}

#[tokio::test]
async fn any_host_will_do_where_none_are_named() {
    let world = World::new().await;
    let path = path("cl-n6-a");
    for head in [
        "HTTP/1.0\r\n",
        "HTTP/1.1\r\nhost: anything.example:1\r\nconnection: close\r\n",
    ] {
        let answer = world.gateway.raw(&format!("GET {path} {head}\r\n")).await;
        assert_eq!(answer.statuses(), [200], "{head}");
    }
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_on_one_port_and_share_the_pages() {
    let world = World::new().await;
    let first = world.get("cl-n6-a").await;
    let url = format!("{}{}", world.gateway.url, path("cl-n6-a"));
    let request = h2("GET", &url).body(Full::<Bytes>::default()).unwrap();
    let second = world.gateway.by_http2(request).await.unwrap();
    assert_eq!((second.status.as_u16(), &second.body), (200, &first.body));
    assert!(second.cache_status().starts_with("hit"));
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn which_version_it_is_is_told_from_whole_words() {
    let world = World::new().await;
    for (words, answered) in [
        (["P", "OST"], "HTTP/1.1 405 "),
        (["PR", "OPFIND"], "HTTP/1.1 405 "),
        (["PRI", "NT"], "HTTP/1.1 405 "),
        (["\r\n", "GET"], "HTTP/1.1 200 "),
    ] {
        let mut caller = Connection::to(&world.gateway.url).await;
        caller.send(words[0]).await;
        // Whoever is answered now was heard after that.
        world.get("cl-n6-a").await;
        let rest = format!(
            "{} {} HTTP/1.1\r\nhost: x\r\n\r\n",
            words[1],
            path("cl-n6-a")
        );
        caller.send(rest).await;
        let answer = caller.answer().await;
        assert!(answer.starts_with(answered), "{words:?}: {answer}");
    }
    let mut caller = Connection::to(&world.gateway.url).await;
    for byte in PREFACE {
        caller.send([*byte]).await;
    }
    assert_eq!(caller.frame().await.0, SETTINGS);
}

#[tokio::test]
async fn an_upgrade_is_not_made() {
    let world = World::new().await;
    let list = request(
        "GET",
        "cl-n6-a",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
    );
    let answers = world.gateway.raw(&(list + &last("cl-n6-a"))).await;
    assert_eq!(answers.statuses(), [200, 200], "each answered as it is");
}

#[tokio::test]
async fn http2_is_refused_where_it_is_switched_off() {
    let world = World::with("[listen]\nhttp2 = false").await;
    let url = format!("{}{}", world.gateway.url, path("cl-n6-a"));
    let request = h2("GET", &url).body(Full::<Bytes>::default()).unwrap();
    let refused = world.gateway.by_http2(request).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(world.get("cl-n6-a").await.status, 200, "HTTP/1.1 is not");
}
