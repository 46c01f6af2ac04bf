//! The log: what was decided, remembered across a restart.
//!
//! ```text
//! dir/appendonlydir/
//!   appendonly.aof.manifest        which of the files below count
//!   appendonly.aof.2.base.rdb      the keyspace at one moment
//!   appendonly.aof.2.incr.aof      the effects since, as plain commands
//!   weir.lock                      held while a process owns the directory
//! ```
//!
//! All but the lock is laid out as Redis 7 does: a `redis-server` starts from
//! our directory, and we start from one of its.
//!
//! | file | what |
//! |---|---|
//! | `manifest` | which files make up the log; pure |
//! | `base`, `record`, `seal`, `source` | the bytes of base and incr files |
//! | `disk` | the only place that touches files |
//! | `recovery` | from the directory to a keyspace, at start |
//! | `examine` | a log looked at from outside: checked, mended, shown |
//! | `writer` | from the engine's memory to the disk; two threads |
//! | `snapshot`, `pace`, `rewrite`, `save` | a new base file, or `dump.rdb`, while requests run |
//! | `config`, `error`, `status`, `metrics` | what goes in and comes out |
//!
//! # Invariants
//!
//! 1. The log holds effects, never calls: replay runs no Lua and cannot come to
//!    another result than what was decided.
//! 2. Appending never waits for a disk.
//! 3. What was acknowledged under `always` is on disk. After a failed write or
//!    sync nothing is acknowledged until a rewrite has made the log whole.
//! 4. What cannot be understood refuses the start. Only a torn tail is cut.
//!
//! # Not here
//!
//! Lua: libraries pass through as text. Who appends what, and in which order:
//! that is the store's.

mod base;
mod config;
mod disk;
mod error;
pub mod examine;
mod manifest;
mod metrics;
mod pace;
mod record;
mod recovery;
mod rewrite;
mod save;
mod seal;
mod snapshot;
mod source;
mod status;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use config::{Config, Fsync, OnLogError, RawConfig, SavePoint, Settings};
pub use error::{Error, Op};
pub use pace::Pace;
pub use recovery::{CutTail, Progress, Recovery};
pub use rewrite::{PendingRewrite, RewriteWriter, Rewritten};
pub use save::SaveWriter;
pub use snapshot::Feed;
pub use status::Status;
pub use writer::Lsn;

use crate::base::clock::Timestamp;
use crate::base::tasks::spawn_thread;
use crate::keyspace::{Effects, Keyspace};
use metrics::Metrics;
use writer::{Pen, Shared, lock};

/// An open log. A cheap handle: clones are the same log.
///
/// When the last handle is dropped without [`Log::close`], the threads still
/// write and sync what was appended, but nobody learns how that went.
#[derive(Clone, Debug)]
pub struct Log(Arc<Owner>);

/// What the handles own together: the threads end with the last of them.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl Log {
    /// Locks the directory, loads what it holds into `keyspace`, which must be
    /// empty, and opens the log for appending. A directory without a log gets a
    /// new one. Blocks for the disk; tells `progress` how far it is.
    ///
    /// # Errors
    /// Another process has the directory, the disk refuses, or the log is
    /// damaged: see [`Error`]. What lies on disk is as it was, but for a torn
    /// tail.
    pub fn open(
        config: Config,
        keyspace: &mut Keyspace,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Log, Recovery), Error> {
        let directory = disk::Directory::open(&config.dir)?;
        let (log, pen, recovery) = Log::open_on(directory, config, keyspace, now, progress)?;
        log.start(pen)?;
        Ok((log, recovery))
    }

    /// Opens the log of a folder. Nothing is written before [`Log::start`].
    fn open_on(
        directory: disk::Directory,
        config: Config,
        keyspace: &mut Keyspace,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Log, Pen, Recovery), Error> {
        let recovered = recovery::recover(&config, directory, keyspace, now, progress)?;
        let recovery::Recovered { directory, opened, place, claimed, recovery } = recovered;
        let recovery::Opened { files, active, sealer } = opened;
        let shared = Shared::new(config, Metrics::new()?, directory, files, active, place, now);
        let pen = shared.pen(sealer, claimed);
        let log = Log(Arc::new(Owner { shared: Arc::new(shared), threads: Mutex::default() }));
        rewrite::remove_history(&log.0.shared);
        Ok((log, pen, recovery))
    }

    /// Starts the threads that write and sync.
    fn start(&self, pen: Pen) -> Result<(), Error> {
        let (writer, syncer) = (self.0.shared.clone(), self.0.shared.clone());
        let dir = &self.0.shared.config.dir;
        let threads = spawn_thread("log-writer", move || writer.write_until_closed(pen))
            .and_then(|writer| {
                Ok([writer, spawn_thread("log-sync", move || syncer.sync_until_closed())?])
            })
            .map_err(Error::io(Op::StartThread, dir))?;
        lock(&self.0.threads).extend(threads);
        Ok(())
    }

    /// Appends a record: the effects of one call, of which there are some. Copies
    /// their bytes and returns; the disk is somebody else's business. Records are
    /// in the log in the order of these calls, so the engine's lock is held.
    ///
    /// A poisoned log drops the record, and counts it.
    pub fn append(&self, effects: &Effects) -> Lsn {
        self.0.shared.append(effects)
    }

    /// Waits until everything up to `lsn` is as safe as the configuration
    /// promises: on disk under `always`; at once otherwise. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`], under `always`: whether it
    /// reached the disk is not known.
    pub fn durable(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        self.0.shared.durable(lsn)
    }

    /// Waits until everything up to `lsn` is on disk, whatever the policy; under
    /// `no` perhaps for ever. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Poisoned`] or [`Error::Closed`].
    pub fn synced(&self, lsn: Lsn) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        self.0.shared.synced(lsn)
    }

    /// How the log behaves now.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.shared.settings()
    }

    /// Changes how the log behaves from now on. Who waits for the disk under the
    /// old policy is still answered when it has synced.
    pub fn change(&self, settings: Settings) {
        self.0.shared.change(settings);
    }

    /// Where the log lies.
    pub fn dir(&self) -> &Path {
        &self.0.shared.config.dir
    }

    /// Whether a start cuts off a torn tail.
    pub fn cuts_torn_tail(&self) -> bool {
        self.0.shared.config.aof_load_truncated
    }

    /// Why writes are to be refused now: the log cannot remember them, and the
    /// configuration wants it so. Cheap enough to ask before every call.
    pub fn refuses_writes(&self) -> Option<Arc<str>> {
        self.0.shared.refuses_writes()
    }

    /// Whether clients are to be refused what writes now: the last save failed, and
    /// the configuration wants it so. What they write is in the log all the same.
    /// Cheap enough to ask at each hold of the keyspace.
    pub fn lacks_save(&self) -> bool {
        self.0.shared.lacks_save()
    }

    /// Replaces what `keyspace` holds by what the log holds, once all that was
    /// appended is written. Blocks for the disk; the engine's lock is held, so that
    /// nothing is appended meanwhile.
    ///
    /// # Errors
    /// The log is poisoned, or does not load. The keyspace is as it was.
    pub fn load_again(&self, keyspace: &mut Keyspace, now: Timestamp) -> Result<(), Error> {
        let shared = &self.0.shared;
        shared.flush()?;
        let manifest = lock(&shared.files).manifest.clone();
        let load =
            |into: &mut Keyspace| recovery::load_again(&shared.directory, &manifest, into, now);
        // Read twice: the keys go only for a log that loads.
        load(&mut Keyspace::new())?;
        keyspace.clear();
        load(keyspace)
    }

    /// Whether the log should be rewritten now: it has outgrown what the last
    /// rewrite left, or is poisoned; and enough time has passed since an attempt
    /// failed. Cheap enough to ask ten times a second.
    pub fn wants_rewrite(&self) -> bool {
        rewrite::is_wanted(&self.0.shared)
    }

    /// The first step of a rewrite: a new incr file, durable. Blocks for the
    /// disk; the engine's lock is *not* held. The next is [`PendingRewrite::cut`].
    ///
    /// # Errors
    /// [`Error::RewriteRunning`], or the disk refused.
    pub fn prepare_rewrite(&self) -> Result<PendingRewrite, Error> {
        rewrite::prepare(&self.0.shared)
    }

    /// Asks for a rewrite, as soon as possible. False if one is running; then
    /// another one follows.
    pub fn request_rewrite(&self) -> bool {
        lock(&self.0.shared.attempts).request()
    }

    /// Asks for a snapshot in `dump.rdb`, as soon as possible. False if one is
    /// being written.
    pub fn request_save(&self) -> bool {
        lock(&self.0.shared.saves).request()
    }

    /// Asks for a snapshot in `dump.rdb` and waits for it. False if it failed.
    pub async fn save(&self) -> bool {
        loop {
            // Under one lock: it may end before it is looked at again.
            let (begins, mut ended) = lock(&self.0.shared.saves).request_watched();
            let has_ended = ended.changed().await.is_ok();
            // One that was being written already is of an earlier moment.
            if begins || !has_ended {
                return has_ended && ended.borrow().1;
            }
        }
    }

    /// Whether `dump.rdb` should be written now: a save point is reached, or
    /// somebody has asked. Cheap enough to ask ten times a second.
    pub fn wants_save(&self) -> bool {
        save::is_wanted(&self.0.shared)
    }

    /// The cut of a snapshot for `dump.rdb`: the keyspace hands its entries, as
    /// they are now, to the writer. Takes constant time; the engine's lock is
    /// held, and nothing is half done.
    ///
    /// # Errors
    /// The keyspace has a snapshot already.
    pub fn begin_save(
        &self,
        keyspace: &mut Keyspace,
        libraries: Vec<Arc<str>>,
    ) -> Result<(Feed, SaveWriter), Error> {
        save::begin(&self.0.shared, keyspace, libraries)
    }

    /// How fast the snapshot of `feed` should go on, a rewrite or a save, while others may
    /// ask for decisions. Briskly when it is waited for: by who has asked for a save, be
    /// it the next, or by a log that is to be healed, now or after this.
    pub fn pace(&self, feed: &Feed, others_ask: bool) -> Pace {
        let shared = &self.0.shared;
        let is_awaited = shared.failure().is_some() || lock(&shared.saves).is_awaited();
        feed.pace(others_ask && !is_awaited, shared.appended())
    }

    /// The state of the log now.
    pub fn status(&self) -> Status {
        self.0.shared.status()
    }

    /// Tells a registry of the `weir_persist_…` families.
    ///
    /// # Errors
    /// The registry has them already.
    pub fn register_metrics(&self, registry: &prometheus::Registry) -> prometheus::Result<()> {
        let collector = self.0.shared.metrics.collector(Arc::downgrade(&self.0.shared))?;
        registry.register(Box::new(collector))
    }

    /// Writes and syncs what was appended, whatever the policy, and ends the
    /// threads. Nothing may be appended afterwards. Closing twice is fine.
    ///
    /// # Errors
    /// The disk took too long, or the log is poisoned: something is lost.
    pub fn close(&self) -> Result<(), Error> {
        let shared = &self.0.shared;
        shared.begin_close();
        let ended = shared.wait_closed();
        shared.closed();
        ended?;
        for thread in lock(&self.0.threads).drain(..) {
            // A thread that panicked has left its records unwritten.
            thread.join().map_err(|_panic| Error::Closed)?;
        }
        match shared.failure() {
            Some(reason) => Err(Error::Poisoned { reason: reason.to_string() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
