//! The checksum of files and payloads: CRC64 "Jones", as Redis computes it.
//!
//! Polynomial 0xAD93D23594C935A9, reflected in and out, initial value 0, no
//! final xor. So the checksum of what is read so far is all that there is to keep.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of what `crc` covers, followed by `bytes`. Start with 0.
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Redis, crc);
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the definition says.
    fn defined(crc: u64, bytes: &[u8]) -> u64 {
        let reversed = 0xAD93_D235_94C9_35A9_u64.reverse_bits();
        bytes.iter().fold(crc, |crc, byte| {
            (0..8).fold(crc ^ u64::from(*byte), |crc, _bit| {
                crc >> 1 ^ if crc & 1 == 1 { reversed } else { 0 }
            })
        })
    }

    #[test]
    fn it_is_the_checksum_of_redis() {
        assert_eq!(crc64(0, b"123456789"), 0xE9C6_D914_C4B8_D9CA);
        assert_eq!(crc64(0, b""), 0);
    }

    #[test]
    fn it_does_not_matter_how_long_the_pieces_are() {
        let bytes: Vec<u8> = (0..3_000u32).map(|n| (n * 7 % 251) as u8).collect();
        for len in 0..600 {
            assert_eq!(crc64(7, &bytes[..len]), defined(7, &bytes[..len]), "{len} bytes");
        }
        let whole = defined(0, &bytes);
        for split in (0..bytes.len()).step_by(101) {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(crc64(crc64(0, head), tail), whole, "split at {split}");
        }
    }
}
