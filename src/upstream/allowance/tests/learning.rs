//! The figures by which the limit learns, and how long pauses last.

use super::super::limit::{Cause, Kind, Limit, Outcome};
use super::*;
use crate::upstream::refusal::Refusal;

const REFUSED: Outcome = Outcome::Refused(Refusal::Minute);

/// An account that nobody called for a while.
fn idle(settings: Settings) -> (Limit, Instant) {
    let start = a_moment();
    (Limit::new(settings, start), start + seconds(1_000.0))
}

fn slot(limit: &Limit, kind: Kind, now: Instant) -> Option<f64> {
    limit.slot(kind, now).map(|slot| (slot - now).as_secs_f64())
}

/// Sends as soon as it may, for so long, and is always answered.
fn spend(limit: &mut Limit, now: Instant, for_: f64) -> Instant {
    let mut at = now;
    while let Some(slot) = limit.slot(Kind::Miss, at)
        && slot < now + seconds(for_)
    {
        at = slot;
        let call = limit.send(Kind::Miss, at);
        limit.ended(call, Outcome::Answered, at);
    }
    now + seconds(for_)
}

#[test]
fn a_new_account_is_taken_to_have_made_40_of_its_59_calls() {
    let now = a_moment();
    let mut limit = Limit::new(settings(), now);
    assert_eq!((limit.in_window(now), limit.whole()), (40, 59));
    for n in 0..19 {
        assert_eq!(slot(&limit, Kind::Miss, now), Some(0.0), "{n}");
        limit.send(Kind::Miss, now);
    }
    let wait = slot(&limit, Kind::Miss, now).unwrap();
    assert!((0.7..0.8).contains(&wait), "{wait}");
    let (one, two) = (limit.slot_after(0, now), limit.slot_after(1, now));
    assert!((1.5..1.6).contains(&(two.unwrap() - one.unwrap()).as_secs_f64()));
}

#[test]
fn refreshes_are_paced_and_leave_the_reserve_and_misses_are_neither_paced_nor_bound_by_it() {
    let (mut limit, now) = idle(settings());
    for _ in 0..57 {
        limit.send(Kind::Miss, now);
    }
    assert_eq!(slot(&limit, Kind::Refresh, now), Some(0.0));
    let call = limit.send(Kind::Refresh, now);
    assert_eq!(slot(&limit, Kind::Miss, now), Some(0.0), "the reserve");
    assert_eq!(slot(&limit, Kind::Refresh, now), Some(61.0));
    limit.give_back(call);
    assert_eq!(slot(&limit, Kind::Refresh, now), Some(0.0), "given back");
    let (mut limit, now) = idle(settings());
    limit.send(Kind::Refresh, now);
    let wait = slot(&limit, Kind::Refresh, now).unwrap();
    assert!((wait - 61.0 / 59.0).abs() < 1e-6, "{wait}");
}

#[test]
fn a_refusal_shrinks_the_limit_by_what_was_ours() {
    // Calls in the window, the refused one among them; what is left of 59.
    for (calls, whole) in [
        (59, 52), // 58 were ours: 0.9 * 58
        (53, 46), // 0.9 * 52
        (49, 43), // 0.9 * 48
        (48, 42), // 0.9 * 47.2: what is ours is no less than 0.8 of the limit
        (1, 42),
    ] {
        let (mut limit, now) = idle(settings());
        let sent: Vec<_> = (0..calls).map(|_| limit.send(Kind::Miss, now)).collect();
        limit.ended(sent[0], REFUSED, now);
        assert_eq!(limit.whole(), whole, "{calls} calls");
        assert_eq!(limit.refusals(), 1);
        for call in &sent[1..] {
            limit.ended(*call, REFUSED, now);
        }
        assert_eq!(limit.whole(), whole, "all at once are one event");
        assert_eq!(limit.refusals(), calls);
    }
}

#[test]
fn it_never_shrinks_below_the_floor() {
    let (mut limit, mut now) = idle(settings());
    let mut wholes = Vec::new();
    for _ in 0..7 {
        let call = limit.send(Kind::Miss, now);
        limit.ended(call, REFUSED, now);
        wholes.push(limit.whole());
        now += seconds(61.0);
        let probe = limit.send(Kind::Miss, now);
        limit.ended(probe, Outcome::Answered, now);
        now += seconds(61.0);
    }
    // 0.72 times each, the floor within: 59, 42.5, 30.6, 22.0, 20.
    assert_eq!(wholes, [42, 30, 22, 20, 20, 20, 20]);
}

#[test]
fn it_grows_by_two_a_window_and_by_a_half_near_where_it_was_refused() {
    let (mut limit, now) = idle(settings());
    let calls: Vec<_> = (0..59).map(|_| limit.send(Kind::Miss, now)).collect();
    limit.ended(calls[0], REFUSED, now);
    for call in &calls[1..] {
        limit.ended(*call, Outcome::Answered, now);
    }
    // The ceiling is 58, the limit 52.2: 54.2 and 56.2 are far off at first, and from 55 on it is near.
    let mut now = now + seconds(60.0);
    let mut wholes = vec![limit.whole()];
    for _ in 0..8 {
        now = spend(&mut limit, now, 61.0);
        wholes.push(limit.whole());
    }
    assert!(wholes.is_sorted(), "{wholes:?}");
    assert_eq!(wholes[0], 52);
    let steps: Vec<_> = wholes.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(steps.iter().all(|step| *step <= 2), "{wholes:?}");
    assert!(wholes.contains(&54) && wholes.contains(&56), "{wholes:?}");
    assert!(
        wholes.iter().filter(|whole| **whole == 56).count() >= 2,
        "half a call a window near the ceiling: {wholes:?}"
    );
    assert_eq!(wholes.last(), Some(&57), "one call is left to the others");
    spend(&mut limit, now, 700.0);
    assert_eq!(
        limit.whole(),
        59,
        "ten minutes after the refusal it is forgotten"
    );
}

#[test]
fn it_does_not_grow_unless_it_was_reached() {
    let (mut limit, mut now) = idle(settings());
    let call = limit.send(Kind::Miss, now);
    limit.ended(call, REFUSED, now);
    for _ in 0..30 {
        now += seconds(61.0);
        let call = limit.send(Kind::Miss, now);
        limit.ended(call, Outcome::Answered, now);
    }
    assert_eq!(limit.whole(), 42);
}

#[test]
fn for_ten_minutes_after_a_refusal_nothing_goes_in_bursts() {
    let (mut limit, now) = idle(settings());
    let call = limit.send(Kind::Miss, now);
    limit.ended(call, REFUSED, now);
    let probe = limit.send(Kind::Miss, now + seconds(60.0));
    limit.ended(probe, Outcome::Answered, now + seconds(60.0));
    for (later, pace) in [(60.0, 61.0 / 42.0), (599.0, 61.0 / 42.0), (600.0, 0.0)] {
        let at = now + seconds(later);
        limit.send(Kind::Miss, at);
        let wait = slot(&limit, Kind::Miss, at).unwrap();
        assert!((wait - pace).abs() < 1e-6, "{wait} after {later} s");
    }
}

#[test]
fn a_refused_probe_doubles_the_pause_twice_and_changes_no_limit() {
    for (refusal, pauses) in [
        (Refusal::Minute, vec![60.0, 120.0, 240.0, 240.0, 240.0]),
        (Refusal::Hour, vec![300.0, 600.0, 1_200.0, 1_800.0, 1_800.0]),
    ] {
        let (mut limit, mut now) = idle(settings());
        for pause in pauses {
            let call = limit.send(Kind::Miss, now);
            assert_eq!(limit.is_probing(), limit.pause().is_some());
            limit.ended(call, Outcome::Refused(refusal), now);
            assert_eq!(slot(&limit, Kind::Miss, now), Some(pause), "{refusal:?}");
            assert_eq!(limit.whole(), 42);
            now += seconds(pause);
        }
        let probe = limit.send(Kind::Miss, now);
        assert_eq!(limit.slot(Kind::Miss, now), None, "one probe");
        limit.ended(probe, Outcome::Answered, now);
        assert_eq!(limit.pause(), None);
        now += seconds(2.0);
        let call = limit.send(Kind::Miss, now);
        limit.ended(call, Outcome::Refused(refusal), now);
        let first = if refusal == Refusal::Minute {
            60.0
        } else {
            300.0
        };
        assert_eq!(slot(&limit, Kind::Miss, now), Some(first), "begins anew");
    }
}

#[test]
fn three_failures_in_a_row_are_a_rest_of_ten_seconds_and_then_one_probe() {
    let (mut limit, mut now) = idle(settings());
    let fails = |limit: &mut Limit, now, outcome| {
        let call = limit.send(Kind::Miss, now);
        limit.ended(call, outcome, now);
    };
    for outcome in [
        Outcome::Failed,
        Outcome::Failed,
        Outcome::Answered,
        Outcome::Failed,
        Outcome::Lost,
        Outcome::Failed,
        Outcome::Lost,
    ] {
        fails(&mut limit, now, outcome);
        assert_eq!(limit.pause(), None, "{outcome:?}");
    }
    fails(&mut limit, now, Outcome::Failed);
    for _ in 0..10 {
        let pause = limit.pause().unwrap();
        assert_eq!(
            (pause.cause, pause.until),
            (Cause::Resting, now + seconds(10.0))
        );
        now = pause.until;
        let probe = limit.send(Kind::Miss, now);
        assert_eq!(limit.slot(Kind::Miss, now), None);
        limit.ended(probe, Outcome::Failed, now);
    }
    assert_eq!(limit.whole(), 59, "failures teach nothing about the limit");
    now += seconds(10.0);
    fails(&mut limit, now, Outcome::Lost);
    assert_eq!(
        slot(&limit, Kind::Miss, now),
        Some(0.0),
        "the next one is the probe"
    );
    fails(&mut limit, now, Outcome::Refused(Refusal::Minute));
    assert_eq!(
        slot(&limit, Kind::Miss, now),
        Some(60.0),
        "the first refusal"
    );
    assert_eq!(limit.whole(), 42);
}

#[test]
fn a_call_from_before_a_pause_neither_ends_it_nor_counts_as_its_probe() {
    let (mut limit, now) = idle(settings());
    let calls: Vec<_> = (0..6).map(|_| limit.send(Kind::Miss, now)).collect();
    for call in &calls[..3] {
        limit.ended(*call, Outcome::Failed, now);
    }
    let probe_at = now + seconds(10.0);
    let probe = limit.send(Kind::Miss, probe_at);
    limit.ended(calls[3], Outcome::Answered, probe_at);
    assert!(limit.is_probing(), "an old call's answer");
    limit.ended(calls[4], REFUSED, probe_at);
    assert_eq!(slot(&limit, Kind::Miss, probe_at), Some(60.0));
    limit.ended(probe, Outcome::Answered, probe_at);
    assert_eq!(
        slot(&limit, Kind::Miss, probe_at),
        Some(60.0),
        "the probe of the rest does not end the pause that came after it"
    );
    limit.ended(calls[5], Outcome::Failed, probe_at);
    assert_eq!(limit.pause().unwrap().cause, Cause::Refused);
}

#[test]
fn a_probe_given_back_leaves_the_next_call_to_be_the_probe() {
    let (mut limit, now) = idle(settings());
    let call = limit.send(Kind::Miss, now);
    limit.ended(call, REFUSED, now);
    let now = now + seconds(60.0);
    let probe = limit.send(Kind::Refresh, now);
    assert_eq!(limit.slot(Kind::Miss, now), None);
    limit.give_back(probe);
    assert_eq!(slot(&limit, Kind::Miss, now), Some(0.0));
}

#[test]
fn an_hourly_limit_holds_beside_the_other() {
    let (mut limit, now) = idle(Settings {
        hourly: 100,
        ..settings()
    });
    let end = spend(&mut limit, now, 1_800.0);
    assert_eq!(slot(&limit, Kind::Miss, end), Some(1_801.0));
    assert_eq!(limit.why(end), "all 100 calls of the hour are spent");
    assert!(!limit.is_forgettable(end));
    assert!(limit.is_forgettable(end + seconds(3_700.0)));
}

#[test]
fn an_account_that_was_left_alone_is_forgotten_whatever_happened_to_it() {
    let (mut limit, now) = idle(settings());
    for _ in 0..3 {
        let call = limit.send(Kind::Miss, now);
        limit.ended(call, Outcome::Failed, now);
    }
    assert!(!limit.is_forgettable(now + seconds(100.0)));
    assert!(limit.is_forgettable(now + seconds(700.0)));
}

#[test]
fn it_says_in_words_why_it_stands_as_it_does() {
    let start = a_moment();
    let mut limit = Limit::new(settings(), start);
    let s = |n| start + seconds(n);
    assert!(limit.why(s(5.0)).starts_with("new here 5 s ago"));
    assert_eq!(limit.why(s(100.0)), "as configured");
    let calls: Vec<_> = (0..59).map(|_| limit.send(Kind::Miss, s(100.0))).collect();
    assert_eq!(limit.why(s(101.0)), "all 59 calls of the window are spent");
    limit.ended(calls[0], REFUSED, s(102.0));
    assert_eq!(limit.why(s(112.0)), "paused by a refusal 10 s ago");
    let probe = limit.send(Kind::Miss, s(163.0));
    assert!(limit.why(s(163.0)).starts_with("one call is out"));
    limit.ended(probe, Outcome::Answered, s(163.0));
    assert_eq!(limit.why(s(300.0)), "learnt from a refusal 3 min ago");
    for call in &calls[1..4] {
        limit.ended(*call, Outcome::Failed, s(301.0));
    }
    assert_eq!(limit.why(s(301.0)), "resting after 3 failures in a row");
}
