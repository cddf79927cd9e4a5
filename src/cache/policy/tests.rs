//! What the RFC says, by section, and what becomes of it.

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::clock::Clock;
use crate::contacts::Millis;

const VENDOR: Rules = Rules {
    settings: Settings {
        max_bytes: 1 << 20,
        fresh_for: secs(60),
        usable_for: secs(3_600),
        stale_if_error: secs(86_400),
        negative_for: secs(10),
    },
    upstream: Kind::Vendor,
};

const ANY: Rules = Rules {
    upstream: Kind::Any,
    ..VENDOR
};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
const A_MINUTE_LATER: &str = "Mon, 01 Jan 2024 00:01:00 GMT";
const A_MINUTE_EARLIER: &str = "Sun, 31 Dec 2023 23:59:00 GMT";

fn page(status: u16, fields: &[(&'static str, &'static str)]) -> Page {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    Page {
        status: StatusCode::from_u16(status).unwrap(),
        fields: headers.into(),
        body: bytes::Bytes::new(),
        received_at: Clock::system().now(),
        date: http_date(DATE).map_or(0, unix_seconds),
        initial_age: Millis::default(),
        tagged_here: false,
        revalidated: false,
        ahead: Box::default(),
    }
}

/// The limits in seconds: fresh, usable, if_error.
fn of(
    rules: &Rules,
    status: u16,
    fields: &[(&'static str, &'static str)],
) -> Option<(u64, u64, u64)> {
    limits(&page(status, fields), false, rules)
        .map(|l| (l.fresh.as_secs(), l.usable.as_secs(), l.if_error.as_secs()))
}

#[test]
fn the_vendors_word_counts_and_ours_where_it_has_none() {
    let day = 86_400;
    for (section, value, want) in [
        ("5.2.2.1", "max-age=5", Some((5, 3_600, day))),
        ("5.2.2.1", "MaX-aGe=005", Some((5, 3_600, day))),
        ("5.2", "max-age=\"5\"", Some((5, 3_600, day))),
        (
            "5.2",
            "foo=\"max-age=99, \", max-age=5",
            Some((5, 3_600, day)),
        ),
        ("4.2.1", "max-age=5, max-age=9", Some((5, 3_600, day))),
        ("4.2.1", "max-age=-5", Some((0, 3_600, day))),
        ("4.2.1", "max-age='5'", Some((0, 3_600, day))),
        ("4.2.1", "max-age=5.0", Some((0, 3_600, day))),
        (
            "1.2.2",
            "max-age=99999999999",
            Some((1 << 31, 1 << 31, 1 << 31)),
        ),
        ("5.2.2.10", "max-age=5, s-maxage=7", Some((7, 7, 7))),
        ("5.2.2.10", "s-maxage=0, max-age=7", Some((0, 0, 0))),
        ("5.2.2.2", "max-age=5, must-revalidate", Some((5, 5, 5))),
        ("5.2.2.8", "max-age=5, proxy-revalidate", Some((5, 5, 5))),
        ("5.2.2.4", "max-age=5, no-cache", Some((0, 0, 0))),
        (
            "5.2.2.4",
            "max-age=5, no-cache=\"x\"",
            Some((5, 3_600, day)),
        ),
        ("5.2.2.5", "max-age=5, no-store", None),
        ("5.2.2.5", "nO-StOrE", None),
        ("5.2.2.7", "max-age=5, private", None),
        ("5.2.2.7", "max-age=5, private=\"x\"", Some((5, 3_600, day))),
        ("RFC 8246", "max-age=5, immutable", Some((5, 3_600, day))),
        (
            "RFC 5861 3",
            "max-age=5, stale-while-revalidate=10",
            Some((5, 15, day)),
        ),
        (
            "RFC 5861 4",
            "max-age=5, stale-while-revalidate=1, stale-if-error=20",
            Some((5, 6, 25)),
        ),
        (
            "RFC 5861 4",
            "max-age=5, stale-if-error=20",
            Some((5, 25, 25)),
        ),
        (
            "RFC 5861 4",
            "stale-if-error=0, stale-while-revalidate=0",
            Some((60, 60, 60)),
        ),
    ] {
        // A validator, so that what may not be served is kept all the same.
        let fields = [("cache-control", value), ("etag", "\"1\"")];
        assert_eq!(
            of(&VENDOR, 200, &fields),
            want,
            "section {section}: {value}"
        );
    }
    assert_eq!(of(&VENDOR, 200, &[]), Some((60, 3_600, day)));
    let modified = [("last-modified", "Fri, 01 Jan 2021 00:00:00 GMT")];
    assert_eq!(
        of(&VENDOR, 200, &modified),
        Some((60, 3_600, day)),
        "no guess beside a contract"
    );
}

#[test]
fn expires_is_a_date_after_date_or_past() {
    let fresh = |fields: &[(&'static str, &'static str)]| of(&VENDOR, 200, fields).map(|l| l.0);
    assert_eq!(fresh(&[("expires", A_MINUTE_LATER)]), Some(60));
    assert_eq!(fresh(&[("expires", A_MINUTE_EARLIER)]), Some(0));
    assert_eq!(fresh(&[("expires", "0")]), Some(0));
    assert_eq!(
        fresh(&[("expires", A_MINUTE_LATER), ("expires", A_MINUTE_LATER)]),
        Some(0)
    );
    assert_eq!(
        fresh(&[("expires", A_MINUTE_LATER), ("cache-control", "max-age=5")]),
        Some(5)
    );
}

#[test]
fn the_vendors_no_is_remembered_for_a_short_while() {
    for status in [400, 404, 410] {
        assert_eq!(of(&VENDOR, status, &[]), Some((10, 10, 10)), "{status}");
        assert_eq!(
            of(&VENDOR, status, &[("cache-control", "no-store")]),
            None,
            "{status}"
        );
    }
    for (value, want) in [
        ("no-cache", None),
        ("max-age=0", None),
        ("s-maxage=5", Some((5, 5, 5))),
        ("max-age=500", Some((10, 10, 10))),
    ] {
        let told = of(&VENDOR, 404, &[("cache-control", value)]);
        assert_eq!(told, want, "not for longer than {value} lets us");
    }
    let never = Rules {
        settings: Settings {
            negative_for: Duration::ZERO,
            ..VENDOR.settings
        },
        ..VENDOR
    };
    assert_eq!(of(&never, 404, &[]), None);
}

#[test]
fn of_any_upstream_the_rfc_says_what_is_kept() {
    let fresh =
        |status, fields: &[(&'static str, &'static str)]| of(&ANY, status, fields).map(|l| l.0);
    let (a_tenth, modified) = (6, ("last-modified", A_MINUTE_EARLIER));
    for (section, status, value, want) in [
        ("4.2.2", 200, "", Some(a_tenth)),
        ("4.2.2", 410, "", Some(a_tenth)),
        ("4.2.2", 201, "", None),
        ("4.2.2", 403, "", None),
        ("4.2.2", 503, "", None),
        ("5.2.2.9", 599, "public", Some(a_tenth)),
        ("3", 503, "no-cache", None),
        ("3", 503, "no-cache, max-age=5", Some(0)),
        ("3", 404, "no-cache", Some(0)),
        ("3", 503, "max-age=5", Some(5)),
        ("3", 302, "max-age=5", Some(5)),
        ("3", 599, "max-age=5", Some(5)),
        ("3", 206, "max-age=5", None),
        ("5.2.2.3", 599, "max-age=5, must-understand", None),
        (
            "5.2.2.3",
            200,
            "max-age=5, must-understand, no-store",
            Some(5),
        ),
    ] {
        let fields = [("cache-control", value), modified];
        assert_eq!(
            fresh(status, &fields),
            want,
            "section {section}: {status} {value}"
        );
    }
}

#[test]
fn a_failure_is_not_served_at_once_when_it_is_no_longer_fresh_unless_it_says_so() {
    for (value, usable) in [
        ("max-age=5", 5),
        ("max-age=5, stale-while-revalidate=60", 65),
    ] {
        let kept = of(&ANY, 503, &[("cache-control", value)]);
        assert_eq!(kept, Some((5, usable, 86_400)), "{value}");
    }
}

#[test]
fn an_authorization_matters_where_the_upstream_is_not_known() {
    let kept = |rules, value| {
        let page = page(200, &[("cache-control", value)]);
        limits(&page, true, rules).is_some()
    };
    for (value, by_any) in [
        ("max-age=5", false),
        ("max-age=5, public", true),
        ("max-age=5, must-revalidate", true),
        ("max-age=5, proxy-revalidate", false),
        ("s-maxage=5", true),
    ] {
        assert_eq!(kept(&ANY, value), by_any, "section 3.5: {value}");
        assert!(kept(&VENDOR, value), "the account is in the key: {value}");
    }
}

#[test]
fn what_may_only_be_revalidated_is_kept_if_it_can_be() {
    let kept = |fields: &[(&'static str, &'static str)]| {
        limits(&page(200, fields), false, &VENDOR).map(|l| l.kept.as_secs())
    };
    let no_cache = ("cache-control", "no-cache");
    assert_eq!(kept(&[no_cache]), None);
    assert_eq!(kept(&[no_cache, ("etag", "\"1\"")]), Some(86_400));
    assert_eq!(kept(&[no_cache, ("last-modified", DATE)]), Some(86_400));
}

#[test]
fn fields_that_are_named_private_are_withheld() {
    let named = |value| withheld(&page(200, &[("cache-control", value)]));
    assert_eq!(named("max-age=5"), Vec::<HeaderName>::new());
    assert_eq!(named("private"), Vec::<HeaderName>::new());
    assert_eq!(
        named("private=\"X-A, x-b\", no-cache=x-c"),
        ["x-a", "x-b", "x-c"]
    );
}

#[test]
fn a_page_passes_through_four_ages() {
    let limits = Limits {
        fresh: secs(60),
        usable: secs(3_600),
        if_error: secs(86_400),
        kept: secs(86_400),
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
    let lasting = Directives {
        min_fresh: Some(secs(31)),
        ..plain
    };
    use Verdict::{Fetch, Refuse, Serve, ServeAndRefresh};
    for (age, to_plain, to_only, to_any_age, to_young, to_lasting) in [
        (0, Serve, Serve, Serve, Serve, Serve),
        (30, Serve, Serve, Serve, Serve, Fetch),
        (59, Serve, Serve, Serve, Fetch, Fetch),
        (60, ServeAndRefresh, Serve, ServeAndRefresh, Fetch, Fetch),
        (3_599, ServeAndRefresh, Serve, ServeAndRefresh, Fetch, Fetch),
        (3_600, Fetch, Refuse, Serve, Fetch, Fetch),
        (86_399, Fetch, Refuse, Serve, Fetch, Fetch),
        (86_400, Fetch, Refuse, Fetch, Fetch, Fetch),
    ] {
        let of = |asked| verdict(secs(age), &limits, asked);
        assert_eq!(of(&plain), to_plain, "at {age}s");
        assert_eq!(of(&only), to_only, "only-if-cached at {age}s");
        assert_eq!(of(&any_age), to_any_age, "max-stale at {age}s");
        assert_eq!(of(&young), to_young, "max-age=30 at {age}s");
        assert_eq!(of(&lasting), to_lasting, "min-fresh=31 at {age}s");
    }
}
