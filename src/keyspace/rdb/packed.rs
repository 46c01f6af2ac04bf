//! Packed blobs: a small collection as one string, in each form Redis has had.
//!
//! | form | holds | written by |
//! |---|---|---|
//! | [`listpack`] | any collection | Redis 7 |
//! | `intset` | sets of integers | all |
//! | [`ziplist`] | hashes, lists, sorted sets | Redis before 7 |
//! | [`zipmap`] | hashes | Redis before 2.6 |
//!
//! All are read one element after another, within the bytes that are there. A
//! frame that contradicts its elements is refused.

use super::listpack::{self, Listpack};
use super::ziplist::{self, Ziplist};
use super::zipmap::{self, Zipmap};

/// Ends every blob of a form that is read element by element.
pub const END: u8 = 0xFF;

/// One element, as packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A text that is no canonical integer, or was not packed as one.
    Text(&'a [u8]),
    /// An integer; its decimal is the element's text.
    Integer(i64),
}

impl Element<'_> {
    /// Calls `then` with the element's text.
    pub fn with_text<T>(self, then: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            Element::Text(text) => then(text),
            Element::Integer(integer) => then(itoa::Buffer::new().format(integer).as_bytes()),
        }
    }
}

/// Why a blob is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A form that holds a sequence of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Since Redis 7.
    Listpack,
    /// Until Redis 6.
    Ziplist,
    /// Until Redis 2.4.
    Zipmap,
}

/// The elements of a blob, in order. An `Err` is the last item.
#[derive(Debug)]
pub enum Elements<'a> {
    /// Of a listpack.
    Listpack(Sequence<'a, Listpack>),
    /// Of a ziplist.
    Ziplist(Sequence<'a, Ziplist>),
    /// Of a zipmap: key, value, key, value.
    Zipmap(Sequence<'a, Zipmap>),
}

/// How a form lays out its elements.
pub trait Layout {
    /// The element at the start of `rest`, and what follows it; `None` if it does not
    /// parse.
    fn step<'a>(&mut self, rest: &'a [u8]) -> Option<(Element<'a>, &'a [u8])>;

    /// True if what was read may be all.
    fn may_end(&self) -> bool {
        true
    }
}

/// The elements of a blob of one form, in order. An `Err` is the last item.
#[derive(Debug)]
pub struct Sequence<'a, L> {
    /// What is still to be read, [`END`] included.
    pub rest: &'a [u8],
    /// Elements to come; `None` where the frame does not say.
    pub left: Option<usize>,
    /// How they lie there.
    pub layout: L,
}

impl<'a, L: Layout> Iterator for Sequence<'a, L> {
    type Item = Result<Element<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.rest == [END] && self.layout.may_end() {
            self.rest = &[];
            let complete = self.left.is_none_or(|left| left == 0);
            return (!complete).then_some(Err(Malformed));
        }
        let parsed = self.step();
        if parsed.is_none() {
            self.rest = &[];
        }
        Some(parsed.ok_or(Malformed))
    }
}

impl<'a, L: Layout> Sequence<'a, L> {
    /// The next element, which something must follow.
    #[inline]
    fn step(&mut self) -> Option<Element<'a>> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let (element, rest) = self.layout.step(self.rest)?;
        self.rest = rest;
        (!rest.is_empty()).then_some(element)
    }
}

/// Opens a blob.
///
/// # Errors
/// It is shorter than a frame, or its frame contradicts its length.
pub fn elements(form: Form, blob: &[u8]) -> Result<Elements<'_>, Malformed> {
    Ok(match form {
        Form::Listpack => Elements::Listpack(listpack::elements(blob)?),
        Form::Ziplist => Elements::Ziplist(ziplist::elements(blob)?),
        Form::Zipmap => Elements::Zipmap(zipmap::elements(blob)?),
    })
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Elements::Listpack(elements) => elements.next(),
            Elements::Ziplist(elements) => elements.next(),
            Elements::Zipmap(elements) => elements.next(),
        }
    }
}

/// The integers of an intset, which rise.
///
/// ```text
/// u32 width: 2, 4 or 8 · u32 count · integers of that width, little-endian
/// ```
///
/// # Errors
/// The blob is of another length, or an integer does not rise.
pub fn integers(blob: &[u8]) -> Result<impl Iterator<Item = i64>, Malformed> {
    let (width, rest) = blob.split_first_chunk::<4>().ok_or(Malformed)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
    let width = match u32::from_le_bytes(*width) {
        width @ (2 | 4 | 8) => width as usize,
        _ => return Err(Malformed),
    };
    let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| Malformed)?;
    if count.checked_mul(width) != Some(rest.len()) {
        return Err(Malformed);
    }
    let integers = rest.chunks_exact(width).map(sign_extended);
    if integers.clone().is_sorted_by(|one, next| one < next) {
        Ok(integers)
    } else {
        Err(Malformed)
    }
}

/// A little-endian integer of 1, 2, 3, 4 or 8 bytes.
#[inline]
pub fn sign_extended(raw: &[u8]) -> i64 {
    match *raw {
        [a] => i64::from(i8::from_le_bytes([a])),
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        // At the top of four bytes, and shifted back, so that the sign fills in.
        [a, b, c] => i64::from(i32::from_le_bytes([0, a, b, c]) >> 8),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => {
            debug_assert!(raw.is_empty(), "no form has integers of this width");
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intset_of_redis_is_read() {
        let blob = [2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 2, 0, 0x2c, 1];
        assert_eq!(integers(&blob).unwrap().collect::<Vec<_>>(), [1, 2, 300]);
        let negative = [4, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(integers(&negative).unwrap().collect::<Vec<_>>(), [-1]);
    }

    #[test]
    fn an_intset_that_lies_is_refused() {
        let good = [2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0];
        assert!(integers(&good).is_ok());
        for len in 0..good.len() {
            assert!(integers(&good[..len]).is_err(), "cut to {len}");
        }
        for (index, byte) in [(0, 3), (4, 1), (4, 3), (7, 0xff), (8, 2), (8, 3)] {
            let mut bad = good;
            bad[index] = byte;
            assert!(integers(&bad).is_err(), "byte {index} is {byte}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_blob_panics(blob: Vec<u8>) {
            let _ = integers(&blob).map(Iterator::count);
            for form in [Form::Listpack, Form::Ziplist, Form::Zipmap] {
                let _ = elements(form, &blob).map(Iterator::count);
            }
        }
    }
}
