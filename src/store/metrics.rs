//! What the store tells Prometheus.

use std::time::Duration;

use crate::function;
use crate::keyspace::KeyspaceStats;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// The families of the store.
#[derive(Clone, Debug)]
pub struct Metrics {
    keys: IntGauge,
    expiring_keys: IntGauge,
    used_bytes: IntGauge,
    expired_keys: IntCounter,
    evicted_keys: IntCounter,
    call_errors: IntCounter,
    calls_refused: IntCounter,
    background_turn: Histogram,
    functions: function::Metrics,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A family of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let keys = IntGauge::new("weir_store_keys", "Keys in the keyspace, expired ones included")?;
        let expired_keys =
            IntCounter::new("weir_store_expired_keys_total", "Keys that expired and were removed")?;
        let expiring_keys = IntGauge::new("weir_store_expiring_keys", "Keys with a deadline")?;
        let used_bytes = IntGauge::new(
            "weir_store_used_bytes",
            "Bytes of all keys and values, by what their allocations take",
        )?;
        let evicted_keys =
            IntCounter::new("weir_store_evicted_keys_total", "Keys evicted to make room")?;
        let calls_refused = IntCounter::new(
            "weir_store_calls_refused_total",
            "Function calls refused because memory was short and no key could be evicted",
        )?;
        let call_errors = IntCounter::new(
            "weir_store_call_errors_total",
            "Function calls that failed; nothing they wrote remains",
        )?;
        let background_turn = Histogram::with_opts(
            HistogramOpts::new(
                "weir_store_background_turn_duration_seconds",
                "How long one turn of a sweep or a rewrite held the keyspace",
            )
            .buckets(vec![5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2.5e-2]),
        )?;
        for gauge in [&keys, &expiring_keys, &used_bytes] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [&expired_keys, &evicted_keys, &call_errors, &calls_refused] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(background_turn.clone()))?;
        Ok(Metrics {
            keys,
            expiring_keys,
            used_bytes,
            expired_keys,
            evicted_keys,
            call_errors,
            calls_refused,
            background_turn,
            functions: function::Metrics::register(registry)?,
        })
    }

    /// This is how the keyspace stands now.
    pub fn show(&self, stats: &KeyspaceStats) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.keys.set(gauge(stats.keys));
        self.expiring_keys.set(gauge(stats.expiring));
        self.used_bytes.set(gauge(stats.used_bytes));
        let catch_up = |counter: &IntCounter, total: u64| {
            counter.inc_by(total.saturating_sub(counter.get()));
        };
        catch_up(&self.expired_keys, stats.expired_count);
        catch_up(&self.evicted_keys, stats.evicted_count);
    }

    /// The families of Functions.
    pub fn functions(&self) -> &function::Metrics {
        &self.functions
    }

    /// A Function call was refused for want of memory.
    pub fn call_refused(&self) {
        self.calls_refused.inc();
    }

    /// A Function call failed.
    pub fn call_failed(&self) {
        self.call_errors.inc();
    }

    /// Background work held the keyspace for `turn`.
    pub fn held(&self, turn: Duration) {
        self.background_turn.observe(turn.as_secs_f64());
    }
}
