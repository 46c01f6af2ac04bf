//! The big form of hashes and sets: entries in packs, found by hash.
//!
//! A table is a list of *blocks*, each a [`Pack`] of some thirty entries, and
//! grows and shrinks by one block at a time (linear hashing), so no step moves
//! more than a block or two. Blocks are shared (`Arc`) and copied on write, in
//! segments that are so too: a clone costs one pointer for some eight thousand
//! entries, and whoever changes an entry afterwards copies a segment's pointers
//! and one block.
//!
//! ```text
//! segments   [ 0 … 255 ] [ 256 … 511 ] …      blocks by number
//! block      field value field value …        WIDTH texts an entry
//! ```
//!
//! # Walking in steps
//!
//! A block holds the entries whose hashes end in certain bits, so in the order of
//! the hashes *read backward* each block is one stretch. A cursor is a position in
//! that order. Blocks may split and join between two steps: the position stays
//! true, every entry that stays is met, and what is behind is behind. The same
//! holds between two tables, for all share one hash function.
//!
//! # Invariants
//!
//! 1. An entry is in the block that its hash names, once.
//! 2. No block has more than `longest` entries.
//!
//! A pick at random takes a block and a place below `longest`, and tries again
//! where nothing stands: so every entry is as likely as every other.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use super::pack::Pack;
use super::sizes::block_bytes;

/// Mean entries of a block. Tests have small ones, to split and to join often.
const BLOCK_LEN: usize = if cfg!(test) { 4 } else { 32 };

/// Mean bytes of a block: large entries stand in blocks of few, so that copying
/// one on write stays cheap.
const BLOCK_BYTES: usize = if cfg!(test) { 128 } else { 4 << 10 };

/// Blocks of a segment.
const SEGMENT_LEN: usize = if cfg!(test) { 4 } else { 256 };

/// A block, shared with the clones of its table.
type Block = Arc<Pack>;

/// What an `Arc` takes beside what it holds.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

/// Entries of `WIDTH` texts, the first of which is unique. See the header.
#[derive(Clone, Debug)]
pub(super) struct Table<const WIDTH: usize> {
    segments: Vec<Arc<Vec<Block>>>,
    block_count: usize,
    len: usize,
    /// Bytes of all blocks.
    bytes: usize,
    longest: usize,
}

/// Keyed at random: entries may come from strangers. One for all tables: so a
/// cursor stays true when a key gets another table with the same entries, as it
/// does from `RESTORE` and `SUNIONSTORE`.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn hash_of(first: &[u8]) -> u32 {
    HASHER.hash_one(first) as u32
}

/// Where an entry is, or belongs. It holds until the table changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    block: usize,
    /// `None`: no such entry is there.
    place: Option<usize>,
}

impl Spot {
    /// True if the entry is not there.
    pub(super) fn is_free(self) -> bool {
        self.place.is_none()
    }
}

/// Reading.
impl<const WIDTH: usize> Table<WIDTH> {
    pub(super) fn new() -> Table<WIDTH> {
        let mut table =
            Table { segments: Vec::new(), block_count: 0, len: 0, bytes: 0, longest: 0 };
        table.push_block(Pack::default());
        table
    }

    /// Entries in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The spot of the entry that begins with this text.
    pub(super) fn find(&self, first: &[u8]) -> Spot {
        let block = self.block_of(hash_of(first));
        Spot { block, place: self.block(block).find(first, WIDTH) }
    }

    /// The entry that begins with this text.
    pub(super) fn get(&self, first: &[u8]) -> Option<[&[u8]; WIDTH]> {
        let Spot { block, place } = self.find(first);
        Some(entry(self.block(block).iter_from(place?)))
    }

    /// Every entry, in no order.
    pub(super) fn iter(&self) -> TableEntries<'_, WIDTH> {
        TableEntries { table: self, block: 0, place: 0, remaining: self.len }
    }

    /// Every entry of the next blocks from `cursor` on until there are `count`,
    /// and the cursor to go on with; 0 begins, and is what follows the end.
    pub(super) fn scan<'a>(
        &'a self,
        cursor: u32,
        count: usize,
        mut each: impl FnMut([&'a [u8]; WIDTH]),
    ) -> u32 {
        let (mut cursor, mut seen) = (cursor, 0);
        while seen < count {
            let hash = cursor.reverse_bits();
            let block = self.block(self.block_of(hash));
            let mut texts = block.iter();
            while texts.len() > 0 {
                each(entry(&mut texts));
                seen += 1;
            }
            // Behind the stretch of the block: its bits, read backward, and one.
            let stretch = 1u32.checked_shl(u32::BITS - self.bits_of(hash)).unwrap_or(0);
            cursor = (cursor & 0u32.wrapping_sub(stretch)).wrapping_add(stretch);
            if cursor == 0 {
                break;
            }
        }
        cursor
    }

    /// An entry, each as likely as any other. The table must not be empty.
    pub(super) fn pick(&self, random: &mut fastrand::Rng) -> [&[u8]; WIDTH] {
        loop {
            let block = self.block(random.usize(..self.block_count));
            let at = random.usize(..self.longest);
            if at < block.len() / WIDTH {
                return entry(block.iter_from(block.place_of(at * WIDTH)));
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let block = block_bytes(size_of::<Pack>() + COUNTS_BYTES) + size_of::<Block>();
        let segment = block_bytes(size_of::<Vec<Block>>() + COUNTS_BYTES) + size_of::<usize>();
        self.bytes + self.block_count * block + self.segments.len() * segment
    }

    fn block(&self, at: usize) -> &Block {
        &self.segments[at / SEGMENT_LEN][at % SEGMENT_LEN]
    }

    /// How many low bits of a hash name its block.
    fn bits_of(&self, hash: u32) -> u32 {
        let bits = self.block_count.next_power_of_two().ilog2();
        let named = hash as usize & ((1 << bits) - 1);
        // The upper half is there only as far as blocks were split.
        if named < self.block_count && (named | 1 << bits.saturating_sub(1)) < self.block_count {
            bits
        } else {
            bits.saturating_sub(1)
        }
    }

    fn block_of(&self, hash: u32) -> usize {
        hash as usize & ((1 << self.bits_of(hash)) - 1)
    }
}

/// Changing.
impl<const WIDTH: usize> Table<WIDTH> {
    /// Adds an entry at a spot that is free.
    pub(super) fn add_at(&mut self, spot: Spot, texts: [&[u8]; WIDTH]) {
        debug_assert_eq!(spot.place, None, "an entry is there once");
        let len = self.change(spot.block, |pack| {
            let end = pack.end();
            pack.splice(end..end, 0, &texts);
            pack.len() / WIDTH
        });
        self.longest = self.longest.max(len);
        self.len += 1;
        while self.is_crowded() {
            self.split();
        }
    }

    /// Adds an entry that is not there.
    pub(super) fn add(&mut self, texts: [&[u8]; WIDTH]) {
        self.add_at(self.find(texts[0]), texts);
    }

    /// Takes an entry out, after showing it to `each`. False if it is not there.
    pub(super) fn remove(&mut self, first: &[u8], each: impl FnOnce([&[u8]; WIDTH])) -> bool {
        let Spot { block, place: Some(place) } = self.find(first) else { return false };
        self.change(block, |pack| {
            each(entry(pack.iter_from(place)));
            let end = (0..WIDTH).fold(place, |place, _| pack.read(place).1);
            pack.splice(place..end, WIDTH, &[]);
        });
        self.len -= 1;
        if self.is_deserted() {
            self.join();
        }
        true
    }

    /// True when the entries deserve another block.
    fn is_crowded(&self) -> bool {
        let count = self.block_count;
        self.len > count * BLOCK_LEN || self.bytes > count * BLOCK_BYTES && count < self.len
    }

    /// True when half of the blocks would be too many.
    fn is_deserted(&self) -> bool {
        let count = self.block_count;
        count > 1 && self.len < count * BLOCK_LEN / 4 && self.bytes < count * BLOCK_BYTES / 4
    }

    /// Changes a block, copying it if it is shared.
    fn change<T>(&mut self, at: usize, change: impl FnOnce(&mut Pack) -> T) -> T {
        let segment = Arc::make_mut(&mut self.segments[at / SEGMENT_LEN]);
        let block = &mut segment[at % SEGMENT_LEN];
        // Counted before the copy, which may have less room.
        self.bytes -= block.heap_bytes();
        let pack = Arc::make_mut(block);
        let result = change(pack);
        self.bytes += pack.heap_bytes();
        result
    }

    fn push_block(&mut self, pack: Pack) {
        self.bytes += pack.heap_bytes();
        if self.block_count.is_multiple_of(SEGMENT_LEN) {
            self.segments.push(Arc::default());
        }
        if let Some(segment) = self.segments.last_mut() {
            Arc::make_mut(segment).push(Arc::new(pack));
        }
        self.block_count += 1;
    }

    /// Adds a block and moves to it what now belongs there.
    fn split(&mut self) {
        let new = self.block_count;
        let source = new - (1 << new.ilog2());
        let mask = (new + 1).next_power_of_two() - 1;
        let (mut stays, mut goes) = (Pack::default(), Pack::default());
        let mut texts = self.block(source).iter();
        while texts.len() > 0 {
            let texts: [&[u8]; WIDTH] = entry(&mut texts);
            let pack =
                if hash_of(texts[0]) as usize & mask == new { &mut goes } else { &mut stays };
            texts.iter().for_each(|text| pack.push(text));
        }
        self.change(source, |pack| *pack = stays);
        self.push_block(goes);
    }

    /// Undoes the last split.
    fn join(&mut self) {
        let Some(segment) = self.segments.last_mut() else { return };
        let Some(block) = Arc::make_mut(segment).pop() else { return };
        if segment.is_empty() {
            self.segments.pop();
        }
        self.block_count -= 1;
        self.bytes -= block.heap_bytes();
        let source = self.block_count - (1 << self.block_count.ilog2());
        let len = self.change(source, |pack| {
            block.iter().for_each(|text| pack.push(text));
            pack.len() / WIDTH
        });
        self.longest = self.longest.max(len);
    }
}

impl Table<2> {
    /// Gives an entry another second text; the one that it had is shown to `was`.
    /// False, and nothing is done, if the spot is free.
    pub(super) fn replace_at(&mut self, spot: Spot, text: &[u8], was: impl FnOnce(&[u8])) -> bool {
        let Some(place) = spot.place else { return false };
        self.change(spot.block, |pack| {
            let (_, start) = pack.read(place);
            let (old, end) = pack.read(start);
            was(old);
            pack.splice(start..end, 1, &[text]);
        });
        while self.is_crowded() {
            self.split();
        }
        true
    }
}

/// The next entry of texts, which hold whole entries only.
fn entry<'a, const WIDTH: usize>(mut texts: impl Iterator<Item = &'a [u8]>) -> [&'a [u8]; WIDTH] {
    std::array::from_fn(|_| texts.next().unwrap_or_default())
}

/// The entries of a table.
#[derive(Clone, Debug)]
pub(super) struct TableEntries<'a, const WIDTH: usize> {
    table: &'a Table<WIDTH>,
    block: usize,
    place: usize,
    remaining: usize,
}

impl<'a, const WIDTH: usize> Iterator for TableEntries<'a, WIDTH> {
    type Item = [&'a [u8]; WIDTH];

    fn next(&mut self) -> Option<[&'a [u8]; WIDTH]> {
        self.remaining = self.remaining.checked_sub(1)?;
        let mut block = self.table.block(self.block);
        while self.place == block.end() {
            (self.block, self.place) = (self.block + 1, 0);
            block = self.table.block(self.block);
        }
        Some(std::array::from_fn(|_| {
            let (text, next) = block.read(self.place);
            self.place = next;
            text
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<const WIDTH: usize> ExactSizeIterator for TableEntries<'_, WIDTH> {}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn alike(table: &Table<2>, model: &Model) {
        assert_eq!((table.len(), table.iter().len()), (model.len(), model.len()));
        let found: Model = table.iter().map(|[a, b]| (a.to_vec(), b.to_vec())).collect();
        assert_eq!(found, *model);
    }

    /// Fails where an invariant does not hold.
    fn check(table: &Table<2>) {
        let mut bytes = 0;
        for at in 0..table.block_count {
            let block = table.block(at);
            assert!(block.len() / 2 <= table.longest);
            let mut texts = block.iter();
            while texts.len() > 0 {
                let [field, _] = entry(&mut texts);
                assert_eq!(table.block_of(hash_of(field)), at);
            }
            bytes += block.heap_bytes();
        }
        assert_eq!(bytes, table.bytes);
        let blocks: usize = table.segments.iter().map(|it| it.len()).sum();
        assert_eq!(blocks, table.block_count);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, usize),
        Remove(u8),
        Freeze,
    }

    fn step() -> impl Strategy<Value = Step> {
        let len = prop_oneof![9 => 0usize..10, 1 => 200usize..2_000];
        prop_oneof![
            9 => (any::<u8>(), len).prop_map(|(field, len)| Step::Set(field, len)),
            6 => any::<u8>().prop_map(Step::Remove),
            1 => Just(Step::Freeze),
        ]
    }

    proptest! {
        #[test]
        fn a_table_is_the_map_of_its_entries(steps in vec(step(), 0..400)) {
            let (mut table, mut model, mut frozen) = (Table::new(), Model::new(), Vec::new());
            for (round, step) in steps.iter().enumerate() {
                match *step {
                    Step::Set(field, len) => {
                        let (field, value) = (vec![field; 3], vec![round as u8; len]);
                        let old = model.insert(field.clone(), value.clone());
                        let mut was = None;
                        let spot = table.find(&field);
                        if !table.replace_at(spot, &value, |it| was = Some(it.to_vec())) {
                            table.add_at(spot, [&field, &value]);
                        }
                        prop_assert_eq!(was, old);
                    }
                    Step::Remove(field) => {
                        let field = vec![field; 3];
                        let old = model.remove(&field);
                        let mut was = None;
                        table.remove(&field, |[_, it]| was = Some(it.to_vec()));
                        prop_assert_eq!(was, old);
                    }
                    Step::Freeze => frozen.push((table.clone(), model.clone())),
                }
                check(&table);
            }
            alike(&table, &model);
            for (field, value) in &model {
                prop_assert_eq!(table.get(field), Some([&field[..], &value[..]]));
            }
            for (table, model) in &frozen {
                alike(table, model);
            }
        }

        #[test]
        fn a_walk_misses_nothing_that_stays_while_the_table_changes(
            stays in 1usize..100,
            changes in vec((any::<u16>(), any::<bool>()), 0..600),
            count in 1usize..20,
        ) {
            let mut table = Table::<1>::new();
            let stays: Vec<String> = (0..stays).map(|it| format!("stays {it}")).collect();
            stays.iter().for_each(|it| table.add([it.as_bytes()]));
            let mut changes = changes.chunks(7);
            let (mut cursor, mut seen) = (0, BTreeSet::new());
            loop {
                cursor = table.scan(cursor, count, |[it]| { seen.insert(it.to_vec()); });
                if cursor == 0 {
                    break;
                }
                for (key, joins) in changes.next().into_iter().flatten() {
                    let text = format!("{key}");
                    // Many at once, to make it split.
                    let with_it = (0..20).map(|it| format!("{key} {it}")).chain([text]);
                    for text in with_it {
                        if !joins {
                            table.remove(text.as_bytes(), |_| {});
                        } else if table.get(text.as_bytes()).is_none() {
                            table.add([text.as_bytes()]);
                        }
                    }
                }
            }
            for it in &stays {
                prop_assert!(seen.contains(it.as_bytes()), "{it} was missed");
            }
        }
    }

    #[test]
    fn a_cursor_of_one_table_holds_in_another() {
        let (mut one, mut other) = (Table::<1>::new(), Table::<1>::new());
        (0..100).for_each(|it| one.add([format!("{it}").as_bytes()]));
        (0..1_000).for_each(|it| other.add([format!("{it}").as_bytes()]));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        for table in [&one, &other].iter().cycle() {
            cursor = table.scan(cursor, 7, |[it]| {
                seen.insert(it.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        assert!((0..100).all(|it| seen.contains(it.to_string().as_bytes())));
    }

    #[test]
    fn every_entry_is_as_likely_as_every_other() {
        let mut table = Table::<1>::new();
        (0..100).for_each(|it| table.add([format!("{it}").as_bytes()]));
        let (mut random, mut counts) = (fastrand::Rng::with_seed(7), BTreeMap::new());
        for _ in 0..100_000 {
            let [text] = table.pick(&mut random);
            *counts.entry(text).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 100);
        // A thousand each, give or take five standard deviations.
        assert!(counts.values().all(|it| (840..1_160).contains(it)), "{counts:?}");
    }
}
