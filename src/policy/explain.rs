//! Explanations: what a set makes of one request, policy by policy, for people.

use std::fmt::Write as _;

use crate::base::clock::Timestamp;

use super::{Cause, Plan, PolicySet, RequestFacts, Role};

impl PolicySet {
    /// What every policy makes of a request: why it does not concern it, or under
    /// which key which limits apply, at the moment `now`.
    pub fn explain(&self, facts: &RequestFacts<'_>, now: Timestamp) -> String {
        let mut plan = Plan::default();
        self.plan(facts, Some(now), &mut plan);
        let mut text = String::new();
        for (place, policy) in self.policies.iter().enumerate() {
            let own = |it: u32| it as usize == place;
            let entries: Vec<_> = plan.entries().iter().filter(|it| own(it.policy)).collect();
            let denial = plan.denying().iter().find(|it| own(it.policy));
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", policy.describe());
            if let Some(why) = policy.conditions.why_not(facts) {
                let _ = writeln!(text, "  unmatched  {why}");
            } else if let Some(denial) = denial {
                let why = match denial.cause {
                    Cause::MissingKey => "a part of the key is missing",
                    Cause::Listed => "a list or an override says so",
                };
                let _ = writeln!(text, "  denied     {why}");
            } else if let Some(first) = entries.first() {
                let key = String::from_utf8_lossy(plan.partition(first));
                let _ = writeln!(text, "  key        {key}");
                for entry in &entries {
                    let limit = &policy.limits[entry.limit as usize];
                    let store_key = String::from_utf8_lossy(plan.key(entry));
                    let candidate =
                        if limit.role() == Role::Candidate { ", a candidate" } else { "" };
                    let cost = if entry.cost == 1 {
                        String::new()
                    } else {
                        format!(", costs {}", entry.cost)
                    };
                    let _ = writeln!(text, "  limit      {limit}{cost}{candidate}  {store_key}");
                }
            } else {
                let _ = writeln!(
                    text,
                    "  unlimited  a list or an override says so, or the key is missing"
                );
            }
        }
        text
    }

    /// What is worth knowing about a set that is not wrong: the memory that a key
    /// can take, and limits that would be better served by another algorithm.
    pub fn advice(&self) -> Vec<String> {
        /// More than this for one key is worth a word.
        const STATE_LARGE_BYTES: u64 = 64 << 10;

        let mut advice = Vec::new();
        for policy in &self.policies {
            let bytes = policy.own_limits().iter().filter_map(super::Limit::state_bytes_max);
            let total: u64 = bytes.sum();
            advice.push(format!("{}: at most {} a key", policy.name, size(total)));
            for limit in policy.limits.iter().filter(|it| it.role() != Role::Candidate) {
                let large = limit.state_bytes_max().filter(|bytes| *bytes > STATE_LARGE_BYTES);
                if let (Some(bytes), super::Algorithm::SlidingWindow) = (large, limit.algorithm()) {
                    advice.push(format!(
                        "{}: an exact log of {} units takes up to {} for each key that is busy; \
                         `sliding_counter` or `token_bucket` take 64 B",
                        limit.name(),
                        limit.quota(),
                        size(bytes)
                    ));
                }
            }
        }
        advice
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}
