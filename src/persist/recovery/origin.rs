//! Where a log begins that has no folder yet: a file that a Redis has left in the
//! data directory becomes its base file.
//!
//! ```text
//! dir/appendonly.aof   the log of a Redis before 7, RDB preamble or not: moved
//! dir/dump.rdb         a snapshot: copied, and left for other tools
//! ```
//!
//! The file is read where it lies. Only when all of it has been understood is a
//! manifest written that names it and nothing else, and then the file is taken
//! over. A manifest like that, and no such file in the folder, is a take-over that
//! was interrupted: it is done again.
//!
//! A Redis with `appendonly yes` does the first too. It does not read `dump.rdb`,
//! starts empty, and replaces the file at its next save.

use std::borrow::Cow;

use crate::persist::disk::Directory;
use crate::persist::error::Error;
use crate::persist::manifest::{self, Entry, Manifest};
use crate::persist::save;

/// A file of the data directory that becomes the base file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The log of a Redis before 7.
    OldLog,
    /// A snapshot.
    Dump,
}

/// Name of a log that is one file.
const OLD_LOG_NAME: &str = "appendonly.aof";

impl Origin {
    /// What the log whose manifest this is begins with, if that is not in its
    /// folder. Of both, the log says more.
    pub fn find(directory: &Directory, manifest: &Manifest) -> Result<Option<Origin>, Error> {
        if !manifest.incrs.is_empty() || !manifest.history.is_empty() {
            return Ok(None);
        }
        let (beside, within) = (directory.parent().names()?, directory.names()?);
        let is_there = |origin: &Origin| beside.iter().any(|name| name == origin.name());
        let is_taken = |entry: &Entry| within.contains(&entry.name);
        let fits = |origin: &Origin| match &manifest.base {
            None => true,
            Some(base) => *base == origin.base() && !is_taken(base),
        };
        let origins = [Origin::OldLog, Origin::Dump].into_iter();
        Ok(origins.filter(is_there).find(fits))
    }

    /// Its name in the data directory.
    fn name(self) -> &'static str {
        match self {
            Origin::OldLog => OLD_LOG_NAME,
            Origin::Dump => save::FILE_NAME,
        }
    }

    /// The base file that it becomes.
    fn base(self) -> Entry {
        match self {
            // As Redis 7 upgrades it: under the name that it has.
            Origin::OldLog => Entry { name: OLD_LOG_NAME.to_owned(), seq: 1 },
            Origin::Dump => Entry::base(1),
        }
    }

    /// The manifest of the log that begins with it.
    pub fn manifest(self) -> Manifest {
        Manifest { base: Some(self.base()), ..Manifest::default() }
    }

    /// Makes it the base file, durably.
    pub fn take_over(self, directory: &Directory) -> Result<(), Error> {
        directory.replace(manifest::FILE_NAME, self.manifest().encode().as_bytes())?;
        match self {
            Origin::OldLog => directory.move_in(self.name())?,
            Origin::Dump => directory.copy_in(self.name(), &self.base().name)?,
        }
        let file = directory.parent().path_of(self.name());
        tracing::info!(file = %file.display(), "taken over as the base file of the log");
        Ok(())
    }
}

/// Where a file of the log lies now, and its name there.
pub fn place_of<'a>(
    origin: Option<Origin>,
    directory: &'a Directory,
    entry: &'a Entry,
) -> (Cow<'a, Directory>, &'a str) {
    match origin {
        Some(origin) if *entry == origin.base() => (Cow::Owned(directory.parent()), origin.name()),
        _ => (Cow::Borrowed(directory), &entry.name),
    }
}
