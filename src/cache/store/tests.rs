//! The store beside a simple model of it, through whatever happens in whatever order.

use foldhash::HashSet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::test_pages::{self, cases, page, rules, sent};
use super::*;
use crate::clock::Hand;
use crate::upstream::allowance::Debt;

impl Store {
    /// Drops a page and those of its run as moka does of itself, for want of room.
    pub(in super::super) fn evict(&self, key: &PageKey) {
        let run = Place::of(key).run(&key.list);
        self.0.runs.invalidate(&run.place());
        locked(&self.0.dropped).push(Arc::new(run));
    }

    /// The pages of a key.
    fn all_of(&self, key: &PageKey) -> Vec<Arc<Entry>> {
        let place = Place::of(key);
        let run = self.0.runs.get(&place);
        run.iter()
            .flat_map(|run| run.at(place.nth).cloned())
            .collect()
    }
}

/// What can happen to a store. Numbers are places in [`KEYS`], in [`TENANTS`], or among the tickets that are out.
#[derive(Clone, Debug)]
enum Step {
    Ticket {
        key: usize,
    },
    Store {
        ticket: usize,
        key: usize,
        what: What,
    },
    Discard {
        ticket: usize,
        key: usize,
    },
    Return {
        ticket: usize,
    },
    Forget {
        stream: usize,
        list: Option<usize>,
        account: Option<usize>,
    },
    Evict {
        key: usize,
    },
}

/// A page that is to be stored.
#[derive(Clone, Copy, Debug)]
struct What {
    /// Who sent for it.
    tenant: usize,
    /// Whether it is for that one only.
    varies: bool,
    /// Whether it was too old already when it came.
    gone: bool,
    /// Whether it comes in place of the page that this request had found.
    replaces: bool,
}

const TENANTS: [&str; 2] = ["blue", "red"];
const STREAMS: [&str; 2] = ["st-1", "st-2"];
const LISTS: [&str; 2] = ["cl-1", "cl-2"];
const ACCOUNTS: [&str; 2] = ["a", "b"];
/// Two pages of each of two runs of each list of each account of each stream.
const KEYS: usize = 32;

fn nth(key: usize) -> PageKey {
    let mut nth = test_pages::key(LISTS[key & 1]);
    let (stream, account) = (STREAMS[key >> 1 & 1], ACCOUNTS[key >> 2 & 1]);
    nth.list = ListKey::new(stream, LISTS[key & 1], account).unwrap();
    nth.skip = [0, 50, 1_000, 1_050][key >> 3];
    nth
}

fn run_of(key: &PageKey) -> RunKey {
    Place::of(key).run(&key.list)
}

fn for_tenant(tenant: usize) -> Forwarded {
    sent("x-tenant", TENANTS[tenant])
}

fn step() -> impl Strategy<Value = Step> {
    // Few at a time, so that they meet.
    let ticket = 0..4_usize;
    let key = 0..KEYS;
    let one = || 0..2_usize;
    let perhaps = || prop_oneof![Just(None), one().prop_map(Some)];
    let rarely = || prop::bool::weighted(0.1);
    let what = (one(), any::<bool>(), rarely(), any::<bool>());
    let what = what.prop_map(|(tenant, varies, gone, replaces)| What {
        tenant,
        varies,
        gone,
        replaces,
    });
    prop_oneof![
        3 => key.clone().prop_map(|key| Step::Ticket { key }),
        6 => (ticket.clone(), key.clone(), what)
            .prop_map(|(ticket, key, what)| Step::Store { ticket, key, what }),
        1 => (ticket.clone(), key.clone()).prop_map(|(ticket, key)| Step::Discard { ticket, key }),
        2 => ticket.prop_map(|ticket| Step::Return { ticket }),
        1 => (one(), perhaps(), perhaps())
            .prop_map(|(stream, list, account)| Step::Forget { stream, list, account }),
        1 => key.prop_map(|key| Step::Evict { key }),
    ]
}

fn entry(page: &Page, sent: &Forwarded) -> Arc<Entry> {
    let debt = Debt::default();
    Arc::new(Entry::of(page, sent, false, &rules(), debt).unwrap())
}

#[test]
fn pages_are_kept_for_as_long_as_changed_settings_say() {
    let mut settings = rules().settings.clone();
    let store = Store::new(&settings, Metrics::new().unwrap(), Clock::system());
    let of_an_age = |list: &str, hours: u64| {
        let mut page = page(list, &[]);
        page.initial_age = Duration::from_secs(hours * 3_600).into();
        let sent = Forwarded::default();
        let entry = entry(&page, &sent);
        let key = test_pages::key(list);
        assert!(store.ticket(&key.list).store(&key, entry, &sent, None));
    };
    of_an_age("new", 0);
    of_an_age("old", 3);
    settings.stale_if_error = Duration::from_secs(2 * 3_600);
    store.keep_by(&settings);
    let is_there = |list| {
        store
            .entry(&test_pages::key(list), &Forwarded::default())
            .is_some()
    };
    assert!(is_there("new") && !is_there("old"));
}

/// A store of its own clock, and what it counts.
struct World {
    store: Store,
    hand: Hand,
    metrics: Arc<Metrics>,
}

impl World {
    fn new(max_bytes: u64) -> Self {
        let (clock, hand) = Clock::by_hand();
        let metrics = Metrics::new().unwrap();
        let settings = Settings {
            max_bytes,
            ..rules().settings.clone()
        };
        let store = Store::new(&settings, metrics.clone(), clock);
        Self {
            store,
            hand,
            metrics,
        }
    }

    /// A page of a list, as old as that.
    fn put(&self, nth: u64, body: &str, age: Duration) -> bool {
        let mut page = page(body, &[]);
        page.initial_age = age.into();
        page.received_at = self.store.0.clock.now();
        let (key, sent) = (self.key(nth), Forwarded::default());
        let entry = entry(&page, &sent);
        self.store.ticket(&key.list).store(&key, entry, &sent, None)
    }

    fn key(&self, nth: u64) -> PageKey {
        PageKey {
            skip: 50 * nth,
            ..test_pages::key("cl-1")
        }
    }

    fn has(&self, nth: u64) -> bool {
        let entry = self.store.entry(&self.key(nth), &Forwarded::default());
        entry.is_some()
    }

    fn evictions(&self, cause: &str) -> u64 {
        self.store.holds();
        let name = "contacts_gateway_cache_evictions_total";
        let line = format!("{name}{{cause=\"{cause}\"}} ");
        let text = String::from_utf8(self.metrics.text()).unwrap();
        let count = text.lines().find_map(|l| l.strip_prefix(&line));
        count.unwrap().parse().unwrap()
    }
}

#[test]
fn a_page_past_its_time_is_gone_though_its_run_stays() {
    let world = World::new(1 << 20);
    let second = Duration::from_secs(1);
    let nearly = rules().settings.stale_if_error - second;
    assert!(world.put(0, "old", nearly) && world.put(1, "new", Duration::ZERO));
    world.hand.forward(second / 2);
    assert!(world.has(0) && world.has(1));
    world.hand.forward(second / 2);
    assert!(!world.has(0) && world.has(1));
    let none = world.store.find(
        &world.key(0),
        &Forwarded::default(),
        world.store.0.clock.now(),
    );
    assert!(matches!(none, Found::Nothing), "{none:?}");
    // Its memory goes with the next page that comes.
    assert_eq!((world.store.holds().0, world.evictions("expired")), (2, 0));
    assert!(world.put(2, "newer", Duration::ZERO));
    assert_eq!((world.store.holds().0, world.evictions("expired")), (2, 1));
    assert_eq!(world.store.forget(&world.key(0).list.into()), 2);
    assert_eq!((world.store.holds().0, world.evictions("explicit")), (0, 2));
}

#[test]
fn a_run_leaves_room_for_others_and_keeps_what_came_last() {
    let body = "x".repeat(3_000);
    let world = World::new(50_000);
    for nth in 0..8 {
        assert!(world.put(nth, &body, Duration::ZERO));
    }
    let there: Vec<_> = (0..8).filter(|nth| world.has(*nth)).collect();
    assert_eq!(there, [5, 6, 7]);
    assert_eq!((world.store.holds().0, world.evictions("size")), (3, 5));
    // One page may be larger than that.
    assert!(world.put(0, &body.repeat(6), Duration::ZERO));
    assert!(world.has(0) && !world.has(7));
    // Nothing is as large as there is room.
    assert!(!world.put(0, &body.repeat(20), Duration::ZERO));
    assert_eq!(world.store.holds(), (0, 0));
}

#[test]
fn what_is_dropped_for_want_of_room_is_counted_by_page() {
    let world = World::new(60_000);
    let body = "x".repeat(2_000);
    for nth in 0..100 {
        world.put(nth, &body, Duration::ZERO);
    }
    let (held, bytes) = world.store.holds();
    assert!(
        bytes <= 60_000 && held >= 10,
        "{held} pages of {bytes} bytes"
    );
    assert_eq!(held + world.evictions("size"), 100);
}

#[test]
fn of_one_key_the_oldest_page_goes_when_there_are_many_and_none_of_another() {
    let world = World::new(1 << 20);
    assert!(world.put(1, "another", Duration::ZERO));
    const TENANTS: [&str; MOST_VARIANTS + 2] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let key = world.key(0);
    for tenant in TENANTS {
        let page = page(tenant, &[("vary", "x-tenant")]);
        let sent = sent("x-tenant", tenant);
        let entry = entry(&page, &sent);
        let ticket = world.store.ticket(&key.list);
        assert!(ticket.store(&key, entry, &sent, None));
    }
    let is_there = |tenant: &&'static str| {
        let entry = world.store.entry(&key, &sent("x-tenant", tenant));
        entry.is_some()
    };
    let there: Vec<_> = TENANTS.into_iter().filter(is_there).collect();
    assert_eq!(there, TENANTS[2..]);
    assert!(world.has(1));
}

#[test]
fn to_discard_a_page_leaves_the_others_of_its_run() {
    let world = World::new(1 << 20);
    for nth in 0..3 {
        assert!(world.put(nth, "x", Duration::ZERO));
    }
    let ticket = world.store.ticket(&world.key(0).list);
    ticket.discard(&world.key(1));
    ticket.discard(&world.key(1));
    ticket.discard(&world.key(7));
    assert_eq!([0, 1, 2].map(|nth| world.has(nth)), [true, false, true]);
    assert_eq!((world.store.holds().0, world.evictions("explicit")), (2, 1));
}

proptest! {
    #![proptest_config(cases(128, "tests/regressions/store.txt"))]

    #[test]
    fn whatever_happens_the_store_holds_what_the_model_holds(steps in vec(step(), 1..60)) {
        let mut both = Both::new(1 << 20, true);
        for step in steps {
            both.take(step);
        }
        both.end();
    }

    #[test]
    fn where_there_is_little_room_it_holds_nothing_but_what_the_model_holds(
        room in 0..6_000_u64,
        steps in vec(step(), 1..60),
    ) {
        let mut both = Both::new(room, false);
        for step in steps {
            both.take(step);
        }
        both.end();
    }
}

/// A store, and what it should hold.
struct Both {
    store: Store,
    /// Whether nothing is ever dropped for want of room.
    roomy: bool,
    /// The pages of each key, newest first.
    pages: HashMap<PageKey, Vec<Held>>,
    tickets: Vec<Out>,
    stored: usize,
}

/// A page that is in the store.
struct Held {
    /// For whom, if not for all.
    tenant: Option<usize>,
    text: String,
    /// Whether it is past its time.
    gone: bool,
}

/// A ticket that is out, and whether its list was forgotten since.
struct Out {
    ticket: Ticket,
    good: bool,
}

impl Both {
    fn new(max_bytes: u64, roomy: bool) -> Self {
        let settings = Settings {
            max_bytes,
            ..rules().settings.clone()
        };
        Self {
            store: Store::new(&settings, Metrics::new().unwrap(), Clock::system()),
            roomy,
            pages: HashMap::default(),
            tickets: Vec::new(),
            stored: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ticket { key } => {
                let ticket = self.store.ticket(&nth(key).list);
                self.tickets.push(Out { ticket, good: true });
            }
            Step::Return { ticket } if ticket < self.tickets.len() => {
                self.tickets.remove(ticket);
            }
            Step::Store { ticket, key, what } if ticket < self.tickets.len() => {
                self.store(ticket, key, what);
            }
            Step::Discard { ticket, key } if ticket < self.tickets.len() => {
                let Out { ticket, good } = &self.tickets[ticket];
                let key = self.of(ticket, key);
                ticket.discard(&key);
                if *good {
                    self.pages.remove(&key);
                }
            }
            Step::Forget {
                stream,
                list,
                account,
            } => self.forget(&Forget {
                stream: STREAMS[stream].parse().unwrap(),
                list: list.map(|list| LISTS[list].parse().unwrap()),
                account: account.map(|account| ACCOUNTS[account].parse().unwrap()),
            }),
            Step::Evict { key } => {
                self.store.evict(&nth(key));
                let run = run_of(&nth(key));
                self.pages.retain(|key, _| run_of(key) != run);
            }
            // There is no such ticket.
            Step::Return { .. } | Step::Store { .. } | Step::Discard { .. } => {}
        }
        self.agree();
    }

    /// One of the pages of the ticket's list.
    fn of(&self, ticket: &Ticket, key: usize) -> PageKey {
        PageKey {
            list: ticket.list.clone(),
            ..nth(key)
        }
    }

    fn store(&mut self, ticket: usize, key: usize, what: What) {
        let Out { ticket, good } = &self.tickets[ticket];
        let key = self.of(ticket, key);
        let text = format!("page {}", self.stored);
        self.stored += 1;
        let vary: &[_] = if what.varies {
            &[("vary", "x-tenant")]
        } else {
            &[]
        };
        let mut page = page(&text, vary);
        if what.gone {
            page.initial_age = Duration::from_secs(1 << 31).into();
        }
        let for_whom = for_tenant(what.tenant);
        let entry = entry(&page, &for_whom);
        let found = self.store.entry(&key, &for_whom);
        let old = found.filter(|_| what.replaces);
        let stored = ticket.store(&key, entry, &for_whom, old.as_ref());
        assert!(*good || !stored, "a forgotten ticket stores nothing");
        if !good {
            return;
        }
        let old = old.map(|old| String::from_utf8(old.page.body.to_vec()).unwrap());
        let kept = self.pages.entry(key).or_default();
        kept.retain(|held| {
            held.tenant.is_some_and(|tenant| tenant != what.tenant)
                && old.as_ref() != Some(&held.text)
                && !held.gone
        });
        let held = Held {
            tenant: what.varies.then_some(what.tenant),
            text,
            gone: what.gone,
        };
        kept.insert(0, held);
        if self.roomy {
            assert_eq!(stored, !what.gone);
        }
    }

    fn forget(&mut self, what: &Forget) {
        let mut held = 0;
        for key in (0..KEYS).map(nth).filter(|key| what.means(&key.list)) {
            let all = self.store.all_of(&key);
            let now = self.store.0.clock.now();
            let of_use = all.iter().filter(|entry| now < self.store.end(entry));
            held += of_use.count() as u64;
            self.pages.remove(&key);
        }
        for out in &mut self.tickets {
            out.good &= !what.means(&out.ticket.list);
        }
        assert_eq!(self.store.forget(what), held, "{what:?}");
    }

    /// That the store holds what the model does, and no more than `max_bytes` of it; and that the shelves are right.
    fn agree(&mut self) {
        let (entries, bytes) = self.store.holds();
        assert!(bytes <= self.store.0.runs.policy().max_capacity().unwrap());
        for out in &self.tickets {
            assert_eq!(out.ticket.is_good(), out.good);
        }
        let mut present = 0;
        let mut shelved: HashMap<ListKey, HashSet<RunKey>> = HashMap::default();
        for key in (0..KEYS).map(nth) {
            let found = |tenant| {
                let entry = self.store.entry(&key, &for_tenant(tenant))?;
                Some(String::from_utf8(entry.page.body.to_vec()).unwrap())
            };
            let kept = self.pages.get(&key).map_or(&[][..], Vec::as_slice);
            for tenant in 0..2 {
                let mut held = kept.iter().filter(|held| !held.gone);
                let held = held.find(|held| held.tenant.is_none_or(|whose| whose == tenant));
                let held = held.map(|held| held.text.clone());
                match found(tenant) {
                    None => assert!(!self.roomy || held.is_none(), "{key:?} is lost"),
                    found => assert_eq!(found, held, "{key:?}"),
                }
            }
            present += self.store.all_of(&key).len() as u64;
            if self.store.0.runs.contains_key(&Place::of(&key)) {
                let runs = shelved.entry(key.list.clone()).or_default();
                runs.insert(run_of(&key));
            }
        }
        assert!(entries >= present);
        let mut fetches: HashMap<ListKey, u32> = HashMap::default();
        for out in &self.tickets {
            *fetches.entry(out.ticket.list.clone()).or_default() += 1;
        }
        for (list, shelf) in locked(&self.store.0.shelves).iter() {
            assert!(shelf.is_needed(), "{list:?}");
            assert_eq!(shelf.fetches, fetches.remove(list).unwrap_or_default());
            let there = shelved.remove(list).unwrap_or_default();
            let shelf = shelf.runs();
            assert!(there.is_subset(&shelf), "{list:?}");
            // moka lets up to a second pass before it drops what is past its time.
            let known = |run: &RunKey| there.contains(run) || entries > present;
            assert!(shelf.iter().all(known), "{list:?}");
        }
        assert!(
            fetches.is_empty() && shelved.is_empty(),
            "no shelf is missing"
        );
    }

    /// Once every fetch is over and every list forgotten, nothing is left.
    fn end(mut self) {
        self.tickets.clear();
        self.agree();
        for stream in STREAMS {
            let all = Forget {
                stream: stream.parse().unwrap(),
                list: None,
                account: None,
            };
            self.forget(&all);
        }
        assert_eq!(self.store.holds(), (0, 0));
        assert!(locked(&self.store.0.shelves).is_empty());
        assert!(locked(&self.store.0.dropped).is_empty());
    }
}
