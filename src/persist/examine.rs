//! Looking at a log from outside: is it whole, and what does it hold.
//!
//! Nothing is opened for appending. Looking takes no lock, so that a copy, or the
//! log of a process that runs, can be looked at; mending takes it.

use std::path::{Path, PathBuf};

use super::base::MAGIC;
use super::base::decode::{BaseReader, Part};
use super::disk::Directory;
use super::error::Error;
use super::record::{Next, RecordReader};
use super::recovery::{self, Found, Mend, Progress, Recovery};
use super::source::Source;
use crate::base::clock::Timestamp;
use crate::keyspace::Value;

/// What looking at a log found.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Its files in the order they are loaded, with their lengths.
    pub files: Vec<(PathBuf, u64)>,
    /// Whether that is one file which Redis has left beside the log's folder: a start
    /// begins a log with it.
    pub is_origin: bool,
    /// What a start would find; [`Recovery::cut_tail`] is what it would cut, or,
    /// when the log was mended, what was cut.
    pub recovery: Recovery,
}

/// Loads the log of `dir` to see whether it is whole. With `mend`, cuts it off
/// where it is torn or damaged; what the files were is kept beside them.
///
/// # Errors
/// It is not whole, and was not to be mended, or cannot be: see [`Error`].
pub fn check(
    dir: &Path,
    mend: bool,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Examined, Error> {
    let directory = if mend { Directory::open(dir)? } else { Directory::open_to_look(dir) };
    let mend = if mend { Mend::Damaged } else { Mend::Look };
    let (found, recovery) = recovery::examine(&directory, mend, now, progress)?;
    let files = found
        .files(&directory)
        .map(|(folder, name)| Ok((folder.path_of(name), folder.open_to_read(name)?.1)))
        .collect::<Result<_, Error>>()?;
    Ok(Examined { files, is_origin: found.is_origin(), recovery })
}

/// A piece of a log, as it is read.
#[derive(Debug)]
pub enum Piece<'a> {
    /// The log begins.
    Log {
        /// Bytes of all its files.
        len: u64,
    },
    /// A file begins.
    File {
        /// Where it is.
        path: &'a Path,
        /// Its length.
        len: u64,
    },
    /// A library of a base file: its code.
    Library(&'a str),
    /// A key of a base file.
    Entry {
        /// Where what follows it stands in the file.
        end: u64,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a Value,
        /// Its deadline in unix milliseconds.
        expires_at_ms: Option<u64>,
    },
    /// A command of an incr file.
    Record {
        /// Where it stands in the file.
        offset: u64,
        /// The command.
        args: &'a [&'a [u8]],
    },
    /// The file ends in the middle of something.
    Torn {
        /// Where that begins.
        offset: u64,
    },
}

/// Reads the log of `dir` and shows each piece to `show`, which stops it by
/// `false`. Seals are checked on the way.
///
/// # Errors
/// The log cannot be read to its end.
pub fn dump(dir: &Path, show: &mut dyn FnMut(Piece<'_>) -> bool) -> Result<(), Error> {
    let directory = Directory::open_to_look(dir);
    let found = Found::something_at(&directory)?;
    if !show(Piece::Log { len: found.len(&directory)? }) {
        return Ok(());
    }
    for (folder, name) in found.files(&directory) {
        let (file, len) = folder.open_to_read(name)?;
        let path = folder.path_of(name);
        if !show(Piece::File { path: &path, len }) {
            return Ok(());
        }
        let mut source = Source::new(file, path.clone());
        source.want(MAGIC.len())?;
        if source.arrived().starts_with(MAGIC) {
            let mut base = BaseReader::new(source)?;
            while let Some(part) = base.next()? {
                let goes_on = match &part {
                    Part::Library(code) => show(Piece::Library(code)),
                    Part::Entry { key, value, expires_at_ms } => {
                        let (end, expires_at_ms) = (base.offset(), *expires_at_ms);
                        show(Piece::Entry { end, key, value, expires_at_ms })
                    }
                };
                if !goes_on {
                    return Ok(());
                }
            }
            source = base.into_source();
        }
        let mut reader = RecordReader::new(source);
        loop {
            let goes_on = match reader.next()? {
                Next::Record => {
                    let args: Vec<&[u8]> = reader.args().collect();
                    show(Piece::Record { offset: reader.start(), args: &args })
                }
                Next::Sealed { .. } => true,
                Next::Torn => show(Piece::Torn { offset: reader.start() }),
                Next::Damaged { offset, expected } => {
                    return Err(Error::Damaged { path, offset, expected });
                }
                Next::End => break,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }
    Ok(())
}
