//! A pack: texts one behind the other in one block of memory.
//!
//! ```text
//! bytes   free | 3 abc 3 | 1 x 1 | 0 0 | free
//!              ^ start                 ^ end of the vector's length
//! length       0 … 254: one byte
//!              more: 255 and four bytes, little endian; mirrored behind the text
//! ```
//!
//! Each text has its length on both sides, so a pack is read from either end, and
//! there is room to be free on both, so either end is cheap to push and to pop.
//! Small hashes, sets and lists are one pack; big ones are made of many.
//!
//! A *place* is where a text begins, in bytes from the start. It holds until the
//! pack changes.
//!
//! Not here: what the texts mean. That a field is followed by its value is known
//! to those who put them in.

use std::ops::Range;

use super::sizes::block_bytes;

/// Texts up to this length have lengths of one byte.
const SHORT_MAX: usize = 254;

/// Announces a length of four bytes.
const LONG: u8 = 255;

/// A vector of fewer bytes is not worth giving any back.
const SPARSE_BYTES_MIN: usize = 128;

/// Texts in order. See the module's header.
#[derive(Debug, Default)]
pub(super) struct Pack {
    bytes: Vec<u8>,
    start: u32,
    len: u32,
}

impl Clone for Pack {
    /// Copies the texts and none of the room.
    fn clone(&self) -> Pack {
        Pack { bytes: self.window().to_vec(), start: 0, len: self.len }
    }
}

/// Bytes of a text of this length with its lengths.
pub(super) fn packed_len(text_len: usize) -> usize {
    text_len + 2 * header_len(text_len)
}

/// Reading.
impl Pack {
    /// Texts in the pack.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the texts with their lengths: the place behind the last.
    pub(super) fn end(&self) -> usize {
        self.bytes.len() - self.start as usize
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        block_bytes(self.bytes.capacity())
    }

    /// The text at a place, and the place of the next.
    pub(super) fn read(&self, place: usize) -> (&[u8], usize) {
        let window = self.window();
        let (text, end) = text_range(window, place);
        (&window[text], end)
    }

    /// The text that ends before a place, and its own place.
    pub(super) fn read_before(&self, end: usize) -> (&[u8], usize) {
        let window = self.window();
        let place = place_before(window, end);
        (&window[text_range(window, place).0], place)
    }

    /// Texts in order, from both ends.
    pub(super) fn iter(&self) -> Texts<'_> {
        Texts { rest: self.window(), remaining: self.len() }
    }

    /// Texts in order from a place on.
    pub(super) fn iter_from(&self, place: usize) -> impl Iterator<Item = &[u8]> {
        let window = self.window();
        let mut place = place;
        std::iter::from_fn(move || {
            (place < window.len()).then(|| {
                let (text, end) = text_range(window, place);
                place = end;
                &window[text]
            })
        })
    }

    /// The place of the text of this index, found from the nearer end.
    pub(super) fn place_of(&self, index: usize) -> usize {
        debug_assert!(index <= self.len());
        let window = self.window();
        if index <= self.len() / 2 {
            (0..index).fold(0, |place, _| text_range(window, place).1)
        } else {
            (index..self.len()).fold(window.len(), |end, _| place_before(window, end))
        }
    }

    /// The place of a text among every `step`th text, beginning with the first.
    pub(super) fn find(&self, text: &[u8], step: usize) -> Option<usize> {
        let window = self.window();
        let mut place = 0;
        while place < window.len() {
            let (found, mut next) = text_range(window, place);
            if window[found] == *text {
                return Some(place);
            }
            for _ in 1..step {
                next = text_range(window, next).1;
            }
            place = next;
        }
        None
    }

    fn window(&self) -> &[u8] {
        &self.bytes[self.start as usize..]
    }
}

/// Changing.
impl Pack {
    /// Adds a text behind the last.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.splice(self.end()..self.end(), 0, &[text]);
    }

    /// Takes out the texts between two places, `removed` in number, and puts
    /// others there. Moves the shorter side.
    pub(super) fn splice(&mut self, places: Range<usize>, removed: usize, texts: &[&[u8]]) {
        let added: usize = texts.iter().map(|text| packed_len(text.len())).sum();
        let (before, behind) = (places.start, self.end() - places.end);
        if added <= places.len() {
            self.close_gap(places.clone(), places.len() - added);
        } else {
            self.open_gap(before, behind, added - places.len());
        }
        let mut at = self.start as usize + places.start;
        for text in texts {
            at = write_text(&mut self.bytes, at, text);
        }
        self.len = self.len + texts.len() as u32 - removed as u32;
    }

    /// Makes the part between two places shorter by `count`.
    fn close_gap(&mut self, places: Range<usize>, count: usize) {
        if count == 0 {
            return;
        }
        let start = self.start as usize;
        if places.start < self.end() - places.end {
            self.bytes.copy_within(start..start + places.start, start + count);
            self.start += count as u32;
        } else {
            let end = start + places.end;
            self.bytes.copy_within(end.., end - count);
            self.bytes.truncate(self.bytes.len() - count);
        }
        if self.bytes.capacity() > SPARSE_BYTES_MIN.max(4 * self.end()) {
            self.relocate(0, self.end() / 8);
        }
    }

    /// Makes the part between two places, given as the bytes before and behind
    /// it, longer by `count`.
    fn open_gap(&mut self, before: usize, behind: usize, count: usize) {
        if before < behind {
            if (self.start as usize) < count {
                self.make_room(count + self.end() / 8, 0);
            }
            let start = self.start as usize;
            self.bytes.copy_within(start..start + before, start - count);
            self.start -= count as u32;
        } else {
            if self.bytes.capacity() - self.bytes.len() < count {
                self.make_room(0, count + self.end() / 8);
            }
            let len = self.bytes.len();
            self.bytes.resize(len + count, 0);
            self.bytes.copy_within(len - behind..len, len - behind + count);
        }
    }

    /// Makes this much room in front and behind, in the memory that there is if
    /// it suffices.
    fn make_room(&mut self, front: usize, back: usize) {
        let (start, end) = (self.start as usize, self.end());
        if self.bytes.capacity() < front + end + back {
            return self.relocate(front, back);
        }
        self.bytes.resize(self.bytes.len().max(front + end), 0);
        self.bytes.copy_within(start..start + end, front);
        self.bytes.truncate(front + end);
        self.start = front as u32;
    }

    /// Moves to memory with exactly this much room in front and behind.
    fn relocate(&mut self, front: usize, back: usize) {
        let mut bytes = Vec::with_capacity(front + self.end() + back);
        bytes.resize(front, 0);
        bytes.extend_from_slice(self.window());
        self.bytes = bytes;
        self.start = front as u32;
    }
}

/// The texts of a pack, from both ends.
#[derive(Clone, Debug)]
pub(super) struct Texts<'a> {
    rest: &'a [u8],
    remaining: usize,
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (text, end) = text_range(self.rest, 0);
        let text = &self.rest[text];
        self.rest = &self.rest[end..];
        Some(text)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<'a> DoubleEndedIterator for Texts<'a> {
    fn next_back(&mut self) -> Option<&'a [u8]> {
        self.remaining = self.remaining.checked_sub(1)?;
        let place = place_before(self.rest, self.rest.len());
        let (text, _) = text_range(self.rest, place);
        let text = &self.rest[text];
        self.rest = &self.rest[..place];
        Some(text)
    }
}

impl ExactSizeIterator for Texts<'_> {}

fn header_len(text_len: usize) -> usize {
    if text_len <= SHORT_MAX { 1 } else { 5 }
}

/// Where the text at a place lies, and the place of the next.
fn text_range(window: &[u8], place: usize) -> (Range<usize>, usize) {
    let short = window[place];
    if short < LONG {
        let start = place + 1;
        let end = start + usize::from(short);
        (start..end, end + 1)
    } else {
        let start = place + 5;
        let end = start + long_len(&window[place + 1..start]);
        (start..end, end + 5)
    }
}

/// The place of the text that ends before `end`.
fn place_before(window: &[u8], end: usize) -> usize {
    let short = window[end - 1];
    if short < LONG {
        end - packed_len(usize::from(short))
    } else {
        end - packed_len(long_len(&window[end - 5..end - 1]))
    }
}

fn long_len(bytes: &[u8]) -> usize {
    let mut len = [0; 4];
    len.copy_from_slice(bytes);
    u32::from_le_bytes(len) as usize
}

/// Writes a text with its lengths; where it ends.
fn write_text(bytes: &mut [u8], at: usize, text: &[u8]) -> usize {
    let (header, end) = (header_len(text.len()), at + packed_len(text.len()));
    bytes[at + header..end - header].copy_from_slice(text);
    if header == 1 {
        bytes[at] = text.len() as u8;
        bytes[end - 1] = text.len() as u8;
    } else {
        let len = (text.len() as u32).to_le_bytes();
        bytes[at] = LONG;
        bytes[at + 1..at + 5].copy_from_slice(&len);
        bytes[end - 5..end - 1].copy_from_slice(&len);
        bytes[end - 1] = LONG;
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Splice {
        from: usize,
        removed: usize,
        lengths: Vec<usize>,
    }

    fn splice() -> impl Strategy<Value = Splice> {
        let length = prop_oneof![8 => 0usize..20, 1 => 250usize..260, 1 => 900usize..1000];
        // The ends, where most happens, and anywhere.
        let from = prop_oneof![Just(0), Just(usize::MAX), 0usize..50];
        (from, 0usize..6, vec(length, 0..4)).prop_map(|(from, removed, lengths)| Splice {
            from,
            removed,
            lengths,
        })
    }

    proptest! {
        #[test]
        fn a_pack_is_the_list_of_its_texts(splices in vec(splice(), 0..80)) {
            let (mut pack, mut model) = (Pack::default(), Vec::<Vec<u8>>::new());
            for (round, splice) in splices.iter().enumerate() {
                let from = splice.from.min(model.len());
                let to = (from + splice.removed).min(model.len());
                let texts: Vec<_> =
                    splice.lengths.iter().map(|len| vec![round as u8; *len]).collect();
                let slices: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                let places = pack.place_of(from)..pack.place_of(to);
                pack.splice(places, to - from, &slices);
                model.splice(from..to, texts);

                prop_assert_eq!(pack.len(), model.len());
                prop_assert!(pack.iter().eq(model.iter()));
                prop_assert!(pack.iter().rev().eq(model.iter().rev()));
                prop_assert!(pack.clone().iter().eq(model.iter()));
                for (index, text) in model.iter().enumerate() {
                    let place = pack.place_of(index);
                    prop_assert_eq!(pack.read(place).0, text);
                    prop_assert!(pack.iter_from(place).eq(model[index..].iter()));
                    let first = model.iter().position(|it| it == text);
                    prop_assert_eq!(pack.find(text, 1), first.map(|it| pack.place_of(it)));
                }
                prop_assert!(pack.bytes.capacity() <= SPARSE_BYTES_MIN.max(4 * pack.end()));
            }
        }
    }

    #[test]
    fn only_every_second_text_is_a_field() {
        let mut pack = Pack::default();
        ["a", "b", "b", "c"].iter().for_each(|text| pack.push(text.as_bytes()));
        assert_eq!(pack.find(b"b", 2), Some(pack.place_of(2)));
        assert_eq!(pack.find(b"c", 2), None);
    }
}
