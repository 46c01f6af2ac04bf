//! Incr files: records, one after another, as Redis 7 writes them.
//!
//! ```text
//! *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n           first in each file
//! #TS:1795331917\r\n                          an annotation, skipped
//! *3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n   a record
//! *1\r\n$5\r\nMULTI\r\n … *1\r\n$4\r\nEXEC\r\n   a group, applied whole
//! ```
//!
//! A file may end anywhere: what was being written when the power went is a
//! *torn tail*. It is told from damage by what follows: nothing, or nothing but
//! zero bytes, which is what a file system leaves that grew a file before its
//! data arrived. Anything else is damage, and nothing after it is trusted.
//!
//! # Not here
//!
//! What the records mean, and what becomes of a torn tail: see
//! [`recovery`](super::recovery).

use std::io::Read;

use super::error::Error;
use super::source::Source;
use crate::resp::decode::{Decoded, Decoder, Fault, Limits};

/// What a new incr file holds before its first record: the database that the
/// records are for. Redis wants it in each file. The annotation that ties the
/// file to its base will stand here too.
pub const FILE_HEAD: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n";

/// Longest annotation line: what Redis reads of one.
const ANNOTATION_LEN_MAX: usize = 1024;
/// Longest header line of a record, its line end included.
const HEADER_LEN_MAX: usize = 32;

/// What came next in a file of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole record; [`RecordReader::args`] has its arguments.
    Record,
    /// The file ends where a record ends.
    End,
    /// The file ends inside a record or an annotation.
    Torn,
}

/// Reads records, knowing at which offset each starts.
#[derive(Debug)]
pub struct RecordReader<R> {
    source: Source<R>,
    decoder: Decoder,
    /// Length of the record handed out last, still in the source.
    len: usize,
    start: u64,
}

impl<R: Read> RecordReader<R> {
    /// Reads records from where `source` stands.
    pub fn new(source: Source<R>) -> RecordReader<R> {
        let start = source.offset();
        RecordReader { source, decoder: Decoder::new(Limits::REDIS), len: 0, start }
    }

    /// Moves to the next record, over annotations.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes are neither a record nor a torn tail.
    pub fn next(&mut self) -> Result<Next, Error> {
        self.source.consume(std::mem::take(&mut self.len));
        self.decoder.reset();
        loop {
            self.start = self.source.offset();
            if !self.source.want(1)? {
                return Ok(Next::End);
            }
            if !self.source.arrived().starts_with(b"#") {
                return self.record();
            }
            let Some(len) = self.annotation_len()? else { return Ok(Next::Torn) };
            self.source.consume(len);
        }
    }

    /// Offset of the record or torn tail that [`RecordReader::next`] found.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset where the record found last ends.
    pub fn end(&self) -> u64 {
        self.source.offset() + self.len as u64
    }

    /// The arguments of the record found last.
    pub fn args(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let bytes = self.source.arrived();
        self.decoder.args().iter().map(move |range| &bytes[range.clone()])
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &std::path::Path {
        self.source.path()
    }

    fn record(&mut self) -> Result<Next, Error> {
        loop {
            match self.decoder.decode(self.source.arrived()) {
                Ok(Decoded::Command { len }) => {
                    self.len = len;
                    return Ok(Next::Record);
                }
                Ok(Decoded::Incomplete) => {
                    if !self.source.fill()? {
                        return Ok(Next::Torn);
                    }
                }
                Err(malformed) => {
                    self.source.consume(malformed.offset);
                    return self.torn_or_damaged(expected(malformed.what));
                }
            }
        }
    }

    /// Length of the annotation line that starts here; `None` if it is torn.
    fn annotation_len(&mut self) -> Result<Option<usize>, Error> {
        loop {
            let arrived = self.source.arrived();
            let window = &arrived[..arrived.len().min(ANNOTATION_LEN_MAX)];
            if let Some(line_end) = memchr::memchr(b'\n', window) {
                return Ok(Some(line_end + 1));
            }
            if window.len() == ANNOTATION_LEN_MAX {
                let text_len = window.iter().position(|byte| *byte == 0).unwrap_or(0);
                self.source.consume(text_len);
                self.torn_or_damaged("an annotation of at most 1024 bytes")?;
                return Ok(None);
            }
            if !self.source.fill()? {
                return Ok(None);
            }
        }
    }

    /// Whether the bytes from here are what a file system leaves of a write
    /// that did not happen: part of a header line, then zeros to the end.
    fn torn_or_damaged(&mut self, expected: &'static str) -> Result<Next, Error> {
        let damaged = self.source.damaged(expected);
        // Short only at the end of the file, which is fine here.
        self.source.want(HEADER_LEN_MAX)?;
        let arrived = self.source.arrived();
        let window = &arrived[..arrived.len().min(HEADER_LEN_MAX)];
        let Some(zeros) = window.iter().position(|byte| *byte == 0) else { return Err(damaged) };
        self.source.consume(zeros);
        if self.source.rest_is_zeros()? { Ok(Next::Torn) } else { Err(damaged) }
    }
}

/// What should have stood where the decoder found `fault`.
fn expected(fault: Fault) -> &'static str {
    match fault {
        Fault::ExpectedArray(_) => "`*`, the start of a record",
        Fault::ExpectedBulk(_) => "`$`, the start of an argument",
        Fault::InvalidCount => "a number of arguments, at least 1",
        Fault::InvalidLength => "the length of an argument",
        Fault::LineTooLong => "the end of a line",
        Fault::ExpectedLineEnd => "CR LF after an argument",
        Fault::TooBig => "a record of at most 1 GiB",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// What a file of these bytes reads as: each record, then how it ends.
    fn read(bytes: &[u8]) -> String {
        let mut reader = RecordReader::new(Source::new(bytes, PathBuf::from("incr")));
        let mut read = String::new();
        loop {
            match reader.next() {
                Ok(Next::Record) => {
                    let args: Vec<_> =
                        reader.args().map(|arg| arg.escape_ascii().to_string()).collect();
                    read += &format!("{}..{} {}\n", reader.start(), reader.end(), args.join(" "));
                }
                Ok(Next::End) => return read + "end",
                Ok(Next::Torn) => return read + &format!("torn at {}", reader.start()),
                Err(error) => return read + &error.to_string(),
            }
        }
    }

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n";

    #[test]
    fn records_are_read_with_their_offsets() {
        let bytes = [FILE_HEAD, b"#TS:17\r\n", SET, b"#x\n#y\n"].concat();
        assert_eq!(read(&bytes), "0..23 SELECT 0\n31..59 SET a \\r\\n\nend");
        assert_eq!(read(b""), "end");
    }

    #[test]
    fn every_cut_is_a_torn_tail_of_whole_records() {
        let bytes = [SET, b"#TS:17\r\n", SET].concat();
        for len in 0..bytes.len() {
            let expected = match len {
                0 => "end".to_owned(),
                1..28 => "torn at 0".to_owned(),
                28 | 36 => "0..28 SET a \\r\\n\nend".to_owned(),
                29..36 => "0..28 SET a \\r\\n\ntorn at 28".to_owned(),
                _ => "0..28 SET a \\r\\n\ntorn at 36".to_owned(),
            };
            assert_eq!(read(&bytes[..len]), expected, "cut to {len}");
        }
    }

    #[test]
    fn zeros_after_any_cut_are_a_torn_tail_too() {
        let bytes = [SET, SET].concat();
        for len in 0..bytes.len() {
            for zeros in [1, 2, 40, 5000] {
                let read = read(&[&bytes[..len], &vec![0; zeros]].concat());
                let torn = if len < 28 { "torn at 0" } else { "0..28 SET a \\r\\n\ntorn at 28" };
                assert_eq!(read, torn, "cut to {len}, then {zeros} zeros");
            }
        }
        let annotation = [SET, b"#TS:17", &[0; 3000]].concat();
        assert_eq!(read(&annotation), "0..28 SET a \\r\\n\ntorn at 28");
    }

    #[test]
    fn what_is_neither_is_damage_with_its_offset() {
        for (damage, offset, expected) in [
            (&b"PING\r\n"[..], 28, "`*`, the start of a record"),
            (b"\0\0\0*", 28, "`*`, the start of a record"),
            (b"*0\r\n", 29, "a number of arguments, at least 1"),
            (b"*1\r\n:1\r\n", 32, "`$`, the start of an argument"),
            (b"*1\r\n$-1\r\n", 33, "the length of an argument"),
            (b"*1\r\n$1\r\nabc", 37, "CR LF after an argument"),
            (&[b'#'; 2000], 28, "an annotation of at most 1024 bytes"),
        ] {
            let read = read(&[SET, damage, SET].concat());
            let text =
                format!("0..28 SET a \\r\\n\nincr: damaged at byte {offset}: expected {expected}");
            assert_eq!(read, text);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            read(&bytes);
            read(&[SET, &bytes].concat());
        }
    }
}
