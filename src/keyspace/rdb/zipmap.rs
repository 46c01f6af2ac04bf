//! Zipmap: how Redis before 2.6 packed a small hash. Read only.
//!
//! ```text
//! u8 pair count, 254 and more: walk
//! length key · length u8 free, value, free bytes … · 0xFF
//! length = 1 byte, or FE and u32
//! ```

use super::packed::{Element, Malformed};

/// Ends every zipmap.
const END: u8 = 0xFF;
/// A pair count from here on says: too many, walk.
const COUNT_UNKNOWN: u8 = 254;
/// Marks a length that takes four more bytes.
const LONG: u8 = 0xFE;

/// Keys and values in turn. An `Err` is the last item.
#[derive(Debug)]
pub struct Zipmap<'a> {
    rest: &'a [u8],
    /// Elements to come.
    left: Option<usize>,
    is_value: bool,
}

/// Opens a zipmap.
///
/// # Errors
/// The blob is empty.
pub fn elements(blob: &[u8]) -> Result<Zipmap<'_>, Malformed> {
    let (&count, rest) = blob.split_first().ok_or(Malformed)?;
    if rest.is_empty() {
        return Err(Malformed);
    }
    let left = (count < COUNT_UNKNOWN).then_some(2 * usize::from(count));
    Ok(Zipmap { rest, left, is_value: false })
}

impl<'a> Iterator for Zipmap<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest == [END] && !self.is_value {
            self.rest = &[];
            let complete = self.left.is_none_or(|left| left == 0);
            return (!complete).then_some(Err(Malformed));
        }
        if self.rest.is_empty() {
            return None;
        }
        let parsed = self.step();
        if parsed.is_none() {
            self.rest = &[];
        }
        Some(parsed.ok_or(Malformed))
    }
}

impl<'a> Zipmap<'a> {
    /// Parses one element; `None` if it does not parse.
    fn step(&mut self) -> Option<Element<'a>> {
        self.left = match self.left {
            Some(left) => Some(left.checked_sub(1)?),
            None => None,
        };
        let (len, rest) = match self.rest.split_first()? {
            (&LONG, rest) => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                (usize::try_from(u32::from_le_bytes(*len)).ok()?, rest)
            }
            (&END, _) => return None,
            (&len, rest) => (usize::from(len), rest),
        };
        let (free, rest) = if self.is_value {
            let (&free, rest) = rest.split_first()?;
            (usize::from(free), rest)
        } else {
            (0, rest)
        };
        let (text, rest) = rest.split_at_checked(len)?;
        self.rest = rest.get(free..)?;
        self.is_value = !self.is_value;
        if self.rest.is_empty() { None } else { Some(Element::Text(text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(blob: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        elements(blob)?.map(|element| Ok(element?.with_text(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn keys_and_values_come_in_turn() {
        let blob = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xff";
        assert_eq!(texts(blob).unwrap(), [&b"foo"[..], b"bar", b"hello", b"world"]);
        let long = [&b"\x01\xfe\x03\0\0\0foo\x01\x00x"[..], b"\xff"].concat();
        assert_eq!(texts(&long).unwrap(), [&b"foo"[..], b"x"]);
    }

    #[test]
    fn a_frame_that_lies_is_refused() {
        let good = b"\x01\x03foo\x03\x00bar\xff";
        assert!(texts(good).is_ok());
        for len in 0..good.len() {
            assert_eq!(texts(&good[..len]), Err(Malformed), "cut to {len}");
        }
        for (index, byte) in [(0, 2), (0, 0), (1, 200), (5, 9), (6, 9)] {
            let mut bad = good.to_vec();
            bad[index] = byte;
            assert_eq!(texts(&bad), Err(Malformed), "byte {index} is {byte}");
        }
    }
}
