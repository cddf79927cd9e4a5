//! The vendor's rate limit: so many calls of an account in any stretch of a window's length.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// How many calls an account may make, and what one too many is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls an account may make in any `window`.
    pub calls: u32,
    /// How long a call counts.
    pub window: Duration,
    /// The status of a refusal, which the documentation does not tell.
    pub status: StatusCode,
    /// The text of a refusal.
    pub message: Message,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            calls: 60,
            window: Duration::from_secs(60),
            status: StatusCode::TOO_MANY_REQUESTS,
            message: Message::PerMinute,
        }
    }
}

/// The texts that the vendor's pages show for a spent limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The one for this product.
    PerMinute,
    /// The one of products with an hourly limit beside it.
    Hourly,
    /// The one of older pages.
    Older,
}

impl Message {
    /// The text, as the vendor writes it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::PerMinute => {
                "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."
            }
            Self::Hourly => {
                "You've exceeded the hourly rate limit. Please wait for sometime before retrying."
            }
            Self::Older => "Rate limit for this API has been reached. Please try again later",
        }
    }
}

/// When each account's calls were, as far back as they count.
#[derive(Debug, Default)]
pub(super) struct Windows(HashMap<String, VecDeque<Instant>>);

impl Windows {
    /// Counts a call, unless that would be one too many: then it is refused and counts for nothing.
    pub(super) fn admit(&mut self, limit: &Limit, account: &str, now: Instant) -> bool {
        let log = self.0.entry(account.to_owned()).or_default();
        while log
            .front()
            .is_some_and(|then| now.saturating_duration_since(*then) >= limit.window)
        {
            log.pop_front();
        }
        let admitted = log.len() < limit.calls as usize;
        if admitted {
            log.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_window_slides_and_refused_calls_do_not_count() {
        let limit = Limit {
            calls: 2,
            ..Limit::default()
        };
        let start = Clock::system().now();
        let mut windows = Windows::default();
        for (second, want) in [
            (0, true),
            (30, true),
            (31, false),
            (59, false),
            (60, true),
            (61, false),
            (90, true),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(windows.admit(&limit, "a", now), want, "at {second} s");
        }
        let now = start + Duration::from_secs(90);
        assert!(windows.admit(&limit, "b", now), "accounts do not share");
    }
}
