//! Why an account stands as it does, for a person.

use std::time::{Duration, Instant};

use super::{Cause, HOUR, Limit, Pause};

impl Limit {
    /// What explains best that callers are turned away.
    pub fn why(&self, now: Instant) -> String {
        let since = |at: Option<Instant>| {
            ago(at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)))
        };
        let (limit, window) = (self.whole(), self.settings.window);
        let hourly = self.settings.hourly as usize;
        let in_an_hour = self
            .hour
            .iter()
            .filter(|at| now.duration_since(**at) < HOUR);
        match self.pause {
            Some(_) if self.probing => {
                "one call is out to see whether the vendor answers again".into()
            }
            Some(Pause {
                cause: Cause::Refused,
                ..
            }) => format!("paused by a refusal {}", since(self.refused_at)),
            Some(_) => format!("resting after {} failures in a row", self.failures),
            None if self.alone.is_some_and(|alone| now < alone.from) => {
                "cut off from the other replicas: no call before they are sure to know".into()
            }
            None if hourly > 0 && in_an_hour.count() >= hourly => {
                format!("all {hourly} calls of the hour are spent")
            }
            None if limit < self.settings.calls.get() as usize => {
                format!("learnt from a refusal {}", since(self.refused_at))
            }
            None if self.is_careful(now) => {
                format!("careful since a refusal {}", since(self.refused_at))
            }
            None if now.duration_since(self.began_at) < window => format!(
                "new here {}: as if most of a window's calls had been made",
                since(Some(self.began_at))
            ),
            None if self.in_window(now) >= limit => {
                format!("all {limit} calls of the window are spent")
            }
            None => "as configured".into(),
        }
    }
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3_600),
    }
}
