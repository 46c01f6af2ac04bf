//! What the log tells Prometheus: a field per family, a method per event.
//!
//! Gauges are not kept up to date by anyone: a scrape asks the log.

use std::sync::Weak;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use super::writer::Shared;

/// How a rewrite or a save ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new file is in force.
    Committed,
    /// Given up. A save that fell too far behind the keyspace has failed.
    Abandoned,
    /// The disk refused.
    Failed,
}

/// The families that events move.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Bytes of records handed to the log.
    pub appended_bytes: IntCounter,
    /// Bytes of records that a poisoned log did not take.
    pub discarded_bytes: IntCounter,
    /// Time that each sync took.
    pub sync_duration: Histogram,
    /// Syncs and writes that failed.
    pub failures: IntCounter,
    /// Syncs that were still running when the next one was due.
    pub delayed_syncs: IntCounter,
    rewrites: IntCounterVec,
    rewrite_duration: Histogram,
    saves: IntCounterVec,
    save_duration: Histogram,
}

impl Metrics {
    /// Families at zero.
    ///
    /// # Errors
    /// A name or a bucket is not one that Prometheus accepts; a test holds that
    /// this does not happen.
    pub fn new() -> prometheus::Result<Metrics> {
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        // 50 us is a fast disk's cache, 5 s a disk that an operator must know of.
        let sync_buckets =
            vec![0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0];
        let sync_duration = HistogramOpts::new(
            "weir_persist_sync_duration_seconds",
            "Time from asking the disk to sync an incr file until it said yes",
        );
        let rewrite_duration = HistogramOpts::new(
            "weir_persist_rewrite_duration_seconds",
            "Time from the cut to the manifest that names the new base file",
        );
        let save_duration = HistogramOpts::new(
            "weir_persist_save_duration_seconds",
            "Time from the cut to the file that has its name",
        );
        let snapshot_buckets = vec![0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
        let by_outcome = |name: &str, help: &str, outcomes: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
            for outcome in outcomes {
                counters.with_label_values(&[outcome]);
            }
            Ok::<_, prometheus::Error>(counters)
        };
        Ok(Metrics {
            appended_bytes: counter(
                "weir_persist_appended_bytes_total",
                "Bytes of records appended to the log",
            )?,
            discarded_bytes: counter(
                "weir_persist_discarded_bytes_total",
                "Bytes of records that were not logged, because the log is poisoned",
            )?,
            sync_duration: Histogram::with_opts(sync_duration.buckets(sync_buckets))?,
            failures: counter(
                "weir_persist_failures_total",
                "Writes and syncs of the log that failed",
            )?,
            delayed_syncs: counter(
                "weir_persist_delayed_syncs_total",
                "Syncs that were still running when the next one was due",
            )?,
            rewrites: by_outcome(
                "weir_persist_rewrites_total",
                "Rewrites of the log, by how they ended",
                &["committed", "abandoned", "failed"],
            )?,
            rewrite_duration: Histogram::with_opts(
                rewrite_duration.buckets(snapshot_buckets.clone()),
            )?,
            saves: by_outcome(
                "weir_persist_saves_total",
                "Snapshots in dump.rdb, by how they ended",
                &["saved", "abandoned", "failed"],
            )?,
            save_duration: Histogram::with_opts(save_duration.buckets(snapshot_buckets))?,
        })
    }

    /// A rewrite ended.
    pub fn rewrote(&self, outcome: Outcome, elapsed: Duration) {
        let label = match outcome {
            Outcome::Committed => "committed",
            Outcome::Abandoned => "abandoned",
            Outcome::Failed => "failed",
        };
        self.rewrites.with_label_values(&[label]).inc();
        if outcome == Outcome::Committed {
            self.rewrite_duration.observe(elapsed.as_secs_f64());
        }
    }

    /// A save ended.
    pub fn saved(&self, outcome: Outcome, elapsed: Duration) {
        let label = match outcome {
            Outcome::Committed => "saved",
            Outcome::Abandoned => "abandoned",
            Outcome::Failed => "failed",
        };
        self.saves.with_label_values(&[label]).inc();
        if outcome == Outcome::Committed {
            self.save_duration.observe(elapsed.as_secs_f64());
        }
    }

    /// What a registry needs to know: the events, and gauges read from `log`.
    pub fn collector(&self, log: Weak<Shared>) -> prometheus::Result<impl Collector + use<>> {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        Ok(LogCollector {
            metrics: self.clone(),
            log,
            unwritten: gauge(
                "weir_persist_unwritten_bytes",
                "Bytes appended and not yet handed to the operating system",
            )?,
            unsynced: gauge(
                "weir_persist_unsynced_bytes",
                "Bytes appended and not yet known to be on disk",
            )?,
            log_size: gauge(
                "weir_persist_log_size_bytes",
                "Size of the log: the base file and every incr file",
            )?,
            base_size: gauge("weir_persist_base_size_bytes", "Size of the base file")?,
            poisoned: gauge(
                "weir_persist_poisoned",
                "1 while the log takes no records, because a write or a sync failed",
            )?,
            rewriting: gauge("weir_persist_rewrite_running", "1 while a rewrite runs")?,
            saving: gauge("weir_persist_save_running", "1 while dump.rdb is being written")?,
        })
    }
}

/// Everything at once, gauges read when asked.
struct LogCollector {
    metrics: Metrics,
    log: Weak<Shared>,
    unwritten: IntGauge,
    unsynced: IntGauge,
    log_size: IntGauge,
    base_size: IntGauge,
    poisoned: IntGauge,
    rewriting: IntGauge,
    saving: IntGauge,
}

impl LogCollector {
    fn families(&self) -> [&dyn Collector; 16] {
        [
            &self.metrics.appended_bytes,
            &self.metrics.discarded_bytes,
            &self.metrics.sync_duration,
            &self.metrics.failures,
            &self.metrics.delayed_syncs,
            &self.metrics.rewrites,
            &self.metrics.rewrite_duration,
            &self.metrics.saves,
            &self.metrics.save_duration,
            &self.unwritten,
            &self.unsynced,
            &self.log_size,
            &self.base_size,
            &self.poisoned,
            &self.rewriting,
            &self.saving,
        ]
    }
}

impl Collector for LogCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.families().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(log) = self.log.upgrade() {
            let status = log.status();
            let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            self.unwritten.set(signed(status.unwritten_bytes));
            self.unsynced.set(signed(status.unsynced_bytes));
            self.log_size.set(signed(status.log_size));
            self.base_size.set(signed(status.base_size));
            self.poisoned.set(i64::from(status.failed.is_some()));
            self.rewriting.set(i64::from(status.rewrite_running));
            self.saving.set(i64::from(status.save_running));
        }
        self.families().into_iter().flat_map(Collector::collect).collect()
    }
}
