//! What the Envoy door tells Prometheus.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

/// Bounds of the duration histogram: 50 us to 100 ms. Envoy's filter gives up
/// after 200 ms unless told otherwise.
const DURATION_BUCKETS: [f64; 8] = [0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.02, 0.05, 0.1];

/// Counters resolved at start, so that a check only increments.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) admitted: IntCounter,
    pub(super) refused: IntCounter,
    /// Refused with 400: the downstream's request has no single meaning.
    pub(super) malformed: IntCounter,
    /// Answered with a gRPC error: the check itself lacks what a check has.
    pub(super) invalid: IntCounter,
    duration: Histogram,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// They are registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let checks = IntCounterVec::new(
            Opts::new("weir_envoy_checks_total", "Checks answered for Envoy"),
            &["outcome"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "weir_envoy_check_duration_seconds",
                "Time from a check's arrival to its answer",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(checks.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Metrics {
            admitted: checks.with_label_values(&["admitted"]),
            refused: checks.with_label_values(&["refused"]),
            malformed: checks.with_label_values(&["malformed"]),
            invalid: checks.with_label_values(&["invalid"]),
            duration,
        })
    }

    /// A check was answered after `elapsed`, however it ended.
    pub(super) fn answered(&self, elapsed: Duration) {
        self.duration.observe(elapsed.as_secs_f64());
    }
}
