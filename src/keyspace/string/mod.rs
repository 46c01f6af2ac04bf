//! The string of a key: an integer, a short text in place, or bytes on the heap.
//!
//! | form | holds | `OBJECT ENCODING` |
//! |---|---|---|
//! | integer | what is the canonical decimal of an `i64`, when set whole | `int` |
//! | inline | up to 30 bytes, when set whole | `embstr` |
//! | heap | up to 64 KiB | `embstr` up to 44 bytes when set whole, else `raw` |
//! | large | more, in `blocks` | `raw` |
//!
//! A counter is changed without formatting or allocating. What is written into piece
//! by piece (`APPEND`, `SETRANGE`) stands on the heap with room to grow, and is `raw`
//! however short, as in Redis. A large string is written into, and grows, at the cost
//! of what is written, also while a snapshot keeps a clone of it.

mod blocks;

use std::mem;
use std::ops::Range;

use self::blocks::{BLOCK_LEN, Blocks};
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

/// A string. See the module's header.
#[derive(Clone, Debug)]
pub struct StringValue {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Integer {
        value: i64,
        is_copy: bool,
    },
    Inline {
        len: u8,
        bytes: [u8; INLINE_LEN],
    },
    /// With room for [`BLOCK_LEN`] bytes at most.
    Heap {
        bytes: Vec<u8>,
        is_grown: bool,
    },
    /// More than [`BLOCK_LEN`] bytes.
    Large(Blocks),
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
        if text.len() <= INLINE_LEN || text.len() > BLOCK_LEN {
            return StringValue::from(&*text);
        }
        let mut bytes = text;
        bytes.shrink_to_fit();
        StringValue { form: Form::Heap { bytes, is_grown: false } }
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
        } else if text.len() <= BLOCK_LEN {
            Form::Heap { bytes: text.to_vec(), is_grown: false }
        } else {
            Form::Large(Blocks::from(text))
        };
        StringValue { form }
    }

    /// The bytes of a string that stands in one piece, as all but the large ones do;
    /// those of an integer are formatted.
    pub fn whole(&self) -> Option<Text<'_>> {
        match &self.form {
            Form::Integer { value, .. } => Some(Text::Number(NumberText::integer(*value))),
            Form::Inline { len, bytes } => Some(Text::Borrowed(&bytes[..usize::from(*len)])),
            Form::Heap { bytes, .. } => Some(Text::Borrowed(bytes)),
            Form::Large(_) => None,
        }
    }

    /// The bytes of a range within the string, piece by piece.
    pub fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = Text<'_>> {
        let large = match &self.form {
            Form::Large(blocks) => Some(blocks.pieces(range.clone()).map(Text::Borrowed)),
            Form::Integer { .. } | Form::Inline { .. } | Form::Heap { .. } => None,
        };
        let whole = self.whole().map(|text| text.part(range));
        whole.into_iter().chain(large.into_iter().flatten())
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        self.pieces(0..self.len()).for_each(|piece| bytes.extend_from_slice(&piece));
        bytes
    }

    /// The integer that the string is the canonical decimal of.
    pub fn integer(&self) -> Option<i64> {
        match &self.form {
            Form::Integer { value, .. } => Some(*value),
            Form::Inline { .. } | Form::Heap { .. } | Form::Large(_) => {
                parse_integer(&self.whole()?)
            }
        }
    }

    /// Bytes of the string.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Integer { value, .. } => NumberText::integer(*value).len(),
            Form::Inline { len, .. } => usize::from(*len),
            Form::Heap { bytes, .. } => bytes.len(),
            Form::Large(blocks) => blocks.len(),
        }
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The word that `OBJECT ENCODING` answers.
    pub fn encoding(&self) -> &'static str {
        match &self.form {
            Form::Integer { .. } => "int",
            Form::Heap { bytes, is_grown } if *is_grown || bytes.len() > EMBEDDED_LEN_MAX => "raw",
            Form::Inline { .. } | Form::Heap { .. } => "embstr",
            Form::Large(_) => "raw",
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
        match &self.form {
            Form::Integer { .. } | Form::Inline { .. } => 0,
            Form::Heap { bytes, .. } => block_bytes(bytes.capacity()),
            Form::Large(blocks) => blocks.heap_bytes(),
        }
    }

    /// Which bytes a write of `len` bytes at `at` would overwrite, if the string
    /// already is in the form that is written into.
    pub(super) fn overwritten(&self, at: usize, len: usize) -> Option<Range<usize>> {
        let is_grown = match &self.form {
            Form::Integer { .. } | Form::Inline { .. } => false,
            Form::Heap { is_grown, .. } => *is_grown,
            Form::Large(_) => true,
        };
        let end = (at + len).min(self.len());
        is_grown.then(|| at.min(end)..end)
    }

    /// Writes `text` over the string from `at` on. The string grows as needed,
    /// and a gap is filled with zeros.
    pub fn overwrite(&mut self, at: usize, text: &[u8]) {
        let mut bytes = match mem::replace(&mut self.form, StringValue::from(0).form) {
            Form::Large(mut blocks) => {
                blocks.overwrite(at, text);
                self.form = Form::Large(blocks);
                return;
            }
            Form::Heap { bytes, .. } => bytes,
            form => StringValue { form }.to_vec(),
        };
        let len = bytes.len().max(at + text.len());
        self.form = if len <= BLOCK_LEN {
            overwrite_short(&mut bytes, at, text);
            Form::Heap { bytes, is_grown: true }
        } else {
            let mut blocks = Blocks::starting_with(bytes);
            blocks.overwrite(at, text);
            Form::Large(blocks)
        };
    }

    /// Takes back a write into a string that was in the form that is written into:
    /// what it overwrote from `at` on, and the old length.
    pub(super) fn restore(&mut self, at: usize, overwritten: &[u8], len: usize) {
        match &mut self.form {
            Form::Heap { bytes, .. } => bytes.truncate(len),
            Form::Large(blocks) if len > BLOCK_LEN => blocks.truncate(len),
            Form::Integer { .. } | Form::Inline { .. } | Form::Large(_) => {
                let mut bytes = Vec::with_capacity(len);
                self.pieces(0..len).for_each(|piece| bytes.extend_from_slice(&piece));
                self.form = Form::Heap { bytes, is_grown: true };
            }
        }
        self.overwrite(at.min(len), overwritten);
    }
}

/// Writes `text` over bytes that are no more than [`BLOCK_LEN`], nor become more.
fn overwrite_short(bytes: &mut Vec<u8>, at: usize, text: &[u8]) {
    let len = bytes.len().max(at + text.len());
    if len > bytes.capacity() {
        bytes.reserve_exact((2 * len).min(BLOCK_LEN) - bytes.len());
    }
    if bytes.len() < at {
        bytes.resize(at, 0);
    }
    let over = text.len().min(bytes.len() - at);
    bytes[at..at + over].copy_from_slice(&text[..over]);
    bytes.extend_from_slice(&text[over..]);
}

#[cfg(test)]
mod tests;
