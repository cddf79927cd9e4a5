//! An account's limit as all replicas see it: a mirror of what the shared store says, and each replica's part while the store
//! is away.
//!
//! The store decides. With the mirror a replica knows when it is worth asking, and what to tell those who wait. While the
//! store is away a call counts for as many as there are replicas: if each of them makes one, there are no more than
//! there may be. What went before counts as what it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limit::{Cause, Limit, Pause, Sent};
use crate::fleet::{Known, View};

/// A replica without the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone {
    /// From then on no other's calls were heard of.
    pub(super) since: Instant,
    /// How many replicas there are.
    pub(super) replicas: u32,
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
        self.log.retain(|sent| !sent.guessed);
        for (name, ago) in &view.calls {
            self.mirror(name, before(*ago));
        }
    }

    /// A call went, perhaps from here.
    pub(super) fn mirror(&mut self, name: &Arc<str>, at: Instant) {
        let known = |sent: &Sent| sent.name.as_ref() == Some(name);
        if self.log.iter().any(known) {
            return;
        }
        let place = self.log.partition_point(|sent| sent.at <= at);
        let sent = Sent {
            at,
            name: Some(name.clone()),
            guessed: false,
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
        if let Some(sent) = heard.and_then(|place| self.log.remove(place))
            && self.settings.hourly > 0
            && let Some(place) = self.hour.iter().position(|at| *at == sent.at)
        {
            self.hour.remove(place);
        }
        if let Some(sent) = self.log.back_mut() {
            sent.name = Some(name);
        }
    }

    /// From now on nothing is heard of the others.
    pub(super) fn go_alone(&mut self, replicas: u32, now: Instant) {
        self.alone.get_or_insert(Alone {
            since: now,
            replicas: replicas.max(1),
        });
    }

    /// What the others may not know. Calls that have no name yet get one.
    pub(super) fn known(&mut self, now: Instant, mut name: impl FnMut() -> Arc<str>) -> Known {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let window = self.settings.window;
        let mut known = Known {
            limit: self.limit,
            ceiling: self.ceiling,
            refused: self.refused_at.map(ago),
            calls: Vec::new(),
            guessed: Vec::new(),
        };
        for sent in self.log.iter_mut().filter(|sent| ago(sent.at) < window) {
            match sent.guessed {
                true => known.guessed.push(ago(sent.at)),
                false => {
                    let name = sent.name.get_or_insert_with(&mut name).clone();
                    known.calls.push((name, ago(sent.at)));
                }
            }
        }
        known
    }

    /// For how many a call counts that went then.
    pub(super) fn weight(&self, at: Instant) -> usize {
        match self.alone {
            Some(alone) if at >= alone.since => alone.replicas as usize,
            _ => 1,
        }
    }
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
            calls: calls
                .iter()
                .map(|(name, ago)| ((*name).into(), Duration::from_secs(*ago)))
                .collect(),
        }
    }

    /// Makes calls as soon as they may go, for so long: when they went.
    fn burst(limit: &mut Limit, start: Instant, for_: Duration) -> Vec<Instant> {
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
            limit.go_alone(replicas, start);
            let went = burst(&mut limit, start, seconds(300.0));
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

    #[test]
    fn what_went_while_alone_is_told_once_and_by_one_name() {
        let start = now();
        let mut limit = Limit::new(settings(), start);
        assert!(
            !limit.known(start, || "a.0".into()).guessed.is_empty(),
            "nobody was there before"
        );
        limit.adopt(&view(&[("b.1", 3)]), start);
        limit.go_alone(2, start);
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
