//! The entries of a big sorted set: in order, in leaves, and those in segments.
//!
//! ```text
//! segments   [ 0 … 255 leaves ] [ … ] …      shared (`Arc`), copied on write
//! leaf       a run of up to 512 entries      shared, copied on write
//! ranks      how many entries come before each segment
//! ```
//!
//! A frozen copy is the list of segments: one pointer for up to 131 072 entries. Whoever
//! changes an entry afterwards copies the pointers of one segment, and one leaf.
//! Nothing here walks all leaves but who asks for all entries; what walks all segments
//! (a freeze; a segment that comes or goes) does not follow their pointers, but that a
//! freeze counts itself in at each.
//!
//! A segment keeps the first score and the length of each of its leaves in columns, so
//! that a search looks at little memory and follows one pointer, to the leaf it names.
//!
//! # Room
//!
//! An entry that finds its leaf full goes into the next one, if it belongs between
//! the two, or into a new one there; only in the middle of a leaf does it split it. So
//! entries that come in order, rising or falling, leave full leaves behind. Segments
//! take leaves in the same way.
//!
//! # Invariants
//!
//! 1. No leaf and no segment is empty, and each leaf's entries come before the next
//!    one's.
//! 2. Lengths, first scores and `ranks` are those of the leaves.
//! 3. A leaf with more than [`LEAF_BYTES`] of texts holds one entry. (Numbers count for
//!    nothing: one text among them makes texts of them all.)

use std::ops::Range;
use std::sync::Arc;

use super::ranks::Ranks;
use super::run::Run;
use crate::keyspace::arg::Text;
use crate::keyspace::sizes::block_bytes;

/// Entries of a full leaf. Tests have small ones, to split and to join often.
const LEAF_LEN: usize = if cfg!(test) { 8 } else { 512 };

/// Bytes of texts in a full leaf.
const LEAF_BYTES: usize = 64 << 10;

/// Leaves of a full segment.
const SEGMENT_LEN: usize = if cfg!(test) { 4 } else { 256 };

/// Two leaves side by side that have become this small together become one, and so do
/// two segments. One of them then has half of it at the most.
const JOINED_LEAF_LEN: usize = LEAF_LEN / 4 * 3;
const JOINED_SEGMENT_LEN: usize = SEGMENT_LEN / 4 * 3;

/// Lengths of leaves that are added up at once: their sum fits 16 bits.
const SUM_LEN: usize = 64;

/// What an `Arc` takes beside what it holds.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

type Leaf = Run<false>;

/// A segment: what is known of its leaves, and they themselves, in columns.
#[derive(Clone, Debug, Default)]
struct Segment {
    firsts: Vec<f64>,
    lens: Vec<u16>,
    leaves: Vec<Arc<Leaf>>,
}

/// Reading.
impl Segment {
    fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// Entries in these leaves.
    fn len_of(&self, leaves: Range<usize>) -> usize {
        // In 16 bits this compiles to few vector additions.
        let sums = self.lens[leaves].chunks(SUM_LEN).map(|lens| lens.iter().sum::<u16>());
        sums.map(usize::from).sum()
    }

    /// The leaf where a member with this score is or belongs: the last one that does
    /// not begin after it, or the first.
    fn leaf_for(&self, score: f64, member: &[u8]) -> usize {
        let lower = self.firsts.partition_point(|first| *first < score);
        let equal = self.firsts[lower..].partition_point(|first| *first == score);
        let ties = &self.leaves[lower..lower + equal];
        (lower + ties.partition_point(|leaf| begins_by(leaf, member))).saturating_sub(1)
    }

    /// The leaf that holds the entry of this rank, and where in it.
    fn find(&self, mut rank: usize) -> (usize, usize) {
        let mut leaf = 0;
        for step in [SUM_LEN, SUM_LEN / 8, 1] {
            while leaf + step < self.leaf_count() {
                let len = self.len_of(leaf..leaf + step);
                if rank < len {
                    break;
                }
                (leaf, rank) = (leaf + step, rank - len);
            }
        }
        (leaf, rank)
    }

    /// Bytes that the columns have on the heap, and the segment itself.
    fn heap_bytes(&self) -> usize {
        block_bytes(size_of::<Segment>() + COUNTS_BYTES)
            + block_bytes(self.firsts.capacity() * size_of::<f64>())
            + block_bytes(self.lens.capacity() * size_of::<u16>())
            + block_bytes(self.leaves.capacity() * size_of::<Arc<Leaf>>())
    }
}

/// True if the leaf's first member is not behind this one.
fn begins_by(leaf: &Leaf, member: &[u8]) -> bool {
    *leaf.member(0) <= *member
}

/// Bytes of a leaf on the heap.
fn leaf_bytes(leaf: &Leaf) -> usize {
    block_bytes(size_of::<Leaf>() + COUNTS_BYTES) + leaf.heap_bytes()
}

/// True if a leaf may take this member in.
fn has_room(leaf: &Leaf, member: &[u8]) -> bool {
    leaf.len() < LEAF_LEN && leaf.text_bytes() + member.len() <= LEAF_BYTES
}

/// Changing.
impl Segment {
    fn insert(&mut self, at: usize, leaf: Leaf) {
        self.firsts.insert(at, leaf.score(0));
        self.lens.insert(at, leaf.len() as u16);
        self.leaves.insert(at, Arc::new(leaf));
    }

    fn remove(&mut self, at: usize) -> Arc<Leaf> {
        self.firsts.remove(at);
        self.lens.remove(at);
        self.leaves.remove(at)
    }

    fn split_off(&mut self, at: usize) -> Segment {
        Segment {
            firsts: self.firsts.split_off(at),
            lens: self.lens.split_off(at),
            leaves: self.leaves.split_off(at),
        }
    }

    fn append(&mut self, mut next: Segment) {
        self.firsts.append(&mut next.firsts);
        self.lens.append(&mut next.lens);
        self.leaves.append(&mut next.leaves);
    }
}

/// A segment, and what is known of it beside the pointer.
#[derive(Clone, Debug)]
struct Span {
    first: f64,
    len: usize,
    segment: Arc<Segment>,
}

/// A place between two entries: before the entry `at` of a leaf, or behind its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    segment: usize,
    leaf: usize,
    pub(super) at: usize,
}

/// Entries in order. See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaves {
    segments: Vec<Span>,
    ranks: Ranks,
    len: usize,
    /// What segments and leaves have on the heap.
    bytes: usize,
}

/// Reading.
impl Leaves {
    /// Where this member with this score is, or where it belongs.
    pub(super) fn search(&self, score: f64, member: &[u8]) -> Result<Place, Place> {
        let after = self.segments.partition_point(|span| {
            span.first < score || span.first == score && begins_by(&span.segment.leaves[0], member)
        });
        let segment = after.saturating_sub(1);
        let Some(span) = self.segments.get(segment) else { return Err(Place::default()) };
        let leaf = span.segment.leaf_for(score, member);
        let place = |at| Place { segment, leaf, at };
        span.segment.leaves[leaf].search(score, member).map(place).map_err(place)
    }

    /// How many entries stand before a place.
    pub(super) fn rank(&self, place: Place) -> usize {
        let within = self.segments[place.segment].segment.len_of(0..place.leaf);
        self.ranks.before(place.segment) + within + place.at
    }

    /// How many entries have a lower score, or with `inclusive` one not higher.
    pub(super) fn rank_of_score(&self, score: f64, inclusive: bool) -> usize {
        let is_below = |first: f64| first < score || inclusive && first == score;
        // The last leaf that begins below the score; those before it count whole.
        let after = self.segments.partition_point(|span| is_below(span.first));
        let Some(segment) = after.checked_sub(1) else { return 0 };
        let found = &self.segments[segment].segment;
        let after = found.firsts.partition_point(|first| is_below(*first));
        let leaf = after.saturating_sub(1);
        let at = found.leaves[leaf].rank_of_score(score, inclusive);
        self.rank(Place { segment, leaf, at })
    }

    /// The place before the entry of this rank, which must be there.
    pub(super) fn place(&self, rank: usize) -> Place {
        let (segment, rank) = self.ranks.find(rank);
        let (leaf, at) = self.segments[segment].segment.find(rank);
        Place { segment, leaf, at }
    }

    /// A cursor before the entry of this rank, or behind the last.
    pub(super) fn cursor(&self, rank: usize) -> Cursor<'_> {
        if rank < self.len {
            Cursor::at(&self.segments, self.place(rank))
        } else {
            Cursor::behind_last(&self.segments)
        }
    }

    /// The leaf of a place.
    pub(super) fn leaf(&self, place: Place) -> &Arc<Leaf> {
        &self.segments[place.segment].segment.leaves[place.leaf]
    }

    /// All leaves, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.segments.iter().flat_map(|span| span.segment.leaves.iter().map(|leaf| &**leaf))
    }

    /// The entries as they are now. Copies a pointer for each segment.
    pub(super) fn freeze(&self) -> FrozenLeaves {
        FrozenLeaves { segments: self.segments.clone(), len: self.len }
    }

    /// Bytes on the heap. What a frozen copy shares counts here only.
    pub(super) fn heap_bytes(&self) -> usize {
        let list = block_bytes(self.segments.capacity() * size_of::<Span>());
        self.bytes + list + self.ranks.heap_bytes()
    }
}

/// Changing.
impl Leaves {
    /// Puts an entry in that is not there.
    pub(super) fn insert(&mut self, score: f64, member: &[u8]) {
        let (Ok(place) | Err(place)) = self.search(score, member);
        let Place { segment, leaf, at } = place;
        if self.segments.is_empty() {
            return self.insert_leaf(0, 0, leaf_of(score, member));
        }
        let found = self.leaf(place);
        if has_room(found, member) {
            self.change(place, |leaf| leaf.insert(at, score, member));
        } else if 0 < at && at < found.len() {
            // A long member ends up between the parts, others in one of them.
            let cut = if member.len() > LEAF_BYTES / 2 { at } else { found.len() / 2 };
            let right = self.change(place, |leaf| leaf.split_off(cut));
            self.insert_leaf(segment, leaf + 1, right);
            self.insert(score, member);
        } else if at == 0 {
            self.insert_leaf(segment, leaf, leaf_of(score, member));
        } else {
            match self.next_leaf(place) {
                Some(next) if has_room(self.leaf(next), member) => {
                    self.change(next, |leaf| leaf.insert(0, score, member));
                }
                _ => self.insert_leaf(segment, leaf + 1, leaf_of(score, member)),
            }
        }
    }

    /// Takes out entries of one leaf, from a place on.
    pub(super) fn remove(&mut self, place: Place, count: usize) {
        if count == self.leaf(place).len() {
            self.take_leaf(place.segment, place.leaf);
        } else {
            self.change(place, |leaf| leaf.remove(place.at..place.at + count));
            self.join_leaf(place);
        }
    }

    /// The leaf behind the one of a place.
    fn next_leaf(&self, place: Place) -> Option<Place> {
        let Place { segment, leaf, .. } = place;
        if leaf + 1 < self.segments[segment].segment.leaf_count() {
            Some(Place { segment, leaf: leaf + 1, at: 0 })
        } else if segment + 1 < self.segments.len() {
            Some(Place { segment: segment + 1, leaf: 0, at: 0 })
        } else {
            None
        }
    }

    /// Changes the leaf of a place from there on, copying it and its segment if they are
    /// shared. It must not become empty.
    fn change<T>(&mut self, place: Place, change: impl FnOnce(&mut Leaf) -> T) -> T {
        if Arc::strong_count(&self.segments[place.segment].segment) > 1 {
            self.reshape(place.segment, |_| {});
        }
        let span = &mut self.segments[place.segment];
        let segment = Arc::make_mut(&mut span.segment);
        let leaf = &mut segment.leaves[place.leaf];
        let (len, bytes) = (leaf.len(), leaf.heap_bytes());
        let leaf = Arc::make_mut(leaf);
        let result = change(leaf);
        if place.at == 0 {
            segment.firsts[place.leaf] = leaf.score(0);
            span.first = segment.firsts[0];
        }
        segment.lens[place.leaf] = leaf.len() as u16;
        span.len = span.len - len + leaf.len();
        self.len = self.len - len + leaf.len();
        self.bytes = self.bytes - bytes + leaf.heap_bytes();
        self.ranks.add(place.segment, leaf.len() as i64 - len as i64);
        result
    }

    /// Changes which leaves a segment has, copying it if it is shared: a copy may have
    /// less room. It must not become empty.
    fn reshape<T>(&mut self, segment: usize, change: impl FnOnce(&mut Segment) -> T) -> T {
        let span = &mut self.segments[segment];
        self.bytes -= span.segment.heap_bytes();
        let changed = Arc::make_mut(&mut span.segment);
        let result = change(changed);
        self.bytes += changed.heap_bytes();
        let len = changed.len_of(0..changed.leaf_count());
        self.len = self.len - span.len + len;
        self.ranks.add(segment, len as i64 - span.len as i64);
        (span.first, span.len) = (changed.firsts[0], len);
        result
    }

    /// Puts a leaf before the one of this index of a segment, or behind the last.
    fn insert_leaf(&mut self, segment: usize, at: usize, leaf: Leaf) {
        let (segment, at) = self.room_for_leaf(segment, at);
        self.bytes += leaf_bytes(&leaf);
        self.reshape(segment, |segment| segment.insert(at, leaf));
    }

    /// Where a leaf goes that belongs there, with room made for it.
    fn room_for_leaf(&mut self, segment: usize, at: usize) -> (usize, usize) {
        let count = self.leaf_count(segment);
        if count < SEGMENT_LEN {
            return (segment, at);
        }
        if at == 0 {
            self.insert_segment(segment, Segment::default());
            return (segment, 0);
        }
        if at == count {
            if self.leaf_count(segment + 1) == SEGMENT_LEN {
                self.insert_segment(segment + 1, Segment::default());
            }
            return (segment + 1, 0);
        }
        let half = count / 2;
        let right = self.reshape(segment, |segment| segment.split_off(half));
        self.insert_segment(segment + 1, right);
        if at > half { (segment + 1, at - half) } else { (segment, at) }
    }

    /// Leaves of a segment. One that is not there is as good as full.
    fn leaf_count(&self, segment: usize) -> usize {
        self.segments.get(segment).map_or(SEGMENT_LEN, |span| span.segment.leaf_count())
    }

    /// Takes a leaf off its segment, which goes too if it was the last.
    fn take_leaf(&mut self, segment: usize, at: usize) {
        self.bytes -= leaf_bytes(&self.segments[segment].segment.leaves[at]);
        if self.leaf_count(segment) == 1 {
            self.remove_segment(segment);
        } else {
            self.reshape(segment, |segment| segment.remove(at));
            self.join_segment(segment);
        }
    }

    /// Joins a leaf that has become small with one beside it in its segment.
    fn join_leaf(&mut self, place: Place) {
        let Place { segment, leaf, .. } = place;
        let found = &self.segments[segment].segment;
        let are_small = |left: &usize| {
            found.len_of(*left..left + 2) <= JOINED_LEAF_LEN
                && found.leaves[*left].text_bytes() + found.leaves[left + 1].text_bytes()
                    <= LEAF_BYTES
        };
        if usize::from(found.lens[leaf]) > JOINED_LEAF_LEN / 2 {
            return;
        }
        if let Some(left) = pairs_with(leaf, found.leaf_count()).find(are_small) {
            let right = Arc::clone(&found.leaves[left + 1]);
            self.change(Place { leaf: left, ..place }, |leaf| leaf.append(&right));
            self.take_leaf(segment, left + 1);
        }
    }

    /// Joins a segment that has become small with one beside it.
    fn join_segment(&mut self, segment: usize) {
        let are_small =
            |left: &usize| self.leaf_count(*left) + self.leaf_count(left + 1) <= JOINED_SEGMENT_LEN;
        if let Some(left) = pairs_with(segment, self.segments.len()).find(are_small) {
            let right = self.remove_segment(left + 1);
            self.reshape(left, |segment| segment.append(right));
        }
    }

    fn insert_segment(&mut self, at: usize, segment: Segment) {
        let len = segment.len_of(0..segment.leaf_count());
        self.len += len;
        self.bytes += segment.heap_bytes();
        let first = segment.firsts.first().copied().unwrap_or_default();
        self.segments.insert(at, Span { first, len, segment: Arc::new(segment) });
        self.ranks.rebuild(self.segments.iter().map(|span| span.len));
    }

    fn remove_segment(&mut self, at: usize) -> Segment {
        let Span { len, segment, .. } = self.segments.remove(at);
        self.len -= len;
        self.bytes -= segment.heap_bytes();
        self.ranks.rebuild(self.segments.iter().map(|span| span.len));
        Arc::unwrap_or_clone(segment)
    }
}

/// The left ones of the pairs that one of `count` makes with those beside it.
fn pairs_with(at: usize, count: usize) -> impl Iterator<Item = usize> {
    (at.saturating_sub(1)..=at).filter(move |left| left + 1 < count)
}

/// A leaf of one entry.
fn leaf_of(score: f64, member: &[u8]) -> Leaf {
    let mut leaf = Leaf::default();
    leaf.insert(0, score, member);
    leaf
}

/// The entries as they were at a moment, see [`Leaves::freeze`].
#[derive(Clone, Debug)]
pub(super) struct FrozenLeaves {
    segments: Vec<Span>,
    len: usize,
}

impl FrozenLeaves {
    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Cursors before the first entry and behind the last.
    pub(super) fn ends(&self) -> [Cursor<'_>; 2] {
        [Cursor::at(&self.segments, Place::default()), Cursor::behind_last(&self.segments)]
    }
}

/// A place between two entries, to read from it either way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    segments: &'a [Span],
    place: Place,
    /// The leaf of the place; `None` if there are no entries.
    leaf: Option<&'a Leaf>,
}

impl<'a> Cursor<'a> {
    /// The cursor so many entries further on, if that is in the same leaf.
    pub(super) fn ahead(mut self, count: usize) -> Option<Cursor<'a>> {
        self.place.at += count;
        (self.place.at <= self.leaf?.len()).then_some(self)
    }

    fn at(segments: &'a [Span], place: Place) -> Cursor<'a> {
        let span = segments.get(place.segment);
        let leaf = span.and_then(|span| span.segment.leaves.get(place.leaf));
        Cursor { segments, place, leaf: leaf.map(|leaf| &**leaf) }
    }

    fn behind_last(segments: &'a [Span]) -> Cursor<'a> {
        let Some(last) = segments.last() else { return Cursor::at(segments, Place::default()) };
        let (segment, leaf) = (segments.len() - 1, last.segment.leaf_count() - 1);
        let at = last.segment.leaves[leaf].len();
        Cursor::at(segments, Place { segment, leaf, at })
    }

    /// The entry behind the cursor, which moves behind it.
    pub(super) fn next(&mut self) -> Option<(Text<'a>, f64)> {
        if self.place.at == self.leaf?.len() {
            let Place { mut segment, mut leaf, .. } = self.place;
            leaf += 1;
            if leaf == self.segments[segment].segment.leaf_count() {
                (segment, leaf) = (segment + 1, 0);
            }
            *self = Cursor::at(self.segments, Place { segment, leaf, at: 0 });
        }
        self.place.at += 1;
        Some(self.leaf?.entry(self.place.at - 1))
    }

    /// The entry before the cursor, which moves before it.
    pub(super) fn next_back(&mut self) -> Option<(Text<'a>, f64)> {
        if self.place.at == 0 {
            let Place { mut segment, mut leaf, .. } = self.place;
            if leaf == 0 {
                segment = segment.checked_sub(1)?;
                leaf = self.segments[segment].segment.leaf_count();
            }
            leaf -= 1;
            let at = self.segments[segment].segment.leaves[leaf].len();
            *self = Cursor::at(self.segments, Place { segment, leaf, at });
        }
        self.place.at -= 1;
        Some(self.leaf?.entry(self.place.at))
    }
}

#[cfg(test)]
impl Leaves {
    /// Fails where an invariant does not hold.
    pub(super) fn check(&self) {
        let (mut len, mut bytes, mut last) = (0, 0, None::<(f64, Vec<u8>)>);
        for (at, span) in self.segments.iter().enumerate() {
            assert_eq!(self.ranks.before(at), len);
            let segment = &span.segment;
            assert!((1..=SEGMENT_LEN).contains(&segment.leaf_count()));
            assert_eq!(span.len, segment.len_of(0..segment.leaf_count()));
            assert_eq!(span.first, segment.firsts[0]);
            bytes += segment.heap_bytes();
            for (at, leaf) in segment.leaves.iter().enumerate() {
                assert!((1..=LEAF_LEN).contains(&leaf.len()));
                assert_eq!(usize::from(segment.lens[at]), leaf.len());
                assert_eq!(segment.firsts[at].to_bits(), leaf.score(0).to_bits());
                assert!(leaf.len() == 1 || leaf.text_bytes() <= LEAF_BYTES);
                bytes += leaf_bytes(leaf);
                for place in 0..leaf.len() {
                    let (member, score) = leaf.entry(place);
                    let next = (score, member.to_vec());
                    assert!(last.is_none_or(|last| last < next), "entries rise");
                    last = Some(next);
                }
            }
            len += span.len;
        }
        assert_eq!((self.len, self.bytes), (len, bytes), "the account is kept");
        assert_eq!(self.ranks.before(self.segments.len()), len);
    }
}

#[cfg(test)]
mod tests {
    //! Leaves against a sorted `Vec`, and what copies share, counted.

    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Model = Vec<(u16, Vec<u8>)>;

    #[derive(Clone, Debug)]
    enum Step {
        /// A score, and how long its member is.
        Insert(u16, usize),
        /// Entries in order from a score on, rising or falling.
        InsertMany(u16, usize, bool),
        /// A rank, in parts of 65 536.
        Remove(u16),
        RemoveRange(u16, usize),
        Freeze,
        Thaw,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![9 => 2usize..12, 1 => 20_000usize..70_000];
        prop_oneof![
            9 => (any::<u16>(), len).prop_map(|(score, len)| Step::Insert(score, len)),
            3 => (any::<u16>(), 1usize..60, any::<bool>())
                .prop_map(|(from, count, is_rising)| Step::InsertMany(from, count, is_rising)),
            9 => any::<u16>().prop_map(Step::Remove),
            2 => (any::<u16>(), 1usize..60).prop_map(|(from, count)| Step::RemoveRange(from, count)),
            1 => Just(Step::Freeze),
            1 => Just(Step::Thaw),
        ]
    }

    /// A member that says its score, so that it is there once; many scores are equal.
    fn member(score: u16, len: usize) -> Vec<u8> {
        let mut member = format!("{score:05}").into_bytes();
        member.resize(len.max(5), b'x');
        member
    }

    fn insert(leaves: &mut Leaves, model: &mut Model, number: u16, len: usize) {
        let entry = (number / 8, member(number, len));
        if let Err(at) = model.binary_search(&entry) {
            assert!(leaves.search(f64::from(entry.0), &entry.1).is_err());
            leaves.insert(f64::from(entry.0), &entry.1);
            model.insert(at, entry);
        }
    }

    /// Takes entries out, leaf by leaf.
    fn remove(leaves: &mut Leaves, model: &mut Model, ranks: Range<usize>) {
        let ranks = ranks.start.min(model.len())..ranks.end.min(model.len());
        let mut remaining = ranks.len();
        while remaining > 0 {
            let place = leaves.place(ranks.start);
            let count = remaining.min(leaves.leaf(place).len() - place.at);
            leaves.remove(place, count);
            remaining -= count;
        }
        model.drain(ranks);
    }

    fn listed(leaves: &FrozenLeaves) -> Model {
        let [mut front, mut back] = leaves.ends();
        let entry = |(member, score): (Text<'_>, f64)| (score as u16, member.to_vec());
        let forward: Model = (0..leaves.len()).filter_map(|_| front.next()).map(entry).collect();
        let backward = (0..leaves.len()).filter_map(|_| back.next_back()).map(entry);
        assert!(backward.eq(forward.iter().rev().cloned()), "both ways are the same");
        forward
    }

    fn alike(leaves: &Leaves, model: &Model) {
        assert_eq!(&listed(&leaves.freeze()), model);
        for (rank, (score, member)) in model.iter().enumerate() {
            let place = leaves.search(f64::from(*score), member).expect("it is there");
            assert_eq!((leaves.rank(place), leaves.place(rank)), (rank, place));
            let mut cursor = leaves.cursor(rank);
            assert_eq!(cursor.next().map(|it| it.0.to_vec()).as_ref(), Some(member));
            let score = f64::from(*score);
            let below = model.partition_point(|it| f64::from(it.0) < score);
            let not_above = model.partition_point(|it| f64::from(it.0) <= score);
            assert_eq!(leaves.rank_of_score(score, false), below);
            assert_eq!(leaves.rank_of_score(score, true), not_above);
        }
        assert!(leaves.cursor(model.len()).next().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn leaves_are_a_sorted_list_and_frozen_copies_stay_as_they_were(
            steps in vec(step(), 0..120),
        ) {
            let (mut leaves, mut model) = (Leaves::default(), Model::new());
            let mut frozen: Vec<(FrozenLeaves, Model)> = Vec::new();
            for step in steps {
                let rank_of = |part: u16| (usize::from(part) * model.len()) >> 16;
                match step {
                    Step::Insert(number, len) => insert(&mut leaves, &mut model, number, len),
                    Step::InsertMany(from, count, is_rising) => {
                        for by in 0..count as u16 {
                            let by = if is_rising { by } else { count as u16 - by };
                            insert(&mut leaves, &mut model, from.wrapping_add(by), 5);
                        }
                    }
                    Step::Remove(part) => {
                        let rank = rank_of(part);
                        remove(&mut leaves, &mut model, rank..rank + 1);
                    }
                    Step::RemoveRange(part, count) => {
                        let rank = rank_of(part);
                        remove(&mut leaves, &mut model, rank..rank + count);
                    }
                    Step::Freeze => frozen.push((leaves.freeze(), model.clone())),
                    Step::Thaw => drop(frozen.pop()),
                }
                leaves.check();
            }
            alike(&leaves, &model);
            for (frozen, model) in &frozen {
                prop_assert_eq!(&listed(frozen), model);
            }
            let len = model.len();
            remove(&mut leaves, &mut model, 0..len);
            leaves.check();
            prop_assert!(leaves.segments.is_empty());
        }
    }

    /// Numbers that rise, that fall, or that come in no order.
    fn filled(count: u32, order: fn(u32, u32) -> u32) -> Leaves {
        let mut leaves = Leaves::default();
        for at in 0..count {
            let number = order(at, count);
            leaves.insert(f64::from(number), number.to_string().as_bytes());
        }
        leaves
    }

    const ORDERS: [fn(u32, u32) -> u32; 3] =
        [|at, _| at, |at, count| count - at, |at, count| (at * 7_919) % count];

    /// Addresses of the segments, and of the leaves.
    fn places(segments: &[Span]) -> (HashSet<usize>, HashSet<usize>) {
        let leaves = segments.iter().flat_map(|span| &span.segment.leaves);
        let segments = segments.iter().map(|span| Arc::as_ptr(&span.segment).addr());
        (segments.collect(), leaves.map(|leaf| Arc::as_ptr(leaf).addr()).collect())
    }

    #[test]
    fn a_freeze_copies_a_pointer_a_segment_and_a_first_change_one_segment_and_one_leaf() {
        for order in ORDERS {
            let count = 10_007;
            let mut leaves = filled(count, order);
            let (frozen, bytes) = (leaves.freeze(), leaves.heap_bytes());
            // In no order, leaves and segments are half full at the least.
            let full = (LEAF_LEN * SEGMENT_LEN) as u32;
            assert!(frozen.segments.len() <= (count * 4 / full) as usize + 1);
            assert_eq!(places(&frozen.segments), places(&leaves.segments), "all is shared");
            for (number, is_first) in [(5_000, true), (5_001, false)] {
                let (segments, held) = places(&leaves.segments);
                let place = leaves.search(f64::from(number), b"x").unwrap_err();
                leaves.change(place, |_| {});
                let changed = places(&leaves.segments);
                let copied = |a: &HashSet<usize>, b: &HashSet<usize>| a.difference(b).count();
                let expected = usize::from(is_first);
                assert_eq!(copied(&changed.0, &segments), expected, "segments");
                assert!(copied(&changed.1, &held) <= 1, "leaves");
            }
            leaves.check();
            assert!(leaves.heap_bytes() <= bytes, "a copy has no more room");
        }
    }

    #[test]
    fn entries_in_order_leave_full_leaves_and_segments_behind() {
        for order in [ORDERS[0], ORDERS[1]] {
            let leaves = filled(1_000, order);
            let leaf_count = leaves.iter().count();
            assert_eq!(leaf_count, 1_000_usize.div_ceil(LEAF_LEN));
            assert_eq!(leaves.segments.len(), leaf_count.div_ceil(SEGMENT_LEN));
        }
    }

    #[test]
    fn what_has_become_small_is_joined() {
        let mut leaves = filled(10_007, ORDERS[2]);
        // All but each hundredth go, one by one.
        for number in (0..10_007).filter(|number| number % 100 > 0) {
            let member = number.to_string();
            let place = leaves.search(f64::from(number), member.as_bytes());
            leaves.remove(place.expect("it is there"), 1);
        }
        leaves.check();
        let full = LEAF_LEN * SEGMENT_LEN;
        assert!(leaves.segments.len() <= 101 * 8 / full + 1, "{} segments", leaves.segments.len());
    }

    #[test]
    fn a_long_member_has_a_leaf_of_its_own_that_others_do_not_copy() {
        let mut leaves = Leaves::default();
        (0..5).for_each(|at| leaves.insert(f64::from(at), format!("m{at}").as_bytes()));
        leaves.insert(2.5, &vec![b'x'; LEAF_BYTES * 4]);
        (0..40).for_each(|at| leaves.insert(2.0 + f64::from(at) / 40.0, b"more"));
        leaves.check();
        assert!(leaves.iter().any(|leaf| leaf.text_bytes() > LEAF_BYTES && leaf.len() == 1));
    }
}
