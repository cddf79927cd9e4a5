//! Answers that are not what the vendor promises: not HTTP, not its JSON, too large, cut off.

use contacts_gateway::vendor::Behaviour;
use http::StatusCode;

use super::{ENDED, KEPT, Told, each_is, told};
use crate::support::{World, path};

#[tokio::test]
async fn what_is_not_http_is_garbled() {
    let rows = [
        (r#"{"garbage": "SSH-2.0-vendor\r\n"}"#, ENDED),
        (r#"{"garbage": "HTTP/1.1 \r\n\r\n"}"#, ENDED),
        (
            r#"{"garbage": "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"}"#,
            ENDED,
        ),
        (
            r#"{"garbage": "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"}"#,
            ENDED,
        ),
        (
            r#"{"garbage": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n"}"#,
            ENDED,
        ),
        (
            r#"{"garbage": "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"}"#,
            ENDED,
        ),
    ];
    each_is(502, "upstream-garbled", "", &rows).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_garbled() {
    let rows = [
        (r#"{"cut": "in_body"}"#, ENDED),
        (r#"{"cut": "in_chunks"}"#, ENDED),
        (r#"{"garbage": "HTTP/1.1 200 O"}"#, ENDED),
        (
            r#"{"garbage": "HTTP/1.1 200 OK\r\ncontent-type: a"}"#,
            ENDED,
        ),
        (
            r#"{"garbage": "HTTP/1.1 200 OK\r\n\r\n{\"status\":\"succ"}"#,
            ENDED,
        ),
    ];
    each_is(502, "upstream-garbled", "", &rows).await;
}

/// What comes with a 200 and is no success.
const NO_SUCCESS: [Told<'static>; 13] = [
    (r#"{"hollow": "failure"}"#, KEPT),
    (r#"{"hollow": "not_json"}"#, KEPT),
    (r#"{"hollow": "empty"}"#, KEPT),
    (r#"{"hollow": "empty", "chunked": true}"#, KEPT),
    (r#"{"body": "[\"success\"]"}"#, KEPT),
    (r#"{"body": "[{\"status\":\"success\"}]"}"#, KEPT),
    (r#"{"body": "\"success\""}"#, KEPT),
    (r#"{"body": "null"}"#, KEPT),
    (r#"{"body": "{}"}"#, KEPT),
    (r#"{"body": "{\"status\":1}"}"#, KEPT),
    (r#"{"body": "{\"status\":\"Success\"}"}"#, KEPT),
    (r#"{"body": "{\"data\":{\"status\":\"success\"}}"}"#, KEPT),
    (r#"{"body": "{\"status\":\"success\"} and more"}"#, KEPT),
];

#[tokio::test]
async fn a_200_that_is_no_success_is_never_passed_as_one() {
    each_is(502, "upstream-garbled", "", &NO_SUCCESS).await;
}

#[tokio::test]
async fn a_200_that_is_no_success_passes_where_any_body_is_accepted() {
    for (behaviour, _) in NO_SUCCESS {
        let world = World::with("[upstream]\naccept_any_body = true").await;
        world.vendor.behave(told(behaviour));
        let first = world.get("cl-n6-a").await;
        assert_eq!(first.status, StatusCode::OK, "{behaviour}");
        assert_eq!(first.body, world.vendor_again().await.body, "{behaviour}");
        let again = world.get("cl-n6-a").await;
        assert_eq!(again.cache_status(), "hit; ttl=60");
        assert_eq!((again.status, again.body), (first.status, first.body));
    }
}

#[tokio::test]
async fn an_answer_in_a_coding_that_was_not_asked_for_is_garbled() {
    each_is(502, "upstream-garbled", "", &[(r#"{"gzip": true}"#, KEPT)]).await;
}

#[tokio::test]
async fn a_redirect_is_never_followed_and_no_other_2xx_is_a_page() {
    let behaviours = [
        201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 600, 999,
    ]
    .map(|status| {
        format!(
            r#"{{"status": {status}, "headers": [["location", {:?}]]}}"#,
            path("cl-n7-b")
        )
    });
    let rows: Vec<_> = behaviours.iter().map(|b| (b.as_str(), KEPT)).collect();
    each_is(502, "upstream-garbled", "", &rows).await;
    for (behaviour, _) in rows {
        let world = World::new().await;
        world.vendor.behave(told(behaviour));
        world
            .get("cl-n6-a")
            .await
            .is_problem(502, "upstream-garbled");
        assert_eq!(world.vendor.calls(), 1, "{behaviour}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_garbled() {
    let rows = [
        (r#"{"pad_to": 65537}"#, KEPT),
        (r#"{"pad_to": 65537, "chunked": true}"#, KEPT),
        (r#"{"pad_to": 8388608}"#, ENDED),
        (r#"{"pad_to": 8388608, "chunked": true}"#, ENDED),
        (
            r#"{"headers": [["content-length", "99999999999"]], "stall": "after_head"}"#,
            ENDED,
        ),
    ];
    each_is(
        502,
        "upstream-garbled",
        "[upstream]\nmax_body = \"64KiB\"",
        &rows,
    )
    .await;
    let endless_head = Behaviour {
        garbage: Some(format!(
            "HTTP/1.1 200 OK\r\nx-long: {}",
            "x".repeat(4 << 20)
        )),
        ..Behaviour::default()
    };
    let world = World::new().await;
    world.vendor.behave(endless_head);
    world
        .get("cl-n6-a")
        .await
        .is_problem(502, "upstream-garbled");
    world.is_at_rest(ENDED).await;
}

#[tokio::test]
async fn a_page_of_exactly_16_mib_passes_byte_for_byte_and_one_byte_more_does_not() {
    const MOST: usize = 16 << 20;
    for chunked in [false, true] {
        let world = World::new().await;
        let of = |bytes| Behaviour {
            pad_to: Some(bytes),
            chunked,
            ..Behaviour::default()
        };
        world.vendor.behave(of(MOST));
        let page = world.get("cl-n6-a").await;
        assert_eq!((page.status, page.body.len()), (StatusCode::OK, MOST));
        assert!(
            page.body == world.vendor_again().await.body,
            "the very bytes"
        );
        assert!(
            page.body == world.get("cl-n6-a").await.body,
            "from memory too"
        );
        world.vendor.behave(of(MOST + 1));
        world
            .get("cl-n6-b")
            .await
            .is_problem(502, "upstream-garbled");
    }
}
