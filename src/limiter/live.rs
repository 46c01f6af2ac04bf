//! The policy set in force, with what is worked out once when it is loaded:
//! counters and header fields of each policy.

use bytes::Bytes;

use crate::policy::{Algorithm, Entry, Limit, Mode, Plan, Policy, PolicySet, Role};

use super::ask::Scratch;
use super::decision::{Decision, Fields, Refusal, Verdict};
use super::fields;
use super::metrics::{Metrics, PolicyMetrics};

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
    needs_leases: bool,
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
const ENFORCED: &[u8] = b"0";

impl Live {
    /// Prepares a policy set for service.
    pub fn new(generation: u64, policies: PolicySet, metrics: &Metrics) -> Live {
        let each = policies.policies();
        let metrics = each.iter().map(|it| metrics.for_policy(it)).collect();
        let policy_fields = each
            .iter()
            .map(|policy| {
                let mut value = Vec::new();
                for limit in policy.limits().iter().filter(|it| it.role() != Role::Candidate) {
                    push_policy_item(&mut value, limit);
                }
                Bytes::from(value)
            })
            .collect();
        let groups = (1..).zip(each).map(|(number, policy)| Groups::of(number, policy)).collect();
        let mut limits = each.iter().flat_map(Policy::limits);
        let needs_leases = limits.any(|it| *it.algorithm() == Algorithm::Concurrency);
        Live { generation, policies, metrics, policy_fields, groups, needs_leases }
    }

    /// Number of this set; it rises with each reload.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The set itself.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// True when a policy counts requests under way.
    pub(super) fn needs_leases(&self) -> bool {
        self.needs_leases
    }

    pub(super) fn mode(&self, policy: u32) -> Mode {
        self.policies.policies()[policy as usize].mode()
    }

    pub(super) fn limit(&self, entry: &Entry) -> &Limit {
        &self.policies.policies()[entry.policy as usize].limits()[entry.limit as usize]
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
        plan.denying().iter().any(|policy| self.mode(*policy) == Mode::Enforce)
    }

    /// Folds what the limits said into one decision and counts it: any enforced
    /// limit without room denies.
    pub(super) fn decide(&self, scratch: &Scratch) -> Decision {
        for policy in scratch.plan().denying() {
            self.metrics[*policy as usize].denied();
        }
        if self.refuses_unasked(scratch.plan()) {
            return self.key_missing(scratch.plan());
        }
        let denied = self.violated(scratch).next().is_some();
        self.count(scratch, denied);
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
        Decision {
            verdict: Verdict::Deny,
            fields,
            dues: None,
            refusal: Some(Box::new(Refusal {
                status: 429,
                retry_after_seconds: retry_after.map(|wait| fields::seconds_up(wait).max(1)),
                problem: fields::quota_exceeded(&names),
            })),
        }
    }

    fn key_missing(&self, plan: &Plan) -> Decision {
        let enforced = plan.denying().iter().filter(|it| self.mode(**it) == Mode::Enforce);
        let names: Vec<&str> =
            enforced.map(|it| self.policies.policies()[*it as usize].name()).collect();
        Decision {
            verdict: Verdict::Deny,
            fields: None,
            dues: None,
            refusal: Some(Box::new(Refusal {
                status: 403,
                retry_after_seconds: None,
                problem: fields::key_missing(&names),
            })),
        }
    }

    /// The enforced limits that had no room, with what they said.
    fn violated<'s>(
        &'s self,
        scratch: &'s Scratch,
    ) -> impl Iterator<Item = (&'s Limit, &'s super::Outcome)> {
        scratch.outcomes().iter().enumerate().filter_map(|(index, outcome)| {
            let entry = &scratch.plan().entries()[index];
            let outcome = outcome.as_ref().filter(|it| !it.admitted && self.is_enforced(entry))?;
            Some((self.limit(entry), outcome))
        })
    }

    /// Counts the verdict of each policy: `deny` when one of its own limits had
    /// no room, `admit` when the request passed. A policy that had room for a
    /// request that another refused counts neither.
    fn count(&self, scratch: &Scratch, denied: bool) {
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
        let plan = scratch.plan();
        let mut rate_limit = Vec::with_capacity(64);
        let mut only_policy = None;
        let mut several = false;
        for (entry, outcome) in plan.entries().iter().zip(scratch.outcomes()) {
            if !self.is_enforced(entry) {
                continue;
            }
            several |= only_policy.is_some_and(|policy| policy != entry.policy);
            only_policy = Some(entry.policy);
            if let Some(outcome) = outcome {
                fields::push_limit_item(&mut rate_limit, self.limit(entry).name(), outcome);
            }
        }
        let rate_limit_policy = match (only_policy, several) {
            (None, _) => return None,
            (Some(policy), false) => self.policy_fields[policy as usize].clone(),
            (Some(_), true) => self.joined_policy_fields(scratch),
        };
        Some(Fields { rate_limit_policy, rate_limit: Bytes::from(rate_limit) })
    }

    fn joined_policy_fields(&self, scratch: &Scratch) -> Bytes {
        let mut value = Vec::with_capacity(96);
        for entry in scratch.plan().entries() {
            if self.is_enforced(entry) {
                push_policy_item(&mut value, self.limit(entry));
            }
        }
        Bytes::from(value)
    }
}

impl Groups {
    fn of(number: usize, policy: &Policy) -> Groups {
        let is_own = |limit: &Limit| !limit.algorithm().is_shipped();
        Groups {
            beside: number.to_string().into(),
            replaced: format!("={number}").into(),
            is_apart: policy.mode() == Mode::Shadow && policy.limits().iter().any(is_own),
        }
    }
}

fn push_policy_item(value: &mut Vec<u8>, limit: &Limit) {
    fields::push_policy_item(value, limit.name(), limit.quota(), limit.window());
}
