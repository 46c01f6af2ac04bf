//! How many entries come before a segment: a Fenwick tree over the segments' lengths.
//!
//! Entries come and go all the time, in logarithmic time; segments do so once for
//! thousands of entries, and then the tree is built anew.

use crate::keyspace::sizes::block_bytes;

/// Prefix sums of the lengths of segments.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    /// Place `i` holds the sum of the `lowest_bit(i + 1)` lengths that end at `i`.
    sums: Vec<u64>,
}

impl Ranks {
    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.sums.capacity() * size_of::<u64>())
    }

    /// Builds the sums anew. Linear in the number of segments.
    pub(super) fn rebuild(&mut self, lengths: impl Iterator<Item = usize>) {
        self.sums.clear();
        self.sums.extend(lengths.map(|length| length as u64));
        for place in 1..=self.sums.len() {
            let parent = place + lowest_bit(place);
            if parent <= self.sums.len() {
                self.sums[parent - 1] += self.sums[place - 1];
            }
        }
    }

    /// A segment has become longer or shorter.
    pub(super) fn add(&mut self, segment: usize, by: i64) {
        let mut place = segment + 1;
        while place <= self.sums.len() {
            self.sums[place - 1] = self.sums[place - 1].wrapping_add_signed(by);
            place += lowest_bit(place);
        }
    }

    /// Entries in the segments before this one.
    pub(super) fn before(&self, segment: usize) -> usize {
        let (mut place, mut sum) = (segment, 0);
        while place > 0 {
            sum += self.sums[place - 1];
            place -= lowest_bit(place);
        }
        sum as usize
    }

    /// The segment that holds the entry of this rank, and its rank there. There must be
    /// such an entry.
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
        (place, rest as usize)
    }
}

fn lowest_bit(place: usize) -> usize {
    place & place.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_prefix_sums_whatever_segments_come_and_go() {
        let mut lengths = vec![3usize, 1, 4, 1, 5, 9, 2, 6];
        let mut ranks = Ranks::default();
        for round in 0..40 {
            ranks.rebuild(lengths.iter().copied());
            lengths[2] += 2;
            ranks.add(2, 2);
            lengths[0] -= 1;
            ranks.add(0, -1);
            let mut rank = 0;
            for (segment, &length) in lengths.iter().enumerate() {
                assert_eq!(ranks.before(segment), rank);
                for at in 0..length {
                    assert_eq!(ranks.find(rank + at), (segment, at));
                }
                rank += length;
            }
            assert_eq!(ranks.before(lengths.len()), rank);
            lengths.push(round % 7 + 1);
            if lengths[0] == 0 || round % 3 == 0 {
                lengths.remove(0);
            }
        }
    }
}
