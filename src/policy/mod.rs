//! Policies: which limits concern a request, under which keys.
//!
//! ```text
//!   policies.yaml ──compile──▶ PolicySet ──plan(facts)──▶ Plan: limits with store keys
//! ```
//!
//! [`compile`] turns what people write into a [`PolicySet`] that needs no second
//! look, or tells everything that is wrong with it. [`PolicySet::plan`] answers
//! for one request, into scratch space that its caller keeps.
//!
//! Beside them stands what makes facts comparable, for every door to use:
//! [`path`], [`host`] and [`client_address`].
//!
//! # Invariants
//!
//! 1. No I/O, no clock, no knowledge of HTTP or of the store: a set and the
//!    facts of a request are all it takes to know the plan.
//! 2. A set never changes. A reload makes another.
//! 3. A warm plan allocates nothing.
//!
//! # Not here
//!
//! Deciding ([`limiter`](crate::limiter)), and reading or watching the file.

mod advice;
mod budget;
mod check;
mod choice;
pub mod client_address;
mod condition;
mod cost;
mod example;
mod explain;
mod grant;
pub mod host;
mod index;
mod jwt;
mod key;
mod limit;
mod on_deny;
pub mod path;
mod pattern;
mod plan;
mod question;
pub mod schema;
mod settle;
mod source;
#[cfg(test)]
mod testing;
mod written;

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::base::problems::Problems;
use crate::base::yaml;

pub use budget::KeyBudget;
pub use explain::{Explained, ExplainedLimit, Left, Made, Origin, text as explanation};
pub use grant::{Grant, GrantError, KeyError};
pub use limit::{Algorithm, Begins, LIBRARY, Limit, Role};
pub use on_deny::{Delay, Dialect, Headings, OnDeny, Penalty};
pub use pattern::{PathPattern, PatternError};
pub use plan::{Cause, Denial, Entry, NamedKey, Plan};
pub use question::Question;
pub use settle::{Measure, Settle};

/// What is known of a request. Doors fill it; host and path are in normal form
/// ([`host::normalise`], [`path::normalise`]).
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// As written: methods are case-sensitive.
    pub method: &'a str,
    /// Lower case, without port and trailing dot; may be empty.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// As written, without the `?`; may be empty.
    pub query: &'a str,
    /// The client's address, after trusted hops ([`client_address`]).
    pub client: IpAddr,
    /// Its header fields.
    pub headers: &'a dyn Headers,
    /// Bytes of its body, when it says how many are to come.
    pub body_bytes: Option<u64>,
    /// Entries of Envoy's rate limit descriptors; none elsewhere.
    pub descriptors: &'a [(&'a str, &'a str)],
}

/// The header fields of a request, in whatever form a door has them.
pub trait Headers: Sync {
    /// The value of a field; `name` is lower case. Of several fields with one
    /// name a door answers the first, or refuses the request, but always the
    /// same: otherwise a client could choose between keys.
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]>;

    /// Hands on every value of a field, for those that are lists by nature.
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.get(name) {
            visit(value);
        }
    }

    /// Bytes that they take, names and values; 0 where no request is held.
    fn size_bytes(&self) -> u64 {
        0
    }
}

impl RequestFacts<'_> {
    /// Bytes that the request takes while it is held, its body not counted.
    pub fn size_bytes(&self) -> u64 {
        let texts = [self.method, self.host, self.path, self.query];
        texts.iter().map(|text| text.len() as u64).sum::<u64>() + self.headers.size_bytes()
    }
}

/// Reads a file that a policy file names; its path is relative to that one.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// The Functions that a policy may name: those the engine has loaded.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    names: Vec<String>,
}

impl Functions {
    /// From full names, such as `mylimiter.allow`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Functions {
        Functions { names: names.into_iter().collect() }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|it| it == name)
    }
}

/// Compiles a policy file.
///
/// # Errors
/// Everything that is wrong, each with file, line, column and path: what is not
/// YAML or has an unknown shape first, and once that is mended everything that
/// makes no sense.
pub fn compile(
    file: &str,
    text: &str,
    functions: &Functions,
    files: ReadFile<'_>,
) -> Result<PolicySet, Problems> {
    let document = yaml::read::<written::File>(file, text)?;
    check::check(&document.value, functions, files).map_err(|problems| document.locate(problems))
}

/// Every policy of a file, compiled, and the overrides that were set at run time.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Arc<[Policy]>,
    index: Arc<index::Index>,
    tokens: Option<Arc<jwt::Tokens>>,
    headings: Headings,
    /// By policy; empty while there are none.
    grants: Vec<Arc<grant::Grants>>,
}

impl PolicySet {
    /// The policies, in the order of the file. Their places in this slice are
    /// the policy indices of a [`Plan`].
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The limit of an entry of a plan.
    pub fn limit(&self, entry: &Entry) -> &Limit {
        let limits = &self.policies[entry.policy as usize].limits;
        match limits.get(entry.limit as usize) {
            Some(limit) => limit,
            None => {
                let granted = &self.grants[entry.policy as usize].limits;
                &granted[entry.limit as usize - limits.len()]
            }
        }
    }

    /// Every limit that a request of a policy may get, those of overrides of run time
    /// included.
    pub fn limits_of(&self, policy: u32) -> impl Iterator<Item = &Limit> {
        let granted = self.grants.get(policy as usize);
        let granted = granted.into_iter().flat_map(|it| &it.limits);
        self.policies[policy as usize].limits.iter().chain(granted)
    }

    /// True when a grant may end: then the moment of a request matters.
    pub fn has_grants(&self) -> bool {
        !self.grants.is_empty()
    }

    /// Which header fields tell quotas.
    pub fn headings(&self) -> Headings {
        self.headings
    }

    /// What is different from an earlier set, a line for each policy: added,
    /// removed, changed from this to that.
    pub fn changes_since(&self, earlier: &PolicySet) -> Vec<String> {
        let find = |set: &PolicySet, name: &str| -> Option<usize> {
            set.policies.iter().position(|it| *it.name == *name)
        };
        let removed = earlier.policies.iter().filter(|it| find(self, &it.name).is_none());
        let mut changes: Vec<String> =
            removed.map(|it| format!("removed {}", it.describe())).collect();
        for policy in self.policies() {
            let now = policy.describe();
            match find(earlier, &policy.name).map(|at| &earlier.policies[at]) {
                None => changes.push(format!("added {now}")),
                Some(before) if before.written == policy.written => {}
                Some(before) if before.describe() == now => {
                    changes.push(format!("changed other settings of {now}"));
                }
                Some(before) => {
                    changes.push(format!("changed to {now}, from {}", before.describe()));
                }
            }
        }
        changes
    }
}

/// One policy: which requests it concerns, by what key, under what limits.
#[derive(Debug)]
pub struct Policy {
    name: Box<str>,
    conditions: condition::Conditions,
    key: Vec<key::Part>,
    on_missing_key: OnMissingKey,
    /// The policy's own limits, then those of its tiers and overrides.
    limits: Vec<Limit>,
    /// Where in `limits` each set lies; the first is the policy's own.
    sets: Vec<Range<u32>>,
    choices: choice::Choices,
    cost: cost::Cost,
    settle: Option<Settle>,
    on_deny: OnDeny,
    penalty: Option<Penalty>,
    key_budget: Option<KeyBudget>,
    mode: Mode,
    /// What the store keys of each limit begin with: `weir:<policy>:<place>:{`.
    store_prefixes: Vec<Box<str>>,
    /// The `match` as text, for people.
    matched: String,
    /// All that was written, to tell whether it changed.
    written: String,
}

impl Policy {
    /// Unique in its set. Lower-case letters, digits, `-`, `_` and `.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it refuses, or only counts.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// At least one: the policy's own, then those of its tiers and overrides.
    /// Their places in this slice are the limit indices of a [`Plan`].
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// The limits of a request that no tier, override or list speaks of.
    pub fn own_limits(&self) -> &[Limit] {
        let own = self.sets.first().map_or(0..0, |it| it.start as usize..it.end as usize);
        &self.limits[own]
    }

    /// How many keys may have a state of their own.
    pub fn key_budget(&self) -> Option<&KeyBudget> {
        self.key_budget.as_ref()
    }

    /// How its requests are settled when their responses are known.
    pub fn settle(&self) -> Option<&Settle> {
        self.settle.as_ref()
    }

    /// How it wants its refusals told.
    pub fn on_deny(&self) -> &OnDeny {
        &self.on_deny
    }

    /// What becomes of those who are refused too often.
    pub fn penalty(&self) -> Option<&Penalty> {
        self.penalty.as_ref()
    }

    /// The key template as it would be written: `client_ip, header:x-tenant`;
    /// empty when the quota is one for all.
    pub fn key_text(&self) -> String {
        self.key_parts().join(", ")
    }

    /// The parts of its key as they would be written.
    pub fn key_parts(&self) -> Vec<String> {
        self.key.iter().map(ToString::to_string).collect()
    }

    /// A path that the policy concerns, for people to try.
    pub fn example_path(&self) -> String {
        self.conditions.example_path()
    }

    /// One line for people: `limited-per-client: 5 per 10s by client_ip on
    /// /limited/**`.
    pub fn describe(&self) -> String {
        let own = self.own_limits().iter().filter(|it| it.role() != Role::Candidate);
        let limits: Vec<String> = own.map(ToString::to_string).collect();
        let key = if self.key.is_empty() {
            "all together".to_owned()
        } else {
            format!("by {}", self.key_text())
        };
        let shadow = if self.mode == Mode::Shadow { " (shadow)" } else { "" };
        format!("{}: {} {key} on {}{shadow}", self.name, limits.join(" and "), self.matched)
    }
}

/// What a policy's refusal is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A refused request is refused.
    #[default]
    Enforce,
    /// Decided and counted, never refused.
    Shadow,
}

/// What happens when a part of the key is absent, such as a header field that
/// the client did not send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissingKey {
    /// The policy does not concern the request. Only for keys that a client
    /// cannot leave out to its advantage.
    Skip,
    /// The request is refused.
    Deny,
    /// All requests without that part share one quota. The default: leaving the
    /// key out never buys more than everyone else who left it out has.
    #[default]
    Shared,
}
