//! The protocol itself, by its own scripts in a real Redis: replicas that ask, fetch, stall, die and forget in any order. What
//! holds in all of them: one fetch of a page at a time, no page older than one that was there or than a forget, and never
//! more calls than the allowance.

use std::collections::HashMap;

use contacts_gateway::contacts::{Api, Forget, Forwarded, ListKey, Millis, PageKey, unix_seconds};
use contacts_gateway::fleet::{
    Account, Copy, Decision, Ended, Fleet, Grant, Known, Replica, Rules, Settings, Wish,
};
use contacts_gateway::telemetry::metrics::Metrics;
use futures_util::{StreamExt, stream};

use super::*;

const LEASE: Duration = Duration::from_millis(12);
const WINDOW: Duration = Duration::from_millis(40);
const CALLS: u32 = 7;
const REPLICAS: usize = 3;
const PAGES: usize = 2;
const STEPS: usize = 40;

/// `FLEET_SEEDS=10000` for more than a run of all tests has time for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_order_of_events_the_promises_hold() {
    let Some(redis) = Redis::start() else { return };
    #[expect(clippy::disallowed_methods, reason = "asked for by a person")]
    let seeds = std::env::var("FLEET_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(200_u64);
    let url = redis.url();
    let fleets = join_all((0..REPLICAS).map(|_| join(&url))).await;
    let worlds = stream::iter(0..seeds).map(|seed| World::new(seed, &fleets).run());
    let grants: usize = worlds
        .buffer_unordered(6)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .sum();
    assert!(grants as u64 >= seeds * 4, "calls were made: {grants}");
}

pub(super) async fn join(url: &str) -> Fleet {
    let settings = Settings {
        url: Some(url.parse().unwrap()),
        username: String::new(),
        password_file: "".into(),
        ca_file: "".into(),
        encryption_key_file: "".into(),
        prefix: "gateway".into(),
        timeout: Duration::from_secs(2),
    };
    let joining = settings.read().unwrap();
    let replica = Replica {
        address: None,
        memory: WINDOW,
        clock: Clock::system(),
        metrics: Metrics::new().unwrap(),
        forgets: Box::new(|_| {}),
        holds: Box::new(|_, _, _| None),
        sets_right: Box::new(|_| {}),
    };
    let fleet = Fleet::join(joining, replica).await;
    assert!(fleet.standing().up);
    fleet
}

/// A fetch under way somewhere.
struct Aloft {
    replica: usize,
    page: usize,
    grant: Grant,
    /// Forgets of its page that were over when it was asked for.
    forgets: u64,
}

struct World<'a> {
    seed: u64,
    dice: u64,
    fleets: &'a [Fleet],
    accounts: Vec<Account>,
    aloft: Vec<Aloft>,
    /// By page: the version that was seen last, and forgets that are over.
    versions: [u64; PAGES],
    forgets: [u64; PAGES],
    /// By version: the forgets that were over when its fetch was asked for.
    begun: HashMap<u64, u64>,
    /// When calls were let go, each between two moments.
    calls: Vec<(std::time::Instant, std::time::Instant)>,
    /// By page: who was let go to fetch it, and when at the earliest.
    leases: [Option<(usize, std::time::Instant)>; PAGES],
}

impl<'a> World<'a> {
    fn new(seed: u64, fleets: &'a [Fleet]) -> Self {
        let rules = Rules {
            window: WINDOW,
            calls: CALLS,
            reserve: 0,
            hourly: 0,
            floor: 1,
            pause: WINDOW,
            careful: WINDOW,
            lease: LEASE,
        };
        let account = format!("account-{seed}");
        let accounts = fleets
            .iter()
            .map(|fleet| fleet.account(&account, rules.clone()).unwrap());
        Self {
            seed,
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            fleets,
            accounts: accounts.collect(),
            aloft: Vec::new(),
            versions: [0; PAGES],
            forgets: [0; PAGES],
            begun: HashMap::new(),
            calls: Vec::new(),
            leases: [None; PAGES],
        }
    }

    /// Plays it through. Tells how many calls went.
    async fn run(mut self) -> usize {
        for _ in 0..STEPS {
            let (replica, page) = (self.roll(REPLICAS), self.roll(PAGES));
            match self.roll(10) {
                0..4 => self.asks(replica, page).await,
                4..6 => self.lands().await,
                6 => self.dies().await,
                7 => self.forgets(replica, page).await,
                8 => self.reads(replica, page).await,
                _ => tokio::time::sleep(Duration::from_millis(self.roll(9) as u64)).await,
            }
        }
        while !self.aloft.is_empty() {
            self.lands().await;
        }
        for replica in 0..REPLICAS {
            for page in 0..PAGES {
                self.reads(replica, page).await;
            }
        }
        // Of each, the earliest moment of a call and the latest of the one as many later as there may be.
        for calls in self.calls.windows(CALLS as usize + 1) {
            let apart = calls[CALLS as usize].1 - calls[0].0;
            assert!(
                apart >= WINDOW - Duration::from_millis(1),
                "seed {}: {CALLS} and one in {apart:?}",
                self.seed
            );
        }
        self.calls.len()
    }

    async fn asks(&mut self, replica: usize, page: usize) {
        let account = self.accounts[replica].clone();
        if self
            .aloft
            .iter()
            .any(|aloft| aloft.replica == replica && aloft.page == page)
        {
            return;
        }
        let (key, sent) = self.page(page);
        let known = self.fleets[replica]
            .page(&key, &sent)
            .await
            .map_or(0, |copy| copy.version);
        let forgets = self.forgets[page];
        let wish = Wish {
            page: Some((&key, &sent)),
            known,
            awaited: true,
            owed: 0,
            member: account.member(),
        };
        let before = Clock::system().now();
        // A machine that was held up for a second does not know who is there: nobody is let go then.
        let Ok((decision, _)) = account.ask(&wish).await else {
            return;
        };
        let after = Clock::system().now();
        match decision {
            Decision::Go(grant) => {
                if let Some((other, at)) = self.leases[page] {
                    let alone = other == replica || after - at >= LEASE - Duration::from_millis(1);
                    assert!(alone, "seed {}: two fetch a page at once", self.seed);
                }
                self.leases[page] = Some((replica, before));
                self.calls.push((before, after));
                self.begun.insert(grant.start.version, forgets);
                self.aloft.push(Aloft {
                    replica,
                    page,
                    grant,
                    forgets,
                });
            }
            Decision::Join => {
                let known = Known {
                    limit: f64::from(CALLS),
                    ceiling: f64::from(CALLS),
                    refused: None,
                    refusals: 0,
                    pause: None,
                    calls: Vec::new(),
                    guessed: Vec::new(),
                };
                account.join(&known).await.unwrap();
            }
            Decision::Wait(_) | Decision::Flying(..) | Decision::Newer(_) => {}
        }
    }

    /// One of the fetches comes back, however late.
    async fn lands(&mut self) {
        if self.aloft.is_empty() {
            return;
        }
        let one = self.roll(self.aloft.len());
        let Aloft {
            replica,
            page,
            grant,
            ..
        } = self.aloft.swap_remove(one);
        let (key, sent) = self.page(page);
        let copy = self.copy(&sent, grant.start.version);
        self.fleets[replica]
            .keep(&key, copy, grant.start, Duration::from_secs(60))
            .await;
        // Whether it was kept or late, its own lease is over; not another's.
        if self.leases[page].is_some_and(|(holder, _)| holder == replica) {
            self.leases[page] = None;
        }
        self.accounts[replica]
            .settle(&grant.member, Ended::Answered, None)
            .await
            .unwrap();
    }

    /// A replica never says how its fetch ended.
    async fn dies(&mut self) {
        if !self.aloft.is_empty() {
            let one = self.roll(self.aloft.len());
            self.aloft.swap_remove(one);
        }
    }

    async fn forgets(&mut self, replica: usize, page: usize) {
        let (key, _) = self.page(page);
        self.fleets[replica].forget(&Forget::from(key.list)).await;
        // What began before it holds nobody up who knows of it.
        self.forgets[page] += 1;
        self.leases[page] = None;
        // The others hear of it by and by: here, before they do anything else.
        tokio::time::sleep(Duration::from_millis(3)).await;
        for aloft in &self.aloft {
            assert!(aloft.page != page || aloft.forgets < self.forgets[page]);
        }
    }

    async fn reads(&mut self, replica: usize, page: usize) {
        let (key, sent) = self.page(page);
        let Some(copy) = self.fleets[replica].page(&key, &sent).await else {
            return;
        };
        let (seed, version) = (self.seed, copy.version);
        assert!(
            version >= self.versions[page],
            "seed {seed}: an older page took the place of a newer one"
        );
        self.versions[page] = version;
        assert_eq!(
            self.begun[&version], self.forgets[page],
            "seed {seed}: a page from before a forget"
        );
    }

    fn page(&self, page: usize) -> (PageKey, Forwarded) {
        let (list, account) = (format!("list-{page}"), format!("account-{}", self.seed));
        let list = ListKey::new(STREAM, &list, &account).unwrap();
        let key = PageKey {
            list,
            api: Api::V1,
            skip: 0,
            limit: None,
            extra: None,
        };
        (key, Forwarded::default())
    }

    fn copy(&self, sent: &Forwarded, version: u64) -> Copy {
        let (received_at, date) = Clock::system().both();
        let page = contacts_gateway::contacts::Page {
            status: StatusCode::OK,
            fields: http::HeaderMap::new().into(),
            body: version.to_string().into(),
            received_at,
            date: unix_seconds(date),
            initial_age: Millis::default(),
            tagged_here: true,
            revalidated: false,
            ahead: Box::default(),
        };
        Copy {
            page,
            sent: sent.clone(),
            authorized: false,
            version,
        }
    }

    /// A number below this one. The same ones for a seed.
    fn roll(&mut self, below: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) as usize % below
    }
}
