//! LZF decompression: how Redis packs strings of more than 20 bytes.
//!
//! We never compress: a raw string is always legal, and half the room on the disk would
//! cost twice the time to write and half as much again to start. The input is not
//! trusted: whatever it holds, the output never exceeds the announced length, and the
//! announced length is checked against what the input could possibly expand to before a
//! byte is reserved.

/// A control byte and two more make at most 264 bytes: 88 for one.
const EXPANSION_MAX: usize = 88;

/// Decompresses `packed` into exactly `len` bytes. `None` if it is not a valid
/// stream of that length.
pub fn decompress(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > packed.len().checked_mul(EXPANSION_MAX)? {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut input = packed.iter();
    while let Some(&control) = input.next() {
        if control < 32 {
            let count = usize::from(control) + 1;
            let literal = input.as_slice().get(..count)?;
            out.extend_from_slice(literal);
            input.nth(count - 1);
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                count += usize::from(*input.next()?);
            }
            let distance = (usize::from(control & 31) << 8 | usize::from(*input.next()?)) + 1;
            let start = out.len().checked_sub(distance)?;
            if out.len() + count + 2 > len {
                return None;
            }
            // Byte by byte: a match may overlap what it is producing.
            for index in start..start + count + 2 {
                out.push(out[index]);
            }
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_redis_unpack() {
        let a = [0x01, 0x61, 0x61, 0xe0, 0x57, 0x00, 0x01, 0x61, 0x61];
        assert_eq!(decompress(&a, 100).unwrap(), [b'a'; 100]);
        let abc = [0x03, 0x61, 0x62, 0x63, 0x61, 0xe0, 0x15, 0x02, 0x01, 0x62, 0x63];
        assert_eq!(decompress(&abc, 36).unwrap(), b"abc".repeat(12));
        assert_eq!(decompress(&[], 0).unwrap(), b"");
    }

    #[test]
    fn what_is_not_a_stream_is_refused() {
        for (packed, len) in [
            (&[0x01, 0x61][..], 2),                // literal cut short
            (&[0x00, 0x61, 0x20, 0x01], 4),        // reference before the start
            (&[0x00, 0x61, 0xe0], 10),             // match length cut short
            (&[0x00, 0x61, 0x20], 10),             // match distance cut short
            (&[0x01, 0x61, 0x61], 3),              // shorter than announced
            (&[0x01, 0x61, 0x61], 1),              // longer than announced
            (&[0x00, 0x61, 0xe0, 0xff, 0x00], 20), // match longer than announced
            (&[0x00], usize::MAX),                 // announced beyond any expansion
        ] {
            assert_eq!(decompress(packed, len), None, "{packed:x?} as {len}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics_or_outgrows_its_length(packed: Vec<u8>, len in 0usize..2000) {
            if let Some(out) = decompress(&packed, len) {
                proptest::prop_assert_eq!(out.len(), len);
            }
        }
    }
}
