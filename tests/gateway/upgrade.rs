//! A process takes over from another while callers ask.

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use contacts_gateway::vendor::{self, App, Vendor};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::CancellationToken;

use crate::support::connection::{Connection, request};
use crate::support::process::{Program, Serving, settings_file};
use crate::support::{CLIENT_ID, Folder, SECRET, STREAM, path};

/// Under systemd, with a socket unit, an upgrade is this.
#[tokio::test]
async fn no_request_fails_while_twenty_processes_take_over_from_each_other() {
    let app = App::hs256(STREAM.parse().unwrap(), CLIENT_ID, SECRET.as_bytes());
    let mut settings = vendor::Settings {
        apps: vec![app],
        ..vendor::Settings::default()
    };
    settings.limit.calls = u32::MAX;
    let vendor = Vendor::start(settings).unwrap();
    // Whoever starts the processes keeps the socket.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let settings = format!(
        "[listen]\naddress = \"{address}\"\ndrain_delay = \"200ms\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [upstream]\nurl = \"{}\"\n[allowance]\ncalls = 100000\n",
        vendor.url()
    );
    let settings = settings_file(&folder, &settings);
    let start = || Serving::started(Program::behind(&socket, &["--config", &settings], &[]));

    let mut serving = start().await;
    let done = CancellationToken::new();
    let keeping = (0..4).map(|n| keeps_connections(&address, n, &done));
    let leaving = (0..4).map(|n| opens_connections(&address, n, &done));
    let by_http2 = (0..2).map(|n| keeps_streams(&address, n, &done));
    let upgrades = async {
        for _ in 0..20 {
            let next = start().await;
            serving.program.signal("TERM");
            let ended = serving.program.ended().await;
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            serving = next;
        }
        done.cancel();
    };
    let (kept, left, streams, ()) = tokio::join!(
        join_all(keeping),
        join_all(leaving),
        join_all(by_http2),
        upgrades
    );
    assert!(
        kept.iter()
            .chain(&left)
            .chain(&streams)
            .all(|answers| *answers > 100),
        "{kept:?} {left:?} {streams:?}"
    );
}

type Keeping = Client<HttpConnector, Empty<Bytes>>;

/// Asks over connections that it keeps, and never twice. How many answers it got.
async fn keeps_connections(address: &str, n: usize, done: &CancellationToken) -> u64 {
    let client = Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .build_http();
    let mut answers = 0;
    while !done.is_cancelled() {
        asks(&client, address, n).await;
        answers += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answers
}

/// The same by HTTP/2, ten at a time over one connection.
async fn keeps_streams(address: &str, n: usize, done: &CancellationToken) -> u64 {
    // Asks again only where it has sent nothing, because the connection had said that it ends.
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let mut answers = 0;
    while !done.is_cancelled() {
        join_all((0..10).map(|_| asks(&client, address, n))).await;
        answers += 10;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answers
}

async fn asks(client: &Keeping, address: &str, n: usize) {
    let target = format!("http://{address}{}", path(&format!("cl-n1-{n}")));
    let request = Request::get(target).body(Empty::new()).unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.unwrap();
}

/// The same over one connection for each request.
async fn opens_connections(address: &str, n: usize, done: &CancellationToken) -> u64 {
    let mut answers = 0;
    while !done.is_cancelled() {
        let mut connection = Connection::to(address).await;
        connection.send(request(&format!("cl-n1-{n}"))).await;
        let answer = connection.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answers += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answers
}

#[tokio::test]
async fn a_socket_that_no_setting_names_is_told_of_and_closed() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let ports = "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    let settings = settings_file(&folder, ports);
    let mut program = Program::behind(&socket, &["--config", &settings], &[]);
    let told = program.line("a socket was passed on").await;
    let address = socket.local_addr().unwrap().to_string();
    assert!(told.contains(&address), "{told}");
    let serving = Serving::started(program).await;
    assert_ne!(serving.callers, address);
    drop(socket);
    let refused = std::net::TcpStream::connect(&address).is_err();
    assert!(refused, "it is not kept open");
}
