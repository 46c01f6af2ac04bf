//! The journal of the open transaction: how to undo what it changed.
//!
//! Each change notes its inverse, so a transaction costs what it changes and not
//! what it looks at: adding a hit to a set of a thousand notes one member, not a
//! thousand. Undoing goes from the last note to the first. Small notes stand in
//! one list; what they own (members, keys, values) lies on stacks beside it, so a
//! warm journal allocates nothing.
//!
//! Undoing changes slots, so it touches them: a running snapshot sees a rollback
//! as it sees any change.

use super::{NEVER, Slab, Slot, SlotId, Slots, Usage, hash_of};
use crate::keyspace::sizes::block_bytes;
use crate::keyspace::value::Value;

/// The inverse of one change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    /// A key was born: free the slot.
    Born(SlotId),
    /// A key was freed: bring it back, value and key from their stacks.
    Freed { expires_at_ms: u64, usage: Usage },
    /// The key was another, now on the stack of keys.
    Renamed(SlotId),
    /// The value was another, now on the stack of values.
    Replaced(SlotId),
    /// The deadline was another.
    Deadline { id: SlotId, was: u64 },
    /// A member joined a sorted set: take it out. Its `len` bytes end the stack.
    Joined { id: SlotId, len: u32 },
    /// A member left a sorted set: add it.
    Left { id: SlotId, len: u32, score: f64 },
    /// A member had another score.
    Rescored { id: SlotId, len: u32, was: f64 },
    /// A string was written into from `at` on, over the `len` bytes that end the
    /// stack of members; it had `was_len` bytes.
    Overwrote { id: SlotId, at: u32, len: u32, was_len: u32 },
    /// Every key was cleared away: the slab is on the stack of slabs.
    Cleared,
}

/// Notes of the open transaction, and the stacks of what they own.
#[derive(Debug, Default)]
pub(super) struct Journal {
    is_open: bool,
    notes: Vec<Undo>,
    members: Vec<u8>,
    keys: Vec<Box<[u8]>>,
    values: Vec<Value>,
    slabs: Vec<Slab>,
}

impl Journal {
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Bytes of the stacks. What a transaction took out of the keyspace does not
    /// count while it lasts.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.notes.capacity() * size_of::<Undo>())
            + block_bytes(self.members.capacity())
            + block_bytes(self.keys.capacity() * size_of::<Box<[u8]>>())
            + block_bytes(self.values.capacity() * size_of::<Value>())
    }

    /// Notes an inverse that owns nothing. Does nothing outside a transaction.
    pub(super) fn note(&mut self, undo: Undo) {
        if self.is_open {
            self.notes.push(undo);
        }
    }

    pub(super) fn note_member(&mut self, member: &[u8], undo: impl FnOnce(u32) -> Undo) {
        self.members.extend_from_slice(member);
        self.note(undo(member.len() as u32));
    }

    pub(super) fn note_freed(&mut self, freed: Slot) {
        let Slot { key, value, expires_at_ms, usage, .. } = freed;
        debug_assert!(value.is_some(), "only a live slot is freed");
        if let Some(value) = value {
            self.keys.push(key);
            self.values.push(value);
            self.note(Undo::Freed { expires_at_ms, usage });
        }
    }

    pub(super) fn note_renamed(&mut self, id: SlotId, old: Box<[u8]>) {
        self.keys.push(old);
        self.note(Undo::Renamed(id));
    }

    pub(super) fn note_replaced(&mut self, id: SlotId, old: Value) {
        self.values.push(old);
        self.note(Undo::Replaced(id));
    }

    pub(super) fn note_cleared(&mut self, slab: Slab) {
        self.slabs.push(slab);
        self.note(Undo::Cleared);
    }

    /// Takes the member of the last note off its stack.
    fn pop_member(&mut self, len: u32) -> Vec<u8> {
        self.members.split_off(self.members.len() - len as usize)
    }
}

impl Slots {
    /// Opens a transaction.
    pub(in crate::keyspace) fn begin(&mut self) {
        debug_assert!(!self.journal.is_open, "transactions do not nest");
        self.journal.is_open = true;
    }

    /// Closes the transaction; its changes stand.
    pub(in crate::keyspace) fn commit(&mut self) {
        let journal = &mut self.journal;
        journal.is_open = false;
        journal.notes.clear();
        journal.members.clear();
        journal.keys.clear();
        journal.values.clear();
        // In order: a running snapshot walks the slab that was cleared first.
        for slab in std::mem::take(&mut journal.slabs) {
            self.retire(slab);
        }
    }

    /// Closes the transaction; everything is as it was when it began.
    pub(in crate::keyspace) fn rollback(&mut self) {
        self.journal.is_open = false;
        while let Some(undo) = self.journal.notes.pop() {
            self.undo(undo);
        }
        debug_assert!(self.journal.members.is_empty() && self.journal.keys.is_empty());
        debug_assert!(self.journal.values.is_empty() && self.journal.slabs.is_empty());
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Born(id) => {
                self.vacate(id);
            }
            Undo::Freed { expires_at_ms, usage } => {
                if let (Some(key), Some(value)) =
                    (self.journal.keys.pop(), self.journal.values.pop())
                {
                    let hash = hash_of(&self.hasher, &key);
                    self.occupy(hash, key, value, expires_at_ms, usage);
                }
            }
            Undo::Renamed(id) => {
                if let Some(key) = self.journal.keys.pop() {
                    self.rekey(id, hash_of(&self.hasher, &key), key);
                }
            }
            Undo::Replaced(id) => {
                if let Some(value) = self.journal.values.pop() {
                    self.replace(id, value);
                }
            }
            Undo::Deadline { id, was } => {
                self.set_deadline(id, (was != NEVER).then_some(was));
            }
            Undo::Joined { id, len } => {
                let member = self.journal.pop_member(len);
                if let Some(mut set) = self.sorted_set(id) {
                    set.remove(&member);
                }
            }
            Undo::Left { id, len, score } => {
                let member = self.journal.pop_member(len);
                if let Some(mut set) = self.sorted_set(id) {
                    set.add(&member, score);
                }
            }
            Undo::Rescored { id, len, was } => {
                let member = self.journal.pop_member(len);
                if let Some(mut set) = self.sorted_set(id)
                    && let Some(current) = set.score(&member)
                {
                    set.rescore(&member, current, was);
                }
            }
            Undo::Overwrote { id, at, len, was_len } => {
                let bytes = self.journal.pop_member(len);
                if let Some(Value::String(string)) = &mut self.touch(id).value {
                    string.restore(at as usize, &bytes, was_len as usize);
                }
            }
            Undo::Cleared => {
                if let Some(slab) = self.journal.slabs.pop() {
                    let cleared = std::mem::replace(&mut self.slab, slab);
                    self.graveyard.push(cleared);
                }
            }
        }
    }
}
