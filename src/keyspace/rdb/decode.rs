//! Reading lengths, strings and values, from a file or from a payload.

use super::packed::Form;
use super::unpack::{self, Expected, Packed};
use super::{kind, lzf};
use crate::keyspace::sorted_set::SMALL_LEN_MAX;
use crate::keyspace::{Hash, List, Set, SortedSet, StringValue, Value};

/// Longest string: Redis' own limit.
const STRING_LEN_MAX: u64 = 512 << 20;

/// Bytes of a long string that are read at once.
const STRING_PIECE_LEN: u64 = if cfg!(test) { 100 } else { 64 << 10 };

/// Where a value is read from. It knows where it stands, so it makes the errors.
pub trait Input {
    /// What it says when bytes are missing or wrong.
    type Error;

    /// The next `N` bytes.
    ///
    /// # Errors
    /// It ends before.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Self::Error>;

    /// The next `len` bytes, in the place of what `out` held. Reserves no more
    /// than has arrived.
    ///
    /// # Errors
    /// It ends before.
    fn bytes(&mut self, len: u64, out: &mut Vec<u8>) -> Result<(), Self::Error>;

    /// Says that what was read last is not what it should be.
    fn malformed(&self, expected: &'static str) -> Self::Error;

    /// What was made of it; or says so.
    ///
    /// # Errors
    /// Nothing was.
    fn made<T>(&self, made: Result<T, Expected>) -> Result<T, Self::Error> {
        made.map_err(|Expected(what)| self.malformed(what))
    }
}

/// A length, or the mark of a string in a special form.
enum Length {
    Plain(u64),
    Special(u8),
}

/// Reads a length.
///
/// # Errors
/// The input ends, or something else stands there.
pub fn length<I: Input>(input: &mut I) -> Result<u64, I::Error> {
    match length_or_special(input)? {
        Length::Plain(len) => Ok(len),
        Length::Special(_) => Err(input.malformed("a length")),
    }
}

fn length_or_special<I: Input>(input: &mut I) -> Result<Length, I::Error> {
    let [first] = input.array()?;
    let low = first & 0x3F;
    Ok(match (first >> 6, low) {
        (0, _) => Length::Plain(u64::from(low)),
        (1, _) => {
            let [second] = input.array()?;
            Length::Plain(u64::from(low) << 8 | u64::from(second))
        }
        (2, 0) => Length::Plain(u64::from(u32::from_be_bytes(input.array()?))),
        (2, 1) => Length::Plain(u64::from_be_bytes(input.array()?)),
        (2, _) => return Err(input.malformed("a length")),
        _ => Length::Special(low),
    })
}

/// Reads a string in any of its forms.
///
/// # Errors
/// The input ends, or something else stands there.
pub fn string<I: Input>(input: &mut I) -> Result<Vec<u8>, I::Error> {
    let opened = blob(input)?.open();
    input.made(opened)
}

/// A string as it stands there, perhaps still compressed.
#[derive(Debug)]
pub(super) enum Blob {
    Plain(Vec<u8>),
    Compressed { packed: Vec<u8>, len: u64 },
}

impl Blob {
    pub(super) fn open(self) -> Result<Vec<u8>, Expected> {
        let (packed, len) = match self {
            Blob::Plain(bytes) => return Ok(bytes),
            Blob::Compressed { packed, len } => (packed, len),
        };
        usize::try_from(len)
            .ok()
            .filter(|_| len <= STRING_LEN_MAX)
            .and_then(|len| lzf::decompress(&packed, len))
            .ok_or(Expected("a string compressed by LZF"))
    }
}

fn blob<I: Input>(input: &mut I) -> Result<Blob, I::Error> {
    let first = length_or_special(input)?;
    blob_of(first, input)
}

/// A string of which the length was read.
fn blob_of<I: Input>(first: Length, input: &mut I) -> Result<Blob, I::Error> {
    let integer = match first {
        Length::Plain(len) => return raw(input, len).map(Blob::Plain),
        Length::Special(0) => i32::from(i8::from_le_bytes(input.array()?)),
        Length::Special(1) => i32::from(i16::from_le_bytes(input.array()?)),
        Length::Special(2) => i32::from_le_bytes(input.array()?),
        Length::Special(3) => {
            let packed_len = length(input)?;
            let len = length(input)?;
            return Ok(Blob::Compressed { packed: raw(input, packed_len)?, len });
        }
        Length::Special(_) => return Err(input.malformed("a string")),
    };
    Ok(Blob::Plain(integer.to_string().into_bytes()))
}

fn raw<I: Input>(input: &mut I, len: u64) -> Result<Vec<u8>, I::Error> {
    if len > STRING_LEN_MAX {
        return Err(input.malformed("a string of at most 512 MiB"));
    }
    let mut text = Vec::new();
    input.bytes(len, &mut text)?;
    Ok(text)
}

/// What values of a kind that we do not hold are, if Redis has such a kind.
pub fn foreign(kind: u8) -> Option<&'static str> {
    match kind {
        6 | 7 => Some("a value of a module"),
        15 | 19 | 21 => Some("a stream"),
        _ => None,
    }
}

/// A value that was read, if not yet all of it understood.
#[derive(Debug)]
pub enum Stored {
    /// It is understood.
    Value(Value),
    /// A small collection in one string, which any thread may unpack.
    Packed(Packed),
}

impl Stored {
    /// The value.
    ///
    /// # Errors
    /// It was packed, and not in the way of its kind.
    pub fn unpack(self) -> Result<Value, Expected> {
        match self {
            Stored::Value(value) => Ok(value),
            Stored::Packed(packed) => packed.unpack(),
        }
    }
}

/// Reads a value of this kind.
///
/// # Errors
/// The input ends, something else stands there, or the kind is [`foreign`] or
/// none of Redis'.
pub fn value<I: Input>(kind: u8, input: &mut I) -> Result<Value, I::Error> {
    let unpacked = stored(kind, input)?.unpack();
    input.made(unpacked)
}

/// Reads a value of this kind, and leaves it packed if it is.
///
/// # Errors
/// The input ends, something else stands there, or the kind is [`foreign`] or
/// none of Redis'.
pub fn stored<I: Input>(kind: u8, input: &mut I) -> Result<Stored, I::Error> {
    if let Some(how) = unpack::way_of(kind) {
        return Ok(Stored::Packed(Packed { how, blob: blob(input)? }));
    }
    let value = match kind {
        kind::STRING => Value::String(string_value(input)?),
        kind::LIST => list(input)?,
        kind::QUICKLIST => quicklist(input, |_input| Ok(Node::Packed(Form::Ziplist)))?,
        kind::QUICKLIST_2 => quicklist(input, |input| match length(input)? {
            1 => Ok(Node::Plain),
            2 => Ok(Node::Packed(Form::Listpack)),
            _ => Err(input.malformed("a node that is plain (1) or packed (2)")),
        })?,
        kind::SET => set(input)?,
        kind::SORTED_SET => sorted_set(input, |input| Ok(f64::from_le_bytes(input.array()?)))?,
        kind::SORTED_SET_TEXT => sorted_set(input, text_score)?,
        kind::HASH => hash(input)?,
        _ => return Err(input.malformed("the kind of a value")),
    };
    Ok(Stored::Value(value))
}

/// A string that is a value. A long one is taken piece by piece, as it is kept.
fn string_value<I: Input>(input: &mut I) -> Result<StringValue, I::Error> {
    let first = length_or_special(input)?;
    let Length::Plain(len @ STRING_PIECE_LEN..=STRING_LEN_MAX) = first else {
        let opened = blob_of(first, input)?.open();
        return Ok(input.made(opened)?.into());
    };
    let (mut string, mut piece, mut rest) = (StringValue::from(Vec::new()), Vec::new(), len);
    while rest > 0 {
        input.bytes(rest.min(STRING_PIECE_LEN), &mut piece)?;
        string.overwrite(string.len(), &piece);
        rest -= piece.len() as u64;
    }
    Ok(string)
}

fn list<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut list = List::new();
    for _ in 0..length(input)? {
        list.push_back(&string(input)?);
    }
    input.made(unpack::finished_list(list))
}

/// How a node of a quicklist is written.
enum Node {
    Plain,
    Packed(Form),
}

fn quicklist<I: Input>(
    input: &mut I,
    node: impl Fn(&mut I) -> Result<Node, I::Error>,
) -> Result<Value, I::Error> {
    let mut list = List::new();
    for _ in 0..length(input)? {
        let node = node(input)?;
        let text = string(input)?;
        match node {
            Node::Plain => list.push_back(&text),
            Node::Packed(form) => input.made(unpack::push_packed(&mut list, form, &text))?,
        }
    }
    input.made(unpack::finished_list(list))
}

fn set<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut set = Set::new();
    for _ in 0..length(input)? {
        let member = string(input)?;
        input.made(unpack::add(&mut set, &member))?;
    }
    input.made(unpack::finished_set(set))
}

fn hash<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut hash = Hash::new();
    for _ in 0..length(input)? {
        let (field, value) = (string(input)?, string(input)?);
        input.made(unpack::put(&mut hash, &field, &value))?;
    }
    input.made(unpack::finished_hash(hash))
}

fn sorted_set<I: Input>(
    input: &mut I,
    score: impl Fn(&mut I) -> Result<f64, I::Error>,
) -> Result<Value, I::Error> {
    let len = length(input)?;
    let entry = |input: &mut I| Ok((string(input)?, score(input)?));
    if len > SMALL_LEN_MAX as u64 {
        let mut set = SortedSet::expecting(usize::MAX, 0);
        for _ in 0..len {
            let (member, score) = entry(input)?;
            input.made(unpack::join(&mut set, &member, score))?;
        }
        return input.made(unpack::finished_sorted_set(set));
    }
    // One long member makes the set big, and then a zero before it keeps its sign.
    let entries = (0..len).map(|_| entry(input)).collect::<Result<Vec<_>, _>>()?;
    let longest = entries.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
    let mut set = SortedSet::expecting(entries.len(), longest);
    for (member, score) in entries {
        input.made(unpack::join(&mut set, &member, score))?;
    }
    input.made(unpack::finished_sorted_set(set))
}

/// A score as text behind its length; three lengths are values themselves.
fn text_score<I: Input>(input: &mut I) -> Result<f64, I::Error> {
    let [len] = input.array()?;
    match len {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => {
            let text = raw(input, u64::from(len))?;
            unpack::parse_score(&text).ok_or_else(|| input.malformed("a score"))
        }
    }
}
