//! An account's limit as all replicas see it: a mirror of what the shared store says, and each replica's part while the store
//! is away.
//!
//! The store decides. With the mirror a replica knows when it is worth asking, and what to tell those who wait. While the
//! store is away a call counts for as many as there are replicas: if each of them makes one, there are no more than
//! there may be. What went before counts as what it was.
//!
//! Whoever is cut off alone makes none until the others are sure to leave its part free. What they have spent until then it
//! has not heard of. It counts for the most that it can be, and at the latest moment; but they never spend more than
//! half of all in so short a time, so that there is something left. Proof that there are never too many, with `n` replicas,
//! `c` calls a window, and `part = c / n` rounded down:
//!
//! - Of all calls in a window let the latest of those that the store let go be from after that moment. Then the store counted
//!   it with those before, and left `part` free for each replica that was cut off, each of which makes no more.
//! - Else all of them are known, or count. Whoever is cut off counts its own `n` times, and there are no more than `n`.
//!
//! That is of calls which went. What was only guessed of the time before the start gives way to what may have gone unheard.
//! Where the store has died for all, nobody spends unheard, and nobody waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limit::{Cause, Guess, Limit, Pause, Sent};
use crate::fleet::{Known, View, gap_of, is_guessed};

/// A replica without the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone {
    /// From then on no other's calls were heard of.
    pub(super) since: Instant,
    /// How many replicas there are.
    pub(super) replicas: u32,
    /// No call goes before.
    pub(super) from: Instant,
    /// Whether it is known in a moment that calls may go sooner.
    pub(super) unsure: bool,
}

impl Limit {
    /// Takes over what the store says.
    pub(super) fn adopt(&mut self, view: &View, now: Instant) {
        let before = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        (self.limit, self.ceiling) = (view.limit, view.ceiling);
        // Until the call that is to end a pause is back, or has had its time, it is as if the pause went on.
        self.pause = view.pause.map(|(left, resting)| Pause {
            cause: if resting {
                Cause::Resting
            } else {
                Cause::Refused
            },
            until: now + left.max(view.probing),
        });
        self.probing = false;
        self.refused_at = view.refused.map(before);
        self.last_refresh = view.refreshed.map(before);
        (self.refusals, self.failures) = (view.refusals, view.failures);
        self.alone = None;
        self.log.retain(|sent| sent.guess.is_none());
        self.mirror_all(view, now);
    }

    /// Takes over the calls of which the store says that they went, and nothing else.
    pub(super) fn mirror_all(&mut self, view: &View, now: Instant) {
        for (name, ago) in &view.calls {
            self.mirror(name, now.checked_sub(*ago).unwrap_or(now));
        }
    }

    /// A call went, perhaps from here. One that was let go and not heard of went later than it was said to at first.
    pub(super) fn mirror(&mut self, name: &Arc<str>, at: Instant) {
        let known = |sent: &Sent| sent.name.as_ref() == Some(name);
        let mut call = None;
        if let Some(place) = self.log.iter().position(known) {
            if self.log[place].at >= at {
                return;
            }
            call = self.log[place].call;
            self.forget(place);
        }
        let place = self.log.partition_point(|sent| sent.at <= at);
        let sent = Sent {
            at,
            call,
            name: Some(name.clone()),
            guess: None,
        };
        self.log.insert(place, sent);
        if self.settings.hourly > 0 {
            let place = self.hour.partition_point(|sent| *sent <= at);
            self.hour.insert(place, at);
        }
    }

    /// The latest call is known to the others by this name, by which it may have been heard of already.
    pub(super) fn name_latest(&mut self, name: Arc<str>) {
        let heard = self
            .log
            .iter()
            .position(|sent| sent.name.as_ref() == Some(&name));
        if let Some(place) = heard {
            self.forget(place);
        }
        if let Some(sent) = self.log.back_mut() {
            sent.name = Some(name);
        }
    }

    fn forget(&mut self, place: usize) {
        if let Some(sent) = self.log.remove(place)
            && self.settings.hourly > 0
            && let Some(place) = self.hour.iter().position(|at| *at == sent.at)
        {
            self.hour.remove(place);
        }
    }

    /// From now on nothing is heard of the others, and no call goes before `from`. `heard`: until then all of their calls are
    /// known, where that can be said; nothing at all where they have none.
    pub(super) fn go_alone(
        &mut self,
        replicas: u32,
        from: Instant,
        heard: Option<Option<Instant>>,
        now: Instant,
    ) {
        if let Some(alone) = &mut self.alone
            && (heard.is_none() || from <= alone.from)
        {
            // What went meanwhile counts on; one that leaves has less than it had.
            alone.replicas = alone.replicas.max(replicas);
            if heard.is_none() && from < alone.from {
                // Nobody has to know first, and nobody can have made any unheard.
                alone.from = from;
                self.log.retain(|sent| sent.guess != Some(Guess::Meanwhile));
            }
            return;
        }
        self.log.retain(|sent| sent.guess != Some(Guess::Meanwhile));
        if let Some(heard) = heard {
            // No more than the window had room for, and in so short a time no more than may go together.
            let window = self.settings.window;
            let there = self.log.iter().filter(|sent| sent.at + window > from);
            let mut unheard = self.whole().saturating_sub(there.count());
            let gap = gap_of(replicas);
            if heard.is_some_and(|heard| from <= heard + gap)
                && let Some(most) = burst(self.settings.calls.get(), window, gap)
            {
                unheard = unheard.min(most as usize);
            }
            // In place of guesses of what went before anybody counted: that both are as bad as can be is too much to fear, and
            // whoever has just started would have nothing left.
            let mut replaced = unheard;
            self.log.retain(|sent| {
                let replaces = replaced > 0 && sent.at + window > from && is_guess(sent);
                replaced -= usize::from(replaces);
                !replaces
            });
            let place = self.log.partition_point(|sent| sent.at <= from);
            for _ in 0..unheard {
                self.log
                    .insert(place, Sent::guessed(from, Guess::Meanwhile));
            }
        }
        self.alone = Some(Alone {
            since: now,
            replicas: replicas.max(1),
            from,
            unsure: false,
        });
    }

    /// Whether a replica that is alone is to know in a moment if all are.
    pub(super) fn may_soon_know(&mut self, unsure: bool) {
        if let Some(alone) = &mut self.alone {
            alone.unsure = unsure;
        }
    }

    /// Whether it is too early to say that no call goes in time.
    pub(super) fn is_unsure(&self) -> bool {
        self.alone.is_some_and(|alone| alone.unsure)
    }

    /// Whether calls went that have no name yet.
    pub(super) fn has_untold(&self, now: Instant) -> bool {
        let untold = |sent: &Sent| sent.name.is_none() && sent.guess.is_none();
        let log = self.log.range(self.first_in_window(now)..);
        log.into_iter().any(untold)
    }

    /// What the others may not know. Calls that have no name yet get one.
    pub(super) fn known(&mut self, now: Instant, mut name: impl FnMut() -> Arc<str>) -> Known {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let window = self.settings.window;
        let mut known = Known {
            limit: self.limit,
            ceiling: self.ceiling,
            refused: self.refused_at.map(ago),
            refusals: self.refusals,
            pause: self.pause.map(|pause| {
                let left = pause.until.saturating_duration_since(now);
                (left, pause.cause == Cause::Resting)
            }),
            calls: Vec::new(),
            guessed: Vec::new(),
        };
        for sent in self.log.iter_mut().filter(|sent| ago(sent.at) < window) {
            match sent.guess {
                Some(Guess::Before) => known.guessed.push(ago(sent.at)),
                // Those who made them know better.
                Some(Guess::Meanwhile) => {}
                None => {
                    let name = sent.name.get_or_insert_with(&mut name).clone();
                    known.calls.push((name, ago(sent.at)));
                }
            }
        }
        known
    }

    /// For how many a call counts.
    pub(super) fn weight(&self, sent: &Sent) -> usize {
        // One that was let go before is known to the others, even if it came late to the vendor.
        let let_go = sent.call.map_or(sent.at, |call| call.at);
        match self.alone {
            Some(alone) if sent.guess.is_none() && let_go >= alone.since => alone.replicas as usize,
            _ => 1,
        }
    }
}

/// Whether this call may not have gone.
fn is_guess(sent: &Sent) -> bool {
    sent.guess.is_some() || sent.name.as_deref().is_some_and(is_guessed)
}

/// So many calls go at most in a time in which whoever is cut off does not hear of them: half of all, unless a window is so
/// short that this would be less than may go in it. `fleet/scripts/account.lua` sees to it.
fn burst(calls: u32, window: Duration, gap: Duration) -> Option<u32> {
    (gap * 2 <= window).then_some(calls - calls / 2)
}

#[cfg(test)]
mod tests {
    use super::super::limit::{Kind, Outcome};
    use super::super::tests::{seconds, settings};
    use super::*;
    use crate::clock::Clock;

    fn now() -> Instant {
        Clock::by_hand().0.now() + Duration::from_secs(100_000)
    }

    fn view(calls: &[(&str, u64)]) -> View {
        View {
            limit: 59.0,
            ceiling: 59.0,
            pause: None,
            probing: Duration::ZERO,
            refused: None,
            refreshed: None,
            refusals: 0,
            failures: 0,
            said: 0,
            calls: calls
                .iter()
                .map(|(name, ago)| ((*name).into(), Duration::from_secs(*ago)))
                .collect(),
        }
    }

    /// Makes calls as soon as they may go, for so long: when they went.
    fn burst_of(limit: &mut Limit, start: Instant, for_: Duration) -> Vec<Instant> {
        let (mut now, mut went) = (start, Vec::new());
        loop {
            let slot = limit.slot(Kind::Miss, now).unwrap();
            if slot >= start + for_ {
                return went;
            }
            if slot > now {
                now = slot;
                continue;
            }
            let call = limit.send(Kind::Miss, now);
            limit.ended(call, Outcome::Answered, now);
            went.push(now);
        }
    }

    #[test]
    fn replicas_that_are_alone_make_no_more_calls_together_than_one_would() {
        for replicas in [1, 2, 3, 5, 10, 59, 60, 100] {
            let start = now();
            let calls: Vec<_> = (0..41).map(|n| (format!("b.{n}"), n)).collect();
            let calls: Vec<_> = calls
                .iter()
                .map(|(name, ago)| (name.as_str(), *ago))
                .collect();
            let mut limit = Limit::new(settings(), start);
            limit.adopt(&view(&calls), start);
            limit.go_alone(replicas, start, None, start);
            let went = burst_of(&mut limit, start, seconds(300.0));
            // All of them do the same.
            let all = went
                .iter()
                .flat_map(|at| std::iter::repeat_n(*at, replicas as usize));
            let mut all: Vec<_> = calls
                .iter()
                .map(|(_, ago)| start - Duration::from_secs(*ago))
                .chain(all)
                .collect();
            all.sort_unstable();
            for calls in all.windows(60) {
                assert!(calls[59] - calls[0] >= seconds(61.0), "{replicas} replicas");
            }
            let share = 59 / replicas as usize;
            assert!(
                went.len() >= 4 * share,
                "{replicas} replicas: {}",
                went.len()
            );
        }
    }

    /// What the store lets the others have, as `fleet/scripts/account.lua` does.
    struct Others {
        calls: Vec<Instant>,
        dice: u64,
    }

    impl Others {
        /// As many as may go from one moment to another, in bursts at moments that nobody foresees; `less`: what is left free.
        fn spend(&mut self, from: Instant, to: Instant, less: usize, gap: Duration) {
            let mut now = from;
            while now < to {
                let nth = |n: usize| self.calls.len().checked_sub(n).map(|n| self.calls[n]);
                let full = nth(59 - less).is_some_and(|at| now < at + seconds(61.0));
                if !full && nth(30).is_none_or(|at| now >= at + gap) && self.roll(8) > 0 {
                    self.calls.push(now);
                } else {
                    now += Duration::from_millis(self.roll(1_500));
                }
            }
        }

        fn roll(&mut self, sides: u64) -> u64 {
            self.dice = self
                .dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.dice >> 33) % sides
        }
    }

    #[test]
    fn some_replicas_that_are_cut_off_and_the_others_make_no_more_calls_together_than_one_would() {
        let mut soon = 0;
        for seed in 0..500 {
            let replicas = [2, 3, 5, 10, 30, 59][seed as usize % 6];
            let part = 59 / replicas as usize;
            let mut others = Others {
                calls: Vec::new(),
                dice: seed,
            };
            // Each knows what it heard, and that none knows who comes next.
            let lone = 1 + others.roll(u64::from(replicas) - 1) as usize;
            let (start, gap) = (now(), gap_of(replicas));
            let before = Duration::from_millis(others.roll(100_000));
            others.spend(start, start + before, 0, gap);
            let heard = start + before;
            let known: Vec<_> = others.calls.clone();
            let from = heard + gap - Duration::from_millis(others.roll(1_000));
            let mut all = Vec::new();
            for one in 0..lone {
                let mut limit = Limit::new(settings(), start);
                limit.adopt(&view(&[]), start);
                for (n, at) in known.iter().enumerate() {
                    limit.mirror(&format!("b.{n}").into(), *at);
                }
                let heard = (one % 4 > 0).then_some(heard);
                limit.go_alone(replicas, from, Some(heard), start + before);
                let went = burst_of(&mut limit, from, seconds(200.0));
                assert!(went.iter().all(|at| *at >= from), "it waits");
                assert!(went.len() >= 2 * part, "it goes on");
                soon += usize::from(went.first().is_some_and(|at| *at < from + seconds(1.0)));
                all.extend(went);
            }
            others.spend(heard, from, 0, gap);
            others.spend(from, from + seconds(200.0), lone * part, gap);
            all.extend(others.calls);
            all.sort_unstable();
            for calls in all.windows(60) {
                let apart = calls[59] - calls[0];
                assert!(
                    apart >= seconds(61.0),
                    "{seed}: {lone} of {replicas}, {apart:?}"
                );
            }
        }
        assert!(soon > 20, "some need not wait any longer: {soon}");
    }

    #[test]
    fn a_replica_is_cut_off_again_before_it_was_back() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        limit.adopt(&view(&[]), start);
        limit.go_alone(3, start + seconds(4.1), Some(Some(start)), start);
        assert_eq!(limit.in_window(start), 30);
        limit.go_alone(3, start + seconds(4.1), Some(None), start + seconds(1.0));
        assert_eq!(limit.in_window(start), 30, "it is the same time");
        let slot = |limit: &Limit| limit.slot(Kind::Miss, start).unwrap() - start;
        assert_eq!(slot(&limit), seconds(4.1));
        // It had a seat for a moment, and the account was not joined.
        limit.go_alone(3, start + seconds(9.0), Some(None), start + seconds(7.0));
        assert_eq!(limit.in_window(start), 59);
        assert_eq!(slot(&limit), seconds(9.0 + 61.0));
        // What was guessed is not told: those who made the calls know better.
        let known = limit.known(start, || "a.0".into());
        assert!(known.calls.is_empty() && known.guessed.is_empty());
        limit.adopt(&view(&[]), start + seconds(10.0));
        assert_eq!(limit.in_window(start + seconds(10.0)), 0);
    }

    #[test]
    fn what_went_alone_counts_on_and_whoever_leaves_makes_none() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        limit.adopt(&view(&[]), start);
        limit.go_alone(3, start, None, start);
        limit.send(Kind::Miss, start);
        let later = start + seconds(1.0);
        limit.go_alone(3, later, None, later);
        assert_eq!(limit.in_window(later), 3);
        limit.go_alone(u32::MAX, later, None, later);
        for kind in [Kind::Miss, Kind::Refresh] {
            assert!(limit.slot(kind, later) >= Some(later + seconds(61.0)));
        }
    }

    #[test]
    fn a_call_that_went_later_than_was_said_at_first_counts_from_then() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        limit.adopt(&view(&[("b.1", 50)]), start);
        limit.mirror(&"b.1".into(), start);
        assert_eq!(limit.in_window(start + seconds(60.0)), 1);
        assert_eq!(limit.in_window(start + seconds(61.0)), 0);
    }

    #[test]
    fn where_the_store_is_away_for_all_nobody_waits_for_others_to_know() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        limit.adopt(&view(&[("b.1", 3)]), start);
        let from = start + seconds(4.1);
        limit.go_alone(2, from, Some(Some(start)), start);
        assert_eq!(limit.slot(Kind::Miss, start), Some(from));
        assert_eq!(limit.in_window(from), 1 + 30, "as many as can be unheard");
        limit.go_alone(2, start, None, start);
        assert_eq!(limit.slot(Kind::Miss, start), Some(start));
        assert_eq!(limit.in_window(start), 1);
    }

    #[test]
    fn what_may_have_gone_unheard_takes_the_place_of_what_may_have_gone_before() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        let guessed: Vec<_> = (0..40).map(|n| (format!("b.{n}?"), n + 1)).collect();
        let guessed: Vec<_> = guessed
            .iter()
            .map(|(name, ago)| (name.as_str(), *ago))
            .collect();
        limit.adopt(&view(&guessed), start);
        let from = start + seconds(4.1);
        limit.go_alone(2, from, Some(Some(start)), start);
        // The 19 for which there was room, and the 40 less as many.
        assert_eq!(limit.in_window(from), 40);
        assert_eq!(limit.slot(Kind::Miss, start), Some(from));
        let later = from + seconds(60.0);
        assert_eq!(limit.in_window(later), 19, "they are as late as can be");
    }

    #[test]
    fn what_went_while_alone_is_told_once_and_by_one_name() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        assert!(
            !limit.known(start, || "a.0".into()).guessed.is_empty(),
            "nobody was there before"
        );
        limit.adopt(&view(&[("b.1", 3)]), start);
        limit.go_alone(2, start, None, start);
        limit.send(Kind::Miss, start + seconds(1.0));
        let mut names = 0;
        let mut known = |limit: &mut Limit| {
            limit.known(start + seconds(2.0), || {
                names += 1;
                format!("a.{names}").into()
            })
        };
        let first = known(&mut limit);
        assert_eq!(
            first.calls,
            [("b.1".into(), seconds(5.0)), ("a.1".into(), seconds(1.0))]
        );
        assert_eq!(known(&mut limit).calls, first.calls);
        assert!(
            first.guessed.is_empty(),
            "the store knew better than to guess"
        );
        limit.adopt(
            &view(&[("b.1", 5), ("a.1", 1), ("b.2", 0)]),
            start + seconds(2.0),
        );
        assert_eq!(limit.in_window(start + seconds(2.0)), 3);
    }

    #[test]
    fn a_pause_is_everybodys_and_goes_on_while_another_tries_the_vendor() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        let paused = View {
            pause: Some((seconds(7.0), false)),
            refused: Some(seconds(53.0)),
            limit: 40.0,
            refusals: 1,
            ..view(&[])
        };
        limit.adopt(&paused, start);
        assert_eq!(limit.slot(Kind::Miss, start), Some(start + seconds(7.0)));
        let probed = View {
            pause: Some((seconds(0.0), false)),
            probing: seconds(11.0),
            ..paused
        };
        limit.adopt(&probed, start);
        assert_eq!(limit.slot(Kind::Miss, start), Some(start + seconds(11.0)));
        assert_eq!((limit.whole(), limit.refusals()), (40, 1));
    }
}
