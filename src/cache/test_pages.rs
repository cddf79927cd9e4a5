//! Pages and their keys for the tests of what keeps them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};

use super::Settings;
use super::policy::{Kind, Rules};
use crate::clock::Clock;
use crate::contacts::{Api, Forwarded, ListKey, Millis, Page, PageKey, unix_seconds};
use crate::upstream::allowance;

/// The default settings, for an upstream of any kind, which names whatever a test needs.
pub(crate) fn rules() -> Arc<Rules> {
    let settings = Settings {
        max_bytes: 1 << 20,
        fresh_for: Duration::from_secs(60),
        usable_for: Duration::from_secs(3_600),
        stale_if_error: Duration::from_secs(86_400),
        negative_for: Duration::from_secs(10),
    };
    Arc::new(Rules {
        settings,
        upstream: Kind::Any,
    })
}

/// The first page of a list.
pub(crate) fn key(list: &str) -> PageKey {
    PageKey {
        list: ListKey::new("st-1", list, "a").unwrap(),
        api: Api::V1,
        skip: 0,
        limit: None,
        extra: None,
    }
}

/// A page that came just now, told apart by its body.
pub(crate) fn page(body: &str, fields: &[(&'static str, &'static str)]) -> Page {
    let (received_at, date) = Clock::system().both();
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    Page {
        status: StatusCode::OK,
        fields: headers.into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        received_at,
        date: unix_seconds(date),
        initial_age: Millis::default(),
        tagged_here: false,
        revalidated: false,
        ahead: Box::default(),
    }
}

/// An account's calls, of which there are enough.
pub(crate) fn allowance() -> allowance::Settings {
    allowance::Settings {
        calls: NonZeroU32::new(1_000).unwrap(),
        window: Duration::from_secs(61),
        reserve: 1,
        queue_deadline: Duration::from_secs(5),
        pause: Duration::from_secs(60),
        floor: NonZeroU32::MIN,
        hourly: 0,
        fleet_size: NonZeroU32::MIN,
    }
}

/// A caller's header of one field.
pub(crate) fn sent(name: &'static str, value: &'static str) -> Forwarded {
    let value = HeaderValue::from_static(value);
    [(HeaderName::from_static(name), value)]
        .into_iter()
        .collect()
}

/// So many cases, the same ones in every run unless `PROPTEST_RNG_SEED` is set. One that failed is kept, and tried first
/// from then on.
pub(crate) fn cases(cases: u32, failures: &'static str) -> Config {
    let env = Config::default();
    Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(failures))),
        rng_seed: match env.rng_seed {
            RngSeed::Random => RngSeed::Fixed(9111),
            asked => asked,
        },
        ..env
    }
}
