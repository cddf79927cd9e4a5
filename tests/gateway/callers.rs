//! Who may ask, and for what: tokens, streams, accounts, purging, refreshing.

use std::time::Duration;

use http::Method;

use crate::support::callers::{caller, caller_by};
use crate::support::connection::Connection;
use crate::support::process::{Serving, ask};
use crate::support::{ACCOUNT, STREAM, World, path, path_of};

const OTHER_ACCOUNT: &str = "67777ce93e25326494e90002";

fn purge() -> Method {
    "PURGE".parse().unwrap()
}

#[tokio::test]
async fn without_a_known_token_nothing_is_answered_not_even_what_is_in_memory() {
    let world = World::with(&(caller("a", "may_purge = true") + &caller("b", ""))).await;
    assert_eq!(world.get_as("a", "cl-n6-a").await.status, 200);
    for authorization in [
        &[][..],
        &[""],
        &["Bearer"],
        &["Bearer token-of-c"],
        &["Bearer TOKEN-OF-A"],
        &["Bearer token-of-a x"],
        &["Bearertoken-of-a"],
        &["Basic token-of-a"],
        &["Basic dG9rZW4tb2YtYTo="],
        &["token-of-a"],
        &["Bearer token-of-a", "Bearer token-of-a"],
        &["Bearer token-of-a", "Basic x"],
    ] {
        let sent = authorization.iter().map(|value| ("authorization", *value));
        let sent: Vec<_> = sent.collect();
        let only_cached = [&sent[..], &[("cache-control", "only-if-cached")]].concat();
        let list = path("cl-n6-a");
        for (method, fields) in [
            (Method::GET, &sent),
            (Method::GET, &only_cached),
            (purge(), &sent),
        ] {
            let answer = world.gateway.send(method, &list, fields).await;
            answer.is_problem(401, "caller-unknown");
            assert_eq!(answer.field("www-authenticate"), "Bearer");
            assert_eq!(answer.field("cache-status"), "");
        }
        let head = world.gateway.send(Method::HEAD, &list, &sent).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (401, 0));
    }
    assert_eq!(world.vendor.calls(), 1);
    let hit = world.get_as("b", "cl-n6-a").await;
    assert_eq!(hit.cache_status(), "hit; ttl=60", "and one page is for all");
}

#[tokio::test]
async fn who_is_unknown_learns_nothing_of_what_there_is() {
    let world = World::with(&caller("a", "")).await;
    for (method, target) in [
        (Method::GET, "/".to_owned()),
        (Method::POST, path("cl-n6-a")),
        (Method::GET, path("..")),
        (Method::GET, path_of("st-unknown", "cl-n6-a", ACCOUNT)),
    ] {
        let answer = world.gateway.send(method, &target, &[]).await;
        answer.is_problem(401, "caller-unknown");
    }
}

#[tokio::test]
async fn the_scheme_is_of_either_case_and_neither_field_nor_token_reaches_the_vendor() {
    let token = "a-b._~+/1==";
    let world = World::with(&caller_by(token, "a", "")).await;
    for (scheme, list) in [("Bearer", "a"), ("bearer", "b"), ("BEARER ", "c")] {
        let field = format!("{scheme} {token}");
        let answer = world.get_with(list, &[("authorization", &field)]).await;
        assert_eq!(answer.status, 200, "{field}");
    }
    for seen in world.vendor.requests() {
        let mut fields = seen.headers.iter();
        let shown =
            fields.find(|(_, value)| String::from_utf8_lossy(value.as_bytes()).contains(token));
        assert_eq!(shown, None);
    }
}

#[tokio::test]
async fn what_a_caller_may_not_read_is_403_from_memory_too() {
    let settings = caller("all", "may_purge = true")
        + &caller("stream", &format!("streams = [\"st-other\", \"{STREAM}\"]"))
        + &caller("no-stream", "streams = [\"st-other\"]")
        + &caller("account", &format!("accounts = [{ACCOUNT:?}]"))
        + &caller(
            "no-account",
            &format!("accounts = [{OTHER_ACCOUNT:?}]\nmay_purge = true"),
        );
    let world = World::with(&settings).await;
    let list = path("cl-n6-a");
    assert_eq!(world.get_as("all", "cl-n6-a").await.status, 200);
    for (name, part) in [("no-stream", "stream"), ("no-account", "account")] {
        for (method, fields) in [
            (Method::GET, &[][..]),
            (Method::GET, &[("cache-control", "only-if-cached")]),
            (purge(), &[]),
        ] {
            let answer = world.send_as(name, method, &list, fields).await;
            answer.is_problem(403, "caller-forbidden");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(&format!("this {part}")), "{detail}");
        }
        let miss = world.get_as(name, "cl-n6-b").await;
        miss.is_problem(403, "caller-forbidden");
    }
    for name in ["all", "stream", "account"] {
        let hit = world.get_as(name, "cl-n6-a").await;
        assert_eq!(
            (hit.status.as_u16(), hit.cache_status()),
            (200, "hit; ttl=60")
        );
    }
    let elsewhere = path_of(STREAM, "cl-n6-a", OTHER_ACCOUNT);
    let answer = world.send_as("account", Method::GET, &elsewhere, &[]).await;
    answer.is_problem(403, "caller-forbidden");
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn rights_come_after_the_rules_for_requests_and_before_the_credentials() {
    let settings = "[listen]\nallowed_hosts = [\"127.0.0.1\"]\n".to_owned()
        + &caller("one", "streams = [\"st-mine\"]")
        + &caller("all", "");
    let world = World::with(&settings).await;
    let good = path("cl-n6-a");
    for (target, fields, status, name) in [
        (
            good.clone(),
            &[("host", "elsewhere")][..],
            421,
            "misdirected",
        ),
        (good.replace("getAll", "get"), &[], 404, "not-found"),
        (path(".."), &[], 400, "bad-request"),
        (good.clone(), &[("iid", "st-mine")], 400, "bad-request"),
        (format!("{good}&x=1"), &[], 400, "bad-request"),
        (good.clone(), &[], 403, "caller-forbidden"),
        (
            path_of("st-unknown", "cl-n6-a", ACCOUNT),
            &[],
            403,
            "caller-forbidden",
        ),
        (
            path_of("st-mine", "cl-n6-a", ACCOUNT),
            &[],
            404,
            "stream-unknown",
        ),
    ] {
        let answer = world.send_as("one", Method::GET, &target, fields).await;
        answer.is_problem(status, name);
    }
    let post = world.send_as("one", Method::POST, &good, &[]).await;
    post.is_problem(405, "method-not-allowed");
    let mut one = Connection::to(&world.gateway.url).await;
    let target = path("cl-n6-a");
    one.send(format!(
        "GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer token-of-one\r\ncontent-length: 1\r\n\r\nx"
    ))
    .await;
    assert!(
        one.answer().await.starts_with("HTTP/1.1 400"),
        "a body is told first"
    );
    let unknown = path_of("st-unknown", "cl-n6-a", ACCOUNT);
    let answer = world.send_as("all", Method::GET, &unknown, &[]).await;
    answer.is_problem(404, "stream-unknown");
}

#[tokio::test]
async fn a_purge_needs_may_purge() {
    let world = World::with(&(caller("may", "may_purge = true") + &caller("may-not", ""))).await;
    let list = path("cl-n6-a");
    world.get_as("may-not", "cl-n6-a").await;
    let refused = world.send_as("may-not", purge(), &list, &[]).await;
    refused.is_problem(403, "caller-forbidden");
    assert!(refused.text().contains("may_purge"), "{}", refused.text());
    let hit = world.get_as("may-not", "cl-n6-a").await;
    assert_eq!(hit.cache_status(), "hit; ttl=60", "nothing was forgotten");
    let purged = world.send_as("may", purge(), &list, &[]).await;
    assert_eq!(purged.json()["forgotten"], 1);
}

#[tokio::test]
async fn a_wish_for_a_newer_page_is_obeyed_for_those_with_may_refresh() {
    let world = World::with(&(caller("may", "may_refresh = true") + &caller("may-not", ""))).await;
    world.get_as("may", "cl-n6-a").await;
    world.hand.forward(Duration::from_secs(5));
    let list = path("cl-n6-a");
    let wishes = [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "max-age=1, max-stale"),
        ("cache-control", "min-fresh=58"),
        ("pragma", "no-cache"),
    ];
    for wish in wishes {
        let answer = world.send_as("may-not", Method::GET, &list, &[wish]).await;
        assert_eq!(answer.cache_status(), "hit; ttl=55", "{wish:?}");
    }
    assert_eq!(world.vendor.calls(), 1);
    for (calls, wish) in (2..).zip(wishes) {
        world.hand.forward(Duration::from_secs(5));
        let answer = world.send_as("may", Method::GET, &list, &[wish]).await;
        assert!(answer.cache_status().starts_with("fwd="), "{wish:?}");
        assert_eq!(world.vendor.calls(), calls, "{wish:?}");
    }
}

#[tokio::test]
async fn a_wish_that_nothing_be_kept_is_obeyed_for_those_with_may_refresh() {
    let world = World::with(&(caller("may", "may_refresh = true") + &caller("may-not", ""))).await;
    let no_store = [("cache-control", "no-store")];
    for (name, list, told) in [
        ("may", "cl-n6-a", "fwd=uri-miss; fwd-status=200"),
        ("may-not", "cl-n6-b", "fwd=uri-miss; fwd-status=200; stored"),
    ] {
        let answer = world
            .send_as(name, Method::GET, &path(list), &no_store)
            .await;
        assert_eq!(answer.cache_status(), told);
    }
}

#[tokio::test]
async fn what_spares_the_vendor_a_call_is_obeyed_for_everybody() {
    let world = World::with(&caller("a", "")).await;
    let list = path("cl-n6-a");
    let only_cached = [("cache-control", "only-if-cached, no-cache")];
    let answer = world.send_as("a", Method::GET, &list, &only_cached).await;
    answer.is_problem(504, "not-cached");
    world.get_as("a", "cl-n6-a").await;
    world.hand.forward(Duration::from_secs(2 * 3_600));
    for wish in ["max-stale", "max-stale=8000"] {
        let wish = [("cache-control", wish)];
        let answer = world.send_as("a", Method::GET, &list, &wish).await;
        assert_eq!(answer.cache_status(), "hit; ttl=-7140");
    }
    assert_eq!(world.vendor.calls(), 1);
}

#[tokio::test]
async fn without_callers_everybody_may_do_everything_and_no_token_counts() {
    let world = World::new().await;
    let list = path("cl-n6-a");
    let tokens = [("authorization", "Bearer x"), ("authorization", "Basic y")];
    let answer = world.get_with("cl-n6-a", &tokens).await;
    assert_eq!(
        (answer.status.as_u16(), answer.field("ratelimit")),
        (200, "")
    );
    for _ in 0..500 {
        assert_eq!(world.get("cl-n6-a").await.status, 200);
    }
    let refreshed = world
        .get_with("cl-n6-a", &[("cache-control", "no-cache")])
        .await;
    assert!(refreshed.cache_status().starts_with("fwd="));
    let purged = world.gateway.send(purge(), &list, &[]).await;
    assert_eq!(purged.json()["forgotten"], 1);
}

#[tokio::test]
async fn an_upstream_of_another_kind_is_cached_for_known_callers_too() {
    let settings = "[upstream]\naccept_any_body = true\n".to_owned() + &caller("a", "");
    let world = World::with(&settings).await;
    world.get_as("a", "cl-n6-a").await;
    let again = world.get_as("a", "cl-n6-a").await;
    assert!(
        again.cache_status().starts_with("hit"),
        "{}",
        again.cache_status()
    );
}

#[tokio::test]
async fn requests_are_counted_by_caller_whatever_is_answered() {
    let asked =
        |caller: &str| format!("contacts_gateway_caller_requests_total{{caller={caller:?}}}");
    let world = World::with(&(caller("a", "") + &caller("b", ""))).await;
    world.get_as("a", "cl-n6-a").await;
    world.send_as("a", Method::POST, "/", &[]).await;
    world.get_as("c", "cl-n6-a").await;
    let text = world.gateway.operate(Method::GET, "/metrics").await.text();
    let counts = text
        .lines()
        .filter(|line| line.starts_with("contacts_gateway_caller_requests_total"));
    let counts: Vec<_> = counts.collect();
    assert_eq!(counts, [asked("a") + " 2", asked("b") + " 0"]);
    let open = World::new().await;
    open.get("cl-n6-a").await;
    assert_eq!(open.gateway.metric(&asked("anonymous")).await, 1.0);
}

#[tokio::test]
async fn a_log_names_the_caller_and_never_its_token() {
    let world = World::new().await;
    let settings = "[telemetry]\nlog = \"trace\"\nlog_format = \"json\"\n".to_owned()
        + &caller("named-in-logs", "streams = [\"st-other\"]");
    let mut serving = Serving::before(&world.vendor.url(), &settings).await;
    let url = format!("http://{}{}", serving.callers, path("cl-n6-a"));
    for (token, status) in [("token-of-named-in-logs", 403), ("marked-token-0c5e", 401)] {
        let bearer = format!("Bearer {token}");
        let answer = ask(Method::GET, &url, &[("authorization", &bearer)]).await;
        assert_eq!(answer.status, status);
        assert!(!answer.text().contains(token));
    }
    let refused = serving.program.line("caller-forbidden").await;
    assert!(refused.contains("named-in-logs"), "{refused}");
    serving.program.line("caller-unknown").await;
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    for token in ["token-of-named-in-logs", "marked-token-0c5e"] {
        assert!(!ended.err.contains(token), "{token} in {}", ended.err);
    }
}
