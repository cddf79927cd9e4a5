//! The one place that reads a clock.
//!
//! Everything that depends on time takes a [`Clock`], or better a `now`, as an argument. A test holds a
//! [`Hand`] and moves it; nothing sleeps to let time pass.

use std::cell::Cell;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// Tells the time: monotonic for ages and waits, the wall's for dates and tokens.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Hand>);

/// Moves a clock that stands still otherwise.
#[derive(Clone, Debug)]
pub struct Hand(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    time: Mutex<(Instant, SystemTime)>,
    moved: Notify,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that starts at the machine's time and moves only by its hand.
    pub fn by_hand() -> (Self, Hand) {
        let hand = Hand(Arc::new(Shown {
            time: Mutex::new((moment(), date())),
            moved: Notify::new(),
        }));
        (Self(Some(hand.clone())), hand)
    }

    /// The moment, for measuring how long something took or how old it is.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => moment(),
            Some(hand) => hand.shows().0,
        }
    }

    /// The date, for tokens and the `Date` field.
    pub fn wall(&self) -> SystemTime {
        self.0.as_ref().map_or_else(date, |hand| hand.shows().1)
    }

    /// The date of a moment that was there just now. The machine's is read once a second, and goes on as moments do in
    /// between: to read a clock is a hundredth of a hit.
    pub fn date_of(&self, moment: Instant) -> SystemTime {
        thread_local! {
            static READ: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
        }
        if self.0.is_some() {
            return self.wall();
        }
        let goes_on = READ.get().and_then(|(last, date)| {
            let since = moment.checked_duration_since(last)?;
            (since < Duration::from_secs(1)).then(|| date + since)
        });
        goes_on.unwrap_or_else(|| {
            let date = date();
            READ.set(Some((moment, date)));
            date
        })
    }

    /// Waits until then.
    pub async fn sleep_until(&self, then: Instant) {
        let Some(Hand(shown)) = &self.0 else {
            return tokio::time::sleep_until(then.into()).await;
        };
        loop {
            let mut moved = pin!(shown.moved.notified());
            moved.as_mut().enable();
            if self.now() >= then {
                return;
            }
            moved.await;
        }
    }

    /// Both at once, the date as [`Clock::date_of`] has it.
    pub fn both(&self) -> (Instant, SystemTime) {
        match &self.0 {
            None => {
                let now = moment();
                (now, self.date_of(now))
            }
            Some(hand) => hand.shows(),
        }
    }
}

impl Hand {
    /// Lets time pass.
    pub fn forward(&self, by: Duration) {
        let mut time = self.0.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.0 += by;
        time.1 += by;
        drop(time);
        self.0.moved.notify_waiters();
    }

    fn shows(&self) -> (Instant, SystemTime) {
        *self.0.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the machine's clock"
)]
fn date() -> SystemTime {
    SystemTime::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the machine's clock"
)]
fn moment() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_moves_only_by_its_hand() {
        let (clock, hand) = Clock::by_hand();
        let (now, wall) = clock.both();
        assert_eq!(clock.both(), (now, wall));
        hand.forward(Duration::from_secs(61));
        assert_eq!(clock.now() - now, Duration::from_secs(61));
        assert_eq!(clock.wall(), wall + Duration::from_secs(61));
    }

    #[test]
    fn a_date_goes_on_with_the_moments_for_a_second_and_is_read_again() {
        let clock = Clock::system();
        // What this thread read before, if it did, is over.
        let start = clock.now() + Duration::from_secs(10);
        let read = |at| {
            let before = clock.wall();
            let date = clock.date_of(at);
            assert!((before..=clock.wall()).contains(&date), "it was not read");
            date
        };
        let date = read(start);
        let later = Duration::from_millis(999);
        assert_eq!(clock.date_of(start + later), date + later);
        read(start + Duration::from_secs(1));
        read(start);
        let before = clock.now();
        let (now, date) = clock.both();
        assert!((before..=clock.now()).contains(&now));
        assert_eq!(clock.date_of(now), date, "both are of one moment");
        let (clock, hand) = Clock::by_hand();
        hand.forward(Duration::from_secs(5));
        assert_eq!(clock.date_of(clock.now()), clock.wall());
    }
}
