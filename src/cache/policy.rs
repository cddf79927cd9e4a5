//! What may be done with a page, given its age. Pure functions: no clock, no I/O.
//!
//! A page passes through four ages. While it is *fresh* it is served and that is all. While it is *usable* it is served
//! at once and a refresh goes on behind it. While it is *old* a caller waits for a fetch, and gets the page if that
//! fails. Then it is *gone*. Where the vendor names no freshness, the three limits are the settings', a contract out of
//! band (RFC 9111 section 4.2.4); where it does, they are the vendor's.

use std::time::{Duration, SystemTime};

use http::header::{DATE, EXPIRES};
use http::{HeaderMap, StatusCode};

use super::Settings;
use crate::contacts::Page;
use crate::contacts::control::{Directives, cache_control, delta_seconds};

/// The three ages at which a page's standing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Up to here it is fresh.
    pub fresh: Duration,
    /// Up to here it is served while it is refreshed.
    pub usable: Duration,
    /// Up to here it is served where a fetch failed.
    pub if_error: Duration,
}

impl Limits {
    /// How long a page that just arrived may be of use.
    pub fn kept_for(&self, page: &Page) -> Duration {
        self.if_error.saturating_sub(page.initial_age)
    }
}

/// What to do for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve the page from memory.
    Serve,
    /// Serve the page from memory, and refresh it.
    ServeAndRefresh,
    /// Ask the vendor; `or_old`: if that fails, serve the page.
    Fetch {
        /// Whether the page may stand in for a failure.
        or_old: bool,
    },
    /// Neither serve nor ask: the caller wants what is in memory, and nothing there will do.
    Refuse,
}

/// The limits of a page, or nothing where it must not be stored (RFC 9111 section 3).
pub fn limits(page: &Page, settings: &Settings) -> Option<Limits> {
    let negative = page.status != StatusCode::OK;
    let mut named = None;
    let mut shared = None;
    let (mut swr, mut sie, mut must_revalidate, mut no_cache) = (None, None, false, false);
    for (name, argument) in cache_control(&page.headers) {
        let seconds = argument.as_deref().and_then(delta_seconds);
        match name.as_str() {
            "no-store" => return None,
            "private" if argument.is_none() => return None,
            "no-cache" if argument.is_none() => no_cache = true,
            // What cannot be read is stale: RFC 9111 section 4.2.1.
            "max-age" => named = named.or(Some(seconds.unwrap_or_default())),
            "s-maxage" => {
                must_revalidate = true;
                shared = shared.or(Some(seconds.unwrap_or_default()));
            }
            "must-revalidate" | "proxy-revalidate" => must_revalidate = true,
            "stale-while-revalidate" => swr = seconds,
            "stale-if-error" => sie = seconds,
            _ => {}
        }
    }
    if negative {
        let fresh = settings.negative_for;
        return (!fresh.is_zero()).then_some(Limits {
            fresh,
            usable: fresh,
            if_error: fresh,
        });
    }
    let fresh = match shared.or(named).or_else(|| expires(&page.headers)) {
        _ if no_cache => Some(Duration::ZERO),
        named => named,
    };
    let limits = Limits {
        fresh: fresh.unwrap_or(settings.fresh_for),
        usable: settings.usable_for,
        if_error: settings.stale_if_error,
    };
    let fresh = limits.fresh;
    if must_revalidate || no_cache {
        return Some(Limits {
            usable: fresh,
            if_error: fresh,
            ..limits
        });
    }
    let usable = swr.map_or(limits.usable, |swr| fresh + swr).max(fresh);
    let if_error = sie.map_or(limits.if_error, |sie| fresh + sie).max(usable);
    Some(Limits {
        fresh,
        usable,
        if_error,
    })
}

/// What to do with a page of this age for a caller who asks this.
pub fn verdict(age: Duration, limits: &Limits, asked: &Directives) -> Verdict {
    let left = limits.fresh.saturating_sub(age);
    let stale_for = age.saturating_sub(limits.fresh);
    let unwanted = asked.no_cache
        || asked.max_age.is_some_and(|most| age > most)
        || asked.min_fresh.is_some_and(|least| left < least);
    // Obeyed where it costs nothing: a caller who insists waits for a fetch, and gets the page if that fails.
    if unwanted {
        return if asked.only_if_cached {
            Verdict::Refuse
        } else {
            Verdict::Fetch {
                or_old: age < limits.if_error,
            }
        };
    }
    if age < limits.fresh {
        Verdict::Serve
    } else if age < limits.usable && !asked.only_if_cached {
        Verdict::ServeAndRefresh
    } else if age < limits.usable
        || age < limits.if_error && asked.max_stale.is_some_and(|most| stale_for <= most)
    {
        Verdict::Serve
    } else if asked.only_if_cached {
        Verdict::Refuse
    } else {
        Verdict::Fetch {
            or_old: age < limits.if_error,
        }
    }
}

/// RFC 9111 section 5.3: `Expires` less `Date`; what is no date is past.
fn expires(headers: &HeaderMap) -> Option<Duration> {
    let date = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        httpdate::parse_http_date(text).ok()
    };
    headers.contains_key(EXPIRES).then(|| {
        date(EXPIRES)
            .zip(date(DATE))
            .and_then(|(expires, date): (SystemTime, SystemTime)| expires.duration_since(date).ok())
            .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SETTINGS: Settings = Settings {
        max_bytes: 1 << 20,
        fresh_for: secs(60),
        usable_for: secs(3_600),
        stale_if_error: secs(86_400),
        negative_for: secs(10),
    };

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn of(status: u16, fields: &[(&'static str, &'static str)]) -> Option<(u64, u64, u64)> {
        let page = Page {
            status: StatusCode::from_u16(status).unwrap(),
            headers: fields
                .iter()
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect(),
            body: bytes::Bytes::new(),
            received_at: crate::clock::Clock::system().now(),
            initial_age: Duration::ZERO,
        };
        let _: Instant = page.received_at;
        limits(&page, &SETTINGS)
            .map(|l| (l.fresh.as_secs(), l.usable.as_secs(), l.if_error.as_secs()))
    }

    #[test]
    fn the_vendors_word_counts_and_ours_where_it_has_none() {
        let cc = |value| of(200, &[("cache-control", value)]);
        assert_eq!(of(200, &[]), Some((60, 3_600, 86_400)));
        assert_eq!(cc("max-age=5"), Some((5, 3_600, 86_400)));
        assert_eq!(cc("max-age=5, s-maxage=7"), Some((7, 7, 7)));
        assert_eq!(cc("max-age=100000"), Some((100_000, 100_000, 100_000)));
        assert_eq!(cc("max-age=x"), Some((0, 3_600, 86_400)));
        assert_eq!(cc("max-age=5, must-revalidate"), Some((5, 5, 5)));
        assert_eq!(
            cc("max-age=5, stale-while-revalidate=10, stale-if-error=20"),
            Some((5, 15, 25))
        );
        assert_eq!(cc("no-cache"), Some((0, 0, 0)));
        assert_eq!(cc("no-store"), None);
        assert_eq!(cc("private"), None);
        let dates = [
            ("date", "Mon, 01 Jan 2024 00:00:00 GMT"),
            ("expires", "Mon, 01 Jan 2024 00:02:00 GMT"),
        ];
        assert_eq!(of(200, &dates), Some((120, 3_600, 86_400)));
        assert_eq!(of(200, &[("expires", "0")]), Some((0, 3_600, 86_400)));
        assert_eq!(of(404, &[]), Some((10, 10, 10)));
        assert_eq!(of(404, &[("cache-control", "no-store")]), None);
    }

    #[test]
    fn a_page_passes_through_four_ages() {
        let limits = Limits {
            fresh: secs(60),
            usable: secs(3_600),
            if_error: secs(86_400),
        };
        let plain = Directives::default();
        let only = Directives {
            only_if_cached: true,
            ..plain
        };
        let any_age = Directives {
            max_stale: Some(Duration::MAX),
            ..plain
        };
        let young = Directives {
            max_age: Some(secs(30)),
            ..plain
        };
        use Verdict::{Fetch, Refuse, Serve, ServeAndRefresh};
        for (age, to_plain, to_only, to_any_age, to_young) in [
            (0, Serve, Serve, Serve, Serve),
            (30, Serve, Serve, Serve, Serve),
            (59, Serve, Serve, Serve, Fetch { or_old: true }),
            (
                60,
                ServeAndRefresh,
                Serve,
                ServeAndRefresh,
                Fetch { or_old: true },
            ),
            (
                3_599,
                ServeAndRefresh,
                Serve,
                ServeAndRefresh,
                Fetch { or_old: true },
            ),
            (
                3_600,
                Fetch { or_old: true },
                Refuse,
                Serve,
                Fetch { or_old: true },
            ),
            (
                86_399,
                Fetch { or_old: true },
                Refuse,
                Serve,
                Fetch { or_old: true },
            ),
            (
                86_400,
                Fetch { or_old: false },
                Refuse,
                Fetch { or_old: false },
                Fetch { or_old: false },
            ),
        ] {
            let of = |asked| verdict(secs(age), &limits, asked);
            assert_eq!(of(&plain), to_plain, "at {age}s");
            assert_eq!(of(&only), to_only, "only-if-cached at {age}s");
            assert_eq!(of(&any_age), to_any_age, "max-stale at {age}s");
            assert_eq!(of(&young), to_young, "max-age=30 at {age}s");
        }
    }
}
