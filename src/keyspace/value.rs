//! What a key can hold.

use super::sizes::block_bytes;
use super::sorted_set::SortedSet;

/// The value of a key. Closed: a new kind should break every match on it.
#[derive(Clone, Debug)]
pub enum Value {
    /// Bytes.
    String(Box<[u8]>),
    /// Members ordered by score.
    SortedSet(SortedSet),
}

impl Value {
    /// The word that `TYPE` answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::SortedSet(_) => "zset",
        }
    }

    /// Bytes on the heap. Constant time, whatever the size.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::String(bytes) => block_bytes(bytes.len()),
            Value::SortedSet(set) => set.heap_bytes(),
        }
    }
}
