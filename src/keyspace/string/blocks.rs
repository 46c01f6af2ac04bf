//! The large form of a string: bytes in blocks, blocks in segments.
//!
//! ```text
//! segments   [ 128 blocks ] [ 128 blocks ] [ … ]   shared (`Arc`), copied on write
//! block      64 KiB                                shared, copied on write
//! ```
//!
//! Both levels are full but at the end, so a byte is found by division. A clone is the
//! list of segments: a pointer for 8 MiB. Whoever writes copies, of what is shared,
//! the blocks that he writes into and the pointers of their segments. What grows is
//! never moved but within its last block. Zeros that fill a gap are one block, in as
//! many places as it takes.
//!
//! # Invariants
//!
//! 1. Every segment but the last holds [`SEGMENT_LEN`] blocks, every block but the last
//!    [`BLOCK_LEN`] bytes. None has room for more, so what is full takes a known room.
//! 2. No segment and no block is empty.

use std::ops::Range;
use std::sync::Arc;

use crate::keyspace::sizes::block_bytes;

/// Bytes of a full block. Tests have small ones, to cross and to share often.
pub(super) const BLOCK_LEN: usize = if cfg!(test) { 64 } else { 64 << 10 };

/// Blocks of a full segment.
pub(super) const SEGMENT_LEN: usize = if cfg!(test) { 4 } else { 128 };

type Block = Vec<u8>;
type Segment = Vec<Arc<Block>>;

/// What an `Arc` of a vector takes: its counts beside the vector.
const SHARED_BYTES: usize = 2 * size_of::<usize>() + size_of::<Block>();

/// Bytes in blocks. See the module's header.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    segments: Vec<Arc<Segment>>,
}

impl From<&[u8]> for Blocks {
    fn from(text: &[u8]) -> Blocks {
        let mut blocks = Blocks { segments: Vec::new() };
        text.chunks(BLOCK_LEN).for_each(|piece| blocks.push(Arc::new(piece.to_vec())));
        blocks
    }
}

impl Blocks {
    /// Begins with bytes that have room for one block at most.
    pub(super) fn starting_with(first: Block) -> Blocks {
        debug_assert!(first.capacity() <= BLOCK_LEN, "a block has no more room");
        let mut blocks = Blocks { segments: Vec::new() };
        if !first.is_empty() {
            blocks.push(Arc::new(first));
        }
        blocks
    }

    /// Bytes of the string.
    pub(super) fn len(&self) -> usize {
        let Some(last) = self.segments.last() else { return 0 };
        let full = (self.segments.len() - 1) * SEGMENT_LEN + last.len() - 1;
        full * BLOCK_LEN + last.last().map_or(0, |block| block.len())
    }

    /// The bytes of a range within the string, block by block.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let blocks = range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN);
        blocks.map(move |number| {
            let start = number * BLOCK_LEN;
            let within = range.start.max(start) - start..range.end.min(start + BLOCK_LEN) - start;
            &self.segments[number / SEGMENT_LEN][number % SEGMENT_LEN][within]
        })
    }

    /// Bytes on the heap, in constant time. What is shared counts for each who has it.
    pub(super) fn heap_bytes(&self) -> usize {
        let vector = |bytes| block_bytes(SHARED_BYTES) + block_bytes(bytes);
        let segment = |room| vector(room * size_of::<Arc<Block>>());
        let list = block_bytes(self.segments.capacity() * size_of::<Arc<Segment>>());
        let Some((last, full)) = self.segments.split_last() else { return list };
        let full_segment = segment(SEGMENT_LEN) + SEGMENT_LEN * vector(BLOCK_LEN);
        let last_block = last.last().map_or(0, |block| vector(block.capacity()));
        let blocks = (last.len() - 1) * vector(BLOCK_LEN) + last_block;
        list + full.len() * full_segment + segment(last.capacity()) + blocks
    }

    /// Writes `text` over the bytes from `at` on, and behind them what is left of it.
    pub(super) fn overwrite(&mut self, at: usize, text: &[u8]) {
        self.extend_with_zeros(at);
        let (over, beyond) = text.split_at(text.len().min(self.len() - at));
        let (mut at, mut rest) = (at, over);
        while !rest.is_empty() {
            let within = at % BLOCK_LEN;
            let (piece, after) = rest.split_at(rest.len().min(BLOCK_LEN - within));
            self.block_mut(at / BLOCK_LEN)[within..within + piece.len()].copy_from_slice(piece);
            (at, rest) = (at + piece.len(), after);
        }
        self.append(beyond);
    }

    /// Cuts the string to a length that is not 0.
    pub(super) fn truncate(&mut self, len: usize) {
        debug_assert!(len > 0, "no block is empty");
        if len >= self.len() {
            return;
        }
        let last = (len - 1) / BLOCK_LEN;
        self.segments.truncate(last / SEGMENT_LEN + 1);
        Arc::make_mut(&mut self.segments[last / SEGMENT_LEN]).truncate(last % SEGMENT_LEN + 1);
        self.block_mut(last).truncate(len - last * BLOCK_LEN);
    }

    fn append(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let len = self.len();
            let room = BLOCK_LEN - len % BLOCK_LEN;
            let (piece, rest) = text.split_at(text.len().min(room));
            if room == BLOCK_LEN {
                self.push(Arc::new(piece.to_vec()));
            } else {
                let last = self.block_mut(len / BLOCK_LEN);
                let needed = last.len() + piece.len();
                if needed > last.capacity() {
                    last.reserve_exact((2 * needed).min(BLOCK_LEN) - last.len());
                }
                last.extend_from_slice(piece);
            }
            text = rest;
        }
    }

    /// Appends zeros until the string has `len` bytes at least.
    fn extend_with_zeros(&mut self, len: usize) {
        let mut missing = len.saturating_sub(self.len());
        if missing == 0 {
            return;
        }
        let zeros = Arc::new(vec![0; BLOCK_LEN]);
        let to_block_end = self.len().next_multiple_of(BLOCK_LEN) - self.len();
        self.append(&zeros[..missing.min(to_block_end)]);
        missing = missing.saturating_sub(to_block_end);
        (0..missing / BLOCK_LEN).for_each(|_| self.push(Arc::clone(&zeros)));
        self.append(&zeros[..missing % BLOCK_LEN]);
    }

    fn push(&mut self, block: Arc<Block>) {
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT_LEN => {
                let last = Arc::make_mut(last);
                if last.len() == last.capacity() {
                    last.reserve_exact(last.len().min(SEGMENT_LEN - last.len()));
                }
                last.push(block);
            }
            _ => self.segments.push(Arc::new(vec![block])),
        }
    }

    /// A block to be written into; it is copied first if it is shared.
    fn block_mut(&mut self, number: usize) -> &mut Block {
        let segment = Arc::make_mut(&mut self.segments[number / SEGMENT_LEN]);
        Arc::make_mut(&mut segment[number % SEGMENT_LEN])
    }
}

#[cfg(test)]
impl Blocks {
    /// Fails where an invariant does not hold.
    pub(super) fn check(&self) {
        let (mut bytes, mut len) = (self.segments.capacity() * size_of::<Arc<Segment>>(), 0);
        bytes = block_bytes(bytes);
        for (at, segment) in self.segments.iter().enumerate() {
            let is_last_segment = at + 1 == self.segments.len();
            assert!(!segment.is_empty() && segment.capacity() <= SEGMENT_LEN);
            assert!(is_last_segment || segment.len() == SEGMENT_LEN);
            bytes += block_bytes(SHARED_BYTES);
            bytes += block_bytes(segment.capacity() * size_of::<Arc<Block>>());
            for (at, block) in segment.iter().enumerate() {
                let is_last = is_last_segment && at + 1 == segment.len();
                assert!(!block.is_empty() && block.capacity() <= BLOCK_LEN);
                assert!(is_last || block.len() == BLOCK_LEN);
                bytes += block_bytes(SHARED_BYTES) + block_bytes(block.capacity());
                len += block.len();
            }
        }
        assert_eq!((self.len(), self.heap_bytes()), (len, bytes));
    }
}
