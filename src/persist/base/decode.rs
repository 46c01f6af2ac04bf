//! Reading base files, part by part, through a bounded buffer.
//!
//! The file is not trusted: a length reserves nothing, a count is believed only
//! as far as its members arrive, and each fault names its offset. Bytes after
//! the end are left in the source: the oldest logs have records there.

use std::io::Read;

use super::listpack::{self, Element};
use super::{MAGIC, kind, lzf, opcode};
use crate::keyspace::{SortedSet, Value};
use crate::persist::error::Error;
use crate::persist::source::Source;

/// Versions of the form that we read.
const VERSIONS: std::ops::RangeInclusive<u32> = 9..=11;
/// Longest string: Redis' own limit.
const STRING_LEN_MAX: u64 = 512 << 20;

/// A part of a base file that matters to a keyspace.
#[derive(Debug)]
pub enum Part {
    /// The code of a library.
    Library(String),
    /// A key of database 0.
    Entry {
        /// The key.
        key: Vec<u8>,
        /// What it holds.
        value: Value,
        /// Its deadline, which may be past.
        expires_at_ms: Option<u64>,
    },
}

/// A base file being read.
#[derive(Debug)]
pub struct BaseReader<R> {
    source: Source<R>,
    database: u64,
    expires_at_ms: Option<u64>,
    /// Offset of the part being read.
    start: u64,
}

/// A length, or the mark of a string in a special form.
enum Length {
    Plain(u64),
    Special(u8),
}

impl<R: Read> BaseReader<R> {
    /// Opens a base file.
    ///
    /// # Errors
    /// It does not start as one, or is of a version that we do not read.
    pub fn new(mut source: Source<R>) -> Result<BaseReader<R>, Error> {
        let start = source.damaged("`REDIS` and a version from 0009 to 0011");
        let head: [u8; 9] = array(&mut source)?;
        let (magic, version) = head.split_at(MAGIC.len());
        let version = std::str::from_utf8(version).ok().and_then(|text| text.parse().ok());
        if magic != MAGIC || !version.is_some_and(|version| VERSIONS.contains(&version)) {
            return Err(start);
        }
        Ok(BaseReader { source, database: 0, expires_at_ms: None, start: 0 })
    }

    /// The next part that matters, or `None` at the end, when the checksum has
    /// been found to fit.
    pub fn next(&mut self) -> Result<Option<Part>, Error> {
        loop {
            self.start = self.source.offset();
            let [code] = self.array()?;
            match code {
                opcode::AUX => {
                    self.string()?;
                    self.string()?;
                }
                opcode::FUNCTION => {
                    let code = String::from_utf8(self.string()?);
                    let code = code.map_err(|_| self.damage("the code of a library in UTF-8"))?;
                    return Ok(Some(Part::Library(code)));
                }
                opcode::DATABASE => self.database = self.length()?,
                opcode::DATABASE_SIZE => {
                    self.length()?;
                    self.length()?;
                }
                opcode::DEADLINE_MS => {
                    let deadline = i64::from_le_bytes(self.array()?);
                    self.expires_at_ms = Some(since_epoch(deadline));
                }
                opcode::DEADLINE_SECONDS => {
                    let seconds = i32::from_le_bytes(self.array()?);
                    self.expires_at_ms = Some(since_epoch(i64::from(seconds) * 1_000));
                }
                opcode::IDLE => {
                    self.length()?;
                }
                opcode::FREQUENCY => {
                    let [_counter] = self.array()?;
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

    /// Where the file stands.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// Says that the part read last is not what it should be.
    pub fn damaged(&self, expected: &'static str) -> Error {
        Error::Damaged { path: self.source.path().to_owned(), offset: self.start, expected }
    }

    /// What follows the end.
    pub fn into_source(self) -> Source<R> {
        self.source
    }

    fn entry(&mut self, kind: u8) -> Result<Part, Error> {
        let expires_at_ms = self.expires_at_ms.take();
        let key = self.string()?;
        if self.database != 0 {
            let what = format!("database {}", self.database);
            return Err(self.unsupported(&what, Some(&key)));
        }
        let value = match kind {
            kind::STRING => Value::String(self.string()?.into()),
            kind::SORTED_SET => {
                self.sorted_set(|reader| Ok(f64::from_le_bytes(reader.array()?)))?
            }
            kind::SORTED_SET_TEXT => self.sorted_set(BaseReader::text_score)?,
            kind::SORTED_SET_LISTPACK => self.packed_sorted_set()?,
            _ => return Err(self.foreign(kind, &key)),
        };
        Ok(Part::Entry { key, value, expires_at_ms })
    }

    fn sorted_set(
        &mut self,
        score: impl Fn(&mut Self) -> Result<f64, Error>,
    ) -> Result<Value, Error> {
        let len = self.length()?;
        let mut set = SortedSet::new();
        for _ in 0..len {
            let member = self.string()?;
            let score = score(self)?;
            self.insert(&mut set, &member, score)?;
        }
        self.not_empty(set)
    }

    /// A score as text behind its length; three lengths are values themselves.
    fn text_score(&mut self) -> Result<f64, Error> {
        let [len] = self.array()?;
        match len {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            len => {
                let mut text = Vec::new();
                self.read_into(u64::from(len), &mut text)?;
                parse_score(&text).ok_or_else(|| self.damage("a score"))
            }
        }
    }

    fn packed_sorted_set(&mut self) -> Result<Value, Error> {
        let blob = self.string()?;
        let mut set = SortedSet::new();
        let broken = |_: listpack::Malformed| self.damage("a sorted set in a listpack");
        let mut elements = listpack::elements(&blob).map_err(broken)?;
        while let Some(member) = elements.next() {
            let member = member.map_err(broken)?;
            let Some(Ok(score)) = elements.next() else {
                return Err(broken(listpack::Malformed));
            };
            let score = match score {
                Element::Integer(integer) => integer as f64,
                Element::Text(text) => {
                    parse_score(text).ok_or_else(|| broken(listpack::Malformed))?
                }
            };
            match member {
                Element::Text(text) => self.insert(&mut set, text, score)?,
                Element::Integer(integer) => {
                    self.insert(&mut set, itoa::Buffer::new().format(integer).as_bytes(), score)?;
                }
            }
        }
        self.not_empty(set)
    }

    fn insert(&self, set: &mut SortedSet, member: &[u8], score: f64) -> Result<(), Error> {
        if score.is_nan() {
            return Err(self.damage("a score that is a number"));
        }
        let known = set.len();
        set.insert(member, score);
        if set.len() == known {
            return Err(self.damage("each member once"));
        }
        Ok(())
    }

    /// A collection in a keyspace has members.
    fn not_empty(&self, set: SortedSet) -> Result<Value, Error> {
        if set.is_empty() {
            return Err(self.damage("a sorted set with members"));
        }
        Ok(Value::SortedSet(set))
    }

    fn length(&mut self) -> Result<u64, Error> {
        match self.length_or_special()? {
            Length::Plain(len) => Ok(len),
            Length::Special(_) => Err(self.damage("a length")),
        }
    }

    fn length_or_special(&mut self) -> Result<Length, Error> {
        let [first] = self.array()?;
        let low = first & 0x3F;
        Ok(match (first >> 6, low) {
            (0, _) => Length::Plain(u64::from(low)),
            (1, _) => {
                let [second] = self.array()?;
                Length::Plain(u64::from(low) << 8 | u64::from(second))
            }
            (2, 0) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 1) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (2, _) => return Err(self.damage("a length")),
            _ => Length::Special(low),
        })
    }

    fn string(&mut self) -> Result<Vec<u8>, Error> {
        let integer = match self.length_or_special()? {
            Length::Plain(len) => {
                let mut text = Vec::new();
                self.read_into(len, &mut text)?;
                return Ok(text);
            }
            Length::Special(0) => i32::from(i8::from_le_bytes(self.array()?)),
            Length::Special(1) => i32::from(i16::from_le_bytes(self.array()?)),
            Length::Special(2) => i32::from_le_bytes(self.array()?),
            Length::Special(3) => return self.compressed_string(),
            Length::Special(_) => return Err(self.damage("a string")),
        };
        Ok(integer.to_string().into_bytes())
    }

    fn compressed_string(&mut self) -> Result<Vec<u8>, Error> {
        let packed_len = self.length()?;
        let len = self.length()?;
        let mut packed = Vec::new();
        self.read_into(packed_len, &mut packed)?;
        usize::try_from(len)
            .ok()
            .filter(|_| len <= STRING_LEN_MAX)
            .and_then(|len| lzf::decompress(&packed, len))
            .ok_or_else(|| self.damage("a string compressed by LZF"))
    }

    fn read_into(&mut self, len: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        if len > STRING_LEN_MAX {
            return Err(self.damage("a string of at most 512 MiB"));
        }
        if self.source.read_into(len, out)? { Ok(()) } else { Err(self.short()) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        array(&mut self.source)
    }

    fn check_sum(&mut self) -> Result<(), Error> {
        let computed = self.source.checksum();
        let found = u64::from_le_bytes(self.array()?);
        // Zero: written with `rdbchecksum no`.
        if found != 0 && found != computed {
            let path = self.source.path().to_owned();
            return Err(Error::Checksum { path, found, computed });
        }
        Ok(())
    }

    fn short(&self) -> Error {
        short(&self.source)
    }

    fn damage(&self, expected: &'static str) -> Error {
        self.source.damaged(expected)
    }

    fn foreign(&self, kind: u8, key: &[u8]) -> Error {
        let what = match kind {
            1 | 10 | 14 | 18 => "a list",
            2 | 11 | 20 => "a set",
            4 | 9 | 13 | 16 => "a hash",
            6 | 7 => "a value of a module",
            12 => "a sorted set in a form older than Redis 7",
            15 | 19 | 21 => "a stream",
            _ => {
                return Error::Damaged {
                    path: self.source.path().to_owned(),
                    offset: self.start,
                    expected: "the type of a value",
                };
            }
        };
        self.unsupported(what, Some(key))
    }

    fn unsupported(&self, what: &str, key: Option<&[u8]>) -> Error {
        Error::unsupported(self.source.path(), self.start, what, key)
    }
}

fn array<R: Read, const N: usize>(source: &mut Source<R>) -> Result<[u8; N], Error> {
    source.array()?.ok_or_else(|| short(source))
}

/// The file ends in the middle of something.
fn short<R: Read>(source: &Source<R>) -> Error {
    Error::Truncated { path: source.path().to_owned(), offset: source.offset() }
}

/// A deadline before 1970 is past, which is all that matters of it.
fn since_epoch(deadline_ms: i64) -> u64 {
    u64::try_from(deadline_ms).unwrap_or(0)
}

/// A score as Redis' `strtod` reads it, without the forms that Redis never
/// writes.
fn parse_score(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
