//! What a look-up and a forget of a list cost among 1,000 pages and among 1,000,000. Run it with `cargo bench --bench growth`; it
//! takes two gigabytes.
//!
//! The stores are measured by turns, so that what disturbs the machine disturbs all. A look-up makes its key of text, as a
//! request does. Both do the same in all of them; what grows is that of a million pages the processor's caches hold few. So
//! forgets are measured once more where they hold nothing of any.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reads the machine's clock, prints what it found, and ends where something is wrong"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use contacts_gateway::cache::Settings;
use contacts_gateway::cache::policy::{Kind, Rules};
use contacts_gateway::cache::store::{Entry, Store};
use contacts_gateway::clock::Clock;
use contacts_gateway::contacts::{Api, Forwarded, ListKey, Millis, Page, PageKey, unix_seconds};
use contacts_gateway::telemetry::metrics::Metrics;
use contacts_gateway::upstream::allowance::ledger::Ledger;
use http::header::{CONTENT_TYPE, DATE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};

const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];
/// Pages of a list.
const PAGES: u64 = 4;
const ROUNDS: usize = 50;
const LOOK_UPS: u32 = 10_000;
const FORGETS: u32 = 100;
/// Of those with cold caches, in each round.
const COLD_FORGETS: u32 = 4;
/// More than any cache holds.
const LARGE: usize = 128 << 20;

fn main() {
    // Test runners start benchmarks too, without this flag.
    if !std::env::args().any(|flag| flag == "--bench") {
        return;
    }
    let mut worlds = SIZES.map(World::of);
    let mut found = [const { Vec::new() }; SIZES.len()];
    let mut forgot = found.clone();
    let mut forgot_cold = found.clone();
    let mut large = vec![0_u8; LARGE];
    for _ in 0..ROUNDS {
        for (n, world) in worlds.iter_mut().enumerate() {
            found[n].push(world.look_up());
            forgot[n].push(world.forget(FORGETS, || {}));
            let cool = || {
                let lines = large.iter_mut().step_by(64);
                lines.for_each(|byte| *byte = byte.wrapping_add(1));
            };
            forgot_cold[n].push(world.forget(COLD_FORGETS, cool));
        }
    }
    for (what, times) in [
        ("a look-up", found),
        ("a forget of a list", forgot),
        ("a forget with cold caches", forgot_cold),
    ] {
        let times = times.map(median);
        for (size, time) in SIZES.into_iter().zip(times) {
            let ratio = time.as_secs_f64() / times[0].as_secs_f64();
            println!("{what} among {size} pages: {time:?}, {ratio:.2} times the first");
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A store with so many pages.
struct World {
    store: Store,
    lists: u64,
    ledger: Ledger,
    rules: Rules,
    dice: u64,
}

impl World {
    fn of(pages: u64) -> Self {
        let settings = Settings {
            max_bytes: 4 << 30,
            fresh_for: Duration::from_secs(3_600),
            usable_for: Duration::from_secs(3_600),
            stale_if_error: Duration::from_secs(86_400),
            negative_for: Duration::from_secs(10),
        };
        let mut world = Self {
            store: Store::new(&settings, Metrics::new().expect("metrics"), Clock::system()),
            lists: pages / PAGES,
            ledger: Ledger::default(),
            rules: Rules {
                settings,
                upstream: Kind::Vendor,
            },
            dice: 9_111,
        };
        for list in 0..world.lists {
            world.fetch(list);
        }
        assert_eq!(world.store.holds().0, pages);
        world
    }

    /// Stores the pages of a list.
    fn fetch(&mut self, list: u64) {
        for page in 0..PAGES {
            let key = key(list, page);
            let (sent, debt) = (Forwarded::default(), self.ledger.open());
            let entry = Entry::of(&small(), &sent, false, &self.rules, debt);
            let entry = Arc::new(entry.expect("a page that may be kept"));
            let ticket = self.store.ticket(&key.list);
            assert!(ticket.store(&key, entry, &sent, None), "it is stored");
        }
    }

    /// What it takes to find a page.
    fn look_up(&mut self) -> Duration {
        let sent = Forwarded::default();
        let began = Instant::now();
        for _ in 0..LOOK_UPS {
            let key = key(self.any_list(), self.dice % PAGES);
            let found = self.store.entry(&key, &sent).expect("it is there");
            black_box(found.page.body.first());
        }
        began.elapsed() / LOOK_UPS
    }

    /// What it takes to forget a list, all of whose pages are there. `before`: what is done before each.
    fn forget(&mut self, forgets: u32, mut before: impl FnMut()) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..forgets {
            let list = self.any_list();
            let what = key(list, 0).list.into();
            // What earlier look-ups left to be done is not the forget's.
            self.store.holds();
            before();
            let began = Instant::now();
            assert_eq!(self.store.forget(&what), PAGES);
            took += began.elapsed();
            self.fetch(list);
        }
        took / forgets
    }

    fn any_list(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % self.lists
    }
}

fn key(list: u64, page: u64) -> PageKey {
    let list = format!("cl-0603182c-7ffb-53c3-b307-{list:012}");
    let stream = "st-0603182c-7ffb-53c3-b307-47ca14b90000";
    PageKey {
        list: ListKey::new(stream, &list, "67777ce93e25326494e90000").expect("ids"),
        api: Api::V2,
        skip: 50 * page,
        limit: None,
        extra: None,
    }
}

/// A page without contacts.
fn small() -> Page {
    let (received_at, date) = Clock::system().both();
    let fields = [
        (CONTENT_TYPE, "application/json; charset=utf-8"),
        (DATE, "Mon, 01 Jan 2024 00:00:00 GMT"),
        (ETAG, "\"RBNvo1WzZ4oRRq0W9-hkng\""),
    ];
    let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Page {
        status: StatusCode::OK,
        fields: HeaderMap::from_iter(fields).into(),
        body: Bytes::copy_from_slice(br#"{"status":"success","data":{"results":[]}}"#),
        received_at,
        date: unix_seconds(date),
        initial_age: Millis::default(),
        tagged_here: true,
        revalidated: false,
        ahead: Box::default(),
    }
}
