//! What a key can hold.

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
}
