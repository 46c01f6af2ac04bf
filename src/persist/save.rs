//! `dump.rdb`: a snapshot beside the log, for whoever wants a file to carry away.
//!
//! It is written by the machinery of a rewrite, in the data directory, under a
//! temporary name until it is durable. The log does not depend on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::config::SavePoint;
use super::disk::TEMP_PREFIX;
use super::error::{Abandonment, Error};
use super::metrics::Outcome;
use super::snapshot::{Feed, Image};
use super::writer::{Shared, lock};
use crate::base::clock::{Stopwatch, Timestamp};
use crate::keyspace::Keyspace;

/// The file, as Redis names it.
pub const FILE_NAME: &str = "dump.rdb";
/// Time before a failed save is tried again by itself.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is remembered of saves.
#[derive(Debug)]
pub struct Saves {
    /// Since when one is being written, if one is.
    running: Option<Stopwatch>,
    begun_count: u64,
    requested: bool,
    since_last: Stopwatch,
    since_failure: Option<Stopwatch>,
    /// When the last one succeeded, and what had changed by then.
    last: Timestamp,
    change_count: u64,
    last_duration: Option<Duration>,
    /// How many have ended, and how the last of them did.
    ended: watch::Sender<(u64, bool)>,
}

impl Saves {
    /// None yet: the log was opened `now`, which counts as one.
    pub fn new(now: Timestamp) -> Saves {
        Saves {
            running: None,
            begun_count: 0,
            requested: false,
            since_last: Stopwatch::start(),
            since_failure: None,
            last: now,
            change_count: 0,
            last_duration: None,
            ended: watch::Sender::new((0, true)),
        }
    }

    /// Asks for one. False if one is running.
    pub fn request(&mut self) -> bool {
        let begins = self.running.is_none();
        self.requested |= begins;
        begins
    }

    /// Whether one is running, or about to.
    pub fn running(&self) -> bool {
        self.running.is_some() || self.requested
    }

    /// How long the one has taken that is being written.
    pub fn current_duration(&self) -> Option<Duration> {
        self.running.as_ref().map(Stopwatch::elapsed)
    }

    /// How many have begun.
    pub fn begun_count(&self) -> u64 {
        self.begun_count
    }

    /// When the last one succeeded.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Whether the last one succeeded; those that were given up do not count.
    pub fn last_succeeded(&self) -> bool {
        self.since_failure.is_none()
    }

    /// How long the last one took.
    pub fn last_duration(&self) -> Option<Duration> {
        self.last_duration
    }

    /// Of so many changes, those since the last one.
    pub fn changes_since(&self, change_count: u64) -> u64 {
        change_count.saturating_sub(self.change_count)
    }

    /// As [`Saves::request`], and for whoever waits for the next one to end.
    pub fn request_watched(&mut self) -> (bool, watch::Receiver<(u64, bool)>) {
        (self.request(), self.ended.subscribe())
    }

    /// Whether somebody waits for one to end, be it one that has not begun.
    pub fn is_awaited(&self) -> bool {
        self.ended.receiver_count() > 0
    }

    fn wanted(&self, points: &[SavePoint], change_count: u64) -> bool {
        let (since, changes) = (self.since_last.elapsed(), self.changes_since(change_count));
        let rested = self.since_failure.is_none_or(|failure| failure.elapsed() >= RETRY_AFTER);
        let due = |point: &SavePoint| since >= point.after && changes >= point.changes.max(1);
        self.running.is_none() && (self.requested || rested && points.iter().any(due))
    }
}

/// Whether a snapshot should be written now. See [`Log::wants_save`](super::Log::wants_save).
pub fn is_wanted(shared: &Shared) -> bool {
    let change_count = shared.change_count();
    lock(&shared.saves).wanted(&shared.settings().save, change_count)
}

/// A save that has begun: the disk's end of it.
#[derive(Debug)]
pub struct SaveWriter {
    shared: Arc<Shared>,
    image: Image,
    change_count: u64,
    since: Stopwatch,
    outcome: Outcome,
}

/// The cut of a save. The engine's lock is held. See [`Log::begin_save`](super::Log::begin_save).
pub fn begin(
    shared: &Arc<Shared>,
    keyspace: &mut Keyspace,
    libraries: Vec<Arc<str>>,
) -> Result<(Feed, SaveWriter), Error> {
    let (feed, image) = Image::begin(keyspace, libraries, shared.appended())?;
    let mut saves = lock(&shared.saves);
    (saves.running, saves.requested) = (Some(Stopwatch::start()), false);
    saves.begun_count += 1;
    drop(saves);
    let writer = SaveWriter {
        shared: shared.clone(),
        image,
        change_count: shared.change_count(),
        since: Stopwatch::start(),
        // Until it is known to be there.
        outcome: Outcome::Failed,
    };
    Ok((feed, writer))
}

impl SaveWriter {
    /// Writes the file as entries arrive, and gives it its name. Blocks until
    /// then. Its length.
    ///
    /// # Errors
    /// The disk refused, or the save was given up. The file of before is there.
    pub fn run(mut self) -> Result<u64, Error> {
        let folder = self.shared.directory.parent();
        let temp = format!("{TEMP_PREFIX}{FILE_NAME}");
        let written = folder.create(&temp).and_then(|file| {
            let outgoing = folder.outgoing([FILE_NAME].into_iter());
            let len = self.image.write(file, outgoing, self.shared.now(), None)?;
            folder.rename(&temp, FILE_NAME)?;
            Ok(len)
        });
        self.outcome = match &written {
            Ok(_) => Outcome::Committed,
            // Of the disk that says nothing.
            Err(Error::SnapshotAbandoned { reason: Abandonment::Aborted }) => Outcome::Abandoned,
            Err(_) => Outcome::Failed,
        };
        if written.is_err() {
            // It counts for nothing; the next save replaces it.
            let _ = folder.remove(&temp);
        }
        written
    }
}

impl Drop for SaveWriter {
    fn drop(&mut self) {
        let mut saves = lock(&self.shared.saves);
        saves.running = None;
        match self.outcome {
            Outcome::Committed => {
                saves.last = self.shared.now();
                saves.change_count = self.change_count;
                saves.since_last = Stopwatch::start();
                saves.since_failure = None;
                saves.last_duration = Some(self.since.elapsed());
            }
            Outcome::Abandoned => {}
            Outcome::Failed => saves.since_failure = Some(Stopwatch::start()),
        }
        let succeeded = self.outcome == Outcome::Committed;
        self.shared.metrics.saved(self.outcome, self.since.elapsed());
        saves.ended.send_modify(|(count, ok)| (*count, *ok) = (*count + 1, succeeded));
    }
}
