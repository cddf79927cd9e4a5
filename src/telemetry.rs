//! What operators see: logs and metrics.

use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub mod logs;
pub mod metrics;

pub use logs::Logs;

/// `[telemetry]`: logs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The least level that is logged: "error", "warn", "info", "debug" or "trace".
    pub log: Level,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// The least level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the levels are tracing's own")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging to standard error, which leaves standard output to what a subcommand prints.
///
/// # Errors
/// Logging was started before.
pub fn start(settings: &Settings) -> Result<Logs, TryInitError> {
    let (lines, logs) = logs::layer(settings);
    tracing_subscriber::registry().with(lines).try_init()?;
    Ok(logs)
}
