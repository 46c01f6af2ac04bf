//! A rewrite: a new base file from the present keyspace, while requests run.
//!
//! ```text
//!  prepare   a new incr file, and a manifest that names it, durable
//!  cut       under the engine's lock, in constant time: the keyspace starts a
//!            snapshot, and records from here on go to the new incr file
//!  feed      the keyspace is walked in slices; what is about to change is taken
//!            first; entries go to the writer as encoded chunks
//!  seal      end, checksum, sync, rename: the new base file is there
//!  commit    a manifest of the new base and the new incr file: from now on it
//!            counts, and what it replaces is deleted
//! ```
//!
//! # Invariants
//!
//! 1. Whatever fails, and wherever a crash falls, the manifest on disk names
//!    files that together hold everything: old base and all incr files before
//!    the commit, new base and new incr file after it.
//! 2. Records before the cut are in the old files, records after it in the new
//!    one. So the new base file is exact as of the cut.
//! 3. No request waits for the rewrite. When the disk falls behind, the walk
//!    pauses; when what requests change meanwhile exceeds
//!    [`BACKLOG_LEN_MAX`], the rewrite is given up.
//!
//! # Healing
//!
//! A poisoned log has dropped records, so its incr files do not add up to the
//! present. Its rewrite makes the new incr file without naming it in a manifest:
//! until the commit, a restart finds what was known to be good. The commit makes
//! the log whole, and it acknowledges again.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::base::encode;
use super::base::file::BaseFile;
use super::disk::{AppendFile, TEMP_PREFIX};
use super::error::Error;
use super::manifest::{self, Entry};
use super::metrics::RewriteOutcome;
use super::recovery;
use super::seal::Place;
use super::writer::{Cut, Shared, lock};
use crate::base::clock::Stopwatch;
use crate::keyspace::rdb::encode::scored;
use crate::keyspace::{FrozenSortedSet, Keyspace, SnapshotSink, Value};

/// Bytes of entries that are handed over at once.
const CHUNK_LEN: usize = 64 << 10;
/// The walk pauses while this much waits for the disk.
const BACKLOG_LEN_PAUSE: usize = 8 << 20;
/// The rewrite is given up when this much waits.
const BACKLOG_LEN_MAX: usize = 64 << 20;
/// Sorted sets above this many members are encoded by the writer, not under
/// the engine's lock.
const INLINE_MEMBERS_MAX: usize = 1_000;
/// Time between attempts, as long as few have failed or the log is poisoned.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Failures in a row after which attempts become rare.
const FREE_FAILURES: u32 = 3;
/// Longest time between attempts.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// What is remembered of rewrites, to decide about the next.
#[derive(Debug, Default)]
pub struct Attempts {
    running: bool,
    failure_count: u32,
    since_failure: Option<Stopwatch>,
}

impl Attempts {
    /// Whether one is between its preparation and its end.
    pub fn running(&self) -> bool {
        self.running
    }

    /// Whether enough time has passed since the last failure: 2 s at first; 1, 2,
    /// 4 … 60 minutes after three in a row, unless there is a log to heal.
    fn due(&self, poisoned: bool) -> bool {
        let pause = pause_after(self.failure_count, poisoned);
        let waited = self.since_failure.is_none_or(|failure| failure.elapsed() >= pause);
        !self.running && waited
    }
}

/// How long to wait after so many failures in a row.
fn pause_after(failure_count: u32, poisoned: bool) -> Duration {
    match failure_count.checked_sub(FREE_FAILURES) {
        Some(more) if !poisoned => {
            let doubled = Duration::from_secs(60).saturating_mul(1 << more.min(6));
            doubled.min(RETRY_AFTER_MAX)
        }
        _ => RETRY_AFTER,
    }
}

/// Whether the log should be rewritten now. See
/// [`Log::wants_rewrite`](super::Log::wants_rewrite).
pub fn is_wanted(shared: &Shared) -> bool {
    let poisoned = shared.failure().is_some();
    if !lock(&shared.attempts).due(poisoned) {
        return false;
    }
    let files = lock(&shared.files);
    let (size, size_before) = (files.len(), files.size_after_rewrite.max(1));
    drop(files);
    let config = &shared.config;
    let percentage = u64::from(config.auto_aof_rewrite_percentage);
    let grown = size > config.auto_aof_rewrite_min_size
        && (size.saturating_mul(100) / size_before).saturating_sub(100) >= percentage;
    poisoned || (percentage != 0 && grown)
}

/// The right to rewrite: one at a time. Its end is the end of the rewrite, and
/// if that failed, of the files it made.
#[derive(Debug)]
struct Permit {
    shared: Arc<Shared>,
    base: Entry,
    incr: Entry,
    since: Stopwatch,
    outcome: RewriteOutcome,
}

impl Permit {
    fn take(shared: &Arc<Shared>) -> Result<Permit, Error> {
        if mem::replace(&mut lock(&shared.attempts).running, true) {
            return Err(Error::RewriteRunning);
        }
        let mut files = lock(&shared.files);
        files.last_base_seq += 1;
        files.last_incr_seq += 1;
        Ok(Permit {
            shared: shared.clone(),
            base: Entry::base(files.last_base_seq),
            incr: Entry::incr(files.last_incr_seq),
            since: Stopwatch::start(),
            outcome: RewriteOutcome::Failed,
        })
    }

    /// Deletes what the manifest on disk does not name. That one is asked, not
    /// the one in memory: its replacement may have failed after the rename.
    fn remove_unnamed(&self) {
        let Ok(Some(named)) = recovery::manifest_on_disk(&self.shared.directory) else { return };
        for made in [&self.base, &self.incr] {
            if !named.entries().any(|entry| entry == made) {
                // What is left costs room, and is pointed out at the next start.
                let _ = self.shared.directory.remove(&made.name);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.outcome != RewriteOutcome::Committed {
            self.remove_unnamed();
        }
        let mut attempts = lock(&self.shared.attempts);
        attempts.running = false;
        if self.outcome == RewriteOutcome::Committed {
            (attempts.failure_count, attempts.since_failure) = (0, None);
        } else {
            attempts.failure_count = attempts.failure_count.saturating_add(1);
            attempts.since_failure = Some(Stopwatch::start());
        }
        drop(attempts);
        self.shared.metrics.rewrote(self.outcome, self.since.elapsed());
    }
}

/// A prepared rewrite, waiting for its cut. Dropping it costs an empty incr
/// file in the manifest, which the next rewrite removes.
#[derive(Debug)]
pub struct PendingRewrite {
    permit: Permit,
    file: Arc<AppendFile>,
    heals: bool,
}

/// Makes the new incr file and the manifest that names it. Blocks for the disk.
pub fn prepare(shared: &Arc<Shared>) -> Result<PendingRewrite, Error> {
    let permit = Permit::take(shared)?;
    let heals = shared.failure().is_some();
    let file = Arc::new(shared.directory.create_incr(&permit.incr.name, &shared.run.head())?);
    if !heals {
        let next = lock(&shared.files).manifest.with_incr(permit.incr.clone());
        shared.directory.replace(manifest::FILE_NAME, next.encode().as_bytes())?;
        let mut files = lock(&shared.files);
        files.manifest = next;
        files.incrs.push(file.clone());
    }
    Ok(PendingRewrite { permit, file, heals })
}

impl PendingRewrite {
    /// The cut: from here on records go to the new incr file, and the keyspace
    /// hands its entries, as they are now, to the writer. Takes constant time.
    ///
    /// The engine's lock is held, and nothing is half done: between two calls,
    /// never inside one. `libraries` are those loaded now, in loading order.
    ///
    /// # Errors
    /// The log failed since the preparation, is closed, or the keyspace has a
    /// snapshot already. Nothing has changed then.
    pub fn cut(
        self,
        keyspace: &mut Keyspace,
        libraries: Vec<Arc<str>>,
    ) -> Result<(Feed, RewriteWriter), Error> {
        let backlog = Arc::new(Backlog::default());
        let sink = Sink { backlog: backlog.clone(), chunk: Vec::new(), complete: false };
        let key_count = keyspace.len() as u64;
        if keyspace.cut(Box::new(sink)).is_err() {
            return Err(Error::RewriteRunning);
        }
        let PendingRewrite { permit, file, heals } = self;
        let cut = match permit.shared.switch(file.clone(), heals) {
            Ok(cut) => cut,
            Err(error) => {
                keyspace.abort_snapshot();
                return Err(error);
            }
        };
        let feed = Feed(backlog.clone());
        let writer = RewriteWriter { permit, backlog, libraries, key_count, file, heals, cut };
        Ok((feed, writer))
    }
}

/// What the walk should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Go on.
    Walk,
    /// Let the disk catch up first.
    Pause,
    /// Abort the snapshot: the rewrite was given up or has failed.
    Abort,
}

/// The keyspace's end of a rewrite: for whoever walks it.
#[derive(Debug)]
pub struct Feed(Arc<Backlog>);

impl Feed {
    /// What the walk should do next. Two atomic reads.
    pub fn pace(&self) -> Pace {
        match self.0.len.load(Ordering::Relaxed) {
            CLOSED => Pace::Abort,
            len if len > BACKLOG_LEN_PAUSE => Pace::Pause,
            _ => Pace::Walk,
        }
    }

    /// The walk is done: `sink` is what [`Walk::Done`](crate::keyspace::Walk)
    /// handed back. A sink that is dropped instead gives the rewrite up.
    pub fn finish(self, sink: Box<dyn SnapshotSink>) {
        if let Ok(mut sink) = sink.into_any().downcast::<Sink>() {
            sink.complete = true;
        }
    }
}

/// Encoded entries and big values on their way to the writer.
#[derive(Debug, Default)]
struct Backlog {
    pieces: Mutex<Pieces>,
    arrived: Condvar,
    /// Bytes that wait, or [`CLOSED`].
    len: AtomicUsize,
}

/// Length of a backlog that takes no more.
const CLOSED: usize = usize::MAX;

#[derive(Debug, Default)]
struct Pieces {
    waiting: VecDeque<Piece>,
    end: Option<End>,
}

#[derive(Debug)]
enum Piece {
    /// Entries, encoded.
    Chunk(Vec<u8>),
    /// A big sorted set as it was.
    SortedSet { key: Box<[u8]>, set: FrozenSortedSet, expires_at_ms: Option<u64> },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Complete,
    Abandoned(&'static str),
}

impl Piece {
    /// Memory it holds. A frozen set shares its members with the live one; what
    /// it costs is what changes meanwhile, which nobody knows beforehand.
    fn len(&self) -> usize {
        match self {
            Piece::Chunk(bytes) => bytes.len(),
            Piece::SortedSet { key, .. } => key.len() + size_of::<Piece>(),
        }
    }
}

impl Backlog {
    fn push(&self, piece: Piece) {
        let mut pieces = lock(&self.pieces);
        if pieces.end.is_some() {
            return;
        }
        let len = self.len.load(Ordering::Relaxed) + piece.len();
        if len > BACKLOG_LEN_MAX {
            drop(pieces);
            return self.end(End::Abandoned("the disk fell too far behind"));
        }
        self.len.store(len, Ordering::Relaxed);
        pieces.waiting.push_back(piece);
        self.arrived.notify_one();
    }

    /// Nothing comes any more. The first end is the one that counts.
    fn end(&self, end: End) {
        let mut pieces = lock(&self.pieces);
        pieces.end.get_or_insert(end);
        if let Some(End::Abandoned(_)) = pieces.end {
            self.len.store(CLOSED, Ordering::Relaxed);
            pieces.waiting.clear();
        }
        self.arrived.notify_one();
    }

    /// Waits for the next piece; `None` after the last.
    fn next(&self) -> Result<Option<Piece>, Error> {
        let mut pieces = lock(&self.pieces);
        loop {
            if let Some(End::Abandoned(reason)) = pieces.end {
                return Err(Error::RewriteAbandoned { reason });
            }
            if let Some(piece) = pieces.waiting.pop_front() {
                self.len.fetch_sub(piece.len(), Ordering::Relaxed);
                return Ok(Some(piece));
            }
            if pieces.end.is_some() {
                return Ok(None);
            }
            pieces = self.arrived.wait(pieces).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where the keyspace puts its entries.
struct Sink {
    backlog: Arc<Backlog>,
    chunk: Vec<u8>,
    complete: bool,
}

impl Sink {
    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            let room = Vec::with_capacity(CHUNK_LEN + CHUNK_LEN / 8);
            self.backlog.push(Piece::Chunk(mem::replace(&mut self.chunk, room)));
        }
    }
}

impl SnapshotSink for Sink {
    fn entry(&mut self, key: &[u8], value: &Value, expires_at_ms: Option<u64>) {
        if self.backlog.len.load(Ordering::Relaxed) == CLOSED {
            return;
        }
        match value {
            Value::SortedSet(set) if set.len() > INLINE_MEMBERS_MAX => {
                let (key, set) = (key.into(), set.freeze());
                self.backlog.push(Piece::SortedSet { key, set, expires_at_ms });
            }
            _ => encode::entry(&mut self.chunk, key, value, expires_at_ms),
        }
        if self.chunk.len() >= CHUNK_LEN {
            self.flush();
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.complete {
            self.flush();
            self.backlog.end(End::Complete);
        } else {
            self.backlog.end(End::Abandoned("its snapshot was aborted"));
        }
    }
}

/// The disk's end of a rewrite: a thread's job.
#[derive(Debug)]
pub struct RewriteWriter {
    permit: Permit,
    backlog: Arc<Backlog>,
    libraries: Vec<Arc<str>>,
    key_count: u64,
    file: Arc<AppendFile>,
    heals: bool,
    cut: Cut,
}

/// A rewrite that was committed.
#[derive(Clone, Copy, Debug)]
pub struct Rewritten {
    /// Length of the new base file.
    pub base_size: u64,
    /// Time since the preparation.
    pub duration: Duration,
}

impl RewriteWriter {
    /// Writes the base file as entries arrive, and commits it. Blocks until
    /// then.
    ///
    /// # Errors
    /// The disk refused, or the rewrite was given up. The log is as it was.
    pub fn run(mut self) -> Result<Rewritten, Error> {
        let written = self.write_base().and_then(|base_size| {
            self.commit(base_size)?;
            Ok(base_size)
        });
        self.permit.outcome = match &written {
            Ok(_) => RewriteOutcome::Committed,
            Err(Error::RewriteAbandoned { .. }) => RewriteOutcome::Abandoned,
            Err(_) => RewriteOutcome::Failed,
        };
        let base_size = written?;
        Ok(Rewritten { base_size, duration: self.permit.since.elapsed() })
    }

    /// Writes, seals and names the base file. Its length.
    fn write_base(&self) -> Result<u64, Error> {
        let shared = &self.permit.shared;
        let temp = format!("{TEMP_PREFIX}{}", self.permit.base.name);
        let file = shared.directory.create(&temp)?;
        let written = self.write_parts(BaseFile::new(file));
        let named = written.and_then(|len| {
            shared.directory.rename(&temp, &self.permit.base.name)?;
            Ok(len)
        });
        if named.is_err() {
            // It counts for nothing; the next start would delete it.
            let _ = shared.directory.remove(&temp);
        }
        named
    }

    fn write_parts(&self, mut base: BaseFile) -> Result<u64, Error> {
        let shared = &self.permit.shared;
        let place = Place { run: shared.run, position: self.cut.position };
        encode::head(&mut base.buffer, shared.now(), Some(place));
        for code in &self.libraries {
            encode::library(&mut base.buffer, code);
        }
        encode::database(&mut base.buffer, self.key_count);
        while let Some(piece) = self.backlog.next()? {
            match piece {
                Piece::Chunk(entries) => {
                    base.append(&entries)?;
                }
                Piece::SortedSet { key, set, expires_at_ms } => {
                    encode::sorted_set_head(&mut base.buffer, &key, set.len(), expires_at_ms);
                    for (member, score) in set.iter().rev() {
                        scored(&mut base.buffer, member, score);
                        base.flush_if_full()?;
                    }
                }
            }
            base.flush_if_full()?;
        }
        base.seal()
    }

    /// The new manifest: from here on the new files count. Then the old ones go.
    fn commit(&self, base_len: u64) -> Result<(), Error> {
        let shared = &self.permit.shared;
        let before = lock(&shared.files).manifest.clone();
        let after = before.rewritten(self.permit.base.clone(), self.permit.incr.clone());
        shared.directory.replace(manifest::FILE_NAME, after.encode().as_bytes())?;
        let mut files = lock(&shared.files);
        files.manifest = after;
        files.base_len = base_len;
        files.earlier_incrs_len = 0;
        files.incrs = vec![self.file.clone()];
        files.size_after_rewrite = files.len();
        drop(files);
        shared.rewritten(self.cut);
        remove_history(shared);
        Ok(())
    }
}

impl Drop for RewriteWriter {
    fn drop(&mut self) {
        // Whoever still feeds is told to stop.
        self.backlog.end(End::Abandoned("its writer has ended"));
        if self.heals && self.permit.outcome != RewriteOutcome::Committed {
            self.permit.shared.heal_failed();
        }
    }
}

/// Deletes what the manifest calls history, then says so in the manifest. What
/// fails here costs room on the disk until the next start, and nothing else.
pub fn remove_history(shared: &Shared) {
    let manifest = lock(&shared.files).manifest.clone();
    if manifest.history.is_empty() {
        return;
    }
    let after = manifest.without_history();
    let removed = manifest
        .history
        .iter()
        .try_for_each(|entry| shared.directory.remove(&entry.name))
        .and_then(|()| shared.directory.replace(manifest::FILE_NAME, after.encode().as_bytes()));
    match removed {
        Ok(()) => lock(&shared.files).manifest = after,
        Err(error) => {
            tracing::warn!(error = %error.chain(), "cannot remove history files of the log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rare_unless_there_is_a_log_to_heal() {
        let minutes = |failure_count| pause_after(failure_count, false).as_secs() / 60;
        let pauses: Vec<u64> = (1..12).map(minutes).collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_after(u32::MAX, true), RETRY_AFTER);
    }
}
