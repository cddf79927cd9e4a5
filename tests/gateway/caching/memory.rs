//! That `cache.max_bytes` is what the cache takes, as the system counts it.

use std::path::Path;

use bytes::Bytes;
use contacts_gateway::vendor::{self, App, Behaviour, Vendor};
use futures_util::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::support::process::Serving;
use crate::support::{CLIENT_ID, SECRET, STREAM, left_out, path};

const MIB: u64 = 1 << 20;
const MAX: u64 = 32 * MIB;
/// What the process may take beyond `max_bytes`: for what is on its way, and for what its allocator wastes.
const SLACK: u64 = MAX / 4;

/// Pages, each of a list of its own, or all of one.
struct Flood {
    pages: usize,
    of_one_list: bool,
    contacts: usize,
    pad_to: Option<usize>,
    at_a_time: usize,
}

#[tokio::test]
async fn a_gigabyte_of_large_pages_leaves_memory_within_max_bytes() {
    let flood = Flood {
        pages: 1024,
        of_one_list: false,
        contacts: 50,
        pad_to: Some(MIB as usize),
        at_a_time: 2,
    };
    flood.leaves_memory_within_max_bytes().await;
}

#[tokio::test]
async fn thousands_of_pages_of_usual_size_leave_memory_within_max_bytes() {
    let flood = Flood {
        pages: 5_000,
        of_one_list: false,
        contacts: 50,
        pad_to: None,
        at_a_time: 8,
    };
    flood.leaves_memory_within_max_bytes().await;
}

#[tokio::test]
async fn thousands_of_empty_pages_leave_memory_within_max_bytes() {
    let flood = Flood {
        pages: 32_000,
        of_one_list: false,
        contacts: 0,
        pad_to: None,
        at_a_time: 8,
    };
    flood.leaves_memory_within_max_bytes().await;
}

#[tokio::test]
async fn thousands_of_pages_of_one_list_leave_memory_within_max_bytes() {
    let flood = Flood {
        pages: 64_000,
        of_one_list: true,
        contacts: 0,
        pad_to: None,
        at_a_time: 8,
    };
    flood.leaves_memory_within_max_bytes().await;
}

#[tokio::test]
async fn of_who_is_turned_away_what_is_sent_on_is_kept_and_not_the_whole_head() {
    if !Path::new("/proc/self/status").exists() {
        left_out("/proc");
        return;
    }
    let settings = "[upstream]\nforward_headers = [\"X-Tenant\"]\n\
                    [allowance]\ncalls = 1\nreserve = 0\nqueue_deadline = \"0s\"\nwindow = \"1h\"\n";
    let vendor = Vendor::start(vendor::Settings::default()).unwrap();
    let gateway = Serving::before(&vendor.url(), settings).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let pad = "x".repeat(MIB as usize / 8);
    let ask = async |page: u64| {
        let request = Request::builder()
            .uri(format!(
                "http://{}{}",
                gateway.callers,
                path(&format!("cl-n6-{page}"))
            ))
            .header("x-tenant", "blue")
            .header("x-pad", &pad);
        let request = request.body(Full::default()).unwrap();
        let answer = client.request(request).await.unwrap();
        let _ = answer.into_body().collect().await.unwrap();
    };
    ask(0).await;
    let before = gateway.program.resident();
    for page in 1..=400 {
        ask(page).await;
    }
    let status = gateway.operate(Method::GET, "/status").await.json();
    let accounts = status["accounts"].as_object().unwrap();
    let wanted = accounts
        .values()
        .map(|account| account["wanted"].as_u64().unwrap());
    assert!(wanted.sum::<u64>() >= 400, "{status}");
    let more = gateway.program.resident().saturating_sub(before);
    assert!(
        more < 10 * MIB,
        "{more} bytes for what 50 MiB of heads said"
    );
}

impl Flood {
    /// Passes the pages through the real program and looks at its memory all the while.
    async fn leaves_memory_within_max_bytes(self) {
        if !Path::new("/proc/self/status").exists() {
            left_out("/proc");
            return;
        }
        let mut settings = vendor::Settings {
            apps: vec![App::hs256(
                STREAM.parse().unwrap(),
                CLIENT_ID,
                SECRET.as_bytes(),
            )],
            ..vendor::Settings::default()
        };
        settings.limit.calls = u32::MAX;
        let vendor = Vendor::start(settings).unwrap();
        vendor.behave(Behaviour {
            pad_to: self.pad_to,
            ..Behaviour::default()
        });
        // A window so short that the allowance is never in the way.
        let settings =
            "[cache]\nmax_bytes = \"32MiB\"\n[allowance]\ncalls = 1000\nwindow = \"1ms\"\n";
        let gateway = Serving::before(&vendor.url(), settings).await;
        // Once, so that the code for it is in memory.
        gateway.get(&path("cl-missing")).await;
        let idle = gateway.program.resident();

        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let ask = async |page: usize| {
            let list = match self.of_one_list {
                true => format!("{}&skip={}", path("cl-n0-a"), 50 * page),
                false => path(&format!("cl-n{}-{page}", self.contacts)),
            };
            let request = Request::builder()
                .method(Method::GET)
                .uri(format!("http://{}{list}", gateway.callers));
            let request = request.body(Full::default()).unwrap();
            let (head, body) = client.request(request).await.unwrap().into_parts();
            assert_eq!(head.status, StatusCode::OK);
            body.into_data_stream()
                .for_each(async |some| drop(some.unwrap()))
                .await;
            if page.is_multiple_of(16) {
                gateway.program.resident()
            } else {
                0
            }
        };
        let taken = stream::iter(0..self.pages).map(&ask);
        let taken = taken.buffer_unordered(self.at_a_time);
        let most = taken
            .fold(0, async |most: u64, taken| most.max(taken))
            .await;

        let cache = gateway.operate(Method::GET, "/status").await.json()["cache"].clone();
        let bytes = cache["bytes"].as_u64().unwrap();
        assert_eq!(
            vendor.calls(),
            self.pages as u64 + 1,
            "each is another page"
        );
        assert!((MAX * 9 / 10..=MAX).contains(&bytes), "it is full: {cache}");
        assert!(
            most <= idle + MAX + SLACK,
            "{idle} bytes when idle, {most} with {cache}"
        );
    }
}
