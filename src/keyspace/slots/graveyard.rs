//! What is no longer in the keyspace and still takes memory.
//!
//! To free a million slots, or one value of a million elements, takes longer than
//! anybody should hold the engine. So what is large is laid down here, and handed
//! out in pieces to whoever drops them where nobody waits. Whoever makes room while
//! others wait drops slots only: a large value is one piece, of any size.

use super::Slab;
use super::slab::Slot;
use crate::keyspace::value::Value;

/// Smaller values are dropped at once.
const LARGE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// With so much of large values here no more are taken. They do not count as used
/// memory: if they did, to evict one would seem to help nothing.
const FULL_BYTES: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    slabs: Vec<Slab>,
    values: Vec<Value>,
    value_bytes: usize,
}

/// A piece of what the keyspace held, to be dropped.
#[derive(Debug, Default)]
pub struct Remains {
    _slots: Box<[Slot]>,
    _value: Option<Value>,
}

impl Graveyard {
    /// Takes the slots of a keyspace that was cleared away.
    pub(super) fn add(&mut self, slab: Slab) {
        self.slabs.push(slab);
    }

    /// Takes a value, or drops it if that takes no time.
    pub(super) fn discard(&mut self, value: Value) {
        let bytes = value.heap_bytes();
        if bytes >= LARGE_BYTES && self.value_bytes < FULL_BYTES {
            self.value_bytes += bytes;
            self.values.push(value);
        }
    }

    /// A piece; `None` when nothing is left.
    pub(super) fn pop(&mut self) -> Option<Remains> {
        let Some(value) = self.values.pop() else { return self.pop_slots() };
        self.value_bytes -= value.heap_bytes();
        Some(Remains { _value: Some(value), ..Remains::default() })
    }

    /// A piece of slots that were cleared away, which count as used memory; `None` when
    /// none are left.
    pub(super) fn pop_slots(&mut self) -> Option<Remains> {
        while let Some(slab) = self.slabs.last_mut() {
            match slab.pop_segment() {
                Some(slots) => return Some(Remains { _slots: slots, ..Remains::default() }),
                None => self.slabs.pop(),
            };
        }
        None
    }

    /// Bytes of slots that were cleared away, with all that they hold.
    pub(super) fn slab_bytes(&self) -> usize {
        self.slabs.iter().map(Slab::heap_bytes).sum()
    }
}
