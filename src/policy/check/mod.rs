//! From the written form to the checked one: everything that makes no sense in
//! a policy file, told in one go, each with its path and what would be right.
//!
//! A checker returns `None` where it has added a problem, so that a half-read
//! policy is never built; it goes on all the same, so that no problem hides
//! another.
//!
//! Not here: shape, such as unknown keys ([`super::written`]), and lines and
//! columns ([`crate::base::yaml`]).

mod choices;
mod cost;
mod grant;
mod key;
mod limits;
mod matching;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use self::choices::Sets;
pub(super) use self::grant::grants;
use super::condition::Conditions;
use super::cost::Cost;
use super::index::Index;
use super::limit::Limit;
use super::written;
use super::{Functions, Mode, OnMissingKey, Policy, PolicySet, ReadFile};
use crate::base::problems::{Problem, Problems, suggest};

/// A name is a label in metrics and part of every store key.
const NAME_MAX_CHARS: usize = 64;

const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("shadow", Mode::Shadow)];

const ON_MISSING_KEY: [(&str, OnMissingKey); 3] =
    [("skip", OnMissingKey::Skip), ("deny", OnMissingKey::Deny), ("shared", OnMissingKey::Shared)];

/// Checks a file.
///
/// # Errors
/// All problems, with paths but not yet located.
pub(super) fn check(
    file: &written::File,
    functions: &Functions,
    files: ReadFile<'_>,
) -> Result<PolicySet, Problems> {
    let mut checker = Checker {
        functions,
        files,
        has_tokens: file.jwt.is_some(),
        counts_bytes: false,
        problems: Problems::default(),
    };
    let tokens = file.jwt.as_ref().and_then(|jwt| checker.tokens(jwt));
    let headings = checker.headings(file.headers.as_ref());
    let policies = checker.policies(file);
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    let index = Index::new(policies.iter().map(|it| &it.conditions));
    let set = PolicySet {
        policies: policies.into(),
        index: Arc::new(index),
        tokens: tokens.map(Arc::new),
        headings: headings.unwrap_or_default(),
        grants: Vec::new(),
    };
    let mut problems = checker.problems;
    for (place, written) in file.policies.iter().flatten().enumerate() {
        for (number, example) in written.examples.iter().flatten().enumerate() {
            let path = format!("policies[{place}].examples[{number}]");
            example.run(&path, &set, place, &mut problems);
        }
    }
    if problems.is_empty() { Ok(set) } else { Err(problems) }
}

struct Checker<'f> {
    functions: &'f Functions,
    files: ReadFile<'f>,
    /// The file says where tokens are.
    has_tokens: bool,
    /// The policy under check has costs that are bytes of bodies.
    counts_bytes: bool,
    problems: Problems,
}

impl Checker<'_> {
    fn problem<T>(&mut self, path: impl Into<String>, message: impl Into<String>) -> Option<T> {
        self.problems.add(Problem::new(path, message));
        None
    }

    /// `value`, unless a problem was added since there were `before` of them.
    fn if_sound_since<T>(&self, before: usize, value: T) -> Option<T> {
        (self.problems.len() == before).then_some(value)
    }

    fn policies(&mut self, file: &written::File) -> Vec<Policy> {
        let Some(written) = &file.policies else {
            let message = "holds nothing; write `policies: []` if nothing is to be limited";
            self.problem::<()>("policies", message);
            return Vec::new();
        };
        let mut policies = Vec::with_capacity(written.len());
        let mut policy_names = HashMap::new();
        let mut limit_names = HashMap::new();
        for (index, written) in written.iter().enumerate() {
            let path = format!("policies[{index}]");
            if let Some(name) = &written.name
                && let Some(first) = policy_names.insert(name.as_str(), index)
            {
                let message = format!(
                    "`{name}` is the name of policies[{first}] too; counts are kept under a policy's name"
                );
                self.problem::<()>(format!("{path}.name"), message);
                // Its limits would be shown under the same names, of course.
                self.policy(&path, written);
                continue;
            }
            let Some(policy) = self.policy(&path, written) else { continue };
            for (number, limit) in policy.own_limits().iter().enumerate() {
                let here = format!("{path}.limits[{number}]");
                if let Some(there) = limit_names.insert(limit.name().to_owned(), here.clone()) {
                    let message = format!(
                        "is shown as `{}` in header fields, as {there} is; give it another name",
                        limit.name()
                    );
                    self.problem::<()>(here, message);
                }
            }
            policies.push(policy);
        }
        policies
    }

    fn policy(&mut self, path: &str, written: &written::Policy) -> Option<Policy> {
        let before = self.problems.len();
        let name = match &written.name {
            Some(name) => self.name(&format!("{path}.name"), name),
            None => self.problem(
                path,
                "the key `name` is missing; it stands for the policy in metrics, header fields and logs",
            ),
        };
        let matched = written.matched.as_ref().map_or(Some(Conditions::default()), |matched| {
            self.conditions(&format!("{path}.match"), matched)
        });
        let key = self.key(&format!("{path}.key"), written.key.as_ref());
        let on_missing_key = self.word(
            &format!("{path}.on_missing_key"),
            written.on_missing_key.as_deref(),
            &ON_MISSING_KEY,
        );
        let cost = self.cost(&format!("{path}.cost"), written.cost.as_ref());
        self.counts_bytes = cost.as_ref().is_some_and(Cost::counts_bytes);
        let limits = self.limits(
            &format!("{path}.limits"),
            name,
            written.limits.as_deref().unwrap_or_default(),
        );
        let mode = self.word(&format!("{path}.mode"), written.mode.as_deref(), &MODES);
        let settle = self.settle(&format!("{path}.settle"), written.settle.as_ref());
        let on_deny = self.on_deny(&format!("{path}.on_deny"), written.on_deny.as_ref());
        let penalty = self.penalty(&format!("{path}.penalty"), name, written.penalty.as_ref());
        let penalty = penalty.flatten();
        let ban = penalty.as_ref().map(|(_, ban)| ban.clone());
        let mut sets = Sets { policy: name, ban, limits: Vec::new(), ranges: Vec::new() };
        sets.add(limits.unwrap_or_default());
        let parts = key.as_deref().unwrap_or_default();
        let choices = self.choices(path, written, parts, &mut sets);
        // Those of the budget of keys are of a key that only they have.
        Limit::share_keys(&mut sets.limits, &[]);
        let key_budget = written.key_budget.as_ref();
        let key_budget = key_budget.map(|it| self.key_budget(path, it, &mut sets));
        if self.problems.len() > before {
            return None;
        }
        let (name, conditions) = (name?, matched?);
        let Sets { limits, ranges, .. } = sets;
        Some(Policy {
            matched: conditions.describe(),
            written: format!("{written:?}"),
            store_prefixes: limits.iter().map(|it| it.store_prefix(name).into()).collect(),
            name: name.into(),
            conditions,
            key: key?,
            on_missing_key: on_missing_key?,
            limits,
            sets: ranges,
            choices: choices?,
            cost: cost?,
            settle: settle?,
            on_deny: on_deny?,
            penalty: penalty.map(|(penalty, _)| penalty),
            key_budget: key_budget.flatten(),
            mode: mode?,
        })
    }

    /// A name, as it may stand in a store key, a metric label and a header field.
    fn name<'n>(&mut self, path: &str, name: &'n str) -> Option<&'n str> {
        let is_good = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && name.len() <= NAME_MAX_CHARS && name.bytes().all(is_good) {
            return Some(name);
        }
        let message = format!(
            "`{name}` is not a name; write 1 to {NAME_MAX_CHARS} lower-case letters, digits, `-`, `_` \
             and `.`, beginning with a letter or digit"
        );
        self.problem(path, message)
    }

    /// One of a few words, or the default.
    fn word<T: Copy + Default>(
        &mut self,
        path: &str,
        written: Option<&str>,
        known: &[(&'static str, T)],
    ) -> Option<T> {
        let Some(word) = written else { return Some(T::default()) };
        if let Some((_, value)) = known.iter().find(|(it, _)| *it == word) {
            return Some(*value);
        }
        let suggestion = suggest(word, known.iter().map(|(it, _)| *it));
        self.problem(path, format!("unknown word `{word}`{suggestion}"))
    }
}

/// A problem inside (`Some(None)`) is a problem of the whole.
fn transpose<T>(written: Option<Option<T>>) -> Option<Option<T>> {
    match written {
        Some(None) => None,
        Some(Some(checked)) => Some(Some(checked)),
        None => Some(None),
    }
}

/// A `token` of RFC 9110: a method, or the name of a header field.
fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}
