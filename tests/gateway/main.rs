//! The only integration-test binary: linking is the slow part.

#![expect(
    clippy::unwrap_used,
    reason = "clippy takes functions beside #[test] for something else than tests"
)]

mod admin;
mod answers;
mod coalescing;
mod conditions;
mod forgetting;
mod forwarding;
mod problems;
mod protocol;
mod rules;
mod support;
