//! What the store tells Prometheus.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// The families of the store.
#[derive(Clone, Debug)]
pub struct Metrics {
    keys: IntGauge,
    expired_keys: IntCounter,
    call_errors: IntCounter,
    background_turn: Histogram,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A family of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let keys = IntGauge::new("weir_store_keys", "Keys in the keyspace, expired ones included")?;
        let expired_keys =
            IntCounter::new("weir_store_expired_keys_total", "Expired keys removed by the sweep")?;
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
        registry.register(Box::new(keys.clone()))?;
        registry.register(Box::new(expired_keys.clone()))?;
        registry.register(Box::new(call_errors.clone()))?;
        registry.register(Box::new(background_turn.clone()))?;
        Ok(Metrics { keys, expired_keys, call_errors, background_turn })
    }

    /// The keyspace holds `count` keys.
    pub fn set_keys(&self, count: usize) {
        self.keys.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The sweep removed `count` keys.
    pub fn swept(&self, count: usize) {
        self.expired_keys.inc_by(count as u64);
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
