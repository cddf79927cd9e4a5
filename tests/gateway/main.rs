//! The only integration-test binary: linking is the slow part.

mod coalescing;
mod support;
