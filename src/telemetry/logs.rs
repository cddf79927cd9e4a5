//! Hides how events become lines: which are written, and how they look.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber, callsite};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use super::{Level, LogFormat, Settings};

/// The log, for those who change it while the program runs. Clones are the same.
#[derive(Clone, Debug)]
pub struct Logs {
    threshold: Threshold,
}

impl Logs {
    /// The least level that is logged from now on.
    pub fn set_level(&self, level: Level) {
        self.threshold.least.store(level as u8, Relaxed);
        // What each place in the code that logs has found out about whether anybody listens.
        callsite::rebuild_interest_cache();
    }
}

/// What writes events to standard error, and what changes how it does.
pub(super) fn layer<S>(settings: &Settings) -> (impl Layer<S> + use<S>, Logs)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let text = match settings.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
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
    let threshold = Threshold {
        least: Arc::new(AtomicU8::new(settings.log as u8)),
    };
    let logs = Logs {
        threshold: threshold.clone(),
    };
    (lines.with_filter(threshold), logs)
}

/// Which events and spans are of interest. It is asked anew only when the level changes, so it costs a hit nothing.
///
/// Only the program's own events follow the level. Its libraries are heard from `warn` on and never below, because what
/// they tell of the bytes that pass through them can hold tokens and contacts.
#[derive(Clone, Debug)]
struct Threshold {
    least: Arc<AtomicU8>,
}

impl Threshold {
    fn level(&self) -> LevelFilter {
        match self.least.load(Relaxed) {
            0 => LevelFilter::ERROR,
            1 => LevelFilter::WARN,
            2 => LevelFilter::INFO,
            3 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }

    fn lets(&self, meta: &Metadata<'_>) -> bool {
        let ours = match meta.target().strip_prefix(env!("CARGO_CRATE_NAME")) {
            Some(rest) => rest.is_empty() || rest.starts_with("::"),
            None => false,
        };
        let most = if ours {
            self.level()
        } else {
            self.level().min(LevelFilter::WARN)
        };
        *meta.level() <= most
    }
}

impl<S> Filter<S> for Threshold {
    fn enabled(&self, meta: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.lets(meta)
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        if self.lets(meta) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }
}

#[cfg(test)]
mod tests {
    use tracing::enabled;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_level_changes_while_it_runs_and_libraries_stay_quiet() {
        let settings = Settings {
            log: Level::Info,
            log_format: LogFormat::Json,
        };
        let (lines, logs) = layer(&settings);
        let ours = || {
            [
                enabled!(tracing::Level::WARN),
                enabled!(tracing::Level::INFO),
                enabled!(tracing::Level::DEBUG),
                enabled!(tracing::Level::TRACE),
            ]
        };
        let theirs = || {
            [
                enabled!(target: "hyper", tracing::Level::ERROR),
                enabled!(target: "hyper", tracing::Level::WARN),
                enabled!(target: "contacts_gateway_of_others", tracing::Level::INFO),
            ]
        };
        with_default(tracing_subscriber::registry().with(lines), || {
            for (level, own, others) in [
                (Level::Info, [true, true, false, false], [true, true, false]),
                (Level::Trace, [true, true, true, true], [true, true, false]),
                (Level::Error, [false; 4], [true, false, false]),
                (Level::Debug, [true, true, true, false], [true, true, false]),
            ] {
                logs.set_level(level);
                assert_eq!((ours(), theirs()), (own, others), "{level:?}");
            }
        });
    }
}
