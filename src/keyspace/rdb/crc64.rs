//! The checksum of files and payloads: CRC64 "Jones", as Redis computes it.
//!
//! Polynomial 0xAD93D23594C935A9, reflected in and out, initial value 0, no
//! final xor. Eight tables take eight bytes a step, so that the checksum costs
//! a fraction of what reading the file costs.

/// The polynomial, bits reversed.
const POLYNOMIAL: u64 = 0x95AC_9329_AC4B_C9B5;

/// `TABLES[0]` is the byte-wise table; `TABLES[n]` is it, n zero bytes later.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        let mut step = 1;
        while step < 8 {
            let before = tables[step - 1][byte];
            tables[step][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            step += 1;
        }
        byte += 1;
    }
    tables
}

/// The checksum of what `crc` covers, followed by `bytes`. Start with 0.
pub fn crc64(mut crc: u64, bytes: &[u8]) -> u64 {
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let word = (crc ^ u64::from_le_bytes(*eight)).to_le_bytes();
        crc = 0;
        for (index, byte) in word.iter().enumerate() {
            crc ^= TABLES[7 - index][usize::from(*byte)];
        }
    }
    for byte in rest {
        crc = TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_redis() {
        assert_eq!(crc64(0, b"123456789"), 0xE9C6_D914_C4B8_D9CA);
        assert_eq!(crc64(0, b""), 0);
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_split() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 % 251) as u8).collect();
        let whole = crc64(0, &bytes);
        for split in [0, 1, 7, 8, 9, 500, 999, 1000] {
            let (head, tail) = bytes.split_at(split);
            assert_eq!(crc64(crc64(0, head), tail), whole, "split at {split}");
        }
    }
}
