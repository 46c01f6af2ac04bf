//! Writing lengths, strings and values: each function appends to a buffer.

use std::convert::Infallible;
use std::mem;

use super::kind;
use super::listpack::{Packer, canonical_integer};
use crate::keyspace::sorted_set::Name;
use crate::keyspace::{List, SortedSet, Text, Value};
use crate::resp::number::NumberText;

/// Sorted sets up to this many members, none longer than
/// [`SORTED_SET_PACKED_MEMBER_LEN_MAX`], are packed: Redis' own limits.
const SORTED_SET_PACKED_LEN_MAX: usize = 128;
const SORTED_SET_PACKED_MEMBER_LEN_MAX: usize = 64;
/// Bytes of a node of a list, unless one element alone has more: Redis' own limit.
const NODE_LEN_MAX: usize = 8 << 10;
/// Says that a node is a listpack of elements.
const NODE_PACKED: u64 = 2;
/// Longest text that is written as an integer.
const INTEGER_TEXT_LEN_MAX: usize = 11;
/// Whole scores up to this are packed as integers.
const WHOLE_SCORE_MAX: f64 = (1u64 << 62) as f64;

/// A value, and the form in which it will be written.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    kind: u8,
    value: &'a Value,
}

impl<'a> Encoding<'a> {
    /// Chooses the form as Redis 7.0 does.
    pub fn of(value: &'a Value) -> Encoding<'a> {
        let kind = match value {
            Value::String(_) => kind::STRING,
            Value::SortedSet(set) if is_packed(set) => kind::SORTED_SET_LISTPACK,
            Value::SortedSet(_) => kind::SORTED_SET,
            Value::Hash(hash) if hash.is_big() => kind::HASH,
            Value::Hash(_) => kind::HASH_LISTPACK,
            Value::Set(set) if set.integers().is_some() => kind::SET_INTSET,
            Value::Set(_) => kind::SET,
            Value::List(_) => kind::QUICKLIST_2,
        };
        Encoding { kind, value }
    }

    /// The byte that says the form. A file has it before the key.
    pub fn kind(self) -> u8 {
        self.kind
    }

    /// Appends the value, without its kind.
    pub fn write(self, out: &mut Vec<u8>) {
        let Ok(()) = self.write_in_pieces::<Infallible>(out, |_out| Ok(()));
    }

    /// Appends the value, without its kind, and between its elements, or the pieces of
    /// a large string, lets `flush` take what is there.
    ///
    /// # Errors
    /// Those of `flush`.
    pub fn write_in_pieces<E>(
        self,
        out: &mut Vec<u8>,
        mut flush: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.value {
            Value::String(text) => match text.whole() {
                Some(text) => string(out, &text),
                None => {
                    length(out, text.len() as u64);
                    for piece in text.pieces(0..text.len()) {
                        out.extend_from_slice(&piece);
                        flush(out)?;
                    }
                }
            },
            Value::SortedSet(set) if self.kind == kind::SORTED_SET_LISTPACK => {
                packed_sorted_set(out, set);
            }
            Value::SortedSet(set) => {
                length(out, set.len() as u64);
                for (member, score) in set.iter().rev() {
                    scored(out, &member, score);
                    flush(out)?;
                }
            }
            Value::Hash(hash) if self.kind == kind::HASH_LISTPACK => {
                blob(out, |packer| {
                    for (field, value) in hash.iter() {
                        packer.push(field);
                        packer.push(value);
                    }
                });
            }
            Value::Hash(hash) => {
                length(out, hash.len() as u64);
                for (field, value) in hash.iter() {
                    string(out, field);
                    string(out, value);
                    flush(out)?;
                }
            }
            Value::Set(set) => match set.integers() {
                Some(integers) => intset(out, integers),
                None => {
                    length(out, set.len() as u64);
                    for member in set.iter() {
                        string(out, &member);
                        flush(out)?;
                    }
                }
            },
            Value::List(list) => return quicklist(out, list, flush),
        }
        Ok(())
    }
}

/// A list as nodes, each a listpack of about [`NODE_LEN_MAX`] bytes.
fn quicklist<E>(
    out: &mut Vec<u8>,
    list: &List,
    mut flush: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut node_count = 0;
    for_each_node(list, |_node| {
        node_count += 1;
        Ok::<(), Infallible>(())
    })
    .unwrap_or_else(|never| match never {});
    length(out, node_count);
    for_each_node(list, |node| {
        length(out, NODE_PACKED);
        length(out, node.len() as u64);
        out.extend_from_slice(node);
        flush(out)
    })
}

fn for_each_node<E>(list: &List, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut packer = Packer::new(Vec::new());
    for element in list.iter() {
        if !packer.is_empty() && packer.len() + element.len() > NODE_LEN_MAX {
            let mut node = packer.finish();
            each(&node)?;
            node.clear();
            packer = Packer::new(node);
        }
        packer.push(element);
    }
    if packer.is_empty() { Ok(()) } else { each(&packer.finish()) }
}

/// Integers that rise, in the narrowest width that holds them all.
fn intset(out: &mut Vec<u8>, integers: &[i64]) {
    let fits = |min: i64, max: i64| integers.iter().all(|it| (min..=max).contains(it));
    let width = if fits(i64::from(i16::MIN), i64::from(i16::MAX)) {
        2
    } else if fits(i64::from(i32::MIN), i64::from(i32::MAX)) {
        4
    } else {
        8
    };
    length(out, (8 + width * integers.len()) as u64);
    out.extend_from_slice(&(width as u32).to_le_bytes());
    out.extend_from_slice(&(integers.len() as u32).to_le_bytes());
    for integer in integers {
        out.extend_from_slice(&integer.to_le_bytes()[..width]);
    }
}

fn is_packed(set: &SortedSet) -> bool {
    let short = |(member, _): (Text<'_>, f64)| member.len() <= SORTED_SET_PACKED_MEMBER_LEN_MAX;
    // A small set keeps to the same limits by itself.
    !set.is_big() || set.len() <= SORTED_SET_PACKED_LEN_MAX && set.iter().all(short)
}

/// The kind of a sorted set that is written member by member: its length, then
/// [`scored`] members. The highest comes first: in that order Redis inserts
/// fastest.
pub const SORTED_SET_KIND: u8 = kind::SORTED_SET;

/// Appends a member and its score.
pub fn scored(out: &mut Vec<u8>, member: &[u8], score: f64) {
    string(out, member);
    out.extend_from_slice(&score.to_le_bytes());
}

/// Members and scores as one packed string, lowest first.
fn packed_sorted_set(out: &mut Vec<u8>, set: &SortedSet) {
    blob(out, |packer| {
        set.show(|name, score| {
            match name {
                Name::Number(number) => packer.push_integer(number),
                Name::Text(text) => packer.push(text),
            }
            let whole = score as i64;
            if whole as f64 == score && score.abs() <= WHOLE_SCORE_MAX {
                packer.push_integer(whole);
            } else {
                packer.push(&NumberText::double(score));
            }
        });
    });
}

/// Appends a packed blob as a string.
fn blob(out: &mut Vec<u8>, fill: impl FnOnce(&mut Packer)) {
    let start = out.len();
    let mut packer = Packer::new(mem::take(out));
    fill(&mut packer);
    *out = packer.finish();
    // How long it is, and in how many bytes that is said, is known only now.
    let end = out.len();
    length(out, (end - start) as u64);
    let length_len = out.len() - end;
    out[start..].rotate_right(length_len);
}

/// Appends a length in its shortest form.
pub fn length(out: &mut Vec<u8>, len: u64) {
    match len {
        0..=0x3F => out.push(len as u8),
        0x40..=0x3FFF => out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        0x4000..=0xFFFF_FFFF => {
            out.push(0x80);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends a string: as an integer if it is the canonical decimal of an `i32`, else raw.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    if text.len() <= INTEGER_TEXT_LEN_MAX
        && let Some(integer) = canonical_integer(text)
    {
        if let Ok(integer) = i8::try_from(integer) {
            out.push(0xC0);
            return out.extend_from_slice(&integer.to_le_bytes());
        }
        if let Ok(integer) = i16::try_from(integer) {
            out.push(0xC1);
            return out.extend_from_slice(&integer.to_le_bytes());
        }
        if let Ok(integer) = i32::try_from(integer) {
            out.push(0xC2);
            return out.extend_from_slice(&integer.to_le_bytes());
        }
    }
    length(out, text.len() as u64);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut out = Vec::new();
        written(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        check(|out| length(out, 63), &[63]);
        check(|out| length(out, 64), &[0x40, 64]);
        check(|out| length(out, 16_383), &[0x7F, 0xFF]);
        check(|out| length(out, 16_384), &[0x80, 0, 0, 0x40, 0]);
        check(|out| length(out, 0xFFFF_FFFF), &[0x80, 0xFF, 0xFF, 0xFF, 0xFF]);
        check(|out| length(out, 1 << 32), &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn small_integers_are_written_as_such() {
        check(|out| string(out, b"10"), &[0xC0, 10]);
        check(|out| string(out, b"-128"), &[0xC0, 0x80]);
        check(|out| string(out, b"128"), &[0xC1, 128, 0]);
        check(|out| string(out, b"-2147483648"), &[0xC2, 0, 0, 0, 0x80]);
        check(|out| string(out, b"2147483648"), b"\x0a2147483648");
        check(|out| string(out, b"007"), b"\x03007");
        check(|out| string(out, b""), &[0]);
    }
}
