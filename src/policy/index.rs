//! The index: which policies are worth asking about a request.
//!
//! Policies are grouped by the host that they ask for, or by the host that it must be
//! below, and within a group stand in a tree by the literal segments that their paths
//! begin with:
//!
//! ```text
//!   a.example    ─ api ─ v1 ─ users: 0, 7     /api/v1/users, /api/v1/users/**
//!                     └─ *: 3                 /api/*/items
//!   *.example    ─ 4                          every path
//!   any host     ─ login: 1
//! ```
//!
//! A request walks the trees of its hosts along its own path and collects what it
//! passes. So it looks at the policies of its own corner and at those that concern
//! everyone, and ten thousand others cost it nothing.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::condition::{Conditions, HostPattern};
use super::pattern::{PathPattern, segments};

/// Policy indices, by the most telling conditions. Every list is ascending.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_host: HashMap<Box<str>, Node>,
    /// By what hosts end in, `.example.com`.
    below_host: HashMap<Box<str>, Node>,
    any_host: Node,
}

/// A place in a tree of paths.
#[derive(Debug, Default)]
struct Node {
    /// Policies whose paths begin with the segments that lead here, and with no
    /// further literal one.
    here: Vec<u32>,
    next: HashMap<Box<str>, Node>,
}

/// The lists along the way of one request. More than these spill to the heap.
type Lists<'i> = SmallVec<[&'i [u32]; 12]>;

impl Index {
    /// Indexes policies by their places.
    pub(super) fn new<'c>(policies: impl Iterator<Item = &'c Conditions>) -> Index {
        let mut index = Index::default();
        for (place, conditions) in (0u32..).zip(policies) {
            let tree = match &conditions.host {
                Some(HostPattern::Exact(host)) => index.by_host.entry(host.clone()).or_default(),
                Some(HostPattern::Below(end)) => index.below_host.entry(end.clone()).or_default(),
                None => &mut index.any_host,
            };
            let literals = conditions.path.iter().flat_map(PathPattern::literal_beginning);
            let node =
                literals.fold(tree, |node, literal| node.next.entry(literal.into()).or_default());
            node.here.push(place);
        }
        index
    }

    /// The policies that may concern a request, in the order of the file.
    pub(super) fn candidates(&self, host: &str, path: &str) -> Candidates<'_> {
        let mut lists = Lists::new();
        self.any_host.collect(path, &mut lists);
        if let Some(tree) = self.by_host.get(host) {
            tree.collect(path, &mut lists);
        }
        if !self.below_host.is_empty() {
            for (dot, _) in host.match_indices('.') {
                if let Some(tree) = self.below_host.get(&host[dot..]) {
                    tree.collect(path, &mut lists);
                }
            }
        }
        Candidates { lists }
    }
}

impl Node {
    /// Adds the lists on the way along `path`.
    fn collect<'i>(&'i self, path: &str, lists: &mut Lists<'i>) {
        let mut node = self;
        let mut rest = segments(path);
        loop {
            if !node.here.is_empty() {
                lists.push(&node.here);
            }
            if node.next.is_empty() {
                return;
            }
            let Some(next) = rest.next().and_then(|segment| node.next.get(segment)) else { return };
            node = next;
        }
    }
}

/// Ascending lists, merged as they are read.
pub(super) struct Candidates<'i> {
    lists: Lists<'i>,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let next =
            self.lists.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
        let (place, rest) = next.split_first()?;
        *next = rest;
        Some(*place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand policies, the first for everyone and each other for `at(number)`.
    fn index(at: impl Fn(u32) -> (Option<String>, Option<String>)) -> Index {
        let conditions = |number| {
            let (host, path) = if number == 0 { (None, None) } else { at(number) };
            Conditions {
                host: host.map(|it| HostPattern::parse(&it).unwrap()),
                path: path.map(|it| PathPattern::parse(&it).unwrap()),
                ..Conditions::default()
            }
        };
        let policies: Vec<Conditions> = (0..1_000).map(conditions).collect();
        Index::new(policies.iter())
    }

    #[test]
    fn of_a_thousand_policies_for_others_none_is_looked_at() {
        let host = |name: String| (Some(name), None);
        let path = |pattern: String| (None, Some(pattern));
        for (index, what) in [
            (index(|number| host(format!("h{number}.example.com"))), "hosts"),
            (index(|number| host(format!("*.h{number}.example.com"))), "hosts below"),
            (index(|number| path(format!("/s{number}/**"))), "first segments"),
            (index(|number| path(format!("/api/v1/s{number}/*/x"))), "later segments"),
            (index(|number| path(format!("/api/v1/{number}"))), "whole paths"),
        ] {
            let others: Vec<u32> = index.candidates("www.example.com", "/api/v1/other").collect();
            assert_eq!(others, [0], "{what}");
        }
        let by_path = index(|number| path(format!("/api/v1/s{number}/**")));
        let own: Vec<u32> = by_path.candidates("x", "/api/v1/s7/a/b/c").collect();
        assert_eq!(own, [0, 7]);
        let below = index(|number| host(format!("*.h{number}.example.com")));
        assert_eq!(below.candidates("a.b.h7.example.com", "/").collect::<Vec<_>>(), [0, 7]);
        assert_eq!(below.candidates("h7.example.com", "/").collect::<Vec<_>>(), [0]);
    }
}
