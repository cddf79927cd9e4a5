//! What may be kept, and what may be done with it at which age. Pure functions: no clock, no I/O.
//!
//! A page passes through four ages. While it is *fresh* it is served and that is all. While it is *usable* it is served
//! at once and a refresh goes on behind it. While it is *old* a caller waits for a fetch, and gets the page if that
//! fails. Then it is *gone*. Where the vendor names no freshness, the three limits are the settings', a contract out of
//! band (RFC 9111 section 4.2.4); where it does, they are the vendor's.
//!
//! RFC 9111 section 3.5, on `Authorization`, needs no exception for the vendor: its credentials are the gateway's own, sent
//! in another field, and the account that an answer is for is in the key. What a caller sends as `Authorization` ends
//! at the gateway. Of an upstream of another kind nothing of this is known, so there the section is obeyed, as is all
//! else that the RFC leaves to contracts.

use std::num::NonZeroU32;
use std::time::Duration;

use http::header::{CACHE_CONTROL, EXPIRES, LAST_MODIFIED};
use http::{HeaderName, StatusCode};

use super::Settings;
use crate::contacts::control::{Directives, cache_control, delta_seconds};
use crate::contacts::{Page, http_date, unix_seconds};

/// What the cache goes by beside the answers themselves.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The ages that hold where the vendor names none.
    pub settings: Settings,
    /// Whose answers they are.
    pub upstream: Kind,
}

/// Whose answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The vendor's, whose lists and failures are known.
    Vendor,
    /// Anybody's (`upstream.accept_any_body`): what the RFC says is all there is to go by.
    Any,
}

/// The ages at which a page's standing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Up to here it is fresh.
    pub fresh: Duration,
    /// Up to here it is served while it is refreshed.
    pub usable: Duration,
    /// Up to here it is served where a fetch failed.
    pub if_error: Duration,
    /// Up to here it is kept at all: the vendor may say that it still holds.
    pub kept: Duration,
}

/// What to do for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve the page from memory.
    Serve,
    /// Serve the page from memory, and refresh it.
    ServeAndRefresh,
    /// Ask the vendor. If that fails, serve the page while it is younger than [`Limits::if_error`].
    Fetch,
    /// Neither serve nor ask: the caller wants what is in memory, and nothing there will do.
    Refuse,
}

/// The limits of a page under these rules, or nothing where it must not be kept (RFC 9111 section 3). `authorized`: the
/// request that it answered had an `Authorization`.
pub fn limits(page: &Page, authorized: bool, rules: &Rules) -> Option<Limits> {
    let limits = Terms::of(page, authorized, rules.upstream)?.limits(&rules.settings);
    (!limits.kept.is_zero()).then_some(limits)
}

/// What an answer says of its ages, without what the settings add to that: those may change while the page is kept, and
/// then hold for it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A no to the request.
    negative: bool,
    /// Nothing: the settings'.
    fresh: Seconds,
    /// It is of no use without a fetch once it is not fresh.
    strict: bool,
    while_revalidate: Seconds,
    if_error: Seconds,
    /// The vendor can tell by it whether the page still holds.
    validators: bool,
}

impl Terms {
    /// Those of a page, or nothing where it must not be kept, whatever the settings say (RFC 9111 section 3).
    pub fn of(page: &Page, authorized: bool, upstream: Kind) -> Option<Self> {
        let told = Told::by(page);
        let understood = page.status.canonical_reason().is_some();
        // Section 5.2.2.3: for those who understand the status, must-understand takes no-store's place.
        let kept_back = match told.must_understand {
            true if upstream == Kind::Any => !understood,
            _ => told.no_store,
        };
        let partial = matches!(page.status.as_u16(), 206 | 304);
        let another_s = authorized && upstream == Kind::Any && !told.for_all;
        if kept_back || told.private || partial || another_s {
            return None;
        }
        let (tag, modified) = page.validators();
        // Nobody is given an old failure at once who may be given a page now.
        let failed = page.status.is_server_error().then_some(Duration::ZERO);
        let terms = |fresh| Self {
            negative: false,
            fresh: Seconds::of(fresh),
            strict: told.no_cache || told.must_revalidate,
            while_revalidate: Seconds::of(told.while_revalidate.or(failed)),
            if_error: Seconds::of(told.if_error),
            validators: tag.is_some() || modified.is_some(),
        };
        // The vendor's no to a request is remembered for a short while, and then forgotten.
        let negative = || {
            (!told.no_cache).then_some(Self {
                negative: true,
                ..terms(told.freshness)
            })
        };
        match upstream {
            Kind::Vendor if page.status != StatusCode::OK => negative(),
            // Section 3: no-cache alone does not say that an answer may be kept.
            Kind::Any if told.no_cache && told.freshness.is_none() && !guessable(page, &told) => {
                None
            }
            _ if told.no_cache => Some(terms(Some(Duration::ZERO))),
            Kind::Vendor => Some(terms(told.freshness)),
            Kind::Any => match told.freshness.or_else(|| heuristic(page, &told)) {
                Some(fresh) => Some(terms(Some(fresh))),
                None if page.status == StatusCode::OK => Some(terms(None)),
                None if matches!(page.status.as_u16(), 400 | 404) => negative(),
                None => None,
            },
        }
    }

    /// The limits under these settings. Where [`Limits::kept`] is zero, a page is not worth keeping.
    pub fn limits(&self, settings: &Settings) -> Limits {
        let &Settings {
            usable_for,
            stale_if_error,
            fresh_for,
            negative_for,
            ..
        } = settings;
        if self.negative {
            // Not for longer than the vendor says.
            let age = self.fresh.get();
            let age = age.map_or(negative_for, |fresh| fresh.min(negative_for));
            return Limits {
                fresh: age,
                usable: age,
                if_error: age,
                kept: age,
            };
        }
        let fresh = self.fresh.get().unwrap_or(fresh_for);
        let after_fresh = |more: Duration| fresh + more;
        let (usable, if_error) = if self.strict {
            (fresh, fresh)
        } else {
            let if_error = self.if_error.get().map_or(stale_if_error, after_fresh);
            let usable = match self.while_revalidate.get() {
                Some(more) => after_fresh(more),
                // Who says how old a page may be where a fetch fails does not want it older where none is waited for.
                None => usable_for.min(if_error).max(fresh),
            };
            (usable, if_error.max(usable))
        };
        let useful = match self.validators {
            true => stale_if_error,
            false => Duration::ZERO,
        };
        Limits {
            fresh,
            usable,
            if_error,
            kept: if_error.max(useful),
        }
    }
}

/// Whole seconds that an answer tells, if it does: a quarter of what an `Option<Duration>` takes. A billion are enough, see
/// [`delta_seconds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seconds(Option<NonZeroU32>);

impl Seconds {
    fn of(told: Option<Duration>) -> Self {
        let seconds = |told: Duration| u32::try_from(told.as_secs()).unwrap_or(u32::MAX);
        Self(told.map(|told| NonZeroU32::MIN.saturating_add(seconds(told))))
    }

    fn get(self) -> Option<Duration> {
        let seconds = self.0?.get() - 1;
        Some(Duration::from_secs(seconds.into()))
    }
}

/// What an answer says about itself.
#[derive(Debug, Default)]
struct Told {
    no_store: bool,
    private: bool,
    no_cache: bool,
    must_revalidate: bool,
    must_understand: bool,
    public: bool,
    /// Section 3.5: it may be kept although the request had an `Authorization`.
    for_all: bool,
    /// Section 4.2.1, without heuristics.
    freshness: Option<Duration>,
    while_revalidate: Option<Duration>,
    if_error: Option<Duration>,
}

impl Told {
    fn by(page: &Page) -> Self {
        let mut told = Self::default();
        let (mut max_age, mut shared_max_age) = (None, None);
        for (name, argument) in cache_control(page.fields.get_all(CACHE_CONTROL)) {
            let seconds = || argument.as_deref().and_then(delta_seconds);
            // Section 4.2.1: of several the first counts, and what cannot be read is stale.
            let age = || Some(seconds().unwrap_or_default());
            match name.as_str() {
                "no-store" => told.no_store = true,
                // With names these two are about those fields alone: see `withheld`.
                "private" => told.private |= argument.is_none(),
                "no-cache" => told.no_cache |= argument.is_none(),
                "must-revalidate" => (told.must_revalidate, told.for_all) = (true, true),
                "proxy-revalidate" => told.must_revalidate = true,
                "must-understand" => told.must_understand = true,
                "public" => told.public = true,
                "max-age" => max_age = max_age.or_else(age),
                "s-maxage" => shared_max_age = shared_max_age.or_else(age),
                "stale-while-revalidate" => told.while_revalidate = seconds(),
                "stale-if-error" => told.if_error = seconds(),
                // `immutable` is about reloads by people.
                _ => {}
            }
        }
        told.for_all |= told.public || shared_max_age.is_some();
        // Section 5.2.2.10: s-maxage means proxy-revalidate too.
        told.must_revalidate |= shared_max_age.is_some();
        told.freshness = shared_max_age.or(max_age).or_else(|| expires(page));
        told
    }
}

/// Section 5.3: `Expires` less `Date`. What is no date, or more than one, is past.
fn expires(page: &Page) -> Option<Duration> {
    let mut lines = page.fields.get_all(EXPIRES);
    let (first, second) = (lines.next()?, lines.next());
    let date = str::from_utf8(first).ok().and_then(http_date);
    let left = date
        .filter(|_| second.is_none())
        .map(|expires| unix_seconds(expires).saturating_sub(page.date));
    Some(Duration::from_secs(left.unwrap_or_default()))
}

/// Section 4.2.2: a tenth of the time since the page was modified, a day at most, where a guess is allowed.
fn heuristic(page: &Page, told: &Told) -> Option<Duration> {
    let modified = str::from_utf8(page.fields.get(LAST_MODIFIED)?).ok()?;
    let since = page.date.checked_sub(unix_seconds(http_date(modified)?))?;
    let since = Duration::from_secs(since);
    let a_day = Duration::from_secs(86_400);
    guessable(page, told).then(|| (since / 10).min(a_day))
}

/// Whether an answer may be kept that does not say for how long.
fn guessable(page: &Page, told: &Told) -> bool {
    let status = page.status.as_u16();
    let allowed = matches!(
        status,
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    );
    allowed || told.public
}

/// The fields that may not be kept: those that `private` and `no-cache` name (sections 5.2.2.4 and 5.2.2.7).
pub fn withheld(page: &Page) -> Vec<HeaderName> {
    cache_control(page.fields.get_all(CACHE_CONTROL))
        .filter(|(name, _)| matches!(name.as_str(), "private" | "no-cache"))
        .filter_map(|(_, names)| names)
        .flat_map(|names| {
            let names = names.split(',').map(|name| name.trim().parse().ok());
            names.flatten().collect::<Vec<_>>()
        })
        .collect()
}

/// What to do with a page of this age for a caller who asks this.
pub fn verdict(age: Duration, limits: &Limits, asked: &Directives) -> Verdict {
    let left = limits.fresh.saturating_sub(age);
    let stale_for = age.saturating_sub(limits.fresh);
    let unwanted = asked.no_cache
        || asked.max_age.is_some_and(|most| age > most)
        || asked.min_fresh.is_some_and(|least| left < least);
    let welcome = |most| age < limits.if_error && stale_for <= most;
    if age < limits.fresh && !unwanted {
        Verdict::Serve
    } else if age < limits.usable && !unwanted && !asked.only_if_cached {
        Verdict::ServeAndRefresh
    } else if !unwanted && (age < limits.usable || asked.max_stale.is_some_and(welcome)) {
        Verdict::Serve
    } else if asked.only_if_cached {
        Verdict::Refuse
    } else {
        Verdict::Fetch
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
