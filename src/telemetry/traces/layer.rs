//! Hides how spans of `tracing`'s become OpenTelemetry's: a subscriber for them alone, and times by our clock.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanBuilder, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::layer::SubscriberExt;

use super::super::Now;
use super::export::Outlet;

/// What makes spans of all that it is asked for, and puts them into the outlet when they end.
pub(super) fn dispatch(outlet: Outlet, now: Now) -> Dispatch {
    let ends = Timed(outlet, now.clone());
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_span_processor(ends)
        .build();
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    let begins = Timed(provider.tracer_with_scope(scope), now);
    let spans = OpenTelemetryLayer::new(begins)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    // Without a limit, `tracing` would take all of the libraries' debugging events for wanted, and have the log asked.
    let spans = tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(spans);
    Dispatch::new(spans)
}

thread_local! {
    /// When what is made now began, where that was not now.
    static BEGAN: Cell<Option<SystemTime>> = const { Cell::new(None) };
}

/// What is made here began then.
pub(super) fn at<T>(began: SystemTime, make: impl FnOnce() -> T) -> T {
    BEGAN.set(Some(began));
    let made = make();
    BEGAN.set(None);
    made
}

/// What spans begin or end by. OpenTelemetry's own clock is the machine's, which nobody else here reads.
struct Timed<T>(T, Now);

impl Tracer for Timed<SdkTracer> {
    type Span = Span;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Span {
        let Self(tracer, now) = self;
        let date = BEGAN.get().unwrap_or_else(|| now().1);
        tracer.build_with_context(builder.with_start_time(date), parent)
    }
}

impl SpanProcessor for Timed<Outlet> {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        let Self(outlet, now) = self;
        if Context::is_current_telemetry_suppressed() {
            return;
        }
        let (_, date) = now();
        // A machine's date can be set back.
        span.end_time = date.max(span.start_time);
        outlet.take(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// The outlet is closed by those who have the time for it. This is called when the last of all spans is dropped, which
    /// can be anywhere.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl<T> fmt::Debug for Timed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timed")
    }
}
