//! Unpacking: values that are written as one string, whole or compressed.
//!
//! They need nothing of the file they come from, so whoever reads it can leave them to
//! others. Nothing here is trusted either: see the [module's header](super).

use super::decode::Blob;
use super::kind;
use super::packed::{self, Element, Elements, Form, Malformed};
use crate::keyspace::sorted_set::{Name, SMALL_LEN_MAX};
use crate::keyspace::{Hash, List, Set, SortedSet, Value};

/// What should stand in the place of what does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected(pub &'static str);

/// A value in one string.
#[derive(Debug)]
pub struct Packed {
    pub(super) how: Way,
    pub(super) blob: Blob,
}

/// What a packed value is, and how it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    List(Form),
    Integers,
    Set(Form),
    SortedSet(Form),
    Hash(Form),
}

/// How values of this kind are packed, if they are.
pub(super) fn way_of(kind: u8) -> Option<Way> {
    Some(match kind {
        kind::LIST_ZIPLIST => Way::List(Form::Ziplist),
        kind::SET_INTSET => Way::Integers,
        kind::SET_LISTPACK => Way::Set(Form::Listpack),
        kind::SORTED_SET_ZIPLIST => Way::SortedSet(Form::Ziplist),
        kind::SORTED_SET_LISTPACK => Way::SortedSet(Form::Listpack),
        kind::HASH_ZIPMAP => Way::Hash(Form::Zipmap),
        kind::HASH_ZIPLIST => Way::Hash(Form::Ziplist),
        kind::HASH_LISTPACK => Way::Hash(Form::Listpack),
        _ => return None,
    })
}

impl Packed {
    /// The value.
    ///
    /// # Errors
    /// The string holds something else.
    pub fn unpack(self) -> Result<Value, Expected> {
        let blob = self.blob.open()?;
        match self.how {
            Way::List(form) => list(form, &blob),
            Way::Integers => integers(&blob),
            Way::Set(form) => set(form, &blob),
            Way::SortedSet(form) => sorted_set(form, &blob),
            Way::Hash(form) => hash(form, &blob),
        }
    }
}

/// Calls `each` with the elements of a packed string.
fn packed(
    form: Form,
    blob: &[u8],
    expected: &'static str,
    mut each: impl FnMut(Element<'_>) -> Result<(), Expected>,
) -> Result<(), Expected> {
    let broken = |Malformed| Expected(expected);
    for element in packed::elements(form, blob).map_err(broken)? {
        each(element.map_err(broken)?)?;
    }
    Ok(())
}

fn list(form: Form, blob: &[u8]) -> Result<Value, Expected> {
    let mut list = List::new();
    push_packed(&mut list, form, blob)?;
    finished_list(list)
}

/// Appends what is packed to a list.
pub(super) fn push_packed(list: &mut List, form: Form, blob: &[u8]) -> Result<(), Expected> {
    packed(form, blob, "a packed list", |element| {
        element.with_text(|text| list.push_back(text));
        Ok(())
    })
}

/// A collection in a keyspace has elements: so have those below.
pub(super) fn finished_list(list: List) -> Result<Value, Expected> {
    if list.is_empty() { Err(Expected("a list with elements")) } else { Ok(Value::List(list)) }
}

fn integers(blob: &[u8]) -> Result<Value, Expected> {
    let mut set = Set::new();
    let broken = |Malformed| Expected("a set of integers");
    for integer in packed::integers(blob).map_err(broken)? {
        add(&mut set, itoa::Buffer::new().format(integer).as_bytes())?;
    }
    finished_set(set)
}

fn set(form: Form, blob: &[u8]) -> Result<Value, Expected> {
    let mut set = Set::new();
    packed(form, blob, "a packed set", |element| element.with_text(|it| add(&mut set, it)))?;
    finished_set(set)
}

pub(super) fn add(set: &mut Set, member: &[u8]) -> Result<(), Expected> {
    if set.add(member) { Ok(()) } else { Err(Expected("each member once")) }
}

pub(super) fn finished_set(set: Set) -> Result<Value, Expected> {
    if set.is_empty() { Err(Expected("a set with members")) } else { Ok(Value::Set(set)) }
}

fn hash(form: Form, blob: &[u8]) -> Result<Value, Expected> {
    let expected = "a packed hash";
    let mut hash = Hash::new();
    let mut field: Option<Vec<u8>> = None;
    packed(form, blob, expected, |element| match field.take() {
        None => {
            field = Some(element.with_text(<[u8]>::to_vec));
            Ok(())
        }
        Some(field) => element.with_text(|value| put(&mut hash, &field, value)),
    })?;
    if field.is_some() {
        return Err(Expected(expected));
    }
    finished_hash(hash)
}

pub(super) fn put(hash: &mut Hash, field: &[u8], value: &[u8]) -> Result<(), Expected> {
    if hash.insert(field, value) { Ok(()) } else { Err(Expected("each field once")) }
}

pub(super) fn finished_hash(hash: Hash) -> Result<Value, Expected> {
    if hash.is_empty() { Err(Expected("a hash with fields")) } else { Ok(Value::Hash(hash)) }
}

fn sorted_set(form: Form, blob: &[u8]) -> Result<Value, Expected> {
    let broken = || Expected("a packed sorted set");
    let elements = || packed::elements(form, blob).map_err(|Malformed| broken());
    let rising = match elements()? {
        Elements::Listpack(elements) => rising(elements),
        Elements::Ziplist(elements) => rising(elements),
        Elements::Zipmap(elements) => rising(elements),
    };
    if let Some(entries) = rising {
        return finished_sorted_set(SortedSet::from_sorted(&entries));
    }
    let mut elements = elements()?;
    let mut set = SortedSet::new();
    while let Some(member) = elements.next() {
        let (Ok(member), Some(Ok(score))) = (member, elements.next()) else {
            return Err(broken());
        };
        let score = packed_score(score).ok_or_else(broken)?;
        member.with_text(|member| join(&mut set, member, score))?;
    }
    finished_sorted_set(set)
}

/// The members of a packed sorted set if both they and their scores rise, as those of a
/// limiter do, whose hits are named by their time: then they are in order, and none
/// comes twice. `None` also if they are not what they should be.
fn rising<'a>(
    mut elements: impl Iterator<Item = Result<Element<'a>, Malformed>>,
) -> Option<Vec<(Name<'a>, f64)>> {
    let mut entries: Vec<(Name<'_>, f64)> = Vec::with_capacity(SMALL_LEN_MAX);
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

pub(super) fn join(set: &mut SortedSet, member: &[u8], score: f64) -> Result<(), Expected> {
    if score.is_nan() {
        return Err(Expected("a score that is a number"));
    }
    let known = set.len();
    set.insert(member, score);
    if set.len() == known { Err(Expected("each member once")) } else { Ok(()) }
}

pub(super) fn finished_sorted_set(set: SortedSet) -> Result<Value, Expected> {
    if set.is_empty() {
        return Err(Expected("a sorted set with members"));
    }
    Ok(Value::SortedSet(set))
}

fn packed_score(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Integer(integer) => Some(integer as f64),
        Element::Text(text) => parse_score(text),
    }
}

/// A score as Redis' `strtod` reads it, without the forms that Redis never
/// writes.
pub(super) fn parse_score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
