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
//!    pauses; when what requests change meanwhile is too much, the rewrite is
//!    given up.
//!
//! # Healing
//!
//! A poisoned log has dropped records, so its incr files do not add up to the
//! present. Its rewrite makes the new incr file without naming it in a manifest:
//! until the commit, a restart finds what was known to be good. The commit makes
//! the log whole, and it acknowledges again.

use std::sync::Arc;
use std::time::Duration;

use super::disk::{AppendFile, FORGET_STEP, TEMP_PREFIX};
use super::error::Error;
use super::manifest::{self, Entry};
use super::metrics::Outcome;
use super::recovery;
use super::seal::Place;
use super::snapshot::{Feed, Image};
use super::writer::{Cut, Shared, lock};
use crate::base::clock::Stopwatch;
use crate::keyspace::Keyspace;

/// Time between attempts, as long as few have failed or the log is poisoned.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Failures in a row after which attempts become rare.
const FREE_FAILURES: u32 = 3;
/// Longest time between attempts.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// What is remembered of rewrites, to decide about the next.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Since when one is between its preparation and its end, if one is.
    running: Option<Stopwatch>,
    begun_count: u64,
    requested: bool,
    failure_count: u32,
    since_failure: Option<Stopwatch>,
    /// How long the last one took that was committed.
    last_duration: Option<Duration>,
}

impl Attempts {
    /// Whether one is between its preparation and its end.
    pub fn running(&self) -> bool {
        self.running.is_some()
    }

    /// How long the one has taken that is running.
    pub fn current_duration(&self) -> Option<Duration> {
        self.running.as_ref().map(Stopwatch::elapsed)
    }

    /// How many have begun.
    pub fn begun_count(&self) -> u64 {
        self.begun_count
    }

    /// How many have failed since the last one that was committed.
    pub fn failure_count(&self) -> u32 {
        self.failure_count
    }

    /// Whether somebody has asked for one that has not begun.
    pub fn requested(&self) -> bool {
        self.requested
    }

    /// Whether the last one that ended did not fail.
    pub fn last_succeeded(&self) -> bool {
        self.failure_count == 0
    }

    /// How long the last one took that was committed.
    pub fn last_duration(&self) -> Option<Duration> {
        self.last_duration
    }

    /// Asks for one, back-off or not. True if none was running.
    pub fn request(&mut self) -> bool {
        self.requested = true;
        !self.running()
    }

    /// Whether enough time has passed since the last failure: 2 s at first; 1, 2,
    /// 4 … 60 minutes after three in a row, unless there is a log to heal.
    fn due(&self, poisoned: bool) -> bool {
        let pause = pause_after(self.failure_count, poisoned);
        let waited = self.since_failure.is_none_or(|failure| failure.elapsed() >= pause);
        !self.running() && (waited || self.requested)
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
    let attempts = lock(&shared.attempts);
    if !attempts.due(poisoned) || attempts.requested() {
        return attempts.due(poisoned);
    }
    drop(attempts);
    let files = lock(&shared.files);
    let (size, size_before) = (files.len(), files.size_after_rewrite.max(1));
    drop(files);
    let settings = shared.settings();
    let percentage = u64::from(settings.auto_aof_rewrite_percentage);
    let grown = size > settings.auto_aof_rewrite_min_size
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
    outcome: Outcome,
}

impl Permit {
    fn take(shared: &Arc<Shared>) -> Result<Permit, Error> {
        let mut attempts = lock(&shared.attempts);
        if attempts.running() {
            return Err(Error::RewriteRunning);
        }
        attempts.running = Some(Stopwatch::start());
        attempts.begun_count += 1;
        attempts.requested = false;
        drop(attempts);
        let mut files = lock(&shared.files);
        files.last_base_seq += 1;
        files.last_incr_seq += 1;
        Ok(Permit {
            shared: shared.clone(),
            base: Entry::base(files.last_base_seq),
            incr: Entry::incr(files.last_incr_seq),
            since: Stopwatch::start(),
            outcome: Outcome::Failed,
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
        if self.outcome != Outcome::Committed {
            self.remove_unnamed();
        }
        let mut attempts = lock(&self.shared.attempts);
        attempts.running = None;
        if self.outcome == Outcome::Committed {
            (attempts.failure_count, attempts.since_failure) = (0, None);
            attempts.last_duration = Some(self.since.elapsed());
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
        let PendingRewrite { permit, file, heals } = self;
        let appended = permit.shared.appended();
        let (feed, image) = Image::begin(keyspace, libraries, appended)?;
        let cut = match permit.shared.switch(file.clone(), heals) {
            Ok(cut) => cut,
            Err(error) => {
                keyspace.abort_snapshot();
                return Err(error);
            }
        };
        Ok((feed, RewriteWriter { permit, image, file, heals, cut }))
    }
}

/// The disk's end of a rewrite: a thread's job.
#[derive(Debug)]
pub struct RewriteWriter {
    permit: Permit,
    image: Image,
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
            Ok(_) => Outcome::Committed,
            Err(Error::SnapshotAbandoned { .. }) => Outcome::Abandoned,
            Err(_) => Outcome::Failed,
        };
        let base_size = written?;
        Ok(Rewritten { base_size, duration: self.permit.since.elapsed() })
    }

    /// Writes, seals and names the base file. Its length.
    fn write_base(&self) -> Result<u64, Error> {
        let shared = &self.permit.shared;
        let temp = format!("{TEMP_PREFIX}{}", self.permit.base.name);
        let file = shared.directory.create(&temp)?;
        let place = Place { run: shared.run, position: self.cut.position };
        let before = lock(&shared.files).manifest.base.clone();
        let outgoing = shared.directory.outgoing(before.iter().map(|it| it.name.as_str()));
        let written = self.image.write(file, outgoing, shared.now(), Some(place));
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
        self.let_go_of_history();
        remove_history(shared);
        Ok(())
    }

    /// Not before the commit: until then, what of the incr files has not been synced may be
    /// in memory only.
    fn let_go_of_history(&self) {
        let shared = &self.permit.shared;
        let history = lock(&shared.files).manifest.history.clone();
        let mut outgoing = shared.directory.outgoing(history.iter().map(|it| it.name.as_str()));
        let mut effort = self.image.effort();
        while outgoing.forget(FORGET_STEP) {
            effort.rest();
        }
    }
}

impl Drop for RewriteWriter {
    fn drop(&mut self) {
        if self.heals && self.permit.outcome != Outcome::Committed {
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
