//! Reading base files, part by part, through a bounded buffer.
//!
//! The file is not trusted: a length reserves nothing, a count is believed only
//! as far as its members arrive, and each fault names its offset. Bytes after
//! the end are left in the source: the oldest logs have records there.

use std::io::Read;

use super::{MAGIC, NOTE_POSITION, NOTE_RUN, opcode};
use crate::keyspace::Value;
use crate::keyspace::rdb::decode::{self, Input, Stored};
use crate::keyspace::rdb::unpack::Expected;
use crate::persist::error::Error;
use crate::persist::seal::{Place, Run};
use crate::persist::source::Source;

/// Versions of the form that we read.
const VERSIONS: std::ops::RangeInclusive<u32> = 9..=11;

/// A part of a base file that matters to a keyspace.
#[derive(Debug)]
pub enum Part<V = Value> {
    /// The code of a library.
    Library(String),
    /// A key of database 0.
    Entry {
        /// The key.
        key: Vec<u8>,
        /// What it holds.
        value: V,
        /// Its deadline, which may be past.
        expires_at_ms: Option<u64>,
    },
}

impl Part<Stored> {
    /// The same, understood to its end.
    ///
    /// # Errors
    /// Its value was packed, and not in the way of its kind.
    pub fn unpack(self) -> Result<Part, Expected> {
        Ok(match self {
            Part::Library(code) => Part::Library(code),
            Part::Entry { key, value, expires_at_ms } => {
                Part::Entry { key, value: value.unpack()?, expires_at_ms }
            }
        })
    }
}

/// A base file being read.
#[derive(Debug)]
pub struct BaseReader<R> {
    source: Source<R>,
    database: u64,
    run: Option<Run>,
    position: Option<u64>,
    expires_at_ms: Option<u64>,
    /// Offset of the part being read.
    start: u64,
}

impl<R: Read> BaseReader<R> {
    /// Opens a base file.
    ///
    /// # Errors
    /// It does not start as one, or is of a version that we do not read.
    pub fn new(mut source: Source<R>) -> Result<BaseReader<R>, Error> {
        let start = source.damaged("`REDIS` and a version from 0009 to 0011");
        let head: [u8; 9] = source.array()?;
        let (magic, version) = head.split_at(MAGIC.len());
        let version = std::str::from_utf8(version).ok().and_then(|text| text.parse().ok());
        if magic != MAGIC || !version.is_some_and(|version| VERSIONS.contains(&version)) {
            return Err(start);
        }
        Ok(BaseReader {
            source,
            database: 0,
            run: None,
            position: None,
            expires_at_ms: None,
            start: 0,
        })
    }

    /// The next part that matters, or `None` at the end, when the checksum has
    /// been found to fit.
    pub fn next(&mut self) -> Result<Option<Part>, Error> {
        let unpacked = self.next_stored()?.map(Part::unpack).transpose();
        self.source.made(unpacked)
    }

    /// The same, with what is packed left so.
    pub fn next_stored(&mut self) -> Result<Option<Part<Stored>>, Error> {
        loop {
            self.start = self.source.offset();
            let [code] = self.source.array()?;
            match code {
                opcode::AUX => self.note()?,
                opcode::LIBRARY => {
                    let code = String::from_utf8(decode::string(&mut self.source)?);
                    let code =
                        code.map_err(|_| self.source.damaged("the code of a library in UTF-8"))?;
                    return Ok(Some(Part::Library(code)));
                }
                opcode::DATABASE => self.database = decode::length(&mut self.source)?,
                opcode::DATABASE_SIZE => {
                    decode::length(&mut self.source)?;
                    decode::length(&mut self.source)?;
                }
                opcode::DEADLINE_MS => {
                    let deadline = i64::from_le_bytes(self.source.array()?);
                    self.expires_at_ms = Some(since_epoch(deadline));
                }
                opcode::DEADLINE_SECONDS => {
                    let seconds = i32::from_le_bytes(self.source.array()?);
                    self.expires_at_ms = Some(since_epoch(i64::from(seconds) * 1_000));
                }
                opcode::IDLE => {
                    decode::length(&mut self.source)?;
                }
                opcode::FREQUENCY => {
                    let [_counter] = self.source.array()?;
                }
                opcode::END => {
                    self.check_sum()?;
                    return Ok(None);
                }
                opcode::MODULE_AUX => return Err(self.unsupported("data of a module", None)),
                opcode::FUNCTION_PRERELEASE => {
                    return Err(self.unsupported("a library of a pre-release of Redis 7", None));
                }
                kind => return self.entry(kind).map(Some),
            }
        }
    }

    /// Reads a note. Those that we do not know are for others.
    fn note(&mut self) -> Result<(), Error> {
        let (key, value) = (decode::string(&mut self.source)?, decode::string(&mut self.source)?);
        if key == NOTE_RUN {
            let run = Run::parse(&value).ok_or_else(|| self.damaged("the name of a run"))?;
            self.run = Some(run);
        } else if key == NOTE_POSITION {
            let position = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            self.position = Some(position.ok_or_else(|| self.damaged("a position"))?);
        }
        Ok(())
    }

    /// The place of its cut in the log; of a file of Redis, nothing.
    pub fn place(&self) -> Option<Place> {
        Some(Place { run: self.run?, position: self.position? })
    }

    /// Where the file stands.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// Where the part read last begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Says that the part read last is not what it should be.
    pub fn damaged(&self, expected: &'static str) -> Error {
        Error::Damaged { path: self.source.path().to_owned(), offset: self.start, expected }
    }

    /// What follows the end.
    pub fn into_source(self) -> Source<R> {
        self.source
    }

    fn entry(&mut self, kind: u8) -> Result<Part<Stored>, Error> {
        let expires_at_ms = self.expires_at_ms.take();
        let key = decode::string(&mut self.source)?;
        if self.database != 0 {
            let what = format!("database {}", self.database);
            return Err(self.unsupported(&what, Some(&key)));
        }
        if let Some(what) = decode::foreign(kind) {
            return Err(self.unsupported(what, Some(&key)));
        }
        let value = decode::stored(kind, &mut self.source)?;
        Ok(Part::Entry { key, value, expires_at_ms })
    }

    fn check_sum(&mut self) -> Result<(), Error> {
        let computed = self.source.checksum();
        let found = u64::from_le_bytes(self.source.array()?);
        // Zero: written with `rdbchecksum no`.
        if found != 0 && found != computed {
            let path = self.source.path().to_owned();
            return Err(Error::Checksum { path, found, computed });
        }
        Ok(())
    }

    fn unsupported(&self, what: &str, key: Option<&[u8]>) -> Error {
        Error::unsupported(self.source.path(), self.start, what, key)
    }
}

impl<R: Read> Input for Source<R> {
    type Error = Error;

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take()?.ok_or_else(|| short(self))
    }

    fn bytes(&mut self, len: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.read_into(len, out)? { Ok(()) } else { Err(short(self)) }
    }

    fn malformed(&self, expected: &'static str) -> Error {
        self.damaged(expected)
    }
}

/// The file ends in the middle of something.
fn short<R: Read>(source: &Source<R>) -> Error {
    Error::Truncated { path: source.path().to_owned(), offset: source.offset() }
}

/// A deadline before 1970 is past, which is all that matters of it.
fn since_epoch(deadline_ms: i64) -> u64 {
    u64::try_from(deadline_ms).unwrap_or(0)
}
