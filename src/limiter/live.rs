//! The policy set in force, with what is worked out once when it is loaded:
//! counters and header fields of each policy.

use bytes::Bytes;

use crate::policy::{
    Algorithm, Cause, Delay, Denial, Dialect, Entry, Headings, Limit, Mode, OnDeny, Penalty, Plan,
    PolicySet, Role, Settle,
};

use super::ask::Scratch;
use super::decision::{Decision, Outcome, Verdict};
use super::fields::{self, Fields, Items, seconds_up};
use super::metrics::{Metrics, PolicyMetrics, Waited};
use super::refusal::Refusal;

/// One generation of policies. Immutable; a reload makes the next.
#[derive(Debug)]
pub struct Live {
    generation: u64,
    policies: PolicySet,
    metrics: Vec<PolicyMetrics>,
    /// By policy: its `RateLimit-Policy` value, for requests under this one
    /// alone.
    policy_fields: Vec<Bytes>,
    /// By policy: the names of the groups that its limits form in a decision.
    groups: Vec<Groups>,
    has_dues: bool,
    has_budgets: bool,
    has_delays: bool,
}

/// Names of groups in the call of `limiter.decide`.
#[derive(Debug)]
struct Groups {
    /// Of limits that stand beside the enforced ones.
    beside: Box<str>,
    /// Of an enforced limit in whose place a candidate is tried.
    replaced: Box<str>,
    /// Asked in a call of its own: shadowed, and with a Function of the user's.
    is_apart: bool,
}

/// The group of limits that refuse.
pub(super) const ENFORCED: &[u8] = b"0";

impl Live {
    /// Prepares a policy set for service.
    pub fn new(generation: u64, policies: PolicySet, metrics: &Metrics) -> Live {
        let each = policies.policies();
        let metrics = each.iter().map(|it| metrics.for_policy(it)).collect();
        let policy_fields = each
            .iter()
            .map(|policy| {
                let mut items = Items::new();
                let shown = policy.own_limits().iter().filter(|it| is_shown(it));
                shown.for_each(|limit| items.push_policy(limit));
                items.finish()
            })
            .collect();
        let groups = (0..each.len() as u32).map(|place| Groups::of(place, &policies)).collect();
        let has_budgets = each.iter().any(|it| it.key_budget().is_some());
        let leases = |limit: &Limit| *limit.algorithm() == Algorithm::Concurrency;
        let has_dues = (0_u32..).zip(each).any(|(place, policy)| {
            policy.settle().is_some() || policies.limits_of(place).any(leases)
        });
        let has_delays = each.iter().any(|it| it.on_deny().delay.is_some());
        Live {
            generation,
            policies,
            metrics,
            policy_fields,
            groups,
            has_dues,
            has_budgets,
            has_delays,
        }
    }

    /// Number of this set; it rises with each reload.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The set itself.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// True when a policy counts requests under way, or settles them.
    pub(super) fn has_dues(&self) -> bool {
        self.has_dues
    }

    /// True when a policy has a budget of keys.
    pub(super) fn has_budgets(&self) -> bool {
        self.has_budgets
    }

    /// True when a policy has requests wait.
    pub(super) fn has_delays(&self) -> bool {
        self.has_delays
    }

    /// How a policy has requests wait that it would refuse; one that is shadowed
    /// refuses none.
    pub(super) fn delay(&self, policy: u32) -> Option<&Delay> {
        let policy = &self.policies.policies()[policy as usize];
        policy.on_deny().delay.as_ref().filter(|_| policy.mode() == Mode::Enforce)
    }

    /// A request has begun to wait.
    pub(super) fn begins_to_wait(&self, policy: u32) {
        self.metrics[policy as usize].begins_to_wait();
    }

    /// A request has ended to wait.
    pub(super) fn ends_to_wait(&self, policy: u32) {
        self.metrics[policy as usize].ends_to_wait();
    }

    /// What became of a request that waited, or wanted to.
    pub(super) fn waited(&self, policy: u32, ended: Waited) {
        self.metrics[policy as usize].waited(ended);
    }

    /// A request found the budget of keys of a policy spent.
    pub(super) fn overflowed(&self, policy: u32) {
        self.metrics[policy as usize].overflowed();
    }

    /// How the requests of a policy are settled.
    pub(super) fn settle(&self, policy: u32) -> Option<&Settle> {
        self.policies.policies()[policy as usize].settle()
    }

    /// What a policy does to those who are refused too often.
    pub(super) fn penalty(&self, policy: u32) -> Option<&Penalty> {
        self.policies.policies()[policy as usize].penalty()
    }

    pub(super) fn mode(&self, policy: u32) -> Mode {
        self.policies.policies()[policy as usize].mode()
    }

    pub(super) fn limit(&self, entry: &Entry) -> &Limit {
        self.policies.limit(entry)
    }

    /// True when an entry may refuse: its policy is enforced, and it is no
    /// candidate.
    pub(super) fn is_enforced(&self, entry: &Entry) -> bool {
        self.mode(entry.policy) == Mode::Enforce && self.limit(entry).role() != Role::Candidate
    }

    /// True when a policy is asked in a call of its own.
    pub(super) fn is_asked_apart(&self, policy: u32) -> bool {
        self.groups[policy as usize].is_apart
    }

    /// The group of an entry in the call of `limiter.decide`.
    pub(super) fn group(&self, entry: &Entry) -> &[u8] {
        let groups = &self.groups[entry.policy as usize];
        match (self.mode(entry.policy), self.limit(entry).role()) {
            (Mode::Enforce, Role::Live) => ENFORCED,
            (Mode::Enforce, Role::LiveWithCandidate) => groups.replaced.as_bytes(),
            (Mode::Shadow, _) | (_, Role::Candidate) => groups.beside.as_bytes(),
        }
    }

    /// True when an enforced policy of `on_missing_key: deny` found no key.
    pub(super) fn refuses_unasked(&self, plan: &Plan) -> bool {
        plan.denying().iter().any(|denial| self.mode(denial.policy) == Mode::Enforce)
    }

    /// Folds what the limits said into one decision: any enforced limit without room
    /// denies.
    pub(super) fn decide(&self, scratch: &Scratch) -> Decision {
        if self.refuses_unasked(scratch.plan()) {
            return self.denied_unasked(scratch.plan());
        }
        let denied = self.violated(scratch).next().is_some();
        let fields = self.fields(scratch);
        if !denied {
            return Decision { verdict: Verdict::Admit, fields, refusal: None, dues: None };
        }
        let names: Vec<&str> = self.violated(scratch).map(|(limit, _)| limit.name()).collect();
        // With several refusals, all must have passed; when waiting does not
        // help one of them, it does not help at all.
        let waits: Option<Vec<_>> =
            self.violated(scratch).map(|(_, outcome)| outcome.retry_after).collect();
        let retry_after = waits.and_then(|waits| waits.into_iter().max());
        let retry_after = retry_after.map(|wait| seconds_up(wait).max(1));
        let is_ban = |limit: &Limit| *limit.algorithm() == Algorithm::Penalty;
        let banned = self.violated(scratch).all(|(limit, _)| is_ban(limit));
        let refusal = Refusal::exceeded(&names, banned, retry_after);
        let refusing = scratch.said().find(|(entry, outcome)| {
            self.is_enforced(entry) && outcome.is_some_and(|it| !it.admitted)
        });
        let refusal = match refusing {
            Some((entry, _)) => self.told(refusal, entry.policy),
            None => refusal,
        };
        Decision { verdict: Verdict::Deny, fields, dues: None, refusal: Some(Box::new(refusal)) }
    }

    /// A refusal as the policy that refused wants it told.
    fn told(&self, refusal: Refusal, policy: u32) -> Refusal {
        let policy = &self.policies.policies()[policy as usize];
        if *policy.on_deny() == OnDeny::default() {
            return refusal;
        }
        refusal.told_by(policy.on_deny(), policy.name(), fastrand::f64())
    }

    fn denied_unasked(&self, plan: &Plan) -> Decision {
        let enforced = || plan.denying().iter().filter(|it| self.mode(it.policy) == Mode::Enforce);
        let name_of = |it: &Denial| self.policies.policies()[it.policy as usize].name();
        let names: Vec<&str> = enforced().map(name_of).collect();
        let lacks_key = enforced().all(|it| it.cause == Cause::MissingKey);
        let refusal = Refusal::unasked(&names, lacks_key);
        let refusal = match enforced().next() {
            Some(denial) => self.told(refusal, denial.policy),
            None => refusal,
        };
        let refusal = Some(Box::new(refusal));
        Decision { verdict: Verdict::Deny, fields: None, dues: None, refusal }
    }

    /// The enforced limits that had no room, with what they said.
    fn violated<'s>(
        &'s self,
        scratch: &'s Scratch,
    ) -> impl Iterator<Item = (&'s Limit, &'s Outcome)> {
        scratch.outcomes().iter().enumerate().filter_map(|(index, outcome)| {
            let entry = &scratch.plan().entries()[index];
            let outcome = outcome.as_ref().filter(|it| !it.admitted && self.is_enforced(entry))?;
            Some((self.limit(entry), outcome))
        })
    }

    /// Counts the verdict of each policy: `deny` when one of its own limits had
    /// no room, `admit` when the request passed. A policy that had room for a
    /// request that another refused counts neither. What a refusal brings about, a ban,
    /// is no reason for it, and so comes later.
    pub(super) fn count(&self, scratch: &Scratch) {
        for denial in scratch.plan().denying() {
            self.metrics[denial.policy as usize].denied();
        }
        if self.refuses_unasked(scratch.plan()) {
            return;
        }
        let denied = self.violated(scratch).next().is_some();
        let mut said = scratch.outcomes();
        for of_policy in scratch.plan().entries().chunk_by(|a, b| a.policy == b.policy) {
            let (own, others) = said.split_at(of_policy.len());
            said = others;
            let metrics = &self.metrics[of_policy[0].policy as usize];
            let role = |at: usize| self.limit(&of_policy[at]).role();
            let refused = |at: usize| own[at].is_some_and(|it| !it.admitted);
            let live_refused = (0..own.len()).any(|at| role(at) != Role::Candidate && refused(at));
            if live_refused {
                metrics.denied();
            } else if !denied && own.iter().all(Option::is_some) {
                metrics.admitted();
            }
            if (0..own.len()).any(|at| role(at) == Role::Candidate) {
                // With the candidates in place of those they replace.
                let candidate_refused =
                    (0..own.len()).any(|at| role(at) != Role::LiveWithCandidate && refused(at));
                metrics.compared(live_refused, candidate_refused);
            }
        }
    }

    fn fields(&self, scratch: &Scratch) -> Option<Fields> {
        let headings = self.policies.headings();
        let mut fields = Fields::default();
        match headings.dialect {
            Dialect::None => return None,
            Dialect::Draft10 => self.push_lists(scratch, headings, &mut fields),
            Dialect::Draft03 | Dialect::Draft07 => {
                self.push_tightest(scratch, headings, &mut fields);
            }
            Dialect::Both => {
                self.push_lists(scratch, headings, &mut fields);
                self.push_tightest(scratch, headings, &mut fields);
            }
        }
        (!fields.is_empty()).then_some(fields)
    }

    /// The enforced limits of a request that are told of, and what they said. A ban
    /// is told of only while it lasts.
    fn shown<'s>(
        &'s self,
        scratch: &'s Scratch,
    ) -> impl Iterator<Item = (&'s Entry, &'s Limit, Option<&'s Outcome>)> {
        scratch.said().filter(|(entry, _)| self.is_enforced(entry)).filter_map(
            |(entry, outcome)| {
                let limit = self.limit(entry);
                is_shown(limit).then_some((entry, limit, outcome))
            },
        )
    }

    fn push_lists(&self, scratch: &Scratch, headings: Headings, fields: &mut Fields) {
        let mut states = Items::new();
        let mut first: Option<u32> = None;
        let mut is_plain = true;
        for (entry, limit, outcome) in self.shown(scratch) {
            // A tier's or an override's limits are not those worked out before.
            is_plain &= *first.get_or_insert(entry.policy) == entry.policy && self.is_own(entry);
            if let Some(outcome) = outcome {
                let key = headings.partition_key.then(|| scratch.plan().partition(entry));
                states.push_state(limit, outcome, key);
            }
        }
        let Some(first) = first else { return };
        let policies = if is_plain {
            self.policy_fields[first as usize].clone()
        } else {
            let mut items = Items::new();
            self.shown(scratch).for_each(|(_, limit, _)| items.push_policy(limit));
            items.finish()
        };
        fields.push("ratelimit-policy", policies);
        fields.push("ratelimit", states.finish());
    }

    /// True when an entry's limit is one that its policy has without tier and
    /// override.
    fn is_own(&self, entry: &Entry) -> bool {
        let policy = &self.policies.policies()[entry.policy as usize];
        (entry.limit as usize) < policy.own_limits().len()
    }

    /// The limit that refused, or the one nearest to it.
    fn push_tightest(&self, scratch: &Scratch, headings: Headings, fields: &mut Fields) {
        let told = self.shown(scratch).filter_map(|(_, limit, told)| Some((limit, told?)));
        let tightest = told.min_by_key(|(_, told)| {
            (told.admitted, told.remaining, std::cmp::Reverse(told.reset_after))
        });
        if let Some((limit, told)) = tightest {
            fields::push_triple(fields, headings.dialect, limit, told);
        }
    }
}

/// Whether a limit has an item in the header fields.
fn is_shown(limit: &Limit) -> bool {
    limit.role() != Role::Candidate && *limit.algorithm() != Algorithm::Penalty
}

impl Groups {
    fn of(place: u32, policies: &PolicySet) -> Groups {
        let (number, mode) = (place + 1, policies.policies()[place as usize].mode());
        let is_own = |limit: &Limit| !limit.algorithm().is_shipped();
        Groups {
            beside: number.to_string().into(),
            replaced: format!("={number}").into(),
            is_apart: mode == Mode::Shadow && policies.limits_of(place).any(is_own),
        }
    }
}
