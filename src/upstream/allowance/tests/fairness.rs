//! A caller who asks for little is not made to wait by one who asks for everything.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::super::book::Told;
use super::super::ledger::Debt;
use super::super::limit::{Kind, Outcome};
use super::*;

const STEP: Duration = Duration::from_millis(10);
const CALL: Duration = Duration::from_millis(250);

/// Callers, each of which asks for a list nobody asked for before, every so often.
struct Play {
    book: Book<u32, u64>,
    sky: Sky,
    start: Instant,
    now: Instant,
    keys: u32,
    flying: VecDeque<(Instant, Sent)>,
    waiting: Vec<(&'static str, Instant, Receiver<Told<u64>>)>,
    /// Of each: asked at, and how long it took; nothing where it was turned away.
    answers: HashMap<&'static str, Vec<(Duration, Option<Duration>)>>,
    misses: Vec<Duration>,
    refreshes: Vec<Duration>,
    /// Of pages that are wanted fresh.
    debts: Vec<Arc<Debt>>,
    /// Other replicas are asked before each call, and have nothing against any.
    together: bool,
}

impl Play {
    /// `idle`: nothing was asked for a while before.
    fn new(idle: bool) -> Self {
        let start = a_moment();
        let now = if idle { start + seconds(200.0) } else { start };
        Self {
            book: book(&settings(), start),
            sky: Sky::default(),
            start: now,
            now,
            keys: 0,
            flying: VecDeque::new(),
            waiting: Vec::new(),
            answers: HashMap::new(),
            misses: Vec::new(),
            refreshes: Vec::new(),
            debts: Vec::new(),
            together: false,
        }
    }

    fn ask(&mut self, name: &'static str, share: u32) {
        self.keys += 1;
        let launch = self.sky.launch(self.keys);
        match self
            .book
            .ask(&self.keys, asker(name, share), launch, self.now)
        {
            Ok((_, told)) => self.waiting.push((name, self.now, told)),
            Err(_) => self.note(name, self.now, None),
        }
        self.pump();
    }

    /// A page was served that is no longer fresh, which was not wanted before.
    fn serve(&mut self) {
        self.keys += 1;
        let debt = Arc::new(self.book.open_debt());
        debt.add(seconds(60.0), 1);
        assert!(debt.want());
        self.book
            .want(&self.keys, &debt, self.sky.launch(self.keys));
        self.debts.push(debt);
    }

    fn note(&mut self, name: &'static str, asked: Instant, took: Option<Duration>) {
        let answers = self.answers.entry(name).or_default();
        answers.push((asked - self.start, took));
    }

    fn pump(&mut self) {
        match self.together {
            false => self.book.pump(self.now),
            true => {
                while let Some(wish) = self.book.next_wish(self.now) {
                    self.book.go(&wish, None, self.now);
                }
            }
        }
        for sent in self.sky.take() {
            let went = match sent.call.kind {
                Kind::Miss => &mut self.misses,
                Kind::Refresh => &mut self.refreshes,
            };
            went.push(self.now - self.start);
            self.flying.push_back((self.now + CALL, sent));
        }
        for (name, asked, mut told) in std::mem::take(&mut self.waiting) {
            match told.try_recv() {
                Ok(Ok(_)) => self.note(name, asked, Some(self.now + CALL - asked)),
                Ok(Err(_)) => self.note(name, asked, None),
                Err(TryRecvError::Empty) => self.waiting.push((name, asked, told)),
                Err(TryRecvError::Closed) => panic!("forgotten"),
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while let Some((over, sent)) = self.flying.front().copied()
            && over <= self.now
        {
            self.flying.pop_front();
            self.book.ended(sent.call, Outcome::Answered, self.now);
            self.book.landed(&sent.key, sent.id, true, None);
        }
        self.pump();
    }

    /// Each of the callers, its share, from when it asks and how often.
    fn run(mut self, minutes: f64, callers: &[(&'static str, u32, f64, Duration)]) -> Self {
        let mut next: Vec<_> = callers
            .iter()
            .map(|(.., from, _)| self.start + seconds(*from))
            .collect();
        while self.now < self.start + seconds(60.0 * minutes) {
            for (next, (name, share, _, every)) in next.iter_mut().zip(callers) {
                if *next <= self.now {
                    *next += *every;
                    self.ask(name, *share);
                }
            }
            self.step();
        }
        self
    }

    /// The longest wait of those who asked from then on; nothing where one was turned away.
    fn longest(&self, name: &str, from: f64) -> Option<Duration> {
        let answers = self.answers[name].iter();
        let mut longest = Duration::ZERO;
        for (_, took) in answers.filter(|(asked, _)| *asked >= seconds(from)) {
            longest = longest.max((*took)?);
        }
        Some(longest)
    }

    fn answered(&self, name: &str) -> usize {
        let answers = self.answers[name].iter();
        answers.filter(|(_, took)| took.is_some()).count()
    }
}

const BATCH: Duration = Duration::from_millis(10);
const QUIET: Duration = Duration::from_secs(4);

#[test]
fn who_asks_for_little_is_answered_in_time_beside_who_asks_for_everything() {
    for (idle, joins, surely_from) in [
        (false, 0.0, 0.0),
        (true, 0.0, 0.0),
        (false, 100.0, 100.0),
        (false, 333.3, 333.3),
        // All calls of a window were made at once, by who was alone then. From the next window on there is room.
        (true, 100.0, 161.0),
    ] {
        let callers = [("quiet", 1, joins, QUIET), ("batch", 1, 0.0, BATCH)];
        let play = Play::new(idle).run(12.0, &callers);
        let longest = play.longest("quiet", surely_from);
        assert!(
            longest.is_some_and(|longest| longest <= seconds(2.5)),
            "idle {idle}, from {joins}: {longest:?}"
        );
        let (quiet, batch) = (play.answered("quiet"), play.answered("batch"));
        let windows = 12.0 * 60.0 / 61.0;
        assert!(
            (quiet + batch) as f64 >= 52.0 * windows,
            "what is not asked for is not lost: {quiet} and {batch}"
        );
    }
}

#[test]
fn who_is_alone_is_due_everything() {
    let play = Play::new(true).run(10.0, &[("batch", 1, 0.0, BATCH)]);
    let windows = 10.0 * 60.0 / 61.0;
    assert!(
        play.misses.len() as f64 >= 58.0 * windows,
        "{}",
        play.misses.len()
    );
    let at_once = play.misses.iter().filter(|at| **at < seconds(1.0));
    assert_eq!(at_once.count(), 59);
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let mut play = Play::new(false).run(3.0, &[("quiet", 1, 0.0, QUIET), ("batch", 1, 0.0, BATCH)]);
    let before = play.misses.len();
    play.start = play.now;
    let play = play.run(10.0, &[("batch", 1, 0.0, BATCH)]);
    let after = (play.misses.len() - before) as f64;
    assert!(after >= 56.0 * 10.0 * 60.0 / 61.0, "{after}");
}

#[test]
fn a_page_that_a_caller_has_fetched_is_not_refreshed_meanwhile() {
    let now = a_moment() + seconds(200.0);
    let mut book = book(&settings(), a_moment());
    let sky = Sky::default();
    let keys = |sky: &Sky| sky.take().iter().map(|sent| sent.key).collect::<Vec<_>>();
    let pages = [1, 2].map(|key| {
        let page = Arc::new(book.open_debt());
        page.add(seconds(100.0 / f64::from(key)), 1);
        assert!(page.want());
        book.want(&key, &page, sky.launch(key));
        page
    });
    book.pump(now);
    assert_eq!(keys(&sky), [1]);
    // Who will not have the old page asks for it, and the vendor takes longer than refreshes are apart.
    let _told = book.ask(&2, asker("one", 1), sky.launch(2), now).unwrap();
    book.pump(now);
    assert_eq!(keys(&sky), [2]);
    book.pump(now + seconds(5.0));
    assert_eq!(keys(&sky), [0; 0]);
    assert!(pages[1].want(), "it may be wanted again");
}

#[test]
fn who_asks_for_nothing_any_more_leaves_its_room_to_refreshes() {
    for together in [false, true] {
        let mut play = Play::new(true);
        play.together = together;
        let callers = [("one", 1, 0.0, QUIET / 2), ("two", 1, 1.0, QUIET / 2)];
        let mut play = play.run(3.0, &callers);
        for _ in 0..1_000 {
            play.serve();
        }
        play.start = play.now;
        let play = play.run(15.0, &[]);
        let late = play.refreshes.iter().filter(|at| **at >= seconds(600.0));
        let late = late.count();
        assert!(late >= 5 * 56, "together {together}: {late} in 5 minutes");
    }
}

#[test]
fn who_wants_more_than_there_is_gets_it_by_share() {
    for idle in [false, true] {
        let callers = [
            ("one", 1, 0.0, BATCH),
            ("two", 2, 0.0, BATCH),
            ("three", 3, 0.0, BATCH),
        ];
        let play = Play::new(idle).run(12.0, &callers);
        let answered = ["one", "two", "three"].map(|name| play.answered(name) as f64);
        let all: f64 = answered.iter().sum();
        for (share, answered) in [1.0, 2.0, 3.0].into_iter().zip(answered) {
            let part = answered / all * 6.0;
            assert!(
                (part - share).abs() < 0.25,
                "{part} for {share}, idle {idle}"
            );
        }
        assert!(all >= 57.0 * 12.0 * 60.0 / 61.0, "{all}");
    }
}

#[test]
fn ten_thousand_who_wait_cost_no_more_each_than_a_few() {
    let now = a_moment();
    let settings = Settings {
        calls: NonZeroU32::new(20_000).unwrap(),
        ..settings()
    };
    let mut book = book(&settings, now);
    let sky = Sky::default();
    let first = asker("anybody", 1);
    book.ask(&0, first.clone(), sky.launch(0), now).unwrap();
    book.pump(now);
    // Nothing goes while a probe is out, and nobody is turned away for it.
    let call = sky.take()[0].call;
    let refused = Outcome::Refused(crate::upstream::refusal::Refusal::Minute);
    book.ended(call, refused, now);
    let now = now + settings.pause;
    book.ask(&1, first.clone(), sky.launch(1), now).unwrap();
    book.pump(now);
    let mut told = Vec::new();
    for key in 0..10_000 {
        let key = 2 + key % 5_000;
        told.push(book.ask(&key, first.clone(), sky.launch(key), now).unwrap());
        book.pump(now);
    }
    assert_eq!(book.waiting(), 10_000);
    for (id, _) in &told[..5_000] {
        let key = 2 + told.iter().position(|(one, _)| one == id).unwrap() as u32 % 5_000;
        book.leave(&key, *id);
    }
    assert_eq!(book.waiting(), 5_000);
    book.pump(now + settings.queue_deadline);
    assert_eq!(book.waiting(), 0);
    for (_, told) in &mut told[5_000..] {
        assert!(matches!(told.try_recv(), Ok(Err(_))));
    }
}
