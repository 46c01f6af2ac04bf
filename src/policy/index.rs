//! The index: which policies are worth asking about a request.
//!
//! Policies are grouped by the host they ask for, then by the first segment of
//! their path, each if only one text will do. So a request looks at the
//! policies of its own corner and at those that concern everyone, and ten
//! thousand policies for ten thousand hosts cost it two lookups.

use hashbrown::HashMap;

use super::condition::Conditions;
use super::pattern::segments;

/// Policy indices, by the most telling conditions. Every list is ascending.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_host: HashMap<Box<str>, ByFirstSegment>,
    any_host: ByFirstSegment,
}

#[derive(Debug, Default)]
struct ByFirstSegment {
    by_segment: HashMap<Box<str>, Vec<u32>>,
    any_path: Vec<u32>,
}

impl Index {
    /// Indexes policies by their places.
    pub(super) fn new<'c>(policies: impl Iterator<Item = &'c Conditions>) -> Index {
        let mut index = Index::default();
        for (place, conditions) in (0u32..).zip(policies) {
            let group = match conditions.host.as_ref().and_then(|it| it.exact()) {
                Some(host) => index.by_host.entry(host.into()).or_default(),
                None => &mut index.any_host,
            };
            let list = match conditions.path.as_ref().and_then(|it| it.first_literal()) {
                Some(segment) => group.by_segment.entry(segment.into()).or_default(),
                None => &mut group.any_path,
            };
            list.push(place);
        }
        index
    }

    /// The policies that may concern a request, in the order of the file.
    pub(super) fn candidates(&self, host: &str, path: &str) -> Candidates<'_> {
        let first = segments(path).next();
        let of_host = self.by_host.get(host);
        Candidates {
            lists: [
                of_host.zip(first).map_or(&[], |(group, first)| group.of_segment(first)),
                of_host.map_or(&[], |group| &group.any_path),
                first.map_or(&[], |first| self.any_host.of_segment(first)),
                &self.any_host.any_path,
            ],
        }
    }
}

impl ByFirstSegment {
    fn of_segment(&self, first: &str) -> &[u32] {
        self.by_segment.get(first).map_or(&[], Vec::as_slice)
    }
}

/// Ascending lists, merged as they are read.
pub(super) struct Candidates<'i> {
    lists: [&'i [u32]; 4],
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
