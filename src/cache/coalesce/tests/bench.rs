//! A cache over calls that land when a test says so.

use tokio::sync::oneshot;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::*;
use crate::cache::store::Store;
use crate::cache::test_pages::{allowance, key, rules};
use crate::clock::{Clock, Hand};
use crate::contacts::control::Directives;
use crate::contacts::{Caller, Forget};
use crate::fleet::Fleet;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::upstream::Reason;
use crate::upstream::allowance::Outcome;

/// What is below: each call waits until the test lets it land.
type Below = BoxCloneSyncService<Fetch, Page, Error>;

/// A caller who waits.
pub(super) type Asking = BoxFuture<'static, Result<Fetched, Error>>;

pub(super) struct Bench {
    fetches: Fetches<Below>,
    pub(super) store: Store,
    pub(super) tasks: TaskTracker,
    calls: Calls,
}

/// The calls that were made, in order, for as long as they wait.
type Calls = Arc<Mutex<Vec<Option<oneshot::Sender<Lands>>>>>;

/// How a call ends. A call whose sender is dropped panics.
pub(super) type Lands = Result<Page, Error>;

impl Bench {
    /// With calls to spare.
    pub(super) fn new() -> Self {
        Self::with(allowance(), Clock::system())
    }

    /// With so few calls in a window, none of which has been made, and time that a hand moves.
    pub(super) fn short(calls: u32) -> (Self, Hand) {
        let (clock, hand) = Clock::by_hand();
        let calls = NonZeroU32::new(calls).unwrap();
        let settings = allowance::Settings {
            calls,
            ..allowance()
        };
        let bench = Self::with(settings, clock);
        bench.desk();
        hand.forward(allowance().window);
        (bench, hand)
    }

    fn with(settings: allowance::Settings, clock: Clock) -> Self {
        let store = Store::new(&rules().settings, Metrics::new().unwrap(), clock.clone());
        let (tasks, calls) = (TaskTracker::new(), Calls::default());
        let made = calls.clone();
        let below = service_fn(move |fetch: Fetch| {
            fetch.permit.ended(Outcome::Answered, None);
            let (land, landing) = oneshot::channel();
            made.lock().unwrap().push(Some(land));
            async move { landing.await.expect("a test that wants this panic") }
        });
        let ways = Ways::default();
        ways.turn(Way {
            rules: rules(),
            upstream: BoxCloneSyncService::new(below),
        });
        let penalty = Duration::from_secs(3_600);
        let accounts = Allowances::new(settings, penalty, clock.clone(), tasks.clone());
        let lookups = Lookups::new(
            store.clone(),
            Fleet::alone(),
            accounts,
            clock,
            Duration::ZERO,
        );
        let fetches = Fetches::from(Source {
            ways,
            lookups: Arc::new(lookups),
            tasks: tasks.clone(),
            traces: Traces::default(),
        });
        Self {
            fetches,
            store,
            tasks,
            calls,
        }
    }

    /// A caller who found nothing in memory.
    pub(super) fn asks(&self, list: &str) -> Asking {
        self.wants(wanted(list, None))
    }

    pub(super) fn wants(&self, wanted: Wanted) -> Asking {
        self.fetches.clone().call(wanted)
    }

    /// A page is served that is no longer fresh.
    pub(super) fn serves(&self, list: &str) {
        let entry = self.entry(list).unwrap();
        let Wanted {
            key,
            forwarded,
            caller,
            authorized,
            ..
        } = wanted(list, None);
        let read = Read {
            caller,
            at: self.now(),
            key,
            forwarded,
            directives: Directives::default(),
            authorized,
        };
        assert!(entry.debt.want());
        self.fetches.refresh(&read, &entry);
    }

    /// A fetch of what a caller waits for begins with another replica's.
    pub(super) fn is_elsewhere(&self, wanted: Wanted) -> Flight {
        let launch = self.fetches.launch(&self.desk(), 0, move || Some(wanted));
        launch(Go::Elsewhere(None), 0, Wishes::default()).unwrap()
    }

    pub(super) fn now(&self) -> Instant {
        self.fetches.0.lookups.clock.now()
    }

    fn desk(&self) -> Desk {
        let account = key("cl-1").list;
        self.fetches.0.lookups.accounts.desk(account.account())
    }

    /// Keys that stay wanted, or are wanted fresh.
    pub(super) fn wanted(&self) -> usize {
        self.desk().book().wanted()
    }

    /// How many calls have been made once everybody has done what can be done.
    pub(super) async fn calls(&self) -> usize {
        settle().await;
        self.calls.lock().unwrap().len()
    }

    pub(super) async fn lands(&self, call: usize, how: Lands) {
        assert!(call < self.calls().await, "call {call} has been made");
        let land = self.calls.lock().unwrap()[call].take().unwrap();
        land.send(how).unwrap();
        settle().await;
    }

    pub(super) async fn panics(&self, call: usize) {
        assert!(call < self.calls().await, "call {call} has been made");
        drop(self.calls.lock().unwrap()[call].take());
        settle().await;
    }

    pub(super) fn forget(&self, list: &str) -> u64 {
        self.store.forget(&Forget::from(key(list).list))
    }

    /// A page comes into memory by another way than a fetch.
    pub(super) fn keeps(&self, list: &str, page: &Page) -> Arc<Entry> {
        let (key, debt) = (key(list), self.desk().open_debt());
        let ticket = self.store.ticket(&key.list);
        let entry = Entry::of(page, &none(), false, &rules(), debt).unwrap();
        ticket.store(&key, Arc::new(entry), &none(), None);
        self.entry(list).unwrap()
    }

    /// What is in memory of a list.
    pub(super) fn entry(&self, list: &str) -> Option<Arc<Entry>> {
        self.store.entry(&key(list), &none())
    }

    /// Its text.
    pub(super) fn kept(&self, list: &str) -> Option<String> {
        Some(text(&self.entry(list)?.page))
    }

    /// That nothing is under way and nobody is waited for.
    pub(super) async fn is_at_rest(&self) {
        settle().await;
        let desk = self.desk();
        let book = desk.book();
        assert_eq!((book.waiting(), book.wanted()), (0, 0));
        assert!(book.flight(&(key("cl-1"), none())).is_none());
        drop(book);
        assert!(self.tasks.is_empty());
    }
}

/// Lets every task run until it waits for the test: there is one thread, and nothing here waits for a clock or a socket.
pub(super) async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn none() -> Forwarded {
    Forwarded::default()
}

pub(super) fn wanted(list: &str, known: Option<Arc<Entry>>) -> Wanted {
    Wanted {
        key: key(list),
        forwarded: none(),
        reason: Reason::Miss,
        known,
        seen: 0,
        authorized: false,
        no_store: false,
        caller: Arc::new(Caller {
            name: "anonymous".into(),
            share: NonZeroU32::MIN,
            may_refresh: true,
            fetches: None,
        }),
    }
}

/// What a caller wants who wants nothing kept.
pub(super) fn unkept(list: &str) -> Wanted {
    Wanted {
        no_store: true,
        ..wanted(list, None)
    }
}

fn text(page: &Page) -> String {
    String::from_utf8(page.body.to_vec()).unwrap()
}

/// What a caller has got by now: the page's text, whether it is in memory and whether the fetch was another's.
pub(super) async fn told(caller: Asking) -> Result<(String, bool, bool), Error> {
    settle().await;
    let fetched = caller.now_or_never().expect("an answer")?;
    Ok((text(&fetched.page), fetched.stored, fetched.collapsed))
}

pub(super) fn got(
    body: &str,
    stored: bool,
    collapsed: bool,
) -> Result<(String, bool, bool), Error> {
    Ok((body.to_owned(), stored, collapsed))
}
