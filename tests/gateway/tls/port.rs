//! What the port speaks, with whom, and for how long it waits.

use std::process::{Command, Output, Stdio};

use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Private, SHOWN};
use crate::support::authority::at;
use crate::support::collector::{Collector, Kind};
use crate::support::connection::Connection;
use crate::support::living::Living;
use crate::support::secure::Caller;
use crate::support::{Folder, World, eventually, is_there, path};

/// The beginning of what every TLS client says first.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn the_protocol_is_agreed_upon_and_either_is_answered() {
    for (http2, offered, agreed) in [
        (true, &["h2", "http/1.1"][..], Some("h2")),
        (true, &["http/1.1", "h2"], Some("h2")),
        (true, &["h2"], Some("h2")),
        (true, &["http/1.1"], Some("http/1.1")),
        (true, &[], None),
        (false, &["h2", "http/1.1"], Some("http/1.1")),
        (false, &[], None),
    ] {
        let private = Private::open(&format!("listen.http2 = {http2}")).await;
        let caller = private.caller(None).speaking(offered);
        let connection = caller.connect(private.place()).await.unwrap();
        let spoken = connection.get_ref().1.alpn_protocol();
        assert_eq!(spoken, agreed.map(str::as_bytes), "{http2}, {offered:?}");
        let mut connection = private.keep(&caller).await.unwrap();
        for status in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl=60"] {
            let answer = connection.get(&path("cl-n6-a")).await.unwrap();
            assert_eq!(answer.cache_status(), status);
        }
    }
}

#[tokio::test]
async fn who_speaks_only_http2_is_refused_where_it_is_not_spoken() {
    let private = Private::open("listen.http2 = false").await;
    let caller = private.caller(None).speaking(&["h2"]);
    let refused = caller.connect(private.place()).await.unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
}

#[tokio::test]
async fn curl_is_answered_by_both_protocols_with_a_certificate_and_without() {
    if !is_there("curl") {
        return;
    }
    let folder = Folder::new();
    for private in [Private::open("").await, Private::asking("").await] {
        let issued = private.callers.issue(at("spiffe://example.org/a"));
        let [certificate, key] = issued.pem();
        let files = [
            private.authority.file(&folder),
            folder.put("a.crt", &certificate),
            folder.put("a.key", &key),
        ];
        let [ca, certificate, key] = files.each_ref().map(|file| file.to_str().unwrap());
        let url = format!("https://{}{}", private.place(), path("cl-n6-a"));
        for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let told = "%{http_version} %{response_code} %{ssl_verify_result}";
            let asking = [
                "-sS",
                "-o",
                "-",
                protocol,
                "--cacert",
                ca,
                "--cert",
                certificate,
                "--key",
                key,
                "-w",
                told,
                &url,
            ];
            let asked = run("curl", &asking).await;
            let said = String::from_utf8(asked.stdout).unwrap();
            assert!(said.ends_with(&format!("}}{version} 200 0")), "{said}");
        }
    }
}

#[tokio::test]
async fn what_is_old_or_weak_is_refused() {
    if !is_there("openssl") {
        return;
    }
    let private = Private::open("").await;
    let shake = async |arguments: &[&str]| {
        let connect = ["s_client", "-connect", private.place()];
        let ended = run("openssl", &[&connect, arguments].concat()).await;
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        (ended.status.success(), said)
    };
    for good in [
        &["-tls1_3"][..],
        &["-tls1_2"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
    ] {
        let (good, said) = shake(good).await;
        assert!(good, "{said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let (good, said) = shake(&[version, "-cipher", "ALL:@SECLEVEL=0"]).await;
        assert!(!good && said.contains("SSL alert"), "{version}: {said}");
    }
    for ciphers in [
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-RSA-AES128-SHA256",
        "AES128-GCM-SHA256",
        "AES256-SHA",
        "DHE-RSA-AES256-GCM-SHA384",
        "aNULL:eNULL",
    ] {
        let only = format!("{ciphers}:@SECLEVEL=0");
        let (good, said) = shake(&["-tls1_2", "-cipher", &only]).await;
        assert!(
            !good && said.contains("alert handshake failure"),
            "{ciphers}: {said}"
        );
    }
}

#[tokio::test]
async fn who_speaks_the_wrong_one_of_tls_and_cleartext_is_let_go() {
    let private = Private::open("").await;
    let mut clear = Connection::to(private.place()).await;
    clear.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let came = clear.rest().await;
    assert_eq!(came.first(), Some(&0x15), "an alert: {came:?}");
    private
        .get(&private.caller(None), &path("cl-n6-a"))
        .await
        .unwrap();

    let world = World::new().await;
    let caller = Caller::new(&private.authority, None);
    assert!(caller.connect(world.gateway.place()).await.is_err());
    assert_eq!(world.get("cl-n6-a").await.status, 200);
}

#[tokio::test]
async fn who_does_not_shake_hands_or_ask_in_time_is_let_go() {
    let private = Private::open("listen.header_timeout = \"300ms\"").await;
    for bytes in [&b""[..], b"\x16", HELLO] {
        let mut slow = Connection::to(private.place()).await;
        slow.send(bytes).await;
        assert_eq!(slow.rest().await, b"");
    }
    let silent = private.caller(None).speaking(&["http/1.1"]);
    private.keep(&silent).await.unwrap().ended().await;
}

#[tokio::test]
async fn who_shakes_hands_has_a_place_among_the_connections() {
    let private = Private::open("listen.max_connections = 1").await;
    let gateway = &private.living.world.gateway;
    let mut slow = TcpStream::connect(private.place()).await.unwrap();
    slow.write_all(HELLO).await.unwrap();
    eventually("it is counted", async || {
        let open = gateway.metric("contacts_gateway_connections").await;
        (open == 1.0).then_some(())
    })
    .await;
    let caller = private.caller(None);
    let list = path("cl-n6-a");
    let waits = private.get(&caller, &list);
    let slow_leaves = async {
        assert_eq!(gateway.metric("contacts_gateway_connections").await, 1.0);
        drop(slow);
    };
    let (answer, ()) = tokio::join!(waits, slow_leaves);
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn connections_end_in_order_when_the_gateway_leaves() {
    for protocol in ["h2", "http/1.1"] {
        let mut private = Private::open("").await;
        let caller = private.caller(None).speaking(&[protocol]);
        let mut idle = private.keep(&caller).await.unwrap();
        idle.get(&path("cl-n6-a")).await.unwrap();
        let mut shaking = Connection::to(private.place()).await;
        shaking.send(HELLO).await;
        private.living.world.gateway.leaves().await;
        idle.ended().await;
        assert_eq!(shaking.rest().await, b"");
    }
}

#[tokio::test]
async fn a_session_is_taken_up_again_only_where_no_certificates_are_asked_for() {
    let open = Private::open("").await;
    let asking = Private::asking("").await;
    let issued = asking.callers.issue(at("spiffe://example.org/a"));
    for version in [&TLS12, &TLS13] {
        for (private, shows, resumed) in [(&open, None, true), (&asking, Some(&issued), false)] {
            let caller = Caller::by(&[version], &private.authority, shows);
            for resumed in [false, resumed, resumed] {
                let mut connection = private.keep(&caller).await.unwrap();
                assert_eq!(connection.resumed, resumed, "{version:?}");
                // Tickets come before the answer.
                let answer = connection.get(&path("cl-n6-a")).await.unwrap();
                assert_eq!(answer.status, 200);
            }
        }
    }
}

#[tokio::test]
async fn a_trace_says_which_of_them_it_was() {
    let collector = Collector::start().await;
    let telemetry = format!(
        "[telemetry]\notlp_endpoint = {:?}\ntrace_ratio = 1.0\n",
        collector.url
    );
    let mut private = Private::open(&telemetry).await;
    let caller = private.caller(None);
    private.get(&caller, &path("cl-n6-a")).await.unwrap();
    private.living.world.gateway.leaves().await;
    let spans = collector.spans();
    let server = spans.iter().find(|span| span.kind == Kind::Server).unwrap();
    assert_eq!(server.says("url.scheme"), "https");
}

#[tokio::test]
async fn new_connections_go_by_the_settings_of_their_time() {
    let private = Private::open("").await;
    let living: &Living = &private.living;
    let caller = private.caller(None).speaking(&["http/1.1"]);
    let mut kept = private.keep(&caller).await.unwrap();
    living.settings("").await;
    assert_eq!(living.world.get("cl-n6-a").await.status, 200, "cleartext");
    living
        .settings(&format!("listen.tls = {{ {SHOWN} }}"))
        .await;
    let mut again = private.keep(&caller).await.unwrap();
    for connection in [&mut kept, &mut again] {
        assert_eq!(connection.get(&path("cl-n6-a")).await.unwrap().status, 200);
    }
}

async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.unwrap().unwrap()
}
