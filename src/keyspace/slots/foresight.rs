//! Foresight: where the keys stand that the next commands name.
//!
//! A key alone waits for the memory four times in a row. Several, looked up side by
//! side before the first is used, wait together.
//!
//! What was seen is no promise. A slot that is live and holds a key is that key's,
//! whatever happened since it was seen; so who asks compares, and is never wrong.
//! Keys are mostly asked for in the order in which they were foreseen, so one
//! comparison does; a key asked for out of order is hashed, and passes those before it.

use std::hint::black_box;

use super::NO_SLOT;
use super::slab::{Slab, Slot};

/// Keys that are foreseen at once.
const KEYS_MAX: usize = 64;

/// Looks that are left out after one that saw mostly keys that are not there: of
/// these nothing can be fetched, and a hash cannot be compared with a key.
const LOOKS_LEFT_OUT: u8 = 31;

/// Keys to come. See the module's header.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    keys: Vec<Foreseen>,
    /// The first that was not asked for yet.
    next: usize,
    /// Looks that are still to be left out.
    left_out: u8,
}

#[derive(Clone, Copy, Debug)]
struct Foreseen {
    hash: u32,
    /// `NO_SLOT` if it is not there.
    slot: u32,
}

impl Foresight {
    /// Looks up the keys of these hashes; what was seen before is forgotten.
    pub(super) fn look(&mut self, slab: &Slab, hashes: impl Iterator<Item = u32>) {
        self.keys.clear();
        self.next = 0;
        if let Some(left_out) = self.left_out.checked_sub(1) {
            self.left_out = left_out;
            return;
        }
        // Each step reads what the one before it found, for all keys, and no read of a
        // step needs another's: so the processor need not finish one to begin the next.
        let unseen = |hash| Foreseen { hash, slot: NO_SLOT };
        hashes.take(KEYS_MAX).for_each(|hash| self.keys.push(unseen(hash)));
        let mut found = 0;
        for key in &mut self.keys {
            if let Some(slot) = slab.index.find(key.hash, |_| true) {
                key.slot = slot;
                found += 1;
            }
        }
        if found * 2 < self.keys.len() {
            self.left_out = LOOKS_LEFT_OUT;
        }
        let slots = || self.keys.iter().filter_map(|key| slab.get(key.slot));
        // A slot may lie across two lines of the cache, so both of its ends are read.
        let ends = |slot: &Slot| slot.key.len() ^ usize::from(slot.value.is_some());
        black_box(slots().fold(0, |sum, slot| sum ^ ends(slot) ^ slot.epoch as usize));
        black_box(slots().filter_map(|slot| slot.key.first()).fold(0, |sum, byte| sum ^ byte));
    }

    /// The slot where the next key may be.
    pub(super) fn next(&self) -> Option<u32> {
        self.keys.get(self.next).map(|key| key.slot)
    }

    /// The next key was asked for.
    pub(super) fn pass(&mut self) {
        self.next += 1;
    }

    /// A key of this hash was asked for.
    pub(super) fn pass_by(&mut self, hash: u32) {
        let rest = self.keys.get(self.next..).unwrap_or_default();
        if let Some(before) = rest.iter().position(|key| key.hash == hash) {
            self.next += before + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::keyspace::slots::Slots;
    use crate::keyspace::string::StringValue;
    use crate::keyspace::value::Value;

    /// Foresees some of the keys `a` to `f`, which are there, and of others, which are
    /// not; lets something happen; and asks for keys. What is there is found, and
    /// nothing else. Returns how many of the foreseen are still to come.
    fn check(foreseen: &str, happens: impl FnOnce(&mut Slots), asked: &str, found: &str) -> usize {
        let mut slots = Slots::new();
        for key in "abcdef".chars() {
            insert(&mut slots, &key.to_string());
        }
        let keys: Vec<String> = foreseen.chars().map(String::from).collect();
        slots.foresee(keys.iter().map(String::as_bytes));
        happens(&mut slots);
        let mut answers = String::new();
        for key in asked.chars().map(String::from) {
            if let Ok(id) = slots.find(key.as_bytes()) {
                assert_eq!(slots.key(id), key.as_bytes());
                assert_eq!(slots.lookup(key.as_bytes()), Some(id));
                answers.push_str(&key);
            }
        }
        assert_eq!(answers, found, "{foreseen} foreseen, {asked} asked for");
        slots.foresight.keys.len().saturating_sub(slots.foresight.next)
    }

    fn insert(slots: &mut Slots, key: &str) {
        let vacant = slots.find(key.as_bytes()).unwrap_err();
        slots.insert(vacant, key.as_bytes(), Value::String(StringValue::from_text(b"1")), None);
    }

    fn remove(slots: &mut Slots, key: &str) {
        let id = slots.find(key.as_bytes()).unwrap();
        slots.free(id);
    }

    #[test]
    fn keys_are_asked_for_in_the_order_foreseen_or_in_another() {
        assert_eq!(check("abcdef", |_| (), "abcdef", "abcdef"), 0);
        assert_eq!(check("abcdef", |_| (), "abc", "abc"), 3);
        assert_eq!(check("abcdef", |_| (), "acf", "acf"), 0);
    }

    #[test]
    fn keys_that_are_not_there_are_passed_by() {
        assert_eq!(check("abxcy", |_| (), "abxcy", "abc"), 0);
        assert_eq!(check("abc", |_| (), "xyabc", "abc"), 0);
    }

    #[test]
    fn what_happens_after_the_look_is_seen() {
        check("abc", |it| remove(it, "b"), "abc", "ac");
        check("abc", Slots::clear, "abc", "");
        let reborn = |it: &mut Slots| {
            it.clear();
            insert(it, "b");
            insert(it, "a");
        };
        check("abc", reborn, "abc", "ab");
        let replaced = |it: &mut Slots| {
            remove(it, "b");
            insert(it, "x");
        };
        check("abxc", replaced, "abxc", "axc");
        let renamed = |it: &mut Slots| {
            let id = it.find(b"b").unwrap();
            let vacant = it.find(b"x").unwrap_err();
            it.rename(id, vacant, b"x");
        };
        check("abxc", renamed, "abxc", "axc");
    }

    #[test]
    fn after_a_look_that_saw_few_keys_some_are_left_out() {
        let mut slots = Slots::new();
        insert(&mut slots, "a");
        let mut sees = |keys: &[&str]| {
            slots.foresee(keys.iter().map(|it| it.as_bytes()));
            !slots.foresight.keys.is_empty()
        };
        assert!(sees(&["a", "x"]) && sees(&["x", "y", "a"]));
        for _ in 0..super::LOOKS_LEFT_OUT {
            assert!(!sees(&["a"]));
        }
        assert!(sees(&["a"]) && sees(&["a"]));
    }
}
