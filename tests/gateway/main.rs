//! The only integration-test binary: linking is the slow part.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy takes functions beside #[test] for something else than tests"
)]

mod admin;
mod alerts;
mod allowance;
mod answers;
mod caching;
mod callers;
mod chart;
mod cli;
mod coalescing;
mod comparison;
mod conditions;
mod corpus;
mod dashboard;
mod failures;
mod fleet;
mod forgetting;
mod forwarding;
mod layering;
mod lifecycle;
mod logs;
mod metrics;
mod problems;
mod prometheus;
mod protocol;
mod quotas;
mod readme;
mod reload;
mod resting;
mod rules;
mod secrecy;
mod support;
mod tls;
mod token;
mod traces;
mod upgrade;
mod vendor_side;
