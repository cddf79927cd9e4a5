//! The policy beside another implementation of the RFC, `http-cache-semantics`, on random answers and requests.
//!
//! Both have to say the same. Where the other one departs from RFC 9111, or leaves out what is left to caches, it is not
//! shown what we are shown but what the RFC makes of it: [`told`] lists these places, each with its section. All spellings
//! of a field go to us alone; the other one reads the plain one.

use std::time::SystemTime;

use futures_util::FutureExt;
use http::header::{AGE, CACHE_CONTROL, DATE, ETAG, PRAGMA, VARY};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_cache_semantics::{CacheOptions, CachePolicy};
use proptest::prelude::*;

use self::cases::{Answer, Asked, Case, Time, case};
use super::super::test_pages::{cases, rules};
use super::super::vary::Selection;
use super::*;
use crate::contacts::Forwarded;
use crate::upstream::judge::{Arrival, judged};

mod cases;

/// When answers arrive: the start of 2024.
const ARRIVED: Duration = Duration::from_secs(1_704_067_200);

proptest! {
    #![proptest_config(cases(2_000, "tests/regressions/policy.txt"))]

    #[test]
    fn what_is_served_is_what_the_rfc_lets_a_shared_cache_serve(case in case()) {
        let (ours, theirs) = (Ours::of(&case), theirs(&case));
        let received_at = ours.page.received_at;
        prop_assert_eq!(ours.page.age(received_at), theirs.age(arrived()), "age");
        let ttl = theirs.time_to_live(arrived());
        prop_assert_eq!(ours.fresh_for(), ttl, "freshness");
        prop_assert!(ours.limits.is_none() || theirs.is_storable(), "kept");
        let asked = request(case.asked.told(), case.asked.tenant);
        let around = [0, 1].map(|more| ttl + secs(more));
        let before = ttl.saturating_sub(secs(1));
        for later in around.into_iter().chain([before, Duration::ZERO, case.later]) {
            let served = theirs.before_request(&asked, arrived() + later);
            let served = served.satisfies_without_revalidation();
            prop_assert_eq!(
                ours.serves(&case.asked, later),
                served && theirs.is_storable() && !case.answer.is_not_worth_keeping(),
                "after {:?}", later
            );
        }
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn arrived() -> SystemTime {
    SystemTime::UNIX_EPOCH + ARRIVED
}

/// What we make of an answer.
struct Ours {
    page: Page,
    /// For requests that this selects, if for any.
    limits: Option<(Limits, Selection)>,
}

impl Ours {
    fn of(case: &Case) -> Self {
        let mut answer = Response::new(bytes::Bytes::new());
        *answer.status_mut() = case.answer.status;
        *answer.headers_mut() = case.answer.spelled();
        let at = Arrival {
            received_at: crate::clock::Clock::system().now(),
            date: arrived(),
            took: Duration::ZERO,
        };
        let page = judged(answer, None, true, at).now_or_never().unwrap();
        let page = page.unwrap();
        // What is the RFC's alone: no time of the settings' but for max-stale, which has to end somewhere.
        let mut rules = Rules::clone(&rules());
        rules.settings = Settings {
            fresh_for: Duration::ZERO,
            usable_for: Duration::ZERO,
            stale_if_error: secs(1 << 40),
            negative_for: Duration::ZERO,
            ..rules.settings
        };
        let limits = limits(&page, case.authorized, &rules);
        let selection = Selection::of(&page, &forwarded(case.tenant));
        Self {
            limits: limits.zip(selection),
            page,
        }
    }

    fn fresh_for(&self) -> Duration {
        let fresh = self.limits.as_ref().map(|(limits, _)| limits.fresh);
        fresh
            .unwrap_or_default()
            .saturating_sub(self.page.initial_age.into())
    }

    fn serves(&self, asked: &Asked, later: Duration) -> bool {
        let Some((limits, selection)) = &self.limits else {
            return false;
        };
        let age = self.page.age(self.page.received_at + later);
        let verdict = verdict(age, limits, &Directives::of(&asked.spelled()));
        selection.admits(&forwarded(asked.tenant)) && verdict == Verdict::Serve
    }
}

/// The field that answers may vary by.
const TENANT: &str = "x-tenant";

fn forwarded(tenant: Option<&'static str>) -> Forwarded {
    let field = |value| {
        (
            HeaderName::from_static(TENANT),
            HeaderValue::from_static(value),
        )
    };
    tenant.map(field).into_iter().collect()
}

fn request(mut fields: HeaderMap, tenant: Option<&'static str>) -> Request<()> {
    fields.extend(forwarded(tenant).iter().cloned());
    let mut request = Request::new(());
    *request.headers_mut() = fields;
    request
}

/// What the other one makes of an answer.
fn theirs(case: &Case) -> CachePolicy {
    let mut asked = request(HeaderMap::new(), case.tenant);
    if case.authorized {
        let value = HeaderValue::from_static("Bearer x");
        asked.headers_mut().insert("authorization", value);
    }
    let (fields, early) = told(case);
    let mut answer = Response::new(());
    *answer.headers_mut() = fields;
    *answer.status_mut() = match case.answer.status.as_u16() {
        // Section 3: a status need not be known, if the answer is explicit. 302 is one that nobody guesses about either.
        201 | 299 | 400 | 403 | 500 | 503 | 599 => StatusCode::FOUND,
        _ => case.answer.status,
    };
    let options = CacheOptions {
        // RFC 8246: `immutable` is about reloads while the answer is fresh, not about how long that is.
        immutable_min_time_to_live: Duration::ZERO,
        ..CacheOptions::default()
    };
    CachePolicy::new_options(&asked, &answer, arrived() - early, options)
}

/// The fields of an answer as the other one has to be told of them, and how much earlier it arrived.
fn told(case: &Case) -> (HeaderMap, Duration) {
    let Answer {
        cache_control,
        date,
        age,
        expires,
        ..
    } = &case.answer;
    let mut fields = HeaderMap::new();
    let mut put = |name: HeaderName, text: &str| {
        fields.append(name, HeaderValue::try_from(text).unwrap());
    };
    if let Some(directives) = cache_control {
        put(CACHE_CONTROL, &directives_told(case, directives));
    }
    // Section 5.1: of a list the first counts. Section 1.2.2: digits only, and what is too large is 2^31.
    let age = age.and_then(|age| seconds(age.split(',').next()?.trim()));
    if let Some(age) = age {
        put(AGE, &age.to_string());
    }
    if let Some(date) = date {
        put(DATE, &date.plain());
    }
    match expires[..] {
        [] => {}
        [one] => put(EXPIRES, &one.plain()),
        // Section 4.2.1: conflicting freshness is none.
        _ => put(EXPIRES, "0"),
    }
    let made = date.and_then(|date| date.at()).unwrap_or(0);
    if let Some(modified) = case.answer.modified {
        // Section 4.2.2 leaves it to the cache; ours guesses no more than a day.
        let ten_days = 864_000;
        let modified = match modified.at() {
            Some(at) => Time::imf(at.max(made - ten_days)),
            None => modified,
        };
        put(LAST_MODIFIED, &modified.plain());
    }
    if let Some(vary) = case.answer.vary {
        // Section 4.1: a star anywhere in it fails to match.
        put(VARY, if vary.contains('*') { "*" } else { vary });
    }
    // Section 5.4: `Pragma` means nothing in an answer, so the other one, who heeds it, hears nothing of it.
    // Section 4.2.3: it leaves out apparent_age. Where no freshness is named, ours does too.
    let named = cache_control.is_some() || !expires.is_empty();
    let apparent = u64::try_from(-made).unwrap_or(0);
    let early = apparent.saturating_sub(age.unwrap_or(0));
    (fields, if named { secs(early) } else { Duration::ZERO })
}

fn directives_told(case: &Case, directives: &[cases::Directive]) -> String {
    let all: Vec<_> = directives
        .iter()
        .map(|one| (one.name, one.argument))
        .collect();
    let has = |name| all.iter().any(|(has, _)| *has == name);
    let understood = case.answer.status.canonical_reason().is_some();
    // Section 3.5 knows three directives that let an answer be kept although its request was authorized.
    let for_all = has("public") || has("must-revalidate") || has("s-maxage");
    let mut told: Vec<(&str, Option<String>)> = Vec::new();
    for (name, argument) in all.iter().copied() {
        let (name, argument) = match (name, argument) {
            // Sections 5.2.2.4 and 5.2.2.7: with names they are about those fields, which are withheld.
            ("private" | "no-cache", Some(_)) => continue,
            // Section 5.2.2.3: it takes the place of no-store.
            ("no-store", _) if has("must-understand") => continue,
            ("must-understand", _) if understood => continue,
            ("must-understand", _) => ("no-store", None),
            // Section 5.2.2.8: must-revalidate for shared caches, and no less fresh before that.
            ("proxy-revalidate", _) if !case.authorized || for_all => ("must-revalidate", None),
            // Section 4.2.1: what cannot be read is stale.
            ("max-age" | "s-maxage", argument) => {
                let seconds = argument.and_then(seconds).unwrap_or(0);
                (name, Some(seconds.to_string()))
            }
            other => (other.0, other.1.map(str::to_owned)),
        };
        // Section 4.2.1: the first of several.
        if !told.iter().any(|(told, _)| *told == name) {
            told.push((name, argument));
        }
        // Sections 5.2.2.10 and 5.2.2.4: neither may be served stale, whatever a request would put up with.
        if matches!(name, "s-maxage" | "no-cache") && (for_all || !case.authorized) {
            told.push(("must-revalidate", None));
        }
    }
    let told = told.into_iter().map(|(name, argument)| match argument {
        Some(argument) => format!("{name}={argument}"),
        None => name.to_owned(),
    });
    told.collect::<Vec<_>>().join(", ")
}

impl Answer {
    /// Section 3 lets some answers be kept of which nobody says for how long. Ours keeps them for as long as the settings say,
    /// which here is no time at all, if they are a 200; and else not at all.
    fn is_not_worth_keeping(&self) -> bool {
        let directives = self.cache_control.iter().flatten();
        let explicit = !self.expires.is_empty()
            || directives
                .into_iter()
                .any(|one| matches!(one.name, "max-age" | "s-maxage"));
        let made = self.date.and_then(Time::at).unwrap_or(0);
        let guessed = self
            .modified
            .and_then(Time::at)
            .is_some_and(|at| at <= made);
        self.status != StatusCode::OK && !explicit && !guessed
    }
}

/// Section 1.2.2.
fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX).min(1 << 31))
}

impl Asked {
    /// The request's fields as the other one has to be told of them.
    fn told(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let Some(directives) = &self.cache_control else {
            // Section 5.4: only where there is no Cache-Control.
            fields.extend(
                self.pragma
                    .then_some((PRAGMA, HeaderValue::from_static("no-cache"))),
            );
            return fields;
        };
        let mut told: Vec<(&str, Option<u64>)> = Vec::new();
        for one in directives {
            let argument = match (one.name, one.argument) {
                ("max-age" | "min-fresh", argument) => match argument.and_then(seconds) {
                    Some(seconds) => Some(seconds),
                    None => continue,
                },
                ("max-stale", Some(argument)) => match seconds(argument) {
                    // Section 5.2.1.2: by no more than so many seconds, which is not less than so many.
                    Some(seconds) => Some(seconds + 1),
                    None => continue,
                },
                _ => None,
            };
            // No section says which of several counts in a request. Ours goes by the last that can be read.
            told.retain(|(told, _)| *told != one.name);
            told.push((one.name, argument));
        }
        let told = told.into_iter().map(|(name, seconds)| match seconds {
            Some(seconds) => format!("{name}={seconds}"),
            None => name.to_owned(),
        });
        let told = told.collect::<Vec<_>>().join(", ");
        fields.insert(CACHE_CONTROL, HeaderValue::try_from(told).unwrap());
        fields
    }
}
