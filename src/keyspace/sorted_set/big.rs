//! The big form: entries in order, and a hash index of the members.
//!
//! ```text
//! leaves     the entries, see `leaves`
//! index      hash of a member -> its score; score and member lead to the leaf
//! ```
//!
//! The index says a member's score and not its place, so entries move between
//! leaves without the index knowing. It holds exactly the members.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use super::leaves::{Leaves, Place};
use crate::keyspace::index::Index;
use crate::keyspace::sizes::block_bytes;

/// Members that a step of a scan looks at, for each that it shows.
const SCAN_COST_MAX: usize = 32;

/// Many members. See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Big {
    leaves: Leaves,
    index: Index<PackedScore>,
    /// Keyed at random: members may come from strangers.
    hasher: RandomState,
}

/// The bits of a score in an alignment of four, so that an entry of the index
/// takes 12 bytes and not 16.
type PackedScore = [u32; 2];

impl Big {
    pub(super) fn new() -> Big {
        Big { leaves: Leaves::default(), index: Index::new(), hasher: RandomState::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        let holds = |score| self.leaves.search(unpack(score), member).is_ok();
        self.index.find(self.hash(member), holds).map(unpack)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let (_, place) = self.find(member)?;
        Some(self.leaves.rank(place))
    }

    /// The score of a member, and its place.
    fn find(&self, member: &[u8]) -> Option<(f64, Place)> {
        let mut place = None;
        let score = self.index.find(self.hash(member), |score| {
            place = self.leaves.search(unpack(score), member).ok();
            place.is_some()
        })?;
        Some((unpack(score), place?))
    }

    pub(super) fn add(&mut self, member: &[u8], score: f64) {
        self.index.insert(self.hash(member), pack(score));
        self.leaves.insert(score, member);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let (score, place) = self.find(member)?;
        self.unindex(member, score);
        self.leaves.remove(place, 1);
        Some(score)
    }

    pub(super) fn remove_range(&mut self, ranks: Range<usize>, mut each: impl FnMut(&[u8], f64)) {
        let mut remaining = ranks.len();
        while remaining > 0 {
            // What follows moves up to the same rank.
            let place = self.leaves.place(ranks.start);
            let leaf = Arc::clone(self.leaves.leaf(place));
            let count = remaining.min(leaf.len() - place.at);
            for at in place.at..place.at + count {
                let (member, score) = leaf.entry(at);
                each(&member, score);
                self.unindex(&member, score);
            }
            drop(leaf);
            self.leaves.remove(place, count);
            remaining -= count;
        }
    }

    /// A step of a scan, in the order of the index: scores and hashes, sorted, each
    /// pair once, and the cursor of the next step.
    ///
    /// The index knows no members; they are found among those of equal score. Where
    /// those are many the step shows more than it was asked for, so that what it costs
    /// is always paid by what it shows.
    pub(super) fn scan_worth_while(
        &self,
        cursor: u32,
        mut count: usize,
    ) -> (Vec<(f64, u32)>, Option<u32>) {
        loop {
            let (found, next) = self.scan(cursor, count);
            let groups = found.chunk_by(|a, b| a.0 == b.0);
            let cost: usize = groups.map(|group| self.ranks_of(group[0].0).len()).sum();
            if next.is_none() || cost <= count.saturating_mul(SCAN_COST_MAX) {
                return (found, next);
            }
            count = cost / SCAN_COST_MAX + 1;
        }
    }

    fn scan(&self, cursor: u32, count: usize) -> (Vec<(f64, u32)>, Option<u32>) {
        let mut found = Vec::new();
        let next = self.index.scan(cursor, count, |hash, score| {
            // Zero and minus zero are one score.
            found.push((unpack(score) + 0.0, hash));
        });
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.dedup();
        (found, next)
    }

    /// The ranks of all members of a score.
    pub(super) fn ranks_of(&self, score: f64) -> Range<usize> {
        self.leaves.rank_of_score(score, false)..self.leaves.rank_of_score(score, true)
    }

    /// Bytes on the heap. Leaves that a frozen copy shares count here only.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(size_of::<Big>()) + self.leaves.heap_bytes() + self.index.heap_bytes()
    }

    pub(super) fn hash(&self, member: &[u8]) -> u32 {
        self.hasher.hash_one(member) as u32
    }

    fn unindex(&mut self, member: &[u8], score: f64) {
        // One hash may have two members, even with one score: then the entries
        // are alike and it does not matter which of them goes.
        let packed = pack(score);
        let removed = self.index.remove(self.hash(member), |it| it == packed);
        debug_assert!(removed.is_some(), "each member is in the index");
    }
}

fn pack(score: f64) -> PackedScore {
    let bits = score.to_bits();
    [bits as u32, (bits >> 32) as u32]
}

fn unpack([low, high]: PackedScore) -> f64 {
    f64::from_bits(u64::from(high) << 32 | u64::from(low))
}
