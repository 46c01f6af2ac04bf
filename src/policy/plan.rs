//! Plans: what one request is to be asked for, rendered for the store.
//!
//! A store key is
//!
//! ```text
//!   weir:<policy>:<limit index>:{<key>}       weir:api-per-client:0:{203.0.113.7}
//! ```
//!
//! The braces make all limits of one key share a slot of a cluster. Neither
//! quota nor window is part of it, so that counts go on across an edit of them.
//! A policy's name holds no colon and a key no brace (see [`super::key`]), so
//! two different triples never make one store key.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::base::clock::Timestamp;

use super::budget::OVERFLOW;
use super::choice::Treatment;
use super::grant::Grants;
use super::key::{client_of, render};
use super::source::Claims;
use super::{Algorithm, OnMissingKey, Policy, PolicySet, RequestFacts};

/// The limits that concern one request, with their store keys. Scratch space:
/// its owner keeps it between requests, and it keeps its capacity.
#[derive(Debug, Default)]
pub struct Plan {
    entries: Vec<Entry>,
    /// Every store key, one after the other.
    keys: Vec<u8>,
    /// Policies that deny without asking.
    denying: Vec<Denial>,
}

/// A policy that denies a request before any limit is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Its place in [`PolicySet::policies`].
    pub policy: u32,
    /// Why.
    pub cause: Cause,
}

/// Why a policy denies unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request lacks a part of its key, and it is `on_missing_key: deny`.
    MissingKey,
    /// A list or an override denies whoever sent it.
    Listed,
}

/// One limit of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its policy's place in [`PolicySet::policies`].
    pub policy: u32,
    /// Its place in [`Policy::limits`].
    pub limit: u32,
    /// Units that the request uses.
    pub cost: u64,
    key: Range<u32>,
    /// What stands between the braces of the store key.
    partition: Range<u32>,
    /// The cost as text; empty for the usual 1.
    cost_text: Range<u32>,
}

impl Plan {
    /// The limits, in the order of the file; the limits of one policy stand
    /// together.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The store key of an entry of this plan.
    pub fn key(&self, entry: &Entry) -> &[u8] {
        self.keys.get(entry.key.start as usize..entry.key.end as usize).unwrap_or_default()
    }

    /// Whose quota an entry of this plan uses: the rendered key of its policy.
    pub fn partition(&self, entry: &Entry) -> &[u8] {
        let Range { start, end } = entry.partition;
        self.keys.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The cost of an entry of this plan, as text.
    pub fn cost(&self, entry: &Entry) -> &[u8] {
        match self.keys.get(entry.cost_text.start as usize..entry.cost_text.end as usize) {
            None | Some(b"") => b"1",
            Some(text) => text,
        }
    }

    /// Policies that deny the request before any limit is asked. One that is
    /// enforced refuses it; the store need not be asked.
    pub fn denying(&self) -> &[Denial] {
        &self.denying
    }

    /// True when no policy concerns the request.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.denying.is_empty()
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.keys.clear();
        self.denying.clear();
    }

    /// Adds the limits of a policy that concerns the request.
    fn add(&mut self, of: Concerned<'_>, facts: &RequestFacts<'_>, claims: &Claims<'_>) {
        let Concerned { place, policy, grants, moment } = of;
        let mark = self.keys.len();
        let complete = render(&policy.key, facts, claims, &mut self.keys);
        if !complete && policy.on_missing_key != OnMissingKey::Shared {
            self.keys.truncate(mark);
            if policy.on_missing_key == OnMissingKey::Deny {
                self.denying.push(Denial { policy: place, cause: Cause::MissingKey });
            }
            return;
        }
        let rendered = mark..self.keys.len();
        let key = &self.keys[rendered.clone()];
        let granted = || grants?.overrides.find(key, facts, claims, moment);
        let chosen = match policy.choices.listed(facts, claims) {
            Some(listed) => Chosen::Written(listed),
            None => match granted() {
                Some(treatment) => Chosen::Granted(treatment),
                None => Chosen::Written(policy.choices.treat(key, facts, claims)),
            },
        };
        self.add_chosen(of, chosen, rendered, policy.cost.of(facts));
    }

    /// Adds what was chosen for a key that has been rendered.
    fn add_chosen(&mut self, of: Concerned<'_>, chosen: Chosen, key: Range<usize>, cost: u64) {
        let (Chosen::Written(treatment) | Chosen::Granted(treatment)) = chosen;
        let number = match treatment {
            Treatment::Limited(set) => set as usize,
            Treatment::Unlimited => return,
            Treatment::Denied => {
                return self.denying.push(Denial { policy: of.place, cause: Cause::Listed });
            }
        };
        let policy = of.policy;
        let (set, prefixes, before) = match (chosen, of.grants) {
            (Chosen::Granted(_), Some(grants)) => {
                (grants.sets[number].clone(), &grants.store_prefixes, policy.limits.len())
            }
            _ => (policy.sets[number].clone(), &policy.store_prefixes, 0),
        };
        let cost_start = self.keys.len();
        if cost != 1 {
            self.keys.extend_from_slice(itoa::Buffer::new().format(cost).as_bytes());
        }
        let cost_text = offset(cost_start)..offset(self.keys.len());
        for limit in set {
            let start = self.keys.len();
            self.keys.extend_from_slice(prefixes[limit as usize].as_bytes());
            self.keys.extend_from_within(key.clone());
            self.keys.push(b'}');
            self.entries.push(Entry {
                policy: of.place,
                limit: offset(before) + limit,
                cost,
                key: offset(start)..offset(self.keys.len()),
                partition: offset(key.start)..offset(key.end),
                cost_text: cost_text.clone(),
            });
        }
    }
}

/// A key of a policy, as an operator names it.
#[derive(Clone, Copy, Debug)]
pub struct NamedKey<'k> {
    /// The policy's place in [`PolicySet::policies`].
    pub place: u32,
    /// As it is rendered.
    pub key: &'k [u8],
    /// The tier that its requests are in, if that was said.
    pub tier: Option<&'k str>,
}

/// A policy that concerns a request, and what was granted under it.
#[derive(Clone, Copy)]
struct Concerned<'p> {
    place: u32,
    policy: &'p Policy,
    grants: Option<&'p Grants>,
    /// Grants that have ended by then are not in force.
    moment: Timestamp,
}

/// What was chosen for a request, and by whom: its number of a set is of those of the
/// file, or of those that were granted.
#[derive(Clone, Copy)]
enum Chosen {
    Written(Treatment),
    Granted(Treatment),
}

impl Plan {
    /// Puts the limits of `policy` under the key that all share who found its budget
    /// of keys spent.
    pub fn overflow(&mut self, place: u32, policy: &Policy) {
        let Some(budget) = &policy.key_budget else { return };
        let Some(first) = self.entries.iter().position(|it| it.policy == place) else { return };
        let own = self.entries[first..].iter().take_while(|it| it.policy == place).count();
        let Entry { cost, cost_text, .. } = self.entries[first].clone();
        let mut shared = Vec::new();
        for limit in policy.sets[budget.set as usize].clone() {
            let start = self.keys.len();
            self.keys.extend_from_slice(policy.store_prefixes[limit as usize].as_bytes());
            let key_start = self.keys.len();
            self.keys.extend_from_slice(OVERFLOW);
            let partition = offset(key_start)..offset(self.keys.len());
            self.keys.push(b'}');
            shared.push(Entry {
                policy: place,
                limit,
                cost,
                key: offset(start)..offset(self.keys.len()),
                partition,
                cost_text: cost_text.clone(),
            });
        }
        self.entries.splice(first..first + own, shared);
    }
}

/// An offset into the arena of keys. A plan's keys are bounded by the policy
/// file: at most a megabyte of names and parts of at most 384 bytes.
fn offset(at: usize) -> u32 {
    debug_assert!(u32::try_from(at).is_ok());
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl PolicySet {
    /// Which limits concern a request, under which store keys. What `plan` held
    /// before is gone. Allocates only while the plan has not yet grown to the
    /// largest request it has seen.
    ///
    /// `now` tells whether a token has expired, or a grant has ended; without it, that
    /// is not looked at.
    pub fn plan(&self, facts: &RequestFacts<'_>, now: Option<Timestamp>, plan: &mut Plan) {
        plan.clear();
        let claims = Claims::new(self.tokens.as_deref(), now);
        let moment = now.unwrap_or_default();
        for place in self.index.candidates(facts.host, facts.path) {
            let Some(policy) = self.policies.get(place as usize) else { continue };
            if policy.conditions.hold(facts) {
                plan.add(self.concerned(place, policy, moment), facts, &claims);
            }
        }
    }

    /// Which limits of one policy a rendered key has, as far as the key tells, and the
    /// name of its tier, if that is known. What may speak of its requests besides,
    /// [`PolicySet::unseen`] tells.
    pub fn plan_key(&self, moment: Timestamp, named: NamedKey<'_>, plan: &mut Plan) {
        let NamedKey { place, key, tier } = named;
        plan.clear();
        plan.keys.extend_from_slice(key);
        let policy = &self.policies[place as usize];
        let of = self.concerned(place, policy, moment);
        let client = client_of(&policy.key, key);
        let listed = client.and_then(|client| policy.choices.listed_client(client));
        let granted = || of.grants?.overrides.of_key(key, client, moment);
        let overridden = || policy.choices.overrides.of_key(key, client, moment);
        let of_tier = || policy.choices.tiers.as_ref()?.named(tier?);
        let chosen = match (listed, &policy.key_budget) {
            (Some(listed), _) => Chosen::Written(listed),
            (None, Some(budget)) if key == OVERFLOW => {
                Chosen::Written(Treatment::Limited(budget.set))
            }
            (None, _) => match granted() {
                Some(treatment) => Chosen::Granted(treatment),
                None => {
                    let written = overridden().or_else(of_tier);
                    Chosen::Written(written.unwrap_or(Treatment::Limited(0)))
                }
            },
        };
        plan.add_chosen(of, chosen, 0..key.len(), 1);
    }

    /// What may make requests of a key other than [`PolicySet::plan_key`] says, in words.
    pub fn unseen(&self, named: NamedKey<'_>) -> Vec<String> {
        let policy = &self.policies[named.place as usize];
        let knows_client = client_of(&policy.key, named.key).is_some();
        let mut unseen = policy.choices.unseen(knows_client, named.tier.is_some());
        let granted = self.grants.get(named.place as usize).map(AsRef::as_ref);
        let granted = granted.and_then(|it| it.overrides.unseen(knows_client));
        unseen.extend(granted.map(|it| format!("{it}, set at run time")));
        unseen
    }

    /// Whether a policy has a tier of this name.
    pub fn has_tier(&self, place: u32, name: &str) -> bool {
        let tiers = &self.policies[place as usize].choices.tiers;
        tiers.as_ref().is_some_and(|tiers| tiers.named(name).is_some())
    }

    /// Every store key that the limits of a policy have for a rendered key.
    pub fn store_keys(&self, place: u32, key: &[u8]) -> Vec<Vec<u8>> {
        let name = self.policies[place as usize].name();
        let prefixes = self.limits_of(place).map(|limit| limit.store_prefix(name));
        let distinct: BTreeSet<String> = prefixes.collect();
        let whole = |prefix: String| [prefix.as_bytes(), key, b"}"].concat();
        distinct.into_iter().map(whole).collect()
    }

    /// The store key of the ban of a rendered key, if its policy has a penalty.
    pub fn ban_key(&self, place: u32, key: &[u8]) -> Option<Vec<u8>> {
        let policy = &self.policies[place as usize];
        let ban = policy.limits.iter().find(|it| *it.algorithm() == Algorithm::Penalty)?;
        Some([ban.store_prefix(&policy.name).as_bytes(), key, b"}"].concat())
    }

    fn concerned<'p>(&'p self, place: u32, policy: &'p Policy, moment: Timestamp) -> Concerned<'p> {
        let grants = self.grants.get(place as usize).map(AsRef::as_ref);
        Concerned { place, policy, grants, moment }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::testing::{Pairs, no_files};
    use super::super::{Functions, Headers, compile};
    use super::*;

    fn set(text: &str) -> PolicySet {
        compile("policies.yaml", text, &Functions::default(), &no_files).unwrap()
    }

    fn keys(set: &PolicySet, facts: &RequestFacts<'_>) -> Vec<String> {
        let mut plan = Plan::default();
        set.plan(facts, None, &mut plan);
        let key = |entry| String::from_utf8(plan.key(entry).to_vec()).unwrap();
        plan.entries().iter().map(key).collect()
    }

    #[test]
    fn limits_of_one_policy_share_the_key_in_braces() {
        let set = set("
policies:
  - name: api
    match: { path: /api/** }
    key: [client_ip, header:X-Tenant]
    limits:
      - { quota: 10, window: 1s }
      - { quota: 1000, window: 1h }
  - name: all
    limits: [{ quota: 5, window: 1s }]
");
        let headers: &dyn Headers = &Pairs(&[("x-tenant", b"a|b")]);
        let facts = RequestFacts { headers, ..RequestFacts::for_tests("/api/x") };
        assert_eq!(
            keys(&set, &facts),
            [
                "weir:api:0:{203.0.113.7|a%7cb}",
                "weir:api:1:{203.0.113.7|a%7cb}",
                "weir:all:0:{all}",
            ]
        );
        assert_eq!(keys(&set, &RequestFacts::for_tests("/other")), ["weir:all:0:{all}"]);
    }

    #[test]
    fn an_absent_key_is_shared_skipped_or_denied() {
        let set = set("
policies:
  - { name: shared, key: [header:a, method], limits: [{ quota: 1, window: 1s }] }
  - { name: skip, key: [header:a], on_missing_key: skip, limits: [{ quota: 1, window: 1s }] }
  - { name: deny, key: [header:a], on_missing_key: deny, limits: [{ quota: 1, window: 1s }] }
");
        let mut plan = Plan::default();
        set.plan(&RequestFacts::for_tests("/"), None, &mut plan);
        assert_eq!(plan.denying(), [Denial { policy: 2, cause: Cause::MissingKey }]);
        assert_eq!(plan.entries().len(), 1);
        assert_eq!(plan.key(&plan.entries()[0]), b"weir:shared:0:{~|GET}");

        let headers: &dyn Headers = &Pairs(&[("a", b"x")]);
        let facts = RequestFacts { headers, ..RequestFacts::for_tests("/") };
        set.plan(&facts, None, &mut plan);
        assert!(plan.denying().is_empty(), "a plan forgets the request before");
        assert_eq!(
            keys(&set, &facts),
            ["weir:shared:0:{x|GET}", "weir:skip:0:{x}", "weir:deny:0:{x}"]
        );
    }

    #[test]
    fn every_condition_must_hold() {
        let set = set("
policies:
  - name: p
    match:
      path: /a/*
      method: [GET, POST]
      host: '*.example.com'
      header: { X-Plan: free, x-any: '*' }
    limits: [{ quota: 1, window: 1s }]
");
        let good: &dyn Headers = &Pairs(&[("x-plan", b"free"), ("x-any", b"")]);
        let paid: &dyn Headers = &Pairs(&[("x-plan", b"paid"), ("x-any", b"")]);
        let few: &dyn Headers = &Pairs(&[("x-plan", b"free")]);
        let holds = RequestFacts {
            host: "a.example.com",
            headers: good,
            ..RequestFacts::for_tests("/a/x")
        };
        assert_eq!(keys(&set, &holds).len(), 1);
        assert_eq!(keys(&set, &RequestFacts { method: "POST", ..holds }).len(), 1);
        for facts in [
            RequestFacts { path: "/a", ..holds },
            RequestFacts { method: "PUT", ..holds },
            RequestFacts { host: "example.com", ..holds },
            RequestFacts { headers: paid, ..holds },
            RequestFacts { headers: few, ..holds },
        ] {
            assert!(keys(&set, &facts).is_empty());
        }
    }

    #[test]
    fn policies_are_planned_in_the_order_of_the_file() {
        let matches = [
            "{ path: /a/** }",
            "{}",
            "{ host: h.example }",
            "{ host: h.example, path: /a/b }",
            "{ host: '*.example' }",
            "{ path: /*/b }",
            "{ path: /b }",
            "{ host: other.example }",
            "{ path: /** }",
        ];
        let policies: String = (0..)
            .zip(matches)
            .map(|(number, it)| {
                format!(
                    "  - {{ name: p{number}, match: {it}, limits: [{{ quota: 1, window: 1s }}] }}\n"
                )
            })
            .collect();
        let set = set(&format!("policies:\n{policies}"));
        let mut plan = Plan::default();
        set.plan(
            &RequestFacts { host: "h.example", ..RequestFacts::for_tests("/a/b") },
            None,
            &mut plan,
        );
        let places: Vec<u32> = plan.entries().iter().map(|it| it.policy).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 8]);
    }

    #[test]
    fn the_index_leaves_out_nothing_that_matches() {
        let (hosts, paths) = (["", "a.x", "b.x", "x"], ["/", "/a", "/a/b", "/b", "/b/a/"]);
        let mut text = String::from("policies:\n");
        let (host_patterns, path_patterns) =
            (["", "a.x", "'*.x'"], ["", "/", "/a", "/a/**", "/*", "/*/a", "/**", "/b/a"]);
        for host in host_patterns {
            for path in path_patterns {
                let (host, path) = (
                    if host.is_empty() { String::new() } else { format!("host: {host}, ") },
                    if path.is_empty() { String::new() } else { format!("path: {path}") },
                );
                let name = text.lines().count();
                text.push_str(&format!(
                    "  - {{ name: p{name}, match: {{ {host}{path} }}, limits: [{{ quota: 1, window: 1s }}] }}\n"
                ));
            }
        }
        let set = set(&text);
        let mut plan = Plan::default();
        for host in hosts {
            for path in paths {
                let facts = RequestFacts { host, ..RequestFacts::for_tests(path) };
                set.plan(&facts, None, &mut plan);
                let planned: Vec<&str> = plan
                    .entries()
                    .iter()
                    .map(|it| set.policies()[it.policy as usize].name())
                    .collect();
                let all = set.policies().iter().filter(|it| it.conditions.hold(&facts));
                assert_eq!(planned, all.map(Policy::name).collect::<Vec<_>>(), "{host} {path}");
            }
        }
    }

    #[test]
    fn a_warm_plan_keeps_its_capacity() {
        let set =
            set("policies: [{ name: p, key: client_ip, limits: [{ quota: 1, window: 1s }] }]");
        let mut plan = Plan::default();
        set.plan(&RequestFacts::for_tests("/a"), None, &mut plan);
        let before = (plan.keys.as_ptr(), plan.entries.as_ptr());
        for _ in 0..100 {
            set.plan(&RequestFacts::for_tests("/b"), None, &mut plan);
        }
        assert_eq!((plan.keys.as_ptr(), plan.entries.as_ptr()), before);
    }

    #[test]
    fn different_policies_and_limits_never_share_a_store_key() {
        let set = set("
policies:
  - { name: a, limits: [{ quota: 1, window: 1s }, { quota: 2, window: 2s }] }
  - { name: a.0, limits: [{ quota: 1, window: 1s }] }
  - { name: a-0, limits: [{ quota: 1, window: 1s }] }
");
        let keys = keys(&set, &RequestFacts::for_tests("/"));
        let distinct: HashSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
