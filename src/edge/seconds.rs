//! Hides that what answers say of a number of seconds is made once and then had by all of them.

use std::sync::{LazyLock, OnceLock};

use http::HeaderValue;

/// A field's values, one for each number of seconds up to an hour, either way.
pub(super) struct Seconds {
    make: fn(i64) -> HeaderValue,
    /// Not a part of the program, which they would make larger by all of it.
    made: LazyLock<Box<[OnceLock<HeaderValue>]>>,
}

/// Most settings are shorter. Further ones are made each time.
const MOST: usize = 3600;

impl Seconds {
    /// What `make` says of a number is an ASCII text.
    pub(super) const fn new(make: fn(i64) -> HeaderValue) -> Self {
        Self {
            make,
            made: LazyLock::new(|| (0..=2 * MOST).map(|_| OnceLock::new()).collect()),
        }
    }

    /// The value for so many.
    pub(super) fn value(&self, seconds: i64) -> HeaderValue {
        let place = seconds.saturating_add(MOST as i64);
        let place = usize::try_from(place).ok().and_then(|n| self.made.get(n));
        match place {
            Some(place) => place.get_or_init(|| self.lasting(seconds)).clone(),
            None => (self.make)(seconds),
        }
    }

    /// One whose copies share nothing that is counted: it is never freed, and there are no more than the places.
    #[cold]
    fn lasting(&self, seconds: i64) -> HeaderValue {
        let made = (self.make)(seconds);
        match made.to_str() {
            Ok(text) => HeaderValue::from_static(text.to_owned().leak()),
            Err(_) => made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_and_further_ones_each_time() {
        static TEXTS: Seconds = Seconds::new(HeaderValue::from);
        let hour = MOST as i64;
        for seconds in [
            i64::MIN,
            -hour - 1,
            -hour,
            -1,
            0,
            7,
            hour,
            hour + 1,
            i64::MAX,
        ] {
            let (one, other) = (TEXTS.value(seconds), TEXTS.value(seconds));
            assert_eq!(one, seconds.to_string());
            assert_eq!(other, one);
            let shared = one.as_bytes().as_ptr() == other.as_bytes().as_ptr();
            assert_eq!(shared, (-hour..=hour).contains(&seconds), "{seconds}");
        }
    }
}
