//! What the limiter tells Prometheus: a field per family, a method per event.
//!
//! Labels come from the policy file and from types, never from a request. The
//! counters of a policy are looked up when it is loaded, so that the request
//! path only increments.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::policy::{Mode, Policy, Role};

/// The families of the limiter.
#[derive(Clone, Debug)]
pub struct Metrics {
    decisions: IntCounterVec,
    candidates: IntCounterVec,
    overflows: IntCounterVec,
    decision_duration: Histogram,
    store_errors: IntCounter,
    generation: IntGauge,
    reloads: IntCounterVec,
    last_reload_success: IntGauge,
    grants: IntGaugeVec,
    waiting: IntGaugeVec,
    waits: IntCounterVec,
    wait_duration: HistogramVec,
}

/// What became of a request that waited for its turn, or wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It was admitted, after so long.
    Admitted(Duration),
    /// Its turn did not come in time, or another policy refused it.
    Refused,
    /// There was no place in the line.
    Full,
    /// It went away.
    Gone,
}

/// The counters and gauges of a policy that has requests wait.
#[derive(Clone, Debug)]
struct WaitMetrics {
    waiting: IntGauge,
    duration: Histogram,
    /// Admitted, refused, full, gone.
    outcomes: [IntCounter; 4],
}

/// The counters of one policy.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    admitted: IntCounter,
    denied: IntCounter,
    /// By what the live limits said, then the candidates: admit, deny.
    compared: Option<[[IntCounter; 2]; 2]>,
    overflows: IntCounter,
    waits: Option<WaitMetrics>,
}

impl Metrics {
    /// Registers the families.
    ///
    /// # Errors
    /// A family of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Metrics, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let reloads = counters(
            "weir_limiter_policy_reloads_total",
            "Policy files read, by what came of it",
            &["outcome"],
        )?;
        let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help)?);
        let last_reload_success = gauge(
            "weir_limiter_policy_last_reload_success",
            "1 while the policy file as it stands is in force, 0 after a refused one",
        )?;
        let gauges = |name: &str, help: &str, label: &str| {
            registered(registry, IntGaugeVec::new(Opts::new(name, help), &[label])?)
        };
        let grants = gauges(
            "weir_limiter_overrides",
            "Overrides that were set at run time: in force, or orphaned by a reload",
            "outcome",
        )?;
        ["in_force", "orphaned"].iter().for_each(|it| drop(grants.with_label_values(&[it])));
        ["swapped", "refused"].iter().for_each(|it| drop(reloads.with_label_values(&[it])));
        last_reload_success.set(1);
        Ok(Metrics {
            decisions: counters(
                "weir_limiter_decisions_total",
                "Requests that a policy admitted or would have refused by itself",
                &["policy", "mode", "verdict"],
            )?,
            candidates: counters(
                "weir_limiter_candidate_decisions_total",
                "Requests by what a policy says, and what it would with its candidates",
                &["policy", "live", "candidate"],
            )?,
            overflows: counters(
                "weir_limiter_key_overflows_total",
                "Requests of new keys that found the key budget of their policy spent",
                &["policy"],
            )?,
            decision_duration: registered(registry, decision_duration()?)?,
            store_errors: registered(
                registry,
                IntCounter::new(
                    "weir_limiter_store_errors_total",
                    "Decisions left to the failure mode because the store did not answer",
                )?,
            )?,
            generation: gauge(
                "weir_limiter_policy_generation",
                "Number of the live policy set; it rises with each successful reload",
            )?,
            reloads,
            last_reload_success,
            grants,
            waiting: gauges(
                "weir_limiter_waiting_requests",
                "Requests that wait for quota",
                "policy",
            )?,
            waits: counters(
                "weir_limiter_waits_total",
                "Requests that waited for quota or found no place to, by what became of them",
                &["policy", "outcome"],
            )?,
            wait_duration: registered(registry, wait_duration()?)?,
        })
    }

    /// Resolves the labels of one policy.
    pub fn for_policy(&self, policy: &Policy) -> PolicyMetrics {
        let name = policy.name();
        let mode = match policy.mode() {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        };
        let counter = |verdict| self.decisions.with_label_values(&[name, mode, verdict]);
        let compared =
            |live, candidate| self.candidates.with_label_values(&[name, live, candidate]);
        let of_live = |live| ["admit", "deny"].map(|candidate| compared(live, candidate));
        let has_candidates = policy.limits().iter().any(|it| it.role() == Role::Candidate);
        PolicyMetrics {
            admitted: counter("admit"),
            denied: counter("deny"),
            overflows: self.overflows.with_label_values(&[name]),
            waits: policy.on_deny().delay.as_ref().map(|_| WaitMetrics {
                waiting: self.waiting.with_label_values(&[name]),
                duration: self.wait_duration.with_label_values(&[name]),
                outcomes: ["admitted", "refused", "full", "gone"]
                    .map(|outcome| self.waits.with_label_values(&[name, outcome])),
            }),
            compared: has_candidates.then(|| ["admit", "deny"].map(of_live)),
        }
    }

    /// How many decisions a policy has had.
    #[cfg(test)]
    pub fn decisions_of(&self, policy: &str, mode: &str, verdict: &str) -> u64 {
        self.decisions.with_label_values(&[policy, mode, verdict]).get()
    }

    /// How often a policy and its candidates said this and that.
    #[cfg(test)]
    pub fn compared_of(&self, policy: &str, live: &str, candidate: &str) -> u64 {
        self.candidates.with_label_values(&[policy, live, candidate]).get()
    }

    /// A request under at least one limit was decided.
    pub fn decided(&self, elapsed: Duration) {
        self.decision_duration.observe(elapsed.as_secs_f64());
    }

    /// The store did not answer.
    pub fn store_failed(&self) {
        self.store_errors.inc();
    }

    /// A policy set went live.
    pub fn swapped(&self, generation: u64) {
        self.reloads.with_label_values(&["swapped"]).inc();
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.last_reload_success.set(1);
    }

    /// So many overrides of run time are in force, of so many.
    pub fn granted(&self, in_force: usize, all: usize) {
        let set = |outcome, count: usize| {
            self.grants.with_label_values(&[outcome]).set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set("in_force", in_force);
        set("orphaned", all - in_force);
    }

    /// A policy file was refused; the live set stays.
    pub fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.last_reload_success.set(0);
    }
}

/// Registers a family, and hands it on.
fn registered<F: Collector + Clone + 'static>(
    registry: &Registry,
    family: F,
) -> Result<F, prometheus::Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

fn wait_duration() -> Result<HistogramVec, prometheus::Error> {
    let buckets = vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let options = HistogramOpts::new(
        "weir_limiter_wait_duration_seconds",
        "How long requests waited for quota that were admitted then",
    );
    HistogramVec::new(options.buckets(buckets), &["policy"])
}

fn decision_duration() -> Result<Histogram, prometheus::Error> {
    // 1 us to 100 ms: a decision in this process takes about 2 us, one that
    // waits for a disk under `always` some hundreds.
    let buckets =
        vec![1e-6, 2e-6, 3e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 2.5e-2, 0.1];
    let options = HistogramOpts::new(
        "weir_limiter_decision_duration_seconds",
        "Time from planned limits to decision",
    );
    Histogram::with_opts(options.buckets(buckets))
}

impl PolicyMetrics {
    /// The policy let a request pass.
    pub fn admitted(&self) {
        self.admitted.inc();
    }

    /// What the live limits said, and what they would with the candidates.
    pub fn compared(&self, live_refused: bool, candidate_refused: bool) {
        if let Some(compared) = &self.compared {
            compared[usize::from(live_refused)][usize::from(candidate_refused)].inc();
        }
    }

    /// A new key found the budget of keys spent.
    pub fn overflowed(&self) {
        self.overflows.inc();
    }

    /// A request has begun to wait.
    pub fn begins_to_wait(&self) {
        self.waits.iter().for_each(|it| it.waiting.inc());
    }

    /// A request has ended to wait.
    pub fn ends_to_wait(&self) {
        self.waits.iter().for_each(|it| it.waiting.dec());
    }

    /// What became of a request that waited, or wanted to.
    pub fn waited(&self, ended: Waited) {
        let Some(waits) = &self.waits else { return };
        let place = match ended {
            Waited::Admitted(after) => {
                waits.duration.observe(after.as_secs_f64());
                0
            }
            Waited::Refused => 1,
            Waited::Full => 2,
            Waited::Gone => 3,
        };
        waits.outcomes[place].inc();
    }

    /// A limit of the policy had no room.
    pub fn denied(&self) {
        self.denied.inc();
    }
}
