//! Reading a file of the log from front to back, through a bounded buffer.
//!
//! Knows where it is (for messages that name an offset), what it has read (for
//! the checksum), and never reserves memory for bytes that have not arrived:
//! a length that lies costs nothing.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::error::{Error, Op};
use crate::keyspace::rdb::crc64;

/// How much is read at once.
const CHUNK_LEN: usize = 256 << 10;

/// A file being read.
#[derive(Debug)]
pub struct Source<R> {
    input: R,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Offset in the file of `buffer[0]`.
    buffer_offset: u64,
    /// Checksum of everything before `buffer[summed]`.
    crc: u64,
    summed: usize,
}

impl<R: Read> Source<R> {
    /// Reads `input`, which is called `path` in messages.
    pub fn new(input: R, path: PathBuf) -> Source<R> {
        Source {
            input,
            path,
            buffer: vec![0; CHUNK_LEN],
            start: 0,
            end: 0,
            buffer_offset: 0,
            crc: 0,
            summed: 0,
        }
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of the next unread byte.
    pub fn offset(&self) -> u64 {
        self.buffer_offset + self.start as u64
    }

    /// Checksum of every byte read since it was begun.
    pub fn checksum(&mut self) -> u64 {
        self.crc = crc64(self.crc, &self.buffer[self.summed..self.start]);
        self.summed = self.start;
        self.crc
    }

    /// Lets the checksum begin anew at the next unread byte.
    pub fn restart_checksum(&mut self) {
        (self.crc, self.summed) = (0, self.start);
    }

    /// The bytes that have arrived and were not consumed.
    pub fn arrived(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Waits for more bytes to arrive, growing the buffer if it is full of
    /// unread ones. False at the end of the file.
    pub fn fill(&mut self) -> Result<bool, Error> {
        if self.start > 0 && (self.start == self.end || self.end == self.buffer.len()) {
            self.checksum();
            self.buffer.copy_within(self.start..self.end, 0);
            self.buffer_offset += self.start as u64;
            self.end -= self.start;
            (self.start, self.summed) = (0, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(Op::Read, &self.path)(error)),
            }
        }
    }

    /// Marks the first `count` arrived bytes as read.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
        // A buffer that one long record blew up goes back to its size.
        if self.start == self.end && self.buffer.len() > CHUNK_LEN {
            self.checksum();
            self.buffer_offset += self.start as u64;
            (self.start, self.end, self.summed) = (0, 0, 0);
            self.buffer = vec![0; CHUNK_LEN];
        }
    }

    /// Waits until `count` bytes have arrived. False if the file ends before.
    pub fn want(&mut self, count: usize) -> Result<bool, Error> {
        while self.end - self.start < count {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads exactly `N` bytes; `None` if the file ends before.
    pub fn take<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Error> {
        if !self.want(N)? {
            return Ok(None);
        }
        let bytes = self.arrived().first_chunk::<N>().copied();
        self.consume(N);
        Ok(bytes)
    }

    /// Reads exactly `len` bytes into `out`, piece by piece as they arrive.
    /// False if the file ends before.
    pub fn read_into(&mut self, mut len: u64, out: &mut Vec<u8>) -> Result<bool, Error> {
        out.clear();
        while len > 0 {
            if self.start == self.end && !self.fill()? {
                return Ok(false);
            }
            let arrived = self.arrived();
            let count = arrived.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            out.extend_from_slice(&arrived[..count]);
            self.consume(count);
            len -= count as u64;
        }
        Ok(true)
    }

    /// Reads the rest. True if all of it, from here to the end, is zero bytes.
    pub fn rest_is_zeros(&mut self) -> Result<bool, Error> {
        loop {
            if self.arrived().iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.consume(self.end - self.start);
            if !self.fill()? {
                return Ok(true);
            }
        }
    }

    /// Says that the bytes at the next unread offset are not what they should be.
    pub fn damaged(&self, expected: &'static str) -> Error {
        Error::Damaged { path: self.path.clone(), offset: self.offset(), expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a read, as a slow disk might.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            out[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn offsets_and_checksums_do_not_depend_on_how_bytes_arrive() {
        let bytes: Vec<u8> = (0..3 * CHUNK_LEN).map(|n| (n * 31 % 251) as u8).collect();
        let mut source = Source::new(bytes.as_slice(), PathBuf::from("whole"));
        let mut drip = Source::new(Drip(&bytes[..1000]), PathBuf::from("drip"));
        assert!(drip.want(1000).unwrap() && !drip.want(1001).unwrap());
        let mut out = Vec::new();
        let mut read = 0usize;
        for len in [0, 1, 999, CHUNK_LEN, CHUNK_LEN + 1] {
            assert!(source.read_into(len as u64, &mut out).unwrap());
            assert_eq!(out, bytes[read..read + len]);
            read += len;
            assert_eq!(source.offset(), read as u64);
            assert_eq!(source.checksum(), crc64(0, &bytes[..read]));
            if read == 1000 {
                drip.consume(1000);
                assert_eq!(drip.checksum(), source.checksum());
            }
        }
        assert!(source.want(10).unwrap());
        assert!(!source.read_into(u64::MAX, &mut out).unwrap());
    }

    #[test]
    fn a_buffer_grows_for_one_long_record_and_shrinks_again() {
        let bytes = vec![7u8; 4 * CHUNK_LEN];
        let mut source = Source::new(bytes.as_slice(), PathBuf::from("long"));
        assert!(source.want(bytes.len()).unwrap());
        assert_eq!(source.arrived().len(), bytes.len());
        source.consume(bytes.len());
        assert_eq!(source.buffer.len(), CHUNK_LEN);
        assert_eq!(source.offset(), bytes.len() as u64);
        assert_eq!(source.checksum(), crc64(0, &bytes));
    }
}
