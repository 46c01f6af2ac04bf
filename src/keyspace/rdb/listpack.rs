//! Listpack: how Redis packs the elements of a small collection.
//!
//! ```text
//! u32 total bytes · u16 element count · element … · 0xFF
//! element = header and data · back length (of both, to be read from the end)
//! ```
//!
//! A text that is the canonical decimal of an `i64` is held as an integer, in
//! the smallest form. All integers of the frame are little-endian; the 12- and
//! 13-bit forms carry their high bits first.

use super::packed::{END, Element, Layout, Malformed, Sequence, sign_extended};

/// Bytes before the first element.
const HEADER_LEN: usize = 6;
/// The longest element whose back length is one byte, its length itself.
const BACK_LENGTH_SHORT_MAX: usize = 127;
/// Room that is made ready at once for what is packed.
const ROOM_LEN: usize = 512;
/// An element count that says: too many, walk.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// How a listpack lies in memory.
#[derive(Debug)]
pub struct Listpack;

/// Opens a listpack.
///
/// # Errors
/// The blob is shorter than a frame, or its frame contradicts its length.
pub fn elements(blob: &[u8]) -> Result<Sequence<'_, Listpack>, Malformed> {
    let (total, rest) = blob.split_first_chunk::<4>().ok_or(Malformed)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
    if usize::try_from(u32::from_le_bytes(*total)) != Ok(blob.len()) {
        return Err(Malformed);
    }
    let count = u16::from_le_bytes(*count);
    let left = (count != COUNT_UNKNOWN).then_some(usize::from(count));
    Ok(Sequence { rest, left, layout: Listpack })
}

impl Layout for Listpack {
    #[inline]
    fn step<'a>(&mut self, rest: &'a [u8]) -> Option<(Element<'a>, &'a [u8])> {
        let (element, len) = parse(rest)?;
        let behind = rest.get(len..)?;
        if len <= BACK_LENGTH_SHORT_MAX {
            let (back, rest) = behind.split_first()?;
            return (usize::from(*back) == len).then_some((element, rest));
        }
        let (width, groups) = back_length(len);
        behind.strip_prefix(&groups[..width]).map(|rest| (element, rest))
    }
}

/// The element at the start of `bytes` and the length of its header and data.
#[inline]
fn parse(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let text = |start: usize, len: usize| {
        let end = start.checked_add(len)?;
        Some((Element::Text(bytes.get(start..end)?), end))
    };
    let first = *bytes.first()?;
    match first {
        0x00..=0x7F => Some((Element::Integer(i64::from(first)), 1)),
        0x80..=0xBF => text(1, usize::from(first & 0x3F)),
        0xC0..=0xDF => {
            let high = i64::from(first & 0x1F) << 8;
            let unsigned = high | i64::from(*bytes.get(1)?);
            let signed = if unsigned >= 1 << 12 { unsigned - (1 << 13) } else { unsigned };
            Some((Element::Integer(signed), 2))
        }
        0xE0..=0xEF => {
            let len = usize::from(first & 0x0F) << 8 | usize::from(*bytes.get(1)?);
            text(2, len)
        }
        0xF0 => {
            let len = bytes.get(1..)?.first_chunk::<4>()?;
            text(5, usize::try_from(u32::from_le_bytes(*len)).ok()?)
        }
        0xF1 => integer::<2>(bytes),
        0xF2 => integer::<3>(bytes),
        0xF3 => integer::<4>(bytes),
        0xF4 => integer::<8>(bytes),
        0xF5..=0xFF => None,
    }
}

/// An integer of so many bytes behind its header.
#[inline]
fn integer<const WIDTH: usize>(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let raw = bytes.get(1..)?.first_chunk::<WIDTH>()?;
    Some((Element::Integer(sign_extended(raw)), 1 + WIDTH))
}

/// How many bytes the back length of an element of `len` bytes takes, and which.
fn back_length(len: usize) -> (usize, [u8; 5]) {
    let width = match len {
        0..=BACK_LENGTH_SHORT_MAX => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    };
    let mut groups = [0; 5];
    for (index, group) in groups[..width].iter_mut().enumerate() {
        let bits = (len >> (7 * (width - 1 - index)) & 0x7F) as u8;
        *group = if index == 0 { bits } else { bits | 0x80 };
    }
    (width, groups)
}

/// Builds a listpack.
#[derive(Debug)]
pub struct Packer {
    bytes: Vec<u8>,
    /// Where in `bytes` it begins, and where it ends so far. Zeros follow.
    start: usize,
    end: usize,
    count: usize,
}

impl Packer {
    /// An empty list, built behind what `bytes` holds.
    pub fn new(bytes: Vec<u8>) -> Packer {
        let start = bytes.len();
        let mut packer = Packer { bytes, start, end: start, count: 0 };
        packer.put(&[0; HEADER_LEN]);
        packer
    }

    /// Appends a text, as an integer if it is the canonical decimal of one.
    pub fn push(&mut self, text: &[u8]) {
        if let Some(integer) = canonical_integer(text) {
            return self.push_integer(integer);
        }
        let start = self.end;
        match text.len() {
            len @ 0..=63 => self.put(&[0x80 | len as u8]),
            len @ 64..=4095 => self.put(&[0xE0 | (len >> 8) as u8, (len & 0xFF) as u8]),
            len => {
                self.put(&[0xF0]);
                self.put(&(len as u32).to_le_bytes());
            }
        }
        self.put(text);
        let (width, groups) = back_length(self.end - start);
        self.put(&groups[..width]);
        self.count += 1;
    }

    /// Appends an integer in its smallest form.
    pub fn push_integer(&mut self, integer: i64) {
        let [a, b, c, d, e, f, g, h] = integer.to_le_bytes();
        // Each with its back length, which is one byte.
        match integer {
            0..=127 => self.put(&[a, 1]),
            -4096..=4095 => self.put(&[0xC0 | (b & 0x1F), a, 2]),
            -0x8000..=0x7FFF => self.put(&[0xF1, a, b, 3]),
            -0x80_0000..=0x7F_FFFF => self.put(&[0xF2, a, b, c, 4]),
            -0x8000_0000..=0x7FFF_FFFF => self.put(&[0xF3, a, b, c, d, 5]),
            _ => self.put(&[0xF4, a, b, c, d, e, f, g, h, 9]),
        }
        self.count += 1;
    }

    /// Appends bytes. With room made ready for many, a few cost a few instructions.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end + ROOM_LEN, 0);
        }
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes with the finished blob as their end.
    pub fn finish(mut self) -> Vec<u8> {
        self.put(&[END]);
        self.bytes.truncate(self.end);
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN).to_le_bytes();
        let blob = &mut self.bytes[self.start..];
        let total = (blob.len() as u32).to_le_bytes();
        blob[..4].copy_from_slice(&total);
        blob[4..6].copy_from_slice(&count);
        self.bytes
    }
}

/// The integer of which `text` is the one canonical decimal: no plus, no
/// leading zero, no `-0`.
pub fn canonical_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn texts(blob: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        elements(blob)?.map(|element| Ok(element?.with_text(<[u8]>::to_vec))).collect()
    }

    fn pack(elements: &[&[u8]]) -> Vec<u8> {
        let mut packer = Packer::new(Vec::new());
        elements.iter().for_each(|element| packer.push(element));
        packer.finish()
    }

    #[test]
    fn vectors_of_redis_read_and_write_the_same() {
        assert_eq!(pack(&[b"m", b"1.5"]), unhex("0f000000 0200 816d02 83312e3504 ff"));
        for (text, element) in [
            ("128", "c080 02"),
            ("-1", "dfff 02"),
            ("-4096", "d000 02"),
            ("4096", "f10010 03"),
            ("8388608", "f300008000 05"),
            ("2147483648", "f40000008000000000 09"),
            ("", "80 01"),
        ] {
            let blob = pack(&[text.as_bytes()]);
            assert_eq!(blob[6..blob.len() - 1], unhex(element), "{text}");
            assert_eq!(texts(&blob).unwrap(), [text.as_bytes()], "{text}");
        }
    }

    #[test]
    fn only_canonical_decimals_become_integers() {
        for text in ["0", "7", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(canonical_integer(text.as_bytes()).unwrap().to_string(), text);
        }
        for text in ["", "-", "00", "-0", "+1", "1e3", "01", "9223372036854775808", "1 ", "１"] {
            assert_eq!(canonical_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_length_form_survives() {
        let long: Vec<Vec<u8>> = [0, 1, 63, 64, 124, 125, 4095, 4096, 16_377, 16_378, 16_379]
            .iter()
            .map(|len| vec![b'x'; *len])
            .collect();
        let elements: Vec<&[u8]> = long.iter().map(Vec::as_slice).collect();
        assert_eq!(texts(&pack(&elements)).unwrap(), long);
    }

    #[test]
    fn a_frame_that_lies_is_refused() {
        let good = pack(&[b"a", b"300", b"c"]);
        assert!(texts(&good).is_ok());
        for len in 0..good.len() {
            assert_eq!(texts(&good[..len]), Err(Malformed), "cut to {len}");
        }
        let mut fewer = good.clone();
        fewer[4] = 2;
        assert_eq!(texts(&fewer), Err(Malformed));
        let mut more = good.clone();
        more[4] = 4;
        assert_eq!(texts(&more), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn what_was_packed_comes_back(list: Vec<Vec<u8>>, integers: Vec<i64>) {
            let mut packer = Packer::new(Vec::new());
            list.iter().for_each(|text| packer.push(text));
            integers.iter().for_each(|integer| packer.push_integer(*integer));
            let mut expected = list;
            expected.extend(integers.iter().map(|integer| integer.to_string().into_bytes()));
            proptest::prop_assert_eq!(texts(&packer.finish()).unwrap(), expected);
        }

        #[test]
        fn no_blob_panics(mut blob: Vec<u8>) {
            let _ = texts(&blob);
            let total = (blob.len() as u32).to_le_bytes();
            if let Some(head) = blob.first_chunk_mut::<4>() {
                *head = total;
            }
            let _ = texts(&blob);
        }
    }
}
