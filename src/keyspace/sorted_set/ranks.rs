//! How many entries come before a leaf: a Fenwick tree over the leaves' lengths.
//!
//! Leaves leave at the front all the time, and that must not renumber the rest:
//! a leaf that is gone keeps its place with a length of zero until half of the
//! places are such.

use crate::keyspace::sizes::block_bytes;

/// Prefix sums of the lengths of leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    /// Place `i` holds the sum of the `lowest_bit(i + 1)` lengths that end at `i`.
    sums: Vec<u64>,
    /// Places of leaves that have left at the front.
    gone: usize,
}

impl Ranks {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.sums.capacity() * size_of::<u64>())
    }

    /// Builds the sums anew. Linear in the number of leaves.
    pub(super) fn rebuild(&mut self, lengths: impl Iterator<Item = usize>) {
        self.sums.clear();
        self.gone = 0;
        lengths.for_each(|length| self.push(length));
    }

    /// Adds a leaf at the end.
    pub(super) fn push(&mut self, length: usize) {
        let place = self.sums.len() + 1;
        let mut sum = length as u64;
        let mut child = place - 1;
        while child > place - lowest_bit(place) {
            sum += self.sums[child - 1];
            child -= lowest_bit(child);
        }
        self.sums.push(sum);
    }

    /// The first leaf is gone. Its length was set to zero before.
    pub(super) fn pop_front(&mut self) {
        debug_assert_eq!(self.before(1), 0, "an empty leaf leaves");
        self.gone += 1;
    }

    /// True when so many leaves are gone that building anew is cheap.
    pub(super) fn is_sparse(&self) -> bool {
        self.gone > 16 && self.gone * 2 > self.sums.len()
    }

    /// A leaf has become longer or shorter.
    pub(super) fn add(&mut self, leaf: usize, by: i64) {
        let mut place = self.gone + leaf + 1;
        while place <= self.sums.len() {
            self.sums[place - 1] = self.sums[place - 1].wrapping_add_signed(by);
            place += lowest_bit(place);
        }
    }

    /// Entries in the leaves before this one.
    pub(super) fn before(&self, leaf: usize) -> usize {
        let mut place = self.gone + leaf;
        let mut sum = 0;
        while place > 0 {
            sum += self.sums[place - 1];
            place -= lowest_bit(place);
        }
        sum as usize
    }

    /// The leaf that holds the entry of this rank, and where in it. The rank must
    /// be below the number of entries.
    pub(super) fn find(&self, rank: usize) -> (usize, usize) {
        let (mut place, mut rest) = (0, rank as u64);
        let mut step = (self.sums.len() + 1).next_power_of_two();
        while step > 0 {
            if let Some(&sum) = self.sums.get(place + step - 1)
                && sum <= rest
            {
                place += step;
                rest -= sum;
            }
            step /= 2;
        }
        (place - self.gone, rest as usize)
    }
}

fn lowest_bit(place: usize) -> usize {
    place & place.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_prefix_sums_whatever_leaves_come_and_go() {
        let mut lengths = vec![3usize, 1, 4, 1, 5, 9, 2, 6];
        let mut ranks = Ranks::default();
        ranks.rebuild(lengths.iter().copied());
        let check = |ranks: &Ranks, lengths: &[usize]| {
            let mut rank = 0;
            for (leaf, &length) in lengths.iter().enumerate() {
                assert_eq!(ranks.before(leaf), rank);
                for at in 0..length {
                    assert_eq!(ranks.find(rank + at), (leaf, at));
                }
                rank += length;
            }
            assert_eq!(ranks.before(lengths.len()), rank);
        };
        check(&ranks, &lengths);
        for round in 0..40 {
            lengths.push(round % 7 + 1);
            ranks.push(round % 7 + 1);
            lengths[2] += 2;
            ranks.add(2, 2);
            let first = lengths.remove(0);
            ranks.add(0, -(first as i64));
            ranks.pop_front();
            if ranks.is_sparse() {
                ranks.rebuild(lengths.iter().copied());
            }
            check(&ranks, &lengths);
        }
    }
}
