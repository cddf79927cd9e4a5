//! Whatever happens, in whatever order, the book keeps its promises.

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::super::book::Told;
use super::super::ledger::Debt;
use super::super::limit::{Kind, Outcome};
use super::*;
use crate::error::Error;
use crate::upstream::refusal::Refusal;

/// What may happen. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Event {
    Ask {
        caller: usize,
        key: u32,
    },
    Serve {
        page: usize,
        age: u64,
    },
    End {
        call: usize,
        how: How,
    },
    GiveBack(usize),
    HangUp(usize),
    Pass(u64),
    /// The settings change, but for whether there is a limit by the hour.
    Change(Settings),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Answered,
    Refused,
    RefusedForTheHour,
    Failed,
    Lost,
}

fn event() -> impl Strategy<Value = Event> {
    let how = prop_oneof![
        6 => Just(How::Answered),
        1 => Just(How::Refused),
        1 => Just(How::RefusedForTheHour),
        2 => Just(How::Failed),
        1 => Just(How::Lost),
    ];
    prop_oneof![
        8 => (0..CALLERS.len(), 0..30_u32).prop_map(|(caller, key)| Event::Ask { caller, key }),
        3 => (0..PAGES, 1..9_000_u64).prop_map(|(page, age)| Event::Serve { page, age }),
        6 => (any::<usize>(), how).prop_map(|(call, how)| Event::End { call, how }),
        1 => any::<usize>().prop_map(Event::GiveBack),
        1 => any::<usize>().prop_map(Event::HangUp),
        3 => (0..900_u64).prop_map(Event::Pass),
        2 => (900..20_000_u64).prop_map(Event::Pass),
        1 => (100_000..700_000_u64).prop_map(Event::Pass),
        1 => (any_settings(), 5..25_u32).prop_map(|(settings, window)| {
            Event::Change(Settings { window: seconds(f64::from(window)), ..settings })
        }),
    ]
}

const CALLERS: [(&str, u32); 4] = [("one", 1), ("two", 2), ("three", 3), ("another", 1)];
const PAGES: usize = 6;
/// Keys of pages that are in memory come after those of the others.
const KEPT: u32 = 1_000;

struct Caller {
    key: u32,
    id: u64,
    until: Instant,
    told: Receiver<Told<u64>>,
}

struct Machine {
    settings: Settings,
    book: Book<u32, u64>,
    sky: Sky,
    now: Instant,
    pages: Vec<Arc<Debt>>,
    callers: Vec<Caller>,
    flying: Vec<Sent>,
    fetched: HashSet<u32>,
    /// What went and was not given back: when, and its number.
    sent: Vec<(Instant, u64)>,
}

impl Machine {
    fn new(settings: Settings) -> Self {
        let now = a_moment();
        let mut book = book(&settings, now);
        Self {
            pages: (0..PAGES).map(|_| Arc::new(book.open_debt())).collect(),
            book,
            settings,
            sky: Sky::default(),
            now,
            callers: Vec::new(),
            flying: Vec::new(),
            fetched: HashSet::new(),
            sent: Vec::new(),
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Ask { caller, key } => {
                let _ = self.ask(caller, key);
            }
            Event::Serve { page, age } => {
                let debt = &self.pages[page];
                debt.add(Duration::from_millis(age), 1);
                if debt.want() {
                    let key = KEPT + page as u32;
                    self.book.want(&key, debt, self.sky.launch(key));
                }
            }
            Event::End { call, how } if !self.flying.is_empty() => {
                let sent = self.flying.swap_remove(call % self.flying.len());
                self.end(sent, how);
            }
            Event::GiveBack(call) if !self.flying.is_empty() => {
                let sent = self.flying.swap_remove(call % self.flying.len());
                self.book.give_back(sent.call);
                self.sent.retain(|(_, number)| *number != sent.call.number);
                self.landed(sent, false);
            }
            Event::HangUp(caller) if !self.callers.is_empty() => {
                let caller = self.callers.swap_remove(caller % self.callers.len());
                self.book.leave(&caller.key, caller.id);
            }
            Event::End { .. } | Event::GiveBack(_) | Event::HangUp(_) => {}
            Event::Pass(time) => self.pass(Duration::from_millis(time)),
            Event::Change(mut settings) => {
                settings.hourly = match self.settings.hourly {
                    0 => 0,
                    _ => settings.calls.get() * 2,
                };
                self.book.go_by(&settings, seconds(3_600.0), self.now);
                self.settings = settings;
            }
        }
        self.pump();
    }

    fn ask(&mut self, caller: usize, key: u32) -> Result<(), Error> {
        if self.book.flight(&key).is_some() {
            return Ok(());
        }
        let (name, share) = CALLERS[caller];
        let launch = self.sky.launch(key);
        let (id, told) = self.book.ask(&key, asker(name, share), launch, self.now)?;
        let until = self.now + self.settings.queue_deadline;
        self.callers.push(Caller {
            key,
            id,
            until,
            told,
        });
        Ok(())
    }

    fn end(&mut self, sent: Sent, how: How) {
        let outcome = match how {
            How::Answered => Outcome::Answered,
            How::Refused => Outcome::Refused(Refusal::Minute),
            How::RefusedForTheHour => Outcome::Refused(Refusal::Hour),
            How::Failed => Outcome::Failed,
            How::Lost => Outcome::Lost,
        };
        if matches!(outcome, Outcome::Failed | Outcome::Lost) {
            self.book.limit.counts_from(sent.call, self.now);
        }
        self.book.ended(sent.call, outcome, self.now);
        if matches!(how, How::Answered) {
            self.fetched.insert(sent.key);
        }
        self.landed(sent, matches!(how, How::Answered));
    }

    fn landed(&mut self, sent: Sent, fetched: bool) {
        let page = sent.key.checked_sub(KEPT).map(|page| page as usize);
        let debt = page.map(|page| &*self.pages[page]);
        self.book.landed(&sent.key, sent.id, fetched, debt);
    }

    /// Time passes, and whoever drives the book wakes when it said.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(wake) = self.book.wake(self.now)
            && wake <= end
        {
            self.now = wake.max(self.now + Duration::from_millis(1)).min(end);
            self.pump();
            wakes += 1;
            assert!(wakes < 20_000, "it never sleeps");
            if self.now == end {
                break;
            }
        }
        self.now = end;
        self.pump();
    }

    fn pump(&mut self) {
        let (pause, probing) = (self.book.limit.pause(), self.book.limit.is_probing());
        self.book.pump(self.now);
        let went = self.sky.take();
        if let Some(pause) = pause {
            assert!(went.len() <= 1, "more than a probe: {went:?}");
            assert!(went.is_empty() || !probing, "one probe at a time");
            assert!(went.is_empty() || pause.until <= self.now, "in a pause");
        }
        for sent in went {
            self.sent.push((self.now, sent.call.number));
            self.flying.push(sent);
            let within = |time| {
                let recent = self.sent.iter().filter(|(at, _)| self.now - *at < time);
                recent.count()
            };
            let calls = within(self.settings.window);
            assert!(calls <= self.settings.calls.get() as usize, "{calls} calls");
            if self.settings.hourly > 0 {
                assert!(within(seconds(3_600.0)) <= self.settings.hourly as usize);
            }
            if sent.call.kind == Kind::Refresh {
                let most = self.book.limit.cap(Kind::Refresh);
                assert!(calls <= most, "a refresh used the reserve");
            }
        }
        let limit = self.book.limit.whole();
        let (floor, most) = (self.settings.floor.get(), self.settings.calls.get());
        assert!((floor as usize..=most as usize).contains(&limit), "{limit}");
        let now = self.now;
        self.callers
            .retain_mut(|caller| match caller.told.try_recv() {
                Ok(Ok(_)) => false,
                Ok(Err(error)) => {
                    assert!(!retry_after(&error).is_zero(), "{error:?} tells no time");
                    false
                }
                Err(TryRecvError::Empty) => {
                    assert!(caller.until > now, "forgotten at its end");
                    true
                }
                Err(TryRecvError::Closed) => panic!("forgotten"),
            });
        assert_eq!(self.book.waiting(), self.callers.len());
        self.wakes_in_time();
    }

    /// Nobody who waits is slept through.
    fn wakes_in_time(&self) {
        let wake = self.book.wake(self.now);
        if self.callers.is_empty() {
            return;
        }
        let end = self.callers.iter().map(|caller| caller.until).min();
        assert!(wake.is_some() && wake <= end, "{wake:?} is after {end:?}");
        if let Some(slot) = self.book.limit.slot(Kind::Miss, self.now) {
            // What may go at once and does not leaves room for others.
            let latest = slot.max(self.now + seconds(1.0));
            assert!(wake <= Some(latest), "{wake:?} is after {latest:?}");
        }
    }

    /// With no further demand, everything that is under way ends well.
    fn calm(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(sent) = self.flying.pop() {
                self.end(sent, How::Answered);
                self.pump();
            }
            let wake = self.book.wake(self.now).filter(|wake| *wake <= end);
            let Some(wake) = wake else { break };
            self.pass(
                (wake - self.now)
                    .max(Duration::from_millis(1))
                    .min(end - self.now),
            );
            if self.now >= end && self.flying.is_empty() {
                break;
            }
        }
        self.now = end;
        self.pump();
    }

    /// Whoever is turned away and comes back when it was told may go at once, or need not.
    fn keeps_its_word(&mut self) {
        self.calm(seconds(60.0));
        assert!(self.callers.is_empty());
        let mut new = 500;
        let error = loop {
            if let Err(error) = self.ask(0, new) {
                break error;
            }
            self.pump();
            if self.book.limit.is_probing() {
                // Nobody is turned away until it is back.
                return;
            }
            new += 1;
        };
        let known = self.book.limit.slot(Kind::Miss, self.now).is_some();
        self.calm(retry_after(&error));
        if self.fetched.contains(&new) {
            // It had stayed wanted.
            return;
        }
        let fetched = self.sent.len();
        if let Err(again) = self.ask(0, new) {
            // While somebody else spends too all calls are paced, and a refresh may have had this one's place.
            let careful = self.book.limit.why(self.now).contains("refusal");
            let pace = self.settings.window / self.book.limit.whole() as u32;
            let soon = careful && retry_after(&again) <= pace + Duration::from_millis(1);
            return assert!(soon || !known, "{error:?}, then {again:?}");
        }
        self.pump();
        if !self.callers.is_empty() {
            // A refresh just ended the pause, or somebody spends elsewhere and calls are paced.
            let careful = self.settings.window / self.book.limit.whole() as u32;
            let flown: Vec<_> = std::mem::take(&mut self.flying);
            for sent in flown {
                self.end(sent, How::Answered);
            }
            self.pass(careful + Duration::from_millis(1));
        }
        assert!(
            self.sent.len() > fetched || !known,
            "{error:?}: not in time"
        );
    }

    /// Once nobody asks any more, nothing is left, and once nobody refuses any more, all calls are used again.
    fn recovers(&mut self) {
        self.calm(seconds(20_000.0));
        self.pages.clear();
        assert!(self.book.is_forgettable(self.now), "something is left");
        let limit = &mut self.book.limit;
        let end = self.now + seconds(900.0) + self.settings.window * 20;
        while let Some(slot) = limit.slot(Kind::Miss, self.now)
            && slot < end
            && self.settings.hourly == 0
        {
            self.now = slot;
            let call = limit.send(Kind::Miss, slot);
            limit.ended(call, Outcome::Answered, slot);
        }
        if self.settings.hourly == 0 {
            assert_eq!(limit.whole(), self.settings.calls.get() as usize);
        }
    }
}

fn retry_after(error: &Error) -> Duration {
    match error {
        Error::AllowanceSpent { retry_after } | Error::UpstreamResting { retry_after } => {
            *retry_after
        }
        other => panic!("{other:?}"),
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let numbers = (3..15_u32, 3..15_u32, 0..3_u32, 0..3_u32, 0..6_000_u64);
    numbers.prop_map(|(calls, floor, reserve, hourly, deadline)| Settings {
        calls: NonZeroU32::new(calls).unwrap(),
        window: seconds(10.0),
        reserve,
        queue_deadline: Duration::from_millis(deadline),
        pause: seconds(9.0),
        floor: NonZeroU32::new(floor.min(calls)).unwrap(),
        hourly: if hourly == 0 { calls * 2 } else { 0 },
        fleet_size: NonZeroU32::MIN,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        // The same cases in every run.
        rng_seed: RngSeed::Fixed(59),
        ..ProptestConfig::default()
    })]

    #[test]
    fn promises_are_kept_under_any_sequence_of_events(
        settings in any_settings(),
        events in prop::collection::vec(event(), 1..160),
    ) {
        let mut machine = Machine::new(settings);
        for event in events {
            machine.happens(event);
        }
        // Without a reserve a refresh may be first.
        if machine.settings.reserve > 0 {
            machine.keeps_its_word();
        }
        machine.recovers();
    }
}
