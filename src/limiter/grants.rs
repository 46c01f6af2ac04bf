//! Overrides that are set at run time: kept in the store, in force in the live set.
//!
//! ```text
//!   weir:overrides   a hash: id → text of a grant, and `version`
//! ```
//!
//! The store is where they live, so they are in the log, survive a restart, and are
//! shared by all who share a store. Here is a copy, made into the live set whenever it
//! changes: a request pays for grants with a look-up, and for none with nothing.
//!
//! A change that is made here is in force when it is answered. One that somebody else
//! made is seen within [`PERIOD`]. A grant ends at its moment, on the request; it is
//! taken out of the store a little later.
//!
//! Not here: what a grant says ([`crate::policy`]).

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::policy::{Functions, Grant, GrantError, PolicySet};
use crate::resp::{Reply, View};
use crate::store::{self, Call, Store};

use super::Limiter;
use super::live::Live;

const OVERRIDE: &str = "limiter.override";
const UNOVERRIDE: &str = "limiter.unoverride";
const CHANGED: &str = "limiter.overrides";

/// Where all grants are kept.
pub(super) const OVERRIDES: &[u8] = b"weir:overrides";

/// How often it is asked whether somebody else has changed them.
const PERIOD: Duration = Duration::from_secs(1);

/// So many grants there may be.
const COUNT_MAX: usize = 10_000;

/// The copy, by id.
#[derive(Debug, Default)]
pub(super) struct Grants {
    version: String,
    kept: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    text: String,
    grant: Grant,
    /// Why it is not in force.
    problem: Option<GrantError>,
}

/// A grant, and how it stands.
#[derive(Clone, Debug)]
pub struct Granted {
    /// What it is known by.
    pub id: String,
    /// What was granted.
    pub grant: Grant,
    /// How it stands.
    pub standing: Standing,
}

/// How a grant stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is in force.
    InForce,
    /// Its policy is not in the file any more; it waits for one of that name.
    Orphaned,
    /// The policy has changed so that it does not fit; says why.
    Unfit(String),
}

/// Why a grant was not given.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What was asked for makes no sense.
    #[error(transparent)]
    Wrong(#[from] GrantError),
    /// There are too many.
    #[error(
        "there are {COUNT_MAX} overrides that were set at run time; take one back, or write it into the policy file"
    )]
    Full,
    /// The store did not answer.
    #[error("the store does not answer")]
    Store(#[from] store::Error),
}

impl Limiter {
    /// Gives a grant for a policy, in the place of one for the same key; it is in force
    /// when this returns.
    ///
    /// # Errors
    /// It makes no sense, there are too many, or the store does not answer.
    pub async fn grant(&self, policy: &str, json: &str) -> Result<Granted, ChangeError> {
        let functions = Functions::new(self.store.functions());
        let now = self.store.now();
        let grant = self.live().policies().grant(policy, json, &functions, now)?;
        let (id, text) = (grant.id(), grant.text());
        let count_max = COUNT_MAX.to_string();
        let args: [&[u8]; 3] = [id.as_bytes(), text.as_bytes(), count_max.as_bytes()];
        let mut replies = vec![Reply::default()];
        let call = Call { function: OVERRIDE, keys: &[OVERRIDES], args: &args };
        self.store.call(&[call], &mut replies, |_| true).await?;
        if matches!(replies[0].view(), View::Integer(0)) {
            return Err(ChangeError::Full);
        }
        self.sync_grants().await?;
        Ok(Granted { id, grant, standing: Standing::InForce })
    }

    /// Takes a grant back; false if there is none of that id.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn ungrant(&self, id: &str) -> Result<bool, store::Error> {
        let was_there = self.take_out(id).await?;
        self.sync_grants().await?;
        Ok(was_there)
    }

    /// The grants after one of them, by id; those of `policy`, if one is named.
    pub fn grants(&self, policy: Option<&str>, after: &str, count: usize) -> Vec<Granted> {
        let held = self.hold_grants();
        let rest = held.kept.range(after.to_owned()..).filter(|(id, _)| *id != after);
        let wanted = rest.filter(|(_, it)| policy.is_none_or(|name| it.grant.policy() == name));
        wanted.take(count).map(|(id, known)| known.granted(id)).collect()
    }

    /// One grant.
    pub fn granted(&self, id: &str) -> Option<Granted> {
        self.hold_grants().kept.get(id).map(|known| known.granted(id))
    }

    /// Makes the copy that of the store, and the live set that of the copy.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn sync_grants(&self) -> Result<(), store::Error> {
        // One at a time: an older answer must not take the place of a newer one.
        let _turn = self.syncing.lock().await;
        let version = self.hold_grants().version.clone();
        let mut replies = vec![Reply::default()];
        let call = Call { function: CHANGED, keys: &[OVERRIDES], args: &[version.as_bytes()] };
        self.store.call(&[call], &mut replies, |_| true).await?;
        if let View::Array(items) = replies[0].view() {
            let texts: Vec<String> = items
                .filter_map(|item| match item {
                    View::Bulk(text) => Some(String::from_utf8_lossy(text).into_owned()),
                    _ => None,
                })
                .collect();
            let mut held = self.hold_grants();
            held.take_over(&texts);
            let live = self.live();
            self.put_in_force(live.generation(), live.policies().clone(), &mut held);
        }
        Ok(())
    }

    /// Makes a policy set, under the grants that are held, the live one.
    pub(super) fn put_in_force(&self, generation: u64, policies: PolicySet, held: &mut Grants) {
        let policies = held.apply(policies, &self.store);
        self.metrics.granted(held.in_force_count(), held.kept.len());
        self.live.store(Arc::new(Live::new(generation, policies, &self.metrics)));
    }

    pub(super) fn hold_grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_out(&self, id: &str) -> Result<bool, store::Error> {
        let mut replies = vec![Reply::default()];
        let call = Call { function: UNOVERRIDE, keys: &[OVERRIDES], args: &[id.as_bytes()] };
        self.store.call(&[call], &mut replies, |_| true).await?;
        Ok(!matches!(replies[0].view(), View::Integer(0)))
    }

    /// Takes those out of the store that have ended.
    pub(super) async fn take_out_ended(&self) -> Result<(), store::Error> {
        let now = self.store.now();
        let has_ended = |known: &&Known| known.grant.ends_at().is_some_and(|ends| ends <= now);
        let ended: Vec<String> = {
            let held = self.hold_grants();
            held.kept.iter().filter(|(_, it)| has_ended(it)).map(|(id, _)| id.clone()).collect()
        };
        for id in &ended {
            self.take_out(id).await?;
            tracing::info!(id, "an override has ended");
        }
        Ok(())
    }
}

/// Keeps the copy as the store has it, and takes out what has ended, until shutdown.
/// Cancel safe: the `select!` waits and does no work.
pub async fn keep_grants(limiter: &Limiter, shutdown: CancellationToken) {
    let mut ticks = time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        limiter.tell_failure(limiter.take_out_ended().await);
        limiter.tell_failure(limiter.sync_grants().await);
    }
}

impl Grants {
    /// Takes over fields and values of the hash.
    fn take_over(&mut self, texts: &[String]) {
        let mut before = std::mem::take(&mut self.kept);
        // The version of a hash that is not there.
        "0".clone_into(&mut self.version);
        for pair in texts.chunks_exact(2) {
            let (id, text) = (&pair[0], &pair[1]);
            if id == "version" {
                self.version.clone_from(text);
                continue;
            }
            let known = before.remove(id).filter(|known| known.text == *text);
            let known = known.map_or_else(|| Known::read(text), Ok);
            match known {
                Ok(known) => {
                    self.kept.insert(id.clone(), known);
                }
                Err(problems) => tracing::error!(id, %problems, "an override cannot be read"),
            }
        }
    }

    /// `policies` under these grants.
    fn apply(&mut self, policies: PolicySet, store: &Store) -> PolicySet {
        if self.kept.is_empty() && !policies.has_grants() {
            return policies;
        }
        let functions = Functions::new(store.functions());
        let grants: Vec<Grant> = self.kept.values().map(|it| it.grant.clone()).collect();
        let (set, problems) = policies.with_grants(&grants, &functions);
        for (known, problem) in self.kept.values_mut().zip(problems) {
            known.problem = problem;
        }
        set
    }

    fn in_force_count(&self) -> usize {
        self.kept.values().filter(|it| it.problem.is_none()).count()
    }
}

impl Known {
    fn read(text: &str) -> Result<Known, crate::base::problems::Problems> {
        Ok(Known { text: text.to_owned(), grant: Grant::from_text(text)?, problem: None })
    }

    fn granted(&self, id: &str) -> Granted {
        let standing = match &self.problem {
            None => Standing::InForce,
            Some(GrantError::UnknownPolicy { .. }) => Standing::Orphaned,
            Some(GrantError::Wrong(problems)) => Standing::Unfit(problems.to_string()),
        };
        Granted { id: id.to_owned(), grant: self.grant.clone(), standing }
    }
}
