//! The big form of a list: elements in blocks, blocks in segments.
//!
//! ```text
//! segments   [ 0 … 127 blocks ] [ … ] …        shared (`Arc`), copied on write
//! block      a pack of up to 4 KiB             shared, copied on write
//! ```
//!
//! Both levels keep how many elements each part holds beside the pointer to it, so
//! an index is found without following more than two. A clone is the list of
//! segments: a pointer for some forty thousand small elements.
//!
//! # Invariants
//!
//! 1. No block and no segment is empty; with the last element the form ends.
//! 2. A block of more than [`BLOCK_BYTES`] holds one element.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::keyspace::pack::{Pack, packed_len};
use crate::keyspace::sizes::block_bytes;

/// Bytes of a full block. Tests have small ones, to split and to join often.
pub(super) const BLOCK_BYTES: usize = if cfg!(test) { 64 } else { 4 << 10 };

/// Blocks of a full segment.
const SEGMENT_LEN: usize = if cfg!(test) { 4 } else { 128 };

/// A part of the list with the number of elements in it.
#[derive(Debug)]
struct Span<T> {
    len: usize,
    part: Arc<T>,
}

impl<T> Clone for Span<T> {
    fn clone(&self) -> Span<T> {
        Span { len: self.len, part: Arc::clone(&self.part) }
    }
}

type Block = Span<Pack>;
type Segment = VecDeque<Block>;

/// What an `Arc` takes beside what it holds.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

impl Block {
    fn new(pack: Pack) -> Block {
        Block { len: pack.len(), part: Arc::new(pack) }
    }

    fn fits(&self, text: &[u8]) -> bool {
        self.part.end() + packed_len(text.len()) <= BLOCK_BYTES
    }
}

/// Elements in order. See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    segments: VecDeque<Span<Segment>>,
    len: usize,
    block_count: usize,
    /// Bytes of all packs.
    bytes: usize,
}

/// Where an element stands: in which block of which segment, and in it at which
/// place of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    segment: usize,
    block: usize,
    pub(super) place: usize,
}

/// Reading.
impl Blocks {
    /// The elements of one pack, which must not be empty.
    pub(super) fn new(pack: Pack) -> Blocks {
        let (len, bytes) = (pack.len(), pack.heap_bytes());
        let segment = VecDeque::from([Block::new(pack)]);
        let segments = VecDeque::from([Span { len, part: Arc::new(segment) }]);
        Blocks { segments, len, block_count: 1, bytes }
    }

    /// Elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place of the element of this index; of the length, behind the last.
    pub(super) fn place(&self, index: usize) -> Place {
        let (segment, block, within) = self.locate(index);
        let pack = self.segments.get(segment).and_then(|it| it.part.get(block));
        let place = pack.map_or(0, |block| block.part.place_of(within));
        Place { segment, block, place }
    }

    /// The element at or behind a place, which is moved behind it.
    pub(super) fn next(&self, at: &mut Place) -> &[u8] {
        let mut pack = self.pack(*at);
        if at.place == pack.end() {
            (at.block, at.place) = (at.block + 1, 0);
            if at.block == self.segments[at.segment].part.len() {
                (at.segment, at.block) = (at.segment + 1, 0);
            }
            pack = self.pack(*at);
        }
        let (text, next) = pack.read(at.place);
        at.place = next;
        text
    }

    /// The element before a place, which is moved before it.
    pub(super) fn next_back(&self, at: &mut Place) -> &[u8] {
        if at.place == 0 {
            if at.block == 0 {
                at.segment -= 1;
                at.block = self.segments[at.segment].part.len();
            }
            at.block -= 1;
            at.place = self.pack(*at).end();
        }
        let (text, place) = self.pack(*at).read_before(at.place);
        at.place = place;
        text
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let block = block_bytes(size_of::<Pack>() + COUNTS_BYTES) + size_of::<Block>();
        let segment = block_bytes(size_of::<Segment>() + COUNTS_BYTES) + size_of::<Span<Segment>>();
        self.bytes + self.block_count * block + self.segments.len() * segment
    }

    fn pack(&self, at: Place) -> &Pack {
        &self.segments[at.segment].part[at.block].part
    }

    /// Segment, block, and the index within the block.
    fn locate(&self, index: usize) -> (usize, usize, usize) {
        let (segment, index) = locate(&self.segments, self.len, index);
        let Some(found) = self.segments.get(segment) else { return (0, 0, 0) };
        let (block, within) = locate(&found.part, found.len, index);
        (segment, block, within)
    }
}

/// The part that holds an index, and the index within it; the end of the last for
/// the length. Searched from the nearer end.
fn locate<T>(parts: &VecDeque<Span<T>>, len: usize, index: usize) -> (usize, usize) {
    if index <= len / 2 {
        let mut rest = index;
        for (at, part) in parts.iter().enumerate() {
            if rest < part.len {
                return (at, rest);
            }
            rest -= part.len;
        }
    } else {
        let mut rest = len - index;
        for (at, part) in parts.iter().enumerate().rev() {
            if rest <= part.len {
                return (at, part.len - rest);
            }
            rest -= part.len;
        }
    }
    (0, 0)
}

/// Changing.
impl Blocks {
    /// Puts an element before the one of this index, or at the end.
    pub(super) fn insert(&mut self, index: usize, text: &[u8]) {
        let (segment, mut block, mut within) = self.locate(index);
        let blocks = &self.segments[segment].part;
        if !blocks[block].fits(text) {
            if within == 0 && block > 0 && blocks[block - 1].fits(text) {
                (block, within) = (block - 1, blocks[block - 1].len);
            } else if within == 0 {
                return self.insert_block(segment, block, text);
            } else {
                if within < blocks[block].len {
                    self.split(segment, block, within);
                }
                if !self.segments[segment].part[block].fits(text) {
                    return self.insert_block(segment, block + 1, text);
                }
            }
        }
        self.change(segment, block, |pack| {
            let place = pack.place_of(within);
            pack.splice(place..place, 0, &[text]);
        });
        self.halve(segment);
    }

    /// Puts another element into the place of one, which is shown to `was`.
    pub(super) fn replace(&mut self, index: usize, text: &[u8], was: impl FnOnce(&[u8])) {
        let (segment, block, within) = self.locate(index);
        let found = &self.segments[segment].part[block];
        if found.len > 1 && !found.fits(text) {
            let mut was = Some(was);
            self.remove(index..index + 1, |old| was.take().into_iter().for_each(|was| was(old)));
            return self.insert(index, text);
        }
        self.change(segment, block, |pack| {
            let place = pack.place_of(within);
            let (old, end) = pack.read(place);
            was(old);
            pack.splice(place..end, 1, &[text]);
        });
    }

    /// Takes elements out, after showing each to `each`.
    pub(super) fn remove(&mut self, range: Range<usize>, mut each: impl FnMut(&[u8])) {
        let mut remaining = range.len();
        while remaining > 0 {
            // What follows moves up to the same index.
            let (segment, block, within) = self.locate(range.start);
            let found = &self.segments[segment].part[block];
            let count = remaining.min(found.len - within);
            found.part.iter_from(found.part.place_of(within)).take(count).for_each(&mut each);
            if count == found.len {
                self.remove_block(segment, block);
            } else {
                self.change(segment, block, |pack| {
                    let places = pack.place_of(within)..pack.place_of(within + count);
                    pack.splice(places, count, &[]);
                });
                self.join(segment, block);
            }
            remaining -= count;
        }
    }

    /// Changes a block, copying it and its segment if they are shared.
    fn change(&mut self, segment: usize, block: usize, change: impl FnOnce(&mut Pack)) {
        let segment = &mut self.segments[segment];
        let block = &mut Arc::make_mut(&mut segment.part)[block];
        let before = block.len;
        // Counted before the copy, which may have less room.
        self.bytes -= block.part.heap_bytes();
        let pack = Arc::make_mut(&mut block.part);
        change(pack);
        self.bytes += pack.heap_bytes();
        block.len = pack.len();
        segment.len = segment.len + block.len - before;
        self.len = self.len + block.len - before;
    }

    /// Puts an element in a block of its own at this place of a segment, or in a
    /// segment of its own at either end of a full one.
    fn insert_block(&mut self, segment: usize, block: usize, text: &[u8]) {
        let mut pack = Pack::default();
        pack.push(text);
        self.bytes += pack.heap_bytes();
        self.block_count += 1;
        self.len += 1;
        let new = Block::new(pack);
        let full_len = self.segments[segment].part.len();
        if full_len >= SEGMENT_LEN && (block == 0 || block == full_len) {
            let new = Span { len: 1, part: Arc::new(VecDeque::from([new])) };
            return self.segments.insert(segment + usize::from(block > 0), new);
        }
        let span = &mut self.segments[segment];
        span.len += 1;
        let blocks = Arc::make_mut(&mut span.part);
        blocks.insert(block, new);
        self.halve(segment);
    }

    /// Splits a segment in two if it holds too many blocks.
    fn halve(&mut self, segment: usize) {
        let span = &mut self.segments[segment];
        if span.part.len() > SEGMENT_LEN {
            let right = Arc::make_mut(&mut span.part).split_off(SEGMENT_LEN / 2);
            let len = right.iter().map(|block| block.len).sum();
            span.len -= len;
            self.segments.insert(segment + 1, Span { len, part: Arc::new(right) });
        }
    }

    fn remove_block(&mut self, segment: usize, block: usize) {
        let span = &mut self.segments[segment];
        let Some(gone) = Arc::make_mut(&mut span.part).remove(block) else { return };
        span.len -= gone.len;
        self.len -= gone.len;
        self.bytes -= gone.part.heap_bytes();
        self.block_count -= 1;
        if span.len == 0 {
            self.segments.remove(segment);
        }
    }

    /// Splits a block in two before an element of it. The segment may be too long
    /// afterwards.
    fn split(&mut self, segment: usize, block: usize, within: usize) {
        let span = &mut self.segments[segment];
        let blocks = Arc::make_mut(&mut span.part);
        let old = &blocks[block];
        let (mut left, mut right) = (Pack::default(), Pack::default());
        for (at, text) in old.part.iter().enumerate() {
            if at < within { left.push(text) } else { right.push(text) }
        }
        self.bytes += left.heap_bytes() + right.heap_bytes();
        self.bytes -= old.part.heap_bytes();
        self.block_count += 1;
        blocks[block] = Block::new(left);
        blocks.insert(block + 1, Block::new(right));
    }

    /// Joins a block with the next of its segment when both have become small.
    fn join(&mut self, segment: usize, block: usize) {
        let blocks = &self.segments[segment].part;
        let Some(next) = blocks.get(block + 1) else { return };
        if blocks[block].part.end() + next.part.end() > BLOCK_BYTES / 2 {
            return;
        }
        let next = Arc::clone(&next.part);
        self.remove_block(segment, block + 1);
        self.change(segment, block, |pack| next.iter().for_each(|text| pack.push(text)));
    }
}

#[cfg(test)]
impl Blocks {
    /// Fails where an invariant does not hold.
    pub(super) fn check(&self) {
        let mut sums = (0, 0, 0);
        for segment in &self.segments {
            assert!(segment.len > 0 && segment.part.len() <= SEGMENT_LEN);
            assert_eq!(segment.len, segment.part.iter().map(|it| it.len).sum::<usize>());
            for block in segment.part.iter() {
                assert!(block.len > 0 && block.len == block.part.len());
                assert!(block.len == 1 || block.part.end() <= BLOCK_BYTES);
                let (len, bytes, count) = sums;
                sums = (len + block.len, bytes + block.part.heap_bytes(), count + 1);
            }
        }
        assert_eq!(sums, (self.len, self.bytes, self.block_count));
    }
}
