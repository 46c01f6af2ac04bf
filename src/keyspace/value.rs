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

    /// What `COPY` makes of the value.
    pub(super) fn copied(&self) -> Value {
        match self {
            Value::String(string) => Value::String(string.copied()),
            _ => self.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_a_hashtable_from_its_513th_field_or_its_first_long_text_on() {
        let hash = |len: usize, text_len: usize| {
            let mut hash = Hash::new();
            (0..len).for_each(|it| {
                hash.insert(format!("{it}").as_bytes(), &vec![b'x'; text_len]);
            });
            hash
        };
        assert_eq!(Value::from(hash(512, 64)).encoding(), "listpack");
        assert_eq!(Value::from(hash(1, 65)).encoding(), "hashtable");
        let mut grown = hash(513, 1);
        assert_eq!(Value::from(grown.clone()).encoding(), "hashtable");
        (0..512).for_each(|it| assert!(grown.remove(format!("{it}").as_bytes(), |_, _| {})));
        assert_eq!((grown.len(), Value::from(grown).encoding()), (1, "hashtable"));
    }

    #[test]
    fn a_set_is_an_intset_until_its_513th_member_or_its_first_text() {
        let set = |len: usize, more: &str| {
            let mut set = Set::new();
            (0..len).for_each(|it| assert!(set.add(format!("-{}", it + 1).as_bytes())));
            set.add(more.as_bytes());
            Value::from(set).encoding()
        };
        assert_eq!(set(511, "9223372036854775807"), "intset");
        assert_eq!(set(512, "0"), "hashtable");
        assert_eq!(set(1, "01"), "hashtable");
        assert_eq!(set(1, "9223372036854775808"), "hashtable");
        assert_eq!(set(0, "text"), "hashtable");
    }
}
