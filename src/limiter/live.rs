//! The policy set in force, with what is worked out once when it is loaded:
//! counters and header fields of each policy.

use bytes::Bytes;

use crate::policy::{Entry, Limit, Mode, Plan, PolicySet};

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
}

impl Live {
    /// Prepares a policy set for service.
    pub fn new(generation: u64, policies: PolicySet, metrics: &Metrics) -> Live {
        let each = policies.policies();
        let metrics = each.iter().map(|it| metrics.for_policy(it.name(), it.mode())).collect();
        let policy_fields = each
            .iter()
            .map(|policy| {
                let mut value = Vec::new();
                for limit in policy.limits() {
                    push_policy_item(&mut value, limit);
                }
                Bytes::from(value)
            })
            .collect();
        Live { generation, policies, metrics, policy_fields }
    }

    /// Number of this set; it rises with each reload.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The set itself.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    pub(super) fn mode(&self, policy: u32) -> Mode {
        self.policies.policies()[policy as usize].mode()
    }

    pub(super) fn limit(&self, entry: &Entry) -> &Limit {
        &self.policies.policies()[entry.policy as usize].limits()[entry.limit as usize]
    }

    /// True when an enforced policy of `on_missing_key: deny` found no key.
    pub(super) fn denies_for_want_of_a_key(&self, plan: &Plan) -> bool {
        plan.denying().iter().any(|policy| self.mode(*policy) == Mode::Enforce)
    }

    /// Folds what the limits said into one decision and counts it: any enforced
    /// limit without room denies.
    pub(super) fn decide(&self, scratch: &Scratch) -> Decision {
        for policy in scratch.plan().denying() {
            self.metrics[*policy as usize].denied();
        }
        if self.denies_for_want_of_a_key(scratch.plan()) {
            return self.key_missing(scratch.plan());
        }
        let denied = self.violated(scratch).next().is_some();
        self.count(scratch, denied);
        let fields = self.fields(scratch);
        if !denied {
            return Decision { verdict: Verdict::Admit, fields, refusal: None };
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
            let enforced = self.mode(entry.policy) == Mode::Enforce;
            let outcome = outcome.as_ref().filter(|it| enforced && !it.admitted)?;
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
            if own.iter().flatten().any(|it| !it.admitted) {
                metrics.denied();
            } else if !denied && own.iter().all(Option::is_some) {
                metrics.admitted();
            }
        }
    }

    fn fields(&self, scratch: &Scratch) -> Option<Fields> {
        let plan = scratch.plan();
        let mut rate_limit = Vec::with_capacity(64);
        let mut only_policy = None;
        let mut several = false;
        for (entry, outcome) in plan.entries().iter().zip(scratch.outcomes()) {
            if self.mode(entry.policy) == Mode::Shadow {
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
            if self.mode(entry.policy) == Mode::Enforce {
                push_policy_item(&mut value, self.limit(entry));
            }
        }
        Bytes::from(value)
    }
}

fn push_policy_item(value: &mut Vec<u8>, limit: &Limit) {
    fields::push_policy_item(value, limit.name(), limit.quota(), limit.window());
}
