//! A gateway and a stand-in vendor on real sockets, and a caller to ask them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use contacts_gateway::clock::{Clock, Hand};
use contacts_gateway::config::sources::Sources;
use contacts_gateway::server::{CutOff, Gateway};
use contacts_gateway::stack::Parts;
use contacts_gateway::vendor::{self, App, Behaviour, Vendor};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) mod authority;
pub(crate) mod callers;
pub(crate) mod chart;
pub(crate) mod collector;
pub(crate) mod connection;
pub(crate) mod living;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod redis;
pub(crate) mod secure;
mod wire;

pub(crate) const STREAM: &str = "st-0603182c-7ffb-53c3-b307-47ca14b90001";
pub(crate) const ACCOUNT: &str = "67777ce93e25326494e90001";
pub(crate) const CLIENT_ID: &str = "cs-8a3c5a5e-0000-5000-8000-000000000001";
/// Marked, so that it can be searched for where it must not be.
pub(crate) const SECRET: &str = "canary-secret-7f0c1d5b2a9e4f6d8c3b1a0f9e8d7c6b";

/// A vendor, a gateway before it, and the clock that both go by.
pub(crate) struct World {
    pub(crate) vendor: Vendor,
    pub(crate) gateway: Running,
    pub(crate) hand: Hand,
}

impl World {
    /// With the default settings.
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With these settings (TOML) over the defaults.
    pub(crate) async fn with(settings: &str) -> Self {
        Self::with_vendor(settings, |_| {}).await
    }

    /// With a vendor that is set up differently as well.
    pub(crate) async fn with_vendor(
        settings: &str,
        change: impl FnOnce(&mut vendor::Settings),
    ) -> Self {
        let (clock, hand) = Clock::by_hand();
        let mut vendor = vendor::Settings {
            apps: vec![App::hs256(
                STREAM.parse().unwrap(),
                CLIENT_ID,
                SECRET.as_bytes(),
            )],
            clock: clock.clone(),
            ..vendor::Settings::default()
        };
        change(&mut vendor);
        let vendor = Vendor::start(vendor).unwrap();
        let gateway = Running::before(&vendor.url(), settings, clock).await;
        Self {
            vendor,
            gateway,
            hand,
        }
    }

    /// Asks for a list by its id, as a caller does.
    pub(crate) async fn get(&self, list: &str) -> Answer {
        self.gateway.get(&path(list)).await
    }

    /// The same with fields.
    pub(crate) async fn get_with(&self, list: &str, fields: &[(&str, &str)]) -> Answer {
        self.gateway.send(Method::GET, &path(list), fields).await
    }

    /// What the vendor itself answers to the latest request that reached it.
    pub(crate) async fn vendor_again(&self) -> Answer {
        let seen = self.vendor.requests().pop().unwrap();
        let own = ["auth", "iid", "accountid"];
        let own = own.map(|name| (name, seen.headers[name].to_str().unwrap()));
        self.ask_vendor(&seen.target, &own).await
    }

    /// What the vendor itself answers.
    pub(crate) async fn ask_vendor(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}{path}", self.vendor.url());
        self.gateway.ask(Method::GET, url, fields).await
    }

    /// That nothing is under way any more, neither here nor, unless its connections are good for more, at the vendor.
    pub(crate) async fn is_at_rest(&self, kept_alive: bool) {
        eventually("no fetch is under way", async || {
            self.gateway.parts.tasks.is_empty().then_some(())
        })
        .await;
        eventually("no request is under way", async || {
            let active = self.gateway.metric("http_server_active_requests").await;
            (active == 0.0).then_some(())
        })
        .await;
        if !kept_alive {
            eventually("no connection is left", async || {
                (self.vendor.open_connections() == 0).then_some(())
            })
            .await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let panics = self.vendor.stats().panics;
            assert!(
                panics.is_empty(),
                "the vendor ran into a defect: {panics:?}"
            );
        }
    }
}

/// The vendor's path for a list of the test account, version 1.
pub(crate) fn path(list: &str) -> String {
    path_of(STREAM, list, ACCOUNT)
}

pub(crate) fn path_of(stream: &str, list: &str, account: &str) -> String {
    format!(
        "/agentassist/api/v1/public/{stream}/campaign/contactList/{list}/getAllContacts?accountId={account}"
    )
}

/// A vendor that sends these fields, in place of its own of the same name.
pub(crate) fn saying(fields: &[(&'static str, &'static str)]) -> Behaviour {
    let fields = fields.iter().copied();
    Behaviour {
        headers: fields
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect(),
        ..Behaviour::default()
    }
}

/// A vendor that answers with this status.
pub(crate) fn answering(status: StatusCode) -> Behaviour {
    Behaviour {
        status: Some(status),
        ..Behaviour::default()
    }
}

/// A gateway that runs in this process.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) parts: Parts,
    leave: Option<oneshot::Sender<()>>,
    runs: JoinHandle<Result<(), CutOff>>,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
    _folder: Folder,
}

impl Running {
    /// Before an upstream, with one app whose secret is [`SECRET`] unless the settings name others.
    pub(crate) async fn before(upstream: &str, settings: &str, clock: Clock) -> Self {
        let folder = Folder::new();
        let secret = folder.put("client_secret", SECRET);
        let own = if settings.contains("[[credentials]]") {
            String::new()
        } else {
            format!(
                "\n[[credentials]]\nstream = {STREAM:?}\nclient_id = {CLIENT_ID:?}\nsecret_file = {secret:?}\n"
            )
        };
        // Only tests of the allowance are about it: the others make as many calls as they like, from the start.
        let plenty = if settings.contains("[allowance]") {
            ""
        } else {
            "\n[allowance]\ncalls = 3000\n"
        };
        let file = folder.put("gateway.toml", &(settings.to_owned() + plenty + &own));
        let config = Self::sources(upstream, &file).config().unwrap();
        let gateway = Gateway::bind(config, clock).await.unwrap();
        Self::run(gateway, folder)
    }

    /// By the settings that are in a file, whatever becomes of it.
    pub(crate) async fn following(upstream: &str, file: &Path, clock: Clock) -> Self {
        let sources = Self::sources(upstream, file);
        let gateway = Gateway::bind(sources.config().unwrap(), clock).await;
        let gateway = gateway.unwrap().following(sources, None).unwrap();
        Self::run(gateway, Folder::new())
    }

    fn sources(upstream: &str, file: &Path) -> Sources {
        let ports = [
            ("CONTACTS_GATEWAY__LISTEN__ADDRESS", "127.0.0.1:0"),
            ("CONTACTS_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
            ("CONTACTS_GATEWAY__UPSTREAM__URL", upstream),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Sources::new(Some(file), ports.into_iter())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's tasks end with the test's runtime"
    )]
    fn run(gateway: Gateway, folder: Folder) -> Self {
        let (leave, left) = oneshot::channel();
        let (url, admin) = (gateway.address().unwrap(), gateway.admin_address().unwrap());
        let parts = gateway.parts().clone();
        let runs = tokio::spawn(gateway.run(async {
            let _ = left.await;
        }));
        Self {
            url: format!("http://{url}"),
            admin: format!("http://{admin}"),
            parts,
            leave: Some(leave),
            runs,
            client: Client::builder(TokioExecutor::new()).build_http(),
            _folder: folder,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(method, format!("{}{path}", self.url), fields)
            .await
    }

    /// Asks the operators' port.
    pub(crate) async fn operate(&self, method: Method, path: &str) -> Answer {
        self.ask(method, format!("{}{path}", self.admin), &[]).await
    }

    async fn ask(&self, method: Method, url: String, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// A metric's value, 0 where there is no such series: `name` or `name{label="value"}`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.operate(Method::GET, "/metrics").await.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Has it drain, and waits until it has.
    pub(crate) async fn leaves(&mut self) {
        self.tell_to_leave();
        self.has_left().await;
    }

    /// Waits until it has drained.
    pub(crate) async fn has_left(&mut self) {
        (&mut self.runs).await.unwrap().unwrap();
    }

    /// Tells it to drain; the rest is up to it.
    pub(crate) fn tell_to_leave(&mut self) {
        let _ = self.leave.take().unwrap().send(());
    }
}

/// What a caller got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A field's text; empty where it is missing.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cache_status(&self) -> &str {
        let status = self.field("cache-status");
        status.strip_prefix("contacts-gateway; ").unwrap_or(status)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// That this is the problem of that name, with everything that RFC 9457 and the contract ask of one.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, name: &str) {
        let problem = self.json();
        assert_eq!(
            problem["type"],
            format!("urn:contacts-gateway:{name}"),
            "{problem}"
        );
        assert_eq!(
            (self.status.as_u16(), &problem["status"]),
            (status, &status.into()),
            "{problem}"
        );
        assert_eq!(self.field("content-type"), "application/problem+json");
        for member in ["title", "detail", "instance"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member} in {problem}"
            );
        }
        let retry_after = self.field("retry-after").parse::<u64>();
        assert_eq!(
            retry_after.as_ref().is_ok_and(|s| *s > 0),
            matches!(status, 429 | 503),
            "Retry-After: {retry_after:?}"
        );
    }
}

/// A folder of a test's own, gone when the test is over.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "contacts-gateway-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn put(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program itself, to be run with these arguments and nothing in its environment.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_contacts-gateway"));
    program.args(arguments).env_clear();
    program
}

/// Whether there is a program that a test needs. If not, the test leaves itself out.
pub(crate) fn is_there(needed: &str) -> bool {
    let there = Command::new(needed).arg("--help").output().is_ok();
    there || left_out(needed)
}

/// Says to `tests/run` that this test leaves itself out for want of something, and is false.
#[expect(clippy::disallowed_methods, reason = "`tests/run` tells where")]
pub(crate) fn left_out(needed: &str) -> bool {
    if let Ok(list) = std::env::var("TESTS_LEFT_OUT") {
        let thread = std::thread::current();
        let line = format!("{} needs {needed}\n", thread.name().unwrap_or("a test"));
        let list = OpenOptions::new().append(true).create(true).open(list);
        list.unwrap().write_all(line.as_bytes()).unwrap();
    }
    false
}

/// Waits for something that happens on its own, soon: looks again until it is so, and fails the test if it never is.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), looking).await {
        Ok(found) => found,
        Err(_) => panic!("never: {what}"),
    }
}
