//! What operators see: logs and metrics.

use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

pub mod metrics;

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
/// Only the program's own events follow `log`. Its libraries are heard from `warn` on and never below, because what
/// they tell of the bytes that pass through them can hold tokens and contacts.
///
/// # Errors
/// Logging was started before.
pub fn start(settings: &Settings) -> Result<(), TryInitError> {
    let terminal = std::io::stderr().is_terminal();
    let text = match settings.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let level = tracing::Level::from(settings.log);
    let filter = Targets::new()
        .with_default(level.min(tracing::Level::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let mut lines = fmt::layer().with_writer(std::io::stderr);
    if !terminal {
        // Colours are escape codes, which belong into no file.
        lines.set_ansi(false);
    }
    let lines = if text {
        lines.boxed()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}
