//! What a key can hold.

use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::sorted_set::SortedSet;
use super::string::StringValue;

/// The value of a key. Closed: a new kind should break every match on it.
#[derive(Clone, Debug)]
pub enum Value {
    /// Bytes, or an integer.
    String(StringValue),
    /// Members ordered by score.
    SortedSet(SortedSet),
    /// Fields with values.
    Hash(Hash),
    /// Members without order.
    Set(Set),
    /// Elements in order.
    List(List),
}

impl Value {
    /// The word that `TYPE` answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::SortedSet(_) => "zset",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::List(_) => "list",
        }
    }

    /// Bytes on the heap. Constant time, whatever the size.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::String(string) => string.heap_bytes(),
            Value::SortedSet(set) => set.heap_bytes(),
            Value::Hash(hash) => hash.heap_bytes(),
            Value::Set(set) => set.heap_bytes(),
            Value::List(list) => list.heap_bytes(),
        }
    }

    /// The word that `OBJECT ENCODING` answers.
    pub fn encoding(&self) -> &'static str {
        match self {
            Value::String(string) => string.encoding(),
            Value::SortedSet(set) if set.is_big() => "skiplist",
            Value::Hash(hash) if hash.is_big() => "hashtable",
            Value::SortedSet(_) | Value::Hash(_) => "listpack",
            Value::Set(set) if set.integers().is_some() => "intset",
            Value::Set(_) => "hashtable",
            Value::List(_) => "quicklist",
        }
    }
}

/// A kind of value.
pub(super) trait Kind: Into<Value> {
    /// What a value of this kind holds.
    fn of(value: &Value) -> Option<&Self>;

    /// The same, to be changed; for [`slots`](super::slots) only.
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
}

macro_rules! kinds {
    ($($kind:ident($held:ty)),*) => {$(
        impl From<$held> for Value {
            fn from(held: $held) -> Value {
                Value::$kind(held)
            }
        }

        impl Kind for $held {
            fn of(value: &Value) -> Option<&$held> {
                if let Value::$kind(held) = value { Some(held) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut $held> {
                if let Value::$kind(held) = value { Some(held) } else { None }
            }
        }
    )*};
}

kinds!(String(StringValue), SortedSet(SortedSet), Hash(Hash), Set(Set), List(List));
