//! Zipmap: how Redis before 2.6 packed a small hash. Read only.
//!
//! ```text
//! u8 pair count, 254 and more: walk
//! length key · length u8 free, value, free bytes … · 0xFF
//! length = 1 byte, or FE and u32
//! ```

use super::packed::{END, Element, Layout, Malformed, Sequence};

/// A pair count from here on says: too many, walk.
const COUNT_UNKNOWN: u8 = 254;
/// Marks a length that takes four more bytes.
const LONG: u8 = 0xFE;

/// How a zipmap lies in memory: keys and values in turn.
#[derive(Debug)]
pub struct Zipmap {
    is_value: bool,
}

/// Opens a zipmap.
///
/// # Errors
/// The blob is empty.
pub fn elements(blob: &[u8]) -> Result<Sequence<'_, Zipmap>, Malformed> {
    let (&count, rest) = blob.split_first().ok_or(Malformed)?;
    if rest.is_empty() {
        return Err(Malformed);
    }
    let left = (count < COUNT_UNKNOWN).then_some(2 * usize::from(count));
    Ok(Sequence { rest, left, layout: Zipmap { is_value: false } })
}

impl Layout for Zipmap {
    fn step<'a>(&mut self, rest: &'a [u8]) -> Option<(Element<'a>, &'a [u8])> {
        let (len, rest) = match rest.split_first()? {
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
        self.is_value = !self.is_value;
        Some((Element::Text(text), rest.get(free..)?))
    }

    fn may_end(&self) -> bool {
        !self.is_value
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
