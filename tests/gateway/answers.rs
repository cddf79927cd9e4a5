//! What callers get: the vendor's own bytes and fields, and what a cache adds to them.

use std::collections::BTreeSet;
use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Message};
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::Full;

use crate::support::{Answer, World, answering, eventually, path, saying};

const SUCCESS: &str =
    "{ \"status\" : \"success\",\r\n\t\"odd\":\"\\u00e9\u{e9}\", \"n\": 1.50 }\n\n";
const ODD_TYPE: &str = "application/json;charset=UTF-8; odd=\"1\"";

async fn by_http2(world: &World, method: Method, list: &str) -> Answer {
    let url = format!("{}{}", world.gateway.url, path(list));
    let request = Request::builder().method(method).uri(url);
    let request = request.body(Full::default()).unwrap();
    world.gateway.by_http2(request).await.unwrap()
}

fn names(answer: &Answer) -> BTreeSet<&str> {
    answer.headers.keys().map(HeaderName::as_str).collect()
}

#[tokio::test]
async fn a_body_is_the_vendors_byte_for_byte_however_it_came_and_is_asked_for() {
    for chunked in [false, true] {
        let world = World::new().await;
        world.vendor.behave(Behaviour {
            body: Some(SUCCESS.into()),
            chunked,
            ..saying(&[("content-type", ODD_TYPE)])
        });
        let miss = world.get("cl-n6-a").await;
        let hit = world.get("cl-n6-a").await;
        let h2 = by_http2(&world, Method::GET, "cl-n6-a").await;
        for answer in [&miss, &hit, &h2] {
            assert_eq!(
                (answer.status.as_u16(), &answer.body[..]),
                (200, SUCCESS.as_bytes())
            );
            assert_eq!(answer.field("content-length"), SUCCESS.len().to_string());
            assert_eq!(answer.field("content-type"), ODD_TYPE);
        }
        assert_eq!(world.vendor.calls(), 1);
    }
}

#[tokio::test]
async fn an_answer_has_the_vendors_content_type_and_what_a_cache_owes_and_no_more() {
    let world = World::new().await;
    // The vendor's date is not the one that hyper would write.
    world.hand.forward(Duration::from_secs(5_000));
    let want = BTreeSet::from([
        "age",
        "cache-control",
        "cache-status",
        "content-length",
        "content-type",
        "date",
        "etag",
        "x-request-id",
    ]);
    let (miss, hit) = (world.get("cl-n6-a").await, world.get("cl-n6-a").await);
    assert_eq!((names(&miss), names(&hit)), (want.clone(), want));
    for once in [&miss, &hit] {
        assert_eq!(once.headers.len(), once.headers.keys_len(), "each once");
    }
    let date = httpdate::fmt_http_date(world.gateway.parts.clock.wall());
    assert_eq!(miss.field("date"), date);
    for name in ["content-type", "date", "etag"] {
        assert_eq!(miss.field(name), hit.field(name), "{name}");
    }
}

#[tokio::test]
async fn the_vendors_cache_fields_are_passed_as_they_are() {
    let world = World::new().await;
    let said = [
        ("cache-control", "max-age=60, stale-if-error=\"5\", odd"),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("etag", "\"odd,tag\""),
        ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ];
    world.vendor.behave(saying(&said));
    for answer in [world.get("cl-n6-a").await, world.get("cl-n6-a").await] {
        for (name, value) in said {
            assert_eq!(answer.field(name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn cookies_hop_by_hop_fields_and_those_that_connection_names_are_not_passed() {
    let world = World::new().await;
    world.vendor.behave(saying(&[
        ("set-cookie", "session=1; HttpOnly"),
        ("connection", "X-Private, content-language"),
        ("x-private", "1"),
        ("content-language", "de"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("www-authenticate", "Bearer"),
        ("x-powered-by", "a-server/1"),
        ("via", "1.1 a-proxy"),
        ("x-request-id", "the-vendors"),
        ("cache-status", "a-proxy; hit"),
        ("strict-transport-security", "max-age=1"),
        ("access-control-allow-origin", "*"),
        ("ratelimit", "\"x\";r=1;t=1"),
    ]));
    let want = BTreeSet::from([
        "age",
        "cache-control",
        "cache-status",
        "content-length",
        "content-type",
        "date",
        "etag",
        "x-request-id",
    ]);
    for answer in [world.get("cl-n6-a").await, world.get("cl-n6-a").await] {
        assert_eq!(names(&answer), want);
        assert_ne!(answer.field("x-request-id"), "the-vendors");
        assert!(
            answer
                .field("cache-status")
                .starts_with("contacts-gateway; ")
        );
    }
}

#[tokio::test]
async fn age_is_what_the_vendor_told_and_the_time_since() {
    let world = World::new().await;
    world.vendor.behave(saying(&[("age", "7")]));
    for (list, told) in [("cl-n6-a", 7), ("cl-n6-b", 0)] {
        for since in [0, 5] {
            world.hand.forward(Duration::from_secs(since));
            let answer = world.get(list).await;
            assert_eq!(answer.field("age"), (told + since).to_string(), "{list}");
        }
        world.vendor.behave(Behaviour::default());
    }
}

#[tokio::test]
async fn cache_status_tells_where_a_page_is_from() {
    let world = World::new().await;
    let told = async |list| world.get(list).await.field("cache-status").to_owned();
    assert_eq!(
        told("cl-n6-a").await,
        "contacts-gateway; fwd=uri-miss; fwd-status=200; stored"
    );
    assert_eq!(told("cl-n6-a").await, "contacts-gateway; hit; ttl=60");
    world.hand.forward(Duration::from_secs(18));
    assert_eq!(told("cl-n6-a").await, "contacts-gateway; hit; ttl=42");
    world.hand.forward(Duration::from_secs(100));
    assert_eq!(told("cl-n6-a").await, "contacts-gateway; hit; ttl=-58");
    eventually("the refresh", async || {
        (told("cl-n6-a").await == "contacts-gateway; hit; ttl=60").then_some(())
    })
    .await;
    world.hand.forward(Duration::from_secs(2 * 3_600));
    assert_eq!(
        told("cl-n6-a").await,
        "contacts-gateway; fwd=stale; fwd-status=200; stored"
    );
    assert_eq!(
        told("cl-missing").await,
        "contacts-gateway; fwd=uri-miss; fwd-status=404; stored"
    );
    world
        .vendor
        .behave(saying(&[("cache-control", "no-store")]));
    assert_eq!(
        told("cl-n6-b").await,
        "contacts-gateway; fwd=uri-miss; fwd-status=200"
    );
}

#[tokio::test]
async fn an_old_page_that_stands_in_for_a_failure_says_for_which() {
    let garbled = Behaviour {
        garbage: Some("no HTTP\r\n\r\n".into()),
        ..Behaviour::default()
    };
    let refused = Behaviour {
        refuse: Some(Message::PerMinute),
        ..Behaviour::default()
    };
    for (behaviour, name) in [
        (
            answering(StatusCode::INTERNAL_SERVER_ERROR),
            "upstream-failed",
        ),
        (answering(StatusCode::UNAUTHORIZED), "credentials-refused"),
        (garbled, "upstream-garbled"),
        (refused, "upstream-refused"),
    ] {
        let world = World::new().await;
        let fresh = world.get("cl-n6-a").await;
        world.hand.forward(Duration::from_secs(2 * 3_600));
        world.vendor.behave(behaviour);
        let old = world.get("cl-n6-a").await;
        assert_eq!((old.status.as_u16(), &old.body), (200, &fresh.body));
        assert_eq!(
            old.field("cache-status"),
            format!("contacts-gateway; fwd=stale; detail={name}")
        );
        assert_eq!(old.field("age"), "7200");
    }
}

#[tokio::test]
async fn the_tag_is_the_vendors_or_made_of_the_body_alone() {
    let world = World::new().await;
    let with_body = |body: &str| Behaviour {
        body: Some(body.into()),
        ..Behaviour::default()
    };
    let mut tags = Vec::new();
    for (list, body) in [
        ("a", SUCCESS),
        ("b", SUCCESS),
        ("c", "{\"status\":\"success\"}"),
    ] {
        world.vendor.behave(with_body(body));
        let (miss, hit) = (world.get(list).await, world.get(list).await);
        assert_eq!(miss.field("etag"), hit.field("etag"));
        tags.push(miss.field("etag").to_owned());
    }
    assert_eq!(tags[0], tags[1], "same bytes, same tag");
    assert_ne!(tags[0], tags[2], "other bytes, another tag");
    for tag in tags {
        let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        assert!(
            inner.is_some_and(|tag| !tag.is_empty() && !tag.contains('"')),
            "{tag} is strong"
        );
    }
    world.vendor.behave(saying(&[("etag", "\"v-1\"")]));
    assert_eq!(world.get("d").await.field("etag"), "\"v-1\"");
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body_by_both_versions() {
    let world = World::new().await;
    let list = path("cl-n6-a");
    let get = world.get("cl-n6-a").await;
    let length = get.body.len().to_string();
    for head in [
        world.gateway.send(Method::HEAD, &list, &[]).await,
        by_http2(&world, Method::HEAD, "cl-n6-a").await,
    ] {
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.field("content-length"), length);
        assert_eq!(
            (head.field("etag"), names(&head)),
            (get.field("etag"), names(&get))
        );
        assert!(head.cache_status().starts_with("hit"));
    }
    assert_eq!(world.vendor.calls(), 1);
    for (path, status) in [(path(".."), 400), (path("cl-missing"), 404)] {
        let head = world.gateway.send(Method::HEAD, &path, &[]).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (status, 0));
        let get = world.gateway.get(&path).await;
        assert_eq!(head.field("content-type"), get.field("content-type"));
        assert_eq!(head.field("content-length"), get.body.len().to_string());
    }
}

#[tokio::test]
async fn head_fetches_the_page_that_get_is_answered_with() {
    let world = World::new().await;
    let head = by_http2(&world, Method::HEAD, "cl-n6-a").await;
    assert_eq!(head.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(world.vendor.requests()[0].method, Method::GET);
    let get = world.get("cl-n6-a").await;
    assert!(
        get.cache_status().starts_with("hit"),
        "{}",
        get.cache_status()
    );
    assert_eq!(head.field("content-length"), get.body.len().to_string());
    assert_eq!(get.json()["data"]["totalResults"], 6);
}

#[tokio::test]
async fn the_vendors_no_to_a_request_is_passed_as_it_is_and_remembered_for_a_while() {
    for (vendors, list) in [(404, "cl-missing"), (400, "cl-n6-a"), (410, "cl-n6-b")] {
        let world = World::new().await;
        if vendors != 404 {
            world
                .vendor
                .behave(answering(StatusCode::from_u16(vendors).unwrap()));
        }
        let (first, second) = (world.get(list).await, world.get(list).await);
        for answer in [&first, &second] {
            assert_eq!(answer.status, vendors);
            assert_eq!(
                answer.field("content-type"),
                "application/json; charset=utf-8"
            );
            assert_eq!(answer.json()["errors"][0]["code"], vendors);
        }
        assert_eq!(
            (&first.body, second.cache_status()),
            (&second.body, "hit; ttl=10")
        );
        world.vendor.behave(Behaviour::default());
        world.hand.forward(Duration::from_millis(9_999));
        assert_eq!(world.get(list).await.status, vendors);
        assert_eq!(world.vendor.calls(), 1);
        world.hand.forward(Duration::from_millis(1));
        let later = world.get(list).await;
        assert_eq!(later.status, if vendors == 404 { 404 } else { 200 });
        assert_eq!(world.vendor.calls(), 2);
    }
}
