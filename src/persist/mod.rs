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
//! | `writer` | from the engine's memory to the disk; two threads |
//! | `rewrite` | a new base file while requests run |
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
mod manifest;
mod metrics;
mod record;
mod recovery;
mod rewrite;
mod seal;
mod source;
mod status;
mod writer;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use config::{Config, Fsync, RawConfig};
pub use error::{Error, Op};
pub use recovery::{CutTail, Progress, Recovery};
pub use rewrite::{Feed, Pace, PendingRewrite, RewriteWriter, Rewritten};
pub use status::Status;
pub use writer::Lsn;

use crate::base::clock::Timestamp;
use crate::base::tasks::spawn_thread;
use crate::keyspace::Keyspace;
use metrics::Metrics;
use writer::{Shared, lock};

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
        let recovered = recovery::recover(&config, keyspace, now, progress)?;
        let recovery::Recovered { directory, files, active, sealer, place, recovery } = recovered;
        let dir = config.dir.clone();
        let shared = Shared::new(config, Metrics::new()?, directory, files, active, place, now);
        let log = Log(Arc::new(Owner { shared: Arc::new(shared), threads: Mutex::default() }));
        rewrite::remove_history(&log.0.shared);
        let (writer, syncer) = (log.0.shared.clone(), log.0.shared.clone());
        let cannot_start = |source| Error::Io { op: Op::StartThread, path: dir, source };
        let threads = spawn_thread("log-writer", move || writer.write_until_closed(sealer))
            .and_then(|writer| {
                Ok([writer, spawn_thread("log-sync", move || syncer.sync_until_closed())?])
            })
            .map_err(cannot_start)?;
        lock(&log.0.threads).extend(threads);
        Ok((log, recovery))
    }

    /// Appends a record: the effects of one call, as
    /// [`Effects::record`](crate::keyspace::Effects::record) gives them. Copies
    /// the bytes and returns; the disk is somebody else's business. Records are
    /// in the log in the order of these calls, so the engine's lock is held.
    ///
    /// A poisoned log drops the record, and counts it.
    pub fn append(&self, record: &[u8]) -> Lsn {
        self.0.shared.append(record)
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
