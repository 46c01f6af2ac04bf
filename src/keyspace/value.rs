//! What a key can hold.

use super::sorted_set::SortedSet;
use super::string::StringValue;

/// The value of a key. Closed: a new kind should break every match on it.
#[derive(Clone, Debug)]
pub enum Value {
    /// Bytes, or an integer.
    String(StringValue),
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
            Value::String(string) => string.heap_bytes(),
            Value::SortedSet(set) => set.heap_bytes(),
        }
    }

    /// The word that `OBJECT ENCODING` answers.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::String(string) => string.encoding(),
            Value::SortedSet(set) if set.is_big() => "skiplist",
            Value::SortedSet(_) => "listpack",
        }
    }
}
