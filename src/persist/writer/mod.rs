//! From the engine's memory to the disk: one buffer, two threads.
//!
//! ```text
//!   append ──copy──▶ queue ──take──▶ log-writer ──write(2)──▶ incr file
//!   (engine's lock)                       │ position, sealed files
//!                                         ▼
//!                                     log-sync ──fdatasync──▶ durable position
//! ```
//!
//! *Append* copies into a buffer under a short lock and never waits for a disk.
//! The *writer* takes the buffer whole and hands it to the operating system;
//! while records flow it looks again every few milliseconds instead of being woken for
//! each. The *sync* thread forces files to disk once a second, so a slow sync
//! delays no write. Under `always` the writer is woken, and syncs by itself:
//! one sync serves every record that came while the one before it ran.
//!
//! A position ([`Lsn`]) counts the bytes of all records taken since the run of the
//! log began, over all files. Each batch is [sealed](super::seal) as it is written.
//!
//! # Invariants
//!
//! 1. A batch is whole records, and a file ends where a record ends.
//! 2. Only the thread that saw a sync succeed moves the durable position.
//! 3. Nothing of an incr file is synced before the file before it is, to its
//!    end: what a power cut leaves is a prefix of history.
//! 4. After a failed write or sync nothing is acknowledged, until a rewrite has
//!    put everything into new files (see [`rewrite`](super::rewrite)).

mod threads;

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use self::threads::Pen;
use super::config::{Config, Fsync, OnLogError, Settings};
use super::disk::{AppendFile, Directory};
use super::error::Error;
use super::manifest::Manifest;
use super::metrics::Metrics;
use super::rewrite::Attempts;
use super::save::Saves;
use super::seal::{Place, Run};
use super::status::Status;
use crate::base::clock::{Stopwatch, Timestamp};
use crate::keyspace::Effects;

/// Bytes that may wait for the writer beside the longest record, which may have any
/// length. When the disk does not take them, the log is given up rather than the memory
/// of the process.
const UNWRITTEN_LEN_MAX: usize = 64 << 20;

/// A position in the log: bytes of records since its run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub(super) u64);

/// What the handle, the two threads and a rewrite share.
#[derive(Debug)]
pub struct Shared {
    /// How the log behaves, as far as that does not change.
    pub config: Config,
    /// How it behaves now.
    settings: ArcSwap<Settings>,
    /// What Prometheus counts.
    pub metrics: Metrics,
    /// The folder, locked for as long as anything here lives.
    pub directory: Directory,
    /// Changed by a rewrite alone.
    pub files: Mutex<Files>,
    /// The life of this log, which its files name.
    pub run: Run,
    /// What is remembered of rewrites.
    pub attempts: Mutex<Attempts>,
    /// What is remembered of saves.
    pub saves: Mutex<Saves>,
    queue: Mutex<Queue>,
    writer_wakes: Condvar,
    syncs: Mutex<Syncs>,
    sync_wakes: Condvar,
    /// Something was written, or will not be.
    wrote: Condvar,
    /// Held by whoever syncs.
    sync_order: Mutex<()>,
    ended: Condvar,
    durable: watch::Sender<Durable>,
    opened_at: Timestamp,
    opened: Stopwatch,
}

/// The files that make up the log now.
#[derive(Debug)]
pub struct Files {
    /// The manifest in force.
    pub manifest: Manifest,
    /// Length of the base file.
    pub base_len: u64,
    /// Length of the incr files before those of `incrs`.
    pub earlier_incrs_len: u64,
    /// Incr files written by this process, and the one it continued.
    pub incrs: Vec<Arc<AppendFile>>,
    /// What growth is measured against: the whole right after a rewrite, or the
    /// base file when the log was opened.
    pub size_after_rewrite: u64,
    /// Numbers given out last. A name is not used twice in one process: a
    /// manifest whose replacement failed half way may still name it.
    pub last_base_seq: u64,
    /// The same, for incr files.
    pub last_incr_seq: u64,
}

impl Files {
    /// Bytes of the whole log.
    pub fn len(&self) -> u64 {
        let incrs_len: u64 = self.incrs.iter().map(|file| file.len()).sum();
        self.base_len + self.earlier_incrs_len + incrs_len
    }
}

/// Records on their way to the writer.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Length of the longest record among them.
    longest: usize,
    switches: Vec<Switch>,
    /// Position behind the last byte taken.
    appended: u64,
    /// Why nothing is acknowledged now.
    failure: Option<Arc<str>>,
    failure_count: u64,
    /// Whether records are dropped: since a failure, until a rewrite's cut.
    discarding: bool,
    /// Whether records are preceded by the time, and the second told last.
    timestamps: bool,
    told_second: u64,
    /// Commands in the records appended since the log was opened.
    change_count: u64,
    writer_sleeps: bool,
    closing: bool,
}

impl Queue {
    /// Annotates what comes next with the time, once a second.
    fn tell_time(&mut self, second: u64) {
        if mem::replace(&mut self.told_second, second) != second {
            self.bytes.extend_from_slice(format!("#TS:{second}\r\n").as_bytes());
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.switches.is_empty()
    }

    /// Whether more would wait than may if a record of this length came.
    fn is_full_for(&self, len: usize) -> bool {
        self.bytes.len() + len - self.longest.max(len) > UNWRITTEN_LEN_MAX
    }
}

/// From here on, records go to another file.
#[derive(Debug)]
struct Switch {
    /// Where in the batch.
    offset: usize,
    /// The same place, as a position in the log.
    position: u64,
    file: Arc<AppendFile>,
    /// The files before it have failed and do not count any more.
    heals: bool,
}

/// What was written and has to be synced, oldest first.
#[derive(Debug)]
struct Syncs {
    /// Files that get no more records, each with the position of its end.
    sealed: Vec<(Arc<AppendFile>, u64)>,
    active: Arc<AppendFile>,
    written: u64,
    /// What is known to be on disk.
    synced: u64,
    /// Up to here somebody waits for the disk, whatever the policy.
    wanted: u64,
    unsynced_since: Option<Stopwatch>,
    /// A sync failed: what comes after it must not reach the disk before it.
    halted: bool,
    writer_ended: bool,
    sync_ended: bool,
}

/// What those who wait for the disk look at.
#[derive(Clone, Debug, Default)]
struct Durable {
    position: u64,
    stopped: Option<Stopped>,
}

#[derive(Clone, Debug)]
enum Stopped {
    Poisoned(Arc<str>),
    Closed,
}

/// What [`Shared::switch`] found, to be compared at the end of the rewrite.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Position of the first record in the new file.
    pub position: u64,
    failure_count: u64,
}

/// Locks, whatever became of a thread that held the lock: every critical
/// section here leaves its data whole at each step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A log whose records go to `active`, the last of `files`.
    pub fn new(
        config: Config,
        metrics: Metrics,
        directory: Directory,
        files: Files,
        active: Arc<AppendFile>,
        place: Place,
        now: Timestamp,
    ) -> Shared {
        let Place { run, position } = place;
        let syncs = Syncs {
            sealed: Vec::new(),
            active,
            written: position,
            synced: position,
            wanted: position,
            unsynced_since: None,
            halted: false,
            writer_ended: false,
            sync_ended: false,
        };
        let queue = Queue {
            appended: position,
            timestamps: config.settings.aof_timestamp_enabled,
            ..Queue::default()
        };
        Shared {
            settings: ArcSwap::from_pointee(config.settings.clone()),
            config,
            metrics,
            directory,
            files: Mutex::new(files),
            run,
            attempts: Mutex::default(),
            saves: Mutex::new(Saves::new(now)),
            queue: Mutex::new(queue),
            writer_wakes: Condvar::new(),
            syncs: Mutex::new(syncs),
            sync_wakes: Condvar::new(),
            wrote: Condvar::new(),
            sync_order: Mutex::default(),
            ended: Condvar::new(),
            durable: watch::Sender::new(Durable { position, stopped: None }),
            opened_at: now,
            opened: Stopwatch::start(),
        }
    }

    /// How the log behaves now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Changes how the log behaves from now on.
    pub fn change(&self, settings: Settings) {
        let mut queue = lock(&self.queue);
        queue.timestamps = settings.aof_timestamp_enabled;
        let appended = queue.appended;
        let before = self.settings.swap(Arc::new(settings));
        drop(queue);
        // Whoever waits by the old policy is not forgotten under the new, at which the
        // thread that syncs looks by this.
        self.want(if before.appendfsync == Fsync::Always { appended } else { 0 });
    }

    fn fsync(&self) -> Fsync {
        self.settings.load().appendfsync
    }

    /// Lets everything up to `position` be synced, whatever the policy.
    fn want(&self, position: u64) {
        let mut syncs = lock(&self.syncs);
        syncs.wanted = syncs.wanted.max(position);
        self.sync_wakes.notify_one();
    }

    /// Copies a record into the buffer. See [`Log::append`](super::Log::append).
    pub fn append(&self, effects: &Effects) -> Lsn {
        let record = effects.record();
        let mut queue = lock(&self.queue);
        queue.change_count += effects.len() as u64;
        if !queue.discarding && queue.is_full_for(record.len()) {
            let overrun = Error::Overrun { unwritten: queue.bytes.len() as u64 };
            self.poison_locked(&mut queue, &overrun);
        }
        // Positions move on even so: what is dropped lies behind everything
        // that can become durable before the log heals.
        queue.appended += record.len() as u64;
        if queue.discarding {
            self.metrics.discarded_bytes.inc_by(record.len() as u64);
            return Lsn(queue.appended);
        }
        if queue.timestamps {
            queue.tell_time(self.now().seconds());
        }
        queue.bytes.extend_from_slice(record);
        queue.longest = queue.longest.max(record.len());
        self.metrics.appended_bytes.inc_by(record.len() as u64);
        let lsn = Lsn(queue.appended);
        let wake = mem::take(&mut queue.writer_sleeps);
        drop(queue);
        if wake {
            self.writer_wakes.notify_one();
        }
        lsn
    }

    /// Waits until everything that was appended is flushed to the operating system.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`].
    pub fn flush(&self) -> Result<(), Error> {
        let appended = lock(&self.queue).appended;
        let waits =
            |syncs: &mut Syncs| syncs.written < appended && !syncs.halted && !syncs.writer_ended;
        let syncs =
            self.wrote.wait_while(lock(&self.syncs), waits).unwrap_or_else(PoisonError::into_inner);
        let is_written = syncs.written >= appended;
        drop(syncs);
        match self.failure() {
            Some(reason) => Err(Error::Poisoned { reason: reason.to_string() }),
            None if is_written => Ok(()),
            None => Err(Error::Closed),
        }
    }

    /// Waits for the disk. See [`Log::durable`](super::Log::durable).
    pub fn durable(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let always = self.fsync() == Fsync::Always;
        let synced = always.then(|| self.synced(lsn));
        async move {
            match synced {
                Some(synced) => synced.await,
                None => Ok(()),
            }
        }
    }

    /// Waits for the disk, whatever the policy. See [`Log::synced`](super::Log::synced).
    pub fn synced(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let mut watched = self.durable.subscribe();
        async move {
            let reached = |durable: &Durable| durable.position >= lsn.0;
            let settled = watched
                .wait_for(|durable| reached(durable) || durable.stopped.is_some())
                .await
                .map_err(|_log_is_gone| Error::Closed)?;
            match &settled.stopped {
                _ if reached(&settled) => Ok(()),
                Some(Stopped::Poisoned(reason)) => {
                    Err(Error::Poisoned { reason: reason.to_string() })
                }
                Some(Stopped::Closed) | None => Err(Error::Closed),
            }
        }
    }

    /// Why writes are to be refused now, if they are.
    pub fn refuses_writes(&self) -> Option<Arc<str>> {
        let settings = self.settings.load();
        // The first look is all that a call pays while all is well.
        if settings.on_log_error == OnLogError::Refuse { self.failure() } else { None }
    }

    /// Whether the last save failed, and that is to be felt. See
    /// [`Log::lacks_save`](super::Log::lacks_save).
    pub fn lacks_save(&self) -> bool {
        let settings = self.settings.load();
        // Without points, as by default, nothing is locked.
        !settings.save.is_empty()
            && settings.stop_writes_on_bgsave_error
            && !lock(&self.saves).last_succeeded()
    }

    /// Why nothing is acknowledged now, if so.
    pub fn failure(&self) -> Option<Arc<str>> {
        lock(&self.queue).failure.clone()
    }

    /// Sends the records from here on to `file`. `heals`: the files before it
    /// are given up. In constant time; the engine's lock is held.
    pub fn switch(&self, file: Arc<AppendFile>, heals: bool) -> Result<Cut, Error> {
        let mut queue = lock(&self.queue);
        if queue.closing {
            return Err(Error::Closed);
        }
        if let (Some(reason), false) = (&queue.failure, heals) {
            return Err(Error::Poisoned { reason: reason.to_string() });
        }
        if heals {
            queue.discarding = false;
        }
        let (offset, position) = (queue.bytes.len(), queue.appended);
        queue.switches.push(Switch { offset, position, file, heals });
        let cut = Cut { position, failure_count: queue.failure_count };
        let wake = mem::take(&mut queue.writer_sleeps);
        drop(queue);
        if wake {
            self.writer_wakes.notify_one();
        }
        Ok(cut)
    }

    /// The rewrite that began at `cut` is durable: everything up to the cut is
    /// on disk, and the log is trusted again unless it failed since.
    pub fn rewritten(&self, cut: Cut) {
        let mut queue = lock(&self.queue);
        let healed = queue.failure.is_some() && queue.failure_count == cut.failure_count;
        if healed {
            queue.failure = None;
        }
        let synced = lock(&self.syncs).synced;
        self.durable.send_modify(|durable| {
            durable.position = durable.position.max(cut.position);
            if healed {
                durable.position = durable.position.max(synced);
                durable.stopped = queue.closing.then_some(Stopped::Closed);
            }
        });
        drop(queue);
        if healed {
            tracing::info!("the log is healed: everything is in new files");
        }
    }

    /// The rewrite that should have healed the log did not: the file that
    /// records went to since its cut is in no manifest.
    pub fn heal_failed(&self) {
        self.discard(&mut lock(&self.queue));
    }

    /// Gives up acknowledging. What the file holds is unknown from now on.
    pub fn poison(&self, error: &Error) {
        self.poison_locked(&mut lock(&self.queue), error);
    }

    fn poison_locked(&self, queue: &mut Queue, error: &Error) {
        self.metrics.failures.inc();
        queue.failure_count += 1;
        self.discard(queue);
        let mut syncs = lock(&self.syncs);
        syncs.halted = true;
        syncs.sealed.clear();
        drop(syncs);
        self.wrote.notify_all();
        if queue.failure.is_none() {
            let reason: Arc<str> = error.chain().into();
            tracing::error!(error = %reason, "the log is poisoned; decisions go on from memory");
            queue.failure = Some(reason.clone());
            self.durable.send_modify(|durable| durable.stopped = Some(Stopped::Poisoned(reason)));
        }
    }

    fn discard(&self, queue: &mut Queue) {
        queue.discarding = true;
        self.metrics.discarded_bytes.inc_by(queue.bytes.len() as u64);
        queue.bytes.clear();
        queue.longest = 0;
        for switch in &mut queue.switches {
            switch.offset = 0;
        }
    }

    /// The end of what was appended so far.
    pub fn appended(&self) -> Lsn {
        Lsn(lock(&self.queue).appended)
    }

    /// Commands in the records appended since the log was opened.
    pub fn change_count(&self) -> u64 {
        lock(&self.queue).change_count
    }

    /// Counters for people and for Prometheus.
    pub fn status(&self) -> Status {
        let queue = lock(&self.queue);
        let (failed, appended) = (queue.failure.clone(), queue.appended);
        let change_count = queue.change_count;
        drop(queue);
        let syncs = lock(&self.syncs);
        let (written, unsynced_age) =
            (syncs.written, syncs.unsynced_since.map(|since| since.elapsed()));
        drop(syncs);
        let files = lock(&self.files);
        let (log_size, base_size) = (files.len(), files.base_len);
        drop(files);
        let attempts = lock(&self.attempts);
        let saves = lock(&self.saves);
        Status {
            failed,
            appendfsync: self.fsync(),
            unwritten_bytes: appended.saturating_sub(written),
            unsynced_bytes: appended.saturating_sub(self.durable.borrow().position),
            unsynced_age,
            delayed_sync_count: self.metrics.delayed_syncs.get(),
            log_size,
            base_size,
            rewrite_running: attempts.running(),
            rewrite_requested: attempts.requested(),
            rewrite_count: attempts.begun_count(),
            rewrite_failure_count: attempts.failure_count(),
            current_rewrite_duration: attempts.current_duration(),
            last_rewrite_succeeded: attempts.last_succeeded(),
            last_rewrite_duration: attempts.last_duration(),
            save_running: saves.running(),
            save_count: saves.begun_count(),
            current_save_duration: saves.current_duration(),
            last_save: saves.last(),
            last_save_succeeded: saves.last_succeeded(),
            last_save_duration: saves.last_duration(),
            changes_since_save: saves.changes_since(change_count),
        }
    }

    /// The present moment, on the store's clock.
    pub fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX);
        Timestamp::from_micros(self.opened_at.micros().saturating_add(elapsed))
    }

    /// Asks both threads to finish what they have and end.
    pub fn begin_close(&self) {
        lock(&self.queue).closing = true;
        self.writer_wakes.notify_one();
    }

    /// Waits until both threads have ended.
    ///
    /// # Errors
    /// The disk took longer than the configuration allows.
    pub fn wait_closed(&self) -> Result<(), Error> {
        let waited = self.config.close_timeout;
        let (_syncs, result) = self
            .ended
            .wait_timeout_while(lock(&self.syncs), waited, |syncs| !syncs.sync_ended)
            .unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() { Err(Error::CloseTimedOut { waited }) } else { Ok(()) }
    }

    /// Both threads have ended: whoever still waits, or appends, is told.
    pub fn closed(&self) {
        let mut queue = lock(&self.queue);
        queue.discarding = true;
        self.durable.send_modify(|durable| {
            durable.stopped.get_or_insert(Stopped::Closed);
        });
    }
}
