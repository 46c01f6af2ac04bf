//! Recovery: from what lies in the directory to a keyspace and an open log.
//!
//! 1. Lock the folder, read the manifest, look that every file it names is there.
//! 2. Load the base file, then replay each incr file. A record is a command, or
//!    a `MULTI` … `EXEC` group that is applied whole.
//! 3. A torn tail is cut, once, and reported: to the end of the last whole
//!    record, before a group that was not finished. Only the last file that holds
//!    records may have one; an incr file that a rewrite had just prepared may
//!    follow it.
//! 4. Make what is missing of a new log, durable in the order that a crash
//!    between any two steps can be started from.
//!
//! # Invariants
//!
//! - Nothing on disk changes before all of it has been read and understood, so a
//!   refused start can be repeated, by us or by an older version.
//! - Keys do not expire during replay: the log says when they did.
//! - What cannot be held is refused with its file, offset and key, never skipped.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::base::decode::{BaseReader, Part};
use super::base::file::BaseFile;
use super::base::{MAGIC, encode};
use super::config::Config;
use super::disk::{AppendFile, Directory, TEMP_PREFIX};
use super::error::Error;
use super::manifest::{self, Entry, Manifest};
use super::record::{self, Next, RecordReader};
use super::source::Source;
use super::writer::Files;
use crate::base::clock::{Stopwatch, Timestamp};
use crate::keyspace::{Arg, CommandError, Effects, Execution, Keyspace, Mode, command};
use crate::resp::Reply;

/// Longest manifest that is read: ten thousand files and more.
const MANIFEST_LEN_MAX: u64 = 1 << 20;
/// Progress is told each time this much has been read.
const PROGRESS_STEP: u64 = 4 << 20;

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
    /// Bytes that were cut off.
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
    /// The files that make up the log.
    pub files: Files,
    /// The last of them, open for appending.
    pub active: Arc<AppendFile>,
    /// What was found and done.
    pub recovery: Recovery,
}

/// Recovers the log of `config.dir` into `keyspace`, which is empty.
pub fn recover(
    config: &Config,
    keyspace: &mut Keyspace,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, Error> {
    debug_assert!(keyspace.is_empty(), "recovery starts from an empty keyspace");
    let stopwatch = Stopwatch::start();
    let directory = Directory::open(&config.dir)?;
    let manifest = read_manifest(&config.dir, &directory)?;
    let mut bytes_total = 0;
    for entry in manifest.load_order() {
        bytes_total += directory.open_to_read(&entry.name)?.1;
    }
    let mut loading = Loading {
        directory: &directory,
        keyspace,
        now,
        progress,
        told: Progress { bytes_read: 0, bytes_total, keys: 0 },
        recovery: Recovery::default(),
        library_names: Vec::new(),
        effects: Effects::default(),
        reply: Reply::default(),
    };
    let order: Vec<&Entry> = manifest.load_order().collect();
    for (index, entry) in order.iter().enumerate() {
        let torn_at = loading.load(entry, manifest.base.as_ref() == Some(*entry))?;
        if let Some(offset) = torn_at {
            loading.cut(entry, offset, &order[index + 1..], config.aof_load_truncated)?;
        }
    }
    let mut recovery = loading.finish();
    let (files, active) = open_files(&directory, manifest, now)?;
    recovery.duration = stopwatch.elapsed();
    Ok(Recovered { directory, files, active, recovery })
}

/// The manifest, or that of a log which does not exist yet.
fn read_manifest(dir: &Path, directory: &Directory) -> Result<Manifest, Error> {
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
        if !first || len > FIRST_FILE_LEN_MAX {
            return Err(Error::ManifestMissing { path, found: name });
        }
    }
    let old = dir.join("appendonly.aof");
    if old.exists() {
        return Err(Error::OldLayout { path: old });
    }
    let dump = dir.join("dump.rdb");
    if dump.exists() {
        tracing::warn!(file = %dump.display(), "not read: the log is new and starts empty");
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

/// Longest file that a first start makes.
const FIRST_FILE_LEN_MAX: u64 = 128;

/// The state of a load, over all files.
struct Loading<'a> {
    directory: &'a Directory,
    keyspace: &'a mut Keyspace,
    now: Timestamp,
    progress: &'a mut dyn FnMut(Progress),
    told: Progress,
    recovery: Recovery,
    /// Names of `recovery.libraries`, one for one.
    library_names: Vec<String>,
    effects: Effects,
    reply: Reply,
}

/// A group whose `EXEC` has not come yet.
#[derive(Debug, Default)]
struct Group {
    /// Offset of its `MULTI`; `None` when no group is open.
    start: Option<u64>,
    bytes: Vec<u8>,
    args: Vec<Range<usize>>,
    /// Where each record started, and the end of its arguments in `args`.
    records: Vec<(u64, usize)>,
}

impl Loading<'_> {
    /// Loads one file. The offset of its torn tail, if it has one.
    fn load(&mut self, entry: &Entry, is_base: bool) -> Result<Option<u64>, Error> {
        let (file, len) = self.directory.open_to_read(&entry.name)?;
        let mut source = Source::new(file, self.directory.path_of(&entry.name));
        source.want(MAGIC.len())?;
        if is_base && (source.arrived().starts_with(MAGIC) || entry.name.ends_with(".rdb")) {
            source = self.load_base(source)?;
        }
        let torn_at = self.replay(RecordReader::new(source))?;
        self.recovery.bytes += len;
        self.tell(0);
        Ok(torn_at)
    }

    fn load_base(&mut self, source: Source<File>) -> Result<Source<File>, Error> {
        let mut base = BaseReader::new(source)?;
        while let Some(part) = base.next()? {
            match part {
                Part::Library(code) => self.add_library(code),
                Part::Entry { key, value, expires_at_ms } => {
                    self.keyspace
                        .insert_loaded(&key, value, expires_at_ms)
                        .map_err(|_duplicate| base.damaged("each key once"))?;
                }
            }
            self.tell(base.offset());
        }
        Ok(base.into_source())
    }

    fn replay(&mut self, mut reader: RecordReader<File>) -> Result<Option<u64>, Error> {
        let mut group = Group::default();
        let mut database = 0;
        loop {
            match reader.next()? {
                Next::Torn => return Ok(Some(group.start.unwrap_or(reader.start()))),
                // A group that was not finished is torn, however cleanly.
                Next::End => return Ok(group.start),
                Next::Record => {}
            }
            self.tell(reader.end());
            let at = Place { path: reader.path(), offset: reader.start() };
            let args: Vec<&[u8]> = reader.args().collect();
            let word =
                |word: &str| args.len() == 1 && args[0].eq_ignore_ascii_case(word.as_bytes());
            if word("MULTI") {
                if group.start.replace(at.offset).is_some() {
                    return Err(at.bad("MULTI inside a MULTI".to_owned()));
                }
            } else if word("EXEC") {
                if group.start.take().is_none() {
                    return Err(at.bad("EXEC without a MULTI".to_owned()));
                }
                let mut first = 0;
                for (offset, end) in std::mem::take(&mut group.records) {
                    let range = |range: &Range<usize>| &group.bytes[range.clone()];
                    let args: Vec<&[u8]> = group.args[first..end].iter().map(range).collect();
                    self.apply(&args, &mut database, Place { offset, ..at })?;
                    first = end;
                }
                group = Group::default();
            } else if group.start.is_some() {
                for arg in &args {
                    let start = group.bytes.len();
                    group.bytes.extend_from_slice(arg);
                    group.args.push(start..group.bytes.len());
                }
                group.records.push((at.offset, group.args.len()));
            } else {
                self.apply(&args, &mut database, at)?;
            }
        }
    }

    /// Applies one command of the log.
    fn apply(&mut self, args: &[&[u8]], database: &mut u64, at: Place<'_>) -> Result<(), Error> {
        let name = args.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"SELECT") {
            let number = args.get(1).and_then(|text| std::str::from_utf8(text).ok());
            let number = number.filter(|_| args.len() == 2).and_then(|text| text.parse().ok());
            *database = number.ok_or_else(|| at.bad("SELECT without a number".to_owned()))?;
            return Ok(());
        }
        if name.eq_ignore_ascii_case(b"FUNCTION") {
            return self.apply_function(args, at);
        }
        if *database != 0 {
            let what = format!("database {database}");
            return Err(Error::unsupported(at.path, at.offset, &what, args.get(1).copied()));
        }
        let Some(command) = command(name) else {
            let what = format!("the command `{}`", name.escape_ascii());
            return Err(Error::unsupported(at.path, at.offset, &what, args.get(1).copied()));
        };
        let args: Vec<Arg<'_>> = args.iter().map(|arg| Arg::Bytes(arg)).collect();
        self.effects.clear();
        self.reply.clear();
        let mut run = Execution {
            now: self.now,
            mode: Mode::Replay,
            effects: &mut self.effects,
            reply: &mut self.reply,
        };
        match self.keyspace.execute(command, &args, &mut run) {
            Ok(()) => {}
            Err(error @ CommandError::Arity(_)) => {
                return Err(at.bad(error.to_string()));
            }
            Err(error) => {
                if self.recovery.failed_records == 0 {
                    let (file, offset) = (at.path.display(), at.offset);
                    tracing::warn!(%file, offset, %error, "a record of the log failed; skipped");
                }
                self.recovery.failed_records += 1;
            }
        }
        self.recovery.records += 1;
        Ok(())
    }

    /// Libraries are code: they are handed to whoever runs it.
    fn apply_function(&mut self, args: &[&[u8]], at: Place<'_>) -> Result<(), Error> {
        let verb = args.get(1).map(|verb| verb.to_ascii_uppercase()).unwrap_or_default();
        match (verb.as_slice(), &args[args.len().min(2)..]) {
            (b"LOAD", [code]) | (b"LOAD", [_, code]) => {
                let code = std::str::from_utf8(code)
                    .map_err(|_| at.bad("FUNCTION LOAD of code that is not UTF-8".to_owned()))?;
                self.add_library(code.to_owned());
            }
            (b"DELETE", [name]) => {
                if let Some(index) =
                    self.library_names.iter().position(|known| known.as_bytes() == *name)
                {
                    self.library_names.remove(index);
                    self.recovery.libraries.remove(index);
                }
            }
            (b"FLUSH", [] | [_]) => {
                self.library_names.clear();
                self.recovery.libraries.clear();
            }
            _ => {
                let what = format!("FUNCTION {}", verb.escape_ascii());
                return Err(Error::unsupported(at.path, at.offset, &what, None));
            }
        }
        self.recovery.records += 1;
        Ok(())
    }

    /// Adds a library, in the place of one of the same name.
    fn add_library(&mut self, code: String) {
        let name = library_name(&code).to_owned();
        match self.library_names.iter().position(|known| *known == name) {
            Some(index) => self.recovery.libraries[index] = code,
            None => {
                self.library_names.push(name);
                self.recovery.libraries.push(code);
            }
        }
    }

    /// Cuts the torn tail of `entry` off at `offset`, if nothing after it would
    /// be believed wrongly.
    fn cut(
        &mut self,
        entry: &Entry,
        offset: u64,
        later: &[&Entry],
        allowed: bool,
    ) -> Result<(), Error> {
        let path = self.directory.path_of(&entry.name);
        let mut records_follow = false;
        for entry in later {
            records_follow |= self.holds_records(entry)?;
        }
        if !allowed || records_follow {
            return Err(Error::Truncated { path, offset });
        }
        let (_, len) = self.directory.open_to_read(&entry.name)?;
        self.directory.cut(&entry.name, offset)?;
        let bytes = len - offset;
        tracing::warn!(file = %path.display(), offset, bytes, "cut a torn tail off the log");
        self.recovery.cut_tail = Some(CutTail { path, offset, bytes });
        Ok(())
    }

    /// Whether a file holds more than what a new one starts with.
    fn holds_records(&self, entry: &Entry) -> Result<bool, Error> {
        let (file, _) = self.directory.open_to_read(&entry.name)?;
        let source = Source::new(file, self.directory.path_of(&entry.name));
        let mut reader = RecordReader::new(source);
        loop {
            match reader.next()? {
                Next::End => return Ok(false),
                Next::Torn => return Ok(true),
                Next::Record => {
                    if !reader
                        .args()
                        .next()
                        .is_some_and(|name| name.eq_ignore_ascii_case(b"SELECT"))
                    {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Tells how far it is, now and then, and at the end of a file (0).
    fn tell(&mut self, offset: u64) {
        let bytes_read = self.recovery.bytes + offset;
        if offset == 0 || bytes_read >= self.told.bytes_read + PROGRESS_STEP {
            self.told.bytes_read = bytes_read;
            self.told.keys = self.keyspace.len() as u64;
            (self.progress)(self.told);
        }
    }

    fn finish(mut self) -> Recovery {
        self.recovery.keys = self.keyspace.len() as u64;
        self.recovery
    }
}

/// Where a record starts, for messages.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    offset: u64,
}

impl Place<'_> {
    fn bad(&self, reason: String) -> Error {
        Error::BadRecord { path: self.path.to_owned(), offset: self.offset, reason }
    }
}

/// The name in the first line of a library, `#!lua name=NAME`; empty if it has
/// none.
fn library_name(code: &str) -> &str {
    let shebang = code.lines().next().unwrap_or_default();
    shebang.split_whitespace().find_map(|word| word.strip_prefix("name=")).unwrap_or_default()
}

/// Makes what a new log lacks, opens the active file, and puts away what a
/// crash or an older rewrite left.
fn open_files(
    directory: &Directory,
    mut manifest: Manifest,
    now: Timestamp,
) -> Result<(Files, Arc<AppendFile>), Error> {
    let before = manifest.clone();
    if manifest.base.is_none() && manifest.incrs.is_empty() {
        let base = manifest.next_base();
        write_empty_base(directory, &base, now)?;
        manifest.base = Some(base);
    }
    let active = match manifest.incrs.last() {
        Some(last) => directory.open_to_append(&last.name)?,
        None => {
            let incr = manifest.next_incr();
            let active = directory.create_incr(&incr.name, record::FILE_HEAD)?;
            manifest = manifest.with_incr(incr);
            active
        }
    };
    if active.len() == 0 {
        active.append(record::FILE_HEAD)?;
        active.sync()?;
    }
    if manifest != before {
        directory.replace(manifest::FILE_NAME, manifest.encode().as_bytes())?;
    }
    let (base_len, earlier_incrs_len) = lengths(directory, &manifest)?;
    tidy(directory, &manifest)?;
    let files = Files {
        last_base_seq: manifest.next_base().seq - 1,
        last_incr_seq: manifest.next_incr().seq - 1,
        base_len,
        earlier_incrs_len,
        size_after_rewrite: base_len,
        incrs: vec![Arc::new(active)],
        manifest,
    };
    let active = files.incrs[0].clone();
    Ok((files, active))
}

/// Length of the base file, and of the incr files before the active one.
fn lengths(directory: &Directory, manifest: &Manifest) -> Result<(u64, u64), Error> {
    let len = |entry: &Entry| directory.open_to_read(&entry.name).map(|(_, len)| len);
    let base_len = manifest.base.as_ref().map_or(Ok(0), len)?;
    let earlier = &manifest.incrs[..manifest.incrs.len() - 1];
    let earlier_len = earlier.iter().map(len).sum::<Result<u64, Error>>()?;
    Ok((base_len, earlier_len))
}

/// The snapshot of a keyspace without keys.
fn write_empty_base(directory: &Directory, base: &Entry, now: Timestamp) -> Result<(), Error> {
    let temp = format!("{TEMP_PREFIX}{}", base.name);
    let mut file = BaseFile::new(directory.create(&temp)?);
    encode::head(&mut file.buffer, now);
    file.seal()?;
    directory.rename(&temp, &base.name)
}

/// Removes unfinished files. A file of the log that the manifest does not name
/// is left alone and pointed out: it may be what somebody wants back.
fn tidy(directory: &Directory, manifest: &Manifest) -> Result<(), Error> {
    let unfinished = format!("{TEMP_PREFIX}{}", manifest::PREFIX);
    for name in directory.names()? {
        let known = name == manifest::FILE_NAME || manifest.entries().any(|it| it.name == name);
        if name.starts_with(&unfinished) {
            directory.remove(&name)?;
        } else if name.starts_with(manifest::PREFIX) && !known {
            let file = directory.path_of(&name);
            tracing::warn!(file = %file.display(), "not named by the manifest; ignored");
        }
    }
    Ok(())
}
