//! A list: elements in order.
//!
//! | form | holds | file |
//! |---|---|---|
//! | small | elements of 4 KiB together | one [`Pack`] |
//! | big | any | `blocks` |
//!
//! Either end is cheap to push and to pop. A list that has become big stays so
//! until it is empty. Redis knows one form, `quicklist`.
//!
//! A clone costs little, see `blocks`: it is how a snapshot keeps a list as it was
//! at its cut.

mod blocks;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::blocks::{BLOCK_BYTES, Blocks, Place};
use super::pack::{Pack, packed_len};
use super::sizes::block_bytes;

/// Elements in order. See the module's header.
#[derive(Clone, Debug)]
pub struct List {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Small(Pack),
    Big(Box<Blocks>),
}

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

/// Reading.
impl List {
    /// A list without elements.
    pub fn new() -> List {
        List { form: Form::Small(Pack::default()) }
    }

    /// Elements in the list.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(pack) => pack.len(),
            Form::Big(blocks) => blocks.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True in the big form.
    pub fn is_big(&self) -> bool {
        matches!(self.form, Form::Big(_))
    }

    /// The element of this index.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= self.len() {
            return None;
        }
        Some(match &self.form {
            Form::Small(pack) => pack.read(pack.place_of(index)).0,
            Form::Big(blocks) => blocks.next(&mut blocks.place(index)),
        })
    }

    /// The elements in order, from both ends.
    pub fn iter(&self) -> Elements<'_> {
        self.range(0..self.len())
    }

    /// The elements of these indexes, which must be there.
    pub fn range(&self, range: Range<usize>) -> Elements<'_> {
        debug_assert!(range.start <= range.end && range.end <= self.len());
        Elements {
            remaining: range.len(),
            ends: match &self.form {
                Form::Small(pack) => {
                    Ends::Pack(pack, pack.place_of(range.start)..pack.place_of(range.end))
                }
                Form::Big(blocks) => {
                    Ends::Blocks(blocks, blocks.place(range.start), blocks.place(range.end))
                }
            },
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Small(pack) => pack.heap_bytes(),
            Form::Big(blocks) => block_bytes(size_of::<Blocks>()) + blocks.heap_bytes(),
        }
    }
}

/// Changing.
impl List {
    /// Adds an element at the end.
    pub fn push_back(&mut self, text: &[u8]) {
        self.insert(self.len(), text);
    }

    /// Puts an element before the one of this index, or at the end.
    pub(super) fn insert(&mut self, index: usize, text: &[u8]) {
        self.make_room(text);
        match &mut self.form {
            Form::Small(pack) => {
                let place = pack.place_of(index);
                pack.splice(place..place, 0, &[text]);
            }
            Form::Big(blocks) => blocks.insert(index, text),
        }
    }

    /// Puts another element into the place of one, which is shown to `was`.
    pub(super) fn replace(&mut self, index: usize, text: &[u8], was: impl FnOnce(&[u8])) {
        self.make_room(text);
        match &mut self.form {
            Form::Small(pack) => {
                let place = pack.place_of(index);
                let (old, end) = pack.read(place);
                was(old);
                pack.splice(place..end, 1, &[text]);
            }
            Form::Big(blocks) => blocks.replace(index, text, was),
        }
    }

    /// Takes on the big form if the small one has no room for this text too.
    fn make_room(&mut self, text: &[u8]) {
        if let Form::Small(pack) = &mut self.form
            && !pack.is_empty()
            && pack.end() + packed_len(text.len()) > BLOCK_BYTES
        {
            self.form = Form::Big(Box::new(Blocks::new(std::mem::take(pack))));
        }
    }

    /// Takes elements out, after showing each to `each`, first to last.
    pub(super) fn remove(&mut self, range: Range<usize>, each: impl FnMut(&[u8])) {
        match &mut self.form {
            Form::Small(pack) => {
                let places = pack.place_of(range.start)..pack.place_of(range.end);
                pack.iter_from(places.start).take(range.len()).for_each(each);
                pack.splice(places, range.len(), &[]);
            }
            Form::Big(blocks) => {
                blocks.remove(range, each);
                if blocks.len() == 0 {
                    self.form = Form::Small(Pack::default());
                }
            }
        }
    }
}

/// Elements of a list, from both ends.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    ends: Ends<'a>,
    remaining: usize,
}

/// The list with the place of the next element and the one behind the last.
#[derive(Clone, Debug)]
enum Ends<'a> {
    Pack(&'a Pack, Range<usize>),
    Blocks(&'a Blocks, Place, Place),
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(match &mut self.ends {
            Ends::Pack(pack, places) => {
                let (text, next) = pack.read(places.start);
                places.start = next;
                text
            }
            Ends::Blocks(blocks, front, _) => blocks.next(front),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<'a> DoubleEndedIterator for Elements<'a> {
    fn next_back(&mut self) -> Option<&'a [u8]> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(match &mut self.ends {
            Ends::Pack(pack, places) => {
                let (text, place) = pack.read_before(places.end);
                places.end = place;
                text
            }
            Ends::Blocks(blocks, _, back) => blocks.next_back(back),
        })
    }
}

impl ExactSizeIterator for Elements<'_> {}
