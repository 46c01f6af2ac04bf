//! Reading lengths, strings and values, from a file or from a payload.

use super::packed::{self, Element, Form, Malformed};
use super::{kind, lzf};
use crate::keyspace::sorted_set::{Name, SMALL_LEN_MAX};
use crate::keyspace::{Hash, List, Set, SortedSet, Value};

/// Longest string: Redis' own limit.
const STRING_LEN_MAX: u64 = 512 << 20;

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
    let integer = match length_or_special(input)? {
        Length::Plain(len) => return raw(input, len),
        Length::Special(0) => i32::from(i8::from_le_bytes(input.array()?)),
        Length::Special(1) => i32::from(i16::from_le_bytes(input.array()?)),
        Length::Special(2) => i32::from_le_bytes(input.array()?),
        Length::Special(3) => return compressed(input),
        Length::Special(_) => return Err(input.malformed("a string")),
    };
    Ok(integer.to_string().into_bytes())
}

fn raw<I: Input>(input: &mut I, len: u64) -> Result<Vec<u8>, I::Error> {
    if len > STRING_LEN_MAX {
        return Err(input.malformed("a string of at most 512 MiB"));
    }
    let mut text = Vec::new();
    input.bytes(len, &mut text)?;
    Ok(text)
}

fn compressed<I: Input>(input: &mut I) -> Result<Vec<u8>, I::Error> {
    let packed_len = length(input)?;
    let len = length(input)?;
    let packed = raw(input, packed_len)?;
    usize::try_from(len)
        .ok()
        .filter(|_| len <= STRING_LEN_MAX)
        .and_then(|len| lzf::decompress(&packed, len))
        .ok_or_else(|| input.malformed("a string compressed by LZF"))
}

/// What values of a kind that we do not hold are, if Redis has such a kind.
pub fn foreign(kind: u8) -> Option<&'static str> {
    match kind {
        6 | 7 => Some("a value of a module"),
        15 | 19 | 21 => Some("a stream"),
        _ => None,
    }
}

/// Reads a value of this kind.
///
/// # Errors
/// The input ends, something else stands there, or the kind is [`foreign`] or
/// none of Redis'.
pub fn value<I: Input>(kind: u8, input: &mut I) -> Result<Value, I::Error> {
    match kind {
        kind::STRING => Ok(Value::String(string(input)?.into())),
        kind::LIST => list(input),
        kind::LIST_ZIPLIST => packed_list(input),
        kind::QUICKLIST => quicklist(input, |_input| Ok(Node::Packed(Form::Ziplist))),
        kind::QUICKLIST_2 => quicklist(input, |input| match length(input)? {
            1 => Ok(Node::Plain),
            2 => Ok(Node::Packed(Form::Listpack)),
            _ => Err(input.malformed("a node that is plain (1) or packed (2)")),
        }),
        kind::SET => set(input),
        kind::SET_INTSET => intset(input),
        kind::SET_LISTPACK => packed_set(input),
        kind::SORTED_SET => sorted_set(input, |input| Ok(f64::from_le_bytes(input.array()?))),
        kind::SORTED_SET_TEXT => sorted_set(input, text_score),
        kind::SORTED_SET_ZIPLIST => packed_sorted_set(input, Form::Ziplist),
        kind::SORTED_SET_LISTPACK => packed_sorted_set(input, Form::Listpack),
        kind::HASH => hash(input),
        kind::HASH_ZIPMAP => packed_hash(input, Form::Zipmap),
        kind::HASH_ZIPLIST => packed_hash(input, Form::Ziplist),
        kind::HASH_LISTPACK => packed_hash(input, Form::Listpack),
        _ => Err(input.malformed("the kind of a value")),
    }
}

/// Calls `each` with the elements of a packed string.
fn packed<I: Input>(
    input: &mut I,
    form: Form,
    expected: &'static str,
    mut each: impl FnMut(&I, Element<'_>) -> Result<(), I::Error>,
) -> Result<(), I::Error> {
    let blob = string(input)?;
    let elements = packed::elements(form, &blob).map_err(|Malformed| input.malformed(expected))?;
    for element in elements {
        each(input, element.map_err(|Malformed| input.malformed(expected))?)?;
    }
    Ok(())
}

fn list<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut list = List::new();
    for _ in 0..length(input)? {
        list.push_back(&string(input)?);
    }
    finished_list(input, list)
}

fn packed_list<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut list = List::new();
    push_packed(input, &mut list, Form::Ziplist)?;
    finished_list(input, list)
}

fn push_packed<I: Input>(input: &mut I, list: &mut List, form: Form) -> Result<(), I::Error> {
    packed(input, form, "a packed list", |_input, element| {
        element.with_text(|text| list.push_back(text));
        Ok(())
    })
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
        match node(input)? {
            Node::Plain => list.push_back(&string(input)?),
            Node::Packed(form) => push_packed(input, &mut list, form)?,
        }
    }
    finished_list(input, list)
}

fn finished_list<I: Input>(input: &I, list: List) -> Result<Value, I::Error> {
    if list.is_empty() {
        Err(input.malformed("a list with elements"))
    } else {
        Ok(Value::List(list))
    }
}

fn set<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut set = Set::new();
    for _ in 0..length(input)? {
        let member = string(input)?;
        add(input, &mut set, &member)?;
    }
    finished_set(input, set)
}

fn intset<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let blob = string(input)?;
    let broken = |Malformed| input.malformed("a set of integers");
    let mut set = Set::new();
    for integer in packed::integers(&blob).map_err(broken)? {
        add(input, &mut set, itoa::Buffer::new().format(integer).as_bytes())?;
    }
    finished_set(input, set)
}

fn packed_set<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut set = Set::new();
    packed(input, Form::Listpack, "a packed set", |input, element| {
        element.with_text(|member| add(input, &mut set, member))
    })?;
    finished_set(input, set)
}

fn add<I: Input>(input: &I, set: &mut Set, member: &[u8]) -> Result<(), I::Error> {
    if set.add(member) { Ok(()) } else { Err(input.malformed("each member once")) }
}

fn finished_set<I: Input>(input: &I, set: Set) -> Result<Value, I::Error> {
    if set.is_empty() { Err(input.malformed("a set with members")) } else { Ok(Value::Set(set)) }
}

fn hash<I: Input>(input: &mut I) -> Result<Value, I::Error> {
    let mut hash = Hash::new();
    for _ in 0..length(input)? {
        let (field, value) = (string(input)?, string(input)?);
        put(input, &mut hash, &field, &value)?;
    }
    finished_hash(input, hash)
}

fn packed_hash<I: Input>(input: &mut I, form: Form) -> Result<Value, I::Error> {
    let expected = "a packed hash";
    let mut hash = Hash::new();
    let mut field: Option<Vec<u8>> = None;
    packed(input, form, expected, |input, element| match field.take() {
        None => {
            field = Some(element.with_text(<[u8]>::to_vec));
            Ok(())
        }
        Some(field) => element.with_text(|value| put(input, &mut hash, &field, value)),
    })?;
    if field.is_some() {
        return Err(input.malformed(expected));
    }
    finished_hash(input, hash)
}

fn put<I: Input>(input: &I, hash: &mut Hash, field: &[u8], value: &[u8]) -> Result<(), I::Error> {
    if hash.insert(field, value) { Ok(()) } else { Err(input.malformed("each field once")) }
}

fn finished_hash<I: Input>(input: &I, hash: Hash) -> Result<Value, I::Error> {
    if hash.is_empty() { Err(input.malformed("a hash with fields")) } else { Ok(Value::Hash(hash)) }
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
            join(input, &mut set, &member, score)?;
        }
        return not_empty(input, set);
    }
    // One long member makes the set big, and then a zero before it keeps its sign.
    let entries = (0..len).map(|_| entry(input)).collect::<Result<Vec<_>, _>>()?;
    let longest = entries.iter().map(|(member, _)| member.len()).max().unwrap_or(0);
    let mut set = SortedSet::expecting(entries.len(), longest);
    for (member, score) in entries {
        join(input, &mut set, &member, score)?;
    }
    not_empty(input, set)
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
            parse_score(&text).ok_or_else(|| input.malformed("a score"))
        }
    }
}

fn packed_sorted_set<I: Input>(input: &mut I, form: Form) -> Result<Value, I::Error> {
    let blob = string(input)?;
    if let Some(entries) = rising(form, &blob) {
        return not_empty(input, SortedSet::from_sorted(&entries));
    }
    let malformed = || input.malformed("a packed sorted set");
    let mut elements = packed::elements(form, &blob).map_err(|Malformed| malformed())?;
    let mut set = SortedSet::new();
    while let Some(member) = elements.next() {
        let (Ok(member), Some(Ok(score))) = (member, elements.next()) else {
            return Err(malformed());
        };
        let score = packed_score(score).ok_or_else(malformed)?;
        member.with_text(|member| join(input, &mut set, member, score))?;
    }
    not_empty(input, set)
}

/// The members of a packed sorted set if both they and their scores rise, as those of a
/// limiter do, whose hits are named by their time: then they are in order, and none
/// comes twice. `None` also if the blob is not what it should be.
fn rising(form: Form, blob: &[u8]) -> Option<Vec<(Name<'_>, f64)>> {
    let mut entries: Vec<(Name<'_>, f64)> = Vec::with_capacity(SMALL_LEN_MAX);
    let mut elements = packed::elements(form, blob).ok()?;
    while let Some(member) = elements.next() {
        let name = match member.ok()? {
            Element::Integer(integer) => Name::number(integer)?,
            Element::Text(text) => Name::of(text),
        };
        let score = packed_score(elements.next()?.ok()?)?;
        let is_above = match (entries.last(), name) {
            (None, _) => !score.is_nan(),
            // Numbers in order are different texts; which is first matters in a tie.
            (Some((Name::Number(before), low)), Name::Number(number)) => {
                *before < number && *low < score
            }
            (Some((Name::Text(before), low)), Name::Text(text)) => *before < text && *low <= score,
            _ => false,
        };
        if !is_above {
            return None;
        }
        entries.push((name, score));
    }
    Some(entries)
}

fn packed_score(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Integer(integer) => Some(integer as f64),
        Element::Text(text) => parse_score(text),
    }
}

fn join<I: Input>(
    input: &I,
    set: &mut SortedSet,
    member: &[u8],
    score: f64,
) -> Result<(), I::Error> {
    if score.is_nan() {
        return Err(input.malformed("a score that is a number"));
    }
    let known = set.len();
    set.insert(member, score);
    if set.len() == known {
        return Err(input.malformed("each member once"));
    }
    Ok(())
}

/// A collection in a keyspace has members.
fn not_empty<I: Input>(input: &I, set: SortedSet) -> Result<Value, I::Error> {
    if set.is_empty() {
        return Err(input.malformed("a sorted set with members"));
    }
    Ok(Value::SortedSet(set))
}

/// A score as Redis' `strtod` reads it, without the forms that Redis never
/// writes.
fn parse_score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
