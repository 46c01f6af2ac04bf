//! The big form: leaves in order, and a hash index of the members.
//!
//! ```text
//! leaves   [ run of <= 512 ][ run ][ run ] …     shared (`Arc`), copied on write
//! ranks      how many entries come before each leaf
//! index      hash of a member -> its score; score and member lead to the leaf
//! ```
//!
//! A frozen copy is the list of leaves: a few thousand pointers for a million
//! members. Whoever changes a leaf that a frozen copy holds copies that leaf and
//! no other.
//!
//! The index says a member's score and not its place, so entries move between
//! leaves without the index knowing.
//!
//! # Invariants
//!
//! 1. No leaf is empty, and each leaf's entries come before the next one's.
//! 2. The index holds exactly the members; `ranks` holds the lengths of the leaves.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use super::ranks::Ranks;
use super::run::Run;
use crate::keyspace::index::Index;
use crate::keyspace::sizes::block_bytes;

/// Entries of a full leaf. Tests have small ones, to split and to join often.
const LEAF_LEN: usize = if cfg!(test) { 8 } else { 512 };

/// A leaf with more bytes of texts than this takes no further one.
const LEAF_BYTES: usize = 64 << 10;

/// Two neighbours that have become this small together become one.
const JOINED_LEN: usize = LEAF_LEN / 4 * 3;

/// Members that a step of a scan looks at, for each that it shows.
const SCAN_COST_MAX: usize = 32;

/// A leaf, and its first score beside the pointer: searches need not follow it.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    first: f64,
    run: Arc<Run<false>>,
}

impl Leaf {
    fn new(run: Run<false>) -> Leaf {
        Leaf { first: run.score(0), run: Arc::new(run) }
    }

    pub(super) fn run(&self) -> &Run<false> {
        &self.run
    }

    fn heap_bytes(&self) -> usize {
        // An `Arc` counts its holders beside the run.
        block_bytes(size_of::<Run<false>>() + 2 * size_of::<usize>()) + self.run.heap_bytes()
    }

    /// Changes the run, copying it if it is shared. It must not become empty.
    fn change<T>(&mut self, change: impl FnOnce(&mut Run<false>) -> T) -> T {
        let run = Arc::make_mut(&mut self.run);
        let result = change(run);
        self.first = run.score(0);
        result
    }
}

/// Many members. See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Big {
    leaves: VecDeque<Leaf>,
    ranks: Ranks,
    index: Index<PackedScore>,
    /// What the leaves' runs have on the heap.
    leaf_bytes: usize,
    /// Keyed at random: members may come from strangers.
    hasher: RandomState,
}

/// The bits of a score in an alignment of four, so that an entry of the index
/// takes 12 bytes and not 16.
type PackedScore = [u32; 2];

impl Big {
    pub(super) fn new() -> Big {
        Big {
            leaves: VecDeque::new(),
            ranks: Ranks::default(),
            index: Index::new(),
            leaf_bytes: 0,
            hasher: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn leaves(&self) -> &VecDeque<Leaf> {
        &self.leaves
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        let packed = self.index.find(self.hash(member), |it| self.holds(member, unpack(it)))?;
        Some(unpack(packed))
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        let leaf = self.leaf_for(score, member);
        let at = self.leaves[leaf].run.search(score, member).ok()?;
        Some(self.ranks.before(leaf) + at)
    }

    pub(super) fn rank_of_score(&self, score: f64, inclusive: bool) -> usize {
        // The last leaf that begins below the score; those before it count whole.
        let after = self
            .leaves
            .partition_point(|leaf| leaf.first < score || (inclusive && leaf.first == score));
        match after.checked_sub(1) {
            None => 0,
            Some(leaf) => {
                let within = self.leaves[leaf].run.rank_of_score(score, inclusive);
                self.ranks.before(leaf) + within
            }
        }
    }

    /// The leaf and the place in it of a rank; behind the last for the length.
    pub(super) fn place(&self, rank: usize) -> (usize, usize) {
        if rank < self.len() { self.ranks.find(rank) } else { (self.leaves.len(), 0) }
    }

    pub(super) fn add(&mut self, member: &[u8], score: f64) {
        self.index.insert(self.hash(member), pack(score));
        let mut leaf = self.leaf_for(score, member);
        let Some(run) = self.leaves.get(leaf).map(Leaf::run) else {
            return self.push_leaf(score, member);
        };
        let (Ok(mut at) | Err(mut at)) = run.search(score, member);
        let is_full = run.len() >= LEAF_LEN || run.len() > 1 && run.text_bytes() > LEAF_BYTES;
        if is_full {
            if leaf + 1 == self.leaves.len() && at == run.len() {
                // Appending leaves full leaves behind, and splits none.
                return self.push_leaf(score, member);
            }
            let half = self.split(leaf);
            if at > half {
                leaf += 1;
                at -= half;
            }
        }
        self.change(leaf, |run| run.insert(at, score, member));
        self.ranks.add(leaf, 1);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let score = self.score(member)?;
        let leaf = self.leaf_for(score, member);
        let at = self.leaves[leaf].run.search(score, member).ok()?;
        self.unindex(member, score);
        self.remove_from_leaf(leaf, at..at + 1);
        Some(score)
    }

    pub(super) fn remove_range(&mut self, ranks: Range<usize>, mut each: impl FnMut(&[u8], f64)) {
        let mut remaining = ranks.len();
        while remaining > 0 {
            // What follows moves up to the same rank.
            let (leaf, at) = self.place(ranks.start);
            let run = Arc::clone(&self.leaves[leaf].run);
            let count = remaining.min(run.len() - at);
            for index in at..at + count {
                let (member, score) = run.entry(index);
                each(&member, score);
                self.unindex(&member, score);
            }
            drop(run);
            self.remove_from_leaf(leaf, at..at + count);
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
        self.rank_of_score(score, false)..self.rank_of_score(score, true)
    }

    /// Bytes on the heap. Leaves that a frozen copy shares count here only.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(size_of::<Big>())
            + self.leaf_bytes
            + block_bytes(self.leaves.capacity() * size_of::<Leaf>())
            + self.ranks.heap_bytes()
            + self.index.heap_bytes()
    }

    pub(super) fn hash(&self, member: &[u8]) -> u32 {
        self.hasher.hash_one(member) as u32
    }

    /// True if this member is there with this score.
    fn holds(&self, member: &[u8], score: f64) -> bool {
        let leaf = self.leaf_for(score, member);
        self.leaves.get(leaf).is_some_and(|leaf| leaf.run.search(score, member).is_ok())
    }

    /// The leaf where a member with this score is or belongs: the last one that
    /// does not begin after it, or the first.
    fn leaf_for(&self, score: f64, member: &[u8]) -> usize {
        let after = self.leaves.partition_point(|leaf| {
            leaf.first < score || (leaf.first == score && *leaf.run.member(0) <= *member)
        });
        after.saturating_sub(1)
    }

    fn unindex(&mut self, member: &[u8], score: f64) {
        // One hash may have two members, even with one score: then the entries
        // are alike and it does not matter which of them goes.
        let packed = pack(score);
        let removed = self.index.remove(self.hash(member), |it| it == packed);
        debug_assert!(removed.is_some(), "each member is in the index");
    }

    /// Adds an entry in a leaf of its own, at the end.
    fn push_leaf(&mut self, score: f64, member: &[u8]) {
        let mut run = Run::default();
        run.insert(0, score, member);
        let leaf = Leaf::new(run);
        self.leaf_bytes += leaf.heap_bytes();
        self.leaves.push_back(leaf);
        self.ranks.push(1);
    }

    /// Changes a leaf, which must not become empty.
    fn change<T>(&mut self, leaf: usize, change: impl FnOnce(&mut Run<false>) -> T) -> T {
        let leaf = &mut self.leaves[leaf];
        let before = leaf.heap_bytes();
        let result = leaf.change(change);
        self.leaf_bytes = self.leaf_bytes - before + leaf.heap_bytes();
        result
    }

    /// Takes a leaf off the list.
    fn drop_leaf(&mut self, leaf: usize) -> Option<Leaf> {
        let dropped = self.leaves.remove(leaf)?;
        self.leaf_bytes -= dropped.heap_bytes();
        Some(dropped)
    }

    /// Splits a leaf in two; how many entries stay in the first.
    fn split(&mut self, leaf: usize) -> usize {
        let half = self.leaves[leaf].run.len() / 2;
        let right = Leaf::new(self.change(leaf, |run| run.split_off(half)));
        self.leaf_bytes += right.heap_bytes();
        self.leaves.insert(leaf + 1, right);
        self.rebuild_ranks();
        half
    }

    /// Takes entries out of a leaf; drops it when it is empty, joins it with the
    /// next when both have become small.
    fn remove_from_leaf(&mut self, leaf: usize, range: Range<usize>) {
        let len = self.leaves[leaf].run.len();
        self.ranks.add(leaf, -(range.len() as i64));
        if range.len() == len {
            self.drop_leaf(leaf);
            if leaf == 0 {
                self.ranks.pop_front();
            }
            if leaf != 0 || self.ranks.is_sparse() {
                self.rebuild_ranks();
            }
            return;
        }
        self.change(leaf, |run| run.remove(range));
        let joined = |a: &Leaf, b: &Leaf| {
            a.run.len() + b.run.len() <= JOINED_LEN
                && a.run.text_bytes() + b.run.text_bytes() <= LEAF_BYTES
        };
        if self.leaves.get(leaf + 1).is_some_and(|next| joined(&self.leaves[leaf], next))
            && let Some(next) = self.drop_leaf(leaf + 1)
        {
            self.change(leaf, |run| run.append(&next.run));
            self.rebuild_ranks();
        }
    }

    fn rebuild_ranks(&mut self) {
        self.ranks.rebuild(self.leaves.iter().map(|leaf| leaf.run.len()));
    }
}

fn pack(score: f64) -> PackedScore {
    let bits = score.to_bits();
    [bits as u32, (bits >> 32) as u32]
}

fn unpack([low, high]: PackedScore) -> f64 {
    f64::from_bits(u64::from(high) << 32 | u64::from(low))
}
