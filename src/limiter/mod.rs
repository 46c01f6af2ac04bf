//! The limiter: facts of a request in, one decision out; policies reload.
//!
//! Every door asks here, so the proxy and Envoy share policies, keys and
//! counts. The limiter plans which limits apply, asks the store once for all
//! that are enforced, and folds the answers. It cannot tell an embedded store
//! from a remote one.
//!
//! Invariants:
//!
//! 1. A request is decided under one policy set, the one that was live when it
//!    came; a reload swaps a pointer and is never seen half.
//! 2. Enforced limits are charged all or none. A refused request costs nothing,
//!    in a shadowed policy neither.
//! 3. A shadowed policy changes no verdict and no header field.
//!
//! Not here: what matches a request ([`crate::policy`]), where the counts live
//! ([`crate::store`]), and what a refusal looks like on a wire (the doors).

mod ask;
mod decision;
mod dues;
mod fields;
mod grants;
mod live;
mod look;
mod meter;
mod metrics;
mod outcome;
mod refusal;
mod reload;
#[cfg(test)]
mod reload_tests;
#[cfg(test)]
mod timelines;
mod turns;

use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::chain::Chain;
use crate::base::clock::Stopwatch;
use crate::base::throttle::Throttle;
use crate::policy::{PolicySet, RequestFacts};
use crate::resp::Reply;
use crate::store::{self, Call, Store};

pub use ask::{Error, Scratch};
pub use decision::{Decision, Outcome, Verdict};
use dues::Undecided;
pub use dues::{Dues, Payments};
pub use fields::Fields;
pub use grants::{ChangeError, Granted, Standing, keep_grants};
pub use live::Live;
pub use look::{AfterBan, Ban};
pub use metrics::Metrics;
pub use refusal::{PROBLEM_TYPE, Refusal};
pub use reload::{PolicyFile, keep_current};

/// The Function that keeps from eviction what the limiter keeps for itself.
const GUARD: &str = "limiter.guard";

/// How long a decision waits for the store, unless that is configured.
pub const WAIT_MAX_DEFAULT: Duration = Duration::from_millis(250);

/// The verdict when the store cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureMode {
    /// Admit: the limiter's trouble is not the service's outage.
    #[default]
    Open,
    /// Refuse with 503.
    Closed,
}

/// Decides requests. One for the process, shared by every door.
#[derive(Debug)]
pub struct Limiter {
    store: Store,
    live: ArcSwap<Live>,
    failure_mode: FailureMode,
    wait_max: Duration,
    metrics: Metrics,
    /// Runs since the policy file was first refused, while it is.
    refused: Mutex<Option<Stopwatch>>,
    failure_log: Throttle,
    leases: Leases,
    dues: tokio::sync::mpsc::UnboundedSender<dues::Owed>,
    payments: Mutex<Option<Payments>>,
    /// Overrides that were set at run time. Who changes the live set holds them.
    grants: Mutex<grants::Grants>,
    syncing: tokio::sync::Mutex<()>,
    turns: turns::Turns,
}

/// Names for leases: no two requests of any process have the same.
#[derive(Debug)]
struct Leases {
    process: u64,
    next: AtomicU64,
}

impl Leases {
    fn new() -> Leases {
        Leases { process: RandomState::new().hash_one(0), next: AtomicU64::new(0) }
    }

    fn write_next(&self, name: &mut String) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Writing to a String cannot fail.
        let _ = write!(name, "{:x}-{number:x}", self.process);
    }
}

impl Limiter {
    /// A limiter under a first policy set, which becomes generation 1.
    pub fn new(
        store: Store,
        policies: PolicySet,
        failure_mode: FailureMode,
        metrics: Metrics,
    ) -> Limiter {
        let live = ArcSwap::from_pointee(Live::new(1, policies, &metrics));
        metrics.swapped(1);
        let (dues, payments) = dues::channel();
        Limiter {
            store,
            live,
            failure_mode,
            wait_max: WAIT_MAX_DEFAULT,
            metrics,
            refused: Mutex::default(),
            failure_log: Throttle::new(1),
            leases: Leases::new(),
            dues,
            payments: Mutex::new(Some(payments)),
            grants: Mutex::default(),
            syncing: tokio::sync::Mutex::default(),
            turns: turns::Turns::default(),
        }
    }

    /// The same, but for how long the calls of a decision wait together for a client's
    /// call that has not ended, before the decision is the failure mode's.
    #[must_use]
    pub fn waiting_for_the_store(self, wait_max: Duration) -> Limiter {
        Limiter { wait_max, ..self }
    }

    /// Takes over what an earlier process has left in the store: keeps it from being
    /// evicted, and puts overrides in force. A store that does not answer is told of, and
    /// asked for the overrides again soon.
    pub async fn take_over(&self) {
        let keys = [grants::OVERRIDES, ask::BANS, dues::RESERVATIONS];
        let call = Call { function: GUARD, keys: &keys, args: &[] };
        let guarded = self.store.call(&[call], &mut vec![Reply::default()], |_| true).await;
        self.tell_failure(guarded.map(|_| ()));
        self.tell_failure(self.sync_grants().await);
    }

    /// Decides one request at once: where policies delay, it is refused. `scratch`
    /// belongs to the caller's connection or worker and keeps its capacity between
    /// requests.
    pub async fn check(&self, facts: &RequestFacts<'_>, scratch: &mut Scratch) -> Decision {
        self.check_within(Duration::ZERO, facts, scratch).await
    }

    /// Decides one request, which where policies delay may wait for its turn, as long
    /// as they say, but no longer than `patience`.
    ///
    /// Cancel safe: what waits leaves its place to the next, and gives back its leases.
    /// What was charged stays charged.
    pub async fn check_within(
        &self,
        patience: Duration,
        facts: &RequestFacts<'_>,
        scratch: &mut Scratch,
    ) -> Decision {
        let live = self.live.load_full();
        live.policies().plan(facts, Some(self.store.now()), scratch.begin(self.wait_max));
        if scratch.plan().is_empty() {
            return Decision::UNLIMITED;
        }
        let stopwatch = Stopwatch::start();
        if live.has_dues() {
            scratch.set_lease(|name| self.leases.write_next(name));
        }
        let undecided = Undecided::new(scratch, &live, &self.dues);
        let scratch = &mut *undecided.scratch;
        let claimed = match live.has_budgets() {
            true => scratch.claim(&live, &self.store).await,
            false => Ok(()),
        };
        let mut waited = Duration::ZERO;
        let asked = match claimed {
            Ok(()) if live.has_delays() && !patience.is_zero() => {
                self.ask_in_turn(&live, facts, scratch, (patience, &mut waited)).await
            }
            Ok(()) => scratch.ask(&live, &self.store).await,
            Err(error) => Err(error),
        };
        let decision = match asked {
            Ok(may_pass) => {
                if may_pass && let Err(error) = scratch.ask_apart(&live, &self.store).await {
                    self.tell(&error);
                }
                live.count(scratch);
                if !may_pass && let Err(error) = scratch.penalize(&live, &self.store).await {
                    self.tell(&error);
                }
                let decision = live.decide(scratch);
                Decision { dues: undecided.decided(may_pass), ..decision }
            }
            Err(error) => self.fail(&error),
        };
        self.metrics.decided(stopwatch.elapsed().saturating_sub(waited));
        decision
    }

    /// What requests give back when they end, to be paid by the one task that
    /// takes this; `None` when it was taken.
    pub fn take_payments(&self) -> Option<Payments> {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The policy set in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Puts a policy set in force and returns its generation. Requests under
    /// way finish under the set they began with.
    pub fn swap(&self, policies: PolicySet) -> u64 {
        let mut held = self.hold_grants();
        let generation = self.live.load().generation() + 1;
        self.put_in_force(generation, policies, &mut held);
        self.metrics.swapped(generation);
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        generation
    }

    /// Notes that the policy file as it stands was refused; the live set stays.
    pub fn refuse(&self) {
        self.metrics.refused();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get_or_insert_with(Stopwatch::start);
    }

    /// How long the policy file has been one that was refused; `None` while it
    /// is the one in force.
    pub fn stale_for(&self) -> Option<Duration> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().map(Stopwatch::elapsed)
    }

    /// Where the counts live.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Counts a failure of the store, and logs it now and then.
    fn tell(&self, error: &ask::Error) {
        self.metrics.store_failed();
        if let Some(suppressed) = self.failure_log.pass() {
            let error = Chain(error);
            tracing::error!(%error, suppressed, failure_mode = ?self.failure_mode, "cannot decide");
        }
    }

    /// Counts and logs a failure that changes no verdict.
    fn tell_failure(&self, done: Result<(), store::Error>) {
        if let Err(error) = done {
            self.tell(&error.into());
        }
    }

    /// The decision when enforced limits could not be asked.
    fn fail(&self, error: &ask::Error) -> Decision {
        self.tell(error);
        match self.failure_mode {
            FailureMode::Open => Decision::UNLIMITED,
            FailureMode::Closed => Decision {
                verdict: Verdict::Deny,
                fields: None,
                dues: None,
                refusal: Some(Box::new(Refusal::store_unavailable())),
            },
        }
    }
}
