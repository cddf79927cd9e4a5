//! One run: a vendor, a server or several before it, and callers who do not wait for one another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contacts_gateway::clock::Clock;
use contacts_gateway::contacts::AccountId;
use contacts_gateway::vendor::{self, App, Behaviour, Limit, Seen, Stall, Vendor};
use tokio::runtime::Builder;
use tokio_util::task::TaskTracker;

use super::callers::{Callers, Got};
use super::load::{ACCOUNT, Dice, Load, STREAM};
use super::servers::{CLIENT_ID, Kind, SECRET, Server};
use super::store::Store;

/// The vendor's window, ten times faster.
pub(crate) const WINDOW: Duration = Duration::from_secs(6);
/// An outage, the vendor's or the store's, begins so long after the warm-up, of a minute's measurement.
pub(crate) const OUTAGE: (f64, Duration) = (1.0 / 3.0, Duration::from_secs(10));
/// A call that was under way when another was refused may still arrive for so long.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// What happens.
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Pages change places so often.
    pub(crate) new_ranking: Option<Duration>,
    /// For a while the vendor answers nothing.
    pub(crate) outage: bool,
    /// Somebody else spends half of the allowance, at once.
    pub(crate) stranger: bool,
    /// The vendor has counted calls before the start.
    pub(crate) spent_before: bool,
    /// How many gateways there are. More than one share a Redis.
    pub(crate) replicas: usize,
    /// For a while that is gone, and then comes back empty.
    pub(crate) store_dies: bool,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) asked: usize,
    pub(crate) answered: usize,
    /// Callers who got nothing, not even a refusal.
    pub(crate) unheard: usize,
    /// Those whose page did not come from memory.
    pub(crate) waited: usize,
    pub(crate) longest_wait: Duration,
    pub(crate) mean_age: Duration,
    pub(crate) calls: usize,
    pub(crate) refused: usize,
    /// The warm-up included.
    pub(crate) ever_refused: usize,
    /// Calls in the fullest stretch of the vendor's window, the warm-up included.
    pub(crate) fullest: usize,
    pub(crate) calls_in_outage: usize,
    /// Calls in the 6 s after a refusal.
    pub(crate) calls_in_pause: usize,
    pub(crate) stranger_refused: u32,
    /// Of a core, while it was measured.
    pub(crate) server_cpu: f64,
}

impl Outcome {
    /// Per cent, cut to two places so that only all is 100.
    pub(crate) fn answered(&self) -> f64 {
        (1e4 * self.answered as f64 / self.asked.max(1) as f64).floor() / 100.0
    }

    pub(crate) fn age(&self) -> f64 {
        self.mean_age.as_secs_f64()
    }
}

impl Run {
    /// Makes the run with this server. Blocks for as long as it takes.
    pub(crate) fn with(&self, kind: Kind) -> Outcome {
        let clock = Clock::system();
        let stand_in = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let (stand_in, callers) = (
            stand_in.unwrap(),
            Builder::new_current_thread().enable_all().build(),
        );
        let vendor = {
            let _inside = stand_in.enter();
            Vendor::start(self.vendor(clock.clone())).unwrap()
        };
        let timeout = if self.outage { "500ms" } else { "10s" };
        let store = (self.replicas > 1).then(Store::start);
        let url = store.as_ref().map(Store::url).unwrap_or_default();
        let servers: Vec<_> = (0..self.replicas)
            .map(|_| Server::start(kind, vendor.address(), timeout, &url))
            .collect();
        let outcome = callers
            .unwrap()
            .block_on(self.drive(&vendor, &servers, store, &clock));
        drop(servers);
        stand_in.block_on(vendor.shutdown());
        outcome
    }

    fn vendor(&self, clock: Clock) -> vendor::Settings {
        vendor::Settings {
            apps: vec![App::hs256(
                STREAM.parse().unwrap(),
                CLIENT_ID,
                SECRET.as_bytes(),
            )],
            limit: Limit {
                window: WINDOW,
                ..Limit::default()
            },
            clock,
            delays: Dice(1).delays(Duration::from_millis(25)).into(),
            numbered: true,
            ..vendor::Settings::default()
        }
    }

    async fn drive(
        &self,
        vendor: &Vendor,
        servers: &[Server],
        mut store: Option<Store>,
        clock: &Clock,
    ) -> Outcome {
        let account: AccountId = ACCOUNT.parse().unwrap();
        if self.spent_before {
            for _ in 0..40 {
                vendor.spend_elsewhere(&account, 1);
                clock.sleep_until(clock.now() + WINDOW / 40).await;
            }
        }
        let start = clock.now();
        let (from, to) = (start + self.warm_up, start + self.warm_up + self.measured);
        let callers = Arc::new(Callers::new(
            servers.iter().map(|server| server.address),
            clock,
        ));
        let outage = from + self.measured.mul_f64(OUTAGE.0);
        let outage = (outage, outage + OUTAGE.1);
        let asking = self.ask(&callers, start, from, to);
        let spending = async {
            let mut refused = 0;
            let mut burst = start + Duration::from_millis(700);
            while self.stranger && burst <= to {
                for call in 0..30 {
                    let at = burst + Duration::from_millis(20) * call;
                    clock.sleep_until(at).await;
                    let over = vendor.spend_elsewhere(&account, 1);
                    refused += if at >= from { over } else { 0 };
                }
                burst += WINDOW;
            }
            refused
        };
        let failing = async {
            if self.outage {
                clock.sleep_until(outage.0).await;
                vendor.behave(Behaviour {
                    stall: Some(Stall::BeforeHead),
                    ..Behaviour::default()
                });
                clock.sleep_until(outage.1).await;
                vendor.behave(Behaviour::default());
            }
        };
        let dying = async {
            if let Some(store) = store.as_mut().filter(|_| self.store_dies) {
                clock.sleep_until(outage.0).await;
                store.kill();
                clock.sleep_until(outage.1).await;
                store.start_again();
            }
        };
        // The stand-in remembers the latest requests only.
        let more = |seen: &mut Vec<Seen>| {
            let last = seen.last().map_or(0, |seen| seen.call);
            let requests = vendor.requests().into_iter();
            seen.extend(requests.filter(|seen| seen.call > last));
        };
        let watching = async {
            let mut seen: Vec<Seen> = Vec::new();
            while clock.now() < to {
                more(&mut seen);
                clock
                    .sleep_until(clock.now() + Duration::from_secs(2))
                    .await;
            }
            seen
        };
        let working = async {
            clock.sleep_until(from).await;
            let cpu = || servers.iter().map(Server::cpu).sum::<Duration>();
            let before = cpu();
            clock.sleep_until(to).await;
            (cpu() - before).as_secs_f64() / self.measured.as_secs_f64()
        };
        let ((), stranger_refused, (), (), mut seen, server_cpu) =
            tokio::join!(asking, spending, failing, dying, watching, working);
        more(&mut seen);
        let got = std::mem::take(&mut *callers.got.lock().unwrap());
        Outcome {
            stranger_refused,
            server_cpu,
            ..outcome(&got, &seen, (from, to), outage)
        }
    }

    /// Asks, whether or not those who asked before have been answered.
    async fn ask(&self, callers: &Arc<Callers>, start: Instant, from: Instant, to: Instant) {
        let tasks = TaskTracker::new();
        let (mut dice, mut which, mut due) = (Dice(2), Dice(3), start);
        let mut ranking: Vec<_> = (0..self.load.paths.len()).collect();
        let mut new_ranking = self.new_ranking.map(|every| start + every);
        while due < to {
            callers.clock.sleep_until(due).await;
            if new_ranking.is_some_and(|at| due >= at) {
                ranking = dice.ranking(ranking.len());
                new_ranking = new_ranking
                    .zip(self.new_ranking)
                    .map(|(at, every)| at + every);
            }
            let path = &self.load.paths[ranking[self.load.pick(&mut dice)]];
            let request = format!("GET {path} HTTP/1.1\r\nhost: contacts\r\n\r\n");
            let gateway = (which.roll() * self.replicas as f64) as usize;
            tasks.spawn(callers.clone().request(gateway, request, due >= from));
            due += self.load.pause(&mut dice);
        }
        tasks.close();
        tasks.wait().await;
    }
}

fn outcome(
    got: &[Got],
    seen: &[Seen],
    (from, to): (Instant, Instant),
    outage: (Instant, Instant),
) -> Outcome {
    let mut outcome = Outcome {
        asked: got.len(),
        ..Outcome::default()
    };
    let made: HashMap<u64, Instant> = seen.iter().map(|seen| (seen.call, seen.at)).collect();
    let mut ages = Duration::ZERO;
    for got in got {
        outcome.longest_wait = outcome.longest_wait.max(got.waited_for);
        let Some(answer) = &got.answer else {
            outcome.unheard += 1;
            continue;
        };
        outcome.waited += usize::from(!answer.from_memory);
        if answer.status == 200 {
            outcome.answered += 1;
            let call = answer.call.expect("every page says which call made it");
            ages += got.at - made[&call];
        }
    }
    outcome.mean_age = ages / outcome.answered.max(1) as u32;

    let within = |seen: &&Seen, from, to| (from..to).contains(&seen.at);
    let measured = || seen.iter().filter(|seen| within(seen, from, to));
    outcome.calls = measured().count();
    outcome.refused = measured().filter(|seen| seen.over_limit).count();
    outcome.ever_refused = seen.iter().filter(|seen| seen.over_limit).count();
    let in_outage = seen.iter().filter(|seen| within(seen, outage.0, outage.1));
    outcome.calls_in_outage = in_outage.count();
    let refused = seen.iter().filter(|seen| seen.over_limit).take(1000);
    outcome.calls_in_pause = refused
        .map(|refused| {
            let (from, to) = (refused.at + UNDER_WAY, refused.at + WINDOW);
            seen.iter().filter(|seen| within(seen, from, to)).count()
        })
        .sum();
    let mut first = 0;
    for (last, call) in seen.iter().enumerate() {
        while call.at - seen[first].at >= WINDOW {
            first += 1;
        }
        outcome.fullest = outcome.fullest.max(last + 1 - first);
    }
    outcome
}
