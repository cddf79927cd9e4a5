//! Hides what others keep count of, and is looked at only when Prometheus asks.

use std::sync::PoisonError;

use prometheus::{Encoder, TextEncoder};
use tokio::runtime::RuntimeMetrics;

use super::Metrics;

/// What others count.
#[derive(Debug)]
pub struct Scraped {
    /// Entries in memory.
    pub entries: u64,
    /// What they weigh.
    pub bytes: u64,
    /// How the accounts stand, each by the name that it is shown under.
    pub accounts: Vec<(String, Allowance)>,
    /// What the requests run on.
    pub runtime: RuntimeMetrics,
}

/// What is shown of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Calls it may still make.
    pub remaining: usize,
    /// Calls it may make in a window.
    pub limit: usize,
    /// Whether it makes none at present.
    pub paused: bool,
    /// Callers who wait for a call.
    pub waiting: usize,
    /// Pages that wait for a refresh.
    pub wanted: usize,
}

/// What the settings allow, for those who compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `listen.max_connections`.
    pub connections: usize,
    /// `listen.max_in_flight`.
    pub in_flight: usize,
    /// `cache.max_bytes`.
    pub cache_bytes: u64,
}

impl Metrics {
    /// The settings that are in effect say so.
    pub fn limits(&self, limits: &Limits) {
        self.all.max_connections.set(whole(limits.connections));
        self.all.max_in_flight.set(whole(limits.in_flight));
        let bytes = i64::try_from(limits.cache_bytes).unwrap_or(i64::MAX);
        self.all.cache_max_bytes.set(bytes);
    }

    /// The text that Prometheus gets, format 0.0.4.
    pub fn scraped(&self, scraped: &Scraped) -> Vec<u8> {
        // One at a time: accounts that are gone go by being left out.
        let _turn = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.all.cache_entries.set(scraped.entries.cast_signed());
        self.all.cache_bytes.set(scraped.bytes.cast_signed());
        self.accounts(&scraped.accounts);
        self.runtime(&scraped.runtime);
        self.text()
    }

    fn accounts(&self, accounts: &[(String, Allowance)]) {
        let gauges = [
            &self.all.allowance_remaining,
            &self.all.allowance_limit,
            &self.all.allowance_paused,
            &self.all.allowance_waiting,
            &self.all.allowance_wanted,
        ];
        gauges.iter().for_each(|gauge| gauge.reset());
        for (account, allowance) in accounts {
            let values = [
                allowance.remaining,
                allowance.limit,
                usize::from(allowance.paused),
                allowance.waiting,
                allowance.wanted,
            ];
            for (gauge, value) in gauges.iter().zip(values) {
                let series = gauge.with_label_values(&[account.as_str()]);
                series.set(whole(value));
            }
        }
    }

    fn runtime(&self, runtime: &RuntimeMetrics) {
        let all = &self.all;
        all.runtime_workers.set(whole(runtime.num_workers()));
        all.runtime_tasks.set(whole(runtime.num_alive_tasks()));
        let queued = runtime.global_queue_depth();
        all.runtime_queued_tasks.set(whole(queued));
        let busy = (0..runtime.num_workers()).map(|n| runtime.worker_total_busy_duration(n));
        let busy = busy.sum::<std::time::Duration>().as_secs_f64();
        let more = busy - all.runtime_busy_seconds.get();
        all.runtime_busy_seconds.inc_by(more.max(0.0));
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.all.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written as text");
        }
        text
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
