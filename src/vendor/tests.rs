//! The stand-in, over real sockets. What it does to connections is in `tests/rude.rs`.

mod rude;

use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::{EncodingKey, Header, encode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use super::*;
use crate::clock::Hand;

const ACCOUNT: &str = "67777ce93e25326494e90000";

/// A stand-in with one app, and a caller who knows its secret.
struct Bench {
    vendor: Vendor,
    credentials: Credentials,
    clock: Clock,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn by_hand() -> (Self, Hand) {
        let (clock, hand) = Clock::by_hand();
        (Self::with(|settings| settings.clock = clock), hand)
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (mut settings, credentials) = Settings::demo().unwrap();
        change(&mut settings);
        let clock = settings.clock.clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).unwrap();
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .build();
        Self {
            vendor: Vendor::start(settings).unwrap(),
            credentials,
            clock,
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    fn target(&self, list: &str, more: &str) -> String {
        let stream = &self.credentials.stream;
        format!(
            "/agentassist/api/v1/public/{stream}/campaign/contactList/{list}/getAllContacts?accountId={ACCOUNT}{more}"
        )
    }

    fn token(&self, jti: Option<&str>) -> String {
        let now = self.clock.wall().duration_since(UNIX_EPOCH).unwrap();
        let claims = json!({
            "sub": "test", "appId": self.credentials.client_id, "jti": jti,
            "iat": now.as_secs(), "exp": now.as_secs() + 300,
        });
        let secret = EncodingKey::from_secret(self.credentials.secret.as_bytes());
        encode(&Header::default(), &claims, &secret).unwrap()
    }

    fn request(&self, target: &str) -> Request<Full<Bytes>> {
        Request::get(format!("{}{target}", self.vendor.url()))
            .header("auth", self.token(None))
            .header("iid", self.credentials.stream.as_str())
            .header("accountId", ACCOUNT)
            .body(Full::default())
            .unwrap()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    async fn ask(&self, list: &str, more: &str) -> (StatusCode, Value) {
        let response = self.send(self.request(&self.target(list, more))).await;
        (response.status(), json_of(&response))
    }

    async fn control(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let uri = format!("{}/_stand-in/{path}", self.vendor.url());
        let request = Request::builder().method(method).uri(uri);
        let body = Full::from(body.to_owned());
        let response = self.send(request.body(body).unwrap()).await;
        (response.status(), json_of(&response))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.vendor.stats().panics.is_empty());
        }
    }
}

fn json_of(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

#[tokio::test]
async fn a_right_token_gets_the_documented_page() {
    let bench = Bench::new();
    let v1 = bench.target("cl-n6", "");
    let v2 = v1.replace("/agentassist/api/v1/", "/campaign/api/v2/");
    let mut bodies = Vec::new();
    for target in [&v1, &v2] {
        let response = bench.send(bench.request(target)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["server"], SERVER);
        assert!(response.headers().contains_key("date"));
        bodies.push(response.into_body());
    }
    assert_eq!(bodies[0], bodies[1], "one list on both paths");
    let page: Value = serde_json::from_slice(&bodies[0]).unwrap();
    assert_eq!(page["status"], "success");
    let data = &page["data"];
    assert_eq!(data["results"].as_array().unwrap().len(), 6);
    assert_eq!(
        (
            &data["skip"],
            &data["limit"],
            &data["hasMore"],
            &data["totalPages"]
        ),
        (&json!(0), &json!(50), &json!(false), &json!(1))
    );
    assert_eq!(data["totalResults"], 6);

    let mut head = bench.request(&v1);
    *head.method_mut() = Method::HEAD;
    let response = bench.send(head).await;
    assert_eq!(
        response.headers()["content-length"],
        bodies[0].len().to_string()
    );
    assert!(response.body().is_empty());
    assert_eq!(bench.vendor.stats().accounts[ACCOUNT], 3);
    assert_eq!(bench.vendor.requests()[0].target, v1);
}

#[tokio::test]
async fn a_missing_or_contradicting_part_is_refused() {
    let bench = Bench::new();
    let target = bench.target("cl-n6", "");
    for (header, value, want) in [
        ("auth", None, 401),
        ("auth", Some("Bearer x"), 401),
        ("iid", None, 400),
        ("iid", Some("st-other"), 400),
        ("accountid", None, 400),
        ("accountid", Some("other"), 400),
    ] {
        let mut request = bench.request(&target);
        request.headers_mut().remove(header);
        if let Some(value) = value {
            request.headers_mut().insert(header, value.parse().unwrap());
        }
        let response = bench.send(request).await;
        assert_eq!(response.status(), want, "{header}: {value:?}");
        assert_eq!(json_of(&response)["errors"][0]["code"], want);
    }
    let (bare, _) = target.split_once('?').unwrap();
    let bare = bench.send(bench.request(bare)).await;
    assert_eq!(bare.status(), 400, "no account in the query");
    for (more, want) in [("&skip=x", 400), ("&limit=0", 400), ("&other=1", 200)] {
        assert_eq!(bench.ask("cl-n6", more).await.0, want, "{more}");
    }
    let mut post = bench.request(&target);
    *post.method_mut() = Method::POST;
    assert_eq!(bench.send(post).await.status(), 405);
    assert_eq!(bench.ask("cl-missing-1", "").await.0, 404);
    assert_eq!(bench.send(bench.request("/elsewhere")).await.status(), 404);
    let stats = bench.vendor.stats();
    assert_eq!((stats.calls, stats.refused, stats.answered), (12, 10, 2));
}

#[tokio::test]
async fn a_replayed_jti_is_refused() {
    let bench = Bench::with(|settings| {
        settings.apps = settings.apps.drain(..).map(App::enforcing_jti).collect();
    });
    assert_eq!(bench.ask("cl-n6", "").await.0, 401, "no jti");
    for (jti, want) in [("a", 200), ("a", 401), ("b", 200)] {
        let mut request = bench.request(&bench.target("cl-n6", ""));
        let token = bench.token(Some(jti)).parse().unwrap();
        request.headers_mut().insert("auth", token);
        assert_eq!(bench.send(request).await.status(), want, "{jti}");
    }
}

#[tokio::test]
async fn a_token_is_too_early_for_a_slow_clock_and_too_late_for_a_fast_one() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    for (skew, leeway, want) in [
        (Skew::Behind(minutes(1)), Duration::ZERO, 401),
        (Skew::Behind(minutes(1)), minutes(1), 200),
        (Skew::Ahead(minutes(4)), Duration::ZERO, 200),
        (Skew::Ahead(minutes(6)), Duration::ZERO, 401),
    ] {
        let (clock, _hand) = Clock::by_hand();
        let bench = Bench::with(|settings| {
            settings.clock = clock;
            settings.skew = skew;
            settings.leeway = leeway;
        });
        assert_eq!(bench.ask("cl-n6", "").await.0, want, "{skew:?}");
    }
}

#[tokio::test]
async fn the_sixty_first_call_of_a_minute_is_refused_with_the_documented_message() {
    let (bench, hand) = Bench::by_hand();
    for _ in 0..60 {
        assert_eq!(bench.ask("cl-n1", "").await.0, 200);
    }
    let (status, refusal) = bench.ask("cl-n1", "").await;
    assert_eq!(status, 429);
    assert_eq!(
        refusal["errors"][0]["msg"],
        "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."
    );
    hand.forward(Duration::from_secs(60));
    assert_eq!(bench.ask("cl-n1", "").await.0, 200);
    let elsewhere = |calls| {
        let account = ACCOUNT.parse().unwrap();
        bench.vendor.spend_elsewhere(&account, calls)
    };
    assert_eq!(elsewhere(59), 0);
    assert_eq!(bench.ask("cl-n1", "").await.0, 429, "somebody else's calls");
    assert_eq!(elsewhere(2), 2);
    let over: Vec<_> = bench.vendor.requests();
    let over: Vec<_> = over.iter().filter(|seen| seen.over_limit).collect();
    assert_eq!(
        over.iter().map(|seen| seen.call).collect::<Vec<_>>(),
        [61, 63]
    );
    assert_eq!(over[1].at - over[0].at, Duration::from_secs(60));
    assert_eq!(bench.vendor.stats().over_limit, 2);
    assert_eq!(bench.vendor.calls(), 63);
}

#[tokio::test]
async fn calls_take_the_times_that_were_set_and_are_numbered_if_wanted() {
    let bench = Bench::with(|settings| {
        settings.delays = [Duration::ZERO, Duration::from_millis(30)].into();
        settings.numbered = true;
    });
    for call in 1..=4 {
        let before = bench.clock.now();
        let (_, page) = bench.ask("cl-n1", "").await;
        let message = format!("Contacts retrieved successfully (call {call})");
        assert_eq!(page["message"], message);
        let took = bench.clock.now() - before;
        assert!(
            call % 2 == 1 || took >= Duration::from_millis(30),
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn pages_join_to_the_whole_list() {
    let bench = Bench::new();
    let mut joined = Vec::new();
    loop {
        let more = format!("&skip={}&limit=1000", joined.len());
        let page = bench.ask("cl-n120-x", &more).await.1;
        joined.extend(page["data"]["results"].as_array().unwrap().clone());
        assert_eq!(page["data"]["limit"], 50, "the documented cap");
        assert_eq!(page["data"]["totalPages"], 3);
        if page["data"]["hasMore"] == false {
            break;
        }
    }
    let bench = Bench::with(|settings| settings.largest_limit = NonZeroU64::MAX);
    let whole = bench.ask("cl-n120-x", "").await.1;
    assert_eq!(whole["data"]["results"], Value::from(joined));
    assert_eq!(whole["data"]["totalResults"], 120);
}

#[tokio::test]
async fn it_is_told_to_misbehave_over_http_and_tells_what_happened() {
    let bench = Bench::new();
    let told = r#"{"status": 503, "times": 1, "only_list": "cl-n1"}"#;
    let (status, behaviour) = bench.control(Method::PUT, "behaviour", told).await;
    assert_eq!((status.as_u16(), &behaviour["status"]), (200, &json!(503)));
    let statuses = [
        bench.ask("cl-n2", "").await.0,
        bench.ask("cl-n1", "").await.0,
        bench.ask("cl-n1", "").await.0,
    ];
    assert_eq!(statuses.map(|status| status.as_u16()), [200, 503, 200]);
    let (status, refusal) = bench
        .control(Method::PUT, "behaviour", r#"{"sttus":1}"#)
        .await;
    assert_eq!(status, 400);
    assert!(refusal.to_string().contains("sttus"), "{refusal}");
    let (_, stats) = bench.control(Method::GET, "stats", "").await;
    assert_eq!(stats["calls"], 3);
    assert_eq!(stats["accepted_connections"], 1);
    assert_eq!(stats["open_connections"], 1);
    bench.control(Method::POST, "reset", "").await;
    let (_, behaviour) = bench.control(Method::GET, "behaviour", "").await;
    assert_eq!(behaviour["status"], Value::Null);
    assert_eq!(bench.vendor.calls(), 0);
}

#[tokio::test]
async fn http_2_is_spoken_in_cleartext_and_over_tls() {
    let cleartext = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Full<Bytes>>();
    let bench = Bench::new();
    let request = bench.request(&bench.target("cl-n6", ""));
    let response = cleartext.request(request).await.unwrap();
    assert_eq!(
        (response.status(), response.version()),
        (StatusCode::OK, Version::HTTP_2)
    );

    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], private_key())
        .unwrap();
    let bench = Bench::with(|settings| settings.tls = Some(Arc::new(tls)));
    let response = bench.send(bench.request(&bench.target("cl-n6", ""))).await;
    assert_eq!(
        (response.status(), response.version()),
        (StatusCode::OK, Version::HTTP_2)
    );
}

/// Valid for 127.0.0.1, from 2020 to 2120, and trusted by nobody but these tests.
fn certificate() -> CertificateDer<'static> {
    BASE64_STANDARD.decode(CERTIFICATE).unwrap().into()
}

fn private_key() -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(BASE64_STANDARD.decode(PRIVATE_KEY).unwrap()).into()
}

const CERTIFICATE: &str = "MIIBRDCB7KADAgECAgEBMAoGCCqGSM49BAMCMBoxGDAWBgNVBAMMD3N0YW5kLWluIHZlbmRvcjAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowGjEYMBYGA1UEAwwPc3RhbmQtaW4gdmVuZG9yMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVCpWy7Uvj1VC+zq4fzYlKYlcjWOtCz8sJL7rGpSIrAzCLf69Gk+vmGlr+9SPWTdH8g/7XhIb5cJu5mxXabRVO6MhMB8wDwYDVR0RBAgwBocEfwAAATAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMCA0cAMEQCIGQyyGA7MiRR5VuiI9tXhhKQT4SxVsiNgXLDgv1XOXsWAiBo4AVkJHkwDeZJIObZeWV/bCHOJ7gaxUdm9jwRBKx+tA==";
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMJR7iW9D3MJk4Lh0FO5N5GK5cdQOCm2hV5TEk1WmOPChRANCAARUKlbLtS+PVUL7Orh/NiUpiVyNY60LPywkvusalIisDMIt/r0aT6+YaWv71I9ZN0fyD/teEhvlwm7mbFdptFU7";
