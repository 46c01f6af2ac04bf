//! A hash index that never stops to grow.
//!
//! One large hash table moves all of its entries when it doubles, which takes
//! 25 ms at a million entries. This one is a list of small tables that grows by
//! one table at a time (linear hashing): each step splits one small table in two
//! and moves about five hundred entries.
//!
//! ```text
//! tables   0 1 2 3 4 5        6 tables: hash & 7, and where that is 6 or 7, & 3
//!          ^ ^     | |        4 was split off 0, 5 off 1; 2 is the next to split
//! ```
//!
//! Each entry keeps 32 bits of its hash, so nothing is hashed twice. The hashes
//! must be hard to guess where strangers choose the keys; that is the caller's.

use hashbrown::HashTable;

use super::sizes::block_bytes;

/// Mean entries of a table before the next split.
const TABLE_LEN: usize = 1024;

/// Entries found by a 32-bit hash and a test of equality.
#[derive(Clone, Debug)]
pub(super) struct Index<T> {
    /// Never empty.
    tables: Vec<HashTable<Entry<T>>>,
    len: usize,
    /// What the tables have on the heap.
    table_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    hash: u32,
    item: T,
}

impl<T: Copy> Index<T> {
    /// Bytes of one entry: itself, and the byte by which a table finds it. The room that
    /// tables keep free is nobody's.
    pub(super) const ENTRY_BYTES: usize = size_of::<Entry<T>>() + 1;

    pub(super) fn new() -> Index<T> {
        Index { tables: vec![HashTable::new()], len: 0, table_bytes: 0 }
    }

    /// Entries in the index.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The entry of this hash that `is_it` accepts.
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(T) -> bool) -> Option<T> {
        self.tables[self.table_of(hash)]
            .find(spread(hash), |entry| entry.hash == hash && is_it(entry.item))
            .map(|entry| entry.item)
    }

    /// Adds an entry. The caller knows that its equal is not there.
    pub(super) fn insert(&mut self, hash: u32, item: T) {
        if self.len >= self.tables.len() * TABLE_LEN {
            self.split();
        }
        let table = self.table_of(hash);
        let table = &mut self.tables[table];
        // Only a table that is full grows.
        let grows = (table.len() == table.capacity()).then(|| bytes_of(table));
        table.insert_unique(spread(hash), Entry { hash, item }, |it| spread(it.hash));
        if let Some(before) = grows {
            self.table_bytes = self.table_bytes - before + bytes_of(table);
        }
        self.len += 1;
    }

    /// Takes out the entry of this hash that `is_it` accepts.
    pub(super) fn remove(&mut self, hash: u32, mut is_it: impl FnMut(T) -> bool) -> Option<T> {
        let table = self.table_of(hash);
        let found = self.tables[table]
            .find_entry(spread(hash), |entry| entry.hash == hash && is_it(entry.item))
            .ok()?;
        self.len -= 1;
        Some(found.remove().0.item)
    }

    /// Shows entries in an order that growth does not change, by their hashes read
    /// from the lowest bit up: those from `cursor` on, `count` of them or a few
    /// more. Returns the cursor to go on from, `None` at the end.
    ///
    /// Each table holds one stretch of this order, and a split cuts a stretch in
    /// two. So what is there from the first step to the last is shown once.
    pub(super) fn scan(
        &self,
        cursor: u32,
        count: usize,
        mut each: impl FnMut(u32, T),
    ) -> Option<u32> {
        let (mut begin, mut remaining) = (u64::from(cursor), count.max(1));
        let mut stretch = Vec::new();
        while begin <= u64::from(u32::MAX) {
            let table = self.table_of((begin as u32).reverse_bits());
            let entries = self.tables[table].iter().map(|it| (it.hash.reverse_bits(), *it));
            stretch.clear();
            stretch.extend(entries.filter(|(place, _)| u64::from(*place) >= begin));
            stretch.sort_unstable_by_key(|(place, _)| *place);
            let stretch_len = 1u64 << self.free_bits(table);
            let next = match stretch.get(remaining - 1) {
                // What shares a place is shown together.
                Some((last, _)) => u64::from(*last) + 1,
                None => (begin / stretch_len + 1) * stretch_len,
            };
            let shown = stretch.partition_point(|(place, _)| u64::from(*place) < next);
            stretch[..shown].iter().for_each(|(_, entry)| each(entry.hash, entry.item));
            remaining = remaining.saturating_sub(shown);
            begin = next;
            if remaining == 0 {
                break;
            }
        }
        u32::try_from(begin).ok()
    }

    /// Bits of a hash that do not say which table it belongs to.
    fn free_bits(&self, table: usize) -> u32 {
        let bits = self.tables.len().next_power_of_two().ilog2();
        let half = 1 << bits >> 1;
        let is_whole = table < half && table + half >= self.tables.len();
        u32::BITS - if is_whole { bits - 1 } else { bits }
    }

    /// Any entry: one of the first table with entries behind a random place.
    pub(super) fn any(&self, random: &mut fastrand::Rng) -> Option<T> {
        let start = random.usize(..self.tables.len());
        let (before, from) = self.tables.split_at(start);
        let table = from.iter().chain(before).find(|table| !table.is_empty())?;
        table.iter().nth(random.usize(..table.len())).map(|entry| entry.item)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.table_bytes + block_bytes(self.tables.capacity() * size_of::<HashTable<Entry<T>>>())
    }

    fn table_of(&self, hash: u32) -> usize {
        let mask = self.tables.len().next_power_of_two() - 1;
        let table = hash as usize & mask;
        if table < self.tables.len() { table } else { table & (mask >> 1) }
    }

    /// Adds a table and moves to it what now belongs there.
    fn split(&mut self) {
        let new = self.tables.len();
        let source = new - (1 << new.ilog2());
        let mask = (new + 1).next_power_of_two() - 1;
        let mut table = HashTable::with_capacity(TABLE_LEN);
        self.tables[source].retain(|entry| {
            let stays = entry.hash as usize & mask != new;
            if !stays {
                table.insert_unique(spread(entry.hash), *entry, |it| spread(it.hash));
            }
            stays
        });
        self.table_bytes += bytes_of(&table);
        self.tables.push(table);
    }
}

fn bytes_of<T>(table: &HashTable<T>) -> usize {
    block_bytes(table.allocation_size())
}

/// A hash for one small table. The low bits of the entry's own hash have chosen
/// the table and are the same for all of its entries; this mixes the others in.
fn spread(hash: u32) -> u64 {
    let mixed = u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: u32) -> u32 {
        // A permutation of the 32-bit integers: distinct keys, distinct hashes.
        key.wrapping_mul(0x9E37_79B1)
    }

    #[test]
    fn entries_are_found_across_splits_and_removed_once() {
        let mut index = Index::new();
        let count = 20_000;
        for key in 0..count {
            index.insert(hash(key), key);
        }
        assert!(index.tables.len() > 10, "{} tables", index.tables.len());
        for key in 0..count {
            assert_eq!(index.find(hash(key), |it| it == key), Some(key));
        }
        for key in (0..count).step_by(2) {
            assert_eq!(index.remove(hash(key), |it| it == key), Some(key));
            assert_eq!(index.remove(hash(key), |it| it == key), None);
        }
        assert_eq!(index.len(), count as usize / 2);
        let bytes: usize = index.tables.iter().map(bytes_of).sum();
        assert_eq!(index.table_bytes, bytes, "the account is kept");
        for key in 0..count {
            let expected = (key % 2 == 1).then_some(key);
            assert_eq!(index.find(hash(key), |it| it == key), expected);
        }
    }

    #[test]
    fn a_scan_shows_once_what_is_there_all_along_while_tables_split() {
        for start in [0u32, 100, 1_000, 3_000] {
            let mut index = Index::new();
            (0..start).for_each(|key| index.insert(hash(key), key));
            let (mut seen, mut cursor, mut next_key) = (vec![0; start as usize], Some(0), start);
            while let Some(from) = cursor {
                cursor = index.scan(from, 10, |_, key| {
                    if key < start {
                        seen[key as usize] += 1;
                    }
                });
                for _ in 0..20 {
                    index.insert(hash(next_key), next_key);
                    next_key += 1;
                }
            }
            assert!(seen.iter().all(|times| *times == 1), "{start}");
        }
    }

    #[test]
    fn entries_of_one_hash_are_told_apart() {
        let mut index = Index::new();
        (0..10).for_each(|item| index.insert(7, item));
        assert_eq!(index.find(7, |it| it == 9), Some(9));
        assert_eq!(index.remove(7, |it| it == 3), Some(3));
        assert_eq!(index.find(7, |it| it == 3), None);
    }
}
