//! The stand-in's bad manners, byte by byte.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

impl Bench {
    /// A request as HTTP/1.1 text.
    fn text(&self, list: &str) -> String {
        format!(
            "GET {} HTTP/1.1\r\nhost: vendor\r\nauth: {}\r\niid: {}\r\naccountid: {ACCOUNT}\r\n\r\n",
            self.target(list, ""),
            self.token(None),
            self.credentials.stream
        )
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.vendor.address()).await.unwrap()
    }

    /// Everything that comes on a connection of its own until it ends.
    async fn until_closed(&self, behaviour: Behaviour) -> String {
        self.vendor.behave(behaviour);
        let mut stream = self.connect().await;
        stream
            .write_all(self.text("cl-n6").as_bytes())
            .await
            .unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        String::from_utf8(all).unwrap()
    }
}

/// Reads on to the end of a head. What came after it is given, too.
async fn head(stream: &mut TcpStream) -> String {
    let mut read = String::new();
    while !read.contains("\r\n\r\n") {
        let mut some = [0; 512];
        let count = stream.read(&mut some).await.unwrap();
        assert_ne!(count, 0, "closed within a head: {read}");
        read.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    read
}

fn declared(head: &str) -> Option<usize> {
    let (_, rest) = head.split_once("content-length: ")?;
    rest.split_once("\r\n")?.0.parse().ok()
}

#[tokio::test]
async fn a_body_can_be_cut_in_the_middle() {
    let bench = Bench::new();
    let answer = bench
        .until_closed(Behaviour {
            cut: Some(Cut::InBody),
            ..Behaviour::default()
        })
        .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(
        declared(&answer).map(|all| all / 2),
        Some(body.len()),
        "{head}"
    );

    let answer = bench
        .until_closed(Behaviour {
            cut: Some(Cut::InChunks),
            ..Behaviour::default()
        })
        .await;
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    assert!(answer.contains(r#""status":"success""#), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_connection_can_be_cut_before_the_head_and_the_call_counts() {
    let bench = Bench::new();
    let answer = bench
        .until_closed(Behaviour {
            cut: Some(Cut::BeforeHead),
            ..Behaviour::default()
        })
        .await;
    assert_eq!(answer, "");
    assert_eq!(bench.vendor.calls(), 1);
}

#[tokio::test]
async fn an_idle_connection_can_end_just_when_the_next_request_comes() {
    let bench = Bench::new();
    bench.vendor.behave(Behaviour {
        cut: Some(Cut::WhenReused),
        times: Some(1),
        ..Behaviour::default()
    });
    let mut stream = bench.connect().await;
    let request = bench.text("cl-n0");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest.matches("HTTP/1.1").count(), 0, "{rest}");
    let stats = bench.vendor.stats();
    assert_eq!((stats.calls, stats.dropped), (1, 1));
    assert_eq!(bench.ask("cl-n6", "").await.0, 200, "a new one is served");
}

#[tokio::test]
async fn garbage_comes_as_it_is_and_then_nothing() {
    let bench = Bench::new();
    let answer = bench
        .until_closed(Behaviour {
            garbage: Some("SSH-2.0-vendor\r\n".into()),
            ..Behaviour::default()
        })
        .await;
    assert_eq!(answer, "SSH-2.0-vendor\r\n");
}

#[tokio::test]
async fn informational_answers_come_first() {
    let bench = Bench::new();
    bench.vendor.behave(Behaviour {
        informational: vec![102, 103],
        ..Behaviour::default()
    });
    let mut stream = bench.connect().await;
    stream
        .write_all(
            bench
                .text("cl-n6")
                .replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    let statuses: Vec<_> = all
        .lines()
        .filter(|line| line.starts_with("HTTP/1.1"))
        .collect();
    assert_eq!(
        statuses,
        [
            "HTTP/1.1 102 Processing",
            "HTTP/1.1 103 Early Hints",
            "HTTP/1.1 200 OK"
        ]
    );
}

#[tokio::test]
async fn trailers_follow_a_chunked_body() {
    let bench = Bench::new();
    bench.vendor.behave(Behaviour {
        trailers: [("x-sum".parse().unwrap(), "1".parse().unwrap())]
            .into_iter()
            .collect(),
        ..Behaviour::default()
    });
    let request = bench.request(&bench.target("cl-n6", ""));
    let response = bench.client.request(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "1");
    let page: Value = serde_json::from_slice(&collected.to_bytes()).unwrap();
    assert_eq!(page["status"], "success");
}

#[tokio::test]
async fn a_stalled_answer_ends_with_the_vendor() {
    let bench = Bench::new();
    for (stall, bytes_come) in [(Stall::BeforeHead, false), (Stall::AfterHead, true)] {
        bench.vendor.reset();
        bench.vendor.behave(Behaviour {
            stall: Some(stall),
            ..Behaviour::default()
        });
        let mut stream = bench.connect().await;
        let request = bench.text("cl-n6");
        stream.write_all(request.as_bytes()).await.unwrap();
        if bytes_come {
            let head = head(&mut stream).await;
            assert!(declared(&head).is_some(), "{head}");
            assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
        } else {
            while bench.vendor.calls() == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(stream);
    }
    let (settings, _) = Settings::demo().unwrap();
    let vendor = Vendor::start(settings).unwrap();
    let mut stream = TcpStream::connect(vendor.address()).await.unwrap();
    while vendor.open_connections() == 0 {
        tokio::task::yield_now().await;
    }
    vendor.shutdown().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed");
}

#[tokio::test]
async fn a_body_can_be_padded_to_the_byte_and_dripped() {
    let bench = Bench::new();
    let size = 16 << 20;
    bench.vendor.behave(Behaviour {
        pad_to: Some(size),
        ..Behaviour::default()
    });
    let response = bench.send(bench.request(&bench.target("cl-n6", ""))).await;
    assert_eq!(response.body().len(), size);
    assert_eq!(json_of(&response)["status"], "success");

    bench.vendor.behave(Behaviour {
        drip: Some(Drip {
            bytes: 100,
            every: Duration::from_secs(3_600),
        }),
        ..Behaviour::default()
    });
    let request = bench.request(&bench.target("cl-n1", ""));
    let mut body = bench.client.request(request).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(
        first.into_data().unwrap().len(),
        100,
        "and the next in an hour"
    );
}

#[tokio::test]
async fn fields_statuses_and_bodies_are_sent_as_told() {
    let bench = Bench::new();
    let told = [
        (r#"{"status":302,"headers":[["location","/x"]]}"#, 302, None),
        (
            r#"{"body":"{}","headers":[["content-type","text/plain"],["etag","\"1\""]]}"#,
            200,
            Some("{}"),
        ),
        (r#"{"hollow":"empty"}"#, 200, Some("")),
        (r#"{"status":304}"#, 304, Some("")),
        (
            r#"{"headers":[["content-length","2"]],"body":"{}"}"#,
            200,
            Some("{}"),
        ),
        (r#"{"gzip":true,"chunked":true,"body":"x"}"#, 200, Some("x")),
    ];
    for (behaviour, status, body) in told {
        assert_eq!(
            bench.control(Method::PUT, "behaviour", behaviour).await.0,
            200
        );
        let response = bench.send(bench.request(&bench.target("cl-n6", ""))).await;
        assert_eq!(response.status(), status, "{behaviour}");
        if let Some(body) = body {
            assert_eq!(response.body(), body, "{behaviour}");
        }
        let behaviour: Behaviour = serde_json::from_str(behaviour).unwrap();
        for (name, value) in &behaviour.headers {
            assert_eq!(&response.headers()[name], value);
        }
        let gzip = response.headers().contains_key("content-encoding");
        assert_eq!(gzip, behaviour.gzip);
    }
}

#[tokio::test]
async fn a_refusal_on_demand_wears_any_status_and_text() {
    let bench = Bench::new();
    bench.vendor.behave(Behaviour {
        refuse: Some(Message::Older),
        status: Some(StatusCode::OK),
        ..Behaviour::default()
    });
    let (status, refusal) = bench.ask("cl-n6", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        refusal["errors"][0]["msg"],
        "Rate limit for this API has been reached. Please try again later"
    );
    assert_eq!(bench.vendor.stats().over_limit, 1);
}

#[tokio::test]
async fn http_2_is_cut_too() {
    let bench = Bench::new();
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<Bytes>>();
    let request = || bench.request(&bench.target("cl-n6", ""));
    for cut in [Cut::InBody, Cut::InChunks] {
        bench.vendor.behave(Behaviour {
            cut: Some(cut),
            ..Behaviour::default()
        });
        let response = client.request(request()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "{cut:?}");
    }
    for rude in [r#"{"cut":"before_head"}"#, r#"{"garbage":"SSH-2.0"}"#] {
        bench.vendor.behave(serde_json::from_str(rude).unwrap());
        assert!(client.request(request()).await.is_err(), "{rude}");
    }
    bench.vendor.behave(Behaviour::default());
    assert!(client.request(request()).await.is_ok());
    assert_eq!(
        bench.vendor.stats().accepted_connections,
        3,
        "both were cut"
    );
}
