//! Grants, checked as the overrides of a file are.

use super::super::choice::Override;
use super::super::grant::{Grant, Grants};
use super::super::limit::{Algorithm, Limit};
use super::super::{Functions, PolicySet};
use super::Checker;
use super::choices::{Sets, WALKED_MAX};
use crate::base::problems::Problems;

/// The grants of one policy, and for each what is wrong with it.
pub(in super::super) fn grants<'g>(
    set: &PolicySet,
    place: u32,
    grants: impl Iterator<Item = &'g Grant>,
    functions: &Functions,
) -> (Grants, Vec<Option<Problems>>) {
    let policy = &set.policies[place as usize];
    let is_ban = |it: &&Limit| *it.algorithm() == Algorithm::Penalty;
    let ban = policy.limits.iter().find(is_ban).cloned();
    let mut sets = Sets { policy: Some(&policy.name), ban, limits: Vec::new(), ranges: Vec::new() };
    let mut checked = Grants::default();
    let mut told = Vec::new();
    for grant in grants {
        let mut checker = Checker {
            functions,
            files: &|_| Err("a grant names no file".to_owned()),
            has_tokens: set.tokens.is_some(),
            counts_bytes: policy.cost.counts_bytes(),
            problems: Problems::default(),
        };
        let written = grant.overriding();
        if let Some(treatment) = checker.treatment("", written, &mut sets) {
            let treated = Override { treatment, ends: grant.ends_at() };
            checker.add_override("", written, &policy.key, treated, &mut checked.overrides);
        }
        if checked.overrides.when.len() > WALKED_MAX {
            checked.overrides.when.pop();
            let message = format!("more than {WALKED_MAX} grants with `when` or `*`");
            checker.problem::<()>("", message);
        }
        told.push((!checker.problems.is_empty()).then_some(checker.problems));
    }
    let budget = policy.key_budget.as_ref();
    let beside =
        budget.map_or(policy.limits.len(), |it| policy.sets[it.set as usize].start as usize);
    Limit::share_keys(&mut sets.limits, &policy.limits[..beside]);
    checked.store_prefixes =
        sets.limits.iter().map(|it| it.store_prefix(&policy.name).into()).collect();
    checked.limits = sets.limits;
    checked.sets = sets.ranges;
    (checked, told)
}
