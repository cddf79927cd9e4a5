//! Connections on which nothing is said for a while: they cost less, and nobody notices.

use http::Method;

use crate::support::authority::{Authority, named};
use crate::support::connection::{Connection, request};
use crate::support::process::Serving;
use crate::support::secure::Caller;
use crate::support::{Folder, World, eventually, path};

/// With this it says which connections rest.
const TALKATIVE: &str = "[telemetry]\nlog = \"debug\"";

/// Waits until connections have come to rest so many times.
async fn rests(serving: &Serving, times: usize) {
    eventually("a connection rests", async || {
        let rested = serving.program.log().matches("a connection rests").count();
        (rested >= times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_rested_is_served_as_before() {
    let world = World::new().await;
    let settings = format!("[listen]\nheader_timeout = \"2s\"\n{TALKATIVE}");
    let serving = Serving::before(&world.vendor.url(), &settings).await;
    let whole = request("cl-n6-a");
    let mut caller = Connection::to(&serving.callers).await;
    for times in 1..3 {
        caller.send(&whole).await;
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
        rests(&serving, times).await;
    }
    // Byte by byte, and two at once with half of a third.
    for byte in whole.as_bytes() {
        caller.send([*byte]).await;
    }
    assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    rests(&serving, 3).await;
    let (one_half, other_half) = whole.split_at(40);
    caller.send(whole.repeat(2) + one_half).await;
    for _ in 0..2 {
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    }
    caller.send(other_half).await;
    assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    rests(&serving, 4).await;
    caller.send(one_half).await;
    assert!(caller.rest().await.is_empty(), "half a head has its time");
}

#[tokio::test]
async fn half_a_head_behind_a_whole_one_has_its_time_too() {
    let world = World::with("[listen]\nheader_timeout = \"300ms\"").await;
    let whole = request("cl-n6-a");
    let mut caller = Connection::to(&world.gateway.url).await;
    caller.send(whole.clone() + &whole[..40]).await;
    assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    assert!(caller.rest().await.is_empty());
}

#[tokio::test]
async fn a_connection_that_rests_ends_when_either_side_ends_it() {
    let world = World::new().await;
    let mut serving = Serving::before(&world.vendor.url(), TALKATIVE).await;
    let mut callers = Vec::new();
    for times in 1..3 {
        let mut caller = Connection::to(&serving.callers).await;
        caller.send(request("cl-n6-a")).await;
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
        rests(&serving, times).await;
        callers.push(caller);
    }
    drop(callers.pop());
    eventually("one is gone", async || {
        let metrics = serving.operate(Method::GET, "/metrics").await.text();
        metrics
            .contains("contacts_gateway_connections 1\n")
            .then_some(())
    })
    .await;
    serving.program.signal("TERM");
    assert!(callers.remove(0).rest().await.is_empty());
    assert_eq!(serving.program.ended().await.code, Some(0));
}

#[tokio::test]
async fn over_tls_it_is_the_same() {
    let (world, folder, authority) = (World::new().await, Folder::new(), Authority::new());
    let [certificate, key] = authority.issue(named("127.0.0.1")).pem();
    let certificate = folder.put("tls.crt", &certificate);
    let key = folder.put("tls.key", &key);
    let tls = format!("tls = {{ certificate_file = {certificate:?}, key_file = {key:?} }}");
    let settings = format!("[listen]\n{tls}\n{TALKATIVE}");
    let mut serving = Serving::before(&world.vendor.url(), &settings).await;
    let caller = Caller::new(&authority, None).speaking(&["http/1.1"]);
    let mut connection = caller.keep(&serving.callers).await.unwrap();
    for times in 1..3 {
        let answer = connection.get(&path("cl-n6-a")).await.unwrap();
        assert_eq!(answer.status, 200);
        rests(&serving, times).await;
    }
    serving.program.signal("TERM");
    connection.ended().await;
    assert_eq!(serving.program.ended().await.code, Some(0));
}
