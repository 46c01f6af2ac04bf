//! The string of a key: an integer, a short text in place, or bytes on the heap.
//!
//! | form | holds | `OBJECT ENCODING` |
//! |---|---|---|
//! | integer | what is the canonical decimal of an `i64`, when set whole | `int` |
//! | inline | up to 30 bytes, when set whole | `embstr` |
//! | heap | anything | `embstr` up to 44 bytes when set whole, else `raw` |
//! | large | from 64 KiB on | `raw` |
//!
//! Clones of a large string share its bytes until one of them is written into, so
//! to keep one as it is, for a snapshot, costs nothing. A counter is changed without
//! formatting or allocating. What is written into piece by piece (`APPEND`,
//! `SETRANGE`) stands on the heap with room to grow, and is `raw` however short, as in
//! Redis.

use std::mem;
use std::sync::Arc;

use super::arg::{Text, parse_integer};
use super::sizes::block_bytes;
use crate::resp::number::NumberText;

/// Bytes of a string: Redis' `proto-max-bulk-len` as it comes.
pub const STRING_LEN_MAX: usize = 512 << 20;

/// What fits beside a tag and a length in the room that a sorted set takes.
const INLINE_LEN: usize = 30;

/// The longest text that Redis keeps in one block with its header.
const EMBEDDED_LEN_MAX: usize = 44;

/// The longest decimal of an `i64`.
const INTEGER_TEXT_LEN_MAX: usize = 20;

/// Most room that is kept free behind a string that grows.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// From so many bytes on a clone shares them. Tests have few, to share often.
const LARGE_LEN: usize = if cfg!(test) { 64 } else { 64 << 10 };

/// A string. See the module's header.
#[derive(Clone, Debug)]
pub struct StringValue {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Integer { value: i64, is_copy: bool },
    Inline { len: u8, bytes: [u8; INLINE_LEN] },
    Heap { bytes: Vec<u8>, is_grown: bool },
    Large { bytes: Arc<Vec<u8>>, is_grown: bool },
}

impl Form {
    /// Bytes that do not fit in place, in the form that their number asks for.
    fn of(bytes: Vec<u8>, is_grown: bool) -> Form {
        if bytes.len() < LARGE_LEN {
            Form::Heap { bytes, is_grown }
        } else {
            Form::Large { bytes: Arc::new(bytes), is_grown }
        }
    }

    /// Bytes on the heap, and whether they were written into piece by piece.
    fn heap(&self) -> Option<(&Vec<u8>, bool)> {
        match self {
            Form::Integer { .. } | Form::Inline { .. } => None,
            Form::Heap { bytes, is_grown } => Some((bytes, *is_grown)),
            Form::Large { bytes, is_grown } => Some((bytes, *is_grown)),
        }
    }
}

impl From<i64> for StringValue {
    fn from(value: i64) -> StringValue {
        StringValue { form: Form::Integer { value, is_copy: false } }
    }
}

impl From<&[u8]> for StringValue {
    /// A string set whole, in the smallest form.
    fn from(text: &[u8]) -> StringValue {
        if text.len() <= INTEGER_TEXT_LEN_MAX
            && let Some(value) = parse_integer(text)
        {
            return StringValue::from(value);
        }
        StringValue::from_text(text)
    }
}

impl From<Vec<u8>> for StringValue {
    fn from(text: Vec<u8>) -> StringValue {
        if text.len() <= INLINE_LEN {
            return StringValue::from(&*text);
        }
        let mut bytes = text;
        bytes.shrink_to_fit();
        StringValue { form: Form::of(bytes, false) }
    }
}

impl StringValue {
    /// A string set whole that stays text also when it is an integer, as the
    /// result of `INCRBYFLOAT` does.
    pub(super) fn from_text(text: &[u8]) -> StringValue {
        let form = if text.len() <= INLINE_LEN {
            let mut bytes = [0; INLINE_LEN];
            bytes[..text.len()].copy_from_slice(text);
            Form::Inline { len: text.len() as u8, bytes }
        } else {
            Form::of(text.to_vec(), false)
        };
        StringValue { form }
    }

    /// The bytes of the string; those of an integer are formatted.
    pub fn text(&self) -> Text<'_> {
        match &self.form {
            Form::Integer { value, .. } => Text::Number(NumberText::integer(*value)),
            Form::Inline { len, bytes } => Text::Borrowed(&bytes[..usize::from(*len)]),
            Form::Heap { bytes, .. } => Text::Borrowed(bytes),
            Form::Large { bytes, .. } => Text::Borrowed(bytes),
        }
    }

    /// The integer that the string is the canonical decimal of.
    pub fn integer(&self) -> Option<i64> {
        match &self.form {
            Form::Integer { value, .. } => Some(*value),
            Form::Inline { .. } | Form::Heap { .. } => parse_integer(&self.text()),
            Form::Large { .. } => None,
        }
    }

    /// Bytes of the string.
    pub fn len(&self) -> usize {
        self.text().len()
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The word that `OBJECT ENCODING` answers.
    pub fn encoding(&self) -> &'static str {
        match self.form.heap() {
            Some((bytes, is_grown)) if is_grown || bytes.len() > EMBEDDED_LEN_MAX => "raw",
            None if matches!(self.form, Form::Integer { .. }) => "int",
            Some(_) | None => "embstr",
        }
    }

    /// True if Redis would let every key with this value refer to one object: an
    /// integer below ten thousand, but not what `COPY` made.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.form, Form::Integer { value: 0..10_000, is_copy: false })
    }

    /// What `COPY` makes of the string.
    pub(super) fn copied(&self) -> StringValue {
        match self.form {
            Form::Integer { value, .. } => {
                StringValue { form: Form::Integer { value, is_copy: true } }
            }
            _ => self.clone(),
        }
    }

    /// Bytes that the string has on the heap.
    pub fn heap_bytes(&self) -> usize {
        let bytes = self.form.heap().map_or(0, |(bytes, _)| block_bytes(bytes.capacity()));
        match &self.form {
            // An `Arc` counts its holders beside the vector.
            Form::Large { .. } => {
                bytes + block_bytes(size_of::<Vec<u8>>() + 2 * size_of::<usize>())
            }
            _ => bytes,
        }
    }

    /// The bytes from `at` on, `len` of them at most, if the string already is in
    /// the form that is written into: what a write there would overwrite.
    pub(super) fn overwritten(&self, at: usize, len: usize) -> Option<&[u8]> {
        let (bytes, is_grown) = self.form.heap()?;
        let end = (at + len).min(bytes.len());
        is_grown.then(|| &bytes[at.min(end)..end])
    }

    /// Writes `text` over the string from `at` on. The string grows as needed,
    /// and a gap is filled with zeros.
    pub(super) fn overwrite(&mut self, at: usize, text: &[u8]) {
        self.change(|bytes| {
            let len = bytes.len().max(at + text.len());
            if len > bytes.capacity() {
                bytes.reserve_exact(len - bytes.len() + len.min(SPARE_BYTES_MAX));
            }
            if bytes.len() < at {
                bytes.resize(at, 0);
            }
            let over = text.len().min(bytes.len() - at);
            bytes[at..at + over].copy_from_slice(&text[..over]);
            bytes.extend_from_slice(&text[over..]);
        });
    }

    /// Takes back a write: what it overwrote from `at` on, and the old length.
    pub(super) fn restore(&mut self, at: usize, overwritten: &[u8], len: usize) {
        self.change(|bytes| {
            bytes.truncate(len);
            bytes[at.min(len)..][..overwritten.len()].copy_from_slice(overwritten);
        });
    }

    /// Changes the bytes, in the form that is written into. Large ones that are
    /// shared are copied first.
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = match mem::replace(&mut self.form, StringValue::from(0).form) {
            Form::Heap { bytes, .. } => bytes,
            Form::Large { bytes, .. } => Arc::unwrap_or_clone(bytes),
            form => StringValue { form }.text().to_vec(),
        };
        change(&mut bytes);
        self.form = Form::of(bytes, true);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_have_the_words_that_redis_has_for_them() {
        let encoding = |text: &[u8]| StringValue::from(text).encoding();
        assert_eq!(encoding(b"0"), "int");
        assert_eq!(encoding(b"-9223372036854775808"), "int");
        assert_eq!(encoding(b"9223372036854775808"), "embstr");
        assert_eq!(encoding(b"01"), "embstr");
        assert_eq!(encoding(b""), "embstr");
        assert_eq!(encoding(&[b'x'; 44]), "embstr");
        assert_eq!(encoding(&[b'x'; 45]), "raw");
        assert_eq!(StringValue::from(vec![b'x'; 44]).encoding(), "embstr");
        assert_eq!(StringValue::from_text(b"10").encoding(), "embstr");
        let mut appended = StringValue::from(7);
        appended.overwrite(1, b"0");
        assert_eq!((appended.encoding(), &*appended.text()), ("raw", &b"70"[..]));
    }

    #[test]
    fn a_string_takes_no_more_room_than_a_sorted_set() {
        assert_eq!(size_of::<StringValue>(), 32);
    }

    #[test]
    fn clones_of_a_large_string_share_their_bytes_until_one_is_written_into() {
        let mut string = StringValue::from(vec![b'x'; LARGE_LEN]);
        let address = |string: &StringValue| string.text().as_ptr();
        let kept = string.clone();
        assert_eq!(address(&kept), address(&string));
        string.overwrite(0, b"y");
        assert_eq!((kept.text()[0], string.text()[0]), (b'x', b'y'));
        let grown = address(&string);
        string.overwrite(1, b"y");
        assert_eq!(address(&string), grown, "nobody else has it");
    }

    #[test]
    fn appending_allocates_seldom_and_wastes_little() {
        let (mut string, mut moves, mut capacity) = (StringValue::from_text(b""), 0, 0);
        for _ in 0..1_000_000 {
            string.overwrite(string.len(), b"x");
            moves += usize::from(string.heap_bytes() != capacity);
            capacity = string.heap_bytes();
        }
        assert!(moves < 30 && capacity <= 2 << 20, "{moves} moves to {capacity} bytes");
    }

    proptest! {
        #[test]
        fn writes_into_a_string_do_what_they_do_to_a_vec_and_can_be_taken_back(
            start in prop_oneof![Just(b"123".to_vec()), vec(any::<u8>(), 0..60)],
            writes in vec((0usize..80, vec(any::<u8>(), 0..40)), 1..10),
        ) {
            let (mut string, mut model) = (StringValue::from(&*start), start);
            for (at, text) in writes {
                let before = model.clone();
                let overwritten = string.overwritten(at, text.len()).map(<[u8]>::to_vec);
                string.overwrite(at, &text);
                model.resize(model.len().max(at + text.len()), 0);
                model[at..at + text.len()].copy_from_slice(&text);
                prop_assert_eq!(&*string.text(), &*model);
                if let Some(overwritten) = overwritten {
                    string.restore(at, &overwritten, before.len());
                    prop_assert_eq!(&*string.text(), &*before);
                    string.overwrite(at, &text);
                }
            }
        }
    }
}
