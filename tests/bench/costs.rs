//! What single things cost, for people to look at: `cargo bench --bench costs`, and with a part of a name behind it only those.
//! Times are the machine's of the moment; `tests/bench/instructions` counts what can be compared.

#![expect(
    clippy::unwrap_used,
    reason = "what goes wrong here ends the benchmark"
)]

use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use contacts_gateway::cache::policy::{Limits, verdict};
use contacts_gateway::clock::Clock;
use contacts_gateway::config::Config;
use contacts_gateway::contacts::control::Directives;
use contacts_gateway::contacts::{Api, ListKey, PageKey};
use contacts_gateway::server::Gateway;
use contacts_gateway::upstream::credentials::{By, Credentials};
use contacts_gateway::vendor::{self, Vendor};
use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use tokio::runtime::Runtime;

const ACCOUNT: &str = "67777ce93e25326494e90000";
const STREAM: &str = "st-0603182c-7ffb-5000-8000-000000000001";
const LIST: &str = "cl-n50-4b6f1f2e-0000-5000-8000-000000000001";

criterion_group!(costs, requests, scrape, tokens, keys, policies);
criterion_main!(costs);

/// The gateway before the stand-in vendor, both in this process.
struct World {
    callers: Connection,
    operators: Connection,
    stream: String,
    _runtime: Runtime,
    _vendor: Vendor,
    _folder: Folder,
}

impl World {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let _within = runtime.enter();
        let (mut settings, app) = vendor::Settings::demo().unwrap();
        settings.limit.calls = u32::MAX;
        let vendor = Vendor::start(settings).unwrap();
        let folder = Folder::new();
        let secret = folder.put("secret", app.secret.as_bytes());
        let tokens = (0..50).map(|n| {
            format!("[[callers]]\nname = \"caller-{n}\"\ntoken_sha256 = \"{n:064}\"\nrequests_per_minute = 60\n")
        });
        // The last of the fifty is the one that asks: the digest of "t".
        let known = "[[callers]]\nname = \"bench\"\nrequests_per_minute = 1000000000\n\
            token_sha256 = \"e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8\"\n";
        let text = format!(
            "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
            [upstream]\nurl = \"{}\"\n[cache]\nfresh_for = \"1h\"\n\
            [allowance]\ncalls = 100000\nwindow = \"1ms\"\n[telemetry]\nlog = \"error\"\n\
            [[credentials]]\nstream = \"{}\"\nclient_id = {:?}\nsecret_file = {secret:?}\n{}{known}",
            vendor.url(),
            app.stream,
            app.client_id,
            tokens.skip(1).collect::<String>(),
        );
        let config = folder.put("gateway.toml", text.as_bytes());
        let config = Config::load(Some(&config), std::iter::empty()).unwrap();
        let gateway = runtime
            .block_on(Gateway::bind(config, Clock::system()))
            .unwrap();
        let (callers, operators) = (gateway.address(), gateway.admin_address());
        runtime.spawn(gateway.run(std::future::pending()));
        Self {
            callers: Connection::to(callers.unwrap()),
            operators: Connection::to(operators.unwrap()),
            stream: app.stream.to_string(),
            _vendor: vendor,
            _folder: folder,
            _runtime: runtime,
        }
    }

    fn page(&mut self, account: &str, skip: u64) -> usize {
        let (prefix, stream) = ("/agentassist/api/v1/public", &self.stream);
        self.callers.get(&format!(
            "{prefix}/{stream}/campaign/contactList/{LIST}/getAllContacts?accountId={account}&skip={skip}"
        ))
    }
}

/// What a caller sees of a hit and of a miss, socket and all.
fn requests(criterion: &mut Criterion) {
    let mut world = World::new();
    world.page(ACCOUNT, 0);
    criterion.bench_function("hit, 50 contacts", |b| b.iter(|| world.page(ACCOUNT, 0)));
    let mut skip = 0;
    criterion.bench_function("miss, 50 contacts", |b| {
        b.iter(|| {
            skip += 1;
            world.page(ACCOUNT, skip)
        });
    });
}

/// `/metrics` with what 100 accounts and 50 callers bring.
fn scrape(criterion: &mut Criterion) {
    let mut world = World::new();
    for account in 0..100 {
        world.page(&format!("account-{account}"), 0);
    }
    criterion.bench_function("/metrics, 100 accounts, 50 callers", |b| {
        b.iter(|| world.operators.get("/metrics"));
    });
}

/// A fresh token for every call, by each algorithm.
fn tokens(criterion: &mut Criterion) {
    let folder = Folder::new();
    let secret = folder.put(
        "secret",
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    );
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    let key = BASE64_STANDARD.encode(pair.serialize_der());
    let key = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    let key = folder.put("key.pem", key.as_bytes());
    let runtime = Runtime::new().unwrap();
    for (algorithm, field, file) in [
        ("HS256", "secret_file", &secret),
        ("HS512", "secret_file", &secret),
        ("RS256", "key_file", &key),
        ("RS512", "key_file", &key),
    ] {
        let text = format!(
            "[[credentials]]\nstream = \"{STREAM}\"\nclient_id = \"cs-1\"\nalgorithm = \"{algorithm}\"\njti = true\n{field} = {file:?}\n"
        );
        let config = folder.put("gateway.toml", text.as_bytes());
        let config = Config::load(Some(&config), std::iter::empty()).unwrap();
        let credentials = Credentials::load(&config.credentials).unwrap();
        let credential = credentials.find(STREAM).unwrap();
        let clock = Clock::system();
        criterion.bench_function(&format!("token, {algorithm}"), |b| {
            b.iter(|| runtime.block_on(credential.token(By::Own, &clock)).unwrap());
        });
    }
}

/// A page's key from what a request says, and the vendor's target from that.
fn keys(criterion: &mut Criterion) {
    let key = |list| PageKey {
        list,
        api: Api::V1,
        skip: 50,
        limit: None,
        extra: None,
    };
    criterion.bench_function("key", |b| {
        b.iter(|| key(ListKey::new(black_box(STREAM), LIST, ACCOUNT).unwrap()));
    });
    let key = key(ListKey::new(STREAM, LIST, ACCOUNT).unwrap());
    criterion.bench_function("target of a key", |b| b.iter(|| black_box(&key).target()));
}

/// What to do with a page, and what a caller's `Cache-Control` says of that.
fn policies(criterion: &mut Criterion) {
    let limits = Limits {
        fresh: Duration::from_secs(60),
        usable: Duration::from_secs(3_600),
        if_error: Duration::from_secs(86_400),
        kept: Duration::from_secs(86_400),
    };
    let (age, asked) = (Duration::from_secs(61), Directives::default());
    criterion.bench_function("verdict", |b| {
        b.iter(|| verdict(black_box(age), &limits, black_box(&asked)));
    });
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, "max-age=30, max-stale=60".parse().unwrap());
    criterion.bench_function("Cache-Control of a request", |b| {
        b.iter(|| Directives::of(black_box(&headers)));
    });
}

/// A connection that is kept alive.
struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        }
    }

    /// Asks, and tells how long the answer is, which must be a 200.
    fn get(&mut self, target: &str) -> usize {
        let head = format!("GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer t\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes()).unwrap();
        let mut length = 0;
        for first in [true].into_iter().chain(std::iter::repeat(false)) {
            self.line.clear();
            self.stream.read_line(&mut self.line).unwrap();
            assert!(
                !first || self.line.starts_with("HTTP/1.1 200"),
                "{}",
                self.line
            );
            if let Some(told) = self.line.strip_prefix("content-length: ") {
                length = told.trim().parse().unwrap();
            }
            if self.line == "\r\n" {
                break;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).unwrap();
        length
    }
}

/// Gone with its files when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("contacts-gateway-costs-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn put(&self, name: &str, what: &[u8]) -> PathBuf {
        let file = self.0.join(Path::new(name));
        fs::write(&file, what).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
