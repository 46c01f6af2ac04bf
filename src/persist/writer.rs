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
//! while records flow it looks again each millisecond instead of being woken for
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

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::config::{Config, Fsync};
use super::disk::{AppendFile, Directory};
use super::error::Error;
use super::manifest::Manifest;
use super::metrics::Metrics;
use super::rewrite::Attempts;
use super::seal::{Place, Run, Sealer};
use super::status::Status;
use crate::base::clock::{Stopwatch, Timestamp};

/// How long the writer lets records gather while they flow.
const LINGER: Duration = Duration::from_millis(4);
/// How often it finds nothing before it sleeps until woken.
const LINGER_ROUNDS: u32 = 4;
/// Time from one sync to the next under `everysec`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes that may wait for the writer. When the disk does not take them, the
/// log is given up rather than the memory of the process.
const UNWRITTEN_LEN_MAX: usize = 64 << 20;
/// A batch buffer above this is not kept.
const SPARE_LEN_MAX: usize = 4 << 20;

/// A position in the log: bytes of records since its run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub(super) u64);

/// What the handle, the two threads and a rewrite share.
#[derive(Debug)]
pub struct Shared {
    /// How the log behaves.
    pub config: Config,
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
    queue: Mutex<Queue>,
    writer_wakes: Condvar,
    syncs: Mutex<Syncs>,
    sync_wakes: Condvar,
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
    switches: Vec<Switch>,
    /// Position behind the last byte taken.
    appended: u64,
    /// Why nothing is acknowledged now.
    failure: Option<Arc<str>>,
    failure_count: u64,
    /// Whether records are dropped: since a failure, until a rewrite's cut.
    discarding: bool,
    writer_sleeps: bool,
    closing: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.switches.is_empty()
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

/// Where the writer writes.
#[derive(Debug)]
struct Active {
    file: Arc<AppendFile>,
    sealer: Sealer,
    /// Position behind what was written last.
    position: u64,
}

/// What the writer takes at once.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    switches: Vec<Switch>,
    end: u64,
}

/// What was written and has to be synced, oldest first.
#[derive(Debug)]
struct Syncs {
    /// Files that get no more records, each with the position of its end.
    sealed: Vec<(Arc<AppendFile>, u64)>,
    active: Arc<AppendFile>,
    written: u64,
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
            unsynced_since: None,
            halted: false,
            writer_ended: false,
            sync_ended: false,
        };
        Shared {
            config,
            metrics,
            directory,
            files: Mutex::new(files),
            run,
            attempts: Mutex::default(),
            queue: Mutex::new(Queue { appended: position, ..Queue::default() }),
            writer_wakes: Condvar::new(),
            syncs: Mutex::new(syncs),
            sync_wakes: Condvar::new(),
            ended: Condvar::new(),
            durable: watch::Sender::new(Durable { position, stopped: None }),
            opened_at: now,
            opened: Stopwatch::start(),
        }
    }

    /// Copies a record into the buffer. See [`Log::append`](super::Log::append).
    pub fn append(&self, record: &[u8]) -> Lsn {
        let mut queue = lock(&self.queue);
        if !queue.discarding && queue.bytes.len() + record.len() > UNWRITTEN_LEN_MAX {
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
        queue.bytes.extend_from_slice(record);
        self.metrics.appended_bytes.inc_by(record.len() as u64);
        let lsn = Lsn(queue.appended);
        let wake = mem::take(&mut queue.writer_sleeps);
        drop(queue);
        if wake {
            self.writer_wakes.notify_one();
        }
        lsn
    }

    /// Waits for the disk. See [`Log::durable`](super::Log::durable).
    pub fn durable(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let always = self.config.appendfsync == Fsync::Always;
        let watched = always.then(|| self.durable.subscribe());
        async move {
            let Some(mut watched) = watched else { return Ok(()) };
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
        self.durable.send_modify(|durable| {
            durable.position = durable.position.max(cut.position);
            if healed {
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
        for switch in &mut queue.switches {
            switch.offset = 0;
        }
    }

    /// Counters for people and for Prometheus.
    pub fn status(&self) -> Status {
        let queue = lock(&self.queue);
        let (failed, appended) = (queue.failure.clone(), queue.appended);
        drop(queue);
        let syncs = lock(&self.syncs);
        let (written, unsynced_age) =
            (syncs.written, syncs.unsynced_since.map(|since| since.elapsed()));
        drop(syncs);
        let files = lock(&self.files);
        Status {
            failed,
            appendfsync: self.config.appendfsync,
            unwritten_bytes: appended.saturating_sub(written),
            unsynced_bytes: appended.saturating_sub(self.durable.borrow().position),
            unsynced_age,
            log_size: files.len(),
            base_size: files.base_len,
            rewrite_running: lock(&self.attempts).running(),
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

    /// The body of the `log-writer` thread: until the log is closed.
    pub fn write_until_closed(&self, sealer: Sealer) {
        let syncs = lock(&self.syncs);
        let mut active = Active { file: syncs.active.clone(), sealer, position: syncs.written };
        drop(syncs);
        let mut batch = Batch::default();
        while self.take(&mut batch) {
            if let Err(error) = self.write(&mut active, &mut batch) {
                self.poison(&error);
            }
        }
        lock(&self.syncs).writer_ended = true;
        self.sync_wakes.notify_one();
    }

    /// Waits for records and takes all there are. False when the log is closed
    /// and none are left.
    fn take(&self, batch: &mut Batch) -> bool {
        batch.bytes.clear();
        batch.bytes.shrink_to(SPARE_LEN_MAX);
        let lingers = self.config.appendfsync != Fsync::Always;
        let mut rounds_left = if lingers { LINGER_ROUNDS } else { 0 };
        // A batch was written a moment ago: let the next one gather.
        let mut pause = lingers && batch.end > 0;
        loop {
            if pause {
                std::thread::sleep(LINGER);
            }
            let mut queue = lock(&self.queue);
            while rounds_left == 0 && queue.is_empty() && !queue.closing {
                queue.writer_sleeps = true;
                queue = self.writer_wakes.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue.writer_sleeps = false;
            if !queue.is_empty() {
                mem::swap(&mut queue.bytes, &mut batch.bytes);
                mem::swap(&mut queue.switches, &mut batch.switches);
                batch.end = queue.appended;
                return true;
            }
            if queue.closing {
                // Nobody would write what comes after this.
                queue.discarding = true;
                return false;
            }
            rounds_left -= 1;
            pause = true;
        }
    }

    /// Writes a batch, over the switches in it. `active` is the last file of
    /// the batch afterwards, even if an earlier one failed.
    fn write(&self, active: &mut Active, batch: &mut Batch) -> Result<(), Error> {
        // Then each part is synced as it is written: nothing is left to seal.
        let always = self.config.appendfsync == Fsync::Always;
        let mut written = Ok(());
        let mut start = 0;
        for Switch { offset, position, file, heals } in mem::take(&mut batch.switches) {
            if written.is_ok() && !heals {
                let mut part = batch.bytes[start..offset].to_vec();
                written = self.write_part(active, &mut part, position);
            }
            start = offset;
            let sealer = Sealer::after(&self.run.head());
            let sealed = mem::replace(active, Active { file, sealer, position }).file;
            let mut syncs = lock(&self.syncs);
            syncs.active = active.file.clone();
            syncs.written = position;
            if heals {
                syncs.sealed.clear();
                syncs.halted = false;
                syncs.unsynced_since = None;
                written = Ok(());
            } else if !syncs.halted && !always {
                syncs.sealed.push((sealed, position));
                self.sync_wakes.notify_one();
            }
        }
        written?;
        batch.bytes.drain(..start);
        self.write_part(active, &mut batch.bytes, batch.end)
    }

    /// Writes what belongs to one file, and its seal; under `always`, syncs too.
    fn write_part(&self, active: &mut Active, part: &mut Vec<u8>, end: u64) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let synced = match self.config.appendfsync {
            Fsync::Always | Fsync::EverySec => self.durable.borrow().position,
            // Nobody knows; a hole before this is not taken for a power cut.
            Fsync::No => active.position,
        };
        active.sealer.seal(part, end, synced);
        active.position = end;
        active.file.append(part)?;
        let mut syncs = lock(&self.syncs);
        syncs.written = end;
        syncs.unsynced_since.get_or_insert_with(Stopwatch::start);
        drop(syncs);
        if self.config.appendfsync == Fsync::Always {
            self.sync(&active.file, end)?;
        }
        Ok(())
    }

    /// The body of the `log-sync` thread: until the writer has ended.
    pub fn sync_until_closed(&self) {
        let mut since_sync = Stopwatch::start();
        loop {
            let (work, last) = self.wait_for_syncs(&since_sync);
            for (index, (file, position)) in work.iter().enumerate() {
                if index + 1 == work.len() {
                    since_sync = Stopwatch::start();
                }
                if let Err(error) = self.sync(file, *position) {
                    self.poison(&error);
                    break;
                }
            }
            if last {
                lock(&self.syncs).sync_ended = true;
                return self.ended.notify_all();
            }
        }
    }

    /// Waits until something is to be synced: a sealed file at once, the active
    /// one each second. True with the last of it, when the log is closed.
    fn wait_for_syncs(&self, since_sync: &Stopwatch) -> (Vec<(Arc<AppendFile>, u64)>, bool) {
        let mut syncs = lock(&self.syncs);
        loop {
            let idle = syncs.halted || syncs.unsynced_since.is_none();
            let left = SYNC_INTERVAL.saturating_sub(since_sync.elapsed());
            let everysec = self.config.appendfsync == Fsync::EverySec;
            let active_is_due = !idle && (syncs.writer_ended || everysec && left.is_zero());
            if active_is_due || syncs.writer_ended || !syncs.sealed.is_empty() {
                let mut work = mem::take(&mut syncs.sealed);
                if active_is_due {
                    work.push((syncs.active.clone(), syncs.written));
                }
                return (work, syncs.writer_ended);
            }
            let wait = if left.is_zero() { SYNC_INTERVAL } else { left };
            (syncs, _) =
                self.sync_wakes.wait_timeout(syncs, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Forces `file` to disk and tells who waits that all up to `position` is.
    fn sync(&self, file: &AppendFile, position: u64) -> Result<(), Error> {
        let stopwatch = Stopwatch::start();
        let synced = file.sync();
        let elapsed = stopwatch.elapsed();
        synced?;
        let mut syncs = lock(&self.syncs);
        // Records written since the sync began wait from its beginning on.
        syncs.unsynced_since = (syncs.written > position).then_some(stopwatch);
        drop(syncs);
        self.metrics.sync_duration.observe(elapsed.as_secs_f64());
        if elapsed > SYNC_INTERVAL {
            self.metrics.delayed_syncs.inc();
        }
        self.durable.send_if_modified(|durable| {
            let moves = position > durable.position;
            durable.position = durable.position.max(position);
            moves
        });
        Ok(())
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
