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

mod check;
pub mod client_address;
mod condition;
pub mod host;
mod index;
mod key;
mod limit;
pub mod path;
mod pattern;
mod plan;
#[cfg(test)]
mod testing;
mod written;

use std::net::IpAddr;

use crate::base::problems::Problems;
use crate::base::yaml;

pub use limit::{Algorithm, Begins, LIBRARY, Limit, Role};
pub use pattern::{PathPattern, PatternError};
pub use plan::{Entry, Plan};

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
    /// The client's address, after trusted hops ([`client_address`]).
    pub client: IpAddr,
    /// Its header fields.
    pub headers: &'a dyn Headers,
}

/// The header fields of a request, in whatever form a door has them.
pub trait Headers: Sync {
    /// The value of a field; `name` is lower case. Of several fields with one
    /// name a door answers the first, or refuses the request, but always the
    /// same: otherwise a client could choose between keys.
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]>;
}

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
pub fn compile(file: &str, text: &str, functions: &Functions) -> Result<PolicySet, Problems> {
    let document = yaml::read::<written::File>(file, text)?;
    check::check(&document.value, functions).map_err(|problems| document.locate(problems))
}

/// Every policy of a file, compiled.
#[derive(Debug, Default)]
pub struct PolicySet {
    policies: Vec<Policy>,
    index: index::Index,
}

impl PolicySet {
    /// The policies, in the order of the file. Their places in this slice are
    /// the policy indices of a [`Plan`].
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }
}

/// One policy: which requests it concerns, by what key, under what limits.
#[derive(Debug)]
pub struct Policy {
    name: Box<str>,
    conditions: condition::Conditions,
    key: Vec<key::Part>,
    on_missing_key: OnMissingKey,
    limits: Vec<Limit>,
    mode: Mode,
    /// What the store keys of each limit begin with: `weir:<policy>:<limit>:{`.
    store_prefixes: Vec<Box<str>>,
    /// The `match` as text, for people.
    matched: String,
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

    /// At least one. Their places in this slice are the limit indices of a
    /// [`Plan`], and part of their store keys.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// The key template as it would be written: `client_ip, header:x-tenant`;
    /// empty when the quota is one for all.
    pub fn key_text(&self) -> String {
        let parts: Vec<String> = self.key.iter().map(ToString::to_string).collect();
        parts.join(", ")
    }

    /// A path that the policy concerns, for people to try.
    pub fn example_path(&self) -> String {
        self.conditions.example_path()
    }

    /// One line for people: `limited-per-client: 5 per 10s by client_ip on
    /// /limited/**`.
    pub fn describe(&self) -> String {
        let limits: Vec<String> = self.limits.iter().map(ToString::to_string).collect();
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
