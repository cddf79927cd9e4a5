//! Each group of settings, changed: what callers and the vendor see of it.

use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Stall};
use http::{Method, StatusCode};

use crate::support::callers::caller;
use crate::support::connection::{Connection, DATA, PREFACE, request_frame};
use crate::support::living::Living;
use crate::support::{ACCOUNT, eventually, path, path_of};

const OTHER: &str = "st-0603182c-7ffb-53c3-b307-47ca14b90002";

fn stalling() -> Behaviour {
    Behaviour {
        stall: Some(Stall::BeforeHead),
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn cache_times_hold_at_once_for_pages_that_are_in_memory() {
    let living = Living::with("").await;
    let world = &living.world;
    world.get("cl-n6-a").await;
    world.hand.forward(Duration::from_secs(30));
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=30");
    living.settings("cache.fresh_for = \"90s\"").await;
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=60");
    living.settings("cache.fresh_for = \"10s\"").await;
    assert_eq!(world.get("cl-n6-a").await.cache_status(), "hit; ttl=-20");
    eventually("it is refreshed", async || {
        (world.vendor.calls() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn hosts_headers_and_parameters_are_allowed_and_no_longer() {
    let living = Living::with("").await;
    let world = &living.world;
    let host = [("host", "gateway.test"), ("x-tenant", "t1")];
    let with = format!("{}&locale=x", path("cl-n6-a"));
    let asked = async || world.gateway.send(Method::GET, &with, &host).await;
    asked().await.is_problem(400, "bad-request");
    let some = "[listen]\nallowed_hosts = [\"gateway.test\"]\n[upstream]\nforward_headers = [\"x-tenant\"]\n\
                extra_query = [\"locale\"]";
    living.settings(some).await;
    assert_eq!(asked().await.status, StatusCode::OK);
    let seen = world.vendor.requests().pop().unwrap();
    assert!(seen.target.ends_with("&locale=x"), "{}", seen.target);
    assert_eq!(seen.headers["x-tenant"], "t1");
    world.get("cl-n6-a").await.is_problem(421, "misdirected");
    living.settings("").await;
    asked().await.is_problem(400, "bad-request");
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn callers_come_and_go_and_get_other_rights() {
    let living = Living::with("").await;
    let world = &living.world;
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
    living
        .settings(&caller("a", "accounts = [\"other\"]"))
        .await;
    world.get("cl-n6-a").await.is_problem(401, "caller-unknown");
    let forbidden = world.get_as("a", "cl-n6-a").await;
    forbidden.is_problem(403, "caller-forbidden");
    living.settings(&caller("a", "")).await;
    assert_eq!(world.get_as("a", "cl-n6-a").await.status, StatusCode::OK);
    living.settings(&caller("b", "")).await;
    let gone = world.get_as("a", "cl-n6-a").await;
    gone.is_problem(401, "caller-unknown");
}

#[tokio::test]
async fn streams_come_and_go_with_their_credentials() {
    let living = Living::with("").await;
    let world = &living.world;
    let path = path_of(OTHER, "cl-n6-a", ACCOUNT);
    let asked = async || world.gateway.get(&path).await;
    asked().await.is_problem(404, "stream-unknown");
    let secret = living.files.path("client_secret");
    let entry =
        format!("[[credentials]]\nstream = \"*\"\nclient_id = \"cs-1\"\nsecret_file = {secret:?}");
    living.settings(&entry).await;
    asked().await.is_problem(502, "credentials-refused");
    living.settings("").await;
    asked().await.is_problem(404, "stream-unknown");
}

#[tokio::test]
async fn time_outs_sizes_and_places_change() {
    let living = Living::with("").await;
    let world = &living.world;
    world.vendor.behave(stalling());
    for shorter in ["listen.deadline", "upstream.timeout"] {
        let connect = "upstream.connect_timeout = \"50ms\"";
        living
            .settings(&format!("{shorter} = \"100ms\"\n{connect}"))
            .await;
        let late = world.get(&format!("cl-n6-{shorter}")).await;
        late.is_problem(504, "upstream-timed-out");
    }
    world.vendor.behave(Behaviour::default());
    living.settings("").await;
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
    living.settings("upstream.max_body = \"10B\"").await;
    let garbled = world.get("cl-n6-b").await;
    garbled.is_problem(502, "upstream-garbled");
    living.settings("listen.max_in_flight = 1").await;
    world.vendor.behave(stalling());
    let calls = world.vendor.calls();
    let changed = async {
        eventually("the only place is taken", async || {
            (world.vendor.calls() > calls).then_some(())
        })
        .await;
        world.get("cl-n6-a").await.is_problem(503, "overloaded");
        living.settings("listen.max_in_flight = 2").await;
        world.get("cl-n6-a").await
    };
    tokio::select! {
        answer = world.get("cl-n6-c") => panic!("{answer:?}"),
        answer = changed => assert_eq!(answer.status, StatusCode::OK),
    }
}

#[tokio::test]
async fn http2_is_no_longer_spoken_on_new_connections() {
    let living = Living::with("").await;
    let url = &living.world.gateway.url;
    let mut before = Connection::to(url).await;
    before.send(PREFACE).await;
    living.settings("listen.http2 = false").await;
    let mut after = Connection::to(url).await;
    after.send(PREFACE).await;
    assert_eq!(after.rest().await, b"", "it closes");
    before.send(request_frame(1, "cl-n6-a")).await;
    while before.frame().await.0 != DATA {}
}
