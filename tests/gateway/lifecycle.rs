//! How the gateway takes connections, keeps them, and leaves: what a caller and an orchestrator see of it.

use std::io::ErrorKind;
use std::time::Duration;

use contacts_gateway::vendor::{Behaviour, Stall};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::support::connection::{
    Connection, DATA, GOAWAY, PING, PREFACE, pong, request, request_frame,
};
use crate::support::process::{Program, Serving, settings_file};
use crate::support::{Folder, World, eventually, path};

/// A vendor who makes its one caller wait until the test lets it answer.
struct Held {
    url: String,
    asked: Option<oneshot::Receiver<()>>,
    answer: oneshot::Sender<()>,
}

impl Held {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = oneshot::channel();
        let (answer, told) = oneshot::channel();
        TaskTracker::new().spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let _ = tell.send(());
            let _ = told.await;
            let body = r#"{"status":"success","data":{}}"#;
            let length = body.len();
            let whole = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(whole.as_bytes()).await.unwrap();
        });
        Self {
            url,
            asked: Some(asked),
            answer,
        }
    }

    /// Waits until a call has come.
    async fn asked(&mut self) {
        self.asked.take().unwrap().await.unwrap();
    }

    fn answer(self) {
        let _ = self.answer.send(());
    }
}

/// Waits until nobody can connect any more.
async fn refuses(place: &str) {
    eventually("new connections are refused", async || {
        let refused = TcpStream::connect(place).await.err();
        refused.filter(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
}

fn stalling() -> Behaviour {
    Behaviour {
        stall: Some(Stall::BeforeHead),
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn as_many_connections_may_be_open_as_a_number_can_say() {
    let most = i64::MAX;
    let settings = format!("[listen]\nmax_connections = {most}\nmax_in_flight = {most}");
    let world = World::with(&settings).await;
    assert_eq!(world.get("cl-n6-a").await.status, StatusCode::OK);
}

#[tokio::test]
async fn either_signal_drains_and_ends_with_0() {
    let world = World::new().await;
    for signal in ["TERM", "INT"] {
        let mut serving = Serving::before(&world.vendor.url(), "").await;
        assert_eq!(serving.get(&path("cl-n6-a")).await.status, StatusCode::OK);
        serving.program.signal(signal);
        let ended = serving.program.ended().await;
        assert_eq!(ended.code, Some(0), "SIG{signal}: {}", ended.err);
        assert!(ended.err.contains(&format!("SIG{signal}: leaving")));
    }
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_leave_however_little_it_logs() {
    let folder = Folder::new();
    let file = settings_file(&folder, "telemetry.log = \"error\"\n");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = free.local_addr().unwrap().to_string();
    drop(free);
    let mut program = Program::start(
        &["--config", &file],
        &[
            ("CONTACTS_GATEWAY__LISTEN__ADDRESS", &place),
            ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
        ],
    );
    let mut caller = eventually("it serves", async || {
        let caller = TcpStream::connect(&place).await.ok()?;
        Some(caller)
    })
    .await;
    caller
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    program.signal("TERM");
    let ended = program.ended().await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_signal_during_the_start_ends_it_well() {
    let folder = Folder::new();
    // One that lets everybody wait.
    let store = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", store.local_addr().unwrap());
    let file = settings_file(
        &folder,
        &format!("[shared]\nurl = {url:?}\ntimeout = \"1h\"\n"),
    );
    let ports = [
        ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    let mut program = Program::start(&["--config", &file], &ports);
    let _asked = store.accept().await.unwrap();
    program.signal("HUP");
    program.signal("TERM");
    program
        .line("SIGTERM: leaving before anything was served")
        .await;
    assert_eq!(program.ended().await.code, Some(0));
}

#[tokio::test]
async fn it_may_have_as_many_files_open_as_the_system_allows_and_says_so_where_those_are_few() {
    let world = World::new().await;
    let folder = Folder::new();
    let upstream = format!("[upstream]\nurl = {:?}\n", world.vendor.url());
    let file = settings_file(&folder, &upstream);
    let ports = [
        ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    for (connections, few) in [("100", false), ("10000", true)] {
        let more = [("CONTACTS_GATEWAY__LISTEN__MAX_CONNECTIONS", connections)];
        let limited = "ulimit -Sn 64 && ulimit -Hn 500 && exec \"$0\" \"$@\"";
        let program = env!("CARGO_BIN_EXE_contacts-gateway");
        let mut program = Program::of(
            "sh",
            &["-c", limited, program, "--config", &file],
            &[ports.as_slice(), &more].concat(),
        );
        program.line("serving").await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let files: Vec<_> = files.unwrap().split_whitespace().collect();
        assert_eq!(files[3..5], ["500", "500"]);
        let said = program.log().contains("fewer files may be open");
        assert_eq!(said, few, "{}", program.log());
    }
}

#[tokio::test]
async fn for_the_drain_delay_it_is_unready_and_serves_on() {
    let world = World::new().await;
    let serving = Serving::before(&world.vendor.url(), "[listen]\ndrain_delay = \"1h\"").await;
    assert_eq!(serving.operate(Method::GET, "/ready").await.status, 200);
    serving.program.signal("TERM");
    eventually("it is unready", async || {
        let ready = serving.operate(Method::GET, "/ready").await.status;
        (ready == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    assert_eq!(serving.get(&path("cl-n6-a")).await.status, 200);
    assert_eq!(serving.operate(Method::GET, "/live").await.status, 200);
    // A caller who keeps its connection goes to whoever takes over: with a page from memory, and with one that is waited for.
    for list in ["cl-n6-a", "cl-n6-b"] {
        let mut caller = Connection::to(&serving.callers).await;
        caller.send(request(list)).await;
        let answer = caller.answer().await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(caller.rest().await.is_empty());
    }
}

#[tokio::test]
async fn after_the_drain_delay_it_drains() {
    let world = World::new().await;
    let settings = "[listen]\ndrain_delay = \"100ms\"";
    let mut serving = Serving::before(&world.vendor.url(), settings).await;
    serving.program.signal("TERM");
    assert_eq!(serving.program.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let world = World::new().await;
    world.vendor.behave(stalling());
    for (settings, waiting) in [
        ("[listen]\ndrain_delay = \"1h\"", "still serving"),
        ("[listen]\ndrain_for = \"1h\"", "draining"),
    ] {
        let mut serving = Serving::before(&world.vendor.url(), settings).await;
        let mut caller = Connection::to(&serving.callers).await;
        caller.send(request("cl-n6-a")).await;
        eventually("the call has begun", async || {
            (world.vendor.calls() == 1).then_some(())
        })
        .await;
        serving.program.signal("TERM");
        serving.program.line(waiting).await;
        serving.program.signal("INT");
        let ended = serving.program.ended().await;
        world.vendor.reset();
        world.vendor.behave(stalling());
        assert_eq!(ended.code, Some(1), "{waiting}");
        assert!(ended.err.contains("a second signal, SIGINT: ended at once"));
    }
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_closes_what_is_idle_and_refuses_what_is_new() {
    let mut vendor = Held::start().await;
    let mut serving = Serving::before(&vendor.url, "").await;
    let [mut busy, mut idle, mut idle_by_http2] = [
        Connection::to(&serving.callers).await,
        Connection::to(&serving.callers).await,
        Connection::to(&serving.callers).await,
    ];
    idle.send("GET /none HTTP/1.1\r\nhost: gateway\r\n\r\n")
        .await;
    assert!(idle.answer().await.starts_with("HTTP/1.1 404"));
    idle_by_http2.send(PREFACE).await;
    busy.send(request("cl-n6-a")).await;
    vendor.asked().await;

    serving.program.signal("TERM");
    assert!(idle.rest().await.is_empty());
    loop {
        match idle_by_http2.frame().await {
            (PING, 0, _, payload) => break idle_by_http2.send(pong(&payload)).await,
            (kind, ..) => assert_ne!(kind, DATA),
        }
    }
    idle_by_http2.rest().await;
    refuses(&serving.callers).await;
    let ready = serving.operate(Method::GET, "/ready").await;
    assert_eq!(ready.status, 503, "its readiness can still be asked for");

    vendor.answer();
    let answer = busy.answer().await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(busy.rest().await.is_empty());
    assert_eq!(serving.program.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_request_that_is_half_sent_when_the_drain_begins_is_told_to_go_elsewhere() {
    let mut world = World::new().await;
    let whole = request("cl-n6-a");
    let (one_half, other_half) = whole.split_at(40);
    let [mut first, mut later] = [
        Connection::to(&world.gateway.url).await,
        Connection::to(&world.gateway.url).await,
    ];
    later.send(request("cl-n6-a")).await;
    later.answer().await;
    first.send(one_half).await;
    later.send(one_half).await;
    // Whoever is answered now was heard after those two.
    world.get("cl-n6-a").await;

    world.gateway.tell_to_leave();
    refuses(world.gateway.url.strip_prefix("http://").unwrap()).await;
    for mut caller in [first, later] {
        caller.send(other_half).await;
        let answer = caller.answer().await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 503 "), "{answer}");
        assert!(answer.contains("urn:contacts-gateway:draining"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(caller.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_new_stream_on_an_open_connection_is_told_to_go_elsewhere() {
    let mut vendor = Held::start().await;
    let mut serving = Serving::before(&vendor.url, "").await;
    let mut caller = Connection::to(&serving.callers).await;
    caller.send(PREFACE).await;
    caller.send(request_frame(1, "cl-n6-a")).await;
    vendor.asked().await;
    serving.program.signal("TERM");
    // From here on the connection is one that is going away; until the ping is answered, streams may still cross that.
    let ping = loop {
        match caller.frame().await {
            (PING, 0, _, payload) => break payload,
            (kind, ..) => assert_ne!(kind, DATA),
        }
    };
    caller.send(request_frame(3, "cl-n6-a")).await;
    let refused = data(&mut caller, 3).await;
    assert!(
        refused.contains("urn:contacts-gateway:draining"),
        "{refused}"
    );

    caller.send(pong(&ping)).await;
    vendor.answer();
    assert!(data(&mut caller, 1).await.contains("success"));
    caller.rest().await;
    assert_eq!(serving.program.ended().await.code, Some(0));
}

/// The first data of a stream.
async fn data(caller: &mut Connection, stream: u32) -> String {
    loop {
        match caller.frame().await {
            (DATA, _, of, payload) if of == stream => return String::from_utf8(payload).unwrap(),
            (GOAWAY, _, _, payload) => assert_eq!(payload[4..8], [0; 4], "not for an error"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_is_in_flight_after_drain_for_is_cut_off_and_told() {
    let world = World::new().await;
    world.vendor.behave(stalling());
    let settings = "[listen]\ndrain_for = \"100ms\"";
    let mut serving = Serving::before(&world.vendor.url(), settings).await;
    let mut caller = Connection::to(&serving.callers).await;
    caller.send(request("cl-n6-a")).await;
    eventually("the call has begun", async || {
        (world.vendor.calls() == 1).then_some(())
    })
    .await;
    serving.program.signal("TERM");
    let ended = serving.program.ended().await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("connections cut off after drain_for: 1"),
        "{}",
        ended.err
    );
    assert!(caller.rest().await.is_empty());
}

const IMPATIENT: &str = "[listen]\nheader_timeout = \"300ms\"";

#[tokio::test]
async fn a_connection_that_brings_no_whole_request_in_time_is_closed() {
    let world = World::with(IMPATIENT).await;
    let half = "GET /agentassist HTTP/1.1\r\nhost: ga";
    for (sent, what) in [
        (&b""[..], "nothing"),
        (b"G", "a byte"),
        (half.as_bytes(), "half a head"),
        (b"\r\n", "an empty line"),
        (&PREFACE[..12], "half of HTTP/2's preface"),
        (PREFACE, "HTTP/2 without a request"),
    ] {
        let mut caller = Connection::to(&world.gateway.url).await;
        caller.send(sent).await;
        let came = caller.rest().await;
        let answered = String::from_utf8_lossy(&came).contains("200 OK");
        assert!(!answered, "{what}");
    }
    let mut caller = Connection::to(&world.gateway.url).await;
    for _ in 0..2 {
        caller.send(request("cl-n6-a")).await;
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    }
    caller.send(half).await;
    assert!(caller.rest().await.is_empty(), "half of a later head");
    eventually("all of them are gone", async || {
        (world.gateway.metric("contacts_gateway_connections").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout() {
    let world = World::with(IMPATIENT).await;
    let mut caller = Connection::to(&world.gateway.url).await;
    for _ in 0..2 {
        caller.send(request("cl-n6-a")).await;
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
        // The time is what is tested here.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    caller.send(request("cl-n6-a")).await;
    assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_head() {
    let world = World::with(IMPATIENT).await;
    world.vendor.behave(Behaviour {
        delay: Duration::from_millis(900),
        ..Behaviour::default()
    });
    let mut caller = Connection::to(&world.gateway.url).await;
    // The second comes while the first is answered, and waits for its turn.
    caller.send(request("cl-n6-a") + &request("cl-n6-b")).await;
    for _ in 0..2 {
        assert!(caller.answer().await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn one_connection_too_many_waits_and_is_served_once_a_place_is_free() {
    let world = World::with("[listen]\nmax_connections = 1").await;
    let mut first = Connection::to(&world.gateway.url).await;
    first.send(request("cl-n6-a")).await;
    first.answer().await;
    let mut second = Connection::to(&world.gateway.url).await;
    second.send(request("cl-n6-b")).await;
    first.send(request("cl-n6-a")).await;
    first.answer().await;
    assert_eq!(
        world.gateway.metric("contacts_gateway_connections").await,
        1.0
    );
    assert_eq!(world.vendor.calls(), 1, "nobody heard the second");
    drop(first);
    assert!(second.answer().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_connections_metric_is_back_at_0_when_all_callers_are_gone() {
    let world = World::new().await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = Connection::to(&world.gateway.url).await;
        caller.send(request("cl-n6-a")).await;
        caller.answer().await;
        callers.push(caller);
    }
    let open = async || world.gateway.metric("contacts_gateway_connections").await;
    assert_eq!(open().await, 3.0);
    drop(callers);
    eventually("none is open", async || (open().await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_1_and_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let file = settings_file(&folder, "");
    for (setting, other) in [("LISTEN", "ADMIN"), ("ADMIN", "LISTEN")] {
        let variable = |name| format!("CONTACTS_GATEWAY__{name}__ADDRESS");
        let env = [
            (&*variable(setting), &*taken),
            (&*variable(other), "127.0.0.1:0"),
        ];
        let ended = Program::run(&["serve", "--config", &file], &env).await;
        assert_eq!(ended.code, Some(1));
        let says = format!("{}.address {taken}: ", setting.to_lowercase());
        let last: Value = serde_json::from_str(ended.err.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "ERROR");
        assert!(last["error"].as_str().unwrap().contains(&says), "{last}");
    }
}
