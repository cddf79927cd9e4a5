//! Whose turn it is among callers who compete: in proportion to their shares, whatever each of them asks for.
//!
//! Stride scheduling: a caller's pass grows by 1 / share with each call that goes for it, and the lowest pass is next. Who
//! was away comes back no earlier than those who stayed, so that nobody saves turns up.

use std::collections::HashMap;
use std::hash::Hash;

/// The passes of the callers who wait.
#[derive(Debug)]
pub(super) struct Turns<C> {
    passes: HashMap<C, f64>,
    /// The pass of the latest turn.
    now: f64,
}

impl<C> Default for Turns<C> {
    fn default() -> Self {
        Self {
            passes: HashMap::new(),
            now: 0.0,
        }
    }
}

impl<C: Clone + Eq + Hash> Turns<C> {
    /// Of callers who wait, the one whose turn it is.
    pub(super) fn next<'a>(&mut self, waiting: impl Iterator<Item = &'a C>) -> Option<&'a C>
    where
        C: 'a,
    {
        let now = self.now;
        let passes = &mut self.passes;
        let mut pass = |caller: &C| {
            *passes
                .entry(caller.clone())
                .and_modify(|p| *p = p.max(now))
                .or_insert(now)
        };
        waiting
            .map(|caller| (pass(caller), caller))
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, caller)| caller)
    }

    /// A call goes for this caller.
    pub(super) fn took(&mut self, caller: &C, share: u32) {
        let pass = self.passes.entry(caller.clone()).or_insert(self.now);
        self.now = self.now.max(*pass);
        *pass += 1.0 / f64::from(share.max(1));
    }

    /// Nobody waits: what they had does not matter any more.
    pub(super) fn clear(&mut self) {
        self.passes.clear();
        self.now = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_by_share_and_nobody_saves_them_up() {
        let mut turns = Turns::default();
        let mut taken = HashMap::new();
        for round in 0..300 {
            // The third one comes late.
            let waiting = ["one", "two", "late"];
            let waiting = &waiting[..if round < 200 { 2 } else { 3 }];
            let caller = *turns.next(waiting.iter()).unwrap();
            turns.took(&caller, if caller == "two" { 2 } else { 1 });
            *taken.entry((caller, round < 200)).or_insert(0) += 1;
        }
        assert!((65..=68).contains(&taken[&("one", true)]), "{taken:?}");
        assert!((132..=135).contains(&taken[&("two", true)]), "{taken:?}");
        assert!((24..=27).contains(&taken[&("late", false)]), "{taken:?}");
    }
}
