//! The only integration-test binary: linking is the slow part.

#![expect(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod coalescing;
mod support;
