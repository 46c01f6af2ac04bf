//! A sorted set: members ordered by score, equal scores by the bytes of the member.

use std::ops::Range;

/// Members with scores, in order. A score is never nan.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    entries: Vec<(f64, Box<[u8]>)>,
}

/// What [`SortedSet::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Inserted {
    /// The member is new.
    Added,
    /// The member was there with this score.
    Rescored(f64),
    /// The member was there with an equal score.
    Unchanged,
}

/// A sorted set as it was at a moment, cheap to take, to be read elsewhere.
#[derive(Clone, Debug)]
pub struct FrozenSortedSet {
    set: SortedSet,
}

impl FrozenSortedSet {
    /// Members in the set.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Members with their scores, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        self.set.iter()
    }
}

impl SortedSet {
    /// An empty set.
    pub fn new() -> SortedSet {
        SortedSet::default()
    }

    /// Members in the set.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.entries.iter().find(|it| &*it.1 == member).map(|it| it.0)
    }

    /// How many members stand before this one.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        self.entries.iter().position(|it| &*it.1 == member)
    }

    /// How many members have a lower score, or with `inclusive` one not higher.
    pub fn rank_of_score(&self, score: f64, inclusive: bool) -> usize {
        self.entries.partition_point(|it| it.0 < score || (inclusive && it.0 == score))
    }

    /// Members with their scores, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        self.range(0..self.len())
    }

    /// The members of these ranks, lowest first.
    pub fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        self.entries[ranks].iter().map(|it| (&*it.1, it.0))
    }

    /// Adds a member or changes its score.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Inserted {
        match self.score(member) {
            None => {
                self.add(member, score);
                Inserted::Added
            }
            Some(current) if current == score => Inserted::Unchanged,
            Some(current) => {
                self.rescore(member, current, score);
                Inserted::Rescored(current)
            }
        }
    }

    /// Adds a member that is not there.
    pub(super) fn add(&mut self, member: &[u8], score: f64) {
        let at =
            self.entries.partition_point(|it| it.0 < score || (it.0 == score && &*it.1 < member));
        self.entries.insert(at, (score, member.into()));
    }

    /// Changes the score of a member that is there with `current`.
    pub(super) fn rescore(&mut self, member: &[u8], current: f64, score: f64) {
        debug_assert_eq!(self.score(member), Some(current));
        self.remove(member);
        self.add(member, score);
    }

    /// Takes a member out; its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let at = self.rank(member)?;
        Some(self.entries.remove(at).0)
    }

    /// Takes out the members of these ranks, showing each to `each` before.
    pub fn remove_range(&mut self, ranks: Range<usize>, mut each: impl FnMut(&[u8], f64)) {
        for (score, member) in self.entries.drain(ranks) {
            each(&member, score);
        }
    }

    /// The set as it is now, to be read by someone else while this one changes.
    pub fn freeze(&self) -> FrozenSortedSet {
        FrozenSortedSet { set: self.clone() }
    }
}
