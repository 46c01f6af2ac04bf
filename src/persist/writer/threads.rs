//! The two threads of a log: one writes, one syncs.

use std::mem;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Shared, Stopped, Switch, Syncs, lock};
use crate::base::clock::Stopwatch;
use crate::persist::config::Fsync;
use crate::persist::disk::AppendFile;
use crate::persist::error::Error;
use crate::persist::seal::Sealer;

/// How long the writer lets records gather while they flow.
const LINGER: Duration = Duration::from_millis(4);
/// How often it finds nothing before it sleeps until woken.
const LINGER_ROUNDS: u32 = 4;
/// Time from one sync to the next under `everysec`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The same under `no`. The kernel has written most of it down by then; this is
/// how the log learns that it has.
const SYNC_INTERVAL_AT_LEISURE: Duration = Duration::from_secs(60);
/// A batch buffer above this is not kept.
const SPARE_LEN_MAX: usize = 4 << 20;

/// What the writer alone has: where it writes, and what it has taken.
#[derive(Debug)]
pub struct Pen {
    active: Active,
    batch: Batch,
}

/// Where the writer writes.
#[derive(Debug)]
struct Active {
    file: Arc<AppendFile>,
    sealer: Sealer,
    /// Position behind what was written last.
    position: u64,
    /// What the last seal says is on disk.
    claimed: u64,
}

impl Active {
    /// Appends to `part` the seal of what reaches to `end`.
    fn seal(&mut self, part: &mut Vec<u8>, end: u64, synced: u64) {
        self.sealer.seal(part, end, synced);
        (self.position, self.claimed) = (end, synced);
    }
}

/// What the writer takes at once.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    switches: Vec<Switch>,
    end: u64,
}

impl Syncs {
    /// Whether something is to be synced now: a sealed file always, the active one
    /// when its time has come, or when somebody waits for it.
    fn is_due(&self, its_time: bool) -> bool {
        let is_wanted = self.wanted > self.synced;
        !self.sealed.is_empty() || self.is_unsynced() && (its_time || is_wanted)
    }

    fn is_unsynced(&self) -> bool {
        !self.halted && self.unsynced_since.is_some()
    }

    /// What is to be synced, oldest first.
    fn take(&mut self, with_active: bool) -> Vec<(Arc<AppendFile>, u64)> {
        let mut work = mem::take(&mut self.sealed);
        if with_active && self.is_unsynced() {
            work.push((self.active.clone(), self.written));
        }
        work
    }
}

impl Shared {
    /// The body of the `log-writer` thread: until the log is closed.
    pub fn write_until_closed(&self, mut pen: Pen) {
        while self.take(&mut pen.batch) {
            self.write_batch(&mut pen);
            self.linger();
        }
        self.claim_all(&mut pen.active);
        lock(&self.syncs).writer_ended = true;
        self.sync_wakes.notify_one();
        self.wrote.notify_all();
    }

    /// Says at the end, in a seal of its own, that everything is on disk: any
    /// damage found later is then known for that.
    fn claim_all(&self, active: &mut Active) {
        if let Err(error) = self.sync_due(true) {
            return self.poison(&error);
        }
        let end = active.position;
        if active.claimed == end || self.durable.borrow().position != end {
            return;
        }
        let mut seal = Vec::new();
        active.seal(&mut seal, end, end);
        match active.file.append(&seal) {
            Ok(()) => drop(lock(&self.syncs).unsynced_since.get_or_insert_with(Stopwatch::start)),
            Err(error) => self.poison(&error),
        }
    }

    /// What the writer thread needs to begin, in a log that is open. `claimed` is
    /// what its last seal says is on disk.
    pub fn pen(&self, sealer: Sealer, claimed: u64) -> Pen {
        let syncs = lock(&self.syncs);
        let active =
            Active { file: syncs.active.clone(), sealer, position: syncs.written, claimed };
        Pen { active, batch: Batch::default() }
    }

    /// Waits for records and takes all there are. False when the log is closed
    /// and none are left.
    fn take(&self, batch: &mut Batch) -> bool {
        batch.bytes.clear();
        batch.bytes.shrink_to(SPARE_LEN_MAX);
        let mut queue = lock(&self.queue);
        while queue.is_empty() && !queue.closing {
            queue.writer_sleeps = true;
            queue = self.writer_wakes.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.writer_sleeps = false;
        if queue.is_empty() {
            // Nobody would write what comes after this.
            queue.discarding = true;
            return false;
        }
        mem::swap(&mut queue.bytes, &mut batch.bytes);
        queue.longest = 0;
        mem::swap(&mut queue.switches, &mut batch.switches);
        batch.end = queue.appended;
        true
    }

    /// Lets the next records gather, while they flow. Under `always` somebody
    /// waits for each.
    fn linger(&self) {
        for _ in 0..LINGER_ROUNDS {
            if self.fsync() == Fsync::Always {
                return;
            }
            thread::sleep(LINGER);
            let queue = lock(&self.queue);
            if !queue.is_empty() || queue.closing {
                return;
            }
        }
    }

    /// Writes what was taken. If that fails, the log is poisoned.
    fn write_batch(&self, pen: &mut Pen) {
        if let Err(error) = self.write(&mut pen.active, &mut pen.batch) {
            self.poison(&error);
        }
    }

    /// Writes a batch, over the switches in it. `active` is the last file of
    /// the batch afterwards, even if an earlier one failed.
    fn write(&self, active: &mut Active, batch: &mut Batch) -> Result<(), Error> {
        let mut written = Ok(());
        let mut start = 0;
        for Switch { offset, position, file, heals } in mem::take(&mut batch.switches) {
            if written.is_ok() && !heals {
                let mut part = batch.bytes[start..offset].to_vec();
                written = self.write_part(active, &mut part, position);
            }
            start = offset;
            let sealer = Sealer::after(&self.run.head());
            let sealed = mem::replace(active, Active { file, sealer, position, claimed: 0 }).file;
            let mut syncs = lock(&self.syncs);
            syncs.active = active.file.clone();
            syncs.written = position;
            self.wrote.notify_all();
            if heals {
                syncs.sealed.clear();
                syncs.halted = false;
                syncs.unsynced_since = None;
                written = Ok(());
            } else if !syncs.halted {
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
        active.seal(part, end, self.durable.borrow().position);
        active.file.append(part)?;
        let mut syncs = lock(&self.syncs);
        syncs.written = end;
        syncs.unsynced_since.get_or_insert_with(Stopwatch::start);
        // Whoever waits for the disk may have asked before this was written.
        let is_wanted = syncs.is_due(false);
        drop(syncs);
        if is_wanted {
            self.sync_wakes.notify_one();
        }
        self.wrote.notify_all();
        if self.fsync() == Fsync::Always { self.sync_due(true) } else { Ok(()) }
    }

    /// The body of the `log-sync` thread: until the writer has ended.
    pub fn sync_until_closed(&self) {
        let mut since_sync = Stopwatch::start();
        loop {
            let writer_ended = self.wait_for_syncs(&since_sync);
            since_sync = Stopwatch::start();
            if let Err(error) = self.sync_due(true) {
                self.poison(&error);
            }
            if writer_ended {
                lock(&self.syncs).sync_ended = true;
                return self.ended.notify_all();
            }
        }
    }

    /// Waits until something is to be synced: a sealed file at once, the active
    /// one each second. True when the log is closed.
    fn wait_for_syncs(&self, since_sync: &Stopwatch) -> bool {
        let mut syncs = lock(&self.syncs);
        loop {
            let interval = match self.fsync() {
                // Under `always` the writer syncs. What a change of the policy
                // left is found here.
                Fsync::Always | Fsync::EverySec => SYNC_INTERVAL,
                Fsync::No => SYNC_INTERVAL_AT_LEISURE,
            };
            let left = interval.saturating_sub(since_sync.elapsed());
            if syncs.is_due(left.is_zero()) || syncs.writer_ended {
                return syncs.writer_ended;
            }
            let wait = if left.is_zero() { interval } else { left };
            (syncs, _) =
                self.sync_wakes.wait_timeout(syncs, wait).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Syncs what was written, the oldest file first. One at a time does so: a
    /// file counts for nothing while one before it is not on disk.
    fn sync_due(&self, with_active: bool) -> Result<(), Error> {
        let _in_order = lock(&self.sync_order);
        let work = lock(&self.syncs).take(with_active);
        work.iter().try_for_each(|(file, position)| self.sync(file, *position))
    }

    /// Forces `file` to disk and tells who waits that all up to `position` is.
    fn sync(&self, file: &AppendFile, position: u64) -> Result<(), Error> {
        let stopwatch = Stopwatch::start();
        let synced = file.sync();
        let elapsed = stopwatch.elapsed();
        synced?;
        let mut syncs = lock(&self.syncs);
        // Records written since the sync began wait from its beginning on.
        syncs.synced = syncs.synced.max(position);
        syncs.unsynced_since = (syncs.written > position).then_some(stopwatch);
        drop(syncs);
        self.metrics.sync_duration.observe(elapsed.as_secs_f64());
        if elapsed > SYNC_INTERVAL {
            self.metrics.delayed_syncs.inc();
        }
        self.durable.send_if_modified(|durable| {
            // A file that is to heal the log counts once a manifest names it.
            let is_poisoned = matches!(durable.stopped, Some(Stopped::Poisoned(_)));
            let moves = position > durable.position && !is_poisoned;
            if moves {
                durable.position = position;
            }
            moves
        });
        Ok(())
    }

    /// Writes what there is, as the writer thread would; false if there is nothing.
    #[cfg(test)]
    pub fn write_now(&self, pen: &mut Pen) -> bool {
        let is_empty = lock(&self.queue).is_empty();
        if !is_empty && self.take(&mut pen.batch) {
            self.write_batch(pen);
        }
        !is_empty
    }

    /// Syncs what is due, as the other thread would.
    #[cfg(test)]
    pub fn sync_now(&self, its_time: bool) {
        if lock(&self.syncs).is_due(its_time)
            && let Err(error) = self.sync_due(its_time)
        {
            self.poison(&error);
        }
    }
}
