//! Recovery: from what lies in the directory to a keyspace and an open log.
//!
//! 1. Lock the folder, read the manifest, look that every file it names is there.
//!    Without a manifest, look for what a Redis has left ([`origin`]).
//! 2. Load the base file, which is read [`ahead`], then replay each incr file
//!    ([`replay`]).
//! 3. A torn tail is cut, once, and reported: to the last seal, or without seals
//!    to the end of the last whole record, before a group that was not finished.
//! 4. Make what is missing of a new log, durable in the order that a crash
//!    between any two steps can be started from ([`files`]).
//!
//! # Torn or damaged
//!
//! Both look alike at first: bytes that do not fit. What tells them apart is what
//! stands behind. A seal that fits, and says that the log was on disk farther
//! than here when it was written, makes it damage: the start is refused, with the
//! offset. Otherwise the power went before these bytes were on disk, and what
//! stands behind them was never promised to anybody: it is cut, in this file
//! and in those after it.
//!
//! Files of Redis have no seals: there, only an end within a record or zeros to
//! the end are a torn tail, and only in the last file that holds records.
//!
//! # Invariants
//!
//! - Nothing on disk changes before all of it has been read and understood, so a
//!   refused start can be repeated, by us or by an older version.
//! - Keys do not expire during replay: the log says when they did.
//! - What cannot be held is refused with its file, offset and key, never skipped.

mod ahead;
mod files;
mod origin;
mod replay;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use super::config::Config;
use super::disk::Directory;
use super::error::Error;
use super::manifest::{self, Entry, Manifest};
use super::seal::{Place, Run};
use crate::base::clock::{Stopwatch, Timestamp};
use crate::keyspace::Keyspace;
pub use files::Opened;
use origin::Origin;
use replay::Loading;
pub use replay::Mend;

/// Longest manifest that is read: ten thousand files and more.
const MANIFEST_LEN_MAX: u64 = 1 << 20;

/// What was found and done at start.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Keys in the keyspace afterwards.
    pub keys: u64,
    /// Commands replayed from incr files, those in groups counted singly.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Time it took.
    pub duration: Duration,
    /// The torn tail that was cut off.
    pub cut_tail: Option<CutTail>,
    /// Records whose command answered with an error, which Redis too logs and
    /// skips. Of a log that we wrote: 0.
    pub failed_records: u64,
    /// The code of each library, in the order they were loaded.
    pub libraries: Vec<String>,
}

/// A torn tail: what was being written when the power went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutTail {
    /// The file that was cut.
    pub path: PathBuf,
    /// Its length now.
    pub offset: u64,
    /// Bytes that were cut off, in this file and in those after it.
    pub bytes: u64,
}

/// How far loading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read of all files.
    pub bytes_read: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Keys in the keyspace.
    pub keys: u64,
}

/// What a log needs to go on from where the last one ended.
#[derive(Debug)]
pub struct Recovered {
    /// The folder, locked.
    pub directory: Directory,
    /// The files that make up the log, open.
    pub opened: Opened,
    /// Where the log is.
    pub place: Place,
    /// What the last seal says is on disk.
    pub claimed: u64,
    /// What was found and done.
    pub recovery: Recovery,
}

/// Recovers the log of a folder into `keyspace`, which is empty.
pub fn recover(
    config: &Config,
    directory: Directory,
    keyspace: &mut Keyspace,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, Error> {
    debug_assert!(keyspace.is_empty(), "recovery starts from an empty keyspace");
    let stopwatch = Stopwatch::start();
    let found = Found::at(&directory)?;
    let bytes_total = found.len(&directory)?;
    let Found { manifest, origin } = found;
    let mend = if config.aof_load_truncated { Mend::Torn } else { Mend::Refuse };
    let mut loading = Loading::new(&directory, keyspace, now, bytes_total, mend, progress);
    loading.origin = origin;
    loading.load_all(&manifest)?;
    let loaded = loading.finish();
    let run = loaded.run.unwrap_or_else(Run::new);
    let place = Place { run, position: loaded.position };
    origin.map_or(Ok(()), |origin| origin.take_over(&directory))?;
    let opened = files::open(&directory, manifest, place, &loaded, now)?;
    let recovery = Recovery { duration: stopwatch.elapsed(), ..loaded.recovery };
    Ok(Recovered { directory, opened, place, claimed: loaded.claimed, recovery })
}

/// What a log is to be loaded from.
#[derive(Debug)]
pub struct Found {
    manifest: Manifest,
    origin: Option<Origin>,
}

impl Found {
    /// Looks as a start does.
    pub fn at(directory: &Directory) -> Result<Found, Error> {
        let manifest = read_manifest(directory)?;
        let origin = Origin::find(directory, &manifest)?;
        Ok(Found { manifest: origin.map_or(manifest, Origin::manifest), origin })
    }

    /// The same, where there has to be something.
    pub fn something_at(directory: &Directory) -> Result<Found, Error> {
        let found = Found::at(directory)?;
        if found.manifest == Manifest::default() {
            return Err(Error::NoLog { dir: directory.parent().path_of("") });
        }
        Ok(found)
    }

    /// Whether it is one file that is not in the log's folder yet.
    pub fn is_origin(&self) -> bool {
        self.origin.is_some()
    }

    /// Its files in the order they are loaded: the folder of each, and its name there.
    pub fn files<'a>(
        &'a self,
        directory: &'a Directory,
    ) -> impl Iterator<Item = (Cow<'a, Directory>, &'a str)> {
        self.manifest.load_order().map(|entry| origin::place_of(self.origin, directory, entry))
    }

    /// Bytes of all its files.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn len(&self, directory: &Directory) -> Result<u64, Error> {
        self.files(directory).map(|(folder, name)| Ok(folder.open_to_read(name)?.1)).sum()
    }
}

/// Loads the log of a folder and opens nothing. What a start would find.
pub fn examine(
    directory: &Directory,
    mend: Mend,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Found, Recovery), Error> {
    let stopwatch = Stopwatch::start();
    let found = Found::something_at(directory)?;
    let bytes_total = found.len(directory)?;
    let mut keyspace = Keyspace::new();
    let mut loading = Loading::new(directory, &mut keyspace, now, bytes_total, mend, progress);
    loading.origin = found.origin;
    loading.load_all(&found.manifest)?;
    let recovery = Recovery { duration: stopwatch.elapsed(), ..loading.finish().recovery };
    Ok((found, recovery))
}

/// Loads the log of a folder once more into `keyspace`, which is empty. All of it was
/// written by us, and has no torn tail.
pub fn load_again(
    directory: &Directory,
    manifest: &Manifest,
    keyspace: &mut Keyspace,
    now: Timestamp,
) -> Result<(), Error> {
    debug_assert!(keyspace.is_empty(), "a log is loaded into an empty keyspace");
    let mut ignore = |_: Progress| {};
    Loading::new(directory, keyspace, now, 0, Mend::Refuse, &mut ignore).load_all(manifest)
}

/// The manifest, or that of a log which does not exist yet.
fn read_manifest(directory: &Directory) -> Result<Manifest, Error> {
    if let Some(manifest) = manifest_on_disk(directory)? {
        return Ok(manifest);
    }
    let path = directory.path_of(manifest::FILE_NAME);
    // A first start that was interrupted leaves files that hold nothing; they
    // are made anew. Anything else is somebody's data.
    let strays = directory.names()?.into_iter().filter(|name| name.starts_with(manifest::PREFIX));
    for name in strays {
        let first = [Entry::base(1).name, Entry::incr(1).name].contains(&name);
        let (_, len) = directory.open_to_read(&name)?;
        if !first || len > files::FIRST_FILE_LEN_MAX {
            return Err(Error::ManifestMissing { path, found: name });
        }
    }
    Ok(Manifest::default())
}

/// The manifest as it lies there now, if there is one.
pub fn manifest_on_disk(directory: &Directory) -> Result<Option<Manifest>, Error> {
    let Some(text) = directory.read_small(manifest::FILE_NAME, MANIFEST_LEN_MAX)? else {
        return Ok(None);
    };
    let manifest = Manifest::parse(&text).map_err(|malformed| {
        let manifest::Malformed { line, reason } = malformed;
        Error::Manifest { path: directory.path_of(manifest::FILE_NAME), line, reason }
    })?;
    Ok(Some(manifest))
}
