//! A run: members with scores, in order, in one block of memory.
//!
//! ```text
//! block   | scores              | names               | texts            | bases  |
//!           ....[head..head+len]  ....[ the same ]      ..[start..end]..   16 bytes
//! ```
//!
//! Scores and names are columns of cells, as wide as the entries need; see
//! [`Layout`]. A name is a member as a number, or a mark that says where its text
//! ends; the one before it says where it begins. Bases are what the cells count
//! from.
//!
//! Each part is a window that slides to the right: appending writes behind it,
//! trimming moves its left edge. When a window meets the end of its part, all
//! three slide back to the left, or the run moves to a block of another size. So the
//! two ends, where a limiter works, cost nearly nothing; the middle costs a short
//! `memmove`. An entry that no cell can hold makes the run move to others: the narrowest
//! that hold them all. A run that only needs room keeps its cells, unless they have
//! become wider than they need be.
//!
//! ```text
//! mark, Run<true>    | tag: 16 bits of a hash of the member | end: 16 bits |
//! mark, Run<false>   | end: 32 bits                                        |
//! ```
//!
//! A tagged run finds a text by scanning its tags, 16 at a time, and looks only
//! at texts whose tag fits. It holds at most 64 KiB of texts. A number is looked for
//! among the scores that it can belong to.
//!
//! # Invariants
//!
//! 1. Scores never fall, and members rise within equal scores. No score is nan.
//! 2. `head + len <= capacity`, and `start <= end <= ` the size of the last part.
//! 3. Every cell of a block has eight bytes before the block's end.

use std::cmp::Ordering;
use std::ops::Range;

use super::layout::{Column, Layout, Name, Offsets, Width, whole};
use crate::keyspace::arg::Text;
use crate::keyspace::sizes::block_bytes;

/// The width of a mark.
const MARK: Width = Width::W4;

/// Bytes at the end of a block: what the cells of either column count from.
const BASES_BYTES: usize = 16;

/// Entries that a scan of tags compares at once.
const SCAN_LEN: usize = 16;

/// Members with scores, in order. See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Run<const TAGGED: bool> {
    block: Box<[u8]>,
    /// `None`: the bits of the scores.
    score_width: Option<Width>,
    /// `None`: texts.
    name_width: Option<Width>,
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

    /// Bytes of all texts.
    pub(super) fn text_bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Bytes that the run has on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.block.len())
    }

    pub(super) fn score(&self, at: usize) -> f64 {
        debug_assert!(at < self.len());
        let cell = self.scores().load(&self.block, self.place(at));
        match self.score_offsets() {
            Some(offsets) => offsets.value(cell) as f64,
            None => f64::from_bits(cell),
        }
    }

    pub(super) fn member(&self, at: usize) -> Text<'_> {
        self.name(at).text()
    }

    pub(super) fn entry(&self, at: usize) -> (Text<'_>, f64) {
        (self.member(at), self.score(at))
    }

    /// Shows all entries. What they have in common is looked at once.
    pub(super) fn show(&self, mut each: impl FnMut(Name<'_>, f64)) {
        let (scores, names) = (self.scores(), self.names());
        let (score_offsets, name_offsets) = (self.score_offsets(), self.name_offsets());
        let texts = &self.block[self.texts_at().min(self.block.len())..];
        let mut begin = self.start as usize;
        for place in self.place(0)..self.place(self.len()) {
            let cell = scores.load(&self.block, place);
            let (anchor, score) = match score_offsets {
                Some(offsets) => (offsets.value(cell), offsets.value(cell) as f64),
                None => (0, f64::from_bits(cell)),
            };
            let cell = names.load(&self.block, place);
            match name_offsets {
                Some(offsets) => each(Name::Number(anchor + offsets.value(cell)), score),
                None => {
                    let end = end_of::<TAGGED>(cell as u32);
                    each(Name::Text(&texts[begin..end]), score);
                    begin = end;
                }
            }
        }
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
            match (*self.member(middle)).cmp(member) {
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

    fn name(&self, at: usize) -> Name<'_> {
        let cell = self.names().load(&self.block, self.place(at));
        match self.name_offsets() {
            Some(offsets) => Name::Number(self.anchor(at) + offsets.value(cell)),
            None => {
                let text = self.begin(at)..end_of::<TAGGED>(cell as u32);
                Name::Text(&self.block[self.texts_at()..][text])
            }
        }
    }

    /// What the number of an entry is counted from: its score, if that is whole.
    fn anchor(&self, at: usize) -> i64 {
        self.score_offsets()
            .map_or(0, |offsets| offsets.value(self.scores().load(&self.block, self.place(at))))
    }

    /// Where the text of a member begins: where that of the one before it ends.
    fn begin(&self, at: usize) -> usize {
        match at.checked_sub(1) {
            Some(before) => {
                let mark = self.names().load(&self.block, self.place(before));
                end_of::<TAGGED>(mark as u32)
            }
            None => self.start as usize,
        }
    }

    /// The place in the columns of the entry with this index.
    fn place(&self, at: usize) -> usize {
        usize::from(self.head) + at
    }

    fn scores(&self) -> Column {
        Column { start: 0, width: self.score_width.unwrap_or(Width::W8) }
    }

    fn names(&self) -> Column {
        let start = self.scores().place(usize::from(self.capacity));
        Column { start, width: self.name_width.unwrap_or(MARK) }
    }

    /// Where the texts' part of the block begins.
    fn texts_at(&self) -> usize {
        self.names().place(usize::from(self.capacity))
    }

    /// Bytes of the texts' part.
    fn area(&self) -> usize {
        self.block.len().saturating_sub(self.texts_at() + BASES_BYTES)
    }

    fn score_offsets(&self) -> Option<Offsets> {
        self.score_width.map(|width| Offsets { base: self.bases()[0], width })
    }

    fn name_offsets(&self) -> Option<Offsets> {
        self.name_width.map(|width| Offsets { base: self.bases()[1], width })
    }

    fn bases(&self) -> [i64; 2] {
        match self.block.last_chunk::<BASES_BYTES>().map(|bases| bases.as_chunks::<8>().0) {
            Some([scores, names]) => [i64::from_le_bytes(*scores), i64::from_le_bytes(*names)],
            _ => [0; 2],
        }
    }
}

impl Run<true> {
    /// Where a member is, whatever its score.
    pub(super) fn find(&self, member: &[u8]) -> Option<usize> {
        match (self.name_offsets(), Name::of(member)) {
            (Some(offsets), Name::Number(number)) => self.find_number(number, offsets),
            (Some(_), Name::Text(_)) => None,
            (None, _) => self.find_text(member),
        }
    }

    /// Only scores at a distance that a cell can hold are looked at.
    fn find_number(&self, number: i64, offsets: Offsets) -> Option<usize> {
        let mut among = 0..self.len();
        if self.score_width.is_some() {
            let nearest = number.saturating_sub(offsets.base);
            let farthest = nearest.saturating_sub_unsigned(offsets.width.mask());
            among = self.rank_of_score(farthest as f64, false)
                ..self.rank_of_score(nearest as f64, true);
        }
        among.into_iter().find(|at| self.name(*at) == Name::Number(number))
    }

    fn find_text(&self, member: &[u8]) -> Option<usize> {
        let tag = tag_of(member);
        let (names, from) = (self.names(), self.place(0));
        let marks = &self.block[names.place(from)..names.place(from + self.len())];
        let (marks, _) = marks.as_chunks::<4>();
        let is_candidate = |mark: &[u8; 4]| u32::from_le_bytes(*mark) >> 16 == tag;
        let is_it = |at: &usize| is_candidate(&marks[*at]) && *self.member(*at) == *member;
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
    /// A run of these entries, which are in order and distinct. Each is written once,
    /// into a block that fits them all.
    pub(super) fn of_sorted(entries: &[(Name<'_>, f64)]) -> Run<TAGGED> {
        debug_assert!(entries.iter().all(|(_, score)| !score.is_nan()));
        // Adding zero takes the sign off minus zero.
        let unsigned = entries.iter().map(|(name, score)| (score + 0.0, *name));
        let layout = Layout::of(unsigned.clone());
        let texts = entries.iter().filter(|_| layout.names.is_none());
        let bytes = texts.map(|(name, _)| name.text().len()).sum();
        let mut run = Run::blank(layout, entries.len(), bytes);
        let (scores, names) = (run.scores(), run.names());
        scores.fill(&mut run.block, unsigned.clone().map(|(score, _)| layout.score_cell(score)));
        match layout.names {
            Some(offsets) => {
                let distances = unsigned.map(|(score, name)| layout.distance(score, name));
                let cells = distances.map(|it| it.and_then(|it| offsets.cell(it)));
                names.fill(&mut run.block, cells.map(Option::unwrap_or_default));
            }
            None => entries.iter().enumerate().for_each(|(at, (name, _))| run.put_name(at, *name)),
        }
        // What the last cells have spilt lies where the bases do.
        run.put_bases(layout);
        run.len = entries.len() as u16;
        run
    }

    /// Puts an entry at the place that [`Run::search`] named.
    pub(super) fn insert(&mut self, at: usize, score: f64, member: &[u8]) {
        debug_assert!(at <= self.len() && !score.is_nan());
        let name = Name::of(member);
        if !self.admits(score, name) {
            self.relocate(Some((score, name)));
        } else {
            self.make_room(score, name);
        }
        if at < self.len() {
            self.open_gap(at, member.len());
        }
        self.put_score(at, score);
        self.put_name(at, name);
        self.len += 1;
    }

    /// True if there are cells for this entry, though perhaps no free ones.
    fn admits(&self, score: f64, name: Name<'_>) -> bool {
        let whole = whole(score);
        let admits_score = self
            .score_offsets()
            .is_none_or(|offsets| whole.is_some_and(|it| offsets.cell(it).is_some()));
        let anchor = self.score_width.and(whole).unwrap_or(0);
        admits_score
            && self.name_offsets().is_none_or(|offsets| match name {
                Name::Number(number) => offsets.cell(number - anchor).is_some(),
                Name::Text(_) => false,
            })
    }

    /// Writes a score that the columns admit.
    fn put_score(&mut self, at: usize, score: f64) {
        let cell = match (self.score_offsets(), whole(score)) {
            (Some(offsets), Some(whole)) => offsets.cell(whole).unwrap_or_default(),
            _ => score.to_bits(),
        };
        self.scores().store(&mut self.block, usize::from(self.head) + at, cell);
    }

    /// Writes a name that the columns admit, behind its score.
    fn put_name(&mut self, at: usize, name: Name<'_>) {
        let cell = match (self.name_offsets(), name) {
            (Some(offsets), Name::Number(number)) => {
                offsets.cell(number - self.anchor(at)).unwrap_or_default()
            }
            _ => {
                let (text, begin) = (name.text(), self.begin(at));
                let texts_at = self.texts_at();
                self.block[texts_at + begin..][..text.len()].copy_from_slice(&text);
                self.end += text.len() as u32;
                u64::from(mark_of::<TAGGED>(&text, begin + text.len()))
            }
        };
        self.names().store(&mut self.block, usize::from(self.head) + at, cell);
    }

    /// Moves the entries from `at` on to the right by one, and their texts by
    /// `bytes`. The last of them lies behind the window until it is widened.
    fn open_gap(&mut self, at: usize, bytes: usize) {
        let (from, end) = (self.place(at), self.place(self.len()));
        if self.name_width.is_none() {
            let (begin, texts_at) = (self.begin(at), self.texts_at());
            self.block.copy_within(
                texts_at + begin..texts_at + self.end as usize,
                texts_at + begin + bytes,
            );
            self.shift_ends(at..self.len(), bytes as i64);
        }
        let (scores, names) = (self.scores(), self.names());
        scores.shift(&mut self.block, from, end, from + 1);
        names.shift(&mut self.block, from, end, from + 1);
    }

    /// Takes entries out.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        debug_assert!(range.start <= range.end && range.end <= self.len());
        let count = range.len();
        if count == 0 {
            return;
        }
        let is_text = self.name_width.is_none();
        if range.start == 0 {
            // The left edge moves; nothing else does.
            if is_text {
                self.start = self.begin(range.end) as u32;
            }
            self.head += count as u16;
            self.len -= count as u16;
            return;
        }
        if is_text {
            let (begin, end) = (self.begin(range.start), self.begin(range.end));
            let texts_at = self.texts_at();
            self.block.copy_within(texts_at + end..texts_at + self.end as usize, texts_at + begin);
            self.shift_ends(range.end..self.len(), begin as i64 - end as i64);
            self.end -= (end - begin) as u32;
        }
        let (to, from, end) =
            (self.place(range.start), self.place(range.end), self.place(self.len()));
        let (scores, names) = (self.scores(), self.names());
        scores.shift(&mut self.block, from, end, to);
        names.shift(&mut self.block, from, end, to);
        self.len -= count as u16;
    }

    /// Splits the run in two; the entries from `at` on are returned.
    pub(super) fn split_off(&mut self, at: usize) -> Run<TAGGED> {
        let mut right = self.clone();
        right.remove(0..at);
        right.relocate(None);
        self.remove(at..self.len());
        right
    }

    /// Appends another run, all of whose entries come after this one's.
    pub(super) fn append(&mut self, other: &Run<TAGGED>) {
        for index in 0..other.len() {
            let (member, score) = other.entry(index);
            self.insert(self.len(), score, &member);
        }
    }

    /// Makes sure that this entry, which the columns admit, fits behind the windows.
    fn make_room(&mut self, score: f64, name: Name<'_>) {
        let text_len = if self.name_width.is_none() { name.text().len() } else { 0 };
        let area = self.area();
        let entry_fits = self.head + self.len < self.capacity;
        if entry_fits && self.end as usize + text_len <= area {
            return;
        }
        let (len, bytes) = (self.len() + 1, self.text_bytes() + text_len);
        let capacity = usize::from(self.capacity);
        // Sliding pays when it leaves a sixteenth free, and else would come again
        // too soon. A block mostly empty is given back.
        let slides =
            len + len / 16 <= capacity && bytes + bytes / 16 <= area && capacity <= 4 * len.max(8);
        if slides {
            self.slide();
        } else if self.is_narrow(score, name) {
            self.grow(text_len);
        } else {
            self.relocate(Some((score, name)));
        }
    }

    /// True if cells for the entries and the one that joins would be hardly narrower
    /// than they are. Tells without looking at every entry.
    fn is_narrow(&self, score: f64, name: Name<'_>) -> bool {
        let Some(last) = self.len().checked_sub(1) else { return false };
        let (least, most) = (self.score(0).min(score), self.score(last).max(score));
        let scores = whole(least).zip(whole(most));
        let scores = scores.map(|(least, most)| Offsets::spanning(least, most).width);
        let names_are_narrow = match self.name_width {
            Some(width) => width <= Width::W1,
            None => matches!(name, Name::Text(_)),
        };
        names_are_narrow && scores == self.score_width
    }

    /// Moves to another block with the same cells, and with room for the entry that
    /// joins and for some more: entries are copied as they are.
    fn grow(&mut self, text_len: usize) {
        let layout = Layout { scores: self.score_offsets(), names: self.name_offsets() };
        let mut grown = Run::blank(layout, self.len() + 1, self.text_bytes() + text_len);
        let copy = |from: Column, to: Column, block: &mut [u8]| {
            let cells = from.place(self.place(0))..from.place(self.place(self.len()));
            block[to.place(0)..][..cells.len()].copy_from_slice(&self.block[cells]);
        };
        let (scores, names) = (grown.scores(), grown.names());
        copy(self.scores(), scores, &mut grown.block);
        match self.name_width {
            Some(_) => copy(self.names(), names, &mut grown.block),
            None => grown.copy_texts(self),
        }
        grown.len = self.len;
        *self = grown;
    }

    /// Slides the windows to the left edge of their parts.
    fn slide(&mut self) {
        let (from, end) = (self.place(0), self.place(self.len()));
        let (scores, names) = (self.scores(), self.names());
        scores.shift(&mut self.block, from, end, 0);
        names.shift(&mut self.block, from, end, 0);
        self.head = 0;
        if self.name_width.is_none() {
            let (start, end, texts_at) = (self.start as usize, self.end as usize, self.texts_at());
            self.block.copy_within(texts_at + start..texts_at + end, texts_at);
            self.shift_ends(0..self.len(), -(start as i64));
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Moves to another block with the narrowest cells that hold the entries and the
    /// one that joins, and with room for some more.
    fn relocate(&mut self, joins: Option<(f64, Name<'_>)>) {
        let entries: Vec<(f64, Name<'_>)> =
            (0..self.len()).map(|at| (self.score(at), self.renamed(at))).collect();
        let layout = Layout::of(joins.into_iter().chain(entries.iter().copied()));
        let len = self.len() + usize::from(joins.is_some());
        let names = (0..self.len()).map(|at| self.name(at)).chain(joins.map(|(_, name)| name));
        let bytes = match (layout.names, self.name_width, joins) {
            (Some(_), ..) => 0,
            (None, None, None) => self.text_bytes(),
            (None, None, Some((_, name))) => self.text_bytes() + name.text().len(),
            (None, Some(_), _) => names.map(|name| name.text().len()).sum(),
        };
        let mut moved = Run::blank(layout, len, bytes);
        for (at, (score, _)) in entries.iter().enumerate() {
            moved.put_score(at, *score);
        }
        if self.name_width.is_none() && layout.names.is_none() {
            moved.copy_texts(self);
        } else {
            entries.iter().enumerate().for_each(|(at, (_, name))| moved.put_name(at, *name));
        }
        moved.len = self.len;
        *self = moved;
    }

    /// The name of an entry, as a number also where it is kept as a text.
    fn renamed(&self, at: usize) -> Name<'_> {
        match self.name(at) {
            Name::Text(text) => Name::of(text),
            number => number,
        }
    }

    /// A run without entries that has room for `len` of them, `bytes` of texts, and
    /// some more.
    fn blank(layout: Layout, len: usize, bytes: usize) -> Run<TAGGED> {
        let run = Run {
            score_width: layout.scores.map(|offsets| offsets.width),
            name_width: layout.names.map(|offsets| offsets.width),
            ..Run::default()
        };
        let cells = run.scores().width.bytes() + run.names().width.bytes();
        let entry = cells + bytes.div_ceil(len.max(1));
        let spare = len / 8 + len.min(4) / 2;
        // A block takes the whole of its class, so the run uses the whole.
        let block = block_bytes((len + spare) * entry + BASES_BYTES);
        let capacity =
            (block - BASES_BYTES).checked_div(entry).unwrap_or(1).min(usize::from(u16::MAX));
        let block = vec![0; block].into_boxed_slice();
        let mut run = Run { block, capacity: capacity as u16, ..run };
        run.put_bases(layout);
        run
    }

    fn put_bases(&mut self, layout: Layout) {
        if let Some(bases) = self.block.last_chunk_mut::<BASES_BYTES>() {
            let base = |offsets: Option<Offsets>| offsets.unwrap_or_default().base.to_le_bytes();
            bases[..8].copy_from_slice(&base(layout.scores));
            bases[8..].copy_from_slice(&base(layout.names));
        }
    }

    /// Takes over the texts of another run and their marks.
    fn copy_texts(&mut self, other: &Run<TAGGED>) {
        let (from, to) = (other.names(), self.names());
        let marks = &other.block[from.place(other.place(0))..from.place(other.place(other.len()))];
        self.block[to.place(0)..][..marks.len()].copy_from_slice(marks);
        let texts = &other.block[other.texts_at()..][other.start as usize..other.end as usize];
        let texts_at = self.texts_at();
        self.block[texts_at..][..texts.len()].copy_from_slice(texts);
        self.end = texts.len() as u32;
        self.shift_ends(0..other.len(), -i64::from(other.start));
    }

    /// Corrects where texts end after their bytes moved.
    fn shift_ends(&mut self, range: Range<usize>, by: i64) {
        let names = self.names();
        let (from, end) =
            (names.place(self.place(range.start)), names.place(self.place(range.end)));
        let (marks, _) = self.block[from..end].as_chunks_mut::<4>();
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
