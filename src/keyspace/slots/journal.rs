//! The journal of the open transaction: how to undo what it changed.
//!
//! Each change notes its inverse, so a transaction costs what it changes and not
//! what it looks at: adding a hit to a set of a thousand notes one member, not a
//! thousand. Undoing goes from the last note to the first. Small notes stand in
//! one list; what they own (texts, keys, values) lies on stacks beside it, so a warm
//! journal allocates nothing.
//!
//! Undoing changes slots, so it touches them: a running snapshot sees a rollback
//! as it sees any change.

use super::within::Change;
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
    /// Something within the value was another.
    Within { id: SlotId, change: Change },
    /// Every key was cleared away: the slab is on the stack of slabs.
    Cleared,
}

/// Bytes of notes, and of texts, that are kept from one transaction to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Notes of the open transaction, and the stacks of what they own.
#[derive(Debug, Default)]
pub(super) struct Journal {
    is_open: bool,
    notes: Vec<Undo>,
    /// What changes within values own: members, fields, elements.
    texts: Vec<u8>,
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
            + block_bytes(self.texts.capacity())
            + block_bytes(self.keys.capacity() * size_of::<Box<[u8]>>())
            + block_bytes(self.values.capacity() * size_of::<Value>())
    }

    /// Notes an inverse that owns nothing. Does nothing outside a transaction.
    pub(super) fn note(&mut self, undo: Undo) {
        if self.is_open {
            self.notes.push(undo);
        }
    }

    /// Notes a change within a value that owns nothing.
    pub(super) fn note_within(&mut self, id: SlotId, change: Change) {
        self.note(Undo::Within { id, change });
    }

    /// Notes a change within a value that owns a text.
    pub(super) fn note_text(
        &mut self,
        id: SlotId,
        text: &[u8],
        change: impl FnOnce(u32) -> Change,
    ) {
        let len = self.push_text(text);
        self.note_within(id, change(len));
    }

    /// Puts a text on its stack, for the change noted next. Its length.
    pub(super) fn push_text(&mut self, text: &[u8]) -> u32 {
        self.texts.extend_from_slice(text);
        text.len() as u32
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

    /// Gives back the room that only a long transaction needs: it counts as used.
    fn shrink(&mut self) {
        self.notes.shrink_to(KEPT_BYTES_MAX / size_of::<Undo>());
        self.texts.shrink_to(KEPT_BYTES_MAX);
        self.keys.shrink_to(KEPT_BYTES_MAX / size_of::<Box<[u8]>>());
        self.values.shrink_to(KEPT_BYTES_MAX / size_of::<Value>());
    }

    /// Takes the last text off its stack.
    pub(super) fn pop_text(&mut self, len: u32) -> Vec<u8> {
        self.texts.split_off(self.texts.len() - len as usize)
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
        journal.texts.clear();
        journal.keys.clear();
        journal.values.drain(..).for_each(|value| self.graveyard.discard(value));
        // In order: a running snapshot walks the slab that was cleared first.
        for slab in std::mem::take(&mut journal.slabs) {
            self.retire(slab);
        }
        self.journal.shrink();
    }

    /// Closes the transaction; everything is as it was when it began.
    pub(in crate::keyspace) fn rollback(&mut self) {
        self.journal.is_open = false;
        while let Some(undo) = self.journal.notes.pop() {
            self.undo(undo);
        }
        debug_assert!(self.journal.texts.is_empty() && self.journal.keys.is_empty());
        debug_assert!(self.journal.values.is_empty() && self.journal.slabs.is_empty());
        self.journal.shrink();
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Born(id) => {
                if let Some(value) = self.vacate(id).value {
                    self.graveyard.discard(value);
                }
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
            Undo::Within { id, change } => self.undo_within(id, change),
            Undo::Cleared => {
                if let Some(slab) = self.journal.slabs.pop() {
                    let cleared = std::mem::replace(&mut self.slab, slab);
                    self.graveyard.add(cleared);
                }
            }
        }
    }
}
