//! Every metric, declared once. A metric's doc comment is its help text.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

mod labels;
mod scrape;

pub use labels::{Handshake, ReadBy, Reload};
pub use scrape::{Allowance, Limits, Scraped};

/// OpenTelemetry's buckets for the duration of HTTP requests, and finer ones below, because a hit takes microseconds.
const SERVED_SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// OpenTelemetry's own, for calls over a network.
const CALLED_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// From a page that just arrived to one that is a day old.
const AGE_SECONDS: &[f64] = &[
    0.0, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0,
];

/// What the shared store is asked to do.
const SHARED: [&str; 14] = [
    "connect",
    "subscribe",
    "unsubscribe",
    "beat",
    "get",
    "decode",
    "keep",
    "release",
    "join",
    "decide",
    "settle",
    "forget",
    "forgets",
    "drop",
];

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident($name:literal, [$($label:literal),*] $(, $buckets:expr)?);)+) => {
        /// Each metric as it is declared.
        struct Declared {
            registry: Registry,
            $($(#[doc = $help])+ $field: $kind,)+
        }

        impl Declared {
            fn new() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let help = concat!($($help),+).trim();
                    let $field = metrics!(@make $kind, $name, help, &[$($label),*] $(, $buckets)?)?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, $($field),+ })
            }
        }
    };
    (@make IntGauge, $name:literal, $help:expr, $labels:expr) => { IntGauge::new($name, $help) };
    (@make Counter, $name:literal, $help:expr, $labels:expr) => { Counter::new($name, $help) };
    (@make IntCounter, $name:literal, $help:expr, $labels:expr) => { IntCounter::new($name, $help) };
    (@make Histogram, $name:literal, $help:expr, $labels:expr, $buckets:expr) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@make HistogramVec, $name:literal, $help:expr, $labels:expr, $buckets:expr) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), $labels)
    };
    (@make $kind:ident, $name:literal, $help:expr, $labels:expr) => {
        $kind::new(Opts::new($name, $help), $labels)
    };
}

// A help text says what is shown and then, unless that is the same, what an operator learns from it.
metrics! {
    /// How long callers wait, and for what: from a request's head until its answer is ready to be sent.
    served_seconds: HistogramVec("http_server_request_duration_seconds", ["http_request_method", "http_response_status_code", "http_route"], SERVED_SECONDS);
    /// Requests of callers under way: near max_in_flight, further ones are refused.
    active_requests: IntGauge("http_server_active_requests", []);
    /// How the vendor does: the duration of calls to it, from their start to the last byte of the answer.
    called_seconds: HistogramVec("http_client_request_duration_seconds", ["http_response_status_code", "error_type"], CALLED_SECONDS);
    /// What answered reads: memory (hit, stale), a call to the vendor (miss, revalidated, bypass where a caller insisted) or somebody else's (collapsed).
    cache_requests: IntCounterVec("contacts_gateway_cache_requests_total", ["result"]);
    /// Entries in memory.
    cache_entries: IntGauge("contacts_gateway_cache_entries", []);
    /// Memory that the entries take, keys, headers, bodies and overhead: at cache_max_bytes it is full.
    cache_bytes: IntGauge("contacts_gateway_cache_bytes", []);
    /// Memory that entries may take: cache.max_bytes of the settings.
    cache_max_bytes: IntGauge("contacts_gateway_cache_max_bytes", []);
    /// Entries dropped, by cause: size (no room: cache.max_bytes is short), expired (too old to be of use), explicit (forgotten).
    cache_evictions: IntCounterVec("contacts_gateway_cache_evictions_total", ["cause"]);
    /// How old pages are when callers get them: what a short allowance costs.
    served_age: Histogram("contacts_gateway_served_age_seconds", [], AGE_SECONDS);
    /// What calls to the vendor are spent on, and how they end: credentials-refused needs an operator.
    upstream_calls: IntCounterVec("contacts_gateway_upstream_calls_total", ["reason", "outcome"]);
    /// Calls that the vendor refused for its rate limit: somebody else spends the account's calls too.
    upstream_refusals: IntCounter("contacts_gateway_upstream_refusals_total", []);
    /// Whose traffic it is: requests of known callers, whatever was answered.
    caller_requests: IntCounterVec("contacts_gateway_caller_requests_total", ["caller"]);
    /// What callers' quotas refused, requests or fetches; under dry_run, what they would have.
    quota_refusals: IntCounterVec("contacts_gateway_quota_refusals_total", ["caller", "kind"]);
    /// Calls that an account may still make in the window: at 0 the next one waits. "other": all but the busiest 100 accounts together.
    allowance_remaining: IntGaugeVec("contacts_gateway_allowance_remaining", ["account"]);
    /// Calls that an account may make in a window, as learnt from refusals.
    allowance_limit: IntGaugeVec("contacts_gateway_allowance_limit", ["account"]);
    /// Whether an account makes no calls for a while, after a refusal or failures: 0 or 1.
    allowance_paused: IntGaugeVec("contacts_gateway_allowance_paused", ["account"]);
    /// Callers who wait for an account's next call, because what they ask for is not in memory.
    allowance_waiting: IntGaugeVec("contacts_gateway_allowance_waiting", ["account"]);
    /// Pages that wait for a refresh: rising, the account has fewer calls than its pages need, and they grow older.
    allowance_wanted: IntGaugeVec("contacts_gateway_allowance_wanted", ["account"]);
    /// Tokens minted for calls to the vendor.
    tokens_minted: IntCounterVec("contacts_gateway_tokens_minted_total", ["algorithm"]);
    /// Why requests fail: those answered with a problem, by its name.
    problems: IntCounterVec("contacts_gateway_problems_total", ["type"]);
    /// Whether the shared store can be asked: 0 or 1.
    shared_up: IntGauge("contacts_gateway_shared_up", []);
    /// What the shared store did not do, or not in time, by what it was asked to do.
    shared_errors: IntCounterVec("contacts_gateway_shared_errors_total", ["operation"]);
    /// Why traces lack spans: what became of them, exported, failed (the collector did not take them) or dropped (the queue was full).
    spans: IntCounterVec("contacts_gateway_spans_total", ["outcome"]);
    /// Open connections of callers: at max_connections, further ones wait.
    connections: IntGauge("contacts_gateway_connections", []);
    /// Whether callers are turned away before they can ask: their TLS handshakes by outcome, client_certificate (theirs was missing, or not taken), server_certificate (they did not take ours), failed otherwise.
    handshakes: IntCounterVec("contacts_gateway_handshakes_total", ["outcome"]);
    /// Connections that callers may have open: listen.max_connections of the settings.
    max_connections: IntGauge("contacts_gateway_max_connections", []);
    /// Requests that may be under way: listen.max_in_flight of the settings.
    max_in_flight: IntGauge("contacts_gateway_max_in_flight", []);
    /// Settings and secrets read again while running, by outcome: ok, or failed for a mistake in them.
    config_reloads: IntCounterVec("contacts_gateway_config_reloads_total", ["outcome"]);
    /// Whether what is written in settings and secrets is what runs: 0 once they were read again and could not be used.
    config_last_reload_successful: IntGauge("contacts_gateway_config_last_reload_successful", []);
    /// Since when the settings and secrets that run are in effect, in seconds since 1970.
    config_last_reload_success_timestamp: IntGauge("contacts_gateway_config_last_reload_success_timestamp_seconds", []);
    /// Threads that requests run on.
    runtime_workers: IntGauge("contacts_gateway_runtime_workers", []);
    /// Time that those threads were busy, in sum: a rate near their number says that there is too little CPU.
    runtime_busy_seconds: Counter("contacts_gateway_runtime_busy_seconds_total", []);
    /// Tasks that wait for a thread to be free: rising, requests wait here before they are looked at.
    runtime_queued_tasks: IntGauge("contacts_gateway_runtime_queued_tasks", []);
    /// Tasks that there are: connections, fetches and a few more. Rising for ever, some are never let go.
    runtime_tasks: IntGauge("contacts_gateway_runtime_tasks", []);
    /// What runs: always 1.
    build_info: IntGaugeVec("contacts_gateway_build_info", ["version", "revision"]);
}

/// The process's metrics. One of these exists; everything that counts has a handle on it.
pub struct Metrics {
    all: Declared,
    reads: [IntCounter; ReadBy::ALL.len()],
    /// Held by whoever scrapes. Nothing else ever waits for it.
    scrape: Mutex<()>,
}

impl Metrics {
    /// All of them, at zero. Series whose labels are known beforehand are there from the start, so that a rate over
    /// them is never missing.
    ///
    /// # Errors
    /// Two metrics have the same name, which a test rules out.
    pub fn new() -> prometheus::Result<Arc<Self>> {
        let all = Declared::new()?;
        #[cfg(target_os = "linux")]
        all.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        for cause in ["size", "expired", "explicit"] {
            all.cache_evictions.with_label_values(&[cause]);
        }
        for outcome in [Reload::Ok, Reload::Failed] {
            all.config_reloads.with_label_values(&[outcome.name()]);
        }
        for outcome in Handshake::ALL {
            all.handshakes.with_label_values(&[outcome.name()]);
        }
        for outcome in ["exported", "failed", "dropped"] {
            all.spans.with_label_values(&[outcome]);
        }
        for operation in SHARED {
            all.shared_errors.with_label_values(&[operation]);
        }
        let build = [
            env!("CARGO_PKG_VERSION"),
            option_env!("CONTACTS_GATEWAY_REVISION").unwrap_or("unknown"),
        ];
        all.build_info.with_label_values(&build).set(1);
        let reads = ReadBy::ALL.map(|by| all.cache_requests.with_label_values(&[by.name()]));
        Ok(Arc::new(Self {
            all,
            reads,
            scrape: Mutex::default(),
        }))
    }

    /// A request of a caller's came in. Dropping what is returned says that it is over.
    pub fn request(self: &Arc<Self>) -> Active {
        self.all.active_requests.inc();
        Active(self.clone())
    }

    /// The series that requests of callers' with these labels belong to.
    pub fn served(&self, method: &str, status: StatusCode, route: &str) -> Histogram {
        let labels = [method, status.as_str(), route];
        self.all.served_seconds.with_label_values(&labels)
    }

    /// A read was answered. A hit pays for no look-up here.
    pub fn read(&self, by: ReadBy, age: Duration) {
        self.reads[by as usize].inc();
        self.all.served_age.observe(age.as_secs_f64());
    }

    /// So many entries were dropped.
    pub fn evicted(&self, cause: &'static str, entries: u64) {
        if entries > 0 {
            let evictions = &self.all.cache_evictions;
            evictions.with_label_values(&[cause]).inc_by(entries);
        }
    }

    /// The vendor was called.
    pub fn upstream_call(
        &self,
        reason: &'static str,
        status: Option<StatusCode>,
        outcome: &'static str,
        took: Duration,
    ) {
        self.all
            .upstream_calls
            .with_label_values(&[reason, outcome])
            .inc();
        if outcome == "upstream-refused" {
            self.all.upstream_refusals.inc();
        }
        let error = if matches!(outcome, "ok" | "passed") {
            ""
        } else {
            outcome
        };
        let status = status.as_ref().map_or("", StatusCode::as_str);
        self.all
            .called_seconds
            .with_label_values(&[status, error])
            .observe(took.as_secs_f64());
    }

    /// A token was minted.
    pub fn tokens_minted(&self, algorithm: &str) {
        self.all.tokens_minted.with_label_values(&[algorithm]).inc();
    }

    /// To count a caller's requests. Callers are those of the settings, so the series are few.
    pub fn caller_requests(&self, caller: &str) -> IntCounter {
        self.all.caller_requests.with_label_values(&[caller])
    }

    /// To count what a caller's quota refuses. Callers are those of the settings, so the series are few.
    pub fn quota_refusals(&self, caller: &str, kind: &str) -> IntCounter {
        self.all.quota_refusals.with_label_values(&[caller, kind])
    }

    /// The failures that there can be, so that the first of each shows as a rise and not as a new series.
    pub fn expect_problems(&self, names: &[&'static str]) {
        for name in names {
            self.all.problems.with_label_values(&[name]);
        }
    }

    /// The same of calls to the vendor.
    pub fn expect_calls(&self, reasons: &[&'static str], outcomes: &[&'static str]) {
        for reason in reasons {
            for outcome in outcomes {
                self.all
                    .upstream_calls
                    .with_label_values(&[reason, outcome]);
            }
        }
    }

    /// A request was answered with a failure.
    pub fn problem(&self, name: &'static str) {
        self.all.problems.with_label_values(&[name]).inc();
    }

    /// Settings and secrets came into effect when the program started.
    pub fn loaded(&self, at: SystemTime) {
        self.all.config_last_reload_successful.set(1);
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.all
            .config_last_reload_success_timestamp
            .set(at.as_secs().cast_signed());
    }

    /// Settings and secrets were read again, and came into effect unless that failed.
    pub fn reloaded(&self, outcome: Reload, at: SystemTime) {
        self.all
            .config_reloads
            .with_label_values(&[outcome.name()])
            .inc();
        match outcome {
            Reload::Ok => self.loaded(at),
            Reload::Failed => self.all.config_last_reload_successful.set(0),
        }
    }

    /// Spans have left, or will not.
    pub fn spans(&self, outcome: &'static str, n: u64) {
        self.all.spans.with_label_values(&[outcome]).inc_by(n);
    }

    /// The shared store can be asked, or not.
    pub fn shared_up(&self, up: bool) {
        self.all.shared_up.set(i64::from(up));
    }

    /// The shared store did not do something, or not in time.
    pub fn shared_error(&self, operation: &'static str) {
        self.all.shared_errors.with_label_values(&[operation]).inc();
    }

    /// A caller connected. Dropping what is returned says that the connection is gone.
    pub fn connection(self: &Arc<Self>) -> Connected {
        self.all.connections.inc();
        Connected(self.clone())
    }

    /// A caller shook hands, or did not get that far.
    pub fn handshake(&self, outcome: Handshake) {
        self.all
            .handshakes
            .with_label_values(&[outcome.name()])
            .inc();
    }

    /// Connections that are open.
    pub fn open_connections(&self) -> u64 {
        self.all.connections.get().max(0).cast_unsigned()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct Active(Arc<Metrics>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.all.active_requests.dec();
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.all.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_there_before_anything_happened() {
        let text = Metrics::new().unwrap().text();
        let text = String::from_utf8(text).unwrap();
        for line in [
            "# HELP contacts_gateway_cache_entries Entries in memory.",
            "contacts_gateway_cache_requests_total{result=\"hit\"} 0",
            "contacts_gateway_upstream_refusals_total 0",
            "http_server_active_requests 0",
            "contacts_gateway_connections 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
    }

    #[test]
    fn a_failed_reload_shows_until_one_succeeds() {
        let metrics = Metrics::new().unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let shown = || {
            let gauges = [
                &metrics.all.config_last_reload_successful,
                &metrics.all.config_last_reload_success_timestamp,
            ];
            let counts = [Reload::Ok, Reload::Failed].map(|outcome| {
                let count = metrics
                    .all
                    .config_reloads
                    .with_label_values(&[outcome.name()]);
                count.get()
            });
            (gauges.map(IntGauge::get), counts)
        };
        metrics.loaded(at(100));
        assert_eq!(shown(), ([1, 100], [0, 0]));
        metrics.reloaded(Reload::Failed, at(200));
        assert_eq!(shown(), ([0, 100], [0, 1]));
        metrics.reloaded(Reload::Ok, at(300));
        assert_eq!(shown(), ([1, 300], [1, 1]));
    }
}
