//! Seals: what makes damage of an incr file visible, and files that do not
//! belong together.
//!
//! Redis' incr files carry no checksum: a third of flipped bits load as other
//! data. Ours carry lines that Redis skips:
//!
//! ```text
//! #RUN:9f86d081884c7d65\r\n                  first: which run of the log this is
//! *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n          the database of the records
//!   records
//! #CRC:5100:4096:7ab3f2c9e1d40586\r\n        a seal
//!   records
//! #CRC:5233:5100:02bfe0f8a3c14d77\r\n        a seal
//! ```
//!
//! A seal covers every byte since the seal before it, its own line up to the
//! checksum included. Its first number is the *position* in the log: bytes of
//! records since the run began, over all files. So a seal that is missing is
//! missed. The second is up to where the log was known to be on disk when this
//! was written: what lies before it cannot have been lost with the power.
//!
//! A *run* is the life of a log from its first file on. A base file names the run
//! and the position of its cut, so it fits the incr file that begins there and
//! no other.
//!
//! # Invariants
//!
//! 1. A batch and its seal are one write: what is not sealed was torn.
//! 2. A file of ours ends with a seal, or with its head.

use std::hash::{BuildHasher, RandomState};

use crate::keyspace::rdb::crc64;

/// The database that the records are for. Redis wants it in each file.
pub const SELECT: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";
/// What the line that names the run begins with.
const RUN_MARK: &[u8] = b"#RUN:";
/// What the line of a seal begins with.
pub const SEAL_MARK: &[u8] = b"#CRC:";
/// Digits of a run and of a checksum.
const HEX_LEN: usize = 16;
/// Length of the line that names the run.
pub const RUN_LINE_LEN: usize = RUN_MARK.len() + HEX_LEN + 2;
/// Longest line of a seal: two numbers of 20 digits.
pub const SEAL_LEN_MAX: usize = SEAL_MARK.len() + 2 * 21 + HEX_LEN + 2;

/// The life of a log, by a number drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run(u64);

impl Run {
    /// A run that begins now.
    pub fn new() -> Run {
        // The standard library draws the keys of this hasher at random.
        Run(RandomState::new().hash_one(0))
    }

    /// Its name.
    pub fn name(self) -> String {
        format!("{:016x}", self.0)
    }

    /// The run of this name.
    pub fn parse(name: &[u8]) -> Option<Run> {
        hex(name).map(Run)
    }

    /// What an incr file of this run begins with.
    pub fn head(self) -> Vec<u8> {
        [RUN_MARK, self.name().as_bytes(), b"\r\n", SELECT].concat()
    }
}

/// A place in a run: where the cut of a base file was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The run.
    pub run: Run,
    /// Bytes of records since it began.
    pub position: u64,
}

/// The run that a line names, if it is such a line.
pub fn parse_run(line: &[u8]) -> Option<Run> {
    Run::parse(line.strip_prefix(RUN_MARK)?.strip_suffix(b"\r\n")?)
}

/// A line that seals what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Where the log is after it.
    pub position: u64,
    /// Up to where the log was known to be on disk.
    pub synced: u64,
    /// The checksum that it states.
    pub crc: u64,
}

impl Seal {
    /// The seal of a line, and how much of the line it covers.
    pub fn parse(line: &[u8]) -> Option<(Seal, usize)> {
        let rest = line.strip_prefix(SEAL_MARK)?.strip_suffix(b"\r\n")?;
        let (numbers, crc) = rest.split_at_checked(rest.len().checked_sub(HEX_LEN)?)?;
        let (position, synced) = std::str::from_utf8(numbers.strip_suffix(b":")?)
            .ok()
            .filter(|numbers| numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'))?
            .split_once(':')?;
        let (position, synced) = (position.parse().ok()?, synced.parse().ok()?);
        let covered = SEAL_MARK.len() + numbers.len();
        Some((Seal { position, synced, crc: hex(crc)? }, covered))
    }
}

/// Lower case, as we write it: a checksum has one form, so that no flipped bit
/// of it goes unnoticed.
fn hex(digits: &[u8]) -> Option<u64> {
    let plain = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    let digits = std::str::from_utf8(digits).ok().filter(|it| it.len() == HEX_LEN)?;
    digits.as_bytes().iter().all(plain).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Seals what is written to one file.
#[derive(Clone, Copy, Debug)]
pub struct Sealer {
    /// Checksum of what stands in the file behind its last seal.
    crc: u64,
}

impl Sealer {
    /// For a file that ends with these bytes behind its last seal: its head, or
    /// nothing.
    pub fn after(unsealed: &[u8]) -> Sealer {
        Sealer { crc: crc64(0, unsealed) }
    }

    /// Appends to `batch` the seal that covers it.
    pub fn seal(&mut self, batch: &mut Vec<u8>, position: u64, synced: u64) {
        batch.extend_from_slice(SEAL_MARK);
        batch.extend_from_slice(format!("{position}:{synced}:").as_bytes());
        let crc = crc64(self.crc, batch);
        batch.extend_from_slice(format!("{crc:016x}\r\n").as_bytes());
        self.crc = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_reads_back_and_covers_what_stands_before_it() {
        let run = Run(0x9f86_d081_884c_7d65);
        let head = run.head();
        assert!(head.starts_with(b"#RUN:9f86d081884c7d65\r\n*2\r\n$6\r\nSELECT"));
        assert_eq!(parse_run(&head[..RUN_LINE_LEN]), Some(run));
        let mut sealer = Sealer::after(&head);
        let mut batch = b"*1\r\n$4\r\nPING\r\n".to_vec();
        sealer.seal(&mut batch, 14, 7);
        let line = &batch[14..];
        let (seal, covered) = Seal::parse(line).unwrap();
        assert_eq!((seal.position, seal.synced), (14, 7));
        let whole = [&head[..], &batch[..14 + covered]].concat();
        assert_eq!(seal.crc, crc64(0, &whole));
        assert!(line.len() <= SEAL_LEN_MAX);
    }

    #[test]
    fn a_line_with_anything_else_in_it_is_no_seal() {
        let good = b"#CRC:14:7:00000000000000ab\r\n";
        assert!(Seal::parse(good).is_some());
        for index in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.to_vec();
                flipped[index] ^= 1 << bit;
                // Another digit is another seal, which then does not fit.
                assert_ne!(Seal::parse(&flipped), Seal::parse(good), "byte {index}, bit {bit}");
            }
        }
        for line in ["#CRC:+1:2:00000000000000ab\r\n", "#CRC:1:00000000000000ab\r\n", "#CRC:\r\n"] {
            assert_eq!(Seal::parse(line.as_bytes()), None, "{line}");
        }
    }
}
