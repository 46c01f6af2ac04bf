//! Incr files: records, one after another, as Redis 7 writes them.
//!
//! ```text
//! *2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n           first in each file
//! #TS:1795331917\r\n                          an annotation, skipped
//! *3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n   a record
//! *1\r\n$5\r\nMULTI\r\n … *1\r\n$4\r\nEXEC\r\n   a group, applied whole
//! ```
//!
//! Files that we write are [sealed](super::seal): a record may be believed when
//! the seal behind it has come. Files of Redis have no seals, and it may go on
//! behind ours: its part begins with a `SELECT`, which our records never hold.
//!
//! A file may end anywhere: what was being written when the power went is a
//! *torn tail*. Without seals it is told from damage by what follows: nothing,
//! or nothing but zero bytes, which is what a file system leaves that grew a
//! file before its data arrived. Anything else is damage, and nothing after it
//! is trusted.
//!
//! # Not here
//!
//! What the records mean, and what becomes of a torn tail or of damage: see
//! [`recovery`](super::recovery).

use std::io::Read;

use super::error::Error;
use super::seal::{self, RUN_LINE_LEN, Run, SEAL_MARK, Seal};
use super::source::Source;
use crate::resp::decode::{Decoded, Decoder, Fault, Limits};

/// What the line that tells the time begins with.
const TIME_MARK: &[u8] = b"#TS:";
/// Longest annotation line: what Redis reads of one.
const ANNOTATION_LEN_MAX: usize = 1024;
/// Longest header line of a record, its line end included.
const HEADER_LEN_MAX: usize = 32;

/// What came next in a file of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A whole record; [`RecordReader::args`] has its arguments.
    Record,
    /// A seal that fits: what came since the one before it is as it was written.
    Sealed {
        /// Position in the log at the seal before it.
        start: u64,
        /// What it says.
        seal: Seal,
    },
    /// The file ends where a record ends.
    End,
    /// The file ends inside a record or an annotation.
    Torn,
    /// Bytes that are none of that.
    Damaged {
        /// Where they stand.
        offset: u64,
        /// What should have stood there.
        expected: &'static str,
    },
}

/// Who wrote the part of the file that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// We: it is sealed.
    Weir,
    /// Redis, or we before there were seals.
    Redis,
}

/// Reads records, knowing at which offset each starts.
#[derive(Debug)]
pub struct RecordReader<R> {
    source: Source<R>,
    decoder: Decoder,
    /// Length of the record handed out last, still in the source.
    len: usize,
    start: u64,
    writer: Writer,
    run: Option<Run>,
    /// Bytes of records since the last seal.
    unsealed_len: u64,
}

impl<R: Read> RecordReader<R> {
    /// Reads records from where `source` stands.
    pub fn new(source: Source<R>) -> RecordReader<R> {
        RecordReader {
            start: source.offset(),
            source,
            decoder: Decoder::new(Limits::RECORDS),
            len: 0,
            writer: Writer::Redis,
            run: None,
            unsealed_len: 0,
        }
    }

    /// Moves to the next record or seal, over other annotations. After damage
    /// there is nothing to come.
    ///
    /// # Errors
    /// The operating system does not read.
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
            let len = match self.annotation_len()? {
                Ok(len) => len,
                Err(next) => return Ok(next),
            };
            if let Some(next) = self.annotation(len) {
                return Ok(next);
            }
        }
    }

    /// Reads an annotation line of this length: something, if it is of concern.
    fn annotation(&mut self, len: usize) -> Option<Next> {
        let line = &self.source.arrived()[..len];
        if self.start == 0
            && let Some(run) = seal::parse_run(line)
        {
            (self.writer, self.run) = (Writer::Weir, Some(run));
        } else if line.starts_with(SEAL_MARK) {
            return Some(self.seal(len));
        } else if self.writer == Writer::Weir && !line.starts_with(TIME_MARK) {
            self.source.consume(len);
            return Some(Next::Damaged { offset: self.start, expected: "a seal" });
        }
        self.source.consume(len);
        None
    }

    fn seal(&mut self, len: usize) -> Next {
        let offset = self.start;
        let damaged = |expected| Next::Damaged { offset, expected };
        if self.writer == Writer::Redis {
            return damaged("no seal where Redis has written");
        }
        let Some((seal, covered)) = Seal::parse(&self.source.arrived()[..len]) else {
            self.source.consume(len);
            return damaged("a seal");
        };
        self.source.consume(covered);
        let computed = self.source.checksum();
        self.source.consume(len - covered);
        self.source.restart_checksum();
        let sealed_len = std::mem::take(&mut self.unsealed_len);
        match seal.position.checked_sub(sealed_len) {
            Some(start) if seal.crc == computed => Next::Sealed { start, seal },
            _ => damaged("a seal that fits what stands before it"),
        }
    }

    /// The run that the file names in its first line; known after the first
    /// [`RecordReader::next`].
    pub fn run(&self) -> Option<Run> {
        self.run
    }

    /// Whether records are to be believed only once they are sealed. False as
    /// well for what Redis appended to a file of ours.
    pub fn is_sealed(&self) -> bool {
        self.writer == Writer::Weir
    }

    /// Looks, after damage, for seals that fit in the rest of the file. Calls
    /// `found` with each until it says that it has seen enough.
    ///
    /// # Errors
    /// The operating system does not read.
    pub fn later_seals(mut self, mut enough: impl FnMut(Seal) -> bool) -> Result<bool, Error> {
        let source = &mut self.source;
        source.restart_checksum();
        loop {
            // The window holds a line whole, whatever the chunks.
            source.want(ANNOTATION_LEN_MAX)?;
            let arrived = source.arrived();
            let Some(at) = memchr::memmem::find(arrived, SEAL_MARK) else {
                let kept = arrived.len().min(SEAL_MARK.len() - 1);
                source.consume(arrived.len() - kept);
                if !source.fill()? {
                    return Ok(false);
                }
                continue;
            };
            source.consume(at);
            source.want(seal::SEAL_LEN_MAX)?;
            let arrived = source.arrived();
            let len = memchr::memchr(b'\n', arrived).map_or(0, |line_end| line_end + 1);
            let Some((seal, covered)) = Seal::parse(&arrived[..len]) else {
                source.consume(SEAL_MARK.len());
                continue;
            };
            source.consume(covered);
            let fits = source.checksum() == seal.crc;
            source.consume(len - covered);
            source.restart_checksum();
            if fits && enough(seal) {
                return Ok(true);
            }
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
                    self.note_writer();
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

    /// Counts the record that was found, and notices who wrote it.
    fn note_writer(&mut self) {
        let is_head = self.start == RUN_LINE_LEN as u64;
        if self.writer == Writer::Redis || is_head {
            return;
        }
        let selects = self.args().next().is_some_and(|name| name.eq_ignore_ascii_case(b"SELECT"));
        if self.unsealed_len == 0 && selects {
            self.writer = Writer::Redis;
        } else {
            self.unsealed_len += self.len as u64;
        }
    }

    /// Length of the annotation line that starts here, or what is there instead.
    fn annotation_len(&mut self) -> Result<Result<usize, Next>, Error> {
        loop {
            let arrived = self.source.arrived();
            let window = &arrived[..arrived.len().min(ANNOTATION_LEN_MAX)];
            if let Some(line_end) = memchr::memchr(b'\n', window) {
                return Ok(Ok(line_end + 1));
            }
            if window.len() == ANNOTATION_LEN_MAX {
                let text_len = window.iter().position(|byte| *byte == 0).unwrap_or(0);
                self.source.consume(text_len);
                return self.torn_or_damaged("an annotation of at most 1024 bytes").map(Err);
            }
            if !self.source.fill()? {
                return Ok(Err(Next::Torn));
            }
        }
    }

    /// Whether the bytes from here are what a file system leaves of a write
    /// that did not happen: part of a header line, then zeros to the end.
    fn torn_or_damaged(&mut self, expected: &'static str) -> Result<Next, Error> {
        let damaged = Next::Damaged { offset: self.source.offset(), expected };
        // Short only at the end of the file, which is fine here.
        self.source.want(HEADER_LEN_MAX)?;
        let arrived = self.source.arrived();
        let window = &arrived[..arrived.len().min(HEADER_LEN_MAX)];
        let Some(zeros) = window.iter().position(|byte| *byte == 0) else { return Ok(damaged) };
        self.source.consume(zeros);
        Ok(if self.source.rest_is_zeros()? { Next::Torn } else { damaged })
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
    use crate::persist::seal::{SELECT, Sealer};
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
                Ok(Next::Sealed { start, seal }) => {
                    read += &format!("sealed {start}..{}\n", seal.position);
                }
                Ok(Next::Damaged { offset, expected }) => {
                    return read + &format!("damaged at {offset}: expected {expected}");
                }
                Err(error) => return read + &error.to_string(),
            }
        }
    }

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n";

    #[test]
    fn records_are_read_with_their_offsets() {
        let bytes = [SELECT, b"#TS:17\r\n", SET, b"#x\n#y\n"].concat();
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
            let text = format!("0..28 SET a \\r\\n\ndamaged at {offset}: expected {expected}");
            assert_eq!(read, text);
        }
    }

    /// A sealed file of two records with a seal each, and where each seal ends.
    fn sealed() -> (Vec<u8>, [usize; 2]) {
        let mut file = Run::new().head();
        let mut sealer = Sealer::after(&file);
        let mut ends = [0; 2];
        for (index, end) in ends.iter_mut().enumerate() {
            let mut batch = SET.to_vec();
            let position = 1_000 + 28 * (index as u64 + 1);
            sealer.seal(&mut batch, position, 0);
            file.extend(batch);
            *end = file.len();
        }
        (file, ends)
    }

    #[test]
    fn seals_are_handed_out_with_what_they_cover() {
        let (file, [first, second]) = sealed();
        let lines = read(&file);
        assert_eq!(lines.matches("sealed 1000..1028\n").count(), 1, "{lines}");
        assert!(lines.ends_with("sealed 1028..1056\nend"), "{lines}");
        // One batch taken out: what follows does not join on.
        let gap = [&file[..first], &file[second..]].concat();
        assert!(read(&gap).ends_with("sealed 1000..1028\nend"));
    }

    #[test]
    fn no_flipped_bit_of_a_sealed_file_leaves_all_its_seals() {
        let (file, [first, _]) = sealed();
        let whole = read(&file);
        for index in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[index] ^= 1 << bit;
                let lines = read(&flipped);
                let seals = lines.matches("sealed").count();
                let expected = usize::from(index >= first);
                assert_eq!(seals, expected, "byte {index}, bit {bit}: {lines}\n{whole}");
            }
        }
    }

    #[test]
    fn what_redis_appends_to_a_sealed_file_is_read_without_seals() {
        let (file, [_, end]) = sealed();
        let appended = [&file[..], b"#TS:17\r\n", SELECT, SET].concat();
        let mut reader = RecordReader::new(Source::new(&appended[..], PathBuf::from("incr")));
        let mut after_seals = 0;
        loop {
            match reader.next().unwrap() {
                Next::Record if reader.start() >= end as u64 => {
                    assert!(!reader.is_sealed());
                    after_seals += 1;
                }
                Next::Record | Next::Sealed { .. } => assert!(reader.is_sealed()),
                Next::End => break,
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!(after_seals, 2);
        let sealed_again = [&appended[..], &file[end - 50..]].concat();
        assert!(read(&sealed_again).contains("damaged"));
    }

    #[test]
    fn seals_behind_damage_are_found() {
        let (file, [first, _]) = sealed();
        let found = |file: &[u8]| {
            let mut reader = RecordReader::new(Source::new(file, PathBuf::from("incr")));
            while !matches!(reader.next().unwrap(), Next::Damaged { .. }) {}
            reader.later_seals(|seal| seal.position == 1_056).unwrap()
        };
        let mut early = file.clone();
        early[first - 40] ^= 1;
        assert!(found(&early));
        let mut late = file;
        late[first + 5] ^= 1;
        assert!(!found(&late));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            read(&bytes);
            read(&[SET, &bytes].concat());
        }
    }
}
