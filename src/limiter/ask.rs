//! From planned limits to calls of Functions, and back to outcomes.
//!
//! All enforced limits of the shipped algorithm go into one `limiter.decide`,
//! which looks at all before it charges any. A Function of the user's is a call
//! of its own, in the same atomic group: when it refuses, the store undoes what
//! the group wrote. Each shadowed policy is a group by itself, asked after the
//! request was admitted.

use std::ops::Range;
use std::time::Duration;

use smallvec::SmallVec;

use crate::policy::{Algorithm, Limit, Mode, Plan};
use crate::resp::Reply;
use crate::store::{self, Call, Store};

use super::decision::Outcome;
use super::live::Live;
use super::outcome::{self, NotAnOutcome};

/// The Function that decides many limits in one call.
const DECIDE: &str = "limiter.decide";

/// Why the limits of a request could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer.
    #[error("the store does not answer")]
    Store(#[from] store::Error),
    /// A Function broke the contract.
    #[error("the Function {function} breaks the contract")]
    Contract {
        /// The Function that replied.
        function: String,
        /// What it replied instead.
        #[source]
        source: NotAnOutcome,
    },
}

/// Working memory of one caller at a time. Keeps its capacity, so that a
/// decision allocates little.
#[derive(Debug, Default)]
pub struct Scratch {
    plan: Plan,
    replies: Vec<Reply>,
    /// By entry of the plan; `None` for a limit that was not asked, because
    /// another had refused before.
    outcomes: Vec<Option<Outcome>>,
}

/// The entries of a plan that stand or fall together, those of
/// `limiter.decide` first.
struct Group {
    entries: SmallVec<[usize; 8]>,
    /// How many of `entries` go into the one `decide`.
    shipped: usize,
}

impl Scratch {
    /// Where the policies write which limits apply.
    pub fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What each planned limit said, by entry.
    pub fn outcomes(&self) -> &[Option<Outcome>] {
        &self.outcomes
    }

    /// Asks every limit that is enforced; true when the request may pass.
    ///
    /// # Errors
    /// The store did not answer, or not by the contract.
    pub async fn ask_enforced(&mut self, live: &Live, store: &Store) -> Result<bool, Error> {
        self.outcomes.clear();
        self.outcomes.resize(self.plan.entries().len(), None);
        if live.denies_for_want_of_a_key(&self.plan) {
            return Ok(false);
        }
        let enforced = self.group(live, |policy| live.mode(policy) == Mode::Enforce);
        self.ask_group(live, store, enforced).await
    }

    /// Asks the shadowed policies about a request that may pass, each by itself:
    /// one that fails does not keep the others from being asked.
    ///
    /// # Errors
    /// As above, of the last that failed. Nobody's verdict depends on it.
    pub async fn ask_shadowed(&mut self, live: &Live, store: &Store) -> Result<(), Error> {
        let mut asked = Ok(());
        let mut last_shadowed = None;
        for index in 0..self.plan.entries().len() {
            let policy = self.plan.entries()[index].policy;
            if live.mode(policy) == Mode::Enforce || last_shadowed == Some(policy) {
                continue;
            }
            last_shadowed = Some(policy);
            let shadowed = self.group(live, |other| other == policy);
            asked = self.ask_group(live, store, shadowed).await.map(|_admitted| ()).and(asked);
        }
        asked
    }

    fn group(&self, live: &Live, belongs: impl Fn(u32) -> bool) -> Group {
        let planned = self.plan.entries();
        let mut entries: SmallVec<[usize; 8]> =
            (0..planned.len()).filter(|index| belongs(planned[*index].policy)).collect();
        let is_own =
            |index: &usize| *live.limit(&planned[*index]).algorithm() != Algorithm::SlidingWindow;
        entries.sort_by_key(is_own);
        let shipped = entries.iter().filter(|index| !is_own(index)).count();
        Group { entries, shipped }
    }

    /// Asks one group and notes its outcomes; true when all had room.
    async fn ask_group(&mut self, live: &Live, store: &Store, group: Group) -> Result<bool, Error> {
        let Scratch { plan, replies, outcomes } = self;
        let limit_of = |index: usize| live.limit(&plan.entries()[index]);
        let mut keys: SmallVec<[&[u8]; 8]> = SmallVec::new();
        let mut args: SmallVec<[&[u8]; 24]> = SmallVec::new();
        for &index in &group.entries {
            keys.push(plan.key(&plan.entries()[index]));
            args.extend(limit_of(index).args());
        }
        let spans = group.calls();
        let calls: SmallVec<[Call<'_>; 4]> = spans
            .iter()
            .map(|span| Call {
                function: function_of(limit_of(group.entries[span.start])),
                keys: &keys[span.clone()],
                args: &args[3 * span.start..3 * span.end],
            })
            .collect();
        let asked = store.call(&calls, replies, |reply| outcome::accepted(reply.view())).await?;

        for (at, span) in spans.iter().enumerate().take(asked.answered) {
            let entries = &group.entries[span.clone()];
            let undone = !asked.kept && at + 1 < asked.answered;
            let note = |at: usize, outcome: Outcome| {
                let quota = limit_of(entries[at]).quota();
                let outcome = if undone { outcome.with_unit_back(quota) } else { outcome };
                outcomes[entries[at]] = Some(outcome);
            };
            let windows: SmallVec<[Duration; 8]> =
                entries.iter().map(|&index| limit_of(index).window()).collect();
            let reply = replies[at].view();
            outcome::read(reply, span.start < group.shipped, &windows, note).map_err(|source| {
                Error::Contract { function: calls[at].function.to_owned(), source }
            })?;
        }
        Ok(group.entries.iter().all(|&index| outcomes[index].is_some_and(|it| it.admitted)))
    }
}

/// The Function that decides a limit.
fn function_of(limit: &Limit) -> &str {
    match limit.algorithm() {
        Algorithm::SlidingWindow => DECIDE,
        Algorithm::Function(name) => name,
    }
}

impl Group {
    /// The entries of each call, as ranges of `entries`.
    fn calls(&self) -> SmallVec<[Range<usize>; 4]> {
        let shipped = Some(0..self.shipped).filter(|span| !span.is_empty());
        let own = (self.shipped..self.entries.len()).map(|at| at..at + 1);
        shipped.into_iter().chain(own).collect()
    }
}
