//! An ask in, a page out: from memory while it may, from upstream when it must.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::setting;

/// `[cache]`: how long pages are kept and served, and how much memory they may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Memory for whole entries: key, header, body and overhead. For example "64MiB".
    #[serde(with = "setting::size")]
    #[schemars(with = "setting::SizeText")]
    pub max_bytes: u64,
    /// How old a page may be and count as fresh, where the vendor names no freshness.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub fresh_for: Duration,
    /// How old a page may be and still be served at once, while a refresh goes on behind it.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub usable_for: Duration,
    /// How old a page may be and still be served where a fetch failed.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub stale_if_error: Duration,
    /// How long the vendor's 400 and 404 are remembered.
    #[serde(with = "setting::duration")]
    #[schemars(with = "setting::DurationText")]
    pub negative_for: Duration,
}
