//! From planned limits to calls of Functions, and back to outcomes.
//!
//! All limits of the shipped algorithms, enforced, shadowed and candidates alike,
//! go into one `limiter.decide`, which looks at all before it charges any. A
//! Function of the user's is a call of its own, in the same atomic group: when it
//! refuses, the store undoes what the group wrote. A shadowed policy that names a
//! Function of the user's is a group by itself, asked after the request was
//! admitted, so that its failure is nobody else's.

use std::mem;
use std::ops::Range;
use std::time::Duration;

use smallvec::SmallVec;

use crate::policy::{Algorithm, Entry, Limit, Mode, Plan, Role};
use crate::resp::{Reply, View};
use crate::store::{self, Call, Store};

use super::decision::Outcome;
use super::dues::Estimates;
use super::live::{ENFORCED, Live};
use super::outcome::{self, NotAnOutcome};

/// The Function that decides many limits in one call.
const DECIDE: &str = "limiter.decide";

/// The Function that looks and charges nobody, and how many limits it may look at.
const PEEK: &str = "limiter.peek";
const PEEKED_MAX: usize = 256;

/// The Function that says whether a key may have a state of its own.
const CLAIM: &str = "limiter.claim";

/// The Function that counts refusals and bans.
const PENALIZE: &str = "limiter.penalize";

/// All bans, by their ends.
pub(super) const BANS: &[u8] = b"weir:bans";

/// The Function that decides as well, and remembers what is an estimate.
const DECIDE_RESERVING: &str = "limiter.decide_reserving";

/// Arguments of one limit in [`DECIDE`].
const DECIDE_ARGS: usize = 6;

/// Arguments of one limit for a Function of the user's.
const OWN_ARGS: usize = 3;

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
    /// The name of this request's leases, when it needs any.
    lease: String,
    /// By entry of the plan; `None` for a limit that was not asked, because
    /// another had refused before.
    outcomes: Vec<Option<Outcome>>,
    /// The estimates that were charged, one text for each group that had any.
    reservations: Vec<String>,
    /// By entry: a candidate that was charged though the request was refused. Empty until
    /// this request is asked about.
    charged: Vec<bool>,
    /// How long the calls of a decision may wait for the store together, and how much of
    /// that is left.
    wait_max: Duration,
    wait_left: Duration,
    /// The store was asked, and it is not known that nothing remains of that.
    may_owe: bool,
}

/// The entries of a plan that stand or fall together, those of
/// `limiter.decide` first.
struct Group {
    entries: SmallVec<[usize; 8]>,
    /// How many of `entries` go into the one `decide`.
    shipped: usize,
}

impl Scratch {
    /// Where the policies write which limits apply to the next request, whose calls may
    /// wait for the store for so long together. Of the request before nothing is left.
    pub fn begin(&mut self, wait_max: Duration) -> &mut Plan {
        self.outcomes.clear();
        self.charged.clear();
        self.reservations.clear();
        self.may_owe = false;
        self.wait_max = wait_max;
        self.may_wait_anew();
        &mut self.plan
    }

    /// Its calls may wait for the store as long as at the beginning: its turn has come.
    pub(super) fn may_wait_anew(&mut self) {
        self.wait_left = self.wait_max;
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What each planned limit said, by entry.
    pub fn outcomes(&self) -> &[Option<Outcome>] {
        &self.outcomes
    }

    /// The name of the leases of this request.
    pub(super) fn lease(&self) -> &str {
        &self.lease
    }

    /// Whether the request may have been given leases.
    pub(super) fn may_owe(&self) -> bool {
        self.may_owe
    }

    /// The estimates that were charged, as they stand in the list of reservations.
    pub(super) fn reservations(&self) -> &[String] {
        &self.reservations
    }

    /// Names the leases that this request will hold.
    pub(super) fn set_lease(&mut self, write: impl FnOnce(&mut String)) {
        self.lease.clear();
        write(&mut self.lease);
    }

    /// Each planned limit and what it said.
    pub(super) fn said(&self) -> impl Iterator<Item = (&Entry, Option<&Outcome>)> {
        self.plan.entries().iter().zip(self.outcomes.iter().map(Option::as_ref))
    }

    /// Asks every limit that is enforced, and those that stand beside them; true
    /// when the request may pass.
    ///
    /// # Errors
    /// The store did not answer, or not by the contract.
    pub async fn ask(&mut self, live: &Live, store: &Store) -> Result<bool, Error> {
        let count = self.plan.entries().len();
        self.outcomes.clear();
        self.outcomes.resize(count, None);
        self.charged.clear();
        self.charged.resize(count, false);
        self.ask_together(live, store).await
    }

    /// As [`Scratch::ask`], about a request that was refused and has waited. In the
    /// place of a limit that refused, a candidate may have let it pass then: that one
    /// was charged, and is not asked again.
    ///
    /// # Errors
    /// As above.
    pub async fn ask_again(&mut self, live: &Live, store: &Store) -> Result<bool, Error> {
        for (outcome, was_charged) in self.outcomes.iter_mut().zip(&self.charged) {
            if !was_charged {
                *outcome = None;
            }
        }
        self.ask_together(live, store).await
    }

    /// Whether an entry of a request that was refused was charged all the same.
    pub(super) fn was_charged(&self, index: usize) -> bool {
        self.charged.get(index).is_some_and(|it| *it)
    }

    /// Notes which entries were charged by a call that has refused: candidates, where all
    /// of their policy had room, and nobody refused whose place they do not take.
    fn note_charged(&mut self, live: &Live) {
        for index in 0..self.outcomes.len() {
            let entry = &self.plan.entries()[index];
            if live.limit(entry).role() == Role::Candidate {
                self.charged[index] |= self.stands(live, entry.policy);
            }
        }
    }

    /// Whether the candidates of a policy would have admitted a request that was refused.
    fn stands(&self, live: &Live, policy: u32) -> bool {
        self.said().all(|(entry, outcome)| {
            let had_room = outcome.is_some_and(|it| it.admitted);
            let is_of_policy = entry.policy == policy;
            match live.limit(entry).role() {
                Role::Candidate => had_room || !is_of_policy,
                Role::LiveWithCandidate if is_of_policy => true,
                Role::Live | Role::LiveWithCandidate => had_room || !live.is_enforced(entry),
            }
        })
    }

    async fn ask_together(&mut self, live: &Live, store: &Store) -> Result<bool, Error> {
        self.reservations.clear();
        if live.refuses_unasked(&self.plan) {
            return Ok(false);
        }
        let is_asked = |index: usize| {
            let is_apart = live.is_asked_apart(self.plan.entries()[index].policy);
            !is_apart && !self.charged[index]
        };
        let together = self.group(live, is_asked);
        if together.entries.is_empty() {
            return Ok(true);
        }
        let is_kept = self.ask_group(live, store, together).await?;
        let may_pass = self.said().all(|(entry, outcome)| {
            !live.is_enforced(entry) || outcome.is_some_and(|it| it.admitted)
        });
        if !may_pass {
            self.forget_shadowed(live);
        }
        if !may_pass && is_kept {
            self.note_charged(live);
        }
        Ok(may_pass)
    }

    /// A shadowed policy is not tried on requests that are refused.
    fn forget_shadowed(&mut self, live: &Live) {
        for (entry, outcome) in self.plan.entries().iter().zip(&mut self.outcomes) {
            if live.mode(entry.policy) == Mode::Shadow {
                *outcome = None;
            }
        }
    }

    /// Asks the shadowed policies that are asked apart about a request that may
    /// pass, each by itself: one that fails does not keep the others from being
    /// asked.
    ///
    /// # Errors
    /// As above, of the last that failed. Nobody's verdict depends on it.
    pub async fn ask_apart(&mut self, live: &Live, store: &Store) -> Result<(), Error> {
        let mut asked = Ok(());
        let mut last = None;
        for index in 0..self.plan.entries().len() {
            let policy = self.plan.entries()[index].policy;
            if !live.is_asked_apart(policy) || last == Some(policy) {
                continue;
            }
            last = Some(policy);
            let of_policy = |index: usize| self.plan.entries()[index].policy == policy;
            let apart = self.group(live, of_policy);
            asked = self.ask_group(live, store, apart).await.map(drop).and(asked);
        }
        asked
    }

    /// Looks at what every planned limit would say now, and charges nobody. A Function
    /// of the user's is not asked.
    ///
    /// # Errors
    /// The store did not answer, or not by the contract.
    pub async fn peek(&mut self, live: &Live, store: &Store) -> Result<(), Error> {
        let Scratch { plan, replies, outcomes, wait_left, .. } = self;
        outcomes.clear();
        outcomes.resize(plan.entries().len(), None);
        let is_shipped = |entry: &Entry| live.limit(entry).algorithm().is_shipped();
        let asked: Vec<usize> =
            (0..outcomes.len()).filter(|index| is_shipped(&plan.entries()[*index])).collect();
        for some in asked.chunks(PEEKED_MAX) {
            let (mut keys, mut args) = (Vec::new(), Vec::new());
            for &index in some {
                let entry = &plan.entries()[index];
                let limit = live.limit(entry);
                let [algorithm, quota, window_ms] = limit.args();
                keys.push(plan.key(entry));
                let cost = plan.cost(entry);
                args.extend([algorithm, quota, window_ms, cost, limit.option(), ENFORCED]);
            }
            let call = Call { function: PEEK, keys: &keys, args: &args };
            store.call_within(wait_left, &[call], replies, |_| true).await?;
            let windows = vec![Duration::ZERO; some.len()];
            outcome::read(replies[0].view(), true, &windows, |at, outcome| {
                outcomes[some[at]] = Some(outcome);
            })
            .map(drop)
            .map_err(|source| Error::Contract { function: PEEK.to_owned(), source })?;
        }
        Ok(())
    }

    /// Has every policy refuse that delays and has room now, because others come first.
    pub(super) fn refuse_for_others(&mut self, live: &Live) {
        const SOON: Duration = Duration::from_millis(1);
        let may_refuse = |entry: &Entry| {
            live.is_enforced(entry) && *live.limit(entry).algorithm() != Algorithm::Penalty
        };
        let Scratch { plan, outcomes, .. } = self;
        let mut start = 0;
        for of_policy in plan.entries().chunk_by(|a, b| a.policy == b.policy) {
            let own = &mut outcomes[start..start + of_policy.len()];
            start += of_policy.len();
            let mut said = of_policy.iter().zip(&*own).filter(|(entry, _)| may_refuse(entry));
            let has_refused = said.any(|(_, it)| it.is_some_and(|it| !it.admitted));
            if has_refused || live.delay(of_policy[0].policy).is_none() {
                continue;
            }
            for (entry, outcome) in of_policy.iter().zip(own) {
                if may_refuse(entry) {
                    let room = outcome.map_or((None, None), |it| (it.remaining, it.reset_after));
                    *outcome = Some(Outcome {
                        admitted: false,
                        remaining: room.0,
                        reset_after: room.1,
                        retry_after: Some(SOON),
                        charged_at_us: 0,
                    });
                }
            }
        }
    }

    /// Puts the limits of policies whose budget of keys is spent under the key that
    /// all new ones share.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn claim(&mut self, live: &Live, store: &Store) -> Result<(), Error> {
        let policies = live.policies().policies();
        for (place, policy) in (0_u32..).zip(policies) {
            let Scratch { plan, replies, wait_left, .. } = self;
            let Some(budget) = policy.key_budget() else { continue };
            let Some(entry) = plan.entries().iter().find(|it| it.policy == place) else { continue };
            let keys = [budget.index(), plan.key(entry)];
            let call = Call { function: CLAIM, keys: &keys, args: &budget.args() };
            store.call_within(wait_left, &[call], replies, |_| true).await?;
            if matches!(replies[0].view(), View::Integer(0)) {
                plan.overflow(place, policy);
                live.overflowed(place);
            }
        }
        Ok(())
    }

    /// Counts the refusal of this request for the policies that ban those who are
    /// refused too often, if one of their own limits refused.
    ///
    /// # Errors
    /// The store did not answer. The verdict does not depend on it.
    pub async fn penalize(&mut self, live: &Live, store: &Store) -> Result<(), Error> {
        let Scratch { plan, replies, outcomes, wait_left, .. } = self;
        let is_ban = |entry: &Entry| *live.limit(entry).algorithm() == Algorithm::Penalty;
        let mut start = 0;
        for of_policy in plan.entries().chunk_by(|a, b| a.policy == b.policy) {
            let own = &mut outcomes[start..start + of_policy.len()];
            start += of_policy.len();
            let Some(penalty) = live.penalty(of_policy[0].policy) else { continue };
            let refused = of_policy.iter().zip(&*own).any(|(entry, outcome)| {
                let has_refused = outcome.is_some_and(|it| !it.admitted);
                has_refused && live.is_enforced(entry) && !is_ban(entry)
            });
            let Some(place) = of_policy.iter().position(is_ban).filter(|_| refused) else {
                continue;
            };
            let keys = [plan.key(&of_policy[place]), BANS];
            let call = Call { function: PENALIZE, keys: &keys, args: &penalty.args() };
            store.call_within(wait_left, &[call], replies, |_| true).await?;
            // A refusal that begins a ban says how long it lasts.
            if let View::Integer(ban_ms @ 1..) = replies[0].view()
                && let Some(ban) = &mut own[place]
            {
                let lasts = Some(Duration::from_millis(ban_ms.unsigned_abs()));
                *ban = Outcome { admitted: false, reset_after: lasts, retry_after: lasts, ..*ban };
            }
        }
        Ok(())
    }

    fn group(&self, live: &Live, belongs: impl Fn(usize) -> bool) -> Group {
        let planned = self.plan.entries();
        let mut entries: SmallVec<[usize; 8]> =
            (0..planned.len()).filter(|&index| belongs(index)).collect();
        let is_own = |index: &usize| !live.limit(&planned[*index]).algorithm().is_shipped();
        entries.sort_by_key(is_own);
        let shipped = entries.iter().filter(|index| !is_own(index)).count();
        Group { entries, shipped }
    }

    /// What the shipped limits of a group are to be charged as estimates, and what
    /// candidates beside them were charged when the request was refused.
    fn estimates(&self, live: &Live, group: &Group) -> Option<Estimates> {
        let planned = self.plan.entries();
        let shipped = group.entries[..group.shipped].iter().map(|&index| &planned[index]);
        let is_apart = live.is_asked_apart(planned[group.entries[0]].policy);
        let charged = (0..planned.len()).filter(|&index| !is_apart && self.was_charged(index));
        let earlier = charged
            .filter_map(|index| Some((&planned[index], self.outcomes[index]?.charged_at_us)));
        Estimates::of(live, &self.plan, shipped, earlier)
    }

    /// Which entries of a group must have room. What stands beside the enforced limits of
    /// a call is no reason to undo it.
    fn heeded(&self, live: &Live, group: &Group) -> SmallVec<[bool; 8]> {
        let planned = self.plan.entries();
        match live.is_asked_apart(planned[group.entries[0]].policy) {
            true => SmallVec::from_elem(true, group.entries.len()),
            false => group.entries.iter().map(|&index| live.is_enforced(&planned[index])).collect(),
        }
    }

    /// Asks one group and notes its outcomes; says if what was charged is kept.
    async fn ask_group(&mut self, live: &Live, store: &Store, group: Group) -> Result<bool, Error> {
        // What is an estimate is remembered by the same call.
        let estimates = self.estimates(live, &group);
        let heeded = self.heeded(live, &group);
        let Scratch { plan, replies, outcomes, lease, reservations, wait_left, may_owe, .. } = self;
        let limit_of = |index: usize| live.limit(&plan.entries()[index]);
        let mut keys: SmallVec<[&[u8]; 8]> = SmallVec::new();
        let mut args: SmallVec<[&[u8]; 48]> = SmallVec::new();
        for (at, &index) in group.entries.iter().enumerate() {
            let entry = &plan.entries()[index];
            keys.push(plan.key(entry));
            let [algorithm, quota, window_ms] = limit_of(index).args();
            let cost = plan.cost(entry);
            if at < group.shipped {
                let option = match limit_of(index).algorithm() {
                    Algorithm::Concurrency => lease.as_bytes(),
                    _ => limit_of(index).option(),
                };
                args.extend([algorithm, quota, window_ms, cost, option, live.group(entry)]);
            } else {
                args.extend([quota, window_ms, cost]);
            }
        }
        let spans = group.calls();
        let decide = (&keys[..group.shipped], &args[..DECIDE_ARGS * group.shipped]);
        let (reserving_keys, reserving_args) =
            estimates.as_ref().map(|it| it.reserving(decide, lease)).unwrap_or_default();
        let call = |span: &Range<usize>| match function_of(limit_of(group.entries[span.start])) {
            DECIDE if estimates.is_some() => {
                Call { function: DECIDE_RESERVING, keys: &reserving_keys, args: &reserving_args }
            }
            function => Call { function, keys: &keys[span.clone()], args: &args[group.args(span)] },
        };
        let calls: SmallVec<[Call<'_>; 4]> = spans.iter().map(call).collect();
        let before = mem::replace(may_owe, true);
        let asked = store
            .call_within(wait_left, &calls, replies, |reply| {
                outcome::accepted(reply.view(), &heeded[..group.shipped])
            })
            .await;
        *may_owe = before || !asked.as_ref().is_err_and(store::Error::is_undone);
        let asked = asked?;

        for (at, span) in spans.iter().enumerate().take(asked.answered) {
            let entries = &group.entries[span.clone()];
            let undone = !asked.kept && at + 1 < asked.answered;
            let note = |at: usize, outcome: Outcome| {
                let (entry, limit) = (&plan.entries()[entries[at]], limit_of(entries[at]));
                let back = |it: Outcome| it.with_units_back(entry.cost, limit.capacity());
                outcomes[entries[at]] = Some(if undone { back(outcome) } else { outcome });
            };
            let windows: SmallVec<[Duration; 8]> =
                entries.iter().map(|&index| limit_of(index).window()).collect();
            let reply = replies[at].view();
            let reservation =
                outcome::read(reply, span.start < group.shipped, &windows, note).map_err(
                    |source| Error::Contract { function: calls[at].function.to_owned(), source },
                )?;
            if let Some(text) = reservation.filter(|_| asked.kept) {
                reservations.push(String::from_utf8_lossy(text).into_owned());
            }
        }
        Ok(asked.kept)
    }
}

/// The Function that decides a limit.
fn function_of(limit: &Limit) -> &str {
    match limit.algorithm() {
        Algorithm::Function(name) => name,
        _ => DECIDE,
    }
}

impl Group {
    /// The entries of each call, as ranges of `entries`.
    fn calls(&self) -> SmallVec<[Range<usize>; 4]> {
        let shipped = Some(0..self.shipped).filter(|span| !span.is_empty());
        let own = (self.shipped..self.entries.len()).map(|at| at..at + 1);
        shipped.into_iter().chain(own).collect()
    }

    /// Where the arguments of a call lie among those of the group.
    fn args(&self, span: &Range<usize>) -> Range<usize> {
        let offset = |at: usize| {
            let own = at.saturating_sub(self.shipped);
            DECIDE_ARGS * (at - own) + OWN_ARGS * own
        };
        offset(span.start)..offset(span.end)
    }
}
