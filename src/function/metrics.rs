//! What Functions tell Prometheus.
//!
//! ```text
//! weir_function_call_duration_seconds{function}        its count is the calls
//! weir_function_call_errors_total{function, reason}    raised, time, memory, killed
//! ```
//!
//! A label is the full name of a Function that is loaded, `limiter.decide`; `script`
//! for all scripts together; `other` when so many Functions are loaded that each with
//! a label would fill the memory of whoever reads them. What is no longer loaded is
//! no longer shown. Handles are made when a library is loaded; a call counts in
//! memory of the engine's own, and what it counted is handed over now and then.

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::vm::Fault;

/// Functions with a label of their own.
const LABEL_COUNT_MAX: usize = 256;

/// The label of all scripts.
const SCRIPTS: &str = "script";

/// The label of the Functions beyond [`LABEL_COUNT_MAX`].
const OTHER: &str = "other";

/// The families of Functions.
#[derive(Clone, Debug)]
pub struct Metrics {
    durations: HistogramVec,
    errors: IntCounterVec,
    labels: BTreeSet<String>,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A family of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "weir_function_call_duration_seconds",
                "How long calls of a Function took, failed ones included",
            )
            .buckets(vec![2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 5e-3, 1e-1, 5.0]),
            &["function"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "weir_function_call_errors_total",
                "Calls of a Function that failed: it raised an error, used up its time or its \
                 memory, or was killed",
            ),
            &["function", "reason"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        Ok(Metrics { durations, errors, labels: BTreeSet::new() })
    }

    /// The meter of all scripts.
    pub(super) fn scripts(&self) -> Meter {
        self.meter(SCRIPTS)
    }

    /// The meter of a Function by its full name.
    pub(super) fn function(&mut self, full_name: &str) -> Meter {
        if self.labels.len() < LABEL_COUNT_MAX && !self.labels.contains(full_name) {
            self.labels.insert(full_name.to_owned());
        }
        self.meter(if self.labels.contains(full_name) { full_name } else { OTHER })
    }

    fn meter(&self, label: &str) -> Meter {
        let errors = Fault::ALL.map(|it| self.errors.with_label_values(&[label, it.reason()]));
        Meter { durations: self.durations.with_label_values(&[label]).local(), errors }
    }

    /// Shows no more of Functions that are not among these.
    pub(super) fn forget_others(&mut self, full_names: &BTreeSet<String>) {
        for gone in self.labels.difference(full_names) {
            // One that nobody asked for in between is not there: fine.
            let _ = self.durations.remove_label_values(&[gone]);
            for fault in Fault::ALL {
                let _ = self.errors.remove_label_values(&[gone.as_str(), fault.reason()]);
            }
        }
        self.labels.retain(|it| full_names.contains(it));
    }
}

/// Counts the calls of one Function.
#[derive(Debug)]
pub(super) struct Meter {
    durations: LocalHistogram,
    /// In the order of [`Fault::ALL`].
    errors: [IntCounter; 4],
}

impl Meter {
    /// A call took so long, and ended so.
    pub(super) fn called(&self, duration: Duration, fault: Option<Fault>) {
        self.durations.observe(duration.as_secs_f64());
        if let Some(fault) = fault {
            self.errors[fault as usize].inc();
        }
    }

    /// Hands over what was counted.
    pub(super) fn show(&mut self) {
        self.durations.flush();
    }
}

impl Fault {
    const ALL: [Fault; 4] = [Fault::Raised, Fault::Killed, Fault::Time, Fault::Memory];

    fn reason(self) -> &'static str {
        match self {
            Fault::Raised => "raised",
            Fault::Killed => "killed",
            Fault::Time => "time",
            Fault::Memory => "memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(registry: &Registry) -> Vec<String> {
        let families = registry.gather();
        let durations = families.iter().find(|it| it.name().contains("duration")).unwrap();
        durations.get_metric().iter().map(|it| it.get_label()[0].value().to_owned()).collect()
    }

    #[test]
    fn a_flood_of_functions_shares_a_label_and_what_is_gone_is_not_shown() {
        let registry = Registry::new();
        let mut metrics = Metrics::register(&registry).unwrap();
        let names: Vec<String> = (0..2 * LABEL_COUNT_MAX).map(|it| format!("l.f{it}")).collect();
        for name in &names {
            metrics.function(name).called(Duration::from_micros(3), Some(Fault::Time));
        }
        assert_eq!(labels(&registry).len(), LABEL_COUNT_MAX + 1);
        assert!(labels(&registry).contains(&OTHER.to_owned()));
        let mut kept: BTreeSet<String> = ["l.f0".to_owned()].into();
        metrics.forget_others(&kept);
        assert_eq!(labels(&registry), ["l.f0", OTHER]);
        kept.insert("l.new".to_owned());
        metrics.function("l.new").called(Duration::ZERO, None);
        metrics.forget_others(&kept);
        assert_eq!(labels(&registry), ["l.f0", "l.new", OTHER]);
    }
}
