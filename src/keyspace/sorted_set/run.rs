//! A run: members with scores, in order, in one block of memory.
//!
//! ```text
//! block   | scores: 8 bytes each | marks: 4 bytes each | member bytes        |
//!           ....[ head..head+len ]  ....[ the same ]     ...[ start..end ]...
//! ```
//!
//! Each part is a window that slides to the right: appending writes behind it,
//! trimming moves its left edge. When a window meets the end of its part, all
//! three slide back to the left, or move to a block of another size. So the two
//! ends, where a limiter works, cost nearly nothing; the middle costs a short
//! `memmove`. The members stand in order and without gaps, and a mark says where
//! its member ends; the one before it says where it begins.
//!
//! ```text
//! mark, Run<true>    | tag: 16 bits of a hash of the member | end: 16 bits |
//! mark, Run<false>   | end: 32 bits                                        |
//! ```
//!
//! A tagged run finds a member by scanning its tags, 16 at a time, and looks only
//! at members whose tag fits. It holds at most 64 KiB of members.
//!
//! # Invariants
//!
//! 1. Scores never fall, and members rise within equal scores. No score is nan.
//! 2. `head + len <= capacity`, and `start <= end <= ` the size of the last part.

use std::cmp::Ordering;
use std::ops::Range;

use crate::keyspace::sizes::block_bytes;

/// Bytes of an entry besides its member: a score and a mark.
const ENTRY_BYTES: usize = 12;

/// Entries that a scan of tags compares at once.
const SCAN_LEN: usize = 16;

/// Members with scores, in order. See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Run<const TAGGED: bool> {
    block: Box<[u8]>,
    /// Entries that the block has room for.
    capacity: u16,
    head: u16,
    len: u16,
    start: u32,
    end: u32,
}

/// Reading.
impl<const TAGGED: bool> Run<TAGGED> {
    /// Entries in the run.
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Bytes of all members.
    pub(super) fn member_bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Bytes that the run has on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.block.len())
    }

    pub(super) fn score(&self, at: usize) -> f64 {
        debug_assert!(at < self.len());
        f64::from_le_bytes(load(&self.block, (usize::from(self.head) + at) * 8))
    }

    pub(super) fn member(&self, at: usize) -> &[u8] {
        let end = end_of::<TAGGED>(self.mark(at));
        &self.block[self.members_at()..][self.begin(at)..end]
    }

    pub(super) fn entry(&self, at: usize) -> (&[u8], f64) {
        (self.member(at), self.score(at))
    }

    /// Where this member with this score is, or where it belongs.
    pub(super) fn search(&self, score: f64, member: &[u8]) -> Result<usize, usize> {
        // Most members come in order, each with a higher score than the last.
        if self.len == 0 || self.score(self.len() - 1) < score {
            return Err(self.len());
        }
        let mut from = self.rank_of_score(score, false);
        let mut to = self.rank_of_score(score, true);
        while from < to {
            let middle = from.midpoint(to);
            match self.member(middle).cmp(member) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    /// How many entries have a lower score, or with `inclusive` one not higher.
    pub(super) fn rank_of_score(&self, score: f64, inclusive: bool) -> usize {
        let is_below = |at: usize| {
            let it = self.score(at);
            it < score || (inclusive && it == score)
        };
        let len = self.len();
        if len == 0 || !is_below(0) {
            return 0;
        }
        if is_below(len - 1) {
            return len;
        }
        // A trim asks for a few at the front, so steps from there grow first.
        let (mut from, mut to) = (1, 2);
        while to < len && is_below(to) {
            (from, to) = (to + 1, 2 * to);
        }
        let mut to = to.min(len - 1);
        while from < to {
            let middle = from.midpoint(to);
            if is_below(middle) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Where the bytes of a member begin: where those of the one before it end.
    fn begin(&self, at: usize) -> usize {
        match at.checked_sub(1) {
            Some(before) => end_of::<TAGGED>(self.mark(before)),
            None => self.start as usize,
        }
    }

    fn mark(&self, at: usize) -> u32 {
        u32::from_le_bytes(load(&self.block, self.mark_at(at)))
    }

    fn mark_at(&self, at: usize) -> usize {
        usize::from(self.capacity) * 8 + (usize::from(self.head) + at) * 4
    }

    /// Where the members' part of the block begins.
    fn members_at(&self) -> usize {
        usize::from(self.capacity) * ENTRY_BYTES
    }
}

impl Run<true> {
    /// Where a member is, whatever its score.
    pub(super) fn find(&self, member: &[u8]) -> Option<usize> {
        let tag = tag_of(member);
        let marks = &self.block[self.mark_at(0)..][..self.len() * 4];
        let (marks, _) = marks.as_chunks::<4>();
        let is_candidate = |mark: &[u8; 4]| u32::from_le_bytes(*mark) >> 16 == tag;
        let is_it = |at: &usize| is_candidate(&marks[*at]) && self.member(*at) == member;
        let (groups, rest) = marks.as_chunks::<SCAN_LEN>();
        for (group_index, group) in groups.iter().enumerate() {
            // Without an early exit this compiles to a few vector comparisons.
            if group.iter().fold(false, |any, mark| any | is_candidate(mark)) {
                let start = group_index * SCAN_LEN;
                let found = (start..start + SCAN_LEN).find(is_it);
                if found.is_some() {
                    return found;
                }
            }
        }
        (marks.len() - rest.len()..marks.len()).find(is_it)
    }
}

/// Changing.
impl<const TAGGED: bool> Run<TAGGED> {
    /// Puts an entry at the place that [`Run::search`] named.
    pub(super) fn insert(&mut self, at: usize, score: f64, member: &[u8]) {
        debug_assert!(at <= self.len() && !score.is_nan());
        self.make_room(member.len());
        if at < self.len() {
            self.open_gap(at, member.len());
        }
        let begin = self.begin(at);
        let members_at = self.members_at();
        self.block[members_at + begin..][..member.len()].copy_from_slice(member);
        let score_at = (usize::from(self.head) + at) * 8;
        self.block[score_at..score_at + 8].copy_from_slice(&score.to_le_bytes());
        let mark_at = self.mark_at(at);
        let mark = mark_of::<TAGGED>(member, begin + member.len());
        self.block[mark_at..mark_at + 4].copy_from_slice(&mark.to_le_bytes());
        self.end += member.len() as u32;
        self.len += 1;
    }

    /// Moves the entries from `at` on to the right by one, and their members by
    /// `bytes`. The last of them lies behind the window until it is widened.
    fn open_gap(&mut self, at: usize, bytes: usize) {
        let (begin, end) =
            (self.members_at() + self.begin(at), self.members_at() + self.end as usize);
        self.block.copy_within(begin..end, begin + bytes);
        let (from, to) =
            ((usize::from(self.head) + at) * 8, (usize::from(self.head) + self.len()) * 8);
        self.block.copy_within(from..to, from + 8);
        let (from, to) = (self.mark_at(at), self.mark_at(self.len()));
        self.block.copy_within(from..to, from + 4);
        self.shift_ends(at + 1..self.len() + 1, bytes as i64);
    }

    /// Takes entries out.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        debug_assert!(range.start <= range.end && range.end <= self.len());
        let count = range.len();
        if count == 0 {
            return;
        }
        let (begin, end) = (self.begin(range.start), self.begin(range.end));
        if range.start == 0 {
            // The left edge moves; nothing else does.
            self.head += count as u16;
            self.start = end as u32;
        } else {
            let members_at = self.members_at();
            self.block
                .copy_within(members_at + end..members_at + self.end as usize, members_at + begin);
            self.end -= (end - begin) as u32;
            let head = usize::from(self.head);
            let (from, to) = ((head + range.end) * 8, (head + self.len()) * 8);
            self.block.copy_within(from..to, (head + range.start) * 8);
            let (from, to) = (self.mark_at(range.end), self.mark_at(self.len()));
            self.block.copy_within(from..to, self.mark_at(range.start));
        }
        self.len -= count as u16;
        if range.start > 0 {
            self.shift_ends(range.start..self.len(), begin as i64 - end as i64);
        }
    }

    /// Splits the run in two; the entries from `at` on are returned.
    pub(super) fn split_off(&mut self, at: usize) -> Run<TAGGED> {
        let mut right = Run::default();
        for index in at..self.len() {
            let (member, score) = self.entry(index);
            right.insert(index - at, score, member);
        }
        self.remove(at..self.len());
        right
    }

    /// Appends another run, all of whose entries come after this one's.
    pub(super) fn append(&mut self, other: &Run<TAGGED>) {
        for index in 0..other.len() {
            let (member, score) = other.entry(index);
            self.insert(self.len(), score, member);
        }
    }

    /// Makes sure that one more entry fits behind the windows.
    fn make_room(&mut self, member_len: usize) {
        let area = self.block.len() - self.members_at();
        let entry_fits = self.head + self.len < self.capacity;
        let member_fits = self.end as usize + member_len <= area;
        if entry_fits && member_fits {
            return;
        }
        let (len, bytes) = (self.len() + 1, self.member_bytes() + member_len);
        let capacity = usize::from(self.capacity);
        // Sliding pays when it leaves a sixteenth free, and else would come again
        // too soon. A block mostly empty is given back.
        let slides =
            len + len / 16 <= capacity && bytes + bytes / 16 <= area && capacity <= 4 * len.max(8);
        if slides {
            self.slide();
        } else {
            // A block takes the whole of its class, so the run uses the whole.
            let spare = len / 8 + len.min(4) / 2;
            let entry = ENTRY_BYTES + bytes.div_ceil(len);
            let block = block_bytes((len + spare) * entry);
            let capacity = block / entry;
            self.relocate(capacity, block - capacity * ENTRY_BYTES);
        }
    }

    /// Slides the windows to the left edge of their parts.
    fn slide(&mut self) {
        let (head, len) = (usize::from(self.head), self.len());
        let members_at = self.members_at();
        self.block.copy_within(head * 8..(head + len) * 8, 0);
        let (from, to) = (self.mark_at(0), self.mark_at(len));
        self.head = 0;
        self.block.copy_within(from..to, self.mark_at(0));
        let (start, end) = (self.start as usize, self.end as usize);
        self.block.copy_within(members_at + start..members_at + end, members_at);
        self.shift_start(start);
    }

    /// Moves to another block with room for `capacity` entries and `area` bytes
    /// of members.
    fn relocate(&mut self, capacity: usize, area: usize) {
        let mut block = vec![0; capacity * ENTRY_BYTES + area].into_boxed_slice();
        let (head, len) = (usize::from(self.head), self.len());
        block[..len * 8].copy_from_slice(&self.block[head * 8..(head + len) * 8]);
        let marks = &self.block[self.mark_at(0)..self.mark_at(len)];
        block[capacity * 8..][..len * 4].copy_from_slice(marks);
        let (start, end) = (self.start as usize, self.end as usize);
        let members = &self.block[self.members_at()..][start..end];
        block[capacity * ENTRY_BYTES..][..end - start].copy_from_slice(members);
        self.block = block;
        self.capacity = capacity as u16;
        self.head = 0;
        self.shift_start(start);
    }

    /// The members begin at 0 now, and `start` before.
    fn shift_start(&mut self, start: usize) {
        self.end -= start as u32;
        self.start = 0;
        self.shift_ends(0..self.len(), -(start as i64));
    }

    /// Corrects where members end after their bytes moved.
    fn shift_ends(&mut self, range: Range<usize>, by: i64) {
        let (from, to) = (self.mark_at(range.start), self.mark_at(range.end));
        let (marks, _) = self.block[from..to].as_chunks_mut::<4>();
        for mark in marks {
            // The end stays within its bits, so a tag above it is not disturbed.
            *mark = u32::from_le_bytes(*mark).wrapping_add(by as u32).to_le_bytes();
        }
    }
}

fn mark_of<const TAGGED: bool>(member: &[u8], end: usize) -> u32 {
    debug_assert!(end <= if TAGGED { 0xFFFF } else { u32::MAX as usize });
    if TAGGED { tag_of(member) << 16 | end as u32 } else { end as u32 }
}

fn end_of<const TAGGED: bool>(mark: u32) -> usize {
    if TAGGED { (mark & 0xFFFF) as usize } else { mark as usize }
}

/// 16 bits that depend on every byte of a member. They only save comparisons, so
/// they need not be hard to guess.
fn tag_of(member: &[u8]) -> u32 {
    let mut hash = member.len() as u64;
    let mut mix = |word: [u8; 8]| {
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 32;
    };
    let (words, rest) = member.as_chunks::<8>();
    for word in words {
        mix(*word);
    }
    match member.last_chunk::<8>() {
        // Whole words are quickest to load; that some bytes count twice is no harm.
        Some(word) if !rest.is_empty() => mix(*word),
        Some(_) => {}
        None => {
            mix(rest.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte)).to_le_bytes())
        }
    }
    (hash >> 8) as u32 & 0xFFFF
}

fn load<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[at..at + N]);
    bytes
}
