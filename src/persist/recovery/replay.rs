//! Replay: the files of a log, applied one after another.
//!
//! A record is a command, or a `MULTI` … `EXEC` group that is applied whole. It
//! waits until it may be believed: until its `EXEC`, and in a file of ours until
//! its seal.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use super::origin::{self, Origin};
use super::{CutTail, Progress, Recovery, ahead};
use crate::base::clock::Timestamp;
use crate::keyspace::rdb::payload;
use crate::keyspace::{Arg, CommandError, Effects, Execution, Keyspace, Mode, command};
use crate::persist::base::MAGIC;
use crate::persist::base::decode::Part;
use crate::persist::disk::{Directory, ReadFile};
use crate::persist::error::Error;
use crate::persist::manifest::{Entry, Manifest};
use crate::persist::record::{Next, RecordReader};
use crate::persist::seal::{RUN_LINE_LEN, Run, Seal};
use crate::persist::source::Source;
use crate::resp::Reply;

/// Progress is told each time this much has been read.
const PROGRESS_STEP: u64 = 4 << 20;

/// The state of a load, over all files.
pub struct Loading<'a> {
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
    run: Option<Run>,
    /// Where the log is, once a file has said so.
    position: Option<u64>,
    claimed: u64,
    /// Ends of seals in the file that is read, from the one on to which the log
    /// is known to be on disk: position and offset.
    unclaimed: VecDeque<(u64, u64)>,
    /// Whether a base file of ours is still to be followed by its incr file.
    base_awaits_incr: bool,
    ends_sealed: bool,
    mend: Mend,
    /// What the base file is to be made of, if it is not in the folder yet.
    pub origin: Option<Origin>,
}

/// What a load came to.
#[derive(Debug)]
pub struct Loaded {
    /// For the caller.
    pub recovery: Recovery,
    /// The run that the files belong to, if they say so.
    pub run: Option<Run>,
    /// Where they end.
    pub position: u64,
    /// What the last seal says is on disk.
    pub claimed: u64,
    /// From where on the last file may not be on disk.
    pub unclaimed_offset: u64,
    /// Whether the last file is ours to its end.
    pub ends_sealed: bool,
}

/// What may be done about a log that does not end where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Nothing: say what a start would cut.
    Look,
    /// Nothing: refuse.
    Refuse,
    /// Cut a torn tail off.
    Torn,
    /// Cut at the first damage too, and keep what the files were.
    Damaged,
}

/// A file that is not to be believed from here on.
#[derive(Debug)]
struct Torn {
    /// Where it is to be cut.
    offset: u64,
}

/// Records that were read and not yet applied.
#[derive(Debug, Default)]
struct Pending {
    /// Offset of the `MULTI` whose `EXEC` has not come yet.
    group: Option<u64>,
    bytes: Vec<u8>,
    args: Vec<Range<usize>>,
    /// Where each record started, and the end of its arguments in `args`.
    records: Vec<(u64, usize)>,
}

impl Pending {
    fn push<'a>(&mut self, offset: u64, args: impl Iterator<Item = &'a [u8]>) {
        for arg in args {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(arg);
            self.args.push(start..self.bytes.len());
        }
        self.records.push((offset, self.args.len()));
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.group.is_none()
    }

    fn clear(&mut self) {
        self.group = None;
        self.bytes.clear();
        self.args.clear();
        self.records.clear();
    }
}

/// Where a record starts, for messages.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a Path,
    offset: u64,
}

impl At<'_> {
    fn bad(&self, reason: String) -> Error {
        Error::BadRecord { path: self.path.to_owned(), offset: self.offset, reason }
    }
}

impl<'a> Loading<'a> {
    /// Nothing is loaded yet; `bytes_total` is what there is.
    pub fn new(
        directory: &'a Directory,
        keyspace: &'a mut Keyspace,
        now: Timestamp,
        bytes_total: u64,
        mend: Mend,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Loading<'a> {
        Loading {
            directory,
            keyspace,
            now,
            progress,
            told: Progress { bytes_read: 0, bytes_total, keys: 0 },
            recovery: Recovery::default(),
            library_names: Vec::new(),
            effects: Effects::default(),
            reply: Reply::default(),
            run: None,
            position: None,
            claimed: 0,
            unclaimed: VecDeque::new(),
            base_awaits_incr: false,
            ends_sealed: false,
            mend,
            origin: None,
        }
    }

    /// Loads every file, and mends what may be mended.
    pub fn load_all(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let order: Vec<&Entry> = manifest.load_order().collect();
        for (index, entry) in order.iter().enumerate() {
            let torn = self.load(entry, manifest.base.as_ref() == Some(*entry))?;
            if let Some(Torn { offset }) = torn {
                return self.cut(entry, offset, &order[index + 1..]);
            }
        }
        Ok(())
    }

    /// What came of it.
    pub fn finish(mut self) -> Loaded {
        self.recovery.keys = self.keyspace.len() as u64;
        Loaded {
            recovery: self.recovery,
            run: self.run,
            position: self.position.unwrap_or(0),
            claimed: self.claimed,
            unclaimed_offset: match self.unclaimed.front() {
                Some((position, offset)) if *position <= self.claimed => *offset,
                _ => 0,
            },
            ends_sealed: self.ends_sealed,
        }
    }

    fn load(&mut self, entry: &Entry, is_base: bool) -> Result<Option<Torn>, Error> {
        let (folder, name) = origin::place_of(self.origin, self.directory, entry);
        let (file, len) = folder.open_to_read(name)?;
        let mut source = Source::new(file, folder.path_of(name));
        source.want(MAGIC.len())?;
        if is_base && (source.arrived().starts_with(MAGIC) || entry.name.ends_with(".rdb")) {
            source = self.load_base(source)?;
        }
        let torn = self.replay(RecordReader::new(source))?;
        self.recovery.bytes += len;
        self.tell(0);
        Ok(torn)
    }

    fn load_base(&mut self, source: Source<ReadFile>) -> Result<Source<ReadFile>, Error> {
        let path = source.path().to_owned();
        let base = ahead::read(source, |read| {
            match read.part {
                Part::Library(code) => self.add_library(code),
                Part::Entry { key, value, expires_at_ms } => {
                    let inserted = self.keyspace.insert_loaded(&key, value, expires_at_ms);
                    inserted.map_err(|_duplicate| Error::Damaged {
                        path: path.clone(),
                        offset: read.start,
                        expected: "each key once",
                    })?;
                }
            }
            self.tell(read.end);
            Ok(())
        })?;
        if let Some(place) = base.place() {
            (self.run, self.position) = (Some(place.run), Some(place.position));
            self.base_awaits_incr = true;
        }
        Ok(base.into_source())
    }

    fn replay(&mut self, mut reader: RecordReader<ReadFile>) -> Result<Option<Torn>, Error> {
        self.unclaimed.clear();
        let mut pending = Pending::default();
        let mut database = 0;
        // End of what may be believed, in a file of ours.
        let mut sealed_end = 0;
        loop {
            let next = reader.next()?;
            self.check_run(&reader, next)?;
            self.ends_sealed = reader.is_sealed() || reader.end() == 0;
            let unsealed = pending.group.unwrap_or(reader.start());
            let good_end = if reader.is_sealed() { sealed_end } else { unsealed };
            match next {
                Next::Record => {}
                Next::End if pending.is_empty() => {
                    self.base_awaits_incr &= !reader.is_sealed();
                    return Ok(None);
                }
                // A group that was not finished is torn, however cleanly.
                Next::End | Next::Torn => return Ok(Some(Torn { offset: good_end })),
                Next::Sealed { start, seal } => {
                    if self.position.is_some_and(|position| position != start) {
                        return self.mismatch(reader, sealed_end, start, seal);
                    }
                    self.apply_pending(&mut pending, &mut database, reader.path())?;
                    (self.position, self.base_awaits_incr) = (Some(seal.position), false);
                    sealed_end = reader.end();
                    self.note_claim(seal, sealed_end);
                    continue;
                }
                Next::Damaged { offset, expected } => {
                    return self.damage(reader, good_end, offset, expected);
                }
            }
            self.tell(reader.end());
            if reader.is_sealed() && reader.start() == RUN_LINE_LEN as u64 {
                sealed_end = reader.end(); // The head: it selects database 0.
                continue;
            }
            read_into(&mut pending, &reader)?;
            if pending.group.is_none() && !reader.is_sealed() {
                self.apply_pending(&mut pending, &mut database, reader.path())?;
            }
        }
    }

    fn note_claim(&mut self, seal: Seal, end: u64) {
        self.claimed = seal.synced;
        self.unclaimed.push_back((seal.position, end));
        while self.unclaimed.get(1).is_some_and(|(position, _)| *position <= self.claimed) {
            self.unclaimed.pop_front();
        }
    }

    /// A file belongs to the run of those before it.
    fn check_run(&mut self, reader: &RecordReader<ReadFile>, next: Next) -> Result<(), Error> {
        let unfit = |expected: String| Error::Unfit { path: reader.path().to_owned(), expected };
        match (reader.run(), self.run) {
            (Some(found), Some(run)) if found != run => {
                Err(unfit(format!("run {}, found run {}", run.name(), found.name())))
            }
            (Some(found), _) => {
                self.run = Some(found);
                Ok(())
            }
            (None, Some(run)) if self.base_awaits_incr && next == Next::Record => {
                Err(unfit(format!("run {}, which its base file names", run.name())))
            }
            _ => Ok(()),
        }
    }

    /// A seal that fits its records, which do not begin where the log is.
    fn mismatch(
        &self,
        reader: RecordReader<ReadFile>,
        sealed_end: u64,
        start: u64,
        seal: Seal,
    ) -> Result<Option<Torn>, Error> {
        let position = self.position.unwrap_or(0);
        if self.mend == Mend::Damaged {
            return Ok(Some(Torn { offset: sealed_end }));
        }
        if self.base_awaits_incr || start < position {
            let expected = format!("records from position {position} on, found those from {start}");
            return Err(Error::Unfit { path: reader.path().to_owned(), expected });
        }
        let expected = "the records that follow on those before them";
        if seal.synced > position {
            let path = reader.path().to_owned();
            return Err(Error::Damaged { path, offset: sealed_end, expected });
        }
        self.damage(reader, sealed_end, sealed_end, expected)
    }

    /// Whether bytes that do not fit were torn or are damaged: see the header
    /// of [`recovery`](super).
    fn damage(
        &self,
        reader: RecordReader<ReadFile>,
        good_end: u64,
        offset: u64,
        expected: &'static str,
    ) -> Result<Option<Torn>, Error> {
        if self.mend == Mend::Damaged {
            return Ok(Some(Torn { offset: good_end }));
        }
        let path = reader.path().to_owned();
        let position = self.position.unwrap_or(0);
        let is_sealed = reader.is_sealed();
        if !is_sealed || reader.later_seals(|seal| seal.synced > position)? {
            return Err(Error::Damaged { path, offset, expected });
        }
        Ok(Some(Torn { offset: good_end }))
    }

    fn apply_pending(
        &mut self,
        pending: &mut Pending,
        database: &mut u64,
        path: &Path,
    ) -> Result<(), Error> {
        let mut args: Vec<&[u8]> = Vec::new();
        let mut first = 0;
        for &(offset, end) in &pending.records {
            args.clear();
            args.extend(pending.args[first..end].iter().map(|it| &pending.bytes[it.clone()]));
            self.apply(&args, database, At { path, offset })?;
            first = end;
        }
        pending.clear();
        Ok(())
    }

    /// Applies one command of the log.
    fn apply(&mut self, args: &[&[u8]], database: &mut u64, at: At<'_>) -> Result<(), Error> {
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
            denied: None,
            effects: &mut self.effects,
            reply: &mut self.reply,
        };
        match self.keyspace.execute(command, &args, &mut run) {
            Ok(()) => {}
            Err(error @ (CommandError::Arity(_) | CommandError::Elsewhere(_))) => {
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
    fn apply_function(&mut self, args: &[&[u8]], at: At<'_>) -> Result<(), Error> {
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
            (b"RESTORE", [payload, policy @ ..]) if policy.len() <= 1 => {
                let codes = payload::restore_libraries(payload)
                    .map_err(|_refused| at.bad("FUNCTION RESTORE of no payload".to_owned()))?;
                if policy.first().is_some_and(|policy| policy.eq_ignore_ascii_case(b"FLUSH")) {
                    self.library_names.clear();
                    self.recovery.libraries.clear();
                }
                codes.into_iter().for_each(|code| self.add_library(code));
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

    /// Cuts the log off at `offset` of `entry`: this file, and those after it,
    /// of which nothing was ever known to be on disk.
    fn cut(&mut self, entry: &Entry, offset: u64, later: &[&Entry]) -> Result<(), Error> {
        let (folder, name) = origin::place_of(self.origin, self.directory, entry);
        let path = folder.path_of(name);
        let mut cuts = vec![(entry, offset)];
        let mut may_cut = self.mend != Mend::Refuse;
        for entry in later {
            let rest = self.rest(entry)?;
            may_cut &= !rest.counts || self.mend == Mend::Damaged;
            self.ends_sealed = rest.is_ours;
            cuts.push((*entry, rest.head_end));
        }
        if !may_cut {
            return Err(Error::Truncated { path, offset });
        }
        let mut bytes = 0;
        // The last one first: whatever a crash leaves is seen as torn again.
        for (entry, offset) in cuts.into_iter().rev() {
            let (folder, name) = origin::place_of(self.origin, self.directory, entry);
            let (_, len) = folder.open_to_read(name)?;
            if len <= offset {
                continue;
            }
            bytes += len - offset;
            match self.mend {
                Mend::Look => continue,
                Mend::Damaged => folder.keep(name)?,
                Mend::Refuse | Mend::Torn => {}
            }
            folder.cut(name, offset)?;
        }
        if self.mend != Mend::Look {
            tracing::warn!(file = %path.display(), offset, bytes, "cut a torn tail off the log");
        }
        self.recovery.cut_tail = Some(CutTail { path, offset, bytes });
        Ok(())
    }

    /// What stands in a file behind a torn tail.
    fn rest(&self, entry: &Entry) -> Result<Rest, Error> {
        let (file, len) = self.directory.open_to_read(&entry.name)?;
        let source = Source::new(file, self.directory.path_of(&entry.name));
        let mut reader = RecordReader::new(source);
        let mut rest = Rest { head_end: 0, is_ours: len == 0, counts: false };
        loop {
            let next = reader.next()?;
            rest.is_ours |= reader.is_sealed();
            match next {
                Next::Record if !reader.is_sealed() => rest.counts |= !is_select(&reader),
                Next::Record => {
                    if reader.start() == RUN_LINE_LEN as u64 {
                        rest.head_end = reader.end();
                    }
                }
                Next::Sealed { seal, .. } => {
                    rest.counts |= seal.synced > self.position.unwrap_or(0);
                }
                Next::End => break,
                Next::Torn | Next::Damaged { .. } => {
                    rest.counts |= !reader.is_sealed();
                    break;
                }
            }
        }
        if !rest.is_ours && !rest.counts {
            rest.head_end = len; // A file of Redis that holds nothing stays.
        }
        Ok(rest)
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
}

/// What stands in a file behind a torn tail.
struct Rest {
    /// Where it is cut.
    head_end: u64,
    /// Whether we wrote it, so that we may go on there.
    is_ours: bool,
    /// Whether something in it is to be believed: then what was torn before it is
    /// missed, and cannot be cut off without a word.
    counts: bool,
}

fn is_select(reader: &RecordReader<ReadFile>) -> bool {
    reader.args().next().is_some_and(|name| name.eq_ignore_ascii_case(b"SELECT"))
}

/// Takes the record that was found last; groups are unwrapped.
fn read_into(pending: &mut Pending, reader: &RecordReader<ReadFile>) -> Result<(), Error> {
    let at = At { path: reader.path(), offset: reader.start() };
    let mut args = reader.args();
    let name = if args.len() == 1 { args.next().unwrap_or_default() } else { &[] };
    if name.eq_ignore_ascii_case(b"MULTI") {
        if pending.group.replace(at.offset).is_some() {
            return Err(at.bad("MULTI inside a MULTI".to_owned()));
        }
    } else if name.eq_ignore_ascii_case(b"EXEC") {
        if pending.group.take().is_none() {
            return Err(at.bad("EXEC without a MULTI".to_owned()));
        }
    } else {
        pending.push(at.offset, reader.args());
    }
    Ok(())
}

/// The name in the first line of a library, `#!lua name=NAME`; empty if it has
/// none.
fn library_name(code: &str) -> &str {
    let shebang = code.lines().next().unwrap_or_default();
    shebang.split_whitespace().find_map(|word| word.strip_prefix("name=")).unwrap_or_default()
}
