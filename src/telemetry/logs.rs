//! Hides how events become lines: which are written, how they look, who writes them, and how those are counted that are not.

use std::fmt::Debug;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level as Severity, Metadata, Subscriber, callsite};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::{Level, LogFormat, Now, Settings, traces};

mod limit;
mod line;
mod queue;

use limit::{Kinds, STRETCH};
use line::{Format, Line};
use queue::{Queue, pieces};

/// The name of events of which each is written, however many there are: those that something else keeps few. Of all
/// others the like of which was written often enough in the last second, only the number is.
pub const EACH: &str = "each";

/// For so long the thread that writes looks for more by itself.
const SOON: Duration = Duration::from_millis(2);
/// How long the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log, for those who change it while the program runs. Clones are the same.
#[derive(Clone, Debug)]
pub struct Logs {
    threshold: Threshold,
    lines: Arc<Lines>,
    writer: Thread,
}

impl Logs {
    /// The least level that is logged from now on.
    pub fn set_level(&self, level: Level) {
        self.threshold.least.store(level as u8, Relaxed);
        // What each place in the code that logs has found out about whether anybody listens.
        callsite::rebuild_interest_cache();
    }

    /// Tells how many events were not written and have not been told of, and waits until all lines are out, or for a second
    /// if nobody reads them. For the end of the program.
    pub fn close(&self) {
        self.lines.tell_of_what_is_over(STRETCH);
        self.writer.unpark();
        self.lines.queue.wait(LAST_LINES);
    }
}

/// What writes events to standard error, and what changes how it does.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    settings: &Settings,
    now: Now,
) -> io::Result<(impl Layer<S> + use<S>, Logs)> {
    let terminal = io::stderr().is_terminal();
    // Colours are escape codes, which belong into no file.
    let text = Format::Text { colours: terminal };
    let format = match settings.log_format {
        LogFormat::Auto if terminal => text,
        LogFormat::Auto | LogFormat::Json => Format::Json,
        LogFormat::Text => text,
    };
    let lines = Arc::new(Lines {
        format,
        began: now().0,
        now,
        kinds: Kinds::default(),
        owing: AtomicBool::new(false),
        queue: Queue::default(),
    });
    let writer = {
        let lines = lines.clone();
        let writer = thread::Builder::new().name("log".into());
        writer.spawn(move || lines.write_as_they_come())?
    };
    let writer = writer.thread();
    let threshold = Threshold {
        least: Arc::new(AtomicU8::new(settings.log as u8)),
    };
    let take = Taker {
        lines: lines.clone(),
        writer: writer.clone(),
    };
    let logs = Logs {
        threshold: threshold.clone(),
        lines,
        writer: writer.clone(),
    };
    Ok((take.with_filter(threshold), logs))
}

/// Has an event written or counts it.
#[derive(Debug)]
struct Taker {
    lines: Arc<Lines>,
    writer: Thread,
}

impl<S: Subscriber> Layer<S> for Taker {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.lines.take(event) {
            self.writer.unpark();
        }
    }
}

struct Lines {
    format: Format,
    now: Now,
    began: Instant,
    kinds: Kinds,
    /// Whether the thread that writes knows that some were counted.
    owing: AtomicBool,
    queue: Queue,
}

impl Lines {
    /// Has the event written or counts it. Whether the thread that does so has to be woken for it.
    fn take(&self, event: &Event<'_>) -> bool {
        let (now, date) = (self.now)();
        let meta = event.metadata();
        let suppressed = if meta.name() == EACH {
            Some(0)
        } else {
            let (problem, message) = (|| text_of("problem", event), || text_of("message", event));
            self.kinds.admit(meta, &problem(), message, self.since(now))
        };
        let Some(suppressed) = suppressed else {
            return !self.owing.swap(true, AcqRel);
        };
        let mut line = Line::new(self.format, date, *meta.level(), meta.target());
        event.record(&mut line);
        if let Some(ids) = traces::current_ids() {
            line.text("trace_id", &ids.trace_id);
            line.text("span_id", &ids.span_id);
        }
        if suppressed > 0 {
            line.plain("suppressed", suppressed);
        }
        self.queue.put(&line.end(), 1 + suppressed)
    }

    /// A line for each kind of event that has stopped coming before there could be told how many were not written.
    fn tell_of_what_is_over(&self, ahead: Duration) {
        let (now, date) = (self.now)();
        for (kind, suppressed) in self.kinds.over(self.since(now) + ahead) {
            let meta = kind.meta;
            let mut line = Line::new(self.format, date, *meta.level(), meta.target());
            line.text("message", "there were more of these, which are not written");
            line.text("of", &kind.message);
            if !kind.problem.is_empty() {
                line.text("problem", &kind.problem);
            }
            line.plain("suppressed", suppressed);
            self.queue.put(&line.end(), suppressed);
        }
    }

    fn write_as_they_come(&self) {
        let mut lines = Vec::new();
        loop {
            let owing = self.still_owing();
            if self.write(&mut lines) {
                // More may come soon, and to be woken for each would cost those who log as much as to write it.
                thread::park_timeout(SOON);
            } else if self.queue.rest() {
                match owing {
                    true => thread::park_timeout(STRETCH),
                    false => thread::park(),
                }
            }
        }
    }

    /// Writes all that waits. Whether there was anything.
    fn write(&self, lines: &mut Vec<u8>) -> bool {
        let mut wrote = false;
        while let Some(lost) = self.queue.take(lines) {
            if lost > 0 {
                lines.extend_from_slice(self.of_lost(lost).as_bytes());
            }
            pieces(lines).for_each(write);
            wrote = true;
        }
        wrote
    }

    /// Tells of what is over, and whether there is more to tell of later. If not, whoever is counted next wakes the thread.
    fn still_owing(&self) -> bool {
        // Nothing was counted since there was nothing to tell of, and it need not be looked for among all kinds.
        if !self.owing.load(Acquire) {
            return false;
        }
        self.tell_of_what_is_over(Duration::ZERO);
        // Whoever finds this set was counted before, and is seen by what comes next.
        self.owing.swap(false, AcqRel);
        let owing = self.kinds.owe();
        if owing {
            self.owing.swap(true, AcqRel);
        }
        owing
    }

    /// Where lines are missing that found no room.
    fn of_lost(&self, events: u64) -> String {
        let (_, date) = (self.now)();
        let mut line = Line::new(self.format, date, Severity::WARN, module_path!());
        line.text(
            "message",
            "the log was not read for a while, and what it would have said here is lost",
        );
        line.plain("suppressed", events);
        line.end()
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

impl Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines")
    }
}

/// Only for the thread that writes, which may wait.
fn write(mut line: &[u8]) {
    const MEANWHILE: Duration = Duration::from_millis(10);
    while !line.is_empty() {
        match io::stderr().write(line) {
            Ok(written @ 1..) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares it with us has set it so.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(MEANWHILE),
            // There is nobody left to tell of it.
            Ok(0) | Err(_) => return,
        }
    }
}

/// A field of an event's, as text; empty if it has none.
fn text_of(name: &'static str, event: &Event<'_>) -> String {
    struct Find(&'static str, String);
    impl Visit for Find {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == self.0 {
                value.clone_into(&mut self.1);
            }
        }

        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == self.0 {
                self.1 = format!("{value:?}");
            }
        }
    }
    let mut find = Find(name, String::new());
    event.record(&mut find);
    find.1
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
    use std::time::SystemTime;

    use tracing::enabled;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "this module knows no Clock")]
    fn the_level_changes_while_it_runs_and_libraries_stay_quiet() {
        let settings = Settings {
            log: Level::Info,
            log_format: LogFormat::Json,
            otlp_endpoint: Default::default(),
            trace_ratio: Default::default(),
            open_telemetry: Default::default(),
        };
        let now = Arc::new(|| (Instant::now(), SystemTime::now()));
        let (lines, logs) = layer(&settings, now).unwrap();
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
