//! What is no longer in the keyspace and still takes memory.
//!
//! To free a million slots, or one value of a million elements, takes longer than
//! anybody should hold the engine. So what is large is laid down here, and handed
//! out in pieces to whoever drops them where nobody waits. A large string comes in
//! pieces too: whoever must drop some while others wait drops little at once.

use super::Slab;
use super::slab::Slot;
use crate::keyspace::value::Value;

/// Smaller values are dropped at once.
const LARGE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// With so much of large values here no more are taken. They do not count as used
/// memory: if they did, to evict one would seem to help nothing.
const KEPT_BYTES_MAX: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };

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
        if bytes >= LARGE_BYTES && self.value_bytes < KEPT_BYTES_MAX {
            self.value_bytes += bytes;
            self.values.push(value);
        }
    }

    /// A piece; `None` when nothing is left.
    pub(super) fn pop(&mut self) -> Option<Remains> {
        if let Some(value) = self.pop_value() {
            return Some(Remains { _value: Some(value), ..Remains::default() });
        }
        while let Some(slab) = self.slabs.last_mut() {
            match slab.pop_segment() {
                Some(slots) => return Some(Remains { _slots: slots, ..Remains::default() }),
                None => self.slabs.pop(),
            };
        }
        None
    }

    /// A large value, or a piece of one.
    fn pop_value(&mut self) -> Option<Value> {
        let last = self.values.last_mut()?;
        self.value_bytes -= last.heap_bytes();
        if let Value::String(string) = last
            && let Some(piece) = string.split_off()
        {
            self.value_bytes += last.heap_bytes();
            return Some(Value::String(piece));
        }
        self.values.pop()
    }

    /// Bytes of slots that were cleared away, with all that they hold.
    pub(super) fn slab_bytes(&self) -> usize {
        self.slabs.iter().map(Slab::heap_bytes).sum()
    }
}
