//! Ziplist: how Redis before 7 packed the elements of a small collection. Read
//! only.
//!
//! ```text
//! u32 total bytes · u32 offset of the last element · u16 element count
//! element … · 0xFF
//! element = length of the one before it: 1 byte, or FE and u32
//!           00nnnnnn text | 01nnnnnn nnnnnnnn text | 80 u32 (big-endian) text
//!           | C0 i16 | D0 i32 | E0 i64 | F0 i24 | FE i8 | F1..FD: 0 to 12
//! ```

use super::packed::{END, Element, Layout, Malformed, Sequence, sign_extended};

/// Bytes before the first element.
const HEADER_LEN: usize = 10;
/// An element count that says: too many, walk.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// Marks a length of the element before that takes four more bytes.
const LONG_BEFORE: u8 = 0xFE;

/// How a ziplist lies in memory: each element says how long the one before it is, and
/// the frame where the last one begins.
#[derive(Debug)]
pub struct Ziplist {
    /// Length of the element before.
    before: usize,
    /// Offset in the blob of what is next, and of the last element.
    offset: usize,
    last: usize,
}

/// Opens a ziplist.
///
/// # Errors
/// The blob is shorter than a frame, or its frame contradicts its length.
pub fn elements(blob: &[u8]) -> Result<Sequence<'_, Ziplist>, Malformed> {
    let (total, rest) = blob.split_first_chunk::<4>().ok_or(Malformed)?;
    let (last, rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
    if usize::try_from(u32::from_le_bytes(*total)) != Ok(blob.len()) || rest.is_empty() {
        return Err(Malformed);
    }
    let count = u16::from_le_bytes(*count);
    let left = (count != COUNT_UNKNOWN).then_some(usize::from(count));
    let last = usize::try_from(u32::from_le_bytes(*last)).map_err(|_| Malformed)?;
    Ok(Sequence { rest, left, layout: Ziplist { before: 0, offset: HEADER_LEN, last } })
}

impl Layout for Ziplist {
    fn step<'a>(&mut self, rest: &'a [u8]) -> Option<(Element<'a>, &'a [u8])> {
        let (before, head_len) = match *rest.first()? {
            END => return None,
            LONG_BEFORE => {
                let before = u32::from_le_bytes(*rest.get(1..)?.first_chunk::<4>()?);
                (usize::try_from(before).ok()?, 5)
            }
            before => (usize::from(before), 1),
        };
        if before != self.before {
            return None;
        }
        let (element, len) = parse(rest.get(head_len..)?)?;
        self.before = head_len + len;
        self.offset += self.before;
        Some((element, rest.get(self.before..)?))
    }

    fn may_end(&self) -> bool {
        self.offset - self.before == self.last
    }
}

/// The element at the start of `bytes` and its length.
fn parse(bytes: &[u8]) -> Option<(Element<'_>, usize)> {
    let text = |start: usize, len: usize| {
        let end = start.checked_add(len)?;
        Some((Element::Text(bytes.get(start..end)?), end))
    };
    let integer =
        |width: usize| Some((Element::Integer(sign_extended(bytes.get(1..=width)?)), 1 + width));
    match *bytes.first()? {
        first @ 0x00..=0x3F => text(1, usize::from(first)),
        first @ 0x40..=0x7F => {
            text(2, usize::from(first & 0x3F) << 8 | usize::from(*bytes.get(1)?))
        }
        0x80 => {
            let len = u32::from_be_bytes(*bytes.get(1..)?.first_chunk::<4>()?);
            text(5, usize::try_from(len).ok()?)
        }
        0xC0 => integer(2),
        0xD0 => integer(4),
        0xE0 => integer(8),
        0xF0 => integer(3),
        0xFE => integer(1),
        first @ 0xF1..=0xFD => Some((Element::Integer(i64::from(first & 0x0F) - 1), 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(blob: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        elements(blob)?.map(|element| Ok(element?.with_text(<[u8]>::to_vec))).collect()
    }

    /// A ziplist of elements as they stand behind the length of the one before.
    fn ziplist(elements: &[&[u8]]) -> Vec<u8> {
        let mut blob = vec![0; HEADER_LEN];
        let mut last = HEADER_LEN;
        let mut before = 0;
        for element in elements {
            last = blob.len();
            if before < 254 {
                blob.push(before as u8);
            } else {
                blob.push(LONG_BEFORE);
                blob.extend((before as u32).to_le_bytes());
            }
            blob.extend_from_slice(element);
            before = blob.len() - last;
        }
        blob.push(END);
        let total = blob.len() as u32;
        blob[..4].copy_from_slice(&total.to_le_bytes());
        blob[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        blob[8..10].copy_from_slice(&(elements.len() as u16).to_le_bytes());
        blob
    }

    #[test]
    fn every_form_of_an_element_is_read() {
        let long = [&[0x41, 0x2c][..], &[b'x'; 300]].concat();
        let longer = [&[0x80, 0, 0, 0x40, 0][..], &[b'y'; 16_384]].concat();
        let blob = ziplist(&[
            b"\x01a",
            &long,
            &longer,
            &[0xF1],
            &[0xFD],
            &[0xFE, 0x80],
            &[0xC0, 0x00, 0x80],
            &[0xF0, 0xff, 0xff, 0xff],
            &[0xD0, 1, 0, 0, 1],
            &[0xE0, 0, 0, 0, 0, 0, 0, 0, 0x80],
            b"\x00",
        ]);
        let expected: [&[u8]; 11] = [
            b"a",
            &[b'x'; 300],
            &[b'y'; 16_384],
            b"0",
            b"12",
            b"-128",
            b"-32768",
            b"-1",
            b"16777217",
            b"-9223372036854775808",
            b"",
        ];
        assert_eq!(texts(&blob).unwrap(), expected);
        assert_eq!(texts(&ziplist(&[])).unwrap(), [b""; 0]);
    }

    #[test]
    fn a_frame_that_lies_is_refused() {
        let good = ziplist(&[b"\x01a", &[0xF2], b"\x01c"]);
        assert!(texts(&good).is_ok());
        for len in 0..good.len() {
            assert_eq!(texts(&good[..len]), Err(Malformed), "cut to {len}");
        }
        // Total, last offset, count, a length before, a text that runs out.
        for (index, byte) in [(0, 9), (4, 10), (8, 2), (8, 4), (13, 9), (16, 60)] {
            let mut bad = good.clone();
            bad[index] = byte;
            assert_eq!(texts(&bad), Err(Malformed), "byte {index} is {byte}");
        }
    }
}
