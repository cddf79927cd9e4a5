//! What operators see: logs, metrics and traces.

use std::io;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use schemars::JsonSchema;
use serde::Deserialize;
use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub mod logs;
pub mod metrics;
pub mod traces;

pub use logs::Logs;

/// `[telemetry]`: logs and traces.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The least level that is logged: "error", "warn", "info", "debug" or "trace".
    pub log: Level,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The collector that traces go to by OTLP/HTTP, for example `http://127.0.0.1:4318`: `/v1/traces` is added. Empty: what
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` says, else none.
    pub otlp_endpoint: traces::Endpoint,
    /// The part of the requests that is traced, 0 to 1. Where a caller's `traceparent` has decided, that decision holds.
    pub trace_ratio: traces::Ratio,
    /// OpenTelemetry's own variables, which count where the settings say nothing.
    #[serde(skip)]
    #[schemars(skip)]
    pub open_telemetry: traces::OpenTelemetry,
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

/// Tells the time: the moment and the date.
pub type Now = Arc<dyn Fn() -> (Instant, SystemTime) + Send + Sync>;

/// Starts logging to standard error, which leaves standard output to what a subcommand prints. From here on a panic is
/// an event too. What logs waits for nobody, so the program has to call [`Logs::close`] before it ends.
///
/// # Errors
/// Logging was started before, or there can be no further thread.
pub fn start(settings: &Settings, now: Now) -> Result<Logs, StartError> {
    let (lines, logs) = logs::layer(settings, now)?;
    tracing_subscriber::registry().with(lines).try_init()?;
    std::panic::set_hook(Box::new(tell_of_panic));
    Ok(logs)
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was started before.
    #[error("logs: {0}")]
    Started(#[from] TryInitError),
    /// There can be no further thread.
    #[error("logs: {0}")]
    Thread(#[from] io::Error),
}

/// Where it happened, and what the program itself says of it. A text that was put together then can hold what was being
/// worked on.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload().downcast_ref::<&'static str>();
    error!(
        panic.at = panic.location().map(tracing::field::display),
        panic.text = text,
        "ran into a defect"
    );
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::{Mutex, PoisonError};

    use tracing::field::{Field, Visit};
    use tracing::subscriber::with_default;
    use tracing::{Event, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::Context;

    use super::*;

    /// Keeps the fields of events.
    #[derive(Clone, Default)]
    struct Keep(Arc<Mutex<Vec<(&'static str, String)>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    impl Visit for Keep {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push((field.name(), format!("{value:?}")));
        }
    }

    #[test]
    fn a_panic_is_an_event_with_its_place_and_no_text_but_the_codes_own() {
        let seen = Keep::default();
        with_default(tracing_subscriber::registry().with(seen.clone()), || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(tell_of_panic));
            let worked_on = "9990000000001".parse::<u64>().unwrap();
            let ran = std::panic::catch_unwind(|| panic!("of {worked_on}"));
            assert!(ran.is_err());
            let ran = std::panic::catch_unwind(|| panic!("this cannot be"));
            assert!(ran.is_err());
            std::panic::set_hook(before);
        });
        let seen = seen.0.lock().unwrap();
        let texts: Vec<_> = seen
            .iter()
            .filter(|(name, _)| *name == "panic.text")
            .collect();
        assert_eq!(texts, [&("panic.text", "\"this cannot be\"".to_owned())]);
        let places = seen
            .iter()
            .filter(|(name, at)| *name == "panic.at" && at.contains("telemetry.rs:"));
        assert_eq!(places.count(), 2);
        assert!(!format!("{seen:?}").contains("999000"), "{seen:?}");
    }
}
