//! Readiness: named conditions, each with one line that says how it stands.
//!
//! Whoever owns a condition sets it, or hands over a probe that is asked when
//! somebody looks. The process is ready when no condition is unmet. A degraded
//! condition is shown and changes nothing: a policy file that does not compile
//! leaves the live set in force, and taking the process out of service for it
//! would turn a typing error into an outage.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How one condition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Not as it should be, but traffic is served as promised; says why.
    Degraded(String),
    /// Traffic must not come yet, or any more; says why.
    Unmet(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Ok => f.write_str("ok"),
            State::Degraded(why) | State::Unmet(why) => f.write_str(why),
        }
    }
}

/// The conditions of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<Named>>>,
}

#[derive(Debug)]
struct Named {
    name: &'static str,
    source: Source,
}

/// Where the state of a condition comes from.
enum Source {
    Set(Arc<Mutex<State>>),
    Asked(Box<dyn Fn() -> State + Send>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Set(state) => write!(f, "Set({state:?})"),
            Source::Asked(_) => f.write_str("Asked(…)"),
        }
    }
}

/// The handle with which the owner of a condition sets it. Clones set the same
/// condition.
#[derive(Clone, Debug)]
pub struct Condition {
    state: Arc<Mutex<State>>,
}

impl Condition {
    /// From now on the condition stands like this.
    pub fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// What `/readyz` says: the verdict, and every condition in the order added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    conditions: Vec<(&'static str, State)>,
}

impl Report {
    /// No condition is unmet.
    pub fn is_ready(&self) -> bool {
        !self.conditions.iter().any(|(_, state)| matches!(state, State::Unmet(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ready() { "ready" } else { "not ready" })?;
        for (name, state) in &self.conditions {
            writeln!(f, "{name}: {state}")?;
        }
        Ok(())
    }
}

impl Readiness {
    /// Adds a condition that its owner sets. It starts as `state`.
    pub fn condition(&self, name: &'static str, state: State) -> Condition {
        let state = Arc::new(Mutex::new(state));
        self.add(Named { name, source: Source::Set(Arc::clone(&state)) });
        Condition { state }
    }

    /// Adds a condition that is asked whenever somebody looks. `probe` must not
    /// wait.
    pub fn probe(&self, name: &'static str, probe: impl Fn() -> State + Send + 'static) {
        self.add(Named { name, source: Source::Asked(Box::new(probe)) });
    }

    /// How everything stands now.
    pub fn report(&self) -> Report {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let states = conditions.iter().map(|named| {
            let state = match &named.source {
                Source::Set(state) => state.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                Source::Asked(probe) => probe(),
            };
            (named.name, state)
        });
        Report { conditions: states.collect() }
    }

    fn add(&self, named: Named) {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).push(named);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_no_condition_is_unmet() {
        let readiness = Readiness::default();
        assert!(readiness.report().is_ready(), "nothing to wait for");

        let log = readiness.condition("log", State::Unmet("loading".to_owned()));
        readiness.probe("policies", || State::Degraded("stale since noon".to_owned()));
        assert_eq!(
            readiness.report().to_string(),
            "not ready\nlog: loading\npolicies: stale since noon\n"
        );

        log.set(State::Ok);
        assert!(readiness.report().is_ready(), "degraded is ready");
        assert_eq!(readiness.report().to_string(), "ready\nlog: ok\npolicies: stale since noon\n");

        log.set(State::Unmet("draining".to_owned()));
        assert!(!readiness.report().is_ready(), "a condition may be lost again");
    }
}
